"""
Charts as SVG, for the report: bars on a logarithmic scale, and curves. They are readable on a light and on a dark
page: which of both it is, the page knows (``prefers-color-scheme``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

_WIDTH = 760
_COLOURS = 8

#: Where the largest value is below the smallest one's so many times, a curve's scale is linear, from 0.
_LINEAR = 8.0

_STYLE = """\
text { font: 13px sans-serif; fill: #222 }
.paper { fill: #fff } .grid { stroke: #ddd } .title { font-weight: bold }
.end { text-anchor: end } .middle { text-anchor: middle }
.line { fill: none; stroke-width: 2 }
""" + "".join(
    f".c{index} {{ fill: {colour} }} .line.c{index} {{ fill: none; stroke: {colour} }}\n"
    for index, colour in enumerate(
        ("#1b6ca8", "#d1495b", "#3a7d44", "#8a5a99", "#c47f17", "#4f5d75", "#00857c", "#a44a3f")
    )
)

_DARK = "text { fill: #ddd } .paper { fill: #0d1117 } .grid { stroke: #30363d }\n" + "".join(
    f".c{index} {{ fill: {colour} }} .line.c{index} {{ fill: none; stroke: {colour} }}\n"
    for index, colour in enumerate(
        ("#58a6ff", "#ff7b86", "#6cc27a", "#c79be0", "#f0b254", "#a9b6cc", "#3ecfc4", "#e5948a")
    )
)


def bars(title: str, unit: str, values: Mapping[str, float]) -> str:
    """One horizontal bar for each value, from a power of ten below the smallest one."""
    shown = {name: value for name, value in values.items() if value > 0}
    low = math.floor(math.log10(min(shown.values(), default=1)))
    high = max(low + 1, math.ceil(math.log10(max(shown.values(), default=10))))
    left, right, row = 250, 90, 26
    parts = [_text(10, 22, f"{title}, {unit} (logarithmic)", "title")]
    for index, (name, value) in enumerate(shown.items()):
        y = 40 + index * row
        width = max(2.0, (math.log10(value) - low) / (high - low) * (_WIDTH - left - right))
        parts.append(_text(left - 8, y + 15, name, "end"))
        parts.append(f"<rect x='{left}' y='{y}' width='{width:.1f}' height='{row - 6}' class='c0'/>")
        parts.append(_text(left + width + 6, y + 15, short(value)))
    return _svg(50 + row * len(shown), parts)


def curves(title: str, x_name: str, y_name: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """
    One line for each series of points; points that aren't above 0 are left out. Across, the scale is logarithmic;
    upwards too, unless all values are near one another.
    """
    points = {name: sorted((x, y) for x, y in line if x > 0 and y > 0) for name, line in series.items()}
    left, top, width, height = 80, 62, _WIDTH - 300, 320
    across, x_ticks, _ = _scale([x for line in points.values() for x, _ in line], linear=False)
    ys = [y for line in points.values() for _, y in line] or [1.0]
    linear = max(ys) / min(ys) < _LINEAR
    up, y_ticks, how = _scale(ys, linear)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + across(x) * width, top + (1 - up(y)) * height

    parts = [_text(10, 22, title, "title"), _text(10, 44, f"{y_name} ({how})")]
    for tick in y_ticks:
        y = top + (1 - up(tick)) * height
        parts.append(f"<path d='M{left} {y:.1f}h{width}' class='grid'/>")
        parts.append(_text(left - 8, y + 4, short(tick), "end"))
    for tick in x_ticks:
        x = left + across(tick) * width
        parts.append(f"<path d='M{x:.1f} {top}v{height}' class='grid'/>")
        parts.append(_text(x, top + height + 18, short(tick), "middle"))
    parts.append(_text(left + width / 2, top + height + 38, f"{x_name} (logarithmic)", "middle"))
    # The colours are by the order in which the series came; the names from the one that gets highest downwards.
    colours = {name: index % _COLOURS for index, name in enumerate(points)}
    drawn = sorted((name for name in points if points[name]), key=lambda name: -max(y for _, y in points[name]))
    for index, name in enumerate(drawn):
        places = [place(x, y) for x, y in points[name]]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f"<polyline points='{path}' class='line c{colours[name]}'/>")
        parts.extend(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' class='c{colours[name]}'/>" for x, y in places)
        parts.append(
            f"<rect x='{left + width + 16}' y='{top + index * 22}' width='12' height='12' class='c{colours[name]}'/>"
        )
        parts.append(_text(left + width + 34, top + 11 + index * 22, name))
    return _svg(top + height + 50, parts)


def _scale(values: Sequence[float], linear: bool) -> tuple[Callable[[float], float], list[float], str]:
    """From a value to 0 (the lowest that is shown) to 1 (the highest); its ticks; what it is called."""
    values = values or [1.0]
    if linear:
        step = 10 ** math.floor(math.log10(max(values)))
        step = next(step * part for part in (0.2, 0.5, 1.0, 2.0) if max(values) / (step * part) <= 8)
        count = math.ceil(max(values) / step)
        return lambda value: value / (count * step), [step * index for index in range(count + 1)], "linear"
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    ticks = [10.0**power for power in range(low, high + 1)]
    return lambda value: (math.log10(value) - low) / (high - low), ticks, "logarithmic"


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    chosen = f" class='{kind}'" if kind else ""
    return f"<text x='{x:.1f}' y='{y:.1f}'{chosen}>{escape(text)}</text>"


def short(value: float) -> str:
    """Three digits, and a letter for thousands."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:.3g}"


def _svg(height: float, parts: Sequence[str]) -> str:
    inside = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height:g}'>\n"
        f"<style>\n{_STYLE}@media (prefers-color-scheme: dark) {{\n{_DARK}}}\n</style>\n"
        f"<rect width='100%' height='100%' class='paper'/>\n{inside}\n</svg>\n"
    )
