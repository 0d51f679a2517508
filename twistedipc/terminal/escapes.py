"""
Strangers' output made safe for a person's terminal. ``terminal``; pure.

A build's output may hold sequences that clear the screen, set the clipboard (OSC 52), hide a link's target (OSC 8), or
turn the order of letters around. `plain` removes them all; `colours` keeps those that set colours and styles (SGR). Of
a progress line that is redrawn with ``\r``, both keep what was drawn last.

Both take one line, or several joined by newlines. Text that needs no cleaning costs one search in C.
"""

from __future__ import annotations

import re

#: Ends all colours and styles.
RESET = "\x1b[0m"

# C0 controls but tab and newline, DEL, C1 controls, and the characters that order bidirectional text.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SUSPECT = re.compile(f"[{_CONTROLS}{_BIDI}]")

# ECMA-48. Each part excludes what begins the next one, so that matching takes linear time. A string sequence without
# its end loses only its introducer: its text is then harmless, and nothing disappears.
_SEQUENCE = re.compile(
    r"(?P<sgr>\x1b\[[0-9;:]{0,64}m)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
# Remains of sequences, and all other controls but \r and ESC, which are dealt with afterwards.
_REST = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f{_BIDI}]")
_SGR = re.compile(r"\x1b\[[0-9;:]{0,64}m")


def plain(text: str) -> str:
    """Return ``text`` without any control: printable characters, tabs and newlines."""
    if _SUSPECT.search(text) is None:
        return text
    text = _SEQUENCE.sub("", text)
    text = _REST.sub("", text).replace("\x1b", "")
    return "\n".join([_drawn_last(line) for line in text.split("\n")]) if "\r" in text else text


def colours(text: str) -> str:
    """Return ``text`` without any control but the sequences that set colours and styles."""
    if _SUSPECT.search(text) is None:
        return text
    if "\x1b" in text or _C1.search(text) is not None:
        # What is removed may have kept the parts of a sequence apart. So the sequences to keep are found first, and the
        # rest is cleaned piece by piece.
        text = "".join(
            [
                piece if index % 2 else _REST.sub("", piece).replace("\x1b", "")
                for index, piece in enumerate(_pieces(text))
            ]
        )
    else:
        text = _REST.sub("", text)
    return "\n".join([_drawn_last(line) for line in text.split("\n")]) if "\r" in text else text


_C1 = re.compile("[\x80-\x9f]")


def _pieces(text: str) -> list[str]:
    """Return plain pieces and, between each two, the SGR sequence (or "") that stood there."""
    pieces = []
    position = 0
    for found in _SEQUENCE.finditer(text):
        pieces += [text[position : found.start()], found["sgr"] or ""]
        position = found.end()
    pieces.append(text[position:])
    return pieces


def _drawn_last(line: str) -> str:
    """Return what a progress line shows at its end, with the colours that were set before and after it."""
    parts = line.split("\r")
    last = len(parts) - 1
    while last > 0 and not _SGR.sub("", parts[last]):
        last -= 1  # only colours follow the return: nothing was drawn over yet
    return "".join([*_SGR.findall("".join(parts[:last])), *parts[last:]])
