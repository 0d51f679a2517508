"""
Sealed chunks outside of the database: what an archive of them promises, and the one in files, which has a file for each
attempt that grows by a chunk at a time. ``storage`` layer; the one in S3 is ``log_objects``.

::

    FOLDER/archive                         the mark: which archive this is
    FOLDER/000012/12345-1.log              chunks of attempt 1 of build 12345, one behind the other

The ledger says where in the file each chunk begins (``sealed_chunks.place``), and what it doesn't say isn't there: a
chunk is on disk before the transaction that names it. What a kill has left behind the last one is written over by the
next, and a file that nothing names is removed (`LogArchive.attempts`, `LogArchive.remove`).

The ledger knows the mark, too (`sealed_logs.archive_mark`). So an empty place to mount the archive at, or a disk with
another one, is told from the archive whose files are gone: nothing is written there, and no log is called damaged.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

import msgspec

from twistedipc.disk.calls import DiskCalls
from twistedipc.disk.files import sync_folder, write_file
from twistedipc.sealed.chunk import Damaged
from twistedipc.storage.columns import split_attempt

_MARK = "archive"
#: The name of a part of an archive, and that of an attempt in it.
PART = re.compile(r"[0-9]{6,}")
NAME = re.compile(r"[1-9][0-9]*-[1-9][0-9]*")

#: How many builds have a folder together.
_TOGETHER = 1000


def part_of(attempt: str) -> str:
    """Return the part of an archive in which an attempt's chunks are."""
    return f"{split_attempt(attempt)[0] // _TOGETHER:06d}"


class NotHere(OSError):
    """The archive isn't where it was: its disk isn't mounted, or another one is; or it doesn't answer."""


class Kind(IntEnum):
    """The kinds of archives; each has its row in the ledger's table ``log_archive``, by this number."""

    FILES = 1
    OBJECTS = 2  # in S3

    @classmethod
    def of(cls, place: int) -> Kind:
        """
        Return in which kind of archive a chunk is, by its place. There is no column for that: SQLite reads a row up to
        what is wanted, and a new column would be behind the chunk itself.
        """
        return cls.FILES if place >= 0 else cls.OBJECTS


class Reads(Protocol):
    """What readers need of an archive."""

    def check(self, mark: str) -> None:
        """Raise `NotHere` unless the archive with this mark is here, and OSError if it can't be read now."""

    def get(self, attempt: str, place: int, size: int) -> bytes:
        """
        Return what was put there. Raises `Damaged` if it is gone, as it also seems to be while the archive isn't here:
        see `check`. Raises OSError if it can't be read now.
        """


class NotFetched(Exception):
    """
    What is to be read isn't on this machine: fetch what is ``wanted``, and read again. A reader of the ledger has one
    of few threads, and holds a state of the database: it must not wait for another machine.
    """

    def __init__(self, *wanted: Wanted) -> None:
        super().__init__("chunks aren't here")
        self.wanted = wanted


class Chunk(msgspec.Struct, frozen=True):
    """A chunk that is to be fetched: see `Reads.get`."""

    attempt: str
    place: int
    size: int


class Check(msgspec.Struct, frozen=True):
    """Whether the archive with this mark is there: see `Reads.check`."""

    mark: str


Wanted = Chunk | Check


class Archive(Reads, Protocol):
    """Where chunks are that aren't in the database."""

    def begin(self, id: str) -> str:
        """
        Return the mark of the archive that is here; if there is none, an empty one is made, durably, whose mark holds
        this id: a random one, which the ledger knows already, so that it finds its own after a kill. For a ledger that
        has no archive yet: any other uses `check`. Raises OSError, and `NotHere` if what is here is another ledger's.
        """

    def put(self, attempt: str, end: int, data: bytes) -> int:
        """
        Write a chunk of the attempt, and return its place, by which the ledger names it afterwards. It is durable, and
        was read again, when this returns. Raises `NotHere`, OSError.

        :param end: where what the ledger names of the attempt ends, of an archive in which chunks are one behind the
            other: what is there is nobody's
        """

    def remove(self, attempt: str, before: float = math.inf) -> None:
        """
        Remove all that is kept of the attempt, if there is something, and was put there before (seconds since the
        epoch). Raises OSError.
        """

    def parts(self) -> list[str]:
        """Return the names of the parts of the archive, each with what is kept of some builds. Raises OSError."""

    def attempts(self, part: str, before: float = math.inf) -> list[str]:
        """
        Return the attempts of which something is kept in a part, and nothing was put there since ``before`` (seconds
        since the epoch). Raises OSError.
        """


@dataclass(frozen=True)
class Archives:
    """The archives that there are, for readers: see `Kind`."""

    files: Reads | None = None
    objects: Reads | None = None

    def of(self, kind: Kind) -> Reads | None:
        """Return the archive of this kind; None: there is none here."""
        return self.files if kind is Kind.FILES else self.objects


class _Mark(msgspec.Struct, frozen=True):
    """What is in the file that marks the archive. Its text is the mark."""

    sealed_logs_of_twistedipc: str


class LogArchive:
    """An `Archive` in a folder, which is made before the first chunk."""

    def __init__(self, folder: Path, disk: DiskCalls = os) -> None:
        self._folder = folder
        self._disk = disk

    def begin(self, id: str) -> str:
        """See `Archive.begin`. An archive that is here already is taken for the ledger's own."""
        path = self._folder / _MARK
        if not path.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(path, _Mark(id), mode=0o600, disk=self._disk)
            sync_folder(self._folder.parent, disk=self._disk)
        return path.read_text().strip()

    def check(self, mark: str) -> None:
        """See `Archive.check`."""
        try:
            here = (self._folder / _MARK).read_text(errors="replace").strip()
        except FileNotFoundError:
            raise NotHere(f"the archive of logs isn't at {self._folder}: is it mounted?") from None
        if here != mark:
            raise NotHere(f"the archive of logs at {self._folder} is another one than the ledger's: is it mounted?")

    def put(self, attempt: str, end: int, data: bytes) -> int:
        """See `Archive.put`."""
        path = self._path(attempt)
        new = not path.exists()
        if new:
            self._make_folder(path.parent)
        descriptor = self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # A file that has lost its end is filled with zeros up to there: what was lost is damaged, and nothing else.
            self._disk.ftruncate(descriptor, end)
            self._disk.lseek(descriptor, end, os.SEEK_SET)
            rest = memoryview(data)
            while rest:
                rest = rest[self._disk.write(descriptor, rest) :]
            self._disk.fsync(descriptor)
            if self._read(descriptor, end, len(data)) != data:
                raise OSError(f"{path} has something else at {end} than what was written there")
        finally:
            self._disk.close(descriptor)
        if new:
            sync_folder(path.parent, disk=self._disk)
        return end

    def get(self, attempt: str, place: int, size: int) -> bytes:
        """See `Archive.get`."""
        path = self._path(attempt)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Damaged("its file is gone") from None
        try:
            return self._read(descriptor, place, size)
        finally:
            os.close(descriptor)

    def remove(self, attempt: str, before: float = math.inf) -> None:
        """See `Archive.remove`."""
        path = self._path(attempt)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()

    def parts(self) -> list[str]:
        """See `Archive.parts`."""
        with os.scandir(self._folder) as folders:
            # Others, such as a file system's lost+found, aren't ours and maybe not to be read.
            return sorted(folder.name for folder in folders if PART.fullmatch(folder.name))

    def attempts(self, part: str, before: float = math.inf) -> list[str]:
        """See `Archive.attempts`."""
        found: list[str] = []
        with os.scandir(self._folder / part) as files:
            for file in files:
                name, _, kind = file.name.partition(".")
                if kind == "log" and NAME.fullmatch(name) and file.stat(follow_symlinks=False).st_mtime < before:
                    found.append(name)
        return found

    def _path(self, attempt: str) -> Path:
        return self._folder / part_of(attempt) / f"{attempt}.log"

    def _read(self, descriptor: int, place: int, size: int) -> bytes:
        """Return so many bytes of a file from a place on; fewer, if it ends before."""
        found = bytearray()
        # A file system may give less than it was asked for, though there is more.
        while len(found) < size and (some := self._disk.pread(descriptor, size - len(found), place + len(found))):
            found += some
        return bytes(found)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder of the archive, durably. The archive's own is never made here: see `begin`."""
        if not (self._folder / _MARK).exists():
            raise NotHere(f"the archive of logs isn't at {self._folder}: is it mounted?")
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self._folder, disk=self._disk)
