"""
The work that a link's messages have started on this side, bounded: while there is too much of it, the link isn't read,
which in the end makes the peer wait. Used by ``service`` and ``streams``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from twistedipc.ipc.connections.peer import Peer

#: The pieces of work under way, of one peer's messages, at which its link isn't read.
MAX_RUNNING = 256


class Load:
    """One link's load. The link is read while there is no reason against it."""

    def __init__(self, peer: Peer, most: int = MAX_RUNNING) -> None:
        self._peer = peer
        self._most = most
        self._running = 0
        self._reasons: set[str] = set()

    def add(self, work: Deferred[Any]) -> None:
        """Count ``work`` as under way until it has fired."""
        self._running += 1
        if self._running >= self._most:
            self.hold("work")
        work.addBoth(self._ended)

    def hold(self, reason: str) -> None:
        """Stop reading until ``release`` is called with the same reason. Idempotent."""
        if not self._reasons:
            self._peer.pause_reading()
        self._reasons.add(reason)

    def release(self, reason: str) -> None:
        """Withdraw a reason, and read again if it was the last. Idempotent."""
        if reason in self._reasons:
            self._reasons.remove(reason)
            if not self._reasons:
                self._peer.resume_reading()

    def _ended(self, result: Any) -> Any:
        self._running -= 1
        if self._running < self._most:
            self.release("work")
        return result
