"""
The room that a disk has left, and the reserve that builds leave on it. Used by ``course`` and ``steps``, and by
``builder``, which takes no attempt while its disk is nearly full.

The reserve is for what the platform itself writes: an attempt's end, its result, what is said to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

#: The disk is asked again after so many bytes of output …
LOOK_BYTES = 1 << 20
#: … or so many seconds, whichever is first.
LOOK_SECONDS = 0.5

#: The reserve that is kept where the operator says nothing; on a small file system, that part of it.
DEFAULT_RESERVE = 1 << 30
DEFAULT_PART = 20

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def default_reserve(folder: Path) -> int:
    """The reserve for the file system of a folder, in bytes. Raises OSError."""
    disk = os.statvfs(folder)
    return min(DEFAULT_RESERVE, disk.f_blocks * disk.f_frsize // DEFAULT_PART)


def free_bytes(folder: Path) -> int:
    """How many bytes can still be written to the file system of a folder. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def readable(size: int) -> str:
    """A number of bytes for people: "1.5 GiB"."""
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.{int(unit > 0)}f} {_UNITS[unit]}"


class Room:
    """
    Whether there is more left than the reserve. The disk is asked now and then, not each time. ``reserve`` is in
    bytes, and 0 never asks; ``clock`` gives seconds.
    """

    def __init__(
        self,
        folder: Path,
        reserve: int,
        *,
        clock: Callable[[], float],
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._free = free
        self._look_at = clock()
        self._written = 0
        self._low = False
        self.reserve = reserve

    def written(self, size: int) -> None:
        """So many bytes were written to it."""
        self._written += size

    def low(self) -> bool:
        """
        Whether less is free than the reserve. Once it was, a sixteenth more must be, or builds would stop and go with
        every file that comes and goes.
        """
        now = self._clock()
        if self.reserve and (now >= self._look_at or self._written >= LOOK_BYTES):
            wanted = self.reserve + (self.reserve // 16 if self._low else 0)
            try:
                self._low = self._free(self._folder) < wanted
            except OSError:
                pass  # a disk that doesn't answer is no full one
            self._look_at = now + LOOK_SECONDS
            self._written = 0
        return self._low
