"""
Tells others what is to be told, as the ledger says: at least once, in the order of each subject, the last thing last.

Each thing is leased in the ledger before it is told, and its end is written after it. A crash between them has it told
again. A service that is away, or asks to be left alone, is: for a pause that grows, or for as long as it says.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sqlalchemy import Connection
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.outgoing.exchange import Again, Failed
from twistedipc.server.boundaries import RandomBytes
from twistedipc.server.outbox.telling import Telling
from twistedipc.server.workflows import Workflows
from twistedipc.storage import outbox, previews
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.rows import DueRow

#: How many things are told at a time, to all receivers.
MOST = 8

#: Seconds of the first pause after something couldn't be told, and of the longest.
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 1800.0

#: How often something is tried that was refused, and may be taken later.
REFUSALS = 6

#: Seconds after which the ledger is looked at also if nothing has happened.
INTERVAL = 30.0


class Sender:
    """Tells. ``now``: milliseconds since the epoch."""

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now: Callable[[], int],
        random: RandomBytes,
        ledger: Ledger,
        workflows: Workflows,
        telling: Telling,
    ) -> None:
        self._clock = clock
        self._now = now
        self._random = random
        self._ledger = ledger
        self._workflows = workflows
        self._telling = telling
        self._running = 0  # how many things are being told
        self._tellings: set[Deferred[str | Failed]] = set()  # those of them that a receiver hasn't answered yet
        self._looking = False
        self._again = False
        self._stopped = True
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Go on with what a stop or a crash has left."""
        self._stopped = False
        self._looking = True
        self._workflows.launch(self._begin(), "looking for what was being told")

    def stop(self) -> None:
        """Tell nothing more. What is being told is told again after the next start."""
        self._stopped = True
        self._cancel_timer()
        for telling in list(self._tellings):
            telling.cancel()

    def wake(self) -> None:
        """Look what is to be told, now or once more after the look that is under way."""
        if self._stopped:
            return
        if self._looking:
            self._again = True
            return
        self._looking = True
        self._workflows.launch(self._look(), "looking for what is to be told")

    async def _begin(self) -> None:
        try:
            await self._workflows.retry_until_available(lambda: self._ledger.write(outbox.void_leases))
        except BaseException:
            self._looking = False
            raise
        await self._look()

    async def _look(self) -> None:
        try:
            while not self._stopped:
                self._again = False
                await self._lease()
                if not self._again:
                    return
        except LedgerUnavailable as error:
            self._log.info("nothing is told now: {error}", error=error)
        finally:
            self._looking = False
            self._set_timer(INTERVAL)

    async def _lease(self) -> None:
        free = MOST - self._running
        if free > 0 and await self._ledger.read(outbox.anything_due, self._now()):
            for row in await self._ledger.write(_lease, self._now(), free):
                crash_point(CrashPoint.APISERVER_TELLING_LEASED)
                if not self._stopped:
                    self._running += 1
                    self._workflows.launch(self._tell(row), f"telling {row.receiver} of build {row.told.build}")
        due = await self._ledger.read(outbox.next_due, self._now())
        if due is not None:
            self._set_timer((due - self._now()) / 1000)

    async def _tell(self, row: DueRow) -> None:
        try:
            said = await self._asked(row)
            if said is not None:
                crash_point(CrashPoint.APISERVER_TOLD)
                await self._workflows.retry_until_available(lambda: self._note(row, said))
        finally:
            self._running -= 1
            self.wake()  # the next thing of this subject, or another that waits for its turn

    async def _asked(self, row: DueRow) -> str | Failed | None:
        """Tell it; None if the service stops meanwhile, so that the next start tells it."""
        telling = Deferred.fromCoroutine(self._telling.tell(row))
        self._tellings.add(telling)
        try:
            return await telling
        except CancelledError:
            return None
        except Exception as error:  # a mistake of ours, with something that a service has said
            self._log.failure("{receiver} can't be told of build {build}", receiver=row.receiver, build=row.told.build)
            reason = f"a mistake of the apiserver's ({type(error).__name__}), which its log has"
            return Failed(reason=reason, again=Again.SHORT)
        finally:
            self._tellings.discard(telling)

    def _note(self, row: DueRow, said: str | Failed) -> Deferred[None]:
        now = self._now()
        if isinstance(said, str):
            return self._ledger.write(outbox.note_told, row.id, said, now)
        if said.again is Again.NEVER or (said.again is Again.SHORT and row.tries >= REFUSALS):
            return self._ledger.write(outbox.give_up, row.id, said.reason, now)
        due = now + round(1000 * max(said.after, self._pause(row.tries)))
        return self._ledger.write(outbox.postpone, row.id, said.reason, due, now, all_of_it=said.all)

    def _pause(self, tries: int) -> float:
        """Return for how many seconds something rests that was tried so often: half of it by chance."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries - 1, 20))
        return longest * (0.5 + 0.5 * self._random(1)[0] / 255)

    def _set_timer(self, seconds: float) -> None:
        """Look again in so many seconds, or earlier if that is said already."""
        seconds = max(0.05, min(seconds, INTERVAL))
        if self._stopped:
            return
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= self._clock.seconds() + seconds:
                return
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, self.wake)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


def _lease(connection: Connection, now: int, most: int) -> list[DueRow]:
    """Take what is to be told next, each with where people can look at it."""
    return [
        row
        if row.served
        else msgspec.structs.replace(row, served=previews.name_of(connection, row.told.project, row.told.build, now))
        for row in outbox.lease(connection, now, most)
    ]
