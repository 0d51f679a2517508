"""The Deferreds of calls: of one that waits for its reply, and of one that fails at once. Used by ``link``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, passthru
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

_KEEP: Any = (passthru, (), {})

#: Twisted has no public names for these: where they aren't as known here, its own loop does everything.
_KNOWN = all(
    hasattr(Deferred(), name) for name in ("_callbacks", "_canceller", "_runningCallbacks", "called", "paused")
)


#: Of so many calls that fail at once, one fails at the reactor's next turn.
AT_ONCE = 100


class Failing:
    """
    Calls that fail at once, since there is no link. Who tries again at each failure, in a loop, would never let the
    reactor turn, and so there would never be a link: now and then a failure waits for the next turn.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._count = 0

    def fail(self, error: Exception) -> Deferred[Any]:
        """A Deferred that fails with this."""
        self._count += 1
        if self._count % AT_ONCE:
            return fail(error)
        later: Deferred[Any] = Deferred(lambda _: turn.cancel())
        turn = self._clock.callLater(0, later.errback, error)
        return later


class PendingReply(Deferred[Any]):
    """
    Twisted's Deferred in all that it does, at less than half the price where a reply goes the way of nearly all: to
    callbacks that give neither a Deferred nor a Failure, and don't raise. Twisted's own loop, which can follow whole
    chains, has the rest: it takes over in the midst of it, with the result and the callbacks that are left.
    """

    def __init__(self, canceller: Callable[[Deferred[Any]], None]) -> None:
        # An instance's own attributes are found much faster than those of the class, where Twisted has two of these.
        self.called = False
        self.paused = 0
        self._callbacks = []
        self._canceller = canceller
        self._as_ever = self.debug or not _KNOWN
        if self._as_ever:
            super().__init__(canceller)

    def callback(self, result: Any) -> None:
        if self.called or self.paused or self._as_ever or isinstance(result, Failure):
            super().callback(result)
            return
        self.called = True
        self._canceller = None
        self.result = result
        self._runningCallbacks = True  # callbacks that are added from now on are left to this loop
        callbacks: list[Any] = self._callbacks
        while callbacks:
            callback, args, named = callbacks[0][0]
            if args or named:
                if not callable(callback):
                    break  # it stands for another Deferred, which waits for this one
                del callbacks[0]
                try:
                    self.result = result = callback(result, *args, **named)
                except BaseException:
                    self.result = result = Failure()
            else:
                del callbacks[0]
                try:
                    self.result = result = callback(result)
                except BaseException:
                    self.result = result = Failure()
            if result is not None and (isinstance(result, Failure) or Deferred in type(result).__mro__):
                # What was returned is looked at only after a callback: so here is one that returns it again.
                callbacks.insert(0, (_KEEP, _KEEP))
                break
        self._runningCallbacks = False
        if callbacks:
            self._go_on(callbacks)

    def _go_on(self, callbacks: list[Any]) -> None:
        """
        By Twisted's loop. To pause it from within holds up nothing before the next callback is added, or a Deferred
        that waits for this one has been given its result.
        """
        paused, self.paused = self.paused, 0
        held: list[Any] = []
        if paused:
            given = [number for number, each in enumerate(callbacks, 1) if not callable(each[0][0])]
            held = callbacks[given[0] :] if given else []
            del callbacks[len(callbacks) - len(held) :]
        self._runCallbacks()
        callbacks[:0] = held
        self.paused += paused
