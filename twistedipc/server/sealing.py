"""
Logs are sealed in the background: those that have ended, and of long ones that go on what isn't new. Wired by
``compose``.

One part is sealed at a time (`sealed.chunk.CHUNK_BYTES`), in a thread, and moved by a transaction of its own; nothing
more than that is in memory. After each part there is a pause, so that sealing takes no more than its share of the time.
What a stop or a kill leaves undone is done after the next start: what isn't sealed is found in the ledger.

Nothing is removed that couldn't be read again from its copy. A full disk, a database that can't write or an S3 that
doesn't answer leaves everything as it was, and the next round tries again.

What was sealed before somebody decided on another place for it stays, or is moved there, chunk by chunk, each put there
before the transaction that says so. What it leaves behind is named by nothing then, and removed as such.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.sealed.making import Made, make
from twistedipc.sealed.outline import Marked
from twistedipc.server.archived import Archived
from twistedipc.server.boundaries import InThread
from twistedipc.server.filing import Filing, InThreads, Moving, Pace
from twistedipc.server.workflows import Workflows
from twistedipc.storage import sealed_logs
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.log_archive import Kind, NotHere
from twistedipc.storage.rows import ChunkRow
from twistedipc.storage.sealed_logs import Placed, Unsealed

#: The share of the time that sealing may take.
DEFAULT_SHARE = 0.1

#: Seconds from one look at what is to be sealed to the next, and until the first.
INTERVAL = 15.0

#: From so many rounds to so many the archive is searched for files that nothing names: an hour apart, if it is quiet.
#: Not in the first one, so that somebody who sees that the ledger is too old a copy has the time to stop it.
COLLECT_EVERY = 240

#: Errors of an archive's file that all other files have, too: there is no room, or the whole disk can't be written.
_OF_ALL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class _Amounts:
    """How many bytes were sealed, and what they take now."""

    def __init__(self) -> None:
        self.plain = 0
        self.sealed = 0


class Sealing:
    """
    Seals one log after the other.

    :param now: milliseconds since the epoch
    :param archives: where chunks are that aren't in the database
    :param kind: into which of them new chunks go; None: into the database
    :param moves: whether older ones are moved there, too
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
        archived: Archived,
        archives: Mapping[Kind, InThreads],
        kept_since: Callable[[], float] = lambda: math.inf,
        kind: Kind | None = None,
        moves: bool = False,
        share: float = DEFAULT_SHARE,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._workflows = workflows
        self._in_thread = in_thread
        self._pace = Pace(clock, share)
        self._filing = Filing(ledger, archives, kind, self._pace, now, kept_since)
        self._moving = Moving(ledger, archived, in_thread, self._filing, self._pace) if moves else None
        self._timer: IDelayedCall | None = None
        self._rounds = 0
        self._unfit: set[str] = set()  # logs that can't be sealed, as long as this process lives
        self._amounts = _Amounts()  # of this round

    def start(self) -> None:
        """Begin, a little later."""
        self._pace.running = True
        self._timer = self._clock.callLater(INTERVAL, self._begin)

    def stop(self) -> None:
        """End after what is being done now."""
        self._pace.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _begin(self) -> None:
        self._workflows.launch(self._round(), "sealing logs")

    async def _round(self) -> None:
        self._amounts = _Amounts()
        failed: list[tuple[str, OSError]] = []
        try:
            self._rounds += 1
            if self._rounds % COLLECT_EVERY == 0:
                if self._moving is not None:
                    self._moving.look_again()
                await self._filing.collect()
            await self._seal_all(failed)
            if self._moving is not None:
                await self._moving.move()
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
            if self._pace.running:
                self._timer = self._clock.callLater(INTERVAL, self._begin)

    async def _seal_all(self, failed: list[tuple[str, OSError]]) -> None:
        """Seal all that is to be sealed; what a log's own file doesn't take is ``failed``. Raises OSError."""
        after = ""
        while self._pace.running and (log := await self._ledger.read(sealed_logs.next_unsealed, after)) is not None:
            after = log.attempt
            try:
                while self._pace.running and await self._seal_next(log):
                    pass
            except OSError as error:
                if isinstance(error, NotHere) or error.errno in _OF_ALL:
                    raise
                failed.append((log.attempt, error))  # a bad file doesn't hold the others up

    async def _seal_next(self, log: Unsealed) -> bool:
        """Seal the next part of a log; whether there was one."""
        began = self._clock.seconds()
        if log.attempt in self._unfit or (self._filing.kind is Kind.OBJECTS and not log.over):
            # A builder that links again has the digest of a log made that goes on: it mustn't wait for S3.
            return False
        rows = await self._ledger.read(sealed_logs.unsealed, log)
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
        await self._pace.rest(self._clock.seconds() - began)
        return True

    async def _placed(self, attempt: str, made: Sequence[Made]) -> list[Placed]:
        """Put chunks where they belong. Raises OSError."""
        places = await self._filing.put(attempt, [each.chunk.data for each in made])
        return [Placed(each, place) for each, place in zip(made, places, strict=True)]


def _make(rows: Sequence[ChunkRow]) -> tuple[list[Made], list[Marked]]:
    return make([message for row in rows for message in row.data[:-1].split(b"\n")])
