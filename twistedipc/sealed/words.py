"""
What people search in: the lines of a log without escape sequences, which cut words apart (``\x1b[31merror\x1b[0m``).
Pure; a search looks through it, and the rows of ``grams`` are made of it.
"""

from __future__ import annotations

import re

from twistedipc.sealed import arrays

# ECMA-48: control sequences; commands to the terminal (a title, a link), which end with BEL or ST; other escapes, and
# an ESC by itself. None goes beyond its line.
_SEQUENCE = re.compile(rb"\x1b(?:\[[ -?]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])?")

#: With so many sequences in its first bytes, a text is worth arrays; the expression takes 0.1 µs for each.
_MANY = 8
_FIRST = 16 * 1024

#: Bytes of a control sequence behind its "[", of the longest that is taken with all others at once: each is a turn.
_LONGEST = 64

#: Of each byte of a control sequence behind its "[": it goes on, ends with it, or isn't one.
_GOES_ON, _ENDS, _NONE = 0, 1, 2
_KINDS = bytes(_GOES_ON if 0x20 <= byte <= 0x3F else _ENDS if 0x40 <= byte <= 0x7E else _NONE for byte in range(256))


def searchable(text: bytes) -> bytes:
    """Return ``text`` without escape sequences. Its lines are as many as before."""
    if b"\x1b" not in text:
        return text
    if text.count(b"\x1b", 0, _FIRST) < _MANY:
        return _SEQUENCE.sub(b"", text)
    return _without_controls(text)


def _without_controls(text: bytes) -> bytes:
    """The same of a text with many sequences; several times as fast, if each of them is a control sequence."""
    arrays.load()
    import numpy as np

    array = np.frombuffer(text, np.uint8)
    kinds = np.frombuffer(_KINDS, np.uint8)
    at = np.flatnonzero(array == 0x1B)
    if at[-1] + 1 == len(array) or (array[at + 1] != 0x5B).any():
        return _SEQUENCE.sub(b"", text)
    keep = np.ones(len(array), np.bool_)
    keep[at] = keep[at + 1] = False
    at += 2
    # All sequences at once, byte by byte: fewer are left with each, and most are three or four long.
    for _ in range(_LONGEST):
        if not len(at):
            return array[keep].tobytes()
        if at[-1] >= len(array):
            return _SEQUENCE.sub(b"", text)
        keep[at] = False
        kind = kinds[array[at]]
        if kind.max() == _NONE:
            return _SEQUENCE.sub(b"", text)
        at = at[kind == _GOES_ON] + 1
    return _SEQUENCE.sub(b"", text)
