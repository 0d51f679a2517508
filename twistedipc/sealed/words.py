"""
What people search in: the lines of a log without escape sequences, which cut words apart (``\\x1b[31merror\\x1b[0m``).
Pure. A chunk keeps what was taken out beside its text, and puts it back for who reads the log.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twistedipc.sealed import arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# ECMA-48: control sequences; commands to the terminal (a title, a link), which end with BEL or ST; other escapes, and
# an ESC by itself. None goes beyond its line.
_SEQUENCE = re.compile(rb"\x1b(?:\[[ -?]*[@-~]|\][^\x07\x1b\n]*(?:\x07|(?=\x1b\\))|[ -/]*[0-~])?")

#: How often four bytes of a control sequence are looked at for its end, of all at once. Longer ones are taken one by
#: one, so that the work is bounded by the bytes of a text, and not by those times the longest sequence's.
_LOOKS: Final = 8

_WINDOW: Final = 4

#: The longest control sequence of a text that has nothing else: one with a colour of 24 bits has 19 bytes.
_PASSES: Final = 20


class Parted(NamedTuple):
    """
    A text in two parts. Each piece that was taken out begins with ESC, and has no other; before piece k are ``gaps[k]``
    bytes of the plain text behind the piece before it: numbers of four bytes, first the lowest byte of all, and so on,
    since the higher ones are zeros mostly.
    """

    plain: bytes
    pieces: bytes  # one behind the other
    gaps: bytes


def searchable(text: bytes) -> bytes:
    """Return ``text`` without escape sequences. Its lines are as many as before."""
    return parted(text).plain


def parted(text: bytes) -> Parted:
    """Take the escape sequences out of a text. Its lines are as many as before."""
    return taken_apart(text)[0]


def taken_apart(text: bytes) -> tuple[Parted, NDArray[np.bool_] | None]:
    """Do the same, and return of each byte of the text whether it was taken out; None: nothing was."""
    if b"\x1b" not in text:
        return Parted(text, b"", b""), None
    arrays.load()
    import numpy as np

    array = np.frombuffer(text, np.uint8)
    escapes = array == 0x1B
    begins = np.flatnonzero(escapes)
    gaps = begins.copy()
    taken = _control_sequences(array, escapes, len(begins))
    if taken is None:
        lengths = _lengths(text, begins)
        gaps[1:] -= begins[:-1] + lengths[:-1]
        taken = _taken(gaps, lengths, len(text))
        pieces = array.take(np.flatnonzero(taken))
    else:
        pieces = array.take(np.flatnonzero(taken))
        gaps[1:] -= begins[:-1] + np.diff(np.flatnonzero(pieces == 0x1B))
    return Parted(without(array, taken), pieces.tobytes(), _packed(gaps)), taken


def _control_sequences(array: NDArray[np.uint8], escapes: NDArray[np.bool_], count: int) -> NDArray[np.bool_] | None:
    """
    Return of each byte whether it is in a control sequence; None if something else begins with an ESC, or one of them
    is long or has no end. It takes a few passes over the text, however many sequences are in it, and most texts have
    no others.
    """
    import numpy as np

    # All sequences at once: their second byte, their third, and so on. With a newline behind it each of them ends.
    inside = escapes[:-1] & (array[1:] == 0x5B)
    if np.count_nonzero(inside) != count or array[-1] != 0x0A:
        return None
    taken = escapes.copy()
    taken[1:] |= inside
    goes_on = (array & np.uint8(0xE0)) == 0x20  # 0x20 to 0x3f
    ends_none = (array < 0x40) | (array > 0x7E)
    for at in range(2, _PASSES):
        inside = inside[:-1]
        taken[at:] |= inside
        on = inside & goes_on[at:]
        if ((inside ^ on) & ends_none[at:]).any():
            return None
        if not on.any():
            return taken
        inside = on
    return None


def joined(parts: Parted) -> bytes:
    """Put the pieces back into a text. Raises ValueError if the parts don't fit together."""
    taken = places(parts)
    if taken is None:
        return parts.plain
    import numpy as np

    whole = np.empty(len(taken), np.uint8)
    whole[taken] = np.frombuffer(parts.pieces, np.uint8)
    whole[~taken] = np.frombuffer(parts.plain, np.uint8)
    return whole.tobytes()


def places(parts: Parted) -> NDArray[np.bool_] | None:
    """
    Return of each byte of the text that these are parts of whether it is in a piece; None: there are no pieces. Raises
    ValueError as `joined` does.
    """
    plain, pieces, packed = parts
    if not pieces and not packed:
        return None
    import numpy as np

    begins, gaps = _begins_and_gaps(parts)
    return _taken(gaps, np.diff(begins, append=len(pieces)), len(plain) + len(pieces))


def between(parts: Parted, begin: int, end: int) -> Parted:
    """
    Return the parts of some whole lines of a text: of those that ``plain[begin:end]`` has. Raises ValueError as
    `joined` does.
    """
    plain, pieces, packed = parts
    if not pieces and not packed:
        return Parted(plain[begin:end], b"", b"")
    begins, gaps = _begins_and_gaps(parts)
    # A piece is before a byte of the plain text, and in the line of this byte.
    at = gaps.cumsum()
    low, high = at.searchsorted([begin, end]).tolist()
    if low == high:
        return Parted(plain[begin:end], b"", b"")
    gaps = gaps[low:high]
    gaps[0] = at[low] - begin
    last = int(begins[high]) if high < len(begins) else len(pieces)
    return Parted(plain[begin:end], pieces[int(begins[low]) : last], _packed(gaps))


def _begins_and_gaps(parts: Parted) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each piece begins in ``pieces``, and what is before it. Raises ValueError as `joined` does."""
    plain, pieces, packed = parts
    arrays.load()
    import numpy as np

    begins = np.flatnonzero(np.frombuffer(pieces, np.uint8) == 0x1B)
    if len(packed) != 4 * len(begins) or not len(begins) or begins[0] != 0:
        raise ValueError("there aren't as many pieces of the text as there are places for them")
    columns = np.frombuffer(packed, np.uint8).reshape(4, -1).T
    gaps = np.ascontiguousarray(columns).view("<u4").reshape(-1).astype(np.int64)
    if gaps.sum() > len(plain):
        raise ValueError("a piece of the text belongs behind its end")
    return begins, gaps


def _packed(gaps: NDArray[np.int64]) -> bytes:
    """Return them as `Parted` has them."""
    import numpy as np

    return gaps.astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes()


def without(array: NDArray[np.uint8], dropped: NDArray[np.bool_]) -> bytes:
    """Return the bytes of a text without some: faster than by an index, of which each run of bytes takes a call."""
    import numpy as np

    return (array | np.negative(dropped.view(np.uint8))).tobytes().translate(None, b"\xff")


def _taken(gaps: NDArray[np.int64], lengths: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Return of each byte of a text of this size whether it is in a piece."""
    import numpy as np

    runs = np.empty((len(gaps) + 1, 2), np.int64)
    runs[:-1, 0], runs[:-1, 1] = gaps, lengths
    runs[-1] = size - gaps.sum() - lengths.sum(), 0
    return np.repeat(np.tile(np.array([False, True]), len(runs)), runs.reshape(-1))


def _lengths(text: bytes, begins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how long the piece is that begins with each ESC of a text."""
    import numpy as np

    # Numbers of four bytes from any byte on; behind the end is what no sequence has.
    padded = text + bytes(_WINDOW * _LOOKS + 2)
    windows: NDArray[np.uint32] = np.ndarray(len(padded) - _WINDOW + 1, "<u4", padded, strides=(1,))
    lengths = np.zeros(len(begins), np.int64)
    left: Any = None  # of control sequences, those whose end isn't found yet; None: all
    at = begins + 1
    brackets = np.frombuffer(padded, np.uint8)[at] == 0x5B
    if not brackets.all():
        left = np.flatnonzero(brackets)
        at = at[left]
    at += 1
    for before in range(2, 2 + _WINDOW * _LOOKS, _WINDOW):
        window = windows[at]
        # Three bits of each byte, which are 0 if a control sequence goes on with it: 0x20 to 0x3f.
        others = (window ^ np.uint32(0x20202020)) & np.uint32(0xE0E0E0E0)
        others &= np.negative(others)  # one bit, of the first byte that is another
        # Which byte that is, by the exponent of the number; below zero, if there is none.
        place = ((others.astype(np.float32).view(np.int32) >> 23) - 127) >> 3
        last = window >> (place << 3 & 31).astype(np.uint32) & np.uint32(0xFF)
        length = np.where(last - np.uint32(0x40) <= 0x3E, place + (before + 1), 2)  # without an end: an escape of two
        found = place >= 0
        if found.all():
            lengths[slice(None) if left is None else left] = length
            break
        missing = ~found
        left = np.arange(len(begins)) if left is None else left
        lengths[left[found]] = length[found]
        left = left[missing]
        at = at[missing] + _WINDOW
    for index in np.flatnonzero(lengths == 0).tolist():
        begin = int(begins[index])
        found_one = _SEQUENCE.match(text, begin)
        assert found_one is not None  # an ESC by itself matches
        lengths[index] = found_one.end() - begin
    return lengths
