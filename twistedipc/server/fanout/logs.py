"""
The logs of all attempts as viewers see them: the live tail and the store, behind one cursor. Called by
``builders`` (records come in), ``commits`` (they became durable) and ``web`` (viewers take them out).

Viewers pull. A `LiveLog` keeps the last entries of a log, each encoded once and shared by all; a `LogCursor` is an
index into them, of one viewer or of many who are at the same place. What a cursor takes is a `Run` of entries, and all
cursors at the same place are given the same one: its frames are joined once, however many they are. Who has fallen
behind the tail reads from the store, by chunks, only while its socket wants more. So a viewer costs a cursor at most,
however slow it is, and the hand-over from replay to live is no hand-over at all: the same numbers, from another place.

What is not committed yet stays in the tail whatever its size. That is bounded too: a builder may have only so many
unacknowledged bytes under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.builds.frames import deflated_frame, text_frame
from twistedipc.builds.logs import Batch, LogDigest, batch_decoder, encoder, trim, valid_shape, with_events
from twistedipc.builds.states import TERMINAL
from twistedipc.ipc import CreditWindow
from twistedipc.ipc.wire.windows import ReceiveWindow
from twistedipc.server.boundaries import LogEntry
from twistedipc.server.fanout.rounds import DEFAULT_SHARE, Rounds
from twistedipc.server.fanout.shared import SharedBytes
from twistedipc.storage import attempts, logs
from twistedipc.storage.ledger import Ledger

#: How many bytes of committed entries a live log keeps for its viewers.
TAIL_BYTES = 1 << 19

#: Bytes of records that may wait for one log's commit. A builder that minds its credit, an eighth of it, can't come
#: near: each of some links may have left as much as that behind while the ledger was failing.
OVERDRAFT = 8 << 20

#: How many bytes a cursor reads from the store at a time.
FETCH_BYTES = 1 << 16

#: How many runs a live log keeps for whoever comes to the same place.
KEPT_RUNS = 4

EMPTY_SHA256 = LogDigest().hexdigest()


class EndOfLog(msgspec.Struct, frozen=True, tag="end", tag_field="type"):
    """The last message of a log: how many records it has, their digest, and whether all of them are here."""

    lines: int
    sha256: str
    state: str
    complete: bool


class Entry:
    """One message of a log, encoded once. See `boundaries.LogEntry`."""

    __slots__ = ("_deflated", "_deflated_tagged", "_frame", "_tagged", "end", "final", "first", "message")

    def __init__(self, first: int, end: int, message: bytes, *, final: bool = False) -> None:
        self.first = first
        self.end = end
        self.message = message
        self.final = final
        self._frame: bytes | None = None
        self._tagged: bytes | None = None
        self._deflated: bytes | None = None
        self._deflated_tagged: bytes | None = None

    @property
    def frame(self) -> bytes:
        """The message as a WebSocket frame, made when the first viewer wants it."""
        frame = self._frame
        if frame is None:
            frame = self._frame = text_frame(self.message)
        return frame

    @property
    def deflated_frame(self) -> bytes:
        """The frame for who takes deflated ones, made once as well. It is the plain one where that is as good."""
        frame = self._deflated
        if frame is None:
            frame = self._deflated = deflated_frame(self.message) or self.frame
        return frame

    def tagged_frame(self, build: int, attempt: int) -> bytes:
        """
        The message with ``build`` and ``attempt`` in it, as a WebSocket frame, for streams that carry several logs.
        An entry belongs to one log, so this too is made once.
        """
        frame = self._tagged
        if frame is None:
            frame = self._tagged = text_frame(self._tagged_message(build, attempt))
        return frame

    def deflated_tagged_frame(self, build: int, attempt: int) -> bytes:
        """The same for who takes deflated ones."""
        frame = self._deflated_tagged
        if frame is None:
            deflated = deflated_frame(self._tagged_message(build, attempt))
            frame = self._deflated_tagged = deflated or self.tagged_frame(build, attempt)
        return frame

    def _tagged_message(self, build: int, attempt: int) -> bytes:
        return b'{"build":%d,"attempt":%d,' % (build, attempt) + self.message[1:]


class Run(tuple[LogEntry, ...]):
    """Consecutive entries, as they are taken. See `boundaries.LogRun`."""

    more = False
    final = False
    _tagged: SharedBytes | None = None
    _deflated_tagged: SharedBytes | None = None

    @cached_property
    def frames(self) -> SharedBytes:
        """The entries' frames, joined when the first viewer wants them."""
        return self._joined([entry.frame for entry in self])

    @cached_property
    def deflated_frames(self) -> SharedBytes:
        """The same of the frames for who takes deflated ones."""
        return self._joined([entry.deflated_frame for entry in self])

    def tagged_frames(self, build: int, attempt: int) -> SharedBytes:
        """The same of the tagged frames. A run belongs to one log, so this too is made once."""
        frames = self._tagged
        if frames is None:
            frames = self._tagged = self._joined([entry.tagged_frame(build, attempt) for entry in self])
        return frames

    def deflated_tagged_frames(self, build: int, attempt: int) -> SharedBytes:
        """The same of the tagged frames for who takes deflated ones."""
        frames = self._deflated_tagged
        if frames is None:
            frames = self._joined([entry.deflated_tagged_frame(build, attempt) for entry in self])
            self._deflated_tagged = frames
        return frames

    def _joined(self, frames: list[bytes]) -> SharedBytes:
        return SharedBytes(b"".join(frames))


#: There is nothing now.
NOTHING = Run()


def run_of(entries: Sequence[LogEntry], more: bool) -> Run:
    """A run of these entries; ``more``: there may be more at once."""
    run = Run(entries)
    run.more = more
    run.final = bool(run) and run[-1].final
    return run


def entry_of(batch: Batch) -> Entry:
    """The entry of a batch, or of a gap."""
    return Entry(batch.first, batch.end, encoder.encode(batch))


class UnknownAttempt(Exception):
    """There is no such attempt."""


class BadBatch(Exception):
    """A batch or a gap that can't be: its numbers or its fragments make no sense, or it comes after the end."""


class LiveLog:
    """One attempt's log while somebody writes or reads it. Its viewers are an audience of `Rounds`."""

    _log = Logger()

    def __init__(self, attempt: str) -> None:
        self.attempt = attempt
        self.loaded = False
        self.window = ReceiveWindow(1, CreditWindow(OVERDRAFT))  # what has come, and what of it is committed
        self.ended = False
        self.active = False  # a builder is writing it
        self.broken = False  # the ledger has it otherwise: not to be used any more
        self.digest: LogDigest | None = None  # None: not known from the first record on
        self.gathered = 0  # bytes that came since the viewers were woken
        self.cursors: set[LogCursor] = set()
        self.waiting: dict[LogCursor, None] = {}  # who has taken all there was, in this order
        self.runs: dict[tuple[int, int], Run] = {}  # by the serial of the first entry, and the limit; the newest last
        self._entries: deque[Entry] = deque()
        self._base = 0  # the serial number of `_entries[0]`; serials are never used again
        self._bytes = 0
        self._end: EndOfLog | None = None
        self.loading: list[Deferred[None]] | None = None  # who waits until it knows what is stored

    # -- writing

    @property
    def next(self) -> int:
        """The number of the record that is to come."""
        return self.window.next

    @property
    def committed(self) -> int:
        """All records below this number are durable."""
        return self.window.kept

    def restore(self, next: int, end: EndOfLog | None) -> None:
        """What the store knows of it: all records below ``next``, and its end if it has one."""
        self.loaded = True
        self.window = ReceiveWindow(next, CreditWindow(OVERDRAFT))
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
                entry = entry_of(rest)
                added.append((entry, rest))
                size += len(entry.message)
                end = rest.end
        self.window.take(end, size)
        for entry, batch in added:
            if self.digest is not None:
                self.digest.add(batch)
            self._entries.append(entry)
        self._bytes += size
        self.gathered += size
        self.runs.clear()
        return added

    def commit(self, next: int) -> None:
        """All records below ``next`` are durable: the tail may let go of what is too much."""
        self.window.keep(next)
        committed = self.window.kept
        entries = self._entries
        while self._bytes > TAIL_BYTES and len(entries) > 1 and entries[0].end <= committed:
            self._bytes -= len(entries.popleft().message)
            self._base += 1

    def finish(self, end: EndOfLog) -> None:
        """Nothing comes after this."""
        if not self.loaded:
            self._end = end  # it ended while we were asking the store
        elif not self.ended:
            self.ended = True
            self._entries.append(Entry(self.next, self.next, encoder.encode(end), final=True))
            self.runs.clear()

    # -- reading

    def find(self, number: int) -> int | None:
        """The serial of the entry in the tail that holds record ``number`` or follows it; None if it is older."""
        entries = self._entries
        if not entries:
            return self._base if number >= self.next else None
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
        return self._entries[index] if index < len(self._entries) else None

    def run(self, serial: int, limit: int) -> Run:
        """
        The entries from this serial on, of about ``limit`` bytes at most, for all who come there (they look into `runs`
        first). Raises IndexError if the tail has let go of the first.
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
        return run_of(taken, more=entry is not None)

    def wake(self) -> None:
        """Wake the cursors that wait."""
        self.gathered = 0
        waiting, self.waiting = self.waiting, {}
        for cursor in waiting:
            try:
                cursor.wake()
            except Exception:  # one viewer's trouble isn't another's
                self._log.failure("a viewer of {attempt} failed", attempt=self.attempt)


class LogCursor:
    """A place in one log. See `boundaries.Cursor`."""

    __slots__ = ("_closed", "_fetched", "_live", "_logs", "_next", "_serial", "wake")

    def __init__(self, logs: LogStore, live: LiveLog, after: int, wake: Callable[[], object]) -> None:
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
        run = live.runs.get((serial, limit))
        if run is None:
            try:
                run = live.run(serial, limit)
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
        """From the store's entries, or into the tail."""
        fetched = self._fetched
        if fetched:
            taken: list[Entry] = []
            size = 0
            while fetched and (size < limit or not taken):
                entry = fetched.popleft()
                taken.append(entry)
                size += len(entry.message)
                self._next = entry.end
            return run_of(taken, more=True)
        self._fetched = None
        live = self._live
        if live.broken or not live.loaded:
            return None
        serial = live.find(self._next)
        if serial is None:
            return None
        entry_there = live.at(serial)
        if entry_there is None:
            if self._next > live.next:  # asked to begin beyond what exists
                live.waiting[self] = None
                return NOTHING
        elif entry_there.first < self._next and not entry_there.final:
            cut = _cut(entry_there, self._next)
            self._next = cut.end
            self._serial = serial + 1
            return run_of([cut], more=True)
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
            self.wake = _nobody
            self._fetched = None
            self._live.cursors.discard(self)
            self._live.waiting.pop(self, None)
            self._logs.release(self._live)


def _nobody() -> None:
    """Who closed a cursor isn't woken, even if that was in the same round."""


def _cut(entry: Entry, first: int) -> Entry:
    """The part of an entry from record ``first`` on."""
    rest = trim(batch_decoder.decode(entry.message), first)
    assert rest is not None, "the caller compared the numbers"
    return entry_of(rest)


class LogStore:
    """All logs. Implements `boundaries.Logs`. ``share`` and ``spent`` are for `Rounds`."""

    def __init__(
        self,
        clock: IReactorTime,
        ledger: Ledger,
        *,
        share: float = DEFAULT_SHARE,
        spent: Callable[[], float] | None = None,
    ) -> None:
        self._ledger = ledger
        self._live: dict[str, LiveLog] = {}
        self._rounds: Rounds[LiveLog] = Rounds(clock, share, spent or clock.seconds)

    def live(self, attempt: str) -> LiveLog:
        """The attempt's log in memory, made if need be; `load` it before use, `release` it after."""
        live = self._live.get(attempt)
        if live is None or live.broken:
            live = self._live[attempt] = LiveLog(attempt)
        return live

    def cursor(self, attempt: str, after: int, wake: Callable[[], object]) -> LogCursor:
        """See `boundaries.Logs`."""
        live = self.live(attempt)
        cursor = LogCursor(self, live, after, wake)
        live.cursors.add(cursor)
        return cursor

    async def load(self, live: LiveLog) -> None:
        """Make sure that the log knows what is stored. Raises `UnknownAttempt`, `LedgerUnavailable`."""
        if live.loaded:
            return
        # Each waits for itself: whoever is cancelled (a link's call, when the link ends) leaves the others waiting.
        waiting: Deferred[None] = Deferred()
        if live.loading is None:
            live.loading = [waiting]
            Deferred.fromCoroutine(self._load(live)).addBoth(self._loaded, live)
        else:
            live.loading.append(waiting)
        await waiting

    def _loaded(self, result: Failure | None, live: LiveLog) -> None:
        waiters, live.loading = live.loading or [], None
        for waiting in waiters:
            waiting.callback(result)

    async def _load(self, live: LiveLog) -> None:
        row = await self._ledger.read(attempts.get, live.attempt)
        if row is None:
            raise UnknownAttempt(live.attempt)
        next = await self._ledger.read(logs.next_record, live.attempt)
        end = None
        if row.state in TERMINAL:
            lines = next - 1 if row.lines is None else row.lines
            sha256 = row.sha256 or (EMPTY_SHA256 if lines == 0 else "")
            end = EndOfLog(lines, sha256, row.state.value, row.complete or (lines == 0 and next == 1))
        live.restore(next, end)

    async def read(self, attempt: str, first: int) -> list[Entry]:
        """The stored entries from record ``first`` on, some 64 KiB of them."""
        chunks = await self._ledger.read(logs.read, attempt, first, FETCH_BYTES)
        entries: list[Entry] = []
        for chunk in chunks:
            for message in chunk.data.rstrip(b"\n").split(b"\n"):
                batch = batch_decoder.decode(message)
                if batch.end <= first:
                    continue
                rest = trim(batch, first)
                assert rest is not None, "it ends after `first`"
                entries.append(entry_of(rest) if rest is not batch else Entry(batch.first, batch.end, message))
        return entries

    def finish(self, attempt: str, end: EndOfLog) -> None:
        """The attempt has ended, and that is committed: whoever reads its log learns it."""
        live = self._live.get(attempt)
        if live is not None:
            live.active = False
            live.finish(end)
            self.changed(live)
            self.release(live)

    def changed(self, live: LiveLog) -> None:
        """
        There is something new in the log: its viewers are woken at the end of this turn of the reactor, once for all
        that has come in it, or somewhat later if waking them takes much of the time; see `rounds`.
        """
        self._rounds.changed(live)

    def release(self, live: LiveLog) -> None:
        """Forget a log that nobody reads or writes any more; the store has it."""
        unused = not live.cursors and not live.active and live.committed == live.next
        if (live.broken or unused) and self._live.get(live.attempt) is live:
            del self._live[live.attempt]
