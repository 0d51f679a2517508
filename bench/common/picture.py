"""Charts as SVG, for the report: bars on a logarithmic scale, and curves with both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH = 760
_COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8a5a99", "#c47f17", "#4f5d75", "#00857c", "#a44a3f")
_STYLE = "font-family='sans-serif' font-size='13' fill='#222'"


def bars(title: str, unit: str, values: Mapping[str, float]) -> str:
    """One horizontal bar for each value, from a power of ten below the smallest one."""
    shown = {name: value for name, value in values.items() if value > 0}
    low = math.floor(math.log10(min(shown.values(), default=1)))
    high = max(low + 1, math.ceil(math.log10(max(shown.values(), default=10))))
    left, right, row = 250, 90, 26
    parts = [_text(10, 22, f"{title}, {unit} (logarithmic)", "font-weight='bold'")]
    for index, (name, value) in enumerate(shown.items()):
        y = 40 + index * row
        width = max(2.0, (math.log10(value) - low) / (high - low) * (_WIDTH - left - right))
        parts.append(_text(left - 8, y + 15, name, "text-anchor='end'"))
        parts.append(f"<rect x='{left}' y='{y}' width='{width:.1f}' height='{row - 6}' fill='{_COLOURS[0]}'/>")
        parts.append(_text(left + width + 6, y + 15, _short(value)))
    return _svg(50 + row * len(shown), parts)


def curves(title: str, x_name: str, y_name: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """One line for each series of points; points that aren't above 0 are left out."""
    points = {name: sorted((x, y) for x, y in line if x > 0 and y > 0) for name, line in series.items()}
    xs = [math.log10(x) for line in points.values() for x, _ in line] or [0.0]
    ys = [math.log10(y) for line in points.values() for _, y in line] or [0.0]
    left, top, width, height = 80, 40, _WIDTH - 290, 320
    x_low, x_high = math.floor(min(xs)), max(math.floor(min(xs)) + 1, math.ceil(max(xs)))
    y_low, y_high = math.floor(min(ys)), max(math.floor(min(ys)) + 1, math.ceil(max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x_low) / (x_high - x_low)
        up = (math.log10(y) - y_low) / (y_high - y_low)
        return left + across * width, top + (1 - up) * height

    parts = [_text(10, 22, f"{title} (both axes logarithmic)", "font-weight='bold'")]
    for power in range(y_low, y_high + 1):
        y = place(10**x_low, 10**power)[1]
        parts.append(f"<path d='M{left} {y:.1f}h{width}' stroke='#ddd'/>")
        parts.append(_text(left - 8, y + 4, _short(10**power), "text-anchor='end'"))
    for power in range(x_low, x_high + 1):
        x = place(10**power, 10**y_low)[0]
        parts.append(f"<path d='M{x:.1f} {top}v{height}' stroke='#ddd'/>")
        parts.append(_text(x, top + height + 18, _short(10**power), "text-anchor='middle'"))
    parts.append(_text(left + width / 2, top + height + 38, x_name, "text-anchor='middle'"))
    parts.append(_text(left + width + 16, top + height + 38, y_name))
    for index, (name, line) in enumerate(points.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        places = [place(x, y) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        parts.extend(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in places)
        parts.append(f"<rect x='{left + width + 16}' y='{top + index * 22}' width='12' height='12' fill='{colour}'/>")
        parts.append(_text(left + width + 34, top + 11 + index * 22, name))
    return _svg(top + height + 50, parts)


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {_STYLE} {more}>{escape(text)}</text>"


def _short(value: float) -> str:
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:.3g}"


def _svg(height: float, parts: Sequence[str]) -> str:
    inside = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height:g}'>\n"
        f"<rect width='100%' height='100%' fill='white'/>\n{inside}\n</svg>\n"
    )
