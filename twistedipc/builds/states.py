"""
The states of a build attempt and of a release: one total table of each. Bottom layer, pure; used by everyone.

Whatever depends on a state asks its row: which state may follow, whether a builder has the lease, how a cancellation
works, how a person is shown it. So a state is added here, and the functions that lead into it and out of it in
``server.lifecycle``; the type checker and ``tests/every_state.py`` name any place that doesn't follow the tables. The
page ``docs/states.md`` is drawn from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal


class AttemptState(StrEnum):
    """Where one attempt of a build is. A build's state is its newest attempt's."""

    QUEUED = "queued"
    OFFERED = "offered"
    ACCEPTED = "accepted"
    RUNNING = "running"
    DISCONNECTED = "disconnected"
    PUBLISHING = "publishing"
    WAITING_APPROVAL = "waiting_approval"
    DELIVERING = "delivering"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LOST = "lost"


class ReleaseState(StrEnum):
    """Where one release of a project is. At most one release of a project is live."""

    PACKED = "packed"
    LIVE = "live"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"


#: What becomes of a build whose attempt was lost, as its project says: it stays so, or is run again.
OnLost = Literal["lost", "rerun"]


class Tone(StrEnum):
    """How a state is shown: the page and the command have a colour for each tone, and none for a state."""

    WAITING = "waiting"
    BUSY = "busy"
    GOOD = "good"
    BAD = "bad"
    WARNING = "warning"


class LeaseStatus(StrEnum):
    """What a builder has of an attempt."""

    NONE = "none"
    OFFERED = "offered"  # the lease, if it accepts: the offer can be taken back
    HELD = "held"  # the lease: only this builder can tell how the attempt ends


class Cancellation(StrEnum):
    """What a request to cancel does."""

    AT_ONCE = "at once"  # nothing runs: the attempt is cancelled in the same transaction
    BY_BUILDER = "by the builder"  # the request is noted; the attempt ends when the builder has killed its processes
    BY_APISERVER = "by the apiserver"  # the request is noted; the attempt ends when the apiserver's process is gone
    TOO_LATE = "too late"  # refused: the attempt has ended


class Phase(StrEnum):
    """What of a build's course is told to others: `twistedipc.outgoing`. Several states may be the same to them."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LOST = "lost"  # nobody can tell how it ended


class Waits(StrEnum):
    """What an attempt in this state may be waiting for. ``server.waiting`` has the sentence."""

    FOR_BUILDER = "for a builder"
    FOR_ANSWER = "for an answer"
    FOR_LINK = "for its builder's link"
    FOR_UPLOAD = "for its upload"
    FOR_APPROVAL = "for a person's approval"


@dataclass(frozen=True, kw_only=True)
class StateInfo:
    """
    What is true of every attempt in a state.

    ``reached`` orders what a builder may report when it links again, so that no report takes an attempt back.
    ``talks`` is true if the build may have said something about its progress that still holds. ``unproven`` is what an
    attempt becomes in its place if the apiserver's own record doesn't bear it out, above all if the log isn't whole;
    None if that makes no difference.
    """

    then: frozenset[AttemptState]  # may follow directly
    description: str
    tone: Tone
    cancel: Cancellation
    lease: LeaseStatus = LeaseStatus.NONE
    offerable: bool = False  # the dispatch may offer it to a builder
    talks: bool = False
    reached: int | None = None
    waits: Waits | None = None
    unproven: AttemptState | None = None
    told: Phase | None = None  # what others are told when an attempt comes into it; None: nothing new
    built: bool = False  # its builder is done with it, though it hasn't ended
    delivers: bool = False  # the apiserver publishes what is stored, and goes on with its log

    @property
    def builder_done(self) -> bool:
        """True if its builder may forget it."""
        return self.ended or self.built

    @property
    def log_over(self) -> bool:
        """
        True if nothing comes to its log now. It goes on if the apiserver publishes what was stored, once that is
        approved.
        """
        return self.builder_done and not self.delivers

    @property
    def ended(self) -> bool:
        """True if the state is terminal: it never changes. Running the build again makes a new attempt."""
        return self.cancel is Cancellation.TOO_LATE


_A = AttemptState
_ENDS: Final = frozenset({_A.SUCCEEDED, _A.FAILED, _A.CANCELLED, _A.TIMED_OUT, _A.LOST})
_BUILT: Final = _ENDS | {_A.WAITING_APPROVAL, _A.DELIVERING}  # where a builder's last word leads

#: Every state of an attempt.
STATES: Final[Mapping[AttemptState, StateInfo]] = MappingProxyType(
    {
        _A.QUEUED: StateInfo(
            then=frozenset({_A.OFFERED, _A.CANCELLED}),
            description="waits in the queue for a builder with a free slot",
            tone=Tone.WAITING,
            cancel=Cancellation.AT_ONCE,
            offerable=True,
            waits=Waits.FOR_BUILDER,
            told=Phase.QUEUED,
        ),
        _A.OFFERED: StateInfo(
            # An offer that is declined, or expires, returns the attempt to the queue.
            then=frozenset({_A.QUEUED, _A.ACCEPTED, _A.CANCELLED}),
            description="a builder is being asked to take it",
            tone=Tone.WAITING,
            cancel=Cancellation.BY_BUILDER,
            lease=LeaseStatus.OFFERED,
            waits=Waits.FOR_ANSWER,
        ),
        _A.ACCEPTED: StateInfo(
            then=frozenset({_A.RUNNING, _A.PUBLISHING, _A.DISCONNECTED}) | _BUILT,
            description="its builder prepares it",
            tone=Tone.BUSY,
            cancel=Cancellation.BY_BUILDER,
            lease=LeaseStatus.HELD,
            reached=0,
        ),
        _A.RUNNING: StateInfo(
            then=frozenset({_A.PUBLISHING, _A.DISCONNECTED}) | _BUILT,
            description="its steps run",
            tone=Tone.BUSY,
            cancel=Cancellation.BY_BUILDER,
            lease=LeaseStatus.HELD,
            talks=True,
            reached=1,
            told=Phase.RUNNING,
        ),
        _A.DISCONNECTED: StateInfo(
            then=frozenset({_A.ACCEPTED, _A.RUNNING, _A.PUBLISHING}) | _BUILT,
            description="goes on at its builder, whose link is lost",
            tone=Tone.WARNING,
            cancel=Cancellation.BY_BUILDER,
            lease=LeaseStatus.HELD,
            talks=True,
            waits=Waits.FOR_LINK,
        ),
        _A.PUBLISHING: StateInfo(
            then=frozenset({_A.DISCONNECTED}) | _BUILT,
            description="what it built is uploaded or published",
            tone=Tone.BUSY,
            cancel=Cancellation.BY_BUILDER,
            lease=LeaseStatus.HELD,
            talks=True,
            reached=2,
            waits=Waits.FOR_UPLOAD,
        ),
        _A.WAITING_APPROVAL: StateInfo(
            # What it built is stored, or staged in a registry. Approved: delivering if packages are, else succeeded.
            # Refused: cancelled.
            then=frozenset({_A.DELIVERING, _A.SUCCEEDED, _A.CANCELLED}),
            description="is built, and a person is to approve that it is published",
            tone=Tone.WAITING,
            cancel=Cancellation.AT_ONCE,
            built=True,
            waits=Waits.FOR_APPROVAL,
            told=Phase.WAITING,
        ),
        _A.DELIVERING: StateInfo(
            # What is staged in a registry waits for a person, who approves it there.
            then=frozenset({_A.WAITING_APPROVAL, _A.SUCCEEDED, _A.FAILED, _A.CANCELLED}),
            description="is built, and the apiserver publishes the packages that are stored",
            tone=Tone.BUSY,
            cancel=Cancellation.BY_APISERVER,
            built=True,
            delivers=True,
        ),
        _A.SUCCEEDED: StateInfo(
            then=frozenset(),
            description="every step succeeded, what it built is published, and its log is whole",
            tone=Tone.GOOD,
            cancel=Cancellation.TOO_LATE,
            unproven=_A.FAILED,
            told=Phase.SUCCEEDED,
        ),
        _A.FAILED: StateInfo(
            then=frozenset(),
            description="a step failed, its result could not be published, or its log isn't whole",
            tone=Tone.BAD,
            cancel=Cancellation.TOO_LATE,
            told=Phase.FAILED,
        ),
        _A.CANCELLED: StateInfo(
            then=frozenset(),
            description="was cancelled, and its processes are gone",
            tone=Tone.WARNING,
            cancel=Cancellation.TOO_LATE,
            told=Phase.CANCELLED,
        ),
        _A.TIMED_OUT: StateInfo(
            then=frozenset(),
            description="ran, or was silent, for longer than its project allows",
            tone=Tone.BAD,
            cancel=Cancellation.TOO_LATE,
            told=Phase.TIMED_OUT,
        ),
        _A.LOST: StateInfo(
            then=frozenset(),
            description="its builder or runner is gone, and nothing can tell how it ended",
            tone=Tone.BAD,
            cancel=Cancellation.TOO_LATE,
            told=Phase.LOST,
        ),
    }
)


def states_where(holds: Callable[[StateInfo], bool]) -> frozenset[AttemptState]:
    """Return the states for whose row this is true."""
    return frozenset(state for state, info in STATES.items() if holds(info))


def states_before(state: AttemptState) -> frozenset[AttemptState]:
    """Return the states that ``state`` may directly follow."""
    return states_where(lambda info: state in info.then)


#: Terminal states never change; running an attempt again is a new attempt.
TERMINAL: Final = states_where(lambda info: info.ended)

#: States in which nothing comes to an attempt's log any more.
LOG_OVER: Final = states_where(lambda info: info.log_over)

#: States in which an attempt's builder is done with it.
BUILDER_DONE: Final = states_where(lambda info: info.builder_done)

#: States in which the apiserver publishes what is stored.
DELIVERS: Final = states_where(lambda info: info.delivers)

#: States in which a builder has the attempt's lease.
LEASED: Final = states_where(lambda info: info.lease is not LeaseStatus.NONE)


def proven(state: AttemptState, *, holds: bool) -> AttemptState:
    """Return how an attempt ends of which this is said. ``holds``: the apiserver's own record bears it out."""
    return state if holds else STATES[state].unproven or state


@dataclass(frozen=True, kw_only=True)
class ReleaseInfo:
    """What is true of every release in a state."""

    then: frozenset[ReleaseState]  # may follow directly
    description: str
    tone: Tone


_R = ReleaseState

#: Every state of a release. A release that was live can be made live again.
RELEASE_STATES: Final[Mapping[ReleaseState, ReleaseInfo]] = MappingProxyType(
    {
        _R.PACKED: ReleaseInfo(
            # Superseded at once: when its build ended, something newer was live.
            then=frozenset({_R.LIVE, _R.SUPERSEDED}),
            description="is stored, and not live",
            tone=Tone.WAITING,
        ),
        _R.LIVE: ReleaseInfo(
            then=frozenset({_R.SUPERSEDED, _R.ROLLED_BACK}),
            description="is what the project serves",
            tone=Tone.GOOD,
        ),
        _R.SUPERSEDED: ReleaseInfo(
            then=frozenset({_R.LIVE}),
            description="something newer is live, or was when its build ended",
            tone=Tone.WAITING,
        ),
        _R.ROLLED_BACK: ReleaseInfo(
            then=frozenset({_R.LIVE}),
            description="an older release was made live in its place",
            tone=Tone.WAITING,
        ),
    }
)


class PublicationState(StrEnum):
    """Where the publication of one package is that is published from what was stored."""

    PACKED = "packed"
    STORED = "stored"
    CHECKED = "checked"
    STAGED = "staged"
    APPROVED = "approved"
    PRESENT = "present"
    PUBLISHED = "published"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    FAILED = "failed"
    DROPPED = "dropped"


_P = PublicationState

#: How the publication of a package can end before it is in the registry.
_NOT_THERE: Final = frozenset({_P.CONFLICT, _P.REJECTED, _P.FAILED, _P.DROPPED})

#: Every state of a publication -> those that may follow directly. What a crash has left begins again where its rows
#: say: the registry is asked first.
PUBLICATION_STATES: Final[Mapping[PublicationState, frozenset[PublicationState]]] = MappingProxyType(
    {
        _P.PACKED: frozenset({_P.STORED, _P.DROPPED}),  # its tarball has yet to arrive
        _P.STORED: frozenset({_P.CHECKED}) | _NOT_THERE,
        # The registry has been asked: it takes this version, or has it already with the same content.
        _P.CHECKED: frozenset({_P.STAGED, _P.PRESENT, _P.PUBLISHED}) | _NOT_THERE,
        _P.STAGED: frozenset({_P.APPROVED, _P.PRESENT}) | _NOT_THERE,  # in the registry's stage: a person is to approve
        _P.APPROVED: frozenset({_P.PRESENT, _P.FAILED, _P.DROPPED}),  # and it has yet to become readable
        # Readable there, with this content; its tag isn't moved yet, or is moved back.
        _P.PRESENT: frozenset({_P.PUBLISHED, _P.FAILED, _P.DROPPED}),
        _P.PUBLISHED: frozenset(),  # and its tag leads to it, or to something newer
        _P.CONFLICT: frozenset(),  # the registry has this version with another content
        _P.REJECTED: frozenset(),  # a person has rejected it
        _P.FAILED: frozenset(),
        _P.DROPPED: frozenset(),  # its attempt ended without
    }
)


#: How a publication's state is shown.
PUBLICATION_TONES: Final[Mapping[PublicationState, Tone]] = MappingProxyType(
    {
        _P.PACKED: Tone.WAITING,
        _P.STORED: Tone.WAITING,
        _P.CHECKED: Tone.BUSY,
        _P.STAGED: Tone.WAITING,
        _P.APPROVED: Tone.BUSY,
        _P.PRESENT: Tone.BUSY,
        _P.PUBLISHED: Tone.GOOD,
        _P.CONFLICT: Tone.BAD,
        _P.REJECTED: Tone.WARNING,
        _P.FAILED: Tone.BAD,
        _P.DROPPED: Tone.WARNING,
    }
)


class RequestState(StrEnum):
    """Where a request is about a package that is published: to move a tag, or to deprecate a version."""

    ASKED = "asked"
    BEGUN = "begun"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


_Q = RequestState

#: Every state of a request -> those that may follow directly. After a crash one that has begun is looked at first.
REQUEST_STATES: Final[Mapping[RequestState, frozenset[RequestState]]] = MappingProxyType(
    {
        _Q.ASKED: frozenset({_Q.BEGUN, _Q.FAILED}),
        _Q.BEGUN: frozenset({_Q.WAITING, _Q.DONE, _Q.FAILED}),  # what was there before is written down
        _Q.WAITING: frozenset({_Q.ASKED, _Q.FAILED}),  # for a one-time password
        _Q.DONE: frozenset(),
        _Q.FAILED: frozenset(),
    }
)

#: How a request's state is shown.
REQUEST_TONES: Final[Mapping[RequestState, Tone]] = MappingProxyType(
    {
        _Q.ASKED: Tone.BUSY,
        _Q.BEGUN: Tone.BUSY,
        _Q.WAITING: Tone.WAITING,
        _Q.DONE: Tone.GOOD,
        _Q.FAILED: Tone.BAD,
    }
)


class TellingState(StrEnum):
    """Where something is that is to be told to a receiver outside the platform."""

    WAITING = "waiting"
    TOLD = "told"
    REPLACED = "replaced"
    GIVEN_UP = "given_up"


_T = TellingState

#: Every state of something that is to be told -> those that may follow directly. A person may have it told again.
TELLING_STATES: Final[Mapping[TellingState, frozenset[TellingState]]] = MappingProxyType(
    {
        _T.WAITING: frozenset({_T.TOLD, _T.REPLACED, _T.GIVEN_UP}),
        _T.TOLD: frozenset({_T.WAITING}),
        _T.REPLACED: frozenset(),  # it could not be told, and something newer of the same subject is told in its place
        _T.GIVEN_UP: frozenset({_T.WAITING}),
    }
)

#: How such a state is shown.
TELLING_TONES: Final[Mapping[TellingState, Tone]] = MappingProxyType(
    {
        _T.WAITING: Tone.BUSY,
        _T.TOLD: Tone.GOOD,
        _T.REPLACED: Tone.WAITING,
        _T.GIVEN_UP: Tone.BAD,
    }
)


class IllegalTransition(Exception):
    """A change of state that the table doesn't have: a bug of ours, or a peer that must not be believed."""

    def __init__(self, before: StrEnum, after: StrEnum) -> None:
        super().__init__(f"{before} can't become {after}")
        self.before = before
        self.after = after


def check_attempt(before: AttemptState, after: AttemptState) -> None:
    """Raise `IllegalTransition` unless an attempt may go from ``before`` to ``after``."""
    if after not in STATES[before].then:
        raise IllegalTransition(before, after)


def check_publication(before: PublicationState, after: PublicationState) -> None:
    """Raise `IllegalTransition` unless a publication may go from ``before`` to ``after``."""
    if after not in PUBLICATION_STATES[before]:
        raise IllegalTransition(before, after)


def check_request(before: RequestState, after: RequestState) -> None:
    """Raise `IllegalTransition` unless a request about a package may go from ``before`` to ``after``."""
    if after not in REQUEST_STATES[before]:
        raise IllegalTransition(before, after)


def check_telling(before: TellingState, after: TellingState) -> None:
    """Raise `IllegalTransition` unless something that is to be told may go from ``before`` to ``after``."""
    if after not in TELLING_STATES[before]:
        raise IllegalTransition(before, after)


def check_release(before: ReleaseState, after: ReleaseState) -> None:
    """Raise `IllegalTransition` unless a release may go from ``before`` to ``after``."""
    if after not in RELEASE_STATES[before].then:
        raise IllegalTransition(before, after)
