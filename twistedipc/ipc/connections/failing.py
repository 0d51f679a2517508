"""Calls that fail at once, as there is no link: `Failing`. Used by the connections, and by ``remote``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

#: Of so many calls that fail at once, one fails at the reactor's next turn.
AT_ONCE = 100


class Failing:
    """
    Makes Deferreds that have failed. A caller that tries again at each failure, in a loop, would never let the reactor
    turn, and so there would never be a link: one failure of each `AT_ONCE` waits for the next turn.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._count = 0

    def fail(self, error: Exception) -> Deferred[Any]:
        """Return a Deferred that fails with ``error``."""
        self._count += 1
        if self._count % AT_ONCE:
            return fail(error)
        later: Deferred[Any] = Deferred(lambda _: turn.cancel())
        turn = self._clock.callLater(0, later.errback, error)
        return later
