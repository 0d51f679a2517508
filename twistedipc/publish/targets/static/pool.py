"""
The contents of a project's releases, each once, whatever number of releases and paths has it. ``publish`` layer; used
by ``releases``.

::

    FOLDER/ab/abc…      a content, under its SHA-256 in hexadecimal digits: whole, or not there
    FOLDER/.new/abc…    one that is being added, by a release; .made: one that was made of another

A content is never changed, so a file that is open stays what it was, also when it is removed from here.

What is there isn't added again, and a power cut must not take it from a release that counts on it. A content is durable
if neither ``.new`` nor ``.made`` is there: the folder is there until all is durable that was in it, also when the disk
fails or the process is killed in the middle. The next one to add syncs the whole file system then.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twistedipc.disk.calls import DiskCalls
from twistedipc.disk.files import sync_file_system, sync_folder

_NEW = ".new"

#: Where contents are added that are made of others, which goes on beside all else.
MADE = ".made"

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")

#: Up to so many new contents are made durable one by one. For more, one call for the file system costs less; but that
#: one waits for what everybody else has written there too.
FEW = 64


class Pool:
    """
    The contents in ``folder``. All methods do disk work at once. One thread at a time may add in each place.

    :param disk: by which contents and folders are made durable, and take their places
    :param sync_all: makes all that was written to a folder's file system durable
    """

    def __init__(
        self, folder: Path, *, disk: DiskCalls = os, sync_all: Callable[[Path], None] = sync_file_system
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._sync_all = sync_all

    def path(self, sha256: str) -> Path:
        """Return where a content is, if it is there."""
        return self._folder / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Return whether there is this content."""
        return self.path(sha256).exists()

    def size(self, sha256: str) -> int | None:
        """Return the bytes of a content; None if there is none."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    @contextmanager
    def adding(self, place: str = _NEW) -> Iterator[Adding]:
        """
        Add contents: they are all there, durably, when the block ends. If it raises, those that are there aren't said
        to be durable. Raises OSError.
        """
        staging = self._folder / place
        if staging.exists():
            self._sync_all(self._folder)
            shutil.rmtree(staging)
        # What is made of others has a pool to be in. If that is gone, the project is, and doesn't come back by this.
        staging.mkdir(parents=place != MADE)
        adding = Adding(self, staging)
        try:
            yield adding
            self._sync_contents(staging, adding.added)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._take_in(staging, adding.added)
        shutil.rmtree(staging, ignore_errors=True)

    def _sync_contents(self, staging: Path, added: list[str]) -> None:
        if len(added) > FEW:
            self._sync_all(staging)
            return
        for sha256 in added:
            descriptor = self._disk.open(staging / sha256, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                self._disk.fsync(descriptor)
            finally:
                self._disk.close(descriptor)

    def _take_in(self, staging: Path, added: list[str]) -> None:
        folders = sorted({self.path(sha256).parent for sha256 in added})
        for folder in folders:
            folder.mkdir(exist_ok=True)
        for sha256 in added:
            self._disk.replace(staging / sha256, self.path(sha256))
        # What was passed over may be of one that adds beside this, or of one that couldn't end.
        alone = not any((self._folder / each).exists() for each in (_NEW, MADE) if each != staging.name)
        if alone and len(added) <= FEW:
            for folder in [*folders, self._folder, self._folder.parent]:
                sync_folder(folder, disk=self._disk)
        else:
            self._sync_all(self._folder)

    def contents(self) -> Iterator[str]:
        """All contents that there are."""
        for folder in _names(self._folder):
            if len(folder) == 2:
                yield from (name for name in _names(self._folder / folder) if _SHA256.match(name))

    def remove(self, contents: Iterable[str]) -> None:
        """Delete these contents, of which no release has any."""
        for sha256 in contents:
            self.path(sha256).unlink(missing_ok=True)


class Adding:
    """Contents that are being added to a pool. What is added twice, or is there already, is passed over."""

    def __init__(self, pool: Pool, staging: Path) -> None:
        self._pool = pool
        self._staging = staging
        self._seen: set[str] = set()
        self.added: list[str] = []

    def write(self, sha256: str, blocks: Iterable[bytes]) -> None:
        """Add a content. The caller knows, at the end of the block at the latest, that this is its SHA-256."""
        if self._is_new(sha256):
            with open(self._staging / sha256, "xb", buffering=0) as file:
                for block in blocks:
                    left = memoryview(block)
                    while left:
                        left = left[file.write(left) :]

    def link(self, sha256: str, file: Path) -> None:
        """Add the content of a file of this file system, which nothing changes any more, without copying it."""
        if self._is_new(sha256):
            os.link(file, self._staging / sha256, follow_symlinks=False)

    def _is_new(self, sha256: str) -> bool:
        if sha256 in self._seen:
            return False
        self._seen.add(sha256)
        if self._pool.has(sha256):
            return False
        self.added.append(sha256)
        return True


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
