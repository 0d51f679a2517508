"""
Builders that are away: since when, and when their attempts are lost. Used by ``builders`` and ``waiting``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: `lost_after` is counted in this many ticks. If this process itself was stopped for an hour, only one tick has passed,
#: and the builder has all others left to come back.
AWAY_PARTS = 10


@dataclass
class _Absence:
    since: int  # milliseconds since the epoch
    timer: IDelayedCall
    left: int  # parts


class Away:
    """
    :param now: milliseconds since the epoch.
    :param lost_after: seconds that a builder may be away.
    :param give_up: called with a builder's name when that time is over.
    :param may_come: false while no builder can come back here: that time doesn't count.
    """

    def __init__(
        self,
        clock: IReactorTime,
        now: Callable[[], int],
        lost_after: float,
        give_up: Callable[[str], None],
        may_come: Callable[[], bool] = lambda: True,
    ) -> None:
        self._clock = clock
        self._now = now
        self._give_up = give_up
        self._may_come = may_come
        self._part = lost_after / AWAY_PARTS
        self._absences: dict[str, _Absence] = {}

    def expect(self, builder: str) -> None:
        """The builder has gone, or this apiserver has just started: wait for the builder, but not for ever."""
        if builder not in self._absences:
            timer = self._clock.callLater(self._part, self._absence_tick, builder)
            self._absences[builder] = _Absence(self._now(), timer, AWAY_PARTS - 1)

    def back(self, builder: str) -> None:
        """Stop waiting for a builder, which has come back or won't."""
        absence = self._absences.pop(builder, None)
        if absence is not None:
            absence.timer.cancel()

    def since(self, builder: str) -> int | None:
        """Return since when the builder is waited for, in milliseconds since the epoch; None if it isn't."""
        absence = self._absences.get(builder)
        return None if absence is None else absence.since

    def left(self, builder: str) -> float:
        """Return the seconds until the builder's attempts are lost; 0 if it isn't waited for."""
        absence = self._absences.get(builder)
        if absence is None:
            return 0.0
        return absence.left * self._part + max(0.0, absence.timer.getTime() - self._clock.seconds())

    def stop(self) -> None:
        """Stop waiting for all builders."""
        for builder in list(self._absences):
            self.back(builder)

    def _absence_tick(self, builder: str) -> None:
        absence = self._absences[builder]
        counts = self._may_come()
        if counts and not absence.left:
            del self._absences[builder]
            self._give_up(builder)
            return
        if counts:
            absence.left -= 1
        absence.timer = self._clock.callLater(self._part, self._absence_tick, builder)
