"""Waiting until there is room again. Used by ``connection``, and by ``streams``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred


class Drains:
    """
    The Deferreds of one connection's ``drain``, or of the writers into one outbox. A Deferred that is cancelled (by a
    timeout) is forgotten, so that waiting again and again for a peer that never reads costs nothing.
    """

    def __init__(self) -> None:
        self._waiting: dict[Deferred[None], None] = {}  # in the order in which they came

    def wait(self) -> Deferred[None]:
        """Return a Deferred that fires when there is room."""
        waiting: Deferred[None] = Deferred(self._forget)
        self._waiting[waiting] = None
        return waiting

    def release(self, has_room: Callable[[], bool] = lambda: True) -> None:
        """
        Fire Deferreds, in the order in which they came, as long as there is room, which what their callers do may use
        up. A caller that waits again meanwhile waits for the next time, behind the others.
        """
        for each in list(self._waiting):
            if not has_room():
                return
            if self._waiting.pop(each, each) is None:  # those before it may cancel it
                each.callback(None)

    def fail(self, error: Exception) -> None:
        """Fail all Deferreds with ``error``: there will be no room any more."""
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            if not each.called:
                each.errback(error)

    def _forget(self, waiting: Deferred[None]) -> None:
        self._waiting.pop(waiting, None)

    def __len__(self) -> int:
        """Return the number of Deferreds that haven't fired."""
        return len(self._waiting)


class Room:
    """
    Those who wait for room on one connection. Each may fill what room there is, each time: so they are first by turns.
    """

    def __init__(self) -> None:
        #: the callers of ``drain``
        self.drains = Drains()
        #: whether the application knows that there is no room
        self.is_told_full = False
        self._first = -1

    def go_on(self, waiting: Sequence[Callable[[], None]], is_full: Callable[[], bool]) -> None:
        """Let those go on who wait, until there is no room: it begins with another one each time."""
        self._first = (self._first + 1) % len(waiting)
        for each in (*waiting[self._first :], *waiting[: self._first]):
            if is_full():
                return
            each()
