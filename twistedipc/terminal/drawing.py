"""
One line of output as a terminal would show it: cells, on which a cursor moves. ``terminal``; pure; used by ``escapes``.

Of what a terminal would obey only this is obeyed: styles (SGR), ``\\r``, ``\\b``, tabs, moves of the cursor (CUU, CUD,
CUF, CUB, CNL, CPL, CHA), and erasing in a line or below it (EL, and ED 0). All else is dropped. The page does the same
(``log/terminal.js``), and also draws over earlier lines; ``tests/fixtures/terminal.json`` has cases for both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

#: What moves the cursor, or erases: a line without it is drawn from left to right.
MOVES: Final = re.compile(r"[\r\b]|\x1b\[[0-9;]{0,16}[A-GJK]")

#: So many rows up the cursor can reach at most, and so many columns right of what is on a row.
REACH: Final = 200
FAR: Final = 500

# The most cells that one line's moves may erase or skip, all together. What would erase more is dropped, and what would
# stand behind more that were skipped moves up to the text.
_MAX_WORK = 1_000_000

# The most characters of a cell: one, and what is written over it.
_MAX_STACKED = 32

# ECMA-48. Each part excludes what begins the next one, so that matching takes linear time. A string sequence without
# its end loses only its introducer: its text is then harmless, and nothing disappears.
SEQUENCE: Final = re.compile(
    r"\x1b\[(?P<sgr>[0-9;:]{0,64})m"
    r"|\x1b\[(?P<by>[0-9;]{0,16})(?P<move>[A-GJK])"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)

# -- styles --

#: SGR parameters, by what they set (`_SLOTS`); "" where nothing is set.
Style = tuple[str, ...]

_SLOTS = ("bold", "dim", "italic", "underline", "reverse", "hidden", "strike", "over", "front", "back", "line")
_AT = {name: index for index, name in enumerate(_SLOTS)}

PLAIN: Final[Style] = ("",) * len(_SLOTS)

_SETS = {
    1: ("bold", "1"),
    2: ("dim", "2"),
    3: ("italic", "3"),
    4: ("underline", "4"),
    7: ("reverse", "7"),
    8: ("hidden", "8"),
    9: ("strike", "9"),
    21: ("underline", "21"),
    53: ("over", "53"),
    **{code: ("front", str(code)) for code in (*range(30, 38), *range(90, 98))},
    **{code: ("back", str(code)) for code in (*range(40, 48), *range(100, 108))},
}
_UNSETS = {
    22: ("bold", "dim"),
    23: ("italic",),
    24: ("underline",),
    27: ("reverse",),
    28: ("hidden",),
    29: ("strike",),
    39: ("front",),
    49: ("back",),
    55: ("over",),
    59: ("line",),
}
_UNDERLINES = {"1": "4", "2": "21", "3": "4:3", "4": "4:4", "5": "4:5"}
_EXTENDED = {38: "front", 48: "back", 58: "line"}
_VALUES = {"5": 1, "2": 3}


@lru_cache(maxsize=1024)
def styled(style: Style, parameters: str) -> Style:
    """Return the style that these parameters of an SGR sequence make of ``style``."""
    slots = list(style)
    items = iter(parameters.split(";"))
    for item in items:
        head, *rest = item.split(":")
        code = int(head or 0)
        if code in _EXTENDED:
            values = _values(rest) if rest else _values_behind(items)
            if values is None:
                break  # what follows can't be told apart
            if values:
                slots[_AT[_EXTENDED[code]]] = _colour(code, values)
        elif rest:
            if code == 4:
                slots[_AT["underline"]] = _UNDERLINES.get(rest[0], "")
        elif code == 0:
            slots = list(PLAIN)
        elif code in _SETS:
            name, value = _SETS[code]
            slots[_AT[name]] = value
        else:
            for name in _UNSETS.get(code, ()):
                slots[_AT[name]] = ""
    return tuple(slots)


def _values(parts: list[str]) -> list[str]:
    """Return the mode and the values of a colour with ":" between them; none if it isn't whole."""
    mode, *values = parts
    size = _VALUES.get(mode, 0)
    # With four values, the first is its colour space.
    values = values[1:] if mode == "2" and len(values) > size else values
    return [mode, *values[:size]] if size and len(values) >= size else []


def _values_behind(items: Iterator[str]) -> list[str] | None:
    """Return the same with ";" between them, from what follows; None if it isn't whole."""
    mode = next(items, "")
    values = list(islice(items, _VALUES.get(mode, 0)))
    return [mode, *values] if values and len(values) == _VALUES[mode] else None


def _colour(code: int, values: list[str]) -> str:
    """Return a colour as SGR parameters."""
    mode, *levels = values
    numbers = [str(min(255, int(level) if level.isdigit() else 0)) for level in levels]
    if code == 58:  # with ";", terminals that don't know it would take its values for styles
        return ":".join(["58", mode, *([""] if mode == "2" else []), *numbers])
    return ";".join([str(code), mode, *numbers])


def parameters_of(style: Style) -> str:
    """Return the parameters of one SGR sequence that sets a style on none."""
    return ";".join(filter(None, style))


# -- cells --


class Cell(NamedTuple):
    """A character with what is written over it (accents), and its style. The right half of a wide one has no text."""

    text: str
    style: Style


_BLANK = Cell(" ", PLAIN)
_HALF = Cell("", PLAIN)


@lru_cache(maxsize=4096)
def width(character: str) -> int:
    """Return how many columns a character takes: 0, 1 or 2."""
    if character < "\u0300":
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Line:
    """
    A line that is drawn by itself. Moves up lead to rows of its own, so that nothing is drawn over what isn't known.
    """

    def __init__(self, style: Style = PLAIN) -> None:
        self._rows: dict[int, list[Cell]] = {0: []}
        self._row = 0
        self._column = 0
        self._work = 0
        #: the style at the line's end
        self.style = style

    def draw(self, pieces: Iterable[re.Match[str] | str]) -> None:
        """Draw texts without controls but ``\\r``, ``\\b`` and tabs, and matches of `SEQUENCE`."""
        for piece in pieces:
            if isinstance(piece, str):
                self._texts(piece)
            elif piece["sgr"] is not None:
                self.style = styled(self.style, piece["sgr"])
            elif piece["move"] is not None:
                self._move(piece["move"], piece["by"])

    def cells(self) -> list[Cell]:
        """Return the row on which the line ends; if nothing is left on it, the lowest row that has something."""
        row = self._rows.get(self._row, [])
        if _seen(row):
            return row
        return next((self._rows[at] for at in sorted(self._rows, reverse=True) if _seen(self._rows[at])), row)

    def _texts(self, text: str) -> None:
        for piece in _STOPS.split(text):
            if piece == "\r":
                self._column = 0
            elif piece == "\b":
                self._column = max(0, self._column - 1)
            elif piece == "\t":
                self._right(8 - self._column % 8)
            elif piece:
                self._put(piece)

    def _put(self, text: str) -> None:
        cells = self._cells()
        for character in text:
            columns = width(character)
            if columns == 0:
                at = self._column - 1
                if 0 < at < len(cells) and cells[at] is _HALF:
                    at -= 1
                if 0 <= at < len(cells) and len(cells[at].text) < _MAX_STACKED:
                    cells[at] = Cell(cells[at].text + character, cells[at].style)
                continue
            if (skipped := self._column - len(cells)) > 0:
                self._work += skipped
                if self._work <= _MAX_WORK:
                    cells += [_BLANK] * skipped
                else:
                    self._column = len(cells)
            _split(cells, self._column)
            _split(cells, self._column + columns)
            cells[self._column : self._column + columns] = [Cell(character, self.style), _HALF][:columns]
            self._column += columns

    def _cells(self) -> list[Cell]:
        return self._rows.setdefault(self._row, [])

    def _right(self, by: int) -> None:
        size = len(self._rows.get(self._row, ()))
        self._column = min(self._column + by, max(FAR, size, self._column))

    def _move(self, move: str, parameters: str) -> None:
        by = int(parameters) if parameters.isdigit() else None
        count = max(1, 1 if by is None else by)
        match move:
            case "A" | "F":
                self._row = max(1 - REACH, self._row - count)
            case "B" | "E":
                self._row = min(0, self._row + count)
            case "C":
                self._right(count)
            case "D":
                self._column = max(0, self._column - count)
            case "G":
                self._column = 0
                self._right(count - 1)
            case "K":
                self._erase(by or 0)
            case "J" if not by:
                self._erase(0)
                for row in [row for row in self._rows if row > self._row]:
                    del self._rows[row]
        if move in "EF":
            self._column = 0

    def _erase(self, what: int) -> None:
        cells = self._cells()
        if what == 2:
            cells.clear()
        elif what == 0:
            _split(cells, self._column)
            del cells[self._column :]
        elif what == 1:
            self._work += self._column
            if self._work <= _MAX_WORK:
                _split(cells, self._column + 1)
                size = min(len(cells), self._column + 1)
                cells[:size] = [_BLANK] * size


_STOPS = re.compile("([\r\b\t])")


def _split(cells: list[Cell], column: int) -> None:
    """Of a wide character that goes over the left edge of a column nothing is left when one half is drawn over."""
    if column < len(cells) and cells[column] is _HALF:
        cells[column - 1] = cells[column] = _BLANK


def _seen(row: list[Cell]) -> bool:
    return any(cell.text not in ("", " ") for cell in row)
