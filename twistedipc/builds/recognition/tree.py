"""The files of a project, wherever they are: a working copy, a folder, a git repository, a dictionary of a test's."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

#: The most bytes of a file that are read. A file that has more can't be read; its head can.
MAX_FILE = 1024 * 1024
HEAD = 4096


class CantRead(Exception):
    """There is something at a path, and it can't be read. ``str()`` of the exception is a sentence that names it."""


class Tree(Protocol):
    """
    The files of a project. Paths are relative to the top of its repository, with /, and never lead out of it; "" is the
    top itself.
    """

    def read(self, path: str) -> bytes | None:
        """Return what the file holds; None if there is no such file. Raises `CantRead`, above `MAX_FILE` bytes too."""
        ...

    def head(self, path: str) -> bytes:
        """Return the first bytes of a file, `HEAD` at most; none if it can't be read. No more of it is read."""
        ...

    def names(self, folder: str) -> Collection[str]:
        """Return the names of the files and folders in this folder; none if there is no such folder."""
        ...
