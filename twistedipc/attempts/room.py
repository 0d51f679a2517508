"""
How much room a disk has left, and the reserve that builds leave on it. Used by the runner, whose builds wait while the
disk is nearly full, and by the builder, which accepts no attempt then.

The reserve is for what the platform itself writes: an attempt's last lines, its result, a cancellation.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

#: The disk is asked again after so many bytes of output …
LOOK_BYTES = 1 << 20
#: … or so many seconds, whichever is first.
LOOK_SECONDS = 0.5

#: The reserve in bytes where the operator sets none; on a small file system, one part in so many of it.
DEFAULT_RESERVE = 1 << 30
DEFAULT_PART = 20

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def default_reserve(folder: Path) -> int:
    """Return the reserve for the file system of a folder, in bytes. Raises OSError."""
    disk = os.statvfs(folder)
    return min(DEFAULT_RESERVE, disk.f_blocks * disk.f_frsize // DEFAULT_PART)


def free_bytes(folder: Path) -> int:
    """Return how many bytes can still be written to the file system of a folder. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def readable(size: int) -> str:
    """Return a number of bytes as people read it: "1.5 GiB"."""
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.{int(unit > 0)}f} {_UNITS[unit]}"


class Room:
    """
    Tells whether less is free than the reserve. The disk is asked now and then, not each time.

    :param reserve: bytes; with 0 the disk is never asked
    :param clock: the monotonic clock, in seconds
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
        """Note that so many bytes were written to the disk."""
        self._written += size

    def low(self) -> bool:
        """
        Return whether less is free than the reserve. Once less was free, a sixteenth more than the reserve must be
        free, or builds would stop and continue with every temporary file.
        """
        now = self._clock()
        if self.reserve and (now >= self._look_at or self._written >= LOOK_BYTES):
            wanted = self.reserve + (self.reserve // 16 if self._low else 0)
            try:
                self._low = self._free(self._folder) < wanted
            except OSError:
                pass  # a disk that doesn't answer isn't a full one
            self._look_at = now + LOOK_SECONDS
            self._written = 0
        return self._low
