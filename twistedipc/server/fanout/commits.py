"""
Group commit of log records: what has come from all builders since the last commit goes into one transaction.
Called by ``builders``; calls the ledger, then says which records are durable.

One commit is under way at a time, and the next one begins about `COMMIT_INTERVAL` after it began: under load the groups
grow by themselves, and a quiet system doesn't pay an fsync for each line. A commit that is `NEARLY` due when records
come begins with them, once their viewers have them: lines of a steady rate would else come, time and again, while a
commit takes the interpreter. Nothing is acknowledged to a builder before its commit; if the ledger can't be written,
everything stays here (the builders' credit bounds it, which ``builders`` holds them to) and is tried again until it
can.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.builds.gist import Gist
from twistedipc.builds.logs import Batch, Gap, Lines, StepEnded, StepStarted, event_of
from twistedipc.sealed.outline import Marked, is_wanted
from twistedipc.server.fanout.entries import Entry
from twistedipc.server.fanout.live import LiveLog
from twistedipc.storage import logs
from twistedipc.storage.errors import LogOrder, TenureLost
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.tenures import Tenure

#: Seconds between the beginnings of two commits.
COMMIT_INTERVAL = 0.015

#: Seconds by which a commit may begin sooner.
NEARLY = 0.003

#: A chunk of so many bytes is stored as it is, and the next one begun. A viewer that begins anywhere in a log has the
#: store read a whole chunk.
CHUNK_BYTES = 1 << 16

#: Seconds until a commit that failed is tried again.
RETRY_INTERVAL = 0.5


class _Pending:
    """The records of one log that wait for a commit."""

    __slots__ = ("entries", "events", "gist", "live", "marks", "tenure")

    def __init__(self, live: LiveLog) -> None:
        self.live = live
        self.entries: list[Entry] = []
        self.events: list[tuple[int, StepStarted | StepEnded]] = []
        self.gist: Gist | None = None  # None: no event is among them
        self.marks: list[Marked] = []
        self.tenure: Tenure | None = None

    def items(self) -> list[logs.ChunkItem]:
        """Return the records as chunks. The events, in all their forms, are with the last chunk."""
        parts: list[list[Entry]] = []
        size = CHUNK_BYTES
        for entry in self.entries:
            if size >= CHUNK_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(entry)
            size += len(entry.message)
        return [
            logs.ChunkItem(
                attempt=self.live.attempt,
                first=part[0].first,
                count=part[-1].end - part[0].first,
                data=b"".join([entry.message + b"\n" for entry in part]),
                events=self.events if part is parts[-1] else [],
                gist=self.gist if part is parts[-1] else None,
                marks=self.marks if part is parts[-1] else [],
                tenure=self.tenure,
            )
            for part in parts
        ]

    def see(self, batch: Lines) -> None:
        """Note the batch's events, which are kept beside the log as well."""
        gist = self.gist = self.gist or Gist()
        for number, record in enumerate(batch.lines, batch.first):
            event = None if isinstance(record, str) else event_of(record)
            if event is None:
                continue
            gist.add(event)
            if is_wanted(event):
                self.marks.append(Marked(number, batch.time, batch.step, event))
            if isinstance(event, StepStarted | StepEnded):
                self.events.append((batch.time, event))

    def follow(self, later: _Pending) -> None:
        """Add the records that came after these."""
        self.entries += later.entries
        self.events += later.events
        self.marks += later.marks
        self.tenure = later.tenure
        if self.gist is None:
            self.gist = later.gist
        elif later.gist is not None:
            self.gist.extend(later.gist)


class LogCommits:
    """
    Commits records in groups and tells ``committed(live)`` after each commit that held some of that log, and then
    ``gist_changed(live)`` if its gist may be another by that.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ledger: Ledger,
        committed: Callable[[LiveLog], None],
        refused: Callable[[LiveLog], None],
        gist_changed: Callable[[LiveLog], None],
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._committed = committed
        self._refused = refused  # the ledger has other records of this log, or its end: nothing is pending any more
        self._gist_changed = gist_changed
        self._pending: dict[LiveLog, _Pending] = {}
        self._timer: IDelayedCall | None = None
        self._busy = False
        self._stopping = False
        self._running: Deferred[None] | None = None
        self._last = float("-inf")
        self._waiting: list[tuple[LiveLog, int, Deferred[None]]] = []
        self.failing = False  # whether the last commit failed

    def add(self, live: LiveLog, added: list[tuple[Entry, Batch]], tenure: Tenure | None = None) -> None:
        """
        Add records to be committed, in the order of their numbers.

        :param tenure: of the link that they came by; None: no other apiserver can have its builder
        """
        if not added:
            return
        pending = self._pending.get(live)
        if pending is None:
            pending = self._pending[live] = _Pending(live)
        pending.tenure = tenure
        for entry, batch in added:
            pending.entries.append(entry)
            if not isinstance(batch, Gap) and _has_events(batch):
                pending.see(batch)
        self._schedule()

    def durable(self, live: LiveLog, next: int) -> Deferred[None]:
        """
        Fires when all of the log's records below ``next`` are committed; fails with `LogOrder` if they can't be, with
        `TenureLost` if the link that they came by may not write them any more, and with `LedgerUnavailable` if they
        weren't when the service stopped.
        """
        done: Deferred[None] = Deferred()
        if live.broken:
            done.errback(LogOrder(live.attempt, live.committed, next))
        elif live.committed >= next:
            done.callback(None)
        else:
            self._waiting.append((live, next, done))
        return done

    async def stop(self) -> None:
        """Commit what waits, once; what can't be committed the builders will send again."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running is not None:
            await self._running
        if self._pending:
            await self._begin()
        waiting, self._waiting = self._waiting, []
        for live, _next, done in waiting:
            done.errback(LedgerUnavailable(f"the records of {live.attempt} were not committed before the stop"))

    def _schedule(self, delay: float | None = None) -> None:
        if self._busy or self._stopping:
            return
        if delay is None:
            delay = self._last + COMMIT_INTERVAL - self._clock.seconds()
            if delay < NEARLY:
                delay = 0.0
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._begin)
        elif delay == 0.0 and not self.failing:
            self._timer.reset(0.0)

    def _begin(self) -> Deferred[None]:
        self._timer = None
        self._busy = True
        self._last = self._clock.seconds()
        group, self._pending = self._pending, {}
        self._running = Deferred.fromCoroutine(self._commit(group)).addErrback(
            lambda failure: self._log.failure("committing log records failed", failure)
        )
        return self._running

    async def _commit(self, group: dict[LiveLog, _Pending]) -> None:
        outcomes = await self._write([pending.items() for pending in group.values()])
        failed: dict[LiveLog, _Pending] = {}
        for result, (live, pending) in zip(outcomes, group.items(), strict=True):
            if isinstance(result, set):
                live.commit(pending.entries[-1].end)
                self._committed(live)
                if live.attempt in result:
                    self._gist_changed(live)
                continue
            if result.check(LogOrder, TenureLost) is not None:
                self._log.error("{error}", error=result.value)
                self._drop(live, result)
                continue
            failed[live] = pending
            if result.check(LedgerUnavailable) is None:
                self._log.failure("records of {attempt} can't be stored", result, attempt=live.attempt)
            elif not self.failing:
                self._log.error("log records can't be committed, builds wait: {error}", error=result.value)
        if self.failing and not failed:
            self._log.info("log records are committed again")
        self.failing = bool(failed)
        self._put_back(failed)
        self._busy = False
        self._fire()
        if self._pending:
            self._schedule(RETRY_INTERVAL if self.failing else None)

    async def _write(self, group: list[list[logs.ChunkItem]]) -> list[Failure | set[str]]:
        """
        Write the chunks of each log. Return for each a failure, or the attempts whose gist may have changed. Together
        they cost a third of what they would cost one by one.
        """
        try:
            changed = await self._ledger.write(logs.append, [item for items in group for item in items])
        except LedgerUnavailable:
            return [Failure()] * len(group)
        except Exception:
            if len(group) == 1:
                return [Failure()]
            # One log's trouble isn't another's.
            writes = [self._ledger.write(logs.append, items) for items in group]
            return [result for _succeeded, result in await DeferredList(writes, consumeErrors=True)]
        return [changed] * len(group)

    def _drop(self, live: LiveLog, why: Failure) -> None:
        self._pending.pop(live, None)
        live.broken = True
        dropped = [each for each in self._waiting if each[0] is live]
        self._waiting = [each for each in self._waiting if each[0] is not live]
        for _live, _next, done in dropped:
            done.errback(why)
        self._refused(live)

    def _fire(self) -> None:
        waiting, self._waiting = self._waiting, []
        for live, next, done in waiting:
            if live.committed >= next:
                done.callback(None)
            else:
                self._waiting.append((live, next, done))

    def _put_back(self, group: dict[LiveLog, _Pending]) -> None:
        for live, later in self._pending.items():
            earlier = group.get(live)
            if earlier is None:
                group[live] = later
            else:
                earlier.follow(later)
        self._pending = group


def _has_events(batch: Lines) -> bool:
    """Return whether a batch holds anything but strings. Found in C, since most batches don't."""
    return len(set(map(type, batch.lines)) - {str}) > 0
