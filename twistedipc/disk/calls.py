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
        """Open a file. Return its descriptor."""

    def pread(self, descriptor: int, length: int, position: int, /) -> bytes:
        """Return so many bytes from this place of the file on; at its end, or if the disk likes to, fewer."""

    def write(self, descriptor: int, data: bytes | memoryview, /) -> int:
        """Write to the file. Return how many bytes the disk took."""

    def fsync(self, descriptor: int, /) -> None:
        """Make the file durable: its contents, and what the file system knows of it."""

    def fdatasync(self, descriptor: int, /) -> None:
        """Make the file's contents durable."""

    def ftruncate(self, descriptor: int, length: int, /) -> None:
        """Cut the file to this length."""

    def lseek(self, descriptor: int, position: int, whence: int, /) -> int:
        """Read and write from this place of the file on."""

    def close(self, descriptor: int, /) -> None:
        """Close the file."""

    def replace(self, source: Path, target: Path, /) -> None:
        """Give a file the name of another, which it replaces."""
