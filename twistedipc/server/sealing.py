"""
Logs are sealed in the background: those that have ended, and of long ones that go on what isn't new. Wired by
``compose``.

One part is sealed at a time (`sealed.chunk.CHUNK_BYTES`), in a thread, and moved by a transaction of its own; nothing
more than that is in memory. After each part there is a pause, so that sealing takes no more than its share of the time.
What a stop or a kill leaves undone is done after the next start: what isn't sealed is found in the ledger.

Nothing is removed that couldn't be read again from its copy. A full disk, or a database that can't write, leaves
everything as it was, and the next round tries again.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.sealed.making import Made, make
from twistedipc.sealed.outline import Marked
from twistedipc.server.boundaries import InThread
from twistedipc.server.workflows import Workflows
from twistedipc.storage import sealed_logs
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.log_archive import Archive, NotHere
from twistedipc.storage.rows import ChunkRow
from twistedipc.storage.sealed_logs import Placed, Unsealed

#: The share of the time that sealing may take.
DEFAULT_SHARE = 0.1

#: Seconds from one look at what is to be sealed to the next, and until the first.
INTERVAL = 15.0

#: The longest pause between two parts, in seconds.
MAX_PAUSE = 30.0

#: From so many rounds to so many the archive is searched for files that nothing names: an hour apart, if it is quiet.
#: Not in the first one, so that somebody who sees that the ledger is too old a copy has the time to stop it.
COLLECT_EVERY = 240

#: Seconds for which such a file is kept after something was put into it.
COLLECT_AFTER = 24 * 60 * 60.0

#: Errors of an archive's file that all other files have, too: there is no room, or the whole disk can't be written.
_OF_ALL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

#: How many files of the archive are looked up in the ledger at once.
_TOGETHER = 50


class _Amounts:
    """How many bytes were sealed, and what they take now."""

    def __init__(self) -> None:
        self.plain = 0
        self.sealed = 0


class Sealing:
    """
    Seals one log after the other.

    :param now: milliseconds since the epoch
    :param archive: where chunks are that aren't in the database; None: there is none
    :param files: whether new chunks go there
    :param share: of the time, above 0 and up to 1
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now: Callable[[], int],
        ledger: Ledger,
        workflows: Workflows,
        in_thread: InThread,
        archive: Archive | None,
        kept_since: Callable[[], float] = lambda: math.inf,
        files: bool = False,
        share: float = DEFAULT_SHARE,
    ) -> None:
        self._clock = clock
        self._now = now
        self._ledger = ledger
        self._workflows = workflows
        self._in_thread = in_thread
        self._archive = archive
        self._kept_since = kept_since
        self._files = files and archive is not None
        self._share = share
        self._timer: IDelayedCall | None = None
        self._pause: tuple[IDelayedCall, Deferred[None]] | None = None
        self._running = False
        self._rounds = 0
        self._unfit: set[str] = set()  # logs that can't be sealed, as long as this process lives
        self._amounts = _Amounts()  # of this round

    def start(self) -> None:
        """Begin, a little later."""
        self._running = True
        self._timer = self._clock.callLater(INTERVAL, self._begin)

    def stop(self) -> None:
        """End after what is being done now."""
        self._running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._pause is not None:
            call, paused = self._pause
            call.cancel()
            paused.callback(None)

    def _begin(self) -> None:
        self._workflows.launch(self._round(), "sealing logs")

    async def _round(self) -> None:
        self._amounts = _Amounts()
        failed: list[tuple[str, OSError]] = []
        try:
            self._rounds += 1
            if self._rounds % COLLECT_EVERY == 0:
                await self._collect()
            after = ""
            while self._running and (log := await self._ledger.read(sealed_logs.next_unsealed, after)) is not None:
                after = log.attempt
                try:
                    while self._running and await self._seal_next(log):
                        pass
                except OSError as error:
                    if isinstance(error, NotHere) or error.errno in _OF_ALL:
                        raise
                    failed.append((log.attempt, error))  # a bad file doesn't hold the others up
        except LedgerUnavailable as error:
            self._log.info("logs are not sealed now: {error}", error=error)
        except OSError as error:
            self._log.error("logs can't be sealed: {error}", error=error)
        finally:
            if failed:
                attempt, bad = failed[0]
                text = "{count} logs can't be sealed now, {attempt} among them: {error}"
                self._log.error(text, count=len(failed), attempt=attempt, error=bad)
            if self._amounts.plain:
                self._log.info(
                    "sealed {plain} bytes of logs, which take {sealed} now",
                    plain=self._amounts.plain,
                    sealed=self._amounts.sealed,
                )
            if self._running:
                self._timer = self._clock.callLater(INTERVAL, self._begin)

    async def _seal_next(self, log: Unsealed) -> bool:
        """Seal the next part of a log; whether there was one."""
        began = self._clock.seconds()
        rows = [] if log.attempt in self._unfit else await self._ledger.read(sealed_logs.unsealed, log)
        if not rows:
            return False
        try:
            made, marks = await self._in_thread(_make, rows)
        except ValueError as error:  # also what msgspec raises
            # Nothing that was stored through `logs` is like this, so it isn't lost for a mistake of ours.
            self._unfit.add(log.attempt)
            self._log.error("the log of {attempt} stays unsealed: {error}", attempt=log.attempt, error=error)
            return False
        crash_point(CrashPoint.APISERVER_CHUNK_MADE)
        placed = await self._placed(log.attempt, made)
        plain = [(row.first, row.count) for row in rows]
        if await self._ledger.write(sealed_logs.replace, log.attempt, plain, placed, marks):
            self._amounts.plain += sum(each.chunk.size for each in made)
            self._amounts.sealed += sum(len(each.chunk.data) + len(each.grams) for each in made)
        crash_point(CrashPoint.APISERVER_CHUNK_REPLACED)
        await self._rest(self._clock.seconds() - began)
        return True

    async def _placed(self, attempt: str, made: Sequence[Made]) -> list[Placed]:
        """Put chunks where they belong, if that isn't the database. Raises OSError."""
        if not self._files or self._archive is None:
            return [Placed(each) for each in made]
        known = await self._ledger.read(sealed_logs.archive_mark)
        if known is None:
            mark = await self._in_thread(self._archive.begin)
            await self._ledger.write(sealed_logs.keep_archive_mark, mark)
        else:
            await self._in_thread(self._archive.check, known)
        placed: list[Placed] = []
        place = await self._ledger.read(sealed_logs.next_place, attempt)
        for each in made:
            await self._in_thread(self._archive.put, attempt, place, each.chunk.data)
            placed.append(Placed(each, place))
            place += len(each.chunk.data)
        crash_point(CrashPoint.APISERVER_CHUNK_FILED)
        return placed

    async def _rest(self, spent: float) -> None:
        """Leave the time to others that sealing may not take."""
        pause = min(MAX_PAUSE, spent * (1 / self._share - 1))
        if not self._running or pause <= 0:
            return
        paused: Deferred[None] = Deferred()
        self._pause = self._clock.callLater(pause, paused.callback, None), paused
        try:
            await paused
        finally:
            self._pause = None

    async def _collect(self) -> None:
        """Remove files of which the ledger knows nothing: what a kill has left, or what was removed. Raises OSError."""
        if self._archive is None:
            return
        archive = self._archive
        known = await self._ledger.read(sealed_logs.archive_mark)
        if known is None:
            return
        await self._in_thread(archive.check, known)
        for part in await self._in_thread(archive.parts):
            before = min(self._now() / 1000 - COLLECT_AFTER, self._kept_since())
            names = await self._in_thread(archive.attempts, part, before)
            for at in range(0, len(names), _TOGETHER):
                if not self._running:
                    return
                await self._collect_some(archive, names[at : at + _TOGETHER])

    async def _collect_some(self, archive: Archive, names: list[str]) -> None:
        began = self._clock.seconds()
        named = await self._ledger.read(sealed_logs.filed, tuple(names))
        for name in names:
            if name not in named:
                await self._in_thread(archive.remove, name)
                self._log.info("removed the file of {attempt}'s log, which has nothing stored", attempt=name)
        await self._rest(self._clock.seconds() - began)


def _make(rows: Sequence[ChunkRow]) -> tuple[list[Made], list[Marked]]:
    return make([message for row in rows for message in row.data[:-1].split(b"\n")])
