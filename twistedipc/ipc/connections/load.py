"""
What a link's messages have set going on this side, bounded: while it is too much, the link isn't read, and so its peer
waits in the end. Sans-IO but for the `Peer`; used by ``service``, and by whoever starts work at a message's word.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from twistedipc.ipc.connections.peer import Peer

#: How much work that one peer's messages have begun may be under way.
MAX_RUNNING = 256


class Load:
    """One link's load. Reading goes on when nothing speaks against it any more."""

    def __init__(self, peer: Peer, most: int = MAX_RUNNING) -> None:
        self._peer = peer
        self._most = most
        self._running = 0
        self._reasons: set[str] = set()

    def add(self, work: Deferred[Any]) -> None:
        """This is under way until it has fired."""
        self._running += 1
        if self._running >= self._most:
            self.hold("work")
        work.addBoth(self._ended)

    def hold(self, reason: str) -> None:
        """Don't read, until this reason is gone. Idempotent."""
        if not self._reasons:
            self._peer.pause_reading()
        self._reasons.add(reason)

    def release(self, reason: str) -> None:
        """This reason is gone. Idempotent."""
        if reason in self._reasons:
            self._reasons.remove(reason)
            if not self._reasons:
                self._peer.resume_reading()

    def _ended(self, result: Any) -> Any:
        self._running -= 1
        if self._running < self._most:
            self.release("work")
        return result
