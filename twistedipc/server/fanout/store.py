"""
The logs of all attempts as viewers see them: the live ones, and the stored ones behind them. Called by
``builder_link`` (records come in), ``commits`` (they became durable) and ``web`` (viewers take them out).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.builds.logs import End, Gap, LogDigest, batch_decoder, trim
from twistedipc.builds.states import LOG_OVER
from twistedipc.server.archived import Archived
from twistedipc.server.fanout.cursor import LogCursor
from twistedipc.server.fanout.entries import Entry, entry_of, tag_of
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.live import LiveLog
from twistedipc.server.fanout.rounds import DEFAULT_SHARE, Rounds
from twistedipc.server.fanout.shared import SharedFiles
from twistedipc.storage import attempts, logs, sealed_logs
from twistedipc.storage.ledger import Ledger

EMPTY_SHA256 = LogDigest().hexdigest()


class UnknownAttempt(Exception):
    """The ledger has no such attempt."""


class LogStore:
    """
    All logs. Implements `boundaries.Logs`. ``share`` and ``spent`` are for `Rounds`; ``archived`` reads what is stored.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ledger: Ledger,
        *,
        share: float = DEFAULT_SHARE,
        spent: Callable[[], float] | None = None,
        limits: LogLimits | None = None,
        files: SharedFiles | None = None,
        archived: Archived | None = None,
    ) -> None:
        self._ledger = ledger
        self._archived = archived or Archived(clock, ledger)
        self._limits = limits or LogLimits()
        self._files = files or SharedFiles()
        self._live: dict[str, LiveLog] = {}
        self._rounds: Rounds[LiveLog] = Rounds(clock, share, spent or clock.seconds)

    def live(self, attempt: str) -> LiveLog:
        """Return the attempt's log in memory, made if there is none; `load` it before use, `release` it after."""
        live = self._live.get(attempt)
        if live is None or live.broken:
            live = self._live[attempt] = LiveLog(attempt, self._limits, self._files)
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
        # Each caller waits by itself: if one is cancelled (a link's call, when the link ends), the others wait on.
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
        if row.state in LOG_OVER:
            lines = next - 1 if row.lines is None else row.lines
            sha256 = row.sha256 or (EMPTY_SHA256 if lines == 0 else "")
            whole = row.log_removed is None and (row.complete or (lines == 0 and next == 1))
            end = End(lines, sha256, row.state.value, whole)
        live.restore(next, end)

    async def read(self, attempt: str, first: int) -> list[Entry]:
        """
        Return stored entries from record ``first`` on, some 64 KiB of them. In the place of what isn't kept any more
        there is a gap.
        """
        chunks = await self._archived.read(logs.read, attempt, first, self._limits.fetch)
        if not chunks:
            gap = await self._missing(attempt, first, None)
            return [] if gap is None else [entry_of(gap, tag_of(attempt))]
        entries: list[Entry] = []
        tag = tag_of(attempt)
        for chunk in chunks:
            if chunk.first > first:
                # A viewer that skipped them would say nothing of it.
                gap = await self._missing(attempt, first, chunk.first - 1)
                if gap is not None:
                    entries.append(entry_of(gap, tag))
                    if gap.to >= chunk.first:
                        return entries
                first = chunk.first
            if chunk.damaged:
                await self._note_damaged(attempt, chunk.first)
            for message in chunk.data.rstrip(b"\n").split(b"\n"):
                batch = batch_decoder.decode(message)
                if batch.end <= first:
                    continue
                if batch.first < first:
                    rest = trim(batch, first)
                    assert rest is not None, "it ends after `first`"
                    entries.append(entry_of(rest, tag))
                else:
                    entries.append(Entry(batch.first, batch.end, message, tag))
            first = chunk.first + chunk.count
        return entries

    def look_at(self, attempt: str, first: int) -> None:
        """Somebody else couldn't read the chunk with this record: read it as viewers do, so that it is noted."""
        Deferred.fromCoroutine(self.read(attempt, first)).addErrback(self._not_looked_at, attempt)

    def _not_looked_at(self, failure: Failure, attempt: str) -> None:
        self._log.info("the log of {attempt} can't be looked at: {error}", attempt=attempt, error=failure.value)

    async def verify(self, attempt: str) -> tuple[int, str]:
        """Return how many records are stored, and their digest, as `logs.verify` does. Raises `LedgerUnavailable`."""
        return await self._archived.read(logs.verify, attempt)

    async def _note_damaged(self, attempt: str, first: int) -> None:
        """
        What was sealed can't be read any more: its readers get a gap, and no end says from now on that the log is
        complete.
        """
        if await self._ledger.write(sealed_logs.note_damaged, attempt, first):
            self._log.error("the stored log of {attempt} is damaged at record {first}", attempt=attempt, first=first)
        self._ask_for_end(attempt)

    async def _missing(self, attempt: str, first: int, last: int | None) -> Gap | None:
        """
        Return what stands for the records from ``first`` to ``last`` that aren't stored. None: to the end of the log,
        if it has one. Of a log that was removed, all that follows has gone. Else it was once stored and is lost, so no
        end says from now on that the log is complete.
        """
        row = await self._ledger.read(attempts.get, attempt)
        if row is None or (last is None and not row.removal and row.state not in LOG_OVER):
            return None
        if last is None or row.removal:
            last = await self._ledger.read(logs.next_record, attempt) - 1
        if last < first:
            return None
        if row.complete and not row.removal and await self._ledger.write(sealed_logs.note_lost, attempt):
            self._log.error("the stored log of {attempt} lacks record {first}", attempt=attempt, first=first)
            self._ask_for_end(attempt)
        return Gap(first, last, row.removal or "these records aren't stored any more")

    def _ask_for_end(self, attempt: str) -> None:
        """Have an end that is in memory asked for once more: what it said of the log doesn't hold any more."""
        live = self._live.get(attempt)
        if live is not None and live.ended and not live.active:
            live.broken = True

    def finish(self, attempt: str, end: End) -> None:
        """The attempt has ended, and that is committed: tell the readers of its log."""
        live = self._live.get(attempt)
        if live is not None:
            live.active = False
            live.finish(end)
            self.changed(live)
            self.release(live)

    def go_on(self, attempt: str) -> LiveLog:
        """Return the attempt's log, which had ended and goes on: what is in memory of its end doesn't hold any more."""
        live = self._live.get(attempt)
        if live is not None and live.ended:
            live.broken = True
        return self.live(attempt)

    # -- several apiservers on one ledger

    def is_followed(self, live: LiveLog) -> bool:
        """Return whether a log is read here, and written elsewhere if at all."""
        return bool(live.cursors) and live.loaded and not (live.active or live.ended or live.broken)

    def followed(self) -> list[LiveLog]:
        """Return the logs of which this is so."""
        return [live for live in self._live.values() if self.is_followed(live)]

    def reload(self, attempt: str) -> None:
        """
        Another apiserver may have added to this log, or ended it: what is in memory is read again, unless it is written
        here.
        """
        live = self._live.get(attempt)
        if live is not None and not live.active:
            live.broken = True
            self.changed(live)
            self.release(live)

    def is_written(self, attempt: str) -> bool:
        """Return whether a builder that is linked here writes this log."""
        live = self._live.get(attempt)
        return live is not None and live.active

    def heard(self, attempt: str, *, over: bool) -> None:
        """Another apiserver has changed the attempt. ``over``: nothing is added to its log any more."""
        live = self._live.get(attempt)
        if live is not None and live.loaded and over != live.ended:
            self.reload(attempt)

    def changed(self, live: LiveLog) -> None:
        """
        The log has grown: wake its viewers at the end of this turn of the reactor, once for all that has come in it, or
        somewhat later if waking them takes much of the time; see `rounds`.
        """
        self._rounds.changed(live)

    def release(self, live: LiveLog) -> None:
        """Forget a log that has no reader and no writer any more; the store has it."""
        unused = not live.cursors and not live.active and live.committed == live.next
        if (live.broken or unused) and self._live.get(live.attempt) is live:
            del self._live[live.attempt]
