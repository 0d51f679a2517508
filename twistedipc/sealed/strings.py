"""
JSON strings as text, all of a chunk's at once, in numpy: an object for each line takes most of the time that sealing
may take. Pure.

It knows what `builds.logs.encoder` writes, and nothing else: so whatever it takes comes out of that encoder as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twistedipc.sealed import arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: What stands in the place of a byte that is dropped: UTF-8 has none of it.
_DROPPED: Final = 0xFF

#: How an ESC is written, as a number of six bytes; and ESC in its place, with bytes that are dropped.
_ESC: Final = int.from_bytes(b"\\u001b", "little")
_ESC_BYTES: Final = (1 << 48) - 1
_ESC_TAKEN: Final = int.from_bytes(b"\x1b\xff\xff\xff\xff\xff", "little")

#: Bytes behind the end, so that a number of eight begins at each byte.
_PAD: Final = bytes(8)

_QUOTE, _COMMA, _BACKSLASH, _NEWLINE, _U = b'",\\\nu'

#: What each letter behind a backslash stands for; 0: it is never written. A newline isn't taken, see `lines_of`.
_SHORT: Final = bytes({ord(letter): ord(meant) for letter, meant in zip('"\\bfrt', '"\\\b\f\r\t', strict=True)}.get(
    byte, 0) for byte in range(256))  # fmt: skip

#: Control characters that are written as \u00 and two digits, by these digits.
_LONG: Final = {f"{code:02x}".encode(): code for code in range(0x20) if chr(code) not in "\b\f\n\r\t"}


class Strings(NamedTuple):
    """Lines, each ended by a newline, and how many of them each part has."""

    text: bytes
    counts: list[int]


def lines_of(parts: list[bytes]) -> Strings | None:
    """
    Return the strings that are in these parts, which are as inside of an array: ``"one","two"``. None if something
    else is there, or anything isn't as `builds.logs.encoder` writes it, or a string has a newline in it.
    """
    arrays.load()
    import numpy as np

    data = bytearray(b",").join([*parts, _PAD])
    size = len(data) - len(_PAD) - 1
    if size <= 0:
        return None
    text = np.frombuffer(data, np.uint8, size)
    array = text.copy()
    quotes = array == _QUOTE
    if array.min() < 0x20 or array.max() == _DROPPED:
        return None
    escapes = _escapes(np.flatnonzero(array == _BACKSLASH))
    if len(escapes):
        if escapes[-1] + 1 >= size:
            return None
        others = _put_esc(data, escapes)
        quotes[others + 1] = False
        if len(others) and not _unescape(array, others, text):
            return None
    marks = np.flatnonzero(quotes)
    opening, closing = marks[::2], marks[1::2]
    # Nothing is outside of the strings but one comma between two.
    between = closing[:-1] + 1
    if len(opening) != len(closing) or not len(opening) or opening[0] != 0 or closing[-1] != size - 1:
        return None
    if (opening[1:] - between != 1).any() or (array[between] != _COMMA).any():
        return None
    text[opening] = text[between] = _DROPPED
    text[closing] = _NEWLINE
    ends = np.cumsum([len(part) + 1 for part in parts])
    counts = np.diff(np.searchsorted(closing, ends), prepend=0)
    return Strings(text.tobytes().translate(None, bytes([_DROPPED])), counts.tolist())


def _escapes(at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of all backslashes with which an escape begins: of several in a row, every second."""
    import numpy as np

    following = np.diff(at, prepend=-2) == 1
    if not following.any():
        return at
    index = np.arange(len(at))
    every_second: NDArray[np.int64] = at[(index - np.maximum.accumulate(np.where(following, 0, index))) % 2 == 0]
    return every_second


def _put_esc(data: bytearray, escapes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Put ESC in the place of each escape that stands for it, as most do; return the others."""
    import numpy as np

    windows = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
    here = windows[escapes]
    found = here & np.uint64(_ESC_BYTES) == np.uint64(_ESC)
    others = escapes[:0]
    if not found.all():
        others = escapes[~found]
        escapes, here = escapes[found], here[found]
    # The two bytes behind each escape are written with it, as they are; if the next one begins there, it comes later.
    windows[escapes] = here & ~np.uint64(_ESC_BYTES) | np.uint64(_ESC_TAKEN)
    return others


def _unescape(array: Any, escapes: NDArray[np.int64], text: Any) -> bool:
    """Write what each escape stands for in the place of its backslash; whether all of them are known."""
    import numpy as np

    kinds = array[escapes + 1]
    long = kinds == _U
    short = np.flatnonzero(~long)
    if len(short):
        at = escapes[short]
        meant = np.frombuffer(_SHORT, np.uint8)[kinds[short]]
        if not meant.all():
            return False
        text[at] = meant
        text[at + 1] = _DROPPED
    if len(short) == len(kinds):
        return True
    at = escapes[long] if len(short) else escapes
    if at[-1] + 6 > len(array):
        return False
    digits = np.ndarray(len(array) - 3, "<u4", array, strides=(1,))[at + 2]
    known = np.zeros(len(digits), np.bool_)
    for written, code in _LONG.items():
        here = digits == _digits(written)
        text[at[here]] = code
        known |= here
    for behind in range(1, 6):
        text[at + behind] = _DROPPED
    return bool(known.all())


def _digits(last: bytes) -> int:
    return int.from_bytes(b"00" + last, "little")
