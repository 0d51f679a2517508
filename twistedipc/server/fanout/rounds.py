"""
When viewers are told that logs have grown: in rounds, which take a share of the reactor's time at most. Used by
``store``.

A round wakes all viewers of all logs that have changed, and its cost is mostly a write for each of them. It comes at
the end of the reactor's turn, so that what came in one turn goes out together. After a round that was cheap the next
may follow at once; after a costly one there is a pause in proportion, in which lines gather: hundreds of viewers of a
slow log don't cost a write for each line and viewer when there is more to do than time. A log in which a full block has
gathered doesn't wait: a longer pause would make its writes bigger, not fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: The share of the reactor's time that rounds may take by default.
DEFAULT_SHARE = 0.5

#: Bytes gathered in one log that needn't wait for more.
FULL_BLOCK = 1 << 16

#: Seconds: a shorter pause is left out (the reactor's own clock is no finer), and none is longer.
LEAST_PAUSE = 0.001
LONGEST_PAUSE = 0.5


class Audience(Protocol):
    """Something that grows, and its readers that wait for that."""

    gathered: int  # bytes since the last `wake`

    def wake(self) -> None:
        """Wake the readers that wait. Raise nothing."""


_A = TypeVar("_A", bound=Audience)


class Rounds(Generic[_A]):
    """
    Wakes audiences, at most ``share`` (above 0, to 1: no limit) of the time. ``spent`` is the clock, in seconds, by
    which a round's cost is measured: the thread's processor time in a service, so that a round in which the machine did
    something else isn't taken for a costly one.
    """

    def __init__(self, clock: IReactorTime, share: float, spent: Callable[[], float]) -> None:
        self._clock = clock
        self._share = share
        self._spent = spent
        self._changed: dict[_A, None] = {}
        self._next = float("-inf")  # when the pause is over
        self._call: IDelayedCall | None = None

    def changed(self, audience: _A) -> None:
        """The audience's log has grown: wake it in the next round, once for all that comes until then."""
        self._changed[audience] = None
        self._schedule(audience.gathered >= FULL_BLOCK)

    def _schedule(self, at_once: bool) -> None:
        pause = 0.0 if at_once else max(0.0, self._next - self._clock.seconds())
        if self._call is None:
            self._call = self._clock.callLater(pause, self._round)
        elif at_once and self._call.getTime() > self._clock.seconds():
            self._call.reset(0)

    def _round(self) -> None:
        self._call = None
        if self._clock.seconds() >= self._next:
            ready, self._changed = self._changed, {}
        else:
            ready = {audience: None for audience in self._changed if audience.gathered >= FULL_BLOCK}
            for audience in ready:
                del self._changed[audience]
        began = self._spent()
        for audience in ready:
            audience.wake()
        pause = min((self._spent() - began) * (1 / self._share - 1), LONGEST_PAUSE)
        if pause >= LEAST_PAUSE:
            self._next = self._clock.seconds() + pause
        if self._changed:
            self._schedule(any(audience.gathered >= FULL_BLOCK for audience in self._changed))
