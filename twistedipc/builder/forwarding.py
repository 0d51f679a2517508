"""
From the journals to the link: in turn, within credit, never ahead of the disk. Called by ``looking`` whenever a journal
may have grown, and by ``duties`` when credit has come back or the transport takes more.

Round robin: each attempt sends at most `TURN_BYTES` before the next has its turn, so a chatty build doesn't starve
the others. Control messages don't queue behind logs, since nothing is queued here: what the link doesn't take stays
in the journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twistedipc.attempts.crashpoints import CrashPoint, crash_after_turn
from twistedipc.builder.held import HeldAttempt
from twistedipc.builder.link import ApiserverLink, Uplink
from twistedipc.builds.messages import Log

#: About how many bytes an attempt sends at its turn.
TURN_BYTES = 1 << 16

#: Seconds until a `Final` that wasn't acknowledged is sent again.
FINAL_INTERVAL = 30.0


class Forwarding:
    """
    Forwards the journals of the attempts that the apiserver has said to go on with, and tells their ends.

    :param now: the wall clock, in milliseconds since the epoch
    """

    def __init__(self, clock: IReactorTime, now: Callable[[], int], uplink: Uplink) -> None:
        self._clock = clock
        self._now = now
        self._uplink = uplink
        self._turn: deque[HeldAttempt] = deque()
        self._next: IDelayedCall | None = None  # while a journal is searched for the end of some damage

    def add(self, held: HeldAttempt) -> None:
        """Forward the journal of this attempt too."""
        self._turn.append(held)

    def remove(self, held: HeldAttempt) -> None:
        """Forward the journal of this attempt no longer."""
        if held in self._turn:
            self._turn.remove(held)

    def forward(self) -> None:
        """Send what the credit of the link and of each log allows now."""
        link = self._uplink.synced
        if link is None:
            return
        now = self._clock.seconds()
        if self._forward_logs(link, now):
            crash_after_turn(self._clock, CrashPoint.BUILDER_LOG_SENT)
        if self._next is None and not link.peer.paused and any(held.log.searching for held in self._turn):
            self._next = self._clock.callLater(0, self._go_on)
        for held in self._turn:
            if held.final_due(now - FINAL_INTERVAL):
                held.final_sent = now
                link.send(held.final(self._now()))
                crash_after_turn(self._clock, CrashPoint.BUILDER_FINAL_SENT)

    def _forward_logs(self, link: ApiserverLink, now: float) -> bool:
        """Send as much as there is, as credit allows and as the link takes; return whether that was anything."""
        idle = 0
        sent = False
        while self._turn and idle < len(self._turn):
            if link.peer.paused:
                return sent
            held = self._turn[0]
            self._turn.rotate(-1)
            log = held.log
            batches = log.read(TURN_BYTES, now) if log.synced and log.may_have_more else []
            if batches:
                idle = 0
                sent = True
                link.send(Log(attempt=held.spec.attempt, lease=held.spec.lease, batches=batches))
            else:
                idle += 1
        return sent

    def _go_on(self) -> None:
        self._next = None
        self.forward()

    def stop(self) -> None:
        """Cancel the turn that is planned."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
