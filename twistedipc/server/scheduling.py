"""
Builds what is due by projects' schedules. Wired by ``compose``. When a schedule is due is in the ledger: whatever
happens to this process, a time is neither lost nor built twice (`storage.schedules`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.server.workflows import Workflows
from twistedipc.storage import schedules
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.rows import ScheduleRow

#: The most seconds between two looks. A schedule that was just set is found by then, and a clock that was set too.
INTERVAL = 15.0

#: Seconds until the next look, if this one has found as many as there may be in one.
PAUSE = 0.1


class Scheduling:
    """
    Looks what is due, and has it built.

    :param now: milliseconds since the epoch
    :param run: makes the build of a schedule that is due, if one is to be made
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now: Callable[[], int],
        ledger: Ledger,
        workflows: Workflows,
        run: Callable[[ScheduleRow], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._now = now
        self._ledger = ledger
        self._workflows = workflows
        self._run = run
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin: what was due while the apiserver was away is made now."""
        self._timer = self._clock.callLater(0, self._begin)

    def stop(self) -> None:
        """End; a build that is being made is made."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _begin(self) -> None:
        self._workflows.launch(self._round(), "looking at schedules")

    async def _round(self) -> None:
        pause = INTERVAL
        try:
            all_ran = True
            for schedule in await self._ledger.read(schedules.due, self._now()):
                if self._timer is None:
                    return
                all_ran = await self._ran(schedule) and all_ran
            following = await self._ledger.read(schedules.next_due)
            if following is not None and all_ran:
                pause = min(INTERVAL, max(PAUSE, (following - self._now()) / 1000))
        except LedgerUnavailable as error:
            self._log.info("no schedule is looked at now: {error}", error=error)
        finally:
            if self._timer is not None:
                self._timer = self._clock.callLater(pause, self._begin)

    async def _ran(self, schedule: ScheduleRow) -> bool:
        """Have it built. Return False if that isn't possible now: others don't wait for what is wrong with this one."""
        try:
            await self._run(schedule)
        except LedgerUnavailable:
            raise
        except Exception:
            self._log.failure("schedule {name} of {project} failed", name=schedule.name, project=schedule.project)
            return False
        return True
