"""
From the journals to the link: in turn, within credit, never ahead of the disk. Called by ``service`` whenever a
journal may have grown, credit has come back, or the transport takes more.

Round robin: each attempt sends at most `TURN_BYTES` before the next has its turn, so a chatty build doesn't starve
the others. Control messages don't queue behind logs, since nothing is queued here: what the link doesn't take stays
in the journal.
"""

from __future__ import annotations

from collections import deque

from twistedipc.builder.held import HeldAttempt
from twistedipc.builder.link import ApiserverLink
from twistedipc.builds.messages import Log

#: About how many bytes an attempt sends at its turn.
TURN_BYTES = 1 << 16


class Forwarding:
    """Forwards the journals of the attempts that the apiserver has said to go on with."""

    def __init__(self) -> None:
        self._turn: deque[HeldAttempt] = deque()

    def add(self, held: HeldAttempt) -> None:
        """Forward this one too."""
        self._turn.append(held)

    def remove(self, held: HeldAttempt) -> None:
        """No longer."""
        if held in self._turn:
            self._turn.remove(held)

    def pump(self, link: ApiserverLink, now: float) -> bool:
        """
        Send as much as there is, as credit allows and as the link takes; whether that was anything. ``now`` is the
        reactor's time.
        """
        idle = 0
        sent = False
        while self._turn and idle < len(self._turn):
            if link.peer.paused:
                return sent
            held = self._turn[0]
            self._turn.rotate(-1)
            batches = held.read(TURN_BYTES, now) if held.synced and held.may_have_more else []
            if batches:
                idle = 0
                sent = True
                link.send(Log(attempt=held.spec.attempt, lease=held.spec.lease, batches=batches))
            else:
                idle += 1
        return sent

    @property
    def searching(self) -> bool:
        """Whether a journal is to be looked through further, though nothing new may come to it."""
        return any(held.searching for held in self._turn)
