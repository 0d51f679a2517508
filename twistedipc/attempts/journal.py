"""
The journal: an attempt's log on disk, which is also the spool between runner and builder.

`Journal` writes (the runner), `JournalReader` follows it (the builder, while the runner may still be writing), `repair`
cuts off what a killed runner left half-written. ``journal_format`` is how it is written: one batch a line, in segments
named by their first record's number.

Damage costs the records that it hit, and no others. When a line doesn't verify (its checksum, its shape, its number),
or a segment is missing or short, the reader continues at the next line that verifies. The numbers between are one
`builds.logs.Gap`. Since every line carries its number, no record is ever renumbered or shown twice. At the journal's
very end, a line that doesn't verify may not be written yet, so the reader waits for it. Once the number of records is
known (`JournalReader.ends_at`), it is a gap as well. The same damage gives the same gaps each time it is read.

A read that fails may succeed a little later, so the reader raises OSError and the caller may try again. The caller
decides for how long. Once a segment is given up (`JournalReader.give_up`), the pages of it that can't be read count as
damage, and everything around them is returned.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from twistedipc.attempts.journal_format import (
    JOURNAL_LINE_HEAD,
    SEGMENT_DIGITS,
    BadJournalLine,
    journal_line,
    parse_journal_line,
    segment_name,
)
from twistedipc.attempts.sha256 import sha256
from twistedipc.builds.logs import MAX_RECORD, Batch, Gap, Lines, LogDigest, encoder, trim, valid_shape
from twistedipc.disk.calls import DiskCalls
from twistedipc.disk.files import PASSING_ERRORS, sync_folder

JOURNAL = "journal"
SEGMENT_BYTES = 16 * 1024 * 1024

# No journal line is nearly this long (a batch has at most 64 KiB of output): without a newline it is damage.
_LONGEST = 2 * 1024 * 1024
_BLOCK = 256 * 1024

# About how many bytes are looked at in one call while nothing is found in them: the caller has others to serve.
_LOOKED_AT = 512 * 1024

# What can't be read is found out in pieces of this size: a disk loses whole blocks, and no block is larger.
_PAGE = 4096

#: Errors that say nothing of the disk: this process or its machine is short of something, and only for a while.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# How far a line's beginning is from where `JOURNAL_LINE_HEAD` is found in it.
_CHECKSUM = 8


class JournalExists(Exception):
    """There is a journal already: another runner was started here, and an attempt starts once."""


class Journal:
    """
    The writer. While the disk is full, `blocked` has the reason and what was appended waits in memory. The caller must
    then stop reading output, which bounds what waits, and call `retry` now and then.
    """

    def __init__(
        self, folder: Path, ring: Callable[[], None], *, disk: DiskCalls, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._folder = folder / JOURNAL
        self._folder.mkdir(exist_ok=True)
        if any(self._folder.iterdir()):
            raise JournalExists(f"{self._folder} isn't empty")
        self._ring = ring
        self._disk = disk
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
        """Append a batch and ring, or keep it for `retry`. Raises OSError if the disk fails for good."""
        if batch.first != self.count + 1:
            raise ValueError(f"record {batch.first} can't follow {self.count}")
        self._digest.add(batch)
        self._waiting.append((batch.first, journal_line(batch)))
        if not self.blocked:
            self.retry()

    def retry(self) -> bool:
        """Write what waits; return whether all of it is written now."""
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
        """Make what was appended durable; return whether it is."""
        if self._waiting:
            return False
        if self._unsynced:
            try:
                self._disk.fdatasync(self._descriptor)
            except OSError as error:
                if error.errno not in PASSING_ERRORS:
                    raise
                return False
            self._unsynced = False
        return True

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor >= 0:
            self._disk.close(self._descriptor)
            self._descriptor = -1

    def _write(self, first: int, line: bytes) -> None:
        if self._descriptor < 0 or self._offset >= self._segment_bytes:
            self._open_segment(first)
        written = 0
        try:
            # One write, unless the disk is full in the middle of it: then the second write raises the reason.
            while written < len(line):
                written += self._disk.write(self._descriptor, line[written:] if written else line)
        except OSError:
            if written:
                self._disk.ftruncate(self._descriptor, self._offset)
                self._disk.lseek(self._descriptor, self._offset, os.SEEK_SET)
            raise
        self._offset += written
        self._unsynced = True

    def _open_segment(self, first: int) -> None:
        if self._descriptor >= 0:
            self._disk.fdatasync(self._descriptor)
        path = self._folder / segment_name(first)
        descriptor = self._disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            sync_folder(self._folder, disk=self._disk)
        except OSError:
            self._disk.close(descriptor)
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
    Reads the journal in an attempt's folder, in order, as far as it is written. The journal may grow meanwhile: a line
    that isn't whole is not written yet. Damage is skipped and returned as a `Gap`, and so is a part that can't be read,
    once it is given up.
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
        self._failing: Path | None = None  # what the last OSError was about
        self._given_up: set[Path] = set()
        self._unreadable: dict[int, str] = {}  # pages of the segment that is open, and why
        self._unlisted = ""  # why the segments can't be listed; "" if they can

    def ends_at(self, lines: int) -> None:
        """Note that the journal is complete, with so many records: what can't be read of it is lost."""
        self._lines = lines

    def seek(self, next: int) -> None:
        """Continue with record ``next``. Until it is written, `read` returns nothing."""
        if next < 1:
            raise ValueError("records are numbered from 1")
        at = self._at
        if at is None or next < at.record:
            self.close()
        self.next = next

    def read(self, limit_bytes: int = _BLOCK) -> list[tuple[Batch, int]]:
        """
        Return the next batches, each with the size of its JSON: about ``limit_bytes`` in all, and at least one batch
        if there is one. An empty list means that there is no more now; or, if `searching`, that none was found yet.
        Raises OSError: try again, or `give_up`.
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

    def give_up(self) -> None:
        """Skip what can't be read of the segment about which the last `read` raised OSError."""
        if self._failing is not None:
            self._given_up.add(self._failing)

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._at = None

    def _read_block(self, limit: int) -> tuple[list[tuple[Batch, int]], int]:
        """Return the batches of the next block from `next` on, and how many bytes were looked at: 0 at the end."""
        at = self._at or self._open_at(self.next)
        if at is None:
            return self._rest(self._unlisted or "there is none"), 0
        block, size = self._whole_lines(at, limit)
        if not size:
            later = [path for _first, path in self._segments() if path.name > at.path.name]
            if later:
                # A segment's file appears only after the one before it was written to its end: but when that one was
                # looked at, its end may not have been written yet.
                block, size = self._whole_lines(at, limit)
        if size:
            return self._batches(at, block), size
        length = self._length(at)
        torn = length > at.offset
        if not later:
            unread = self._unread(at.offset, length)
            why = unread or ("its last line has no end" if torn else "it is shorter than it was")
            return self._rest(at.damage or why), 0
        if torn:
            at.damage = at.damage or self._unread(at.offset, length) or "a segment is cut short"
        self._go_on(at, later[0])
        return [], 4096

    def _batches(self, at: _Position, block: bytes) -> list[tuple[Batch, int]]:
        """Return what is new in a block of whole lines, and move the position behind the block."""
        found: list[tuple[Batch, int]] = []
        begin = 0
        while begin < len(block):
            end = block.index(b"\n", begin)
            try:
                batch = parse_journal_line(block[begin:end])
                if not valid_shape(batch) or (batch.first > at.record and batch.end > MAX_RECORD):
                    raise BadJournalLine("it isn't a batch")
            except BadJournalLine as error:
                unread = self._unread(at.offset + begin, at.offset + end)
                at.damage = at.damage or unread or str(error)
                begin = _next_beginning(block, begin, end)
                continue
            self._take(at, batch, end - begin - _CHECKSUM - 1, found)
            begin = end + 1
            if batch.end == at.record:
                self.good = at.path, at.offset + begin
        at.offset += len(block)
        return found

    def _take(self, at: _Position, batch: Lines, size: int, found: list[tuple[Batch, int]]) -> None:
        """Add to ``found`` what is new in a line that verifies, after the gap before it, if there is one."""
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
        """Return, at the journal's end, the gap up to the last record, if its number is known."""
        found: list[tuple[Batch, int]] = []
        if self._lines is not None and self.next <= self._lines:
            self._gap(self.next, self._lines, why, found)
            if self._at is not None:
                self._at.record = self.next
        return found

    def _whole_lines(self, at: _Position, limit: int) -> tuple[bytes, int]:
        """
        Return whole lines from the position on, and how many bytes there are. No line but some bytes means that these
        can't be a line; the position is behind them then.
        """
        smallest = size = max(limit, 4096)
        while True:
            block = self._pread(at, size)
            # A line that is longer than the limit comes alone: with others behind it, it may not fit into a frame.
            end = block.rfind(b"\n") if size == smallest else block.find(b"\n")
            if end >= 0:
                return block[: end + 1], end + 1
            if len(block) < size:
                return b"", 0
            if size >= _LONGEST:
                at.damage = at.damage or self._unread(at.offset, at.offset + size) or "a line has no end"
                # Only at its last beginning may a line begin that ends behind this block; the beginning itself may be
                # cut by the block's end.
                head = block.rfind(JOURNAL_LINE_HEAD, _CHECKSUM + 1)
                skipped = head - _CHECKSUM if head >= 0 else size - _CHECKSUM - len(JOURNAL_LINE_HEAD)
                at.offset += skipped
                return b"", size
            size = min(size * 4, _LONGEST)

    def _open_at(self, record: int) -> _Position | None:
        """Open the segment in which the record is or would be; None if there is no journal yet."""
        found = self._segments()
        if not found:
            return None
        before = [each for each in found if each[0] <= record]
        # If the segments before the first that is there are missing, the record is due at its beginning.
        first, path = before[-1] if before else (record, found[0][1])
        unread = self._open(path)
        self._at = _Position(path, first)
        self._at.damage = unread or ("" if before else "a segment is missing")
        return self._at

    def _go_on(self, at: _Position, path: Path) -> None:
        """Move the position to the beginning of the next segment, where the record that is due should be."""
        if path.name != segment_name(at.record):
            at.damage = at.damage or "a segment is missing"
        unread = self._open(path)
        at.damage = at.damage or unread
        at.path = path
        at.offset = 0

    def _open(self, path: Path) -> str:
        """Open a segment. One that can't be opened and is given up counts as empty: then return the reason, else ""."""
        unread = ""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self._failed(path, error)
            unread = _unread(error)
            descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._unreadable = {}
        return unread

    # -- what can't be read

    def _failed(self, path: Path, error: OSError) -> None:
        """Raise the error with which reading a path failed, unless that path is given up."""
        if path not in self._given_up or error.errno in SHORTAGES:
            self._failing = path
            raise error

    def _segments(self) -> list[tuple[int, Path]]:
        try:
            return segments(self._folder)
        except OSError as error:
            self._failed(self._folder, error)
            self._unlisted = _unread(error)
            return []

    def _length(self, at: _Position) -> int:
        """Return the length of the open segment."""
        try:
            return os.fstat(self._descriptor).st_size
        except OSError as error:
            self._failed(at.path, error)
            return 0

    def _pread(self, at: _Position, size: int) -> bytes:
        """Return up to ``size`` bytes from the position on; zeros, which no line has, where they can't be read."""
        try:
            return os.pread(self._descriptor, size, at.offset)
        except OSError as error:
            self._failed(at.path, error)
        found = bytearray()
        end = min(at.offset + size, self._length(at))
        while (offset := at.offset + len(found)) < end:
            piece = self._piece(offset // _PAGE, offset, min(_PAGE - offset % _PAGE, end - offset))
            if not piece:
                break  # it is shorter by now
            found += piece
        return bytes(found)

    def _piece(self, page: int, offset: int, size: int) -> bytes:
        # A disk may take its time to say that it can't: a page is asked for once.
        if page not in self._unreadable:
            try:
                return os.pread(self._descriptor, size, offset)
            except OSError as error:
                if error.errno in SHORTAGES:
                    raise
                self._unreadable[page] = _unread(error)
        return bytes(size)

    def _unread(self, begin: int, end: int) -> str:
        """Return why a part of the segment can't be read, between these offsets; "" if all of it can."""
        if not self._unreadable:
            return ""
        pages = range(begin // _PAGE, (end + _PAGE - 1) // _PAGE)
        return next((self._unreadable[page] for page in pages if page in self._unreadable), "")


def _unread(error: OSError) -> str:
    return f"a part of it can't be read ({os.strerror(error.errno or errno.EIO)})"


def _next_beginning(block: bytes, begin: int, end: int) -> int:
    """
    Return where the next line may begin in a block of lines, after ``begin``, where none begins. ``end`` is the next
    newline.

    A good line has one head, at its beginning, and ends with a newline; so only the last head before a newline can be
    that of a line. This bounds the work: each byte of the block is searched a few times at most.
    """
    head = block.rfind(JOURNAL_LINE_HEAD, begin + _CHECKSUM + 1, end)
    if head < 0:
        head = block.find(JOURNAL_LINE_HEAD, end + 1 + _CHECKSUM)
    return head - _CHECKSUM if head >= 0 else len(block)


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Return the segments in a ``journal`` folder, in order, each with its first record's number."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [
        (int(name[:SEGMENT_DIGITS]), folder / name)
        for name in names
        if name.endswith(".log") and len(name) == SEGMENT_DIGITS + 4 and name[:SEGMENT_DIGITS].isdecimal()
    ]


def _scan(folder: Path, *, give_up: bool) -> tuple[LogDigest, tuple[Path, int] | None]:
    """Return the digest of all records, and the segment and offset at which the last good line ends."""
    reader = JournalReader(folder)
    digest = LogDigest()
    try:
        while True:
            try:
                batches = reader.read()
            except OSError as error:
                if not give_up or error.errno in SHORTAGES:
                    raise
                reader.give_up()
                continue
            if not batches and not reader.searching:
                return digest, reader.good
            for batch, _size in batches:
                digest.add(batch)
    finally:
        reader.close()


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What `repair` left: a journal that ends with a good line."""

    lines: int  # how many records it has, those that are missing in its middle counted
    sha256: str  # their `LogDigest`; "" if some are missing
    cut: int  # bytes that were cut off


def repair(folder: Path, *, give_up: bool = False) -> Repaired:
    """
    Cut the journal of a dead runner back to its last good line. Mostly nothing is cut, or one line that was being
    written. Damage before the last good line stays, and is read as a gap. Idempotent. Only for a journal whose runner
    is dead. Raises OSError; with ``give_up``, counts what can't be read as damage instead, and cuts nothing.
    """
    digest, good = _scan(folder, give_up=give_up)
    cut = 0
    for _first, path in [] if give_up else segments(folder / JOURNAL):
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
