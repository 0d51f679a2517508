"""How long the peer has been silent, and what follows from it. Sans-IO; used by ``session``."""

from __future__ import annotations

import math
from enum import Enum, auto


class Sign(Enum):
    """What is due after a heartbeat's time without a byte."""

    PING = auto()  # the peer is asked whether it lives
    PONG = auto()  # this side doesn't read: it tells the peer unasked that it lives
    NONE = auto()  # the peer is taken for dead


class Silence:
    """
    The peer's silence, counted in heartbeats. What counts is how often a heartbeat's time passed without a byte, not
    the time that has passed: a process that was stopped for a minute must look at what waits in its socket before it
    judges the peer. All times are in seconds.

    :param heartbeat: between signs of life
    :param dead_after: without received bytes the peer is dead; in whole heartbeats, never less than two of them
    """

    def __init__(self, heartbeat: float, dead_after: float, now: float) -> None:
        self.heartbeat = heartbeat
        self.since = now  # when the last byte came, or the last heartbeat was missed
        self.heartbeats = 0  # that have passed since a byte came
        self.is_sign_wanted = False  # whether the application waits for a sign of life
        self.reading = True  # false while this side doesn't read: then silence is no news of the peer
        self.dead_after = dead_after

    @property
    def due(self) -> float:
        """When `heartbeat_passed` is to be called."""
        return self.since + self.heartbeat

    @property
    def lasted(self) -> float:
        """How long the peer has been silent."""
        return self.heartbeats * self.heartbeat

    def broken(self, now: float) -> None:
        """Note that bytes have come, or that they are read again."""
        self.since = now
        self.heartbeats = 0

    def heartbeat_passed(self, now: float) -> Sign:
        """Note that a heartbeat's time has passed without a byte, and return what is due."""
        self.since = now
        if not self.reading:
            return Sign.PONG
        self.heartbeats += 1
        return Sign.NONE if self.heartbeats >= max(2, math.ceil(self.dead_after / self.heartbeat)) else Sign.PING
