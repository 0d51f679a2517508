"""
Where a stream's items wait until they are acknowledged: in memory, or in a folder, from where they outlive the process.
Blocks on the disk, for as long as an append to a file takes; no Twisted. Used by ``streams``.

A folder holds ``id`` (the stream's identity), ``lock`` (held while an outbox is open), and segments, each named by the
number of its first item and ``.log``. An item is a line: eight hexadecimal digits of the CRC-32 of its JSON, a space,
the JSON. A line that was being written when the process died is cut off when the outbox is opened again: its number
was never given out.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import zlib
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from twistedipc.ipc.wire.errors import LinkError

#: Bytes of items that an outbox keeps, unless told otherwise.
OUTBOX_LIMIT = 64 << 20

#: Bytes after which a new segment is begun.
SEGMENT_BYTES = 4 << 20

_DIGITS = 16
_HEAD = 9  # bytes of a line before its item
_BLOCK = 1 << 18


class OutboxFull(LinkError):
    """
    An outbox has no room for one more item until some are acknowledged. `Stream.write` waits instead.
    """


class BadOutbox(LinkError):
    """A folder can't be used as an outbox; ``str()`` says why."""


class Outbox(Protocol):
    """
    Keeps a stream's numbered items until they are acknowledged. Each is one line of JSON, without a newline. There are
    `MemoryOutbox` and `FileOutbox`; another one, in a database say, is a class with these methods. They block.
    """

    id: str  # 1 to 64 characters; another one for each that began at number 1
    first: int  # the number of the oldest item that is kept
    next: int  # the number that the next item gets

    @property
    def room(self) -> bool:
        """Whether one more item is taken. If there is room at all, an item of any size is taken."""

    def append(self, item: bytes) -> int:
        """Keep an item, and return its number. Raises `OutboxFull` or OSError if it isn't kept."""

    def sync(self) -> None:
        """Make what was appended safe from the machine's crash too, as far as this outbox does that. Raises OSError."""

    def read(self, number: int, limit: int) -> list[bytes]:
        """Return the items from ``number`` on, of about ``limit`` bytes; at least one, if there is one."""

    def trim(self, next: int) -> None:
        """Drop the items below ``next``, sooner or later: they aren't needed any more."""

    def close(self) -> None:
        """Close the outbox. Idempotent."""


def make_id() -> str:
    """Return the id of a new outbox: 16 random bytes, in hexadecimal."""
    return secrets.token_hex(16)


class MemoryOutbox:
    """
    An outbox that ends with the process.

    :param limit: bytes that it keeps; over it `Stream.write` waits
    :param new_id: gives an id that no other outbox has
    """

    def __init__(self, limit: int = OUTBOX_LIMIT, *, new_id: Callable[[], str] = make_id) -> None:
        self.id = new_id()
        self.first = self.next = 1
        self._limit = limit
        self._items: deque[bytes] = deque()
        self._size = 0

    @property
    def room(self) -> bool:
        """See `Outbox`."""
        return self._size < self._limit

    def append(self, item: bytes) -> int:
        """See `Outbox`."""
        if not self.room:
            raise OutboxFull(f"{self._size} bytes wait to be acknowledged")
        self._items.append(item)
        self._size += len(item)
        self.next += 1
        return self.next - 1

    def sync(self) -> None:
        """See `Outbox`. Nothing to do."""

    def read(self, number: int, limit: int) -> list[bytes]:
        """See `Outbox`."""
        found: list[bytes] = []
        size = 0
        for index in range(max(number, self.first) - self.first, len(self._items)):
            item = self._items[index]
            if found and size + len(item) > limit:
                break
            found.append(item)
            size += len(item)
        return found

    def trim(self, next: int) -> None:
        """See `Outbox`."""
        while self.first < min(next, self.next):
            self._size -= len(self._items.popleft())
            self.first += 1

    def close(self) -> None:
        """See `Outbox`."""


class FileOutbox:
    """
    An outbox in a folder, which is made if need be, and belongs to one process at a time.

    :param limit: bytes that it keeps; over it `Stream.write` waits
    :param durable: whether items are forced to the disk at the end of each turn of the reactor, so that they outlive
        the machine's crash and not only the process's
    :param segment_bytes: of one of its files; what is acknowledged is deleted by the file
    :param new_id: gives an id that no other outbox has, for a folder that has none yet
    :raises BadOutbox: another process has it open, or it is damaged
    :raises OSError: the folder can't be used
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        limit: int = OUTBOX_LIMIT,
        durable: bool = True,
        segment_bytes: int = SEGMENT_BYTES,
        new_id: Callable[[], str] = make_id,
    ) -> None:
        self._folder = Path(folder)
        self._limit = limit
        self._durable = durable
        self._segment_bytes = segment_bytes
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._sizes: dict[int, int] = {}  # first number of a segment -> its bytes
        self._last = 1  # the first number of the last segment
        self._descriptor = -1  # of the last segment
        self._reading = -1  # of the segment that is being read
        self._read_at = (0, 0, 0)  # its first number, the number that is next there, and where
        self._unsynced = False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.id = self._identity(new_id)
            self._open_segments()
        except BlockingIOError:
            self.close()
            raise BadOutbox(f"{self._folder} is open in another process") from None
        except BaseException:
            self.close()
            raise

    @property
    def room(self) -> bool:
        """See `Outbox`."""
        return sum(self._sizes.values()) < self._limit

    def append(self, item: bytes) -> int:
        """See `Outbox`."""
        if not self.room:
            raise OutboxFull(f"{self._folder} has {sum(self._sizes.values())} bytes that wait to be acknowledged")
        if self._sizes[self._last] >= self._segment_bytes:
            self._begin_segment(self.next)
        line = b"%08x %b\n" % (zlib.crc32(item), item)
        size = self._sizes[self._last]
        written = 0
        try:
            while written < len(line):
                written += os.pwrite(self._descriptor, line[written:], size + written)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise
        self._sizes[self._last] = size + len(line)
        self._unsynced = True
        self.next += 1
        return self.next - 1

    def sync(self) -> None:
        """See `Outbox`."""
        if self._unsynced and self._durable:
            os.fdatasync(self._descriptor)
        self._unsynced = False

    def read(self, number: int, limit: int) -> list[bytes]:
        """See `Outbox`. Raises `BadOutbox` if an item has been damaged since it was written."""
        number = max(number, self.first)
        found: list[bytes] = []
        size = 0
        while number < self.next and (not found or size < limit):
            some = self._read_some(number, limit - size, alone=not found)
            if not some:
                break  # the next one is over the limit
            found += some
            size += sum(map(len, some))
            number += len(some)
        return found

    def trim(self, next: int) -> None:
        """See `Outbox`: only whole segments go."""
        next = min(next, self.next)
        if next == self.next and self._sizes[self._last] > min(self._segment_bytes, self._limit) // 4:
            # All is acknowledged: so is the last segment, and it is worth a new one.
            self._begin_segment(self.next)
        firsts = sorted(self._sizes)
        for first, following in pairwise(firsts):
            if following > next:
                break
            if first == self._read_at[0]:
                self._stop_reading()
            self._path(first).unlink(missing_ok=True)
            del self._sizes[first]
            self.first = following

    def close(self) -> None:
        """See `Outbox`. What is kept stays in the folder."""
        self._stop_reading()
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

    # -- segments

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:0{_DIGITS}d}.log"

    def _identity(self, new_id: Callable[[], str]) -> str:
        path = self._folder / "id"
        try:
            found = path.read_text("ascii").strip()
        except FileNotFoundError:
            found = ""
        if not found:
            if any(self._folder.glob("*.log")):
                raise BadOutbox(f"{self._folder} has items, but its file `id` is missing")
            found = new_id()
            temporary = self._folder / ".id"
            with temporary.open("w", encoding="ascii") as file:
                file.write(found + "\n")
                file.flush()
                os.fsync(file.fileno())  # or after the machine's crash it could be empty, and the items useless
            os.replace(temporary, path)
            # The first segment's beginning makes the entry safe; the folder has one of its own.
            _sync_folder(self._folder.parent)
        return found[:64]

    def _open_segments(self) -> None:
        firsts = sorted(int(path.stem) for path in self._folder.glob("*.log") if path.stem.isdecimal())
        self._sizes = {first: self._path(first).stat().st_size for first in firsts}
        if not firsts:
            self.first = self.next = 1
            self._begin_segment(1)
            return
        self.first = firsts[0]
        self._last = firsts[-1]
        count, good = self._check_last(self._path(self._last))
        self._descriptor = os.open(self._path(self._last), os.O_RDWR | os.O_CLOEXEC)
        if good != self._sizes[self._last]:
            os.ftruncate(self._descriptor, good)
            self._sizes[self._last] = good
        if self._durable:
            # What the process before wrote at its end, and the segment itself, may not be on the disk yet. They are
            # sent from now on, and what was acknowledged must not be written again under the same numbers.
            os.fdatasync(self._descriptor)
            _sync_folder(self._folder)
        self.next = self._last + count

    def _check_last(self, path: Path) -> tuple[int, int]:
        """Return the number and the bytes of the last segment's items, without a line that was being written."""
        data = path.read_bytes()
        good = data.rfind(b"\n") + 1
        lines = data[:good].split(b"\n")[:-1]
        for index, line in enumerate(lines):
            if not _is_good(line):
                if index == len(lines) - 1:
                    return index, good - len(line) - 1
                raise BadOutbox(f"{path}: item {int(path.stem) + index} is damaged")
        return len(lines), good

    def _begin_segment(self, first: int) -> None:
        # In this order: a segment on the disk says by its name that all items before it are there too; and none is
        # written to it before its name is there.
        if self._descriptor >= 0 and self._durable:
            os.fdatasync(self._descriptor)
        descriptor = os.open(self._path(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            self._path(first).unlink(missing_ok=True)  # the last one goes on, and its items have these numbers
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._last = first
        self._sizes[first] = 0

    # -- reading

    def _stop_reading(self) -> None:
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1
        self._read_at = (0, 0, 0)

    def _read_some(self, number: int, limit: int, *, alone: bool) -> list[bytes]:
        """Items from one block of one segment, of at most ``limit`` bytes; one at least, if it is to come ``alone``."""
        begins = max(first for first in self._sizes if first <= number)
        first, at, offset = self._read_at
        if first != begins or at > number:
            self._stop_reading()
            self._reading = os.open(self._path(begins), os.O_RDONLY | os.O_CLOEXEC)
            at, offset = begins, 0
        found: list[bytes] = []
        size = 0
        wanted = max(min(limit, _BLOCK), 4096)
        while not found:
            block = os.pread(self._reading, wanted, offset)
            end = block.rfind(b"\n")
            if end < 0:
                if len(block) < wanted:
                    raise BadOutbox(f"{self._path(begins)}: item {at} is missing")
                wanted *= 4  # one item is longer
                continue
            for line in block[:end].split(b"\n"):
                if at >= number:
                    if not _is_good(line):
                        raise BadOutbox(f"{self._path(begins)}: item {at} is damaged")
                    if size + len(line) > limit + _HEAD and (found or not alone):
                        self._read_at = (begins, at, offset)
                        return found
                    found.append(line[_HEAD:])
                    size += len(line) - _HEAD
                at += 1
                offset += len(line) + 1
            self._read_at = (begins, at, offset)
        return found


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder safe from the machine's crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_good(line: bytes) -> bool:
    try:
        return len(line) > _HEAD and line[8:9] == b" " and int(line[:8], 16) == zlib.crc32(line[_HEAD:])
    except ValueError:
        return False
