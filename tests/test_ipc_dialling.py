"""The dialling service's states: every input in every state, by what it does and not only by the table."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import AlreadyCalledError, Deferred
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from tests.ipc_example import Recorder, builder
from twistedipc.ipc.connections.connection import LINGER
from twistedipc.ipc.links.dial import FIRST_DELAY, dial_links
from twistedipc.ipc.links.dialling import STEPS, Act, Input, State
from twistedipc.ipc.places.endpoints import LinkReactor


class World:
    """A service on a reactor in memory; what it has begun can be answered, also too late."""

    def __init__(self) -> None:
        self.memory = MemoryReactorClock()
        self.told: list[str] = []
        self.on_told: Callable[[], None] = lambda: None
        self.service = dial_links(
            cast(LinkReactor, self.memory),
            "unix:/nowhere",
            builder(handshake_timeout=1000.0),
            Recorder,
            random=lambda: 1.0,
            failed=self.hear,
        )
        self.wires: list[tuple[Any, StringTransport]] = []
        self.stops: list[Deferred[None]] = []
        self.socket, self._other_end = socket.socketpair()

    def hear(self, reason: str) -> None:
        self.told.append(reason)
        self.on_told()

    @property
    def attempts(self) -> list[Any]:
        return [factory for _, factory, *_ in self.memory.unixClients]

    def start(self) -> None:
        self.service.startService()

    def stop(self) -> None:
        self.stops.append(self.service.stopService())

    def reached(self, attempt: int = -1) -> None:
        if protocol := self.attempts[attempt].buildProtocol(None):
            wire = StringTransport(peerAddress=cast(Any, UNIXAddress(None)))
            cast(Any, wire).socket = self.socket  # whose other end is of this process
            self.wires.append((protocol, wire))
            protocol.makeConnection(wire)

    def failed(self, attempt: int = -1) -> None:
        self.attempts[attempt].clientConnectionFailed(None, Failure(ConnectError(string="nobody")))

    def lost(self) -> None:
        protocol, _ = self.wires.pop()
        protocol.connectionLost(Failure(ConnectionDone()))

    def due(self) -> None:
        self.memory.advance(2 * FIRST_DELAY)

    def retries(self) -> int:
        """How many attempts wait for their time. The link's own deadlines are further away."""
        return sum(call.getTime() - self.memory.seconds() < LINGER - 1 for call in self.memory.getDelayedCalls())

    def check(self, state: State) -> None:
        """What can be seen of the service in this state."""
        self.memory.advance(0)
        assert self.service.state is state
        assert self.retries() == (state is State.WAITING)
        assert len(self.wires) == (state in (State.LINKED, State.CLOSING, State.RESTARTING))
        if self.wires:
            assert self.wires[0][1].disconnecting == (state is not State.LINKED)
        waiting = sum(not stop.called for stop in self.stops)
        assert bool(waiting) == (state in (State.CLOSING, State.RESTARTING))


#: How to get to each state from a new service.
WAYS: dict[State, list[Callable[[World], None]]] = {
    State.IDLE: [],
    State.CONNECTING: [World.start],
    State.WAITING: [World.start, World.failed],
    State.LINKED: [World.start, World.reached],
    State.CLOSING: [World.start, World.reached, World.stop],
    State.RESTARTING: [World.start, World.reached, World.stop, World.start],
}

INPUTS: dict[Input, Callable[[World], None]] = {
    Input.START: World.start,
    Input.STOP: World.stop,
    Input.REACHED: World.reached,
    Input.FAILED: World.failed,
    Input.LOST: World.lost,
    Input.DUE: World.due,
}


def in_state(state: State) -> World:
    world = World()
    for step in WAYS[state]:
        step(world)
    world.check(state)
    return world


def can_come(state: State, what: Input) -> bool:
    """Whether an input can be given from outside: there must have been an attempt that hasn't ended, a connection."""
    match what:
        case Input.REACHED | Input.FAILED:
            return state is State.CONNECTING
        case Input.LOST:
            return state in (State.LINKED, State.CLOSING, State.RESTARTING)
        case _:
            return True


def test_the_table_is_whole() -> None:
    assert set(STEPS) == set(State)
    assert all(set(steps) == set(Input) for steps in STEPS.values())
    assert {act for steps in STEPS.values() for _, acts in steps.values() for act in acts} == set(Act)
    assert {after for steps in STEPS.values() for after, _ in steps.values()} == set(State)


@pytest.mark.parametrize("what", Input)
@pytest.mark.parametrize("state", State)
def test_every_input_in_every_state(state: State, what: Input) -> None:
    if not can_come(state, what):
        assert STEPS[state][what] == (state, ())
        return
    world = in_state(state)
    before = len(world.attempts)
    expected, acts = STEPS[state][what]
    INPUTS[what](world)
    world.check(expected)
    assert len(world.attempts) == before + (Act.CONNECT in acts)


def test_a_connection_that_is_lost_before_its_protocol_has_it() -> None:
    world = World()
    world.start()
    protocol = world.attempts[0].buildProtocol(None)
    assert world.service.state is State.LINKED
    protocol.connectionLost(Failure(ConnectionDone()))
    world.check(State.WAITING)


@given(st.sampled_from(State), st.lists(st.sampled_from([World.start, World.stop]), max_size=6))
def test_what_hears_of_an_end_may_start_and_stop(state: State, steps: list[Callable[[World], None]]) -> None:
    """From within `failed`, in each state that can end: all stops fire, and one attempt at most is under way."""
    if state is State.IDLE or state is State.WAITING:
        return
    world = in_state(state)

    def on_told() -> None:
        world.on_told = lambda: None
        for step in steps:
            step(world)

    world.on_told = on_told
    (world.failed if state is State.CONNECTING else world.lost)()
    world.check(world.service.state)
    world.stop()
    assert all(stop.called for stop in world.stops)
    world.check(State.IDLE)


@pytest.mark.parametrize("late", [World.reached, World.failed])
def test_an_attempt_that_was_given_up_is_not_heard(late: Callable[[World, int], None]) -> None:
    world = World()
    world.start()
    world.stop()
    world.start()
    assert len(world.attempts) == 2
    with suppress(AlreadyCalledError):  # the endpoint's own Deferred: it was cancelled, and hears of a second end
        late(world, 0)
    world.check(State.CONNECTING)
    world.reached(1)
    world.check(State.LINKED)
    assert world.told == []
