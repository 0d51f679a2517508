"""
A client that takes nothing: when to give it up. ``web`` layer; used by ``log_stream`` and ``file_body``.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twistedipc.web.http.channel import BoundedRequest, leaving

#: Seconds that a client may take nothing while there is something, and how often in this time that is looked at.
STALL_SECONDS = 300
STALL_LOOKS = 10


class StallWatch:
    """
    Calls ``stalled`` once nothing has left for the client in `STALL_SECONDS` between `begin` and `end`. A slow client
    isn't stalled: the transport asks for more only when all of what it has is gone, so that is looked at as well.
    """

    def __init__(self, clock: IReactorTime, request: BoundedRequest, stalled: Callable[[], None]) -> None:
        self._clock = clock
        self._request = request
        self._stalled = stalled
        self._next: IDelayedCall | None = None

    def begin(self) -> None:
        """The connection has enough for now. Idempotent."""
        if self._next is None:
            self._look_later(0, (0, 0))

    def end(self) -> None:
        """It takes more, or all is over. Idempotent."""
        if self._next is not None:
            self._next.cancel()
        self._next = None

    def _look_later(self, looks: int, before: tuple[int, int]) -> None:
        self._next = self._clock.callLater(STALL_SECONDS / STALL_LOOKS, self._look, looks, before)

    def _look(self, looks: int, before: tuple[int, int]) -> None:
        """Has anything left since the last look?"""
        self._next = None
        now = leaving(self._request.channel.transport)
        looks = looks + 1 if now == before else 0
        if looks < STALL_LOOKS:
            self._look_later(looks, now)
        else:
            self._stalled()
