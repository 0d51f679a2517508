"""Who waits until there is room again. Used by ``link``, ``node`` and ``plain``, and by ``streams``."""

from __future__ import annotations

from twisted.internet.defer import Deferred


class Drains:
    """
    The Deferreds of one connection's ``drain``, or of whoever writes into one outbox. Whoever gives up waiting (a
    timeout) is forgotten, so that waiting again and again for a peer that never reads costs nothing.
    """

    def __init__(self) -> None:
        self._waiting: dict[Deferred[None], None] = {}  # in the order in which they came

    def wait(self) -> Deferred[None]:
        """One more waits."""
        waiting: Deferred[None] = Deferred(self._forget)
        self._waiting[waiting] = None
        return waiting

    def release(self) -> None:
        """There is room: all go on. Who waits again meanwhile waits for the next time."""
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            if not each.called:  # those before it may cancel it
                each.callback(None)

    def fail(self, error: Exception) -> None:
        """It never will: all fail with this."""
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            if not each.called:
                each.errback(error)

    def _forget(self, waiting: Deferred[None]) -> None:
        self._waiting.pop(waiting, None)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)
