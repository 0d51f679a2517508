"""
The states of a session, and the table of its steps. Nothing here acts: ``session`` looks each input up, goes to the
next state, and does the act. docs/states.md is drawn from `STEPS`.

Frames that a peer sends at the wrong time never become an input: before a session is ready, only its `Greeting` reads
lines, and a line that it doesn't expect comes here as `Input.BROKEN`.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """The states of a session."""

    CONNECTING = "connecting"  # a dialler that hasn't received the challenge
    AUTHENTICATING = "authenticating"
    INTRODUCING = "introducing"  # both are proven, and the peer is to say what it takes
    DECIDING = "deciding"  # the peer is proven, and this side's application decides whether it takes it
    READY = "ready"
    CLOSING = "closing"  # a `bye` was sent or received; nothing that comes in counts any more


class Input(StrEnum):
    """What can happen to a session."""

    # this side's application, or what made the session
    LISTEN = "listen"  # this side is the listener: it begins
    SEND = "send"  # a message or a call is to be sent
    COMPLAIN = "complain"  # the peer is to be told that something wasn't taken
    CLOSE = "close"  # this side ends the session
    # the clock
    TIME = "time"  # `Session.tick` was called
    LATE = "late"  # the time for the handshake is over
    SILENT = "silent"  # the peer is taken for dead
    # the peer's bytes, and what they amount to
    BYTES = "bytes"
    CHALLENGED = "challenged"  # the challenge was good, and is to be answered
    MET = "met"  # the peer is who it says, and this side's application is to decide
    PROVEN = "proven"  # the peer is who it says, and is to say what it takes
    AGREED = "agreed"  # the handshake is complete, and good
    BROKEN = "broken"  # the peer has broken a rule of the link
    BYE = "bye"
    # the peer's frames on a ready session
    MESSAGE = "message"
    CALL = "call"
    REPLY = "reply"
    REPLIED = "replied"  # a reply that was decoded with its content, and that no call waits for
    ITEMS = "items"
    MORE = "more"
    ERROR = "error"
    DROP = "drop"
    PING = "ping"
    PONG = "pong"
    UNKNOWN = "unknown"  # a frame of a type that this side doesn't receive
    MISSHAPEN = "misshapen"  # a frame with the wrong fields


class Act(StrEnum):
    """What a step makes the session do."""

    SAY_CHALLENGE = "say challenge"
    GREET = "read a line of the handshake"
    SAY_HELLO = "say hello"
    INTRODUCE = "say what is taken here"
    ASK = "ask the application"
    KEEP = "keep for later"
    BEGIN = "begin"  # send what completes the handshake, and tell the application that the session is ready
    CONVERSE = "read frames"
    HAND_ON = "hand on"  # give the message to the application
    TAKE_CALL = "take call"
    TAKE_REPLY = "take reply"
    FORGET_CALL = "forget call"
    TAKE_ITEMS = "take items"
    TAKE_CREDIT = "take credit"
    TAKE_ERROR = "take error"
    DROP_CALL = "drop call"
    OWE_PONG = "owe a pong"
    NOTE_PONG = "note a pong"
    REFUSE_MESSAGE = "refuse message"
    REFUSE_MISSHAPEN = "refuse what is misshapen"
    SAY_ERROR = "say error"
    WATCH_GREETING = "watch the time of the handshake"
    WATCH_PEER = "watch calls and silence"
    SAY_BYE = "say bye, end"  # the session ends by this side's word
    END = "end"  # the session ends by the peer's word
    ALLOW = "allow"  # the caller goes on
    REFUSE_EARLY = "raise LocalProtocolError"  # nothing can be sent yet
    REFUSE_LATE = "raise NotConnected"  # nothing can be sent any more
    IGNORE = "ignore"
    FORBID = "a fault of this library"  # such an input can't come in this state


Step = tuple[State, Act]

S, I, A = State, Input, Act  # noqa: E741


def _steps(state: State, steps: dict[Input, Step], otherwise: Act) -> dict[Input, Step]:
    """Return the steps of a state, with ``otherwise`` for all inputs that aren't among ``steps``."""
    return {each: steps.get(each, (state, otherwise)) for each in Input}


_GREETING: dict[Input, Step] = {
    I.CLOSE: (S.CLOSING, A.SAY_BYE),
    I.LATE: (S.CLOSING, A.SAY_BYE),
    I.BROKEN: (S.CLOSING, A.SAY_BYE),
    I.BYE: (S.CLOSING, A.END),
}

#: state -> input -> the next state, and what is done
STEPS: dict[State, dict[Input, Step]] = {
    S.CONNECTING: _steps(
        S.CONNECTING,
        {
            I.LISTEN: (S.AUTHENTICATING, A.SAY_CHALLENGE),
            I.SEND: (S.CONNECTING, A.REFUSE_EARLY),
            I.COMPLAIN: (S.CONNECTING, A.IGNORE),
            I.TIME: (S.CONNECTING, A.WATCH_GREETING),
            I.BYTES: (S.CONNECTING, A.GREET),
            I.CHALLENGED: (S.AUTHENTICATING, A.SAY_HELLO),
            **_GREETING,
        },
        A.FORBID,
    ),
    S.AUTHENTICATING: _steps(
        S.AUTHENTICATING,
        {
            I.SEND: (S.AUTHENTICATING, A.REFUSE_EARLY),
            I.COMPLAIN: (S.AUTHENTICATING, A.IGNORE),
            I.TIME: (S.AUTHENTICATING, A.WATCH_GREETING),
            I.BYTES: (S.AUTHENTICATING, A.GREET),
            I.MET: (S.DECIDING, A.ASK),
            I.PROVEN: (S.INTRODUCING, A.INTRODUCE),
            I.AGREED: (S.READY, A.BEGIN),  # a peer that is older doesn't say what it takes
            **_GREETING,
        },
        A.FORBID,
    ),
    S.INTRODUCING: _steps(
        S.INTRODUCING,
        {
            I.SEND: (S.INTRODUCING, A.REFUSE_EARLY),
            I.COMPLAIN: (S.INTRODUCING, A.IGNORE),
            I.TIME: (S.INTRODUCING, A.WATCH_GREETING),
            I.BYTES: (S.INTRODUCING, A.GREET),
            I.AGREED: (S.READY, A.BEGIN),
            **_GREETING,
        },
        A.FORBID,
    ),
    S.DECIDING: _steps(
        S.DECIDING,
        {
            I.SEND: (S.DECIDING, A.REFUSE_EARLY),
            I.COMPLAIN: (S.DECIDING, A.IGNORE),
            I.TIME: (S.DECIDING, A.WATCH_GREETING),
            I.BYTES: (S.DECIDING, A.KEEP),
            I.PROVEN: (S.INTRODUCING, A.INTRODUCE),
            I.AGREED: (S.READY, A.BEGIN),
            I.CLOSE: (S.CLOSING, A.SAY_BYE),
            I.LATE: (S.CLOSING, A.SAY_BYE),
            I.BROKEN: (S.CLOSING, A.SAY_BYE),
        },
        A.FORBID,
    ),
    S.READY: _steps(
        S.READY,
        {
            I.SEND: (S.READY, A.ALLOW),
            I.COMPLAIN: (S.READY, A.SAY_ERROR),
            I.CLOSE: (S.CLOSING, A.SAY_BYE),
            I.TIME: (S.READY, A.WATCH_PEER),
            I.SILENT: (S.CLOSING, A.SAY_BYE),
            I.BYTES: (S.READY, A.CONVERSE),
            I.BROKEN: (S.CLOSING, A.SAY_BYE),
            I.BYE: (S.CLOSING, A.END),
            I.MESSAGE: (S.READY, A.HAND_ON),
            I.CALL: (S.READY, A.TAKE_CALL),
            I.REPLY: (S.READY, A.TAKE_REPLY),
            I.REPLIED: (S.READY, A.FORGET_CALL),
            I.ITEMS: (S.READY, A.TAKE_ITEMS),
            I.MORE: (S.READY, A.TAKE_CREDIT),
            I.ERROR: (S.READY, A.TAKE_ERROR),
            I.DROP: (S.READY, A.DROP_CALL),
            I.PING: (S.READY, A.OWE_PONG),
            I.PONG: (S.READY, A.NOTE_PONG),
            I.UNKNOWN: (S.READY, A.REFUSE_MESSAGE),
            I.MISSHAPEN: (S.READY, A.REFUSE_MISSHAPEN),
        },
        A.FORBID,
    ),
    S.CLOSING: _steps(
        S.CLOSING,
        {
            I.LISTEN: (S.CLOSING, A.FORBID),
            I.SEND: (S.CLOSING, A.REFUSE_LATE),
        },
        A.IGNORE,
    ),
}

#: The states in which a message or a call may be sent, by the table: asked for each message, so it is worked out once.
MAY_SEND = frozenset(state for state in State if STEPS[state][I.SEND][1] is A.ALLOW)
