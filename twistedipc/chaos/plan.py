"""
The faults of an experiment, from a seed: the same seed gives the same faults, in the same order, with the same times.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import IntEnum, StrEnum
from typing import Final

import msgspec


class FaultKind(StrEnum):
    """The kinds of faults that can be done to the platform."""

    KILL_APISERVER = "kill-apiserver"
    KILL_BUILDER = "kill-builder"
    KILL_BOTH = "kill-both"
    KILL_RUNNER = "kill-runner"
    STOP_APISERVER = "stop-apiserver"  # SIGSTOP, then SIGCONT
    STOP_BUILDER = "stop-builder"
    RESTART_APISERVER = "restart-apiserver"  # SIGTERM
    RESTART_BUILDER = "restart-builder"
    SECOND_BUILDER = "second-builder"  # under the same name, or in the same folder
    LINK_RESET = "link-reset"
    LINK_BLACKHOLE = "link-blackhole"  # neither direction, and no end
    LINK_ONE_WAY = "link-one-way"  # one direction only
    LINK_SHREDDED = "link-shredded"  # in small pieces, down to a byte, with pauses
    VIEWERS_CUT = "viewers-cut"  # all at once
    VIEWERS_STUCK = "viewers-stuck"  # half of them stop reading
    VIEWERS_FLOOD = "viewers-flood"  # many that connect and are gone, or never end their handshake
    GARBAGE = "garbage"  # at the sockets of links, of the API, in a WebSocket
    CANCEL = "cancel"  # a build, at any moment of its life
    POST_STORM = "post-storm"  # one wish for a build, many times at once, with one Idempotency-Key
    DISK_FULL = "disk-full"  # under the journals
    DAMAGE_JOURNAL = "damage-journal"  # while the builder is dead
    DATABASE_FULL = "database-full"  # the disk under the ledger
    DATABASE_LOCKED = "database-locked"  # another process holds the ledger's lock for writing
    KILL_DATABASE = "kill-database"  # PostgreSQL
    FREEZE_DATABASE = "freeze-database"  # all processes of PostgreSQL's: SIGSTOP, then SIGCONT


class Target(IntEnum):
    """The parts of the platform that a fault occupies. No two faults occupy the same part at the same time."""

    APISERVER = 1
    BUILDER = 2
    LINK = 3
    VIEWERS = 4
    JOURNALS = 5
    DATABASE = 6


_K = FaultKind

#: What each kind has in its hands. What isn't named has nothing: it can come in the middle of anything.
TARGETS: Final[dict[FaultKind, frozenset[Target]]] = {
    _K.KILL_APISERVER: frozenset({Target.APISERVER}),
    _K.KILL_BUILDER: frozenset({Target.BUILDER}),
    _K.KILL_BOTH: frozenset({Target.APISERVER, Target.BUILDER}),
    _K.STOP_APISERVER: frozenset({Target.APISERVER}),
    _K.STOP_BUILDER: frozenset({Target.BUILDER}),
    _K.RESTART_APISERVER: frozenset({Target.APISERVER}),
    _K.RESTART_BUILDER: frozenset({Target.BUILDER}),
    _K.LINK_RESET: frozenset({Target.LINK}),
    _K.LINK_BLACKHOLE: frozenset({Target.LINK}),
    _K.LINK_ONE_WAY: frozenset({Target.LINK}),
    _K.LINK_SHREDDED: frozenset({Target.LINK}),
    _K.VIEWERS_STUCK: frozenset({Target.VIEWERS}),
    _K.DISK_FULL: frozenset({Target.JOURNALS}),
    _K.DAMAGE_JOURNAL: frozenset({Target.BUILDER, Target.JOURNALS}),
    _K.DATABASE_FULL: frozenset({Target.DATABASE}),
    _K.DATABASE_LOCKED: frozenset({Target.DATABASE}),
    _K.KILL_DATABASE: frozenset({Target.DATABASE}),
    _K.FREEZE_DATABASE: frozenset({Target.DATABASE}),
}

#: Faults that come alone. A second builder that comes while the first is away takes its place, and by that says that
#: the first one's attempts are gone: as it must be, and not what is to be shown here.
ALONE: Final = frozenset({_K.SECOND_BUILDER})

#: Faults that need a file system of their own, which only root can mount.
NEEDS_MOUNT: Final = frozenset({_K.DISK_FULL, _K.DATABASE_FULL})

#: How many faults overlap at most, and how often another one joins in.
MOST_AT_ONCE: Final = 4
JOINS: Final = 0.5

#: Seconds that the ledger waits for SQLite's lock. One of some locks is held for longer.
BUSY_TIMEOUT: Final = 5.0
LONG_LOCKS: Final = 0.2


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault of a plan: what, when, and for how long."""

    kind: FaultKind
    seconds: float  # how long it lasts: until what was killed is started again, or the link is let go
    pause: float  # before it
    choice: int  # which of several, modulo how many there are
    joins: bool  # it comes while the one before it lasts, or is being recovered from


def faults(seed: int, kinds: list[FaultKind]) -> Iterator[Fault]:
    """The faults of ``seed``, without end. Each kind comes once in as many faults as there are kinds, in any order."""
    chance = random.Random(seed)
    at_once = MOST_AT_ONCE  # how many overlap by now; the first one joins none
    while True:
        turn = list(kinds)
        chance.shuffle(turn)
        for kind in turn:
            # Drawn whether it matters or not: so that what comes later doesn't hang on it.
            wants_to_join = chance.random() < JOINS
            joins = wants_to_join and at_once < MOST_AT_ONCE and kind not in ALONE
            at_once = MOST_AT_ONCE if kind in ALONE else at_once + 1 if joins else 1
            yield Fault(
                kind=kind,
                seconds=_seconds(chance, kind),
                pause=_pause(chance),
                choice=chance.randrange(1 << 16),
                joins=joins,
            )


def volleys(seed: int, kinds: list[FaultKind]) -> Iterator[list[Fault]]:
    """The same faults: those together that come before the platform is waited for."""
    volley: list[Fault] = []
    for fault in faults(seed, kinds):
        if volley and not fault.joins:
            yield volley
            volley = []
        volley.append(fault)


def _seconds(chance: random.Random, kind: FaultKind) -> float:
    """Short, mostly: then another one can follow soon. But a fault that lasts is another one than a short one."""
    drawn, length = chance.random(), chance.random()
    if kind is FaultKind.DATABASE_LOCKED and drawn < LONG_LOCKS:
        return round(BUSY_TIMEOUT + 0.5 + 3 * length, 3)
    if drawn < 0.7:
        return round(0.5 * length, 3)
    if drawn < 0.94:
        return round(0.5 + 1.5 * length, 3)
    return round(2 + 6 * length, 3)


def _pause(chance: random.Random) -> float:
    drawn, length = chance.random(), chance.random()
    return round(0.3 * length if drawn < 0.9 else 0.3 + 1.7 * length, 3)
