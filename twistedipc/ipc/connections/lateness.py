"""How long the peer of a connection without a session may take: `Lateness`. Used by ``plain``."""

from __future__ import annotations

#: Seconds that a line may take from its first byte to its end.
LINE_TIMEOUT = 60.0

#: Seconds that the answers to what was asked may take, after the peer has said that it will ask no more.
LAST_ANSWERS = 30.0


class Lateness:
    """
    When something was heard last, and what follows from it. Times are in seconds.

    :param idle_timeout: without a line and without work, after which the connection is closed; None: never
    """

    def __init__(self, idle_timeout: float | None) -> None:
        self.no_more = False  # the peer has said all
        self._idle_timeout = idle_timeout
        self._last = 0.0  # when a line has ended, or an answer was sent
        self._began: float | None = None  # when the line did that isn't ended

    @property
    def is_patient(self) -> bool:
        """Whether nothing is waited for now that could come too late."""
        return self._began is None and self._idle_timeout is None and not self.no_more

    def active(self, now: float) -> None:
        """Note that something was done, one way or the other."""
        self._last = now

    def heard(self, now: float, *, ended: bool, pending: bool) -> None:
        """Note that bytes have come: whether a line has ended by them, and whether another has begun."""
        if ended:
            self._last, self._began = now, None
        if pending and self._began is None:
            self._began = now

    def end(self, now: float) -> None:
        """Note that the peer has said all. Its answers may take their time from now on."""
        self.no_more, self._began, self._last = True, None, now

    def due(self, *, is_read: bool, is_idle: bool) -> float | None:
        """Return when the peer's time is up, if nothing happens until then."""
        times = []
        if self.no_more:
            times.append(self._last + LAST_ANSWERS)
        elif self._began is not None and is_read:
            times.append(self._began + LINE_TIMEOUT)
        if self._idle_timeout is not None and is_idle:
            times.append(self._last + self._idle_timeout)
        return min(times, default=None)

    def reason(self, now: float) -> str:
        """Return why the peer's time is up, which it is."""
        if self.no_more:
            return f"the peer has ended, and the answers took {LAST_ANSWERS:g} seconds"
        if self._began is not None and now >= self._began + LINE_TIMEOUT:
            return f"a line wasn't ended within {LINE_TIMEOUT:g} seconds"
        return f"there was no line for {self._idle_timeout:g} seconds"
