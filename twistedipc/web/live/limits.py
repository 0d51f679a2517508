"""
What a viewer may cost, and when one is given up: pure, on times that it is given. ``web.live``; used by ``viewers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Times are in seconds."""

    #: Between two looks at all viewers.
    look_interval: float = 5.0
    #: Without a byte leaving for a client that has not read everything, until it is closed.
    progress_timeout: float = 60.0
    #: Of silence, until a client that has read everything is pinged; and until it has to answer.
    ping_interval: float = 25.0
    pong_timeout: float = 30.0
    #: For a client to answer a close.
    close_timeout: float = 5.0
    #: Frames that a client may send at once, and how many more each second: each costs us far more than the client.
    max_frames: int = 1000
    frames_per_second: float = 20.0
    #: Frames of one message. (Of empty ones the largest message could have any number.)
    max_fragments: int = 64


class Sign(Enum):
    """What is to be done about a viewer after a look at it."""

    NOTHING = "it moves, or has nothing to do"
    PING = "it is to be asked for a sign of life"
    TOO_SLOW = "it has read nothing for too long"
    DEAD = "it has not answered"


class Pulse:
    """
    Whether a client lives. One that takes its time is waited for as long as bytes leave for it; only one to which
    everything has gone is asked for a sign of life.
    """

    __slots__ = ("_moved", "_pinged", "_seen", "heard")

    def __init__(self, now: float) -> None:
        self.heard = now  # when bytes last came
        self._moved = now  # when bytes last left
        self._pinged: float | None = None  # since when a pong is awaited
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
    """How many more frames a client may send: so many at once, so many more with time, so many of one message."""

    __slots__ = ("_fragments", "_left", "_since")

    def __init__(self, now: float, limits: Limits) -> None:
        self._left = float(limits.max_frames)
        self._since = now
        self._fragments = 0

    def refill(self, now: float, limits: Limits) -> None:
        """Time has passed."""
        more = (now - self._since) * limits.frames_per_second
        self._since = now
        self._left = min(float(limits.max_frames), self._left + more)

    def message_begins(self) -> None:
        """The next frames are of another message."""
        self._fragments = 0

    def spend(self, limits: Limits, *, fragment: bool) -> bool:
        """Take a frame into account (``fragment``: it is of a message); return whether it may still come."""
        self._left -= 1
        self._fragments += fragment
        return self._left >= 0 and self._fragments <= limits.max_fragments
