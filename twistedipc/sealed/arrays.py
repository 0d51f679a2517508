"""
numpy, which is loaded when something is sealed or searched first, or something with colours is read: what does none of
this does without its 16 MB.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_THREADS = "OPENBLAS_NUM_THREADS"

#: The most bytes of an array that a thread keeps for the next time.
_KEPT = 512 * 1024


@cache
def load() -> None:
    """
    Import numpy without the threads that its algebra begins, one for each processor: nothing here uses them. To be
    called before the first ``import numpy``.
    """
    had = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        import numpy  # noqa: F401
    finally:
        if had is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = had


class _Kept(threading.local):
    """The arrays of one thread."""

    def __init__(self) -> None:
        self.arrays: dict[int, Any] = {}


_kept = _Kept()


def scratch(number: int, size: int) -> NDArray[np.uint8]:
    """
    Return an array of so many bytes with anything in it. A thread gets the same memory for the same ``number`` each
    time: a new array of 256 KiB would be taken from the system, and given back, with each text. Of more than 512 KiB it
    is a new one.
    """
    import numpy as np

    if size > _KEPT:
        return np.empty(size, np.uint8)
    kept = _kept.arrays.get(number)
    if kept is None or len(kept) < size:
        kept = _kept.arrays[number] = np.empty(min(_KEPT, 2 * size), np.uint8)
    found: NDArray[np.uint8] = kept[:size]
    return found


def newlines(array: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return of each byte whether it is a newline, in this thread's `scratch` array 0."""
    import numpy as np

    return np.equal(array, 0x0A, out=scratch(0, len(array)).view(np.bool_))
