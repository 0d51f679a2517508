"""
A place in a log, of one viewer or of many that are at the same place: first in the store, then in the tail. Made by
``store``; taken from by ``web``.

A cursor is an index into a log. What it takes is a `Run` of entries, and all cursors at the same place are given the
same one: its frames are joined once, however many they are. A cursor that has fallen behind the tail reads from the
store, by chunks, only while its socket wants more. So a viewer costs a cursor at most, however slow it is, and the
hand-over from replay to live is no hand-over at all: the same numbers, from another place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from twistedipc.builds.logs import batch_decoder, trim
from twistedipc.server.fanout.entries import NOTHING, Entry, Run, entry_of, run_of
from twistedipc.server.fanout.live import LiveLog


class Source(Protocol):
    """Where a cursor reads from. Implemented by `store.LogStore`."""

    def live(self, attempt: str) -> LiveLog:
        """Return the attempt's log in memory, made if need be."""

    def load(self, live: LiveLog) -> Awaitable[None]:
        """Make sure that the log knows what is stored."""

    def read(self, attempt: str, first: int) -> Awaitable[list[Entry]]:
        """Return some stored entries, from record ``first`` on."""

    def release(self, live: LiveLog) -> None:
        """A cursor has left the log: forget it, if it isn't read or written any more."""


class LogCursor:
    """A place in one log. See `boundaries.Cursor`."""

    __slots__ = ("_closed", "_fetched", "_live", "_logs", "_next", "_serial", "wake")

    def __init__(self, logs: Source, live: LiveLog, after: int, wake: Callable[[], object]) -> None:
        self._logs = logs
        self._live = live
        self._next = after + 1
        self.wake = wake  # see `boundaries.Cursor`; called by the log
        # The entry of the tail that begins with `_next`; None while we read from the store, or begin within an entry.
        self._serial: int | None = None
        self._fetched: deque[Entry] | None = None
        self._closed = False

    @property
    def place(self) -> tuple[LiveLog, int | None, int]:
        """See `boundaries.Cursor`."""
        return self._live, self._serial, self._next

    def branch(self, place: object, wake: Callable[[], object]) -> LogCursor:
        """See `boundaries.Cursor`."""
        live, serial, next = cast(tuple[LiveLog, int | None, int], place)
        cursor = LogCursor(self._logs, live, next - 1, wake)
        cursor._serial = serial
        live.cursors.add(cursor)
        return cursor

    def take(self, limit: int) -> Run | None:
        """See `boundaries.Cursor`."""
        serial = self._serial
        if serial is None or self._live.broken:
            return self._take_first(limit)
        live = self._live
        run = live.tail.runs.get((serial, limit))
        if run is None:
            try:
                run = live.tail.run(serial, limit)
            except IndexError:
                # The tail has moved on while the viewer was slow: back to the store, by number.
                self._serial = None
                return None
        if run:
            self._serial = serial + len(run)
            self._next = run[-1].end
        if not run.more:
            live.waiting[self] = None
        return run

    def _take_first(self, limit: int) -> Run | None:
        """Take from the fetched entries; without any, find the place in the tail."""
        fetched = self._fetched
        if fetched:
            taken: list[Entry] = []
            size = 0
            while fetched and (size < limit or not taken):
                entry = fetched.popleft()
                taken.append(entry)
                size += len(entry.message)
                self._next = entry.end
            return run_of(taken, self._live.tail.files, more=True)
        self._fetched = None
        live = self._live
        if live.broken or not live.loaded:
            return None
        serial = live.find(self._next)
        if serial is None:
            return None
        entry_there = live.tail.at(serial)
        if entry_there is None:
            if self._next > live.next:  # asked to begin beyond what exists
                live.waiting[self] = None
                return NOTHING
        elif entry_there.first < self._next and not entry_there.final:
            cut = _cut(entry_there, self._next)
            self._next = cut.end
            self._serial = serial + 1
            return run_of([cut], live.tail.files, more=True)
        self._serial = serial
        return self.take(limit)

    async def fetch(self) -> None:
        """See `boundaries.Cursor`."""
        if self._live.broken and not self._closed:
            self._live.cursors.discard(self)
            self._live.waiting.pop(self, None)
            self._live = self._logs.live(self._live.attempt)
            self._live.cursors.add(self)
            self._serial = None
        await self._logs.load(self._live)
        if self._closed or self._live.find(self._next) is not None:
            return
        entries = await self._logs.read(self._live.attempt, self._next)
        if not entries and self._live.find(self._next) is None:
            raise LookupError(f"record {self._next} of {self._live.attempt} is neither stored nor live")
        if not self._closed:
            self._fetched = deque(entries)

    def close(self) -> None:
        """See `boundaries.Cursor`."""
        if not self._closed:
            self._closed = True
            self.wake = _nothing
            self._fetched = None
            self._live.cursors.discard(self)
            self._live.waiting.pop(self, None)
            self._logs.release(self._live)


def _nothing() -> None:
    """The `wake` of a cursor that is closed, perhaps in the very round that would have woken it."""


def _cut(entry: Entry, first: int) -> Entry:
    """Return the part of an entry from record ``first`` on."""
    rest = trim(batch_decoder.decode(entry.message), first)
    assert rest is not None, "the caller compared the numbers"
    return entry_of(rest, entry.tag)
