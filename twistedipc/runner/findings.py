"""
What a step of the platform's own has found: the runner takes it from the step's folder ``out`` when the step's
processes are gone, and believes no more of it than what is checked here. Used by ``course`` and ``checking_out``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeVar

import msgspec

from twistedipc.attempts.folder import OUT
from twistedipc.disk.files import remove_tree

#: The most bytes of a file that is read.
MAX_READ = 64 << 20

_T = TypeVar("_T")


class BadFinding(Exception):
    """A step has left something that isn't what it should be. ``str()`` of the exception says what."""


class Findings:
    """
    The folder ``out`` of one attempt. In it is also the home of steps that are to see nothing of the build's.

    :param folder: the attempt's
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._out = folder / OUT

    @property
    def home(self) -> Path:
        """A home for the step that runs next."""
        return self._out / "home"

    @property
    def temporary(self) -> Path:
        """A folder for temporary files of the step that runs next."""
        return self._out / "tmp"

    def clear(self) -> None:
        """Make the folder, empty. Raises OSError."""
        remove_tree(self._out)
        for path in (self._out, self.home, self.temporary):
            path.mkdir(mode=0o700)

    def read(self, name: str, kind: type[_T]) -> _T | None:
        """Return what is in a file; None if there is none. Raises `BadFinding`."""
        try:
            descriptor = os.open(self._out / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadFinding(f"{name}, which a step has left, can't be read: {error.strerror}") from error
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not _is_plain(status) or status.st_size > MAX_READ:
                raise BadFinding(f"{name}, which a step has left, isn't a plain file of at most {MAX_READ} bytes")
            data = file.read(MAX_READ)
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadFinding(f"{name}, which a step has left, can't be understood: {error}") from error

    def keep(self, *names: str) -> None:
        """
        Move these files and folders into the attempt's folder, those that are there. Raises `BadFinding`, or OSError
        of the disk.
        """
        for name in names:
            try:
                status = os.lstat(self._out / name)
            except FileNotFoundError:
                continue
            if not (_is_plain(status) or stat.S_ISDIR(status.st_mode)):
                raise BadFinding(f"{name}, which a step has left, isn't a plain file or a folder")
            if os.path.lexists(self._folder / name):
                raise BadFinding(f"{name}, which a step has left, has the name of something else")
            os.rename(self._out / name, self._folder / name)


def _is_plain(status: os.stat_result) -> bool:
    """Return whether something is a file of ours, under no other name."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
