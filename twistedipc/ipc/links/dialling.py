"""
The states of a dialling service, and the table of its steps. Nothing here acts. Used by ``dial``.

    IDLE ──start──► CONNECTING ──reached──► LINKED
                     ▲   │ failed            │ lost     stop in LINKED ──► CLOSING ──lost──► IDLE
                     │   ▼                   ▼                              │   ▲
                     └── WAITING ◄───────────┘                        start ▼   │ stop
                     due                                                 RESTARTING ──lost──► CONNECTING

A stop in IDLE, CONNECTING or WAITING ends in IDLE at once.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """The states of a dialling service."""

    IDLE = auto()  # stopped, or not started yet
    CONNECTING = auto()  # an attempt is under way
    WAITING = auto()  # for the time of the next attempt
    LINKED = auto()  # there is a connection, whether or not its handshake is over
    CLOSING = auto()  # stopped: the connection is being closed
    RESTARTING = auto()  # started again, before the connection was closed


class Input(Enum):
    """What can happen to a dialling service."""

    START = auto()
    STOP = auto()
    REACHED = auto()  # the attempt has made a connection
    FAILED = auto()  # the attempt has failed
    LOST = auto()  # the connection is closed
    DUE = auto()  # it is time for the next attempt


class Act(Enum):
    """What a step makes the service do."""

    CONNECT = auto()  # begin an attempt
    GIVE_UP = auto()  # cancel the attempt
    RETRY = auto()  # wait for the next attempt, as a link was lost
    RETRY_UNREACHED = auto()  # wait for the next attempt, as the last one has made no connection
    WAIT_NO_LONGER = auto()
    START_AFRESH = auto()  # the next delay is the first one again
    CLOSE = auto()  # close the connection
    END_STOPS = auto()  # fire the Deferreds of the stops


Step = tuple[State, tuple[Act, ...]]

S, I, A = State, Input, Act  # noqa: E741


def _all_else(state: State, steps: dict[Input, Step]) -> dict[Input, Step]:
    """Return the steps of a state. Inputs that can't come in it, or come too late to matter, change nothing."""
    return {each: steps.get(each, (state, ())) for each in Input}


#: state -> input -> the next state, and what is done
STEPS: dict[State, dict[Input, Step]] = {
    S.IDLE: _all_else(
        S.IDLE,
        {
            I.START: (S.CONNECTING, (A.START_AFRESH, A.CONNECT)),
            I.STOP: (S.IDLE, (A.END_STOPS,)),
        },
    ),
    S.CONNECTING: _all_else(
        S.CONNECTING,
        {
            I.START: (S.CONNECTING, (A.START_AFRESH,)),
            I.STOP: (S.IDLE, (A.GIVE_UP, A.END_STOPS)),
            I.REACHED: (S.LINKED, ()),
            I.FAILED: (S.WAITING, (A.RETRY_UNREACHED,)),
        },
    ),
    S.WAITING: _all_else(
        S.WAITING,
        {
            I.START: (S.CONNECTING, (A.WAIT_NO_LONGER, A.START_AFRESH, A.CONNECT)),
            I.STOP: (S.IDLE, (A.WAIT_NO_LONGER, A.END_STOPS)),
            I.DUE: (S.CONNECTING, (A.CONNECT,)),
        },
    ),
    S.LINKED: _all_else(
        S.LINKED,
        {
            I.START: (S.LINKED, (A.START_AFRESH,)),
            I.STOP: (S.CLOSING, (A.CLOSE,)),
            I.LOST: (S.WAITING, (A.RETRY,)),
        },
    ),
    S.CLOSING: _all_else(
        S.CLOSING,
        {
            I.START: (S.RESTARTING, (A.START_AFRESH,)),
            I.STOP: (S.CLOSING, ()),
            I.LOST: (S.IDLE, (A.END_STOPS,)),
        },
    ),
    S.RESTARTING: _all_else(
        S.RESTARTING,
        {
            I.START: (S.RESTARTING, (A.START_AFRESH,)),
            I.STOP: (S.CLOSING, ()),
            I.LOST: (S.CONNECTING, (A.CONNECT, A.END_STOPS)),
        },
    ),
}
