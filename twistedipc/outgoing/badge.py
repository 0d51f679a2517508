"""A badge: a small picture that says how a project's newest build has ended. Pure."""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape, quoteattr

from twistedipc.builds.names import shown
from twistedipc.builds.states import Tone

_COLOURS: Final[dict[Tone, str]] = {
    Tone.GOOD: "#2e7d32",
    Tone.BAD: "#c62828",
    Tone.WARNING: "#b26a00",
    Tone.WAITING: "#616161",
    Tone.BUSY: "#1565c0",
}

#: The most characters of each half.
_MAX: Final = 40


def svg(label: str, said: str, tone: Tone) -> bytes:
    """Return the picture: two halves, with a title for those who can't see it."""
    left, right = shown(label, _MAX), shown(said, _MAX)
    # Some 7 pixels a character in this size; the text is fitted to that, whichever font a browser has.
    widths = [7 * len(left), 7 * len(right)]
    first, whole = widths[0] + 12, sum(widths) + 24
    title = escape(f"{left}: {right}")
    halves = "".join(
        f'<text x="{x}" y="14" textLength="{width}" lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
        for x, width, text in ((6, widths[0], left), (first + 6, widths[1], right))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" '
        f"aria-label={quoteattr(f'{left}: {right}')}><title>{title}</title>"
        f'<rect width="{whole}" height="20" rx="3" fill="#424242"/>'
        f'<path d="M{first} 0h{whole - first - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{first}z" fill="{_COLOURS[tone]}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{halves}</g></svg>'
    ).encode()
