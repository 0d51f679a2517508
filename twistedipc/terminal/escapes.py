"""
Strangers' output made safe for a person's terminal. ``terminal``; pure.

A build's output may hold sequences that clear the screen, set the clipboard (OSC 52), hide a link's target (OSC 8), or
turn the order of letters around. `plain` removes them all; `colours` keeps those that set colours and styles (SGR). A
line that draws over itself (``\\r``, ``\\b``, erasing) is as a terminal would show it in the end (`drawing`).

Both take one line, or several joined by newlines. Text that needs no cleaning costs one search in C.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from twistedipc.terminal.drawing import MOVES, PLAIN, SEQUENCE, Line, Style, parameters_of, styled

#: Ends all colours and styles.
RESET = "\x1b[0m"

# C0 controls but tab and newline, DEL, C1 controls, and the characters that order bidirectional text.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SUSPECT = re.compile(f"[{_CONTROLS}{_BIDI}]")

# All of them, for what is between sequences; and those without the two that move a line's cursor.
_REST = re.compile(f"[{_CONTROLS}{_BIDI}]")
_BUT_MOVES = re.compile(f"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f{_BIDI}]")

# Nothing is drawn behind these.
_LAST_RETURNS = re.compile(r"\r+(?=\n|\Z)")


def plain(text: str) -> str:
    """Return ``text`` without any control: printable characters, tabs and newlines."""
    if _SUSPECT.search(text) is None:
        return text
    text = _LAST_RETURNS.sub("", text) if "\r" in text else text
    if MOVES.search(text) is None:
        return _cleaned(text)
    return "\n".join([_shown(line) for line in text.split("\n")])


def colours(text: str) -> str:
    """Return ``text`` without any control but the sequences that set colours and styles."""
    if _SUSPECT.search(text) is None:
        return text
    text = _LAST_RETURNS.sub("", text) if "\r" in text else text
    if MOVES.search(text) is None:
        return _coloured(text)
    lines = []
    style = PLAIN
    for line in text.split("\n"):
        last = line if MOVES.search(line) is None else _last_drawing(line)
        if last is not None:
            lines.append(_coloured(last))
            for found in SEQUENCE.finditer(line):
                style = style if found["sgr"] is None else styled(style, found["sgr"])
        else:
            drawn = _drawn(line, style)
            lines.append(_in_styles(drawn, style))
            style = drawn.style
    return "\n".join(lines)


def _shown(line: str) -> str:
    if MOVES.search(line) is None:
        return _cleaned(line)
    last = _last_drawing(line)
    return "".join([cell.text for cell in _drawn(line).cells()]) if last is None else _cleaned(last)


def _last_drawing(line: str) -> str | None:
    """
    Return what a line draws last, with the sequences before it, if nothing is seen of what it has drawn before. So it
    is with most progress, and this costs a tenth of drawing it. None if it must be drawn.
    """
    if not line.isascii() or _CURSOR.search(line) is not None:
        return None
    *before, last = line.split("\r")
    size = len(_cleaned(last))
    if any(len(_cleaned(part)) > size for part in before):
        return None
    return "".join([found[0] for part in before for found in SEQUENCE.finditer(part)]) + last


# What else moves the cursor, and what may have a \r inside.
_CURSOR = re.compile(r"[\b\t]|\x1b(?:\[[0-9;]{0,16}[A-GJK]|[\]PX^_])")


def _cleaned(text: str) -> str:
    """Return a text that moves nothing, without any control."""
    return _REST.sub("", SEQUENCE.sub("", text))


def _coloured(text: str) -> str:
    """Return the same with its styles."""
    if "\x1b" not in text and _C1.search(text) is None:
        return _REST.sub("", text)
    # What is removed may have kept the parts of a sequence apart. So the sequences to keep are found first, and the
    # rest is cleaned piece by piece.
    return "".join(
        [
            _REST.sub("", piece) if isinstance(piece, str) else piece[0] if piece["sgr"] is not None else ""
            for piece in _pieces(text)
        ]
    )


_C1 = re.compile("[\x80-\x9f]")


def _pieces(text: str) -> Iterator[str | re.Match[str]]:
    """Yield what stands between sequences, and the sequences."""
    position = 0
    for found in SEQUENCE.finditer(text):
        yield text[position : found.start()]
        yield found
        position = found.end()
    yield text[position:]


def _drawn(text: str, style: Style = PLAIN) -> Line:
    line = Line(style)
    line.draw(_BUT_MOVES.sub("", piece) if isinstance(piece, str) else piece for piece in _pieces(text))
    return line


def _in_styles(line: Line, before: Style) -> str:
    """Return a line that was drawn, with sequences for its styles: from the style before it to the one after it."""
    parts = []
    for cell in line.cells():
        if cell.text and cell.style != before:
            parts.append(_setting(cell.style, before))
            before = cell.style
        parts.append(cell.text)
    if line.style != before:
        parts.append(_setting(line.style, before))
    return "".join(parts)


def _setting(style: Style, before: Style) -> str:
    """Return a sequence that sets a style where another one is set."""
    if not any(style):
        return RESET
    return f"\x1b[{'0;' if any(before) else ''}{parameters_of(style)}m"
