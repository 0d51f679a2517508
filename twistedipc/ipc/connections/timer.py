"""One timer for a connection's deadlines: `Timer`. Used by ``connection``."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Timer:
    """
    Calls ``due`` at a deadline that mostly moves away. It isn't moved along: a call that comes too early finds nothing
    to do, and the timer is set again.
    """

    def __init__(self, clock: IReactorTime, due: Callable[[], object]) -> None:
        self._clock = clock
        self._due = due
        self._call: IDelayedCall | None = None

    def set(self, at: float | None) -> None:
        """Have ``due`` called at this time, or before it. None: there is no deadline now."""
        if at is None:
            return
        if self._call is not None:
            if self._call.getTime() <= at:
                return
            self._call.cancel()
        self._call = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._go)

    def set_last(self, seconds: float, function: Callable[[], object]) -> None:
        """Have this function called in so many seconds instead."""
        self.cancel()
        self._due = function
        self._call = self._clock.callLater(seconds, self._go)

    def cancel(self) -> None:
        """Have nothing called."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _go(self) -> None:
        self._call = None
        self._due()
