"""
One attempt's log in memory: what has come, what of it is committed, and the tail that viewers are given. Made by
``store``; ``builder_link`` writes it, and ``cursor`` reads it.

The tail keeps the last entries of the log. What is not committed yet stays in it whatever its size. That is bounded
too: a builder may have only so many unacknowledged bytes under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twistedipc.builds.logs import Batch, End, LogDigest, encoder, trim, valid_shape, with_events
from twistedipc.ipc import CreditWindow, ReceiveWindow
from twistedipc.server.fanout.entries import NOTHING, Entry, Run, entry_of, run_of, tag_of
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.shared import SharedFiles

#: How many runs a live log keeps for those that come to the same place.
KEPT_RUNS = 4

#: Of an entry and its batch: the entry, without a Python call.
_entry_of_pair: Callable[[tuple[Entry, Batch]], Entry] = itemgetter(0)


class BadBatch(Exception):
    """A batch or a gap that can't be: its numbers or its fragments make no sense, or it comes after the end."""


class Reader(Protocol):
    """A place in the log. Implemented by `cursor.LogCursor`."""

    wake: Callable[[], object]  # there is something to take again


class Tail:
    """
    The last entries of a log, by serial numbers that are never used again, and the runs that were made of them. `runs`
    is looked into by cursors, so that a run that is there costs no call.
    """

    def __init__(self, most: int, files: SharedFiles) -> None:
        self.most = most  # bytes of committed entries
        self.files = files  # for the runs
        self.entries: deque[Entry] = deque()
        self.bytes = 0  # of the entries' messages, without the end's
        self.runs: dict[tuple[int, int], Run] = {}  # by the serial of the first entry, and the limit; the newest last
        self._base = 0  # the serial number of `entries[0]`

    def append(self, entries: Iterable[Entry], size: int) -> None:
        """Add new entries, of so many bytes."""
        self.entries.extend(entries)
        self.bytes += size
        self.runs.clear()

    def let_go(self, committed: int) -> None:
        """Let go of what is too much, oldest first, among the records below ``committed``, which the store has."""
        entries = self.entries
        while self.bytes > self.most and len(entries) > 1 and entries[0].end <= committed:
            self.bytes -= len(entries.popleft().message)
            self._base += 1

    def find(self, number: int, next: int) -> int | None:
        """
        The serial of the entry that holds record ``number`` or follows it; None if it is older than all entries.
        ``next``: the number of the record that is to come.
        """
        entries = self.entries
        if not entries:
            return self._base if number >= next else None
        if number < entries[0].first:
            return None
        low, high = 0, len(entries)
        while low < high:
            middle = (low + high) // 2
            entry = entries[middle]
            if entry.end <= number and not entry.final:
                low = middle + 1
            else:
                high = middle
        return self._base + low

    def at(self, serial: int) -> Entry | None:
        """The entry with this serial; None if it is yet to come. Raises IndexError if the tail has let go of it."""
        index = serial - self._base
        if index < 0:
            raise IndexError(serial)
        return self.entries[index] if index < len(self.entries) else None

    def run(self, serial: int, limit: int) -> Run:
        """
        Make the run of the entries from this serial on, of about ``limit`` bytes at most, for all cursors that come
        there: they look into `runs` first. Raises IndexError if the tail has let go of the first.
        """
        run = self.runs[serial, limit] = self._make_run(serial, limit)
        if len(self.runs) > KEPT_RUNS:
            del self.runs[next(iter(self.runs))]
        return run

    def _make_run(self, serial: int, limit: int) -> Run:
        taken: list[Entry] = []
        size = 0
        entry = self.at(serial)
        while entry is not None and size < limit:
            taken.append(entry)
            size += len(entry.message)
            entry = self.at(serial + len(taken))
        if not taken:
            return NOTHING
        return run_of(taken, self.files, more=entry is not None)


class LiveLog:
    """One attempt's log while it is written or read. Its readers are an audience of `Rounds`."""

    _log = Logger()

    def __init__(self, attempt: str, limits: LogLimits, files: SharedFiles) -> None:
        self.attempt = attempt
        self._overdraft = limits.overdraft
        self.tag = tag_of(attempt)
        self.loaded = False
        self.window = ReceiveWindow(1, CreditWindow(self._overdraft))  # what has come, and what of it is committed
        self.tail = Tail(limits.tail, files)
        self.ended = False
        self.active = False  # a builder is writing it
        self.broken = False  # the ledger has it otherwise: not to be used any more
        self.digest: LogDigest | None = None  # None: not known from the first record on
        self.gathered = 0  # bytes that came since the viewers were woken
        self.cursors: set[Reader] = set()
        self.waiting: dict[Reader, None] = {}  # those that have taken all there was, in this order
        self.loading: list[Deferred[None]] | None = None  # those that wait until it knows what is stored
        self._end: End | None = None  # that came before it knew what is stored

    # -- writing

    @property
    def next(self) -> int:
        """The number of the record that is to come."""
        return self.window.next

    @property
    def committed(self) -> int:
        """All records below this number are durable."""
        return self.window.kept

    def restore(self, next: int, end: End | None) -> None:
        """Take over what the store knows: it has all records below ``next``, and the log's end if there is one."""
        self.loaded = True
        self.window = ReceiveWindow(next, CreditWindow(self._overdraft))
        if next == 1:
            self.digest = LogDigest()
        end = end or self._end
        if end is not None:
            self.finish(end)

    def append(self, batches: Sequence[Batch]) -> list[tuple[Entry, Batch]]:
        """
        Take the next batches, all or none; return the entries that are new, each with its batch. What is here
        already is trimmed by its number. Raises `Hole` or `BadBatch`, and `RemoteProtocolError` if too much waits to be
        committed.
        """
        if self.ended:
            raise BadBatch("the log has ended")
        added: list[tuple[Entry, Batch]] = []
        size, end = 0, self.window.next
        for batch in map(with_events, batches):
            if not valid_shape(batch):
                raise BadBatch(f"batch {batch.first} is not well formed")
            skip = self.window.skip(batch.first, batch.end, after=end)
            rest = trim(batch, batch.first + skip)
            if rest is not None:
                entry = entry_of(rest, self.tag)
                added.append((entry, rest))
                size += len(entry.message)
                end = rest.end
        self.window.take(end, size)
        if self.digest is not None:
            for _entry, batch in added:
                self.digest.add(batch)
        self.tail.append(map(_entry_of_pair, added), size)
        self.gathered += size
        return added

    def commit(self, next: int) -> None:
        """Note that all records below ``next`` are durable: the tail may let go of what is above its limit."""
        self.window.keep(next)
        if self.tail.bytes > self.tail.most:
            self.tail.let_go(self.window.kept)

    def follow(self, entries: Sequence[Entry]) -> None:
        """Take the next entries as the store has them: another apiserver has committed them."""
        self.digest = None
        for entry in entries:
            size = len(entry.message)
            self.window.take(entry.end, size)
            self.window.keep(entry.end)
            self.tail.append([entry], size)
            self.gathered += size
        self.tail.let_go(self.window.kept)

    def finish(self, end: End) -> None:
        """End the log: nothing comes after this."""
        if not self.loaded:
            self._end = end  # it ended while we were asking the store
        elif not self.ended:
            self.ended = True
            self.tail.append([Entry(self.next, self.next, encoder.encode(end), self.tag, final=True)], 0)

    # -- reading

    def find(self, number: int) -> int | None:
        """The serial of the entry in the tail that holds record ``number`` or follows it; None if it is older."""
        return self.tail.find(number, self.next)

    def wake(self) -> None:
        """Wake the cursors that wait."""
        self.gathered = 0
        waiting, self.waiting = self.waiting, {}
        for cursor in waiting:
            try:
                cursor.wake()
            except Exception:  # one viewer's trouble isn't another's
                self._log.failure("a viewer of {attempt} failed", attempt=self.attempt)
