"""How much a viewer may cost, and when it is given up. Pure: time is an argument. ``web.live``; used by ``viewers``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on one viewer. Times are in seconds."""

    #: Between two looks at all viewers.
    look_interval: float = 5.0
    #: Until a client is closed that has not read everything, and for which no byte leaves.
    progress_timeout: float = 60.0
    #: Of silence until a client that has read everything is pinged, and then until it must have answered.
    ping_interval: float = 25.0
    pong_timeout: float = 30.0
    #: Until a client must have answered a close.
    close_timeout: float = 5.0
    #: Frames that a client may send at once, and how many more each second: each costs us more than the client.
    max_frames: int = 1000
    frames_per_second: float = 20.0
    #: Frames of one message. (A message could have any number of empty ones.)
    max_fragments: int = 64


class Sign(Enum):
    """What to do about a viewer after a look at it."""

    NOTHING = "nothing: it reads, or has nothing to read"
    PING = "ping it"
    TOO_SLOW = "close it: it has read nothing for too long"
    DEAD = "drop it: it has not answered a ping"


class Pulse:
    """
    Decides whether a client lives. A slow client is waited for as long as bytes leave for it; only a client that has
    got everything is pinged.
    """

    __slots__ = ("_moved", "_pinged", "_seen", "heard")

    def __init__(self, now: float) -> None:
        self.heard = now  # when bytes last came
        self._moved = now  # when bytes last left
        self._pinged: float | None = None  # when the ping was sent that is not answered yet
        self._seen: tuple[int, ...] = ()

    def look(self, now: float, limits: Limits, seen: tuple[int, ...], waits: bool) -> Sign:
        """
        :param seen: numbers that change when, and only when, bytes have left for the client.
        :param waits: whether something waits for the client to read.
        """
        if seen != self._seen:
            self._seen, self._moved = seen, now
        if waits:
            self._pinged = None
            return Sign.TOO_SLOW if now - self._moved > limits.progress_timeout else Sign.NOTHING
        if self._pinged is not None and self.heard < self._pinged:
            return Sign.DEAD if now - self._pinged > limits.pong_timeout else Sign.NOTHING
        if now - self.heard > limits.ping_interval:
            self._pinged = now
            return Sign.PING
        self._pinged = None
        return Sign.NOTHING


class FrameBudget:
    """Counts the frames that a client may still send: some at once, more with time, and so many of one message."""

    __slots__ = ("_fragments", "_left", "_since")

    def __init__(self, now: float, limits: Limits) -> None:
        self._left = float(limits.max_frames)
        self._since = now
        self._fragments = 0

    def refill(self, now: float, limits: Limits) -> None:
        """Add what has become allowed since the last time."""
        more = (now - self._since) * limits.frames_per_second
        self._since = now
        self._left = min(float(limits.max_frames), self._left + more)

    def message_begins(self) -> None:
        """Count the next frames for another message."""
        self._fragments = 0

    def spend(self, limits: Limits, *, fragment: bool) -> bool:
        """Count a frame (``fragment``: it is part of a message); return whether it was still allowed."""
        self._left -= 1
        self._fragments += fragment
        return self._left >= 0 and self._fragments <= limits.max_fragments
