"""
The logs of all attempts as viewers see them: the live ones, and the stored ones behind them. Called by
``builder_link`` (records come in), ``commits`` (they became durable) and ``web`` (viewers take them out).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twistedipc.builds.logs import End, LogDigest, batch_decoder, trim
from twistedipc.builds.states import LOG_OVER
from twistedipc.server.fanout.cursor import LogCursor
from twistedipc.server.fanout.entries import Entry, entry_of, tag_of
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.live import LiveLog
from twistedipc.server.fanout.rounds import DEFAULT_SHARE, Rounds
from twistedipc.server.fanout.shared import SharedFiles
from twistedipc.storage import attempts, logs
from twistedipc.storage.ledger import Ledger

EMPTY_SHA256 = LogDigest().hexdigest()


class UnknownAttempt(Exception):
    """The ledger has no such attempt."""


class LogStore:
    """All logs. Implements `boundaries.Logs`. ``share`` and ``spent`` are for `Rounds`."""

    def __init__(
        self,
        clock: IReactorTime,
        ledger: Ledger,
        *,
        share: float = DEFAULT_SHARE,
        spent: Callable[[], float] | None = None,
        limits: LogLimits | None = None,
        files: SharedFiles | None = None,
    ) -> None:
        self._ledger = ledger
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
            end = End(lines, sha256, row.state.value, row.complete or (lines == 0 and next == 1))
        live.restore(next, end)

    async def read(self, attempt: str, first: int) -> list[Entry]:
        """Return stored entries from record ``first`` on, some 64 KiB of them."""
        chunks = await self._ledger.read(logs.read, attempt, first, self._limits.fetch)
        entries: list[Entry] = []
        tag = tag_of(attempt)
        for chunk in chunks:
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
        return entries

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
