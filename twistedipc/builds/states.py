"""
The states of a build attempt and of a release, and which may follow which. Bottom layer; used by everyone.

The tables are data: the ledger's compare-and-set asks them, the tests walk them, and the diagrams in
``docs/states.md`` are drawn from them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class AttemptState(StrEnum):
    """Where one attempt of a build is. A build's state is its newest attempt's."""

    QUEUED = "queued"
    OFFERED = "offered"
    ACCEPTED = "accepted"
    RUNNING = "running"
    DISCONNECTED = "disconnected"
    PUBLISHING = "publishing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LOST = "lost"


class ReleaseState(StrEnum):
    """Where one release of a project is; at most one release of a project is live."""

    PACKED = "packed"
    UPLOADING = "uploading"
    LIVE = "live"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"


#: What becomes of a build whose attempt was lost, as its project says: it stays so, or is run again.
OnLost = Literal["lost", "rerun"]

_A = AttemptState

#: How an attempt's run can end: what a runner may report, and a builder on behalf of a runner that died.
OUTCOMES = frozenset({_A.SUCCEEDED, _A.FAILED, _A.CANCELLED, _A.TIMED_OUT, _A.LOST})

#: Terminal states never change; running an attempt again is a new attempt.
TERMINAL = OUTCOMES

#: States in which a builder holds the attempt's lease.
LEASED = frozenset({_A.OFFERED, _A.ACCEPTED, _A.RUNNING, _A.DISCONNECTED, _A.PUBLISHING})

#: state -> the states that may follow it directly.
ATTEMPT_TRANSITIONS: dict[AttemptState, frozenset[AttemptState]] = {
    # Cancelling what no builder has seen needs no process to die first.
    _A.QUEUED: frozenset({_A.OFFERED, _A.CANCELLED}),
    # An offer expires or is declined back into the queue.
    _A.OFFERED: frozenset({_A.QUEUED, _A.ACCEPTED, _A.CANCELLED}),
    _A.ACCEPTED: frozenset({_A.RUNNING, _A.PUBLISHING, _A.DISCONNECTED}) | OUTCOMES,
    _A.RUNNING: frozenset({_A.PUBLISHING, _A.DISCONNECTED}) | OUTCOMES,
    _A.DISCONNECTED: frozenset({_A.ACCEPTED, _A.RUNNING, _A.PUBLISHING}) | OUTCOMES,
    _A.PUBLISHING: frozenset({_A.DISCONNECTED}) | OUTCOMES,
    **{state: frozenset() for state in TERMINAL},
}

_R = ReleaseState

#: state -> the states that may follow it directly. A release that was live can be made live again.
RELEASE_TRANSITIONS: dict[ReleaseState, frozenset[ReleaseState]] = {
    # Superseded at once: when its build ended, something newer was live.
    _R.PACKED: frozenset({_R.UPLOADING, _R.SUPERSEDED}),
    _R.UPLOADING: frozenset({_R.LIVE}),
    _R.LIVE: frozenset({_R.SUPERSEDED, _R.ROLLED_BACK}),
    _R.SUPERSEDED: frozenset({_R.LIVE}),
    _R.ROLLED_BACK: frozenset({_R.LIVE}),
}


class IllegalTransition(Exception):
    """A change of state that the table doesn't have: a bug of ours, or a peer that must not be believed."""

    def __init__(self, before: StrEnum, after: StrEnum) -> None:
        super().__init__(f"{before} can't become {after}")
        self.before = before
        self.after = after


def check_attempt(before: AttemptState, after: AttemptState) -> None:
    """Raise `IllegalTransition` unless an attempt may go from ``before`` to ``after``."""
    if after not in ATTEMPT_TRANSITIONS[before]:
        raise IllegalTransition(before, after)


def check_release(before: ReleaseState, after: ReleaseState) -> None:
    """Raise `IllegalTransition` unless a release may go from ``before`` to ``after``."""
    if after not in RELEASE_TRANSITIONS[before]:
        raise IllegalTransition(before, after)
