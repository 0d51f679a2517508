"""The files of a project, wherever they are: a working copy, a folder, a git repository, a dictionary of a test's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

#: The most bytes of a file that are read. A file that has more can't be read.
MAX_FILE = 1024 * 1024


class TooLarge(Exception):
    """A file has more than `MAX_FILE` bytes. ``str()`` of the exception is a sentence that names it."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} has more than {MAX_FILE} bytes")


class Tree(Protocol):
    """
    The files of a project. Paths are relative to the top of its repository, with /, and never lead out of it; "" is the
    top itself.
    """

    def read(self, path: str) -> bytes | None:
        """Return what the file holds; None if there is no such file. Raises `TooLarge`."""
        ...

    def names(self, folder: str) -> Collection[str]:
        """Return the names of the files and folders in this folder; none if there is no such folder."""
        ...


class TreeInMemory:
    """A tree whose files are given."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = dict(files)
        self._names: dict[str, set[str]] = {}
        for path in files:
            parts = path.split("/")
            for depth, name in enumerate(parts):
                self._names.setdefault("/".join(parts[:depth]), set()).add(name)

    def read(self, path: str) -> bytes | None:
        """Return what was given for this path."""
        found = self._files.get(path)
        if found is not None and len(found) > MAX_FILE:
            raise TooLarge(path)
        return found

    def names(self, folder: str) -> Collection[str]:
        """Return what is in this folder."""
        return self._names.get(folder, ())
