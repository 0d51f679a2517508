"""
The journal: an attempt's log on disk, which is also the spool between runner and builder.

`Journal` writes (the runner), `JournalReader` follows it (the builder, while the runner may still be writing), `scan`
counts and digests all of it, `repair` cuts off what a killed runner left half-written. The format is
``builds.attempt.journal_line``: one batch a line, in segments named by their first record's number.

Damage costs what it hit and no more. A line that doesn't verify (its checksum, its shape, its number), a segment that
is missing or short: the reader goes on behind it, at the next line that verifies, and the numbers between are one
`builds.logs.Gap`. Since every line carries its number, nothing is ever renumbered, nor shown twice. What doesn't
verify at the journal's very end may just not be there yet, so it is waited for; once it is known how many records
there are (`JournalReader.ends_at`), it is a gap as well. Read again, the same damage gives the same gaps.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from twistedipc.builds.attempt import (
    JOURNAL_LINE_HEAD,
    PASSING_ERRORS,
    SEGMENT_DIGITS,
    BadJournalLine,
    journal_line,
    parse_journal_line,
    segment_name,
    sync_folder,
)
from twistedipc.builds.logs import MAX_RECORD, Batch, Gap, Lines, LogDigest, encoder, trim, valid_shape
from twistedipc.runner.sha256 import sha256

JOURNAL = "journal"
SEGMENT_BYTES = 16 * 1024 * 1024

# No journal line is nearly this long (a batch has at most 64 KiB of output): without a newline it is damage.
_LONGEST = 2 * 1024 * 1024
_BLOCK = 256 * 1024

# About how many bytes are looked at in one call while nothing is found in them: the caller has others to serve.
_LOOKED_AT = 512 * 1024

# How far a line's beginning is from where `JOURNAL_LINE_HEAD` is found in it.
_CHECKSUM = 8


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


class _Position:
    """A place in a journal: before a line of a segment, or within what is no line."""

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.offset = 0
        #: the number of the record that is due here
        self.record = first
        #: what is wrong with what was found instead, since the last good line; "" if nothing is
        self.damage = ""


class JournalReader:
    """
    Reads the journal in an attempt's folder, in order, as far as it is there. Made for following a journal that is
    being written: a line that isn't whole is just not there yet. What is damaged is passed over, and comes as a `Gap`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / JOURNAL
        self._descriptor = -1
        self._at: _Position | None = None
        self._lines: int | None = None
        #: the number after the last record that was returned
        self.next = 1
        #: whether the last `read` stopped only because it had looked at enough: there is more to look at now
        self.searching = False
        #: the segment of the last good line, and the offset of its end; None if there was none
        self.good: tuple[Path, int] | None = None

    def ends_at(self, lines: int) -> None:
        """Nothing is written to the journal any more, and it has so many records: what can't be read is lost."""
        self._lines = lines

    def seek(self, next: int) -> None:
        """Go on with record ``next``. If it isn't there (yet), reading returns nothing until it is."""
        if next < 1:
            raise ValueError("records are numbered from 1")
        at = self._at
        if at is None or next < at.record:
            self.close()
        self.next = next

    def read(self, limit_bytes: int = _BLOCK) -> list[tuple[Batch, int]]:
        """
        The next batches, each with the bytes of its JSON: about ``limit_bytes`` of them, at least one if there is one.
        Nothing: there is no more now; or, if `searching`, none was found yet. Raises OSError.
        """
        self.searching = False
        looked_at = 0
        while True:
            found, size = self._read_block(limit_bytes)
            if found or not size:
                return found
            looked_at += size
            if looked_at >= _LOOKED_AT:
                self.searching = True
                return []

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._at = None

    def _read_block(self, limit: int) -> tuple[list[tuple[Batch, int]], int]:
        """Batches from the next block, without those before `next`; and how much was looked at, 0 at the end."""
        at = self._at or self._open_at(self.next)
        if at is None:
            return self._rest("there is none"), 0
        block, size = self._whole_lines(at, limit)
        if not size:
            later = [path for _first, path in segments(self._folder) if path.name > at.path.name]
            if later:
                # A segment's file appears only after the one before it was written to its end: but when that one was
                # looked at, its end may not have been there.
                block, size = self._whole_lines(at, limit)
        if size:
            return self._batches(at, block), size
        torn = os.fstat(self._descriptor).st_size > at.offset
        if not later:
            return self._rest(at.damage or ("its last line has no end" if torn else "it is shorter than it was")), 0
        if torn:
            at.damage = at.damage or "a segment is cut short"
        self._go_on(at, later[0])
        return [], 4096

    def _batches(self, at: _Position, block: bytes) -> list[tuple[Batch, int]]:
        """What is new in a block of whole lines; after it, the place is behind the block."""
        found: list[tuple[Batch, int]] = []
        begin = 0
        while begin < len(block):
            end = block.index(b"\n", begin)
            try:
                batch = parse_journal_line(block[begin:end])
                if not valid_shape(batch) or (batch.first > at.record and batch.end > MAX_RECORD):
                    raise BadJournalLine("it isn't a batch")
            except BadJournalLine as error:
                at.damage = at.damage or str(error)
                begin = _next_beginning(block, begin, end)
                continue
            self._take(at, batch, end - begin - _CHECKSUM - 1, found)
            begin = end + 1
            if batch.end == at.record:
                self.good = at.path, at.offset + begin
        at.offset += len(block)
        return found

    def _take(self, at: _Position, batch: Lines, size: int, found: list[tuple[Batch, int]]) -> None:
        """A line that verifies: what is new of it, after the gap before it, if there is one."""
        if batch.end <= at.record:
            return  # it was here before
        if batch.first > at.record:
            self._gap(at.record, batch.first - 1, at.damage or "records are missing", found)
        rest = trim(batch, self.next)
        if rest is not None:
            found.append((rest, size))
            self.next = batch.end
        at.record = batch.end
        at.damage = ""

    def _gap(self, first: int, to: int, why: str, found: list[tuple[Batch, int]]) -> None:
        gap = trim(Gap(first, to, f"the journal is damaged: {why}"), self.next)
        if gap is not None:
            found.append((gap, len(encoder.encode(gap))))
            self.next = gap.end

    def _rest(self, why: str) -> list[tuple[Batch, int]]:
        """At the end of what there is: the gap up to the last record, if that is known."""
        found: list[tuple[Batch, int]] = []
        if self._lines is not None and self.next <= self._lines:
            self._gap(self.next, self._lines, why, found)
            if self._at is not None:
                self._at.record = self.next
        return found

    def _whole_lines(self, at: _Position, limit: int) -> tuple[bytes, int]:
        """
        Whole lines from the place on; empty if there is none. And how much there is: more than 0 and no line is what
        can't be one, and the place is behind it then.
        """
        smallest = size = max(limit, 4096)
        while True:
            block = os.pread(self._descriptor, size, at.offset)
            # A line that is longer than the limit comes alone: with others behind it, it may not fit into a frame.
            end = block.rfind(b"\n") if size == smallest else block.find(b"\n")
            if end >= 0:
                return block[: end + 1], end + 1
            if len(block) < size:
                return b"", 0
            if size >= _LONGEST:
                at.damage = at.damage or "a line has no end"
                # Only at its last beginning may a line begin that ends behind this block; the beginning itself may be
                # cut by the block's end.
                head = block.rfind(JOURNAL_LINE_HEAD, _CHECKSUM + 1)
                skipped = head - _CHECKSUM if head >= 0 else size - _CHECKSUM - len(JOURNAL_LINE_HEAD)
                at.offset += skipped
                return b"", size
            size = min(size * 4, _LONGEST)

    def _open_at(self, record: int) -> _Position | None:
        """Open the segment that has the record, or would have it; None if there is no journal yet."""
        found = segments(self._folder)
        if not found:
            return None
        before = [each for each in found if each[0] <= record]
        # If the segments before the first that is there are missing, the record is due at its beginning.
        first, path = before[-1] if before else (record, found[0][1])
        self._open(path)
        self._at = _Position(path, first)
        if not before:
            self._at.damage = "a segment is missing"
        return self._at

    def _go_on(self, at: _Position, path: Path) -> None:
        """Go on at the beginning of the next segment, which should have the record that is due."""
        if path.name != segment_name(at.record):
            at.damage = at.damage or "a segment is missing"
        self._open(path)
        at.path = path
        at.offset = 0

    def _open(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor


def _next_beginning(block: bytes, begin: int, end: int) -> int:
    """
    Where the next line may begin in a block of lines, behind ``begin``, where none does. ``end`` is the next newline.

    A good line has one head, at its beginning, and ends with a newline; so before a newline only the last head can be
    that of one. Whatever the block holds, it is looked at a few times and no more.
    """
    head = block.rfind(JOURNAL_LINE_HEAD, begin + _CHECKSUM + 1, end)
    if head < 0:
        head = block.find(JOURNAL_LINE_HEAD, end + 1 + _CHECKSUM)
    return head - _CHECKSUM if head >= 0 else len(block)


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
    How many records the journal in an attempt's folder has up to its last good line, those in gaps counted, and their
    `LogDigest`, which is "" if there are gaps.
    """
    digest, _good = _scan(folder)
    return digest.count, digest.hexdigest()


def _scan(folder: Path) -> tuple[LogDigest, tuple[Path, int] | None]:
    """The digest of what there is, and the segment and offset where its last good line ends."""
    reader = JournalReader(folder)
    digest = LogDigest()
    try:
        while (batches := reader.read()) or reader.searching:
            for batch, _size in batches:
                digest.add(batch)
    finally:
        reader.close()
    return digest, reader.good


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What `repair` left: a journal that ends with a good line."""

    lines: int  # how many records it has, those that are missing in its middle counted
    sha256: str  # their `LogDigest`; "" if some are missing
    cut: int  # bytes that were cut off


def repair(folder: Path) -> Repaired:
    """
    Cut the journal of a dead runner back to its last good line. Mostly that is nothing, or one line that was being
    written. What is damaged before it stays as it is: a gap, for whoever reads it. Idempotent. Only for a journal whose
    runner is dead.
    """
    digest, good = _scan(folder)
    cut = 0
    for _first, path in segments(folder / JOURNAL):
        if good is None or path.name > good[0].name:
            cut += path.stat().st_size
            path.unlink()
        elif path == good[0]:
            torn = path.stat().st_size - good[1]
            if torn > 0:
                cut += torn
                with path.open("r+b") as file:
                    file.truncate(good[1])
                    os.fsync(file.fileno())
    if cut:
        sync_folder(folder / JOURNAL)
    return Repaired(lines=digest.count, sha256=digest.hexdigest(), cut=cut)
