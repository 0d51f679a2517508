"""
The journal: an attempt's log on disk, which is also the spool between runner and builder.

`Journal` writes (the runner), `JournalReader` follows it (the builder, while the runner may still be writing), `scan`
counts and digests all of it, `repair` cuts off what a killed runner left half-written. The format is
``builds.attempt.journal_line``: one batch a line, in segments named by their first record's number.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from twistedipc.builds.attempt import (
    PASSING_ERRORS,
    SEGMENT_DIGITS,
    BadJournalLine,
    journal_line,
    parse_journal_line,
    segment_name,
    sync_folder,
)
from twistedipc.builds.logs import Lines, LogDigest, trim, valid_shape
from twistedipc.runner.sha256 import sha256

JOURNAL = "journal"
SEGMENT_BYTES = 16 * 1024 * 1024

# No journal line is nearly this long (a batch has at most 64 KiB of output): without a newline it is damage.
_LONGEST = 4 * 1024 * 1024
_BLOCK = 256 * 1024


class JournalExists(Exception):
    """There is a journal already: another runner has been here, and an attempt starts once."""


class Journal:
    """
    The writer. While the disk takes nothing, `blocked` says so, what was appended waits in memory, and whoever
    appends must stop reading output (which bounds what waits) and call `retry` now and then.
    """

    def __init__(self, folder: Path, ring: Callable[[], None], *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder / JOURNAL
        self._folder.mkdir(exist_ok=True)
        if any(self._folder.iterdir()):
            raise JournalExists(f"{self._folder} isn't empty")
        self._ring = ring
        self._segment_bytes = segment_bytes
        self._descriptor = -1
        self._offset = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._unsynced = False
        self._digest = LogDigest(sha256())
        #: why the disk takes nothing now; "" if it does
        self.blocked = ""

    @property
    def count(self) -> int:
        """How many records were appended."""
        return self._digest.count

    def hexdigest(self) -> str:
        """The `LogDigest` of what was appended."""
        return self._digest.hexdigest()

    def append(self, batch: Lines) -> None:
        """Append a batch, and ring; or keep it for `retry`. Raises OSError if the disk fails in a way to stay."""
        if batch.first != self.count + 1:
            raise ValueError(f"record {batch.first} can't follow {self.count}")
        self._digest.add(batch)
        self._waiting.append((batch.first, journal_line(batch)))
        if not self.blocked:
            self.retry()

    def retry(self) -> bool:
        """Write what waits: whether all of it is written now."""
        try:
            while self._waiting:
                first, line = self._waiting[0]
                self._write(first, line)
                self._waiting.popleft()
                self._ring()
        except OSError as error:
            if error.errno not in PASSING_ERRORS:
                raise
            self.blocked = os.strerror(error.errno)
            return False
        self.blocked = ""
        return True

    def sync(self) -> bool:
        """Make what was appended durable: whether it is."""
        if self._waiting:
            return False
        if self._unsynced:
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                if error.errno not in PASSING_ERRORS:
                    raise
                return False
            self._unsynced = False
        return True

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, first: int, line: bytes) -> None:
        if self._descriptor < 0 or self._offset >= self._segment_bytes:
            self._open_segment(first)
        written = 0
        try:
            # One write, unless the disk ends in the middle of it: the second then says why.
            while written < len(line):
                written += os.write(self._descriptor, line[written:] if written else line)
        except OSError:
            if written:
                os.ftruncate(self._descriptor, self._offset)
                os.lseek(self._descriptor, self._offset, os.SEEK_SET)
            raise
        self._offset += written
        self._unsynced = True

    def _open_segment(self, first: int) -> None:
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)
        path = self._folder / segment_name(first)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor = descriptor
        self._offset = 0


class JournalDamage(Exception):
    """The journal can't be read on: the records from ``first_missing`` on are missing or changed."""

    def __init__(self, first_missing: int, path: Path, reason: str) -> None:
        super().__init__(f"record {first_missing} can't be read from {path.name}: {reason}")
        self.first_missing = first_missing
        self.path = path
        self.reason = reason


class _Position:
    """A place in a journal: before a line of a segment."""

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.offset = 0
        #: the number of the record that is next here
        self.record = first


class JournalReader:
    """
    Reads the batches of the journal in an attempt's folder, in order, as far as they are there. Made for following a
    journal that is being written: a line that isn't whole is just not there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / JOURNAL
        self._descriptor = -1
        self._at: _Position | None = None
        #: the number after the last record that was returned
        self.next = 1

    def seek(self, next: int) -> None:
        """Go on with record ``next``. If it isn't there (yet), reading returns nothing until it is."""
        if next < 1:
            raise ValueError("records are numbered from 1")
        at = self._at
        if at is None or next < at.record:
            self.close()
        self.next = next

    def read(self, limit_bytes: int = _BLOCK) -> list[tuple[Lines, int]]:
        """
        The next batches, each with the bytes of its JSON: about ``limit_bytes`` of them, at least one if there is one.
        Nothing: there is no more now. Raises `JournalDamage` where the journal can't be read on, after what is good
        before it has been returned.
        """
        while True:
            found, going_on = self._read_block(limit_bytes)
            if found or not going_on:
                return found

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._at = None

    @property
    def position(self) -> tuple[Path, int] | None:
        """The segment that is being read, and the offset in it up to which all is good; None before the first."""
        return (self._at.path, self._at.offset) if self._at else None

    def _read_block(self, limit: int) -> tuple[list[tuple[Lines, int]], bool]:
        """Batches from the next block, without those before `next`; and whether there may be more behind them."""
        at = self._at or self._open_at(self.next)
        if at is None:
            return [], False
        block = self._whole_lines(at, limit)
        if not block:
            later = [path for first, path in segments(self._folder) if first >= at.record and path != at.path]
            if not later:
                return [], False
            # A segment's file appears only after the one before it was written to its end: but when that one was
            # looked at, its end may not have been there.
            block = self._whole_lines(at, limit)
            if not block:
                torn = os.fstat(self._descriptor).st_size > at.offset
                if torn or later[0].name != segment_name(at.record):
                    raise JournalDamage(at.record, at.path, "a segment is cut short")
                self._open(later[0])
                return [], True
        found: list[tuple[Lines, int]] = []
        for line in block.split(b"\n"):
            try:
                batch = parse_journal_line(line)
                if batch.first != at.record or not valid_shape(batch):
                    raise BadJournalLine(f"record {batch.first} is there instead")
            except BadJournalLine as error:
                if found:
                    break
                raise JournalDamage(at.record, at.path, str(error)) from error
            at.offset += len(line) + 1
            at.record = batch.end
            rest = trim(batch, self.next)
            if rest is not None:
                found.append((rest, len(line) - 9))
                self.next = batch.end
        return found, True

    def _whole_lines(self, at: _Position, limit: int) -> bytes:
        """Whole lines from the place on, without the last newline; empty if there is none."""
        size = max(limit, 4096)
        while True:
            block = os.pread(self._descriptor, size, at.offset)
            # A line that is longer than the limit comes alone: with others behind it, it may not fit into a frame.
            end = block.rfind(b"\n") if size <= max(limit, 4096) else block.find(b"\n")
            if end >= 0:
                return block[:end]
            if len(block) < size:
                return b""
            if size > _LONGEST:
                raise JournalDamage(at.record, at.path, "a line without an end")
            size *= 4

    def _open_at(self, record: int) -> _Position | None:
        """Open the segment that has the record, or would have it; None if there is no journal yet."""
        found = segments(self._folder)
        before = [path for first, path in found if first <= record]
        if found and not before:
            raise JournalDamage(record, found[0][1], "the segments before this one are missing")
        return self._open(before[-1]) if before else None

    def _open(self, path: Path) -> _Position:
        self.close()
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._at = _Position(path, int(path.stem))
        return self._at


def segments(folder: Path) -> list[tuple[int, Path]]:
    """The segments in a ``journal`` folder, in order, each with its first record's number."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [
        (int(name[:SEGMENT_DIGITS]), folder / name)
        for name in names
        if name.endswith(".log") and len(name) == SEGMENT_DIGITS + 4 and name[:SEGMENT_DIGITS].isdecimal()
    ]


def scan(folder: Path) -> tuple[int, str]:
    """
    How many records can be read from the journal in an attempt's folder, and their `LogDigest`. Where there is damage,
    it ends before it.
    """
    digest, _damage, _position = _scan(folder)
    return digest.count, digest.hexdigest()


def _scan(folder: Path) -> tuple[LogDigest, str, tuple[Path, int] | None]:
    """The digest of what can be read, why no more (""), and the segment and offset where that ends."""
    reader = JournalReader(folder)
    digest = LogDigest()
    damage = ""
    try:
        while batches := reader.read():
            for batch, _size in batches:
                digest.add(batch)
    except JournalDamage as error:
        damage = error.reason
    position = reader.position
    reader.close()
    return digest, damage, position


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What `repair` left: a journal that reads well to its end."""

    lines: int  # how many records it has
    sha256: str  # their `LogDigest`
    cut: int  # bytes that were cut off
    reason: str = ""  # why, if anything was


def repair(folder: Path) -> Repaired:
    """
    Cut the journal of a dead runner back to its last good line. Mostly that is nothing, or one line that was being
    written; but where there is damage in the middle, what comes after it has lost its place and is cut off too.
    Idempotent. Only for a journal whose runner is dead.
    """
    digest, reason, position = _scan(folder)
    cut = 0
    behind = False
    for _first, path in segments(folder / JOURNAL):
        if behind or position is None:
            cut += path.stat().st_size
            path.unlink()
        elif path == position[0]:
            behind = True
            good = position[1]
            torn = path.stat().st_size - good
            if torn:
                cut += torn
                with path.open("r+b") as file:
                    file.truncate(good)
                    os.fsync(file.fileno())
    if cut:
        sync_folder(folder / JOURNAL)
        reason = reason or "the last line was cut short"
    return Repaired(lines=digest.count, sha256=digest.hexdigest(), cut=cut, reason=reason)
