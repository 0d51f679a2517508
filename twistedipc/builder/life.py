"""
The life of one attempt on this builder: a state machine without I/O. Used by ``held``; driven by ``looking``.

`TABLE` is the whole machine: what each input does in each state, and what is to be done then. Two kinds of input are
apart. An *event* comes from outside and may come at any time; where the table has no entry for it, it changes nothing.
A *report* says how an action went, and can only come in the state in which that action is under way; anywhere else it
is a bug, and raises.

The states that survive a restart of the builder are in the attempt's folder: `State.found`.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, NamedTuple


class State(Enum):
    """How far an attempt is on this builder."""

    ACCEPTED = "accepted"  # written down; no runner was ever started
    STARTING = "starting"  # the apiserver has said go; the runner isn't started yet, since the disk had no room
    RUNNING = "running"  # its runner was started; if it has died since, no look has found that yet
    CONCLUDING = "concluding"  # its runner has ended; a thread finds out how
    ENDED = "ended"  # its result is known
    ABANDONED = "abandoned"  # the apiserver is done with it while it is CONCLUDING
    STOPPED = "stopped"  # the apiserver is done with it before its end: its runner may live
    OVER = "over"  # the apiserver is done with it: its folder is to be deleted once no runner is left
    REMOVING = "removing"  # a thread deletes its folder
    REMOVED = "removed"  # its folder is gone

    @classmethod
    def found(cls, *, started: bool, ended: bool) -> State:
        """The state of a folder that is found: whether it has the mark of a start, and a result."""
        if ended:
            return cls.ENDED
        return cls.RUNNING if started else cls.ACCEPTED


class Event(Enum):
    """What comes from outside, at any time."""

    GO = "go"  # the apiserver has committed that it was accepted
    LOOK = "look"  # it is time to look at the folder
    RUNNER_GONE = "runner_gone"  # a look has found that the runner has ended
    FORGET = "forget"  # the apiserver is done with it


class Report(Enum):
    """What came of an action."""

    STARTED = "started"  # START: the runner lives
    NO_ROOM = "no_room"  # START: the disk has no room; a later look tries again
    START_FAILED = "start_failed"  # START: there will be no runner; a later look concludes
    CONCLUDED = "concluded"  # CONCLUDE: the result is known
    NOT_CONCLUDED = "not_concluded"  # CONCLUDE: not now; a later look tries again
    DELETED = "deleted"  # REMOVE
    NOT_DELETED = "not_deleted"  # REMOVE: a later look tries again


class Action(Enum):
    """An action that a state begins with."""

    START = "start"  # spawn the runner, now
    CHECK_RUNNER = "check_runner"  # find out whether the runner has ended, now
    CONCLUDE = "conclude"  # find out the result, in a thread
    REMOVE = "remove"  # delete the folder, in a thread


class ImpossibleReport(Exception):
    """A report on an action that isn't under way: a bug."""


class Step(NamedTuple):
    """A row of the table: the next state, and the action that begins with it."""

    to: State
    action: Action | None = None


TABLE: dict[State, dict[Event | Report, Step]] = {
    State.ACCEPTED: {
        Event.GO: Step(State.STARTING, Action.START),
        Event.FORGET: Step(State.OVER),
    },
    State.STARTING: {
        Event.GO: Step(State.STARTING, Action.START),
        Event.LOOK: Step(State.STARTING, Action.START),
        Event.FORGET: Step(State.OVER),
        Report.STARTED: Step(State.RUNNING),
        Report.NO_ROOM: Step(State.STARTING),
        Report.START_FAILED: Step(State.RUNNING),
    },
    State.RUNNING: {
        Event.LOOK: Step(State.RUNNING, Action.CHECK_RUNNER),
        Event.RUNNER_GONE: Step(State.CONCLUDING, Action.CONCLUDE),
        Event.FORGET: Step(State.STOPPED),
    },
    State.CONCLUDING: {
        Event.FORGET: Step(State.ABANDONED),
        Report.CONCLUDED: Step(State.ENDED),
        Report.NOT_CONCLUDED: Step(State.RUNNING),
    },
    State.ENDED: {
        Event.FORGET: Step(State.OVER),
    },
    State.ABANDONED: {
        Report.CONCLUDED: Step(State.OVER),
        Report.NOT_CONCLUDED: Step(State.OVER),
    },
    State.STOPPED: {
        Event.LOOK: Step(State.STOPPED, Action.CHECK_RUNNER),
        Event.RUNNER_GONE: Step(State.REMOVING, Action.REMOVE),
    },
    State.OVER: {
        Event.LOOK: Step(State.OVER, Action.CHECK_RUNNER),
        Event.RUNNER_GONE: Step(State.REMOVING, Action.REMOVE),
    },
    State.REMOVING: {
        Report.DELETED: Step(State.REMOVED),
        Report.NOT_DELETED: Step(State.OVER),
    },
    State.REMOVED: {},
}


class About(NamedTuple):
    """What a state means for the rest of the builder."""

    phase: Literal["accepted", "running", "ended"] | None  # the link's word; None: the apiserver is done with it
    takes_slot: bool  # its runner lives, or may be started
    hears_cancel: bool  # a runner finds what is written for it, now or when it starts


ABOUT: dict[State, About] = {
    State.ACCEPTED: About("accepted", takes_slot=True, hears_cancel=True),
    State.STARTING: About("accepted", takes_slot=True, hears_cancel=True),
    State.RUNNING: About("running", takes_slot=True, hears_cancel=True),
    State.CONCLUDING: About("running", takes_slot=True, hears_cancel=False),
    State.ENDED: About("ended", takes_slot=False, hears_cancel=False),
    State.ABANDONED: About(None, takes_slot=False, hears_cancel=False),
    State.STOPPED: About(None, takes_slot=True, hears_cancel=True),
    State.OVER: About(None, takes_slot=False, hears_cancel=False),
    State.REMOVING: About(None, takes_slot=False, hears_cancel=False),
    State.REMOVED: About(None, takes_slot=False, hears_cancel=False),
}


class Life:
    """The state of one attempt, and nothing but it."""

    def __init__(self, state: State) -> None:
        self.state = state

    @property
    def about(self) -> About:
        """What the state means for the rest of the builder."""
        return ABOUT[self.state]

    def take(self, input: Event | Report) -> Action | None:
        """Go where the table leads; what is to be done then. Raises `ImpossibleReport`."""
        step = TABLE[self.state].get(input)
        if step is None:
            if isinstance(input, Report):
                raise ImpossibleReport(f"{input.name} in {self.state.name}")
            return None
        self.state = step.to
        return step.action
