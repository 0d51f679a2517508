"""
A link in memory, for tests of what stands on one: `ServicePair` for a `Service` and the `Remote` that asks it,
`connected_pair` for what is below them. The protocols are the real ones; only the wire and the clock aren't.

Nothing moves by itself: `pump` carries bytes until both sides are quiet, and `advance` lets time go by. The wire can be
cut, can be slow, can lose one direction without a word, and can split or join chunks anyhow; or a test carries the
bytes itself, some at a time (`ConnectedPair.carry`), and lets one side die (`ConnectedPair.kill`). ::

    pair = ServicePair(Calculator())
    reply = pair.remote.call(Add(a=2, b=3))
    pair.pump()
    assert successResultOf(reply) == Sum(5)
    pair.cut()          # the link breaks …
    pair.link()         # … and is made again
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Unpack

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedipc.ipc.connections.link import JSONLineProtocol
from twistedipc.ipc.connections.peer import ApplicationFactory
from twistedipc.ipc.handlers import Service
from twistedipc.ipc.places.keys import make_nonce
from twistedipc.ipc.remote import Remote, Unlinked
from twistedipc.ipc.service import Limits, Listening, side_settings
from twistedipc.ipc.wire.interface import Interface
from twistedipc.ipc.wire.messages import Vocabulary
from twistedipc.ipc.wire.settings import FRAME_LIMIT, MAX_CALLS, SessionSettings, Side

#: The key of the settings that `settings` makes.
KEY = b"0123456789abcdef0123456789abcdef"

#: How often `pump` may go round before it is taken for a loop without an end.
_ROUNDS = 10_000


def settings(vocabulary: Vocabulary, role: str, peer_role: str, **changes: Any) -> SessionSettings:
    """Settings for one side of a pair, with defaults for what a test rarely cares about."""
    values: dict[str, Any] = {"name": f"{role}-1", "incarnation": f"{role}-run-1", "key": KEY}
    return SessionSettings(role=role, peer_role=peer_role, vocabulary=vocabulary, **(values | changes))


@implementer(ITransport)
class MemoryTransport:
    """
    One side's transport. Written bytes lie in ``buffer`` until the pair carries them; over ``high_water`` of them the
    registered producer is paused, as a socket's would be.
    """

    disconnecting = False

    def __init__(self, protocol: JSONLineProtocol, high_water: int) -> None:
        self.protocol = protocol
        self.buffer = bytearray()
        self.connected = True
        self.aborted = False
        self.reading = True
        self.blackholed = False
        self._high_water = high_water
        self._producer: IPushProducer | None = None
        self._producer_paused = False

    def write(self, data: bytes) -> None:
        if self.connected and not self.disconnecting and not self.blackholed:
            self.buffer += data
            if self._producer is not None and len(self.buffer) > self._high_water:
                self._producer_paused = True
                self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def take(self, limit: int | None = None) -> bytes:
        """Carry bytes away."""
        data = bytes(self.buffer[:limit])
        del self.buffer[: len(data)]
        if not self.buffer and self._producer is not None and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()
        return data

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        if not streaming or self._producer is not None:
            raise RuntimeError("one streaming producer at a time is known here")
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.buffer.clear()
        self.disconnecting = self.aborted = True

    def getPeer(self) -> IAddress:
        return UNIXAddress(None)

    def getHost(self) -> IAddress:
        return UNIXAddress(None)

    def lose(self, reason: Failure) -> None:
        """Lose the connection."""
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(reason)


_OTHER = {Side.DIALLER: Side.LISTENER, Side.LISTENER: Side.DIALLER}


def _is_due(clock: Clock) -> bool:
    """Whether something is to be done now."""
    return any(call.getTime() <= clock.seconds() for call in clock.getDelayedCalls())


def _until_quiet(pairs: list[ConnectedPair]) -> None:
    """Move what is to be moved between these, until nothing is."""
    for _ in range(_ROUNDS):
        moved = [each.move() for each in pairs]
        if not any(moved):
            return
    raise RuntimeError("the two sides never become quiet")


class _Owner:
    """Notes what became of the connections."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    def link_made(self, link: JSONLineProtocol) -> str | None:
        return None

    def link_ready(self, link: JSONLineProtocol) -> None:
        pass

    def link_lost(self, link: JSONLineProtocol, reason: str) -> None:
        self.lost.append(reason)


class ConnectedPair:
    """
    Two protocols and the wire between them.

    :param split: how a piece of the stream is cut into chunks; by default it isn't
    :param high_water: bytes in a transport's buffer at which writing is paused
    :param listener_clock: the listener's own clock, if the two sides are two processes that don't live equally long
    :param latency: seconds that bytes are under way, either way
    """

    def __init__(
        self,
        clock: Clock,
        dialler: tuple[SessionSettings, ApplicationFactory],
        listener: tuple[SessionSettings, ApplicationFactory],
        *,
        split: Callable[[bytes], Iterable[bytes]] | None = None,
        high_water: int = 64 * 1024,
        listener_clock: Clock | None = None,
        latency: float = 0.0,
    ) -> None:
        self.clock = clock
        self.latency = latency
        self._clocks = [clock] if listener_clock is None else [clock, listener_clock]
        self._split = split
        self._under_way: dict[Side, deque[tuple[float, bytes]]] = {side: deque() for side in Side}
        self._owners = {side: _Owner() for side in Side}
        self.dialler = JSONLineProtocol(Side.DIALLER, *dialler, clock, self._owners[Side.DIALLER], make_nonce())
        self.listener = JSONLineProtocol(
            Side.LISTENER, *listener, self._clocks[-1], self._owners[Side.LISTENER], make_nonce()
        )
        self._wires = {
            Side.DIALLER: MemoryTransport(self.dialler, high_water),
            Side.LISTENER: MemoryTransport(self.listener, high_water),
        }
        for wire in self._wires.values():
            wire.protocol.makeConnection(wire)

    @property
    def lost(self) -> bool:
        """Whether both sides have lost the connection."""
        return not any(wire.connected for wire in self._wires.values())

    def reason(self, side: Side) -> str:
        """Why the connection of this side was lost; "" while it isn't."""
        return "".join(self._owners[side].lost)

    def wire(self, side: Side) -> MemoryTransport:
        """The transport that this side writes to."""
        return self._wires[side]

    def pump(self) -> None:
        """Carry bytes, and let both sides end their turns, until nothing moves any more."""
        _until_quiet([self])

    def move(self) -> bool:
        """Let both sides end a turn, and carry what they have written. Return whether anything else is to be done."""
        for clock in self._clocks:
            clock.advance(0)
        moved = [self.carry(side) for side in Side]
        return any(moved) or any(map(_is_due, self._clocks))

    def advance(self, seconds: float, step: float = 1.0) -> None:
        """Let time go by, and carry bytes after each ``step`` of it."""
        while seconds > 0:
            for clock in self._clocks:
                clock.advance(min(step, seconds))
            seconds -= step
            self.pump()

    def cut(self) -> None:
        """Break the connection: both sides see it at once, and what was under way is lost."""
        for side, wire in self._wires.items():
            wire.buffer.clear()
            self._under_way[side].clear()
        for wire in self._wires.values():
            wire.lose(Failure(ConnectionLost()))
        self.pump()

    def blackhole(self, *sides: Side) -> None:
        """Lose what these sides write from now on, without an error at either side."""
        for side in sides:
            self._wires[side].blackholed = True
            self._wires[side].buffer.clear()
            self._under_way[side].clear()

    def kill(self, side: Side) -> None:
        """
        This side's process dies: it hears nothing any more, and the other side, unless nothing comes through to it,
        loses the connection. What the dead one's clock still has to do is not to be done.
        """
        dead, other = self._wires[side], self._wires[_OTHER[side]]
        dead.connected = False
        for each in Side:
            self._wires[each].buffer.clear()
            self._under_way[each].clear()
        if not dead.blackholed:
            other.lose(Failure(ConnectionLost()))

    def carry(self, source: Side, limit: int | None = None) -> bool:
        """
        Carry this side's bytes (at most ``limit`` of them), and its end if that has come, to the other side; whether
        there was anything. Neither side ends its turn by that.
        """
        wire, other, under_way = self._wires[source], self._wires[_OTHER[source]], self._under_way[source]
        now = self.clock.seconds()
        moved = False
        if wire.buffer and other.reading:
            under_way.append((now + self.latency, wire.take(limit)))
            moved = True
        while under_way and under_way[0][0] <= now and other.reading:
            _due, data = under_way.popleft()
            moved = True
            for chunk in [data] if self._split is None else self._split(data):
                if other.connected:
                    other.protocol.dataReceived(chunk)
        if wire.connected and wire.disconnecting and not wire.buffer and not under_way:
            wire.lose(Failure(ConnectionDone()))
            if not wire.blackholed:
                other.lose(Failure(ConnectionLost() if wire.aborted else ConnectionDone()))
            moved = True
        return moved


def connected_pair(
    dialler: tuple[SessionSettings, ApplicationFactory],
    listener: tuple[SessionSettings, ApplicationFactory],
    *,
    clock: Clock | None = None,
    split: Callable[[bytes], Iterable[bytes]] | None = None,
    high_water: int = 64 * 1024,
) -> ConnectedPair:
    """Make a pair and do its handshake. Each side is its settings and its application's factory."""
    pair = ConnectedPair(clock or Clock(), dialler, listener, split=split, high_water=high_water)
    pair.pump()
    return pair


class ServicePair:
    """
    A service that is met, and the `Remote` that asks it, linked in memory by the real protocols. Nothing moves by
    itself: `pump` carries what was sent, `advance` lets time go by.

    A service that has several clients is met by a pair for each of them, the second one made ``beside`` the first.
    `pump` and `advance` of any of them move all. ::

        alice = ServicePair(chat, answers=Screen(), name="alice")
        bob = ServicePair(chat, answers=Screen(), name="bob", beside=alice)

    :param service: the one that is met
    :param answers: what the asking side answers with, if it is called as well: `dial`'s ``service``
    :param asks: the interface that the asking side knows, if it is another version of the service's
    :param name: the asking side's name; by default its role and process id, which may be those of others too
    :param beside: a pair at the same service, which this one has the time and ``listening`` in common with
    :param unlinked: see `dial`
    :param clock: the time of both sides; by default a new one
    :param high_water: bytes in a side's buffer at which its writing is paused
    :param linked: whether there is a link from the start
    :param split: how a piece of the stream is cut into chunks; by default it isn't
    :param latency: seconds that bytes are under way, either way
    :param limits: as for `listen` and `dial`, on both sides
    """

    def __init__(
        self,
        service: Service,
        *,
        answers: Service | None = None,
        asks: Interface | None = None,
        name: str = "",
        beside: ServicePair | None = None,
        unlinked: Unlinked = Unlinked(),  # noqa: B008  (immutable)
        clock: Clock | None = None,
        split: Callable[[bytes], Iterable[bytes]] | None = None,
        latency: float = 0.0,
        high_water: int = 64 * 1024,
        linked: bool = True,
        **limits: Unpack[Limits],
    ) -> None:
        #: the time of both sides; `advance` moves it
        self.clock: Clock = clock or Clock() if beside is None else beside.clock
        interface, asked = service.interface, asks or service.interface
        calls: Interface | None = None if answers is None else answers.interface
        frame_limit, max_calls = limits.get("frame_limit", FRAME_LIMIT), limits.get("max_calls", MAX_CALLS)
        #: what `dial` would give
        self.remote = Remote(self.clock, asked, answers, unlinked, frame_limit=frame_limit, max_calls=max_calls)
        #: what `listen` would give
        self.listening: Listening = (
            Listening(self.clock, service, calls, frame_limit=frame_limit) if beside is None else beside.listening
        )
        #: the wire of now; None before the first link
        self.wire: ConnectedPair | None = None
        #: how each side introduces itself, from the next link on
        self.settings = {
            Side.DIALLER: side_settings(interface.peer_role, interface.role, calls, asked, KEY, name, limits),
            Side.LISTENER: side_settings(interface.role, interface.peer_role, interface, calls, KEY, "", limits),
        }
        self._split = split
        self._latency = latency
        self._high_water = high_water
        self._all: list[ServicePair] = [] if beside is None else beside._all
        self._all.append(self)
        if linked:
            self.link()

    def link(self) -> ConnectedPair:
        """Link them (again), and carry bytes until both are quiet."""
        self.wire = ConnectedPair(
            self.clock,
            (self.settings[Side.DIALLER], self.remote.application),
            (self.settings[Side.LISTENER], self.listening.application),
            split=self._split,
            high_water=self._high_water,
            latency=self._latency,
        )
        self.pump()
        return self.wire

    def cut(self) -> None:
        """Break the link: what was under way is lost."""
        if self.wire is not None:
            self.wire.cut()

    def pump(self) -> None:
        """Carry bytes until all sides are quiet."""
        self.clock.advance(0)
        _until_quiet([each.wire for each in self._all if each.wire is not None])

    def advance(self, seconds: float, step: float = 1.0) -> None:
        """Let time go by, and carry bytes after each ``step`` of it."""
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step
            self.pump()
