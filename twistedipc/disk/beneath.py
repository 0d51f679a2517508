"""
Files below a folder whose content is somebody else's: no link on the way is followed. Used by what reads, moves or
packs what a build has made.

A path is checked and then opened, and in between a build's process can put a link in the place of any folder of it. So
each part of a path is opened by itself, from the folder before, and must be what it was said to be.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Beneath:
    """
    A folder, below which others are opened. To be closed. All methods raise OSError; ELOOP or ENOTDIR where a link, or
    anything but a folder, is on the way.
    """

    def __init__(self, folder: Path) -> None:
        self._top = os.open(folder, _FOLDER)
        self._last: tuple[tuple[str, ...], int] | None = None

    def close(self) -> None:
        """Close the folder, and the one that was opened last."""
        self._forget()
        os.close(self._top)

    def folder(self, parts: Sequence[str]) -> int:
        """Return a descriptor of a folder, which is good until the next call."""
        wanted = tuple(parts)
        if not wanted:
            return self._top
        if self._last is None or self._last[0] != wanted:
            descriptor = descend(self._top, wanted)
            self._forget()
            self._last = wanted, descriptor
        return self._last[1]

    def file(self, parts: Sequence[str]) -> int:
        """
        Return a descriptor of a file, to be read; the caller closes it. It may be anything but a folder or a link: see
        what it is before it is read.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(parts[-1], flags, dir_fd=self.folder(parts[:-1]))

    def _forget(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None


def descend(folder: int, parts: Sequence[str], *, make: bool = False) -> int:
    """
    Return a descriptor of the folder to which these names lead; the caller closes it. Raises OSError.

    :param folder: the descriptor from which they lead, which stays open
    :param make: make the folders that aren't there
    """
    descriptor = os.dup(folder)
    try:
        for name in parts:
            if make:
                try:
                    os.mkdir(name, dir_fd=descriptor)
                except FileExistsError:
                    pass
            inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def replace_file(folder: Path, path: str, data: bytes) -> None:
    """
    Put a file in the place of the one at a path below a folder, whole or not at all; it keeps the other's permissions.
    Raises OSError: ELOOP or ENOTDIR where a link is on the way or at its end, EINVAL for what is no file.
    """
    *above, name = path.split("/")
    top = os.open(folder, _FOLDER)
    try:
        place = descend(top, above)
    finally:
        os.close(top)
    try:
        before = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
        status = os.fstat(before)
        os.close(before)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it isn't a file")
        new = f".{name}.{os.getpid()}.new"
        try:
            made = os.open(
                new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=place
            )
            with open(made, "wb") as file:
                file.write(data)
                os.fchmod(made, stat.S_IMODE(status.st_mode))
            os.replace(new, name, src_dir_fd=place, dst_dir_fd=place)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=place)
            raise
    finally:
        os.close(place)
