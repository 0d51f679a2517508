"""
A progress bar below what is written to a terminal. Pure: it makes strings, and `LogPrinter` writes each in one piece
together with the text, so that nothing flickers.

The cursor always stays where text goes on, and the bar is what is drawn behind or below it: to take it away, everything
from the cursor on is erased. So a terminal that has another size since, or has scrolled, can't get it wrong.
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

# One row is made sure of below the cursor, which keeps its column (index, reverse index); then the position is kept.
_BELOW: Final = "\x1bD\x1bM\x1b7\r\n"
_BACK: Final = "\x1b8"


def draw(event: Progress, columns: int, *, colour: bool, below: bool) -> str:
    """
    What draws the bar, over an earlier one, for a terminal with so many columns. ``below``: the cursor isn't at the
    beginning of a line, so it goes below that line.
    """
    line = _line(event, columns, colour)
    return f"{_BELOW}{line}{ERASE}{_BACK}" if below else f"{line}{ERASE}\r"


def _line(event: Progress, columns: int, colour: bool) -> str:
    """One row at most, with its last column free: a terminal that is written to there may wrap."""
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
