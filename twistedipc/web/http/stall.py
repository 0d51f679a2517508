"""When to give up a client that takes nothing. ``web.http``; used by ``file_body`` and ``web.logs``."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twistedipc.web.http.channel import BoundedRequest, leaving

#: Seconds that a client may take nothing while something waits for it, and how often its buffers are looked at in that
#: time.
STALL_SECONDS = 300
STALL_LOOKS = 10


class StallWatch:
    """
    Calls ``stalled`` once nothing has left for the client in ``seconds`` between `begin` and `end`. A slow client
    isn't stalled: since the transport asks for more only when it has sent everything, its buffers are looked at in
    between.
    """

    def __init__(
        self,
        clock: IReactorTime,
        request: BoundedRequest,
        stalled: Callable[[], None],
        seconds: float = STALL_SECONDS,
    ) -> None:
        self._clock = clock
        self._request = request
        self._stalled = stalled
        self._interval = seconds / STALL_LOOKS
        self._next: IDelayedCall | None = None

    def begin(self) -> None:
        """Start watching: the connection has enough for now. Idempotent."""
        if self._next is None:
            self._look_later(0, (0, 0))

    def end(self) -> None:
        """Stop watching: the connection takes more, or the response is over. Idempotent."""
        if self._next is not None:
            self._next.cancel()
        self._next = None

    def _look_later(self, looks: int, before: tuple[int, int]) -> None:
        self._next = self._clock.callLater(self._interval, self._look, looks, before)

    def _look(self, looks: int, before: tuple[int, int]) -> None:
        """Count the looks since something left, and give the client up after the last one."""
        self._next = None
        now = leaving(self._request.channel.transport)
        looks = looks + 1 if now == before else 0
        if looks < STALL_LOOKS:
            self._look_later(looks, now)
        else:
            self._stalled()
