"""
What builds made: the archives on disk, named by their SHA-256, and the rows that say whose they are. The store is
used by ``web`` (uploads) and ``server`` (releases), the functions by `Ledger.read` and `Ledger.write`; ``storage``
layer.

::

    FOLDER/partial/ATTEMPT     an upload under way; its size is the offset at which it goes on. Of a package that the
                               apiserver publishes: ATTEMPT.TARGET.POSITION
    FOLDER/complete/AB/ABC…    an archive, verified, in a folder by its first two digits
    FOLDER/removed/ABC…        one that nothing needs any more, until it is deleted
    FOLDER/kept-since          there if the ledger was older than the archives once: since when what it doesn't
                               name is kept
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from twistedipc.builds import names
from twistedipc.disk.files import read_file, sync_folder, write_file
from twistedipc.storage.columns import attempt_name, split_attempt
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.rows import ArtifactRow
from twistedipc.storage.tables import artifacts, attempts, builds, projects

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")

_PART = re.compile(r"\.[a-z0-9-]{1,100}\.[0-9]{1,4}\Z")

#: The most bytes of one archive.
MAX_BYTES = 2 << 30

_READ_BYTES = 1 << 20

#: The file that says since when all is kept.
KEPT_SINCE = "kept-since"

#: By so many seconds a file is newer than what the ledger knows before the ledger is called an older one: a file comes
#: before its row, and a crash may come between them.
NEWER = 3600.0


class WrongOffset(Exception):
    """The upload must go on at another byte: ``have``."""

    def __init__(self, have: int) -> None:
        super().__init__(f"the upload goes on at byte {have}")
        self.have = have


class TooLarge(Exception):
    """The archive has more bytes than an archive may have."""


class WrongContent(Exception):
    """What was uploaded isn't what was announced. It has been deleted, so that it can be uploaded again."""


class _KeptSince(msgspec.Struct, frozen=True):
    """What is in `KEPT_SINCE`."""

    seconds: float  # since the epoch


class ArtifactStore:
    """
    The archives in ``folder``. All methods do disk work at once: `append` a little, `complete` as much as the
    archive is long, so that it belongs in a thread. OSError (a full disk, say) goes to the caller, and what was
    there before is still right.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._partial = folder / "partial"
        self._complete = folder / "complete"
        self._removed = folder / "removed"
        self._kept_since = folder / KEPT_SINCE
        self.max_bytes = max_bytes
        for each in (self._partial, self._complete, self._removed):
            each.mkdir(parents=True, exist_ok=True)

    def partial(self, upload: str) -> Path:
        """Return where an upload is while it is under way. Raises `names.BadValue`."""
        attempt = names.attempt(attempt_of(upload))
        if upload != attempt and not _PART.match(upload[len(attempt) :]):
            raise names.BadValue(f"there is no upload {upload[:100]}")
        return self._partial / upload

    def path(self, sha256: str) -> Path:
        """Return the path of the archive, if there is one. Raises `names.BadValue`."""
        if not _SHA256.match(sha256):
            raise names.BadValue("a SHA-256 has 64 hexadecimal digits, in lower case")
        return self._complete / sha256[:2] / sha256

    def check(self, size: int, sha256: str) -> None:
        """Raise `names.BadValue` unless an archive of this size and SHA-256 can be taken."""
        self.path(sha256)
        if not 0 < size <= self.max_bytes:
            raise names.BadValue(f"an archive has 1 to {self.max_bytes} bytes, not {size}")

    def offset(self, upload: str) -> int:
        """Return how many bytes of the upload there are."""
        try:
            return self.partial(upload).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, upload: str, offset: int, data: bytes) -> int:
        """
        Add ``data`` at ``offset``, which must be where the upload goes on; the new offset. Raises `WrongOffset`,
        `TooLarge`. Not durable yet: after a crash `offset` may tell less.
        """
        if offset + len(data) > self.max_bytes:
            raise TooLarge(f"an archive can have at most {self.max_bytes} bytes")
        with _locked(self.partial(upload), create=True) as descriptor:
            have = os.fstat(descriptor).st_size
            if have != offset:
                raise WrongOffset(have)
            left = memoryview(data)
            try:
                while left:
                    left = left[os.pwrite(descriptor, left, offset + len(data) - len(left)) :]
            except OSError:
                os.ftruncate(descriptor, offset)
                raise
        return offset + len(data)

    def complete(self, upload: str, size: int, sha256: str, integrity: str = "") -> Path:
        """
        Verify the upload, reading all of it, and put it durably where `path` says. Raises `WrongOffset` if bytes
        are missing, `WrongContent`: also if the archive is there already. Who knows its SHA-256 needn't have it.

        :param integrity: its SHA-512, as npm has it; "": it isn't known
        """
        target = self.path(sha256)
        partial = self.partial(upload)
        try:
            with _locked(partial) as descriptor:
                have = os.fstat(descriptor).st_size
                if have < size:
                    raise WrongOffset(have)
                if have > size or not _is(descriptor, sha256, integrity):
                    os.unlink(partial)
                    raise WrongContent("the archive that was uploaded hasn't the size and SHA-256 that were announced")
                os.fsync(descriptor)
                if not target.parent.exists():
                    target.parent.mkdir(exist_ok=True)
                    sync_folder(self._complete)
                os.replace(partial, target)
                sync_folder(target.parent)
        except FileNotFoundError as error:
            raise WrongOffset(0) from error
        return target

    def discard(self, upload: str) -> None:
        """Delete the upload, if it is under way."""
        self.partial(upload).unlink(missing_ok=True)

    def set_aside(self, sha256: str) -> None:
        """
        Take what is under this name out of the store, if it is there: at once, however large it is. The caller knows
        that nothing needs it. `delete_set_aside` gives its room back.
        """
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path(sha256), self._removed / sha256)

    def delete_set_aside(self) -> None:
        """Delete what was taken out of the store. That takes its time."""
        for entry in list(os.scandir(self._removed)):
            Path(entry).unlink(missing_ok=True)

    def size(self, sha256: str) -> int:
        """Return how many bytes what is in the store under this name has; 0 if it isn't there."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def note_newer(self, known: float) -> bool:
        """
        Find out whether the store has what is newer than all that the ledger knows, as it has after the ledger was
        restored from a copy: then nothing is called unknown any more that came since then. Whether that is new.

        :param known: when the newest came that the ledger knows, in seconds since the epoch
        """
        since = known + NEWER
        if self.kept_since() <= since or self._newest(since) <= since:
            return False
        write_file(self._kept_since, _KeptSince(since))
        return True

    def kept_since(self) -> float:
        """Return since when all is kept, in seconds since the epoch; infinite: nothing is, because of that."""
        try:
            found = read_file(self._kept_since, _KeptSince)
        except msgspec.DecodeError:
            return 0.0  # that it is there says enough
        return math.inf if found is None else found.seconds

    def _newest(self, since: float) -> float:
        """Return when the newest file came, if that was after ``since``; else 0 or an earlier time."""
        newest = 0.0
        for folder in os.scandir(self._complete):
            if folder.stat().st_mtime > since:
                newest = max([newest, *(entry.stat().st_mtime for entry in os.scandir(folder))])
        return newest

    def older_than(self, digits: str, seconds: float) -> list[str]:
        """
        Return the names of what is in the store, of those that begin with these two ``digits``, and was put there
        before a time, in seconds since the epoch; and before `kept_since`.
        """
        seconds = min(seconds, self.kept_since())
        try:
            entries = list(os.scandir(self._complete / digits))
        except FileNotFoundError:
            return []
        return sorted(entry.name for entry in entries if _SHA256.match(entry.name) and _is_older(entry, seconds))

    def under_way(self) -> list[str]:
        """The uploads that aren't finished: at a start, those that will never go on are to go."""
        return sorted(entry.name for entry in self._partial.iterdir())


def _is_older(entry: os.DirEntry[str], seconds: float) -> bool:
    try:
        return entry.stat().st_mtime < seconds
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _locked(path: Path, *, create: bool = False) -> Iterator[int]:
    """The file, open, by one thread or process at a time: two uploads of one attempt must not mix."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def attempt_of(upload: str) -> str:
    """Return the attempt to which an upload of this name belongs."""
    return upload.partition(".")[0]


def _is(descriptor: int, sha256: str, integrity: str) -> bool:
    """Return whether a file has these hashes; ``integrity`` may be empty."""
    short, long = hashlib.sha256(), hashlib.sha512()
    offset = 0
    while block := os.pread(descriptor, _READ_BYTES, offset):
        short.update(block)
        if integrity:
            long.update(block)
        offset += len(block)
    found = "sha512-" + base64.b64encode(long.digest()).decode()
    return short.hexdigest() == sha256 and integrity in ("", found)


# -- the rows --------------------------------------------------------------------------------------------------------


def begin(connection: Connection, attempt: str, size: int, sha256: str, now: int) -> ArtifactRow:
    """
    Note that an archive of this size and SHA-256 will be uploaded for the attempt; asked again, the same row. It is
    complete already if another attempt of the same project has uploaded it. Raises `NotFound`, and `NotPossible` if the
    attempt had announced another one.
    """
    row = get(connection, attempt)
    if row is None:
        build, number = split_attempt(attempt)
        which = (attempts.c.build_id == build) & (attempts.c.number == number)
        if connection.execute(select(attempts.c.state).where(which)).first() is None:
            raise NotFound(f"there is no attempt {attempt}")
        there = _has_uploaded(connection, build, size, sha256)
        connection.execute(
            insert(artifacts).values(
                build_id=build, number=number, size=size, sha256=sha256, complete=there, created=now
            )
        )
        return _existing(connection, attempt)
    if (row.size, row.sha256) != (size, sha256):
        raise NotPossible(f"attempt {attempt} has announced another archive before")
    return row


def _has_uploaded(connection: Connection, build: int, size: int, sha256: str) -> bool:
    """Return whether an attempt of the build's project has uploaded this archive."""
    project = select(builds.c.project_id).where(builds.c.id == build).scalar_subquery()
    found = connection.execute(
        select(artifacts.c.build_id)
        .join(builds, builds.c.id == artifacts.c.build_id)
        .where(builds.c.project_id == project, artifacts.c.sha256 == sha256, artifacts.c.size == size)
        .where(artifacts.c.complete)
        .limit(1)
    )
    return found.first() is not None


def mark_complete(connection: Connection, attempt: str, sha256: str) -> ArtifactRow:
    """Note that the archive is in the store, verified. Raises `NotFound` unless it was announced."""
    build, number = split_attempt(attempt)
    changed = connection.execute(
        update(artifacts)
        .where(artifacts.c.build_id == build, artifacts.c.number == number, artifacts.c.sha256 == sha256)
        .values(complete=True)
    )
    if not changed.rowcount:
        raise NotFound(f"attempt {attempt} has announced no such archive")
    return _existing(connection, attempt)


def get(connection: Connection, attempt: str) -> ArtifactRow | None:
    """Return the attempt's archive."""
    build, number = split_attempt(attempt)
    found = connection.execute(
        select(artifacts, projects.c.name.label("project"))
        .join(builds, builds.c.id == artifacts.c.build_id)
        .join(projects, projects.c.id == builds.c.project_id)
        .where(artifacts.c.build_id == build, artifacts.c.number == number)
    ).first()
    return None if found is None else _row(found)


def sizes(connection: Connection, build: int) -> dict[int, int]:
    """Return the sizes of the archives that a build's attempts have uploaded, in bytes, by the attempt's number."""
    query = select(artifacts.c.number, artifacts.c.size).where(artifacts.c.build_id == build, artifacts.c.complete)
    return {row.number: row.size for row in connection.execute(query)}


def _existing(connection: Connection, attempt: str) -> ArtifactRow:
    row = get(connection, attempt)
    if row is None:
        raise NotFound(f"attempt {attempt} has announced no archive")
    return row


def _row(row: Row[Any]) -> ArtifactRow:
    return ArtifactRow(
        attempt=attempt_name(row.build_id, row.number),
        project=row.project,
        size=row.size,
        sha256=row.sha256,
        complete=row.complete,
        created=row.created,
    )
