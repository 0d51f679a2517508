"""
Work that one apiserver does for all on the same database: it is begun where nobody does it, and stays there as long as
that apiserver lives. Used by ``neighbours``; ``compose`` says which work that is.

Nothing in that work looks whether the duty is still this apiserver's: it is as long as the apiserver lives, which each
transaction that writes looks at (`storage.apiservers.check`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.storage import apiservers
from twistedipc.storage.apiservers import ApiserverRow, Incarnation
from twistedipc.storage.ledger import Ledger


@dataclass
class Duty:
    """
    Work that one apiserver does for all, from `start` on.

    :param wanted: whether this apiserver could do it now; when it can't any more, ``stop`` is called and another may
    """

    name: str
    start: Callable[[], None]
    stop: Callable[[], None]
    wanted: Callable[[], bool] = field(default=lambda: True)
    held: bool = False


class SharedDuties:
    """The duties, and which of them this apiserver has. ``time``: the database's clock."""

    _log = Logger()

    def __init__(self, ledger: Ledger, time: Callable[[Connection], int], duties: Sequence[Duty]) -> None:
        self._ledger = ledger
        self._time = time
        self._duties = duties
        self._stopped = False

    @property
    def names(self) -> list[str]:
        """All names."""
        return [duty.name for duty in self._duties]

    def does(self, name: str) -> bool:
        """Return whether this apiserver does this duty."""
        return any(duty.held for duty in self._duties if duty.name == name)

    async def elsewhere(self, name: str) -> ApiserverRow | None:
        """Return which other apiserver does this duty; None: this one, or none. Raises `LedgerUnavailable`."""
        if self.does(name):
            return None
        held = (await self._ledger.read(apiservers.duties_of)).get(name)
        return None if held is None else await self._ledger.read(apiservers.get, held.name)

    def start_all(self) -> None:
        """There is no other apiserver: begin everything."""
        for duty in self._duties:
            duty.held = True
            duty.start()

    def stop(self) -> None:
        """Take no more."""
        self._stopped = True

    async def see_to(self, here: Incarnation, free: Collection[str], mine: Collection[str]) -> None:
        """
        Begin what nobody does, and let go of what can't be done here. Raises `LedgerUnavailable`: then the next time
        does it.

        :param free: what nobody has, or this apiserver
        :param mine: what this apiserver has by the ledger, also if it doesn't do it
        """
        for duty in self._duties:
            stops = duty.held and not duty.wanted()
            if stops:
                duty.held = False
                duty.stop()
            if stops or (not duty.held and duty.name in mine and not duty.wanted()):
                await self._ledger.write(apiservers.leave_duty, duty.name, here)
            elif not duty.held and duty.name in free and duty.wanted() and not self._stopped:
                await self._take(duty, here)

    async def _take(self, duty: Duty, here: Incarnation) -> None:
        def take(connection: Connection) -> bool:
            return apiservers.take_duty(connection, duty.name, here, self._time(connection))

        taken = await self._ledger.write(take)
        crash_point(CrashPoint.APISERVER_DUTY_TAKEN)
        if taken and not self._stopped:
            duty.held = True
            self._log.info("this apiserver does for all: {duty}", duty=duty.name)
            duty.start()
