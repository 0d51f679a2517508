"""
A progress bar below the text in a terminal. ``terminal``; pure: it makes strings, which `LogPrinter` writes in one
piece with the text, so that nothing flickers.

The cursor always stays where text goes on, and the bar is drawn behind or below it: to remove the bar, everything from
the cursor on is erased. So it doesn't matter if the terminal has been resized or has scrolled meanwhile.
"""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len, set_cell_size

from twistedipc.builds.logs import Progress
from twistedipc.terminal import escapes, wording

#: From the cursor to the end of the screen.
ERASE: Final = "\x1b[J"

_LONGEST: Final = 30  # columns of the bar itself
_SHORTEST: Final = 5

# Makes sure of a row below the cursor, without changing its column (index, reverse index); then saves the position.
_BELOW: Final = "\x1bD\x1bM\x1b7\r\n"
_BACK: Final = "\x1b8"


def draw(event: Progress, columns: int, *, colour: bool, below: bool) -> str:
    """
    Return what draws the bar, over an earlier one, in a terminal with so many columns. ``below``: the cursor isn't at
    the beginning of a line, so the bar goes below that line.
    """
    line = _line(event, columns, colour)
    return f"{_BELOW}{line}{ERASE}{_BACK}" if below else f"{line}{ERASE}\r"


def _line(event: Progress, columns: int, colour: bool) -> str:
    """Return the bar as one row at most, with the last column free: a terminal may wrap when that is written to."""
    text = f" {wording.percent(event.value):>4}"
    room = columns - 1 - len(text)
    if room < 0:
        return ""
    bar = min(_LONGEST, room - 1)
    if bar >= _SHORTEST:
        done = round(event.value * bar)
        full, rest = "━" * done, "─" * (bar - done)
        text = f" \x1b[36m{full}\x1b[90m{rest}{escapes.RESET}{text}" if colour else f" {full}{rest}{text}"
        room -= bar + 1
    label = wording.one_line(event.label).replace("\t", " ")
    if label and room > 2:
        shown = label if cell_len(label) < room else set_cell_size(label, room - 2) + "…"
        text += f" {shown}"
    return text
