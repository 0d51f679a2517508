"""The session's table: every input in every state, by what the session does and not only by the table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from tests.ipc_example import Ask, Note, Told, apiserver, builder
from twistedipc.ipc.wire.errors import LocalProtocolError, NotConnected
from twistedipc.ipc.wire.messages import CallReceived, CallReplied, Vocabulary
from twistedipc.ipc.wire.session import (
    CallDropped,
    CallEnded,
    Closed,
    CreditReceived,
    ErrorReceived,
    Event,
    ItemsReceived,
    MessageRefused,
    PongReceived,
    Proven,
    Ready,
    Session,
)
from twistedipc.ipc.wire.settings import SessionSettings, Side
from twistedipc.ipc.wire.states import MAY_SEND, STEPS, Act, Input, State

LIMITS: dict[str, float] = {"handshake_timeout": 5.0, "heartbeat": 10.0, "dead_after": 20.0}

#: A call of the peer's that is open in each world that is ready, the number of this side's that wait, and one that
#: waits for items.
OPEN_CALL = 8
WAITING = 4
ITEMS_CALL = WAITING + 1


class Browse(msgspec.Struct, tag="browse", tag_field="type"):
    """Asks for items."""


VOCABULARY = Vocabulary(Note | Ask, answers={Ask: Told}, calls={Ask: Told}, calls_items={Browse: Told})


class World:
    """A session in some state, and the peer that it has met."""

    def __init__(self, side: Side, state: State, what: Input, *, older: bool = False) -> None:
        self.now = 0.0
        settings = self.settings(side)
        if state is State.DECIDING or (state, what) == (State.AUTHENTICATING, Input.MET):
            settings = dataclasses.replace(settings, accept_peer=lambda _: None)
        self.session = Session(side, settings, nonce="1" * 64, now=0.0)
        other = Side.LISTENER if side is Side.DIALLER else Side.DIALLER
        changes: dict[str, Any] = {"features": ()} if older else {}
        self.peer = Session(other, self.settings(other, **changes), nonce="2" * 64, now=0.0)
        self.under_way: list[bytes] = []  # lines of the peer's that it hasn't heard yet
        if state is State.CLOSING:
            self.session.close("closed", "that is all")
        self.told()
        while self.session.state is not state:
            self.meet()
            self.told()
        if state is State.READY:
            self.become_busy()
        self.session.data_to_send()

    @staticmethod
    def settings(side: Side, **changes: Any) -> SessionSettings:
        make = builder if side is Side.DIALLER else apiserver
        return make(vocabulary=VOCABULARY, **LIMITS, **changes)

    def told(self) -> None:
        """The peer hears what the session has said."""
        self.peer.receive(self.session.data_to_send(), 0.0)

    def meet(self) -> list[Event]:
        """The session hears the next line that the peer has said."""
        self.under_way += self.peer.data_to_send().splitlines(keepends=True)
        return self.session.receive(self.under_way.pop(0) if self.under_way else b"", 0.0)

    def go_on(self) -> list[Event]:
        """The session hears the next line, or that its application takes the peer."""
        return self.session.accept(0.0) if self.session.state is State.DECIDING else self.meet()

    def be_pinged(self) -> list[Event]:
        """The peer gives a sign of life: only on a ready session was it asked for one."""
        if self.session.state is State.READY:
            self.session.ping()
        return self.session.receive(b'{"type":"pong"}\n', 0.0)

    def become_busy(self) -> None:
        for _ in range(WAITING):
            self.session.call(Ask("x"), 100.0)
        assert self.session.call_for_items(Browse(), 1000) == ITEMS_CALL
        line = b'{"type":"call","id":%d,"request":{"type":"ask","what":"x"}}\n' % OPEN_CALL
        assert len(self.session.receive(line, 0.0)) == 1

    def wait(self, seconds: float) -> list[Event]:
        self.now += seconds
        return self.session.tick(self.now)

    def break_a_rule(self) -> list[Event]:
        too_much = b"x" * (2 << 20) if self.session.state is State.DECIDING else b"{nonsense}\n"
        return self.session.receive(too_much, 0.0)

    def be_silent(self) -> list[Event]:
        self.wait(10.0)
        self.session.data_to_send()  # a ping
        return self.wait(10.0)


def _line(text: str) -> Callable[[World], list[Event]]:
    return lambda world: world.session.receive(text.encode() + b"\n", 0.0)


def _said(world: World, do: Callable[[], None]) -> list[Event]:
    do()
    return []


#: How each input comes about, from outside.
INPUTS: dict[Input, Callable[[World], list[Event]]] = {
    Input.SEND: lambda world: _said(world, lambda: world.session.send(Note(1))),
    Input.COMPLAIN: lambda world: _said(world, lambda: world.session.complain("c", "m")),
    Input.MET: lambda world: world.meet(),
    Input.CLOSE: lambda world: _said(world, lambda: world.session.close("closed", "enough")),
    Input.TIME: lambda world: world.wait(1.0),
    Input.LATE: lambda world: world.wait(5.0),
    Input.SILENT: World.be_silent,
    Input.BYTES: lambda world: world.session.receive(b'{"type":', 0.0),
    Input.CHALLENGED: World.meet,
    Input.PROVEN: lambda world: world.go_on(),
    Input.AGREED: lambda world: world.go_on(),
    Input.BROKEN: World.break_a_rule,
    Input.BYE: _line('{"type":"bye","code":"c","reason":"r"}'),
    Input.MESSAGE: _line('{"type":"note","n":1}'),
    Input.CALL: _line('{"type":"call","id":9,"request":{"type":"ask","what":"x"}}'),
    Input.REPLY: _line('{"type":"reply","id":1,"reply":{"answer":"y"}}'),
    Input.REPLIED: _line(
        '{"type":"reply","id":1,"reply":{"answer":"y"}}\n{"type":"reply","id":1,"reply":{"answer":"z"}}'
    ),
    Input.ITEMS: _line(f'{{"type":"call-items","id":{ITEMS_CALL},"items":[{{"answer":"y"}}]}}'),
    Input.MORE: _line(f'{{"type":"call-more","id":{OPEN_CALL},"credit":100}}'),
    Input.ERROR: _line('{"type":"error","id":1,"code":"c","message":"m"}\n{"type":"error","code":"d","message":"n"}'),
    Input.DROP: _line(f'{{"type":"drop","id":{OPEN_CALL}}}'),
    Input.PING: _line('{"type":"ping"}'),
    Input.PONG: lambda world: world.be_pinged(),
    Input.UNKNOWN: _line('{"type":"zzz"}'),
    Input.MISSHAPEN: _line('{"type":"note"}'),
}


@dataclass
class Outcome:
    """What came of an input."""

    events: list[Event] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # the types of the frames
    raised: Exception | None = None

    @property
    def kinds(self) -> list[type]:
        return [type(event) for event in self.events]


def happen(world: World, what: Input) -> Outcome:
    outcome = Outcome()
    try:
        outcome.events = INPUTS[what](world)
    except (LocalProtocolError, NotConnected) as error:
        outcome.raised = error
    outcome.said = [json.loads(line)["type"] for line in world.session.data_to_send().splitlines()]
    return outcome


def is_quiet(outcome: Outcome) -> bool:
    return (outcome.events, outcome.said, outcome.raised) == ([], [], None)


def _ends(remote: bool) -> Callable[[Outcome], bool]:
    def check(outcome: Outcome) -> bool:
        assert outcome.said == ([] if remote else ["bye"])
        return all(isinstance(event, Closed) and event.remote is remote for event in outcome.events)

    return check


#: What each act looks like from outside.
ACTS: dict[Act, Callable[[Outcome], bool]] = {
    Act.ASK: lambda o: o.kinds == [Proven] and o.said == [],
    Act.KEEP: is_quiet,
    Act.GREET: is_quiet,  # half a line
    Act.CONVERSE: is_quiet,
    Act.SAY_HELLO: lambda o: (o.events, o.said) == ([], ["hello"]),
    Act.INTRODUCE: lambda o: o.events == [] and o.said in (["link-interface"], ["welcome", "link-interface"]),
    Act.BEGIN: lambda o: o.kinds == [Ready] and o.said in ([], ["welcome"]),
    Act.HAND_ON: lambda o: o.events == [Note(1)] and o.said == [],
    Act.TAKE_CALL: lambda o: o.events == [CallReceived(9, Ask("x"))] and o.said == [],
    Act.TAKE_REPLY: lambda o: o.kinds == [CallReplied] and o.said == [],
    Act.FORGET_CALL: lambda o: o.kinds == [CallReplied] and o.said == [],  # the second is forgotten
    Act.TAKE_ITEMS: lambda o: o.events == [ItemsReceived(ITEMS_CALL, [Told("y")], 16)] and o.said == [],
    Act.TAKE_CREDIT: lambda o: o.events == [CreditReceived(OPEN_CALL, 100)] and o.said == [],
    Act.TAKE_ERROR: lambda o: o.kinds == [CallEnded, ErrorReceived] and o.said == [],
    Act.DROP_CALL: lambda o: o.events == [CallDropped(OPEN_CALL)] and o.said == [],
    Act.OWE_PONG: lambda o: (o.events, o.said) == ([], ["pong"]),
    Act.NOTE_PONG: lambda o: (o.kinds, o.said) == ([PongReceived], ["ping"]),
    Act.REFUSE_MESSAGE: lambda o: o.kinds == [MessageRefused] and o.said == ["error"],
    Act.REFUSE_MISSHAPEN: lambda o: o.kinds == [MessageRefused] and o.said == ["error"],
    Act.SAY_ERROR: lambda o: (o.events, o.said) == ([], ["error"]),
    Act.WATCH_GREETING: is_quiet,
    Act.WATCH_PEER: is_quiet,
    Act.SAY_BYE: _ends(remote=False),
    Act.END: _ends(remote=True),
    Act.ALLOW: lambda o: (o.events, o.said) == ([], ["note"]),
    Act.REFUSE_EARLY: lambda o: type(o.raised) is LocalProtocolError and o.said == [],
    Act.REFUSE_LATE: lambda o: type(o.raised) is NotConnected and o.said == [],
    Act.IGNORE: is_quiet,
}

PAIRS = [
    (side, state, what)
    for side in Side
    for state in State
    for what in Input
    if (side, state) != (Side.LISTENER, State.CONNECTING)  # a listener begins by itself
]

#: What the session itself finds out, and that can't come in other states than those of the table.
FOUND_OUT = {
    Input.LISTEN,
    Input.CHALLENGED,
    Input.PROVEN,
    Input.AGREED,
    Input.MET,
    Input.LATE,
    Input.SILENT,
}


@pytest.mark.parametrize(("side", "state", "what"), PAIRS)
def test_each_input_in_each_state(side: Side, state: State, what: Input) -> None:
    following, act = STEPS[state][what]
    if act is Act.FORBID or what is Input.LISTEN:
        return  # see below
    # Only a peer that doesn't say what it takes is ready so soon.
    older = state in (State.AUTHENTICATING, State.DECIDING) and what is Input.AGREED
    world = World(side, state, what, older=older)
    outcome = happen(world, what)
    assert ACTS[act](outcome), (act, outcome)
    assert world.session.state is following
    assert (world.session.closed is not None) is (following is State.CLOSING)
    assert (world.session.next_deadline() is None) is (following is State.CLOSING)


def test_a_listener_begins() -> None:
    session = Session(Side.LISTENER, apiserver(), nonce="1" * 64, now=0.0)
    assert STEPS[State.CONNECTING][Input.LISTEN] == (session.state, Act.SAY_CHALLENGE)
    assert json.loads(session.data_to_send())["type"] == "challenge"


@pytest.mark.parametrize(("side", "state", "what"), PAIRS)
def test_what_is_forbidden(side: Side, state: State, what: Input) -> None:
    """A peer that says it breaks a rule, and the session ends; what only the session finds out can't come at all."""
    if STEPS[state][what] != (state, Act.FORBID):
        return
    world = World(side, state, what)
    if what not in FOUND_OUT:
        outcome = happen(world, what)
        if state is State.DECIDING:
            assert is_quiet(outcome)  # it is kept, and looked at when the peer is taken
            return
        assert world.session.state is State.CLOSING
        assert [event.code for event in outcome.events if isinstance(event, Closed)] == ["bad-handshake"]
        assert outcome.said[-1:] == ["bye"]
        return
    with pytest.raises(AssertionError):
        world.session._step(what, None, [])
    assert world.session.state is state


def test_the_table_is_total() -> None:
    assert set(STEPS) == set(State)
    assert all(set(steps) == set(Input) for steps in STEPS.values())
    assert {act for steps in STEPS.values() for _, act in steps.values()} == set(Act)
    assert set(ACTS) | {Act.FORBID, Act.SAY_CHALLENGE} == set(Act)
    assert set(INPUTS) | {Input.LISTEN} == set(Input)


def test_the_end_is_final_and_can_always_come() -> None:
    assert {following for following, _ in STEPS[State.CLOSING].values()} == {State.CLOSING}
    assert all(STEPS[state][Input.CLOSE][0] is State.CLOSING for state in State)
    assert {state: STEPS[state][Input.SEND][1] is Act.ALLOW for state in State} == {
        state: state in MAY_SEND for state in State
    }
