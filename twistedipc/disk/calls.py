"""
The system's calls by which files are written, as a type: the disk as a port. The module ``os`` has them; a test, or a
simulation, can give others, which fail as disks do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class DiskCalls(Protocol):
    """The functions of ``os`` with these names."""

    def open(self, path: Path, flags: int, mode: int = 0o777, /) -> int:
        """Open a file: its descriptor."""

    def write(self, descriptor: int, data: bytes | memoryview, /) -> int:
        """Write to it: how many bytes the disk took."""

    def fsync(self, descriptor: int, /) -> None:
        """Make it durable."""

    def fdatasync(self, descriptor: int, /) -> None:
        """Make its contents durable."""

    def ftruncate(self, descriptor: int, length: int, /) -> None:
        """Cut it."""

    def lseek(self, descriptor: int, position: int, whence: int, /) -> int:
        """Go on at this place."""

    def close(self, descriptor: int, /) -> None:
        """Close it."""

    def replace(self, source: Path, target: Path, /) -> None:
        """Give a file another's name, in whose place it is then."""
