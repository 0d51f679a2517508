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

#: How often eight bytes of a control sequence are looked at for its end, of all at once. Longer ones are taken one by
#: one, so that the work is bounded by the bytes of a text, and not by those times the longest sequence's.
_LOOKS: Final = 4

_EIGHT: Final = 8


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
    if b"\x1b" not in text:
        return Parted(text, b"", b"")
    arrays.load()
    import numpy as np

    array = np.frombuffer(text, np.uint8)
    begins = np.flatnonzero(array == 0x1B)
    lengths = _lengths(text, begins)
    gaps = begins.copy()
    gaps[1:] -= begins[:-1] + lengths[:-1]
    taken = _taken(gaps, lengths, len(text))
    columns = gaps.astype("<u4").view(np.uint8).reshape(-1, 4).T
    return Parted(array[~taken].tobytes(), array[taken].tobytes(), columns.tobytes())


def joined(parts: Parted) -> bytes:
    """Put the pieces back into a text. Raises ValueError if the parts don't fit together."""
    plain, pieces, packed = parts
    if not pieces and not packed:
        return plain
    arrays.load()
    import numpy as np

    array = np.frombuffer(pieces, np.uint8)
    begins = np.flatnonzero(array == 0x1B)
    if len(packed) != 4 * len(begins) or not len(begins) or begins[0] != 0:
        raise ValueError("there aren't as many pieces of the text as there are places for them")
    columns = np.frombuffer(packed, np.uint8).reshape(4, -1).T
    gaps = np.ascontiguousarray(columns).view("<u4").reshape(-1).astype(np.int64)
    if gaps.sum() > len(plain):
        raise ValueError("a piece of the text belongs behind its end")
    taken = _taken(gaps, np.diff(begins, append=len(pieces)), len(plain) + len(pieces))
    whole = np.empty(len(taken), np.uint8)
    whole[taken] = array
    whole[~taken] = np.frombuffer(plain, np.uint8)
    return whole.tobytes()


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

    # Numbers of eight bytes from any byte on; behind the end is what no sequence has.
    padded = text + bytes(_EIGHT * _LOOKS + 2)
    windows: NDArray[np.uint64] = np.ndarray(len(padded) - _EIGHT + 1, "<u8", padded, strides=(1,))
    array = np.frombuffer(padded, np.uint8)
    lengths = np.zeros(len(begins), np.int64)
    left: Any = np.flatnonzero(array[begins + 1] == 0x5B)  # of control sequences, those whose end isn't found yet
    for behind in range(2, 2 + _EIGHT * _LOOKS, _EIGHT):
        at = begins[left] + behind
        # Three bits of each byte, which are 0 if a control sequence goes on with it: 0x20 to 0x3f.
        others = (windows[at] ^ np.uint64(0x2020202020202020)) & np.uint64(0xE0E0E0E0E0E0E0E0)
        found = others != 0
        if not found.all():
            at, others, here, left = at[found], others[found], left[found], left[~found]
        else:
            here, left = left, left[:0]
        lowest = others & np.negative(others)  # one bit, of the first byte that is another
        at += ((lowest.astype(np.float64).view(np.int64) >> 52) - 1023) >> 3
        last = array[at]
        ends = (last >= 0x40) & (last <= 0x7E)
        lengths[here] = np.where(ends, at + 1 - begins[here], 2)  # what has no end is an escape of two
        if not len(left):
            break
    for index in np.flatnonzero(lengths == 0).tolist():
        begin = int(begins[index])
        found_one = _SEQUENCE.match(text, begin)
        assert found_one is not None  # an ESC by itself matches
        lengths[index] = found_one.end() - begin
    return lengths
