"""
Staying awake while the next message is about to come. Used by ``link`` and ``plain``.

Being woken takes most of a round trip's time. Where two processes talk in turns without a pause, it is faster to look
for the next message than to sleep: as KVM's halt polling does, for a bounded time, and only while recent waits were so
short that it pays. A link whose peer is silent or slow, or that only receives, is never polled.
"""

from __future__ import annotations

import os
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: How many short waits in a row there must be before a link polls: at first, and at most.
FEWEST = 8
MOST = 1024


class Polling:
    """
    The waits of one link: a wait begins when this side has answered something, and ends when bytes come.

    Polling begins after some short waits in a row, `FEWEST` at first; a wait is short that isn't longer than the bound.
    When polling didn't pay, which takes no longer than the bound either, twice as many short waits must come before it
    is tried again; when it has paid that often, half as many.

    :param bound: in seconds
    """

    def __init__(self, clock: IReactorTime, bound: float) -> None:
        self._awake = awake(clock)
        self._bound = bound
        self._since: float | None = None  # when the wait began
        self._polled = False  # in this wait
        self._short = 0  # waits in a row
        self._wanted = FEWEST
        self._paid = 0

    def begin(self, now: float) -> None:
        """Begin to wait for the next bytes: something was answered."""
        self._since = now
        self._polled = self._short >= self._wanted
        if self._polled:
            self._awake.wait(self, now, now + self._bound)

    def arrived(self, now: float) -> None:
        """End the wait: bytes have come."""
        if self._since is None:
            return
        short = now - self._since <= self._bound
        self._since = None
        if short:
            self._short += 1
        else:
            self._short = 0
        if self._polled:
            self._polled = False
            self._awake.forget(self)
            self._learn(short)

    def end(self) -> None:
        """Stop: nothing more will come."""
        self._since = None
        self._awake.forget(self)
        self._awake.rest()

    def _learn(self, paid: bool) -> None:
        if not paid:
            self._paid = 0
            self._wanted = min(MOST, self._wanted * 2)
        else:
            self._paid += 1
            if self._paid >= self._wanted:
                self._paid = 0
                self._wanted = max(FEWEST, self._wanted // 2)


class Awake:
    """
    Keeps one reactor from sleeping. It goes round and round, and so serves all its sockets, timers and threads as it
    does else; in each round the processor is offered to other processes.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._for: Polling | None = None  # the link that has begun to wait last
        self._until = 0.0
        self._seen = 0.0
        self._round: IDelayedCall | None = None

    def wait(self, polling: Polling, now: float, until: float) -> None:
        """Stay awake until then. Only the link that has begun to wait last is heeded: it waits the longest."""
        self._for = polling
        self._seen = now
        self._until = until
        if self._round is None:
            self._round = self._clock.callLater(0, self._go_round)

    def forget(self, polling: Polling) -> None:
        """Wait no longer. A round that has begun finds that out by itself, as this may wait again soon."""
        if self._for is polling:
            self._for = None

    def rest(self) -> None:
        """Begin no further round if no link waits."""
        if self._for is None and self._round is not None:
            self._round.cancel()
            self._round = None

    def _go_round(self) -> None:
        self._round = None
        now = self._clock.seconds()
        # A clock that stands still is a test's, and one that goes back was set: waiting for them would never end.
        if self._for is not None and self._seen < now < self._until:
            self._seen = now
            _offer_the_processor()
            self._round = self._clock.callLater(0, self._go_round)
        else:
            self._for = None


def _nothing() -> None:
    """Do nothing, where the system has no such call."""


_offer_the_processor = getattr(os, "sched_yield", _nothing)

#: By the clock's identity, which is its own as long as the value lives.
_awake: WeakValueDictionary[int, Awake] = WeakValueDictionary()


def awake(clock: IReactorTime) -> Awake:
    """The one of this reactor."""
    found = _awake.get(id(clock))
    if found is None:
        found = _awake[id(clock)] = Awake(clock)
    return found
