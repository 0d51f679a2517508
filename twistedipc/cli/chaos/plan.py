"""
The faults of an experiment, from a seed: the same seed gives the same faults, in the same order, with the same times.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import StrEnum

import msgspec


class FaultKind(StrEnum):
    """What can be done to the platform."""

    KILL_APISERVER = "kill-apiserver"
    KILL_BUILDER = "kill-builder"
    KILL_BOTH = "kill-both"
    KILL_RUNNER = "kill-runner"
    STOP_APISERVER = "stop-apiserver"  # SIGSTOP, then SIGCONT
    STOP_BUILDER = "stop-builder"
    RESTART_APISERVER = "restart-apiserver"  # SIGTERM
    RESTART_BUILDER = "restart-builder"
    LINK_RESET = "link-reset"
    LINK_BLACKHOLE = "link-blackhole"  # neither direction, and no end
    LINK_ONE_WAY = "link-one-way"  # one direction only
    LINK_SHREDDED = "link-shredded"  # in small pieces, with pauses
    VIEWERS_CUT = "viewers-cut"  # all at once
    VIEWERS_STUCK = "viewers-stuck"  # half of them stop reading
    DISK_FULL = "disk-full"  # under the journals


#: Faults that need a file system of their own, which only root can mount.
NEEDS_MOUNT = frozenset({FaultKind.DISK_FULL})


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault."""

    kind: FaultKind
    seconds: float  # how long it lasts: until what was killed is started again, or the link is let go
    pause: float  # before it
    choice: int  # which of several, modulo how many there are


def faults(seed: int, kinds: list[FaultKind]) -> Iterator[Fault]:
    """The faults of ``seed``, without end. Each kind comes once in as many faults as there are kinds, in any order."""
    chance = random.Random(seed)
    while True:
        turn = list(kinds)
        chance.shuffle(turn)
        for kind in turn:
            yield Fault(
                kind=kind,
                seconds=round(chance.uniform(0.0, 2.0), 3),
                pause=round(chance.uniform(0.0, 1.0), 3),
                choice=chance.randrange(1 << 16),
            )
