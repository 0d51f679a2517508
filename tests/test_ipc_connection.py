"""What the three formats of a connection share: the cork, the timer, pausing, closing. On transports in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.ipc_example import Recorder, apiserver
from twistedipc.ipc import Interface, Listening, Message, NodePeer, Service, handles
from twistedipc.ipc.connections import cork as cork_module
from twistedipc.ipc.connections.connection import LINGER, Connection, Life
from twistedipc.ipc.connections.cork import Cork
from twistedipc.ipc.connections.link import JSONLineProtocol
from twistedipc.ipc.connections.node import NodeConnection
from twistedipc.ipc.connections.plain import PlainProtocol
from twistedipc.ipc.connections.tap import Tap
from twistedipc.ipc.connections.timer import Timer
from twistedipc.ipc.places.keys import make_nonce
from twistedipc.ipc.wire.errors import NotConnected
from twistedipc.ipc.wire.plain import PlainConversation
from twistedipc.ipc.wire.settings import Side


class Wire(StringTransport):
    """A transport that may have enough after each write, and counts them."""

    def __init__(self, full: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False
        self.became_full: Callable[[], None] = lambda: None
        self._full = full

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)
        if self._full():
            self.became_full()

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True


# -- the cork

TURN, CHUNK, LIMIT = 64, 16, 200

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40)),
        st.tuples(st.sampled_from(["begin", "end", "turn", "full", "room"]), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.lists(st.booleans(), max_size=40))
def test_the_cork_loses_nothing_and_keeps_the_order(steps: list[tuple[str, int]], fills: list[bool]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cork_module, "TURN", TURN)
        patch.setattr(cork_module, "CHUNK", CHUNK)
        clock, overflows, turns = Clock(), [0], [0]
        filling = iter(fills)
        wire = Wire(lambda: next(filling, False))

        def turn_ended() -> None:
            turns[0] += 1
            cork.end_chunk()

        def overflowed() -> None:
            overflows[0] += 1

        cork = Cork(clock, LIMIT, turn_ended, overflowed)
        cork.connect(cast(Any, wire))
        wire.became_full = lambda: setattr(cork, "is_full", True)
        added = b""
        for what, size in steps:
            match what:
                case "add":
                    data = bytes([65 + len(added) % 26]) * size
                    cork.add(data)
                    added += data
                    if not overflows[0]:
                        assert cork.enough > 0 or not cork.collected, "an end is coming"
                case "begin":
                    cork.begin_chunk()
                case "end":
                    cork.end_chunk()
                    assert not cork.collected
                case "turn":
                    clock.advance(0)
                    assert clock.getDelayedCalls() == []
                case "full":
                    cork.is_full = True
                case "room":
                    cork.write_held()
            assert len(cork.collected) < TURN + 40
            if overflows[0]:
                return  # the connection is closed then
            assert cork.waiting <= LIMIT + TURN + 40
            assert cork.waiting + len(wire.value()) == len(added)
            assert added.startswith(wire.value())
        wire.became_full = lambda: None  # it has no producer any more
        cork.write_all()
        assert wire.value() == added
        cork.add(b"late")
        cork.end_chunk()
        clock.advance(0)
        assert wire.value() == added, "nothing is written any more"
        assert clock.getDelayedCalls() == []


def test_a_turn_is_one_write_and_a_chunk_leaves_in_pieces() -> None:
    clock, wire = Clock(), Wire()
    cork = Cork(clock, LIMIT, lambda: cork.end_chunk(), lambda: None)
    cork.connect(cast(Any, wire))
    for _ in range(10):
        cork.add(b"x" * 1000)
    assert wire.writes == []
    clock.advance(0)
    assert [len(data) for data in wire.writes] == [10_000]
    cork.begin_chunk()
    for _ in range(10):
        cork.add(b"x" * 1000)
    cork.end_chunk()
    assert [len(data) for data in wire.writes[1:]] == [5000, 5000]


# -- the timer


def test_a_timer_is_set_once_for_a_deadline_that_moves_away() -> None:
    clock, fired = Clock(), [0.0]
    timer = Timer(clock, lambda: fired.append(clock.seconds()))
    timer.set(None)
    assert clock.getDelayedCalls() == []
    timer.set(5.0)
    (first,) = clock.getDelayedCalls()
    timer.set(8.0)
    timer.set(None)
    assert clock.getDelayedCalls() == [first]
    timer.set(3.0)
    assert [call.getTime() for call in clock.getDelayedCalls()] == [3.0]
    clock.advance(3)
    assert fired == [0.0, 3.0]
    timer.set(1.0)  # it is over already
    clock.advance(0)
    assert fired == [0.0, 3.0, 3.0]
    timer.set(9.0)
    timer.set_last(1.0, lambda: fired.append(-1.0))
    clock.advance(10)
    assert fired == [0.0, 3.0, 3.0, -1.0]
    timer.set(99.0)
    timer.cancel()
    timer.cancel()
    assert clock.getDelayedCalls() == []


# -- the three formats


class Word(Message):
    text: str


class Hears(Service):
    interface = Interface("hears", Word)

    @handles(Word)
    def word(self, message: Word, peer: Any) -> None:
        """It is heard."""


class Owner:
    """Of any connection."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def link_made(self, link: object) -> str | None:
        return None

    def link_ready(self, link: object) -> None:
        """It isn't waited for here."""

    def link_lost(self, link: object, reason: str) -> None:
        self.ends.append(reason)


class NodeEnd:
    """A channel's application."""

    def __init__(self, peer: NodePeer) -> None:
        self.peer = peer

    def message_received(self, message: Any) -> None:
        """It is heard."""

    def channel_closed(self, reason: str) -> None:
        """It is over."""


def a_link(clock: Clock, owner: Owner) -> Connection:
    return JSONLineProtocol(Side.LISTENER, apiserver(handshake_timeout=99.0), Recorder, clock, owner, make_nonce())


def a_plain_one(clock: Clock, owner: Owner) -> Connection:
    service = Hears()
    listening = Listening(clock, service, None)
    conversation = PlainConversation(service.interface)
    return PlainProtocol(clock, owner, conversation, listening.application, "plain-1")


def a_channel(clock: Clock, owner: Owner) -> Connection:
    return NodeConnection(clock, NodeEnd, "the parent", 1 << 20)


class World:
    """A connection of one format on a wire in memory."""

    def __init__(self, make: Callable[[Clock, Owner], Connection]) -> None:
        self.clock = Clock()
        self.owner = Owner()
        self.connection = make(self.clock, self.owner)
        self.wire = Wire()
        self.connection.makeConnection(cast(Any, self.wire))
        self.clock.advance(0)

    def close(self) -> None:
        """From this side."""
        match self.connection:
            case NodeConnection():
                self.connection.disconnect()
            case JSONLineProtocol() | PlainProtocol():
                self.connection.close("closed", "enough")
        self.clock.advance(0)

    def lose(self, failure: Exception | None = None) -> None:
        self.connection.connectionLost(Failure(failure or ConnectionDone()))


FORMATS = pytest.mark.parametrize("make", [a_link, a_plain_one, a_channel])


@FORMATS
def test_unread_bytes_are_read_at_the_end(make: Callable[[Clock, Owner], Connection]) -> None:
    """Or the kernel would reset the connection, and the peer never see what was written last."""
    world = World(make)
    world.connection.pauseProducing()
    assert world.wire.producerState == "paused"
    world.close()
    assert world.wire.producerState == "producing"
    assert world.wire.disconnecting
    assert world.wire.producer is None, "a producer would keep the transport open"


@FORMATS
def test_a_peer_that_does_not_read_the_last_words_is_given_up(make: Callable[[Clock, Owner], Connection]) -> None:
    world = World(make)
    world.close()
    aborted = []
    for seconds in (LINGER - 1, 1):
        world.clock.advance(seconds)
        aborted.append(world.wire.aborted)
    assert aborted == [False, True]
    world.lose(ConnectionLost())
    assert world.connection.life is Life.LOST
    assert world.clock.getDelayedCalls() == []


@FORMATS
def test_what_waits_for_room_fails_at_the_end(make: Callable[[Clock, Owner], Connection]) -> None:
    world = World(make)
    producer = cast(Any, world.wire).producer
    assert type(producer) is Tap
    verifyObject(IPushProducer, producer)
    producer.pauseProducing()
    waiting, ends = world.connection.drain(), []
    waiting.addErrback(lambda failure: ends.append(failure.type))
    producer.resumeProducing()
    assert waiting.called
    producer.pauseProducing()
    world.connection.drain().addErrback(lambda failure: ends.append(failure.type))
    world.lose()
    world.connection.drain().addErrback(lambda failure: ends.append(failure.type))
    assert ends == [NotConnected, NotConnected]
    assert world.connection.life is Life.LOST
    assert world.clock.getDelayedCalls() == []


@FORMATS
def test_pausing_is_idempotent_and_over_with_the_connection(make: Callable[[Clock, Owner], Connection]) -> None:
    world = World(make)
    for _ in range(2):
        world.connection.pauseProducing()
        world.connection.pauseProducing()
        assert world.wire.producerState == "paused"
        world.connection.resumeProducing()
        world.connection.resumeProducing()
        world.clock.advance(0)
        assert world.wire.producerState == "producing"
    world.lose()
    world.connection.pauseProducing()
    world.connection.resumeProducing()
    assert world.wire.producerState == "producing"
    assert world.clock.getDelayedCalls() == []


@FORMATS
def test_a_connection_that_never_had_a_transport(make: Callable[[Clock, Owner], Connection]) -> None:
    clock = Clock()
    owner = Owner()
    connection = make(clock, owner)
    connection.connectionLost(Failure(ConnectionDone()))
    assert connection.life is Life.LOST
    assert len(owner.ends) == (0 if isinstance(connection, NodeConnection) else 1)
    failed: list[object] = []
    drained: Deferred[None] = connection.drain()
    drained.addErrback(lambda failure: failed.append(failure.type))
    assert failed == [NotConnected]


def test_a_node_program_that_sends_handles_and_reads_nothing_is_given_up() -> None:
    """Each is acknowledged; the acknowledgements that it doesn't read are bounded."""
    world = World(lambda clock, owner: NodeConnection(clock, NodeEnd, "the parent", 256, outbound_limit=256))
    channel = cast(NodeConnection, world.connection)
    channel.pause_writing()
    for _ in range(100):
        channel.fileDescriptorReceived(os.open(os.devnull, os.O_RDONLY))
        channel.dataReceived(b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":1}\n')
        world.clock.advance(0)
        if world.wire.aborted:
            break
    assert world.wire.aborted
