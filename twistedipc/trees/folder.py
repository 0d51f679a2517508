"""The files of a project in a folder on disk. They are somebody else's: links that lead out of it are none."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from twistedipc.builds.recognition.tree import HEAD, MAX_FILE, CantRead
from twistedipc.disk.beneath import Beneath


class FolderTree:
    """A `builds.recognition.tree.Tree` of a folder. ``largest``: the most bytes of a file that is read."""

    def __init__(self, folder: Path, largest: int = MAX_FILE) -> None:
        self._folder = os.path.realpath(folder)
        self._largest = largest
        self._names: dict[str, frozenset[str]] = {}
        self._places: dict[str, str | None] = {"": self._folder}

    def read(self, path: str) -> bytes | None:
        """Return what the file holds; None if there is none. Raises `CantRead`."""
        data = self._read(path, self._largest + 1)
        if data is not None and len(data) > self._largest:
            raise CantRead(f"{path} has more than {self._largest} bytes")
        return data

    def head(self, path: str) -> bytes:
        """Return the first bytes of a file."""
        try:
            return self._read(path, HEAD) or b""
        except CantRead:
            return b""

    def names(self, folder: str) -> Collection[str]:
        """Return the names in a folder. They are read once: what is recognised is of one moment."""
        found = self._names.get(folder)
        if found is None:
            found = self._names[folder] = self._listed(folder) if self._is_there(folder) else frozenset()
        return found

    def _listed(self, folder: str) -> frozenset[str]:
        place = self._inside(folder)
        if place is None:
            return frozenset()
        try:
            return frozenset(os.listdir(place))
        except OSError:  # a file, say
            return frozenset()

    def _is_there(self, path: str) -> bool:
        above, _, name = path.rpartition("/")
        return not path or name in self.names(above)

    def _read(self, path: str, size: int) -> bytes | None:
        if not self._is_there(path):
            return None
        place = self._inside(path)
        if place is None:
            raise CantRead(f"{path} is a link that leaves the repository")
        try:
            descriptor = self._open(place)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CantRead(f"{path} can't be read: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CantRead(f"{path} isn't a file")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(size)
        finally:
            os.close(descriptor)

    def _open(self, place: str) -> int:
        """Open a path without links; none is followed that was put there since that was found out."""
        beneath = Beneath(Path(self._folder))
        try:
            return beneath.file(os.path.relpath(place, self._folder).split("/"))
        finally:
            beneath.close()

    def _inside(self, path: str) -> str | None:
        """The path without links; None if it leads out of the folder."""
        if path not in self._places:
            above, _, name = path.rpartition("/")
            place = self._inside(above)
            if place is not None:
                place = f"{place}/{name}"
                if os.path.islink(place):
                    place = os.path.realpath(place)
                    place = place if place.startswith(f"{self._folder}/") or place == self._folder else None
            self._places[path] = place
        return self._places[path]
