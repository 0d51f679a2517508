"""Several services at one endpoint: the handshake, what each has of its own, and the faces of Twisted and asyncio."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.task import react
from twisted.trial.unittest import TestCase

from tests.ipc_example import apiserver, builder
from tests.properties import examples
from tests.test_ipc_session import ConnectionPair, closed
from twistedipc.ipc import (
    BadEndpoint,
    Blob,
    CannotStart,
    Interface,
    Keys,
    LinkRefused,
    LocalProtocolError,
    Message,
    NamedKey,
    Offer,
    Peer,
    Receiver,
    Request,
    Service,
    SessionSettings,
    StreamId,
    StreamOf,
    aio,
    dial,
    handles,
    listen,
    listening_service,
    receives,
    spawn,
)
from twistedipc.ipc.wire.errors import Code
from twistedipc.ipc.wire.handshake import MOST_OTHER_SERVICES
from twistedipc.ipc.wire.messages import CallReceived, Vocabulary
from twistedipc.ipc.wire.session import Proven, Ready, Session
from twistedipc.ipc.wire.settings import HANDSHAKE_FRAME_LIMIT, Side
from twistedipc.ipc.wire.states import State

reactor: Any = global_reactor

SECOND = bytes(range(100, 132))


class Weigh(msgspec.Struct, tag_field="type", tag="weigh"):
    what: str


class Weight(msgspec.Struct):
    grams: int


SCALES = Vocabulary((), answers={Weigh: Weight}, calls={Weigh: Weight})


def scales(role: str, peer_role: str, **changes: Any) -> SessionSettings:
    """Settings of either side of another service, which weighs; it has another key and other limits, too."""
    values = {"key": SECOND, "vocabulary": SCALES, "frame_limit": 8192, "max_calls": 7, "dead_after": 99.0}
    return builder(role=role, peer_role=peer_role, **(values | changes))


def listener(*others: SessionSettings, **changes: Any) -> SessionSettings:
    """The apiserver of the other tests, with these services beside it."""
    names: Any = {"name": "apiserver-1", "incarnation": "apiserver-run-1"}
    there = others or (scales("scales", "buyer"),)
    return apiserver(others=tuple(replace(each, **names) for each in there), **changes)


def buyer(**changes: Any) -> SessionSettings:
    return scales(**{"role": "buyer", "peer_role": "scales"} | changes)


class Between(ConnectionPair):
    """Somebody in between, who changes what the handshake says."""

    def __init__(self, dialler: SessionSettings, listener: SessionSettings, **changes: Any) -> None:
        super().__init__(dialler, listener)
        self.changes = changes

    def exchange(self, now: float = 0.0) -> Between:
        for side, other, what in (
            (Side.LISTENER, Side.DIALLER, "challenge"),
            (Side.DIALLER, Side.LISTENER, "hello"),
            (Side.LISTENER, Side.DIALLER, "welcome"),
        ):
            line, _, rest = self.sessions[side].data_to_send().partition(b"\n")
            frame = json.loads(line)
            if (change := self.changes.get(what)) is not None and frame["type"] == what:
                frame = change(frame)
            self.events[other] += self.sessions[other].receive(json.dumps(frame).encode() + b"\n" + rest, now)
        return self


def without(*fields: str) -> Any:
    return lambda frame: {name: value for name, value in frame.items() if name not in fields}


# -- the handshake ---------------------------------------------------------------------------------------------------


def test_a_dialler_gets_the_service_that_it_wants() -> None:
    pair = ConnectionPair(buyer(), listener()).exchange()
    (there,), (here,) = pair.take(Side.DIALLER), pair.take(Side.LISTENER)
    assert isinstance(there, Ready)
    assert isinstance(here, Ready)
    assert (there.peer.role, here.peer.role) == ("scales", "buyer")
    challenge, hello = (json.loads(pair.said[side].split(b"\n")[0]) for side in (Side.LISTENER, Side.DIALLER))
    assert challenge["role"] == "apiserver"
    assert challenge["services"] == [{"role": "scales", "frame_limit": 8192, "features": ["interface"]}]
    assert hello["service"] == "scales"


def test_all_is_of_that_service_then() -> None:
    pair = ConnectionPair(buyer(), listener()).exchange()
    pair.dialler.call(Weigh("a feather"), deadline=9.0)
    pair.exchange()
    call = pair.take(Side.LISTENER)[-1]
    assert isinstance(call, CallReceived)
    pair.listener.answer(call.id, Weight(1))
    pair.exchange()
    assert pair.listener.settings.dead_after == 99.0
    assert pair.dialler.send_limit == pair.listener.send_limit == 8192
    for id_ in range(2, 10):
        pair.listener.receive(b'{"type":"call","id":%d,"request":{"type":"weigh","what":"it"}}\n' % id_, 0.0)
    assert pair.listener.data_to_send().count(b'"busy"') == 1
    # What the first service alone has is unknown here.
    pair.listener.receive(b'{"type":"note","n":1}\n', 0.0)
    assert b"'note' is not received here" in pair.listener.data_to_send()


def test_the_first_one_needs_no_word_of_it() -> None:
    alone, among = (ConnectionPair(builder(), each).exchange() for each in (apiserver(), listener()))
    assert alone.said[Side.DIALLER] == among.said[Side.DIALLER]
    assert b"service" not in among.said[Side.DIALLER]
    assert among.said[Side.LISTENER].split(b"\n")[1:] == alone.said[Side.LISTENER].split(b"\n")[1:]


def test_an_older_dialler_and_a_newer_listener() -> None:
    """An older one doesn't see the field ``services``, and codes are over what it knows."""
    pair = Between(builder(), listener(), challenge=without("services")).exchange()
    assert pair.dialler.state is State.READY
    pair = Between(buyer(), listener(), challenge=without("services"))
    pair.exchange = lambda now=0.0: pair  # type: ignore[method-assign]
    line = pair.listener.data_to_send()
    frame = without("services")(json.loads(line))
    end = closed(pair.dialler, pair.dialler.receive(json.dumps(frame).encode() + b"\n", 0.0))
    assert (end.code, end.reason) == (Code.REFUSED, "the peer is apiserver; scales is wanted")


def test_a_newer_dialler_and_an_older_listener() -> None:
    pair = ConnectionPair(buyer(), apiserver())
    end = closed(pair.dialler, pair.dialler.receive(pair.listener.data_to_send(), 0.0))
    assert (end.code, end.reason) == (Code.REFUSED, "the peer is apiserver; scales is wanted")


def test_a_service_that_is_not_there() -> None:
    pair = ConnectionPair(buyer(peer_role="bakery"), listener())
    end = closed(pair.dialler, pair.dialler.receive(pair.listener.data_to_send(), 0.0))
    assert (end.code, end.reason) == (Code.REFUSED, "the peer is apiserver, scales; bakery is wanted")


def test_a_hello_for_a_service_that_is_not_there() -> None:
    pair = ConnectionPair(buyer(), listener())
    pair.dialler.receive(pair.listener.data_to_send(), 0.0)
    hello = json.loads(pair.dialler.data_to_send()) | {"service": "bakery"}
    end = closed(pair.listener, pair.listener.receive(json.dumps(hello).encode() + b"\n", 0.0))
    assert (end.code, end.reason) == (Code.REFUSED, "this is apiserver, scales; bakery is wanted")


@pytest.mark.parametrize("service", [7, "", "Not A Role", "x" * 33, None, ["scales"]])
def test_a_hello_for_what_can_be_no_service(service: object) -> None:
    pair = ConnectionPair(buyer(), listener())
    pair.dialler.receive(pair.listener.data_to_send(), 0.0)
    hello = json.loads(pair.dialler.data_to_send()) | {"service": service}
    end = closed(pair.listener, pair.listener.receive(json.dumps(hello).encode() + b"\n", 0.0))
    assert end.code == Code.BAD_HANDSHAKE


@pytest.mark.parametrize(
    "services",
    [
        7,
        [],
        ["scales"],
        [{}],
        [{"role": "SCALES"}],
        [{"role": "scales", "frame_limit": 7}],
        [{"role": "scales"}] * (MOST_OTHER_SERVICES + 1),
    ],
)
def test_a_challenge_with_what_can_be_no_services(services: object) -> None:
    pair = ConnectionPair(buyer(), listener())
    challenge = json.loads(pair.listener.data_to_send()) | {"services": services}
    end = closed(pair.dialler, pair.dialler.receive(json.dumps(challenge).encode() + b"\n", 0.0))
    assert end.code == Code.BAD_HANDSHAKE


@pytest.mark.parametrize(
    ("dialler", "changes"),
    [
        # to the first one instead of the one that is wanted
        (buyer(key=None), {"hello": without("service")}),
        # to another one instead of the first
        (builder(), {"hello": lambda frame: frame | {"service": "scales"}}),
        (builder(), {"hello": lambda frame: frame | {"service": "apiserver"}}),
        # what a service takes
        (buyer(), {"challenge": lambda f: f | {"services": [f["services"][0] | {"frame_limit": 4096}]}}),
        # which services there are
        (buyer(), {"challenge": lambda f: f | {"services": [*f["services"], {"role": "bakery"}]}}),
        (buyer(), {"challenge": lambda f: f | {"services": f["services"] * 2}}),
        # the wanted one as the first, which needs no word
        (
            buyer(),
            {
                "challenge": lambda f: without("services")(f | f["services"][0]),
                "hello": lambda frame: frame | {"service": "scales"},
            },
        ),
    ],
)
def test_nobody_in_between_can_change_it(dialler: SessionSettings, changes: dict[str, Any]) -> None:
    one_key: Any = {"key": apiserver().key}
    dialler = replace(dialler, **one_key)
    there = listener(scales("scales", "buyer", **one_key))
    assert ConnectionPair(dialler, there).exchange().listener.state is State.READY
    pair = Between(dialler, there, **changes).exchange()
    assert pair.listener.state is State.CLOSING
    assert pair.listener.closed is not None
    assert pair.listener.closed.code == Code.UNAUTHORIZED
    assert not any(isinstance(each, Ready) for side in Side for each in pair.events[side])


def test_each_has_its_own_key() -> None:
    for dialler in (buyer(key=apiserver().key), builder(key=SECOND)):
        pair = ConnectionPair(dialler, listener()).exchange()
        assert pair.listener.closed is not None
        assert pair.listener.closed.code == Code.UNAUTHORIZED


def test_each_has_its_own_named_keys() -> None:
    keys = Keys(NamedKey("k1", SECOND, name="buyer-1"))
    there = listener(scales("scales", "buyer", key=None, keys=keys))
    pair = ConnectionPair(buyer(key=None, keys=Keys(NamedKey("k1", SECOND, role="scales"))), there).exchange()
    (ready,) = pair.take(Side.LISTENER)
    assert isinstance(ready, Ready)
    assert ready.peer.key == "k1"
    assert ConnectionPair(builder(), there).exchange().listener.state is State.READY
    # It isn't good for the first service, nor the first one's for this.
    for dialler in (builder(key=None, keys=Keys(NamedKey("k1", SECOND))), buyer(key=apiserver().key)):
        assert ConnectionPair(dialler, there).exchange().listener.state is State.CLOSING


def test_each_decides_by_itself() -> None:
    there = listener(scales("scales", "buyer", accept_peer=lambda peer: None))
    pair = ConnectionPair(buyer(), there).exchange()
    (proven,) = pair.take(Side.LISTENER)
    assert isinstance(proven, Proven)
    assert pair.listener.state is State.DECIDING
    pair.listener.accept(0.0)
    assert pair.exchange().listener.state is State.READY
    assert ConnectionPair(builder(), there).exchange().listener.state is State.READY
    there = listener(accept_peer=lambda peer: None)
    assert ConnectionPair(buyer(), there).exchange().listener.state is State.READY


def test_what_comes_with_the_hello_is_bounded_by_the_service() -> None:
    """More than the first service's bounds are, and less than this one's, is kept while it is decided."""
    there = listener(scales("scales", "buyer", accept_peer=lambda peer: None, frame_limit=1 << 21))
    pair = ConnectionPair(buyer(frame_limit=1 << 21), there).exchange()
    assert pair.listener.state is State.DECIDING
    for _ in range(31):
        pair.listener.receive(b" " * (1 << 16), 0.0)
    assert pair.listener.state is State.DECIDING
    for _ in range(3):
        pair.listener.receive(b" " * (1 << 16), 0.0)
    assert pair.listener.closed is not None
    assert pair.listener.closed.code == Code.OVERFLOW


def test_as_many_as_there_may_be_fit_into_a_line() -> None:
    long = "r" * 28
    others = tuple(
        scales(f"{long}{n}", f"p{n}", features=("interface", "bodies"), frame_limit=1 << 50, keys=Keys())
        for n in range(MOST_OTHER_SERVICES)
    )
    settings = listener(*others)
    pair = ConnectionPair(buyer(peer_role=f"{long}{MOST_OTHER_SERVICES - 1}", role="p15"), settings)
    challenge = pair.listener.data_to_send()
    assert len(challenge) + 64 < HANDSHAKE_FRAME_LIMIT
    pair.dialler.receive(challenge, 0.0)
    assert pair.dialler.state is State.AUTHENTICATING
    with pytest.raises(ValueError, match="17 services at most"):
        listener(*others, scales("one-more", "p"))


def test_two_of_one_role() -> None:
    with pytest.raises(ValueError, match="have one role"):
        listener(scales("apiserver", "buyer"))


def test_one_name_for_all() -> None:
    with pytest.raises(ValueError, match="one name"):
        apiserver(others=(scales("scales", "buyer"),))


@settings(max_examples=examples(40))
@given(st.integers(0, MOST_OTHER_SERVICES), st.data(), st.integers(1, 5000))
def test_whichever_is_wanted_however_it_is_cut(count: int, data: st.DataObject, cut: int) -> None:
    keys = [bytes([number]) * 32 for number in range(count + 1)]
    others = [scales(f"s{number}", f"c{number}", key=keys[number]) for number in range(1, count + 1)]
    there = replace(listener(scales("unused", "x")), key=keys[0], others=())
    there = replace(there, others=listener(*others).others if others else ())
    wanted = data.draw(st.integers(0, count))
    key = keys[data.draw(st.integers(0, count))]
    role = {"role": f"c{wanted}", "peer_role": f"s{wanted}"} if wanted else {}
    sides = (
        Session(Side.LISTENER, there, nonce="1" * 64, now=0.0),
        Session(Side.DIALLER, buyer(key=key, **role) if wanted else builder(key=key), nonce="d" * 64, now=0.0),
    )
    for _ in range(3):
        for one, other in (sides, sides[::-1]):
            said = one.data_to_send()
            for at in range(0, len(said), cut):
                other.receive(said[at : at + cut], 0.0)
    if key == keys[wanted]:
        assert {each.state for each in sides} == {State.READY}
        assert sides[0].settings.role == (f"s{wanted}" if wanted else "apiserver")
    else:
        assert {each.state for each in sides} == {State.CLOSING}
        assert sides[0].settings is there  # nothing is bound for who isn't proven


# -- links -----------------------------------------------------------------------------------------------------------


class Value(msgspec.Struct):
    value: int


class Double(Request[Value]):
    of: int


class Store(Request[Value]):
    content: Blob


class Moved(Message):
    what: str


class Event(msgspec.Struct):
    what: str


EVENTS = StreamOf("events", Event)
DOUBLER = Interface("doubler", Double)
STORE = Interface("store", Store, Moved, streams=[EVENTS])


class Doubler(Service):
    interface = DOUBLER

    @handles(Double)
    def double(self, request: Double, peer: Peer) -> Value:
        return Value(request.of * 2)


class Kept(Receiver[Event]):
    def __init__(self) -> None:
        self.items: list[Event] = []

    def position(self) -> int:
        return len(self.items) + 1

    def take(self, first: int, items: Any) -> None:
        self.items += items


class Warehouse(Service):
    interface = STORE

    def __init__(self) -> None:
        self.moved: list[str] = []
        self.kept = Kept()

    @handles(Store)
    async def store(self, request: Store, peer: Peer) -> Value:
        return Value(len(await request.content.read(1 << 20)))

    @handles(Moved)
    def have_moved(self, message: Moved, peer: Peer) -> None:
        self.moved.append(message.what)

    @receives(EVENTS)
    def events(self, stream: StreamId) -> Kept:
        return self.kept


def child() -> None:
    """A child process that offers both to its parent."""

    async def main(reactor: Any) -> None:
        listening = await listen(reactor, "stdio:", [Doubler(), Warehouse()])
        await listening.closed()

    react(main, [])


class LinkTests(TestCase):
    """Over UNIX sockets."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.endpoint = f"unix:{Path(folder.name) / 'socket'}"

    def dial(self, interface: Interface, **options: Any) -> Any:
        remote = dial(reactor, self.endpoint, interface, random=lambda: 0.0, fail_on_refusal=True, **options)
        self.addCleanup(remote.close)
        return remote

    async def listen(self, *services: Any, **options: Any) -> Any:
        listening = await listen(reactor, self.endpoint, services, **options)
        self.addCleanup(listening.close)
        return listening

    async def test_two_services_and_their_peers(self) -> None:
        warehouse = Warehouse()
        listening = await self.listen(Doubler(), warehouse)
        told: list[tuple[str, str]] = []
        listening.on_link = lambda peer: told.append(("all", peer.info.role))
        listening.services["store"].on_link = lambda peer: told.append(("store", peer.info.role))
        doubler, store = self.dial(DOUBLER, name="clerk"), self.dial(STORE, name="clerk")
        assert await doubler.call(Double(of=4)) == Value(8)
        assert await store.call(Store(content=Blob.of(b"x" * 100_000))) == Value(100_000)
        stream = store.stream(EVENTS)
        await stream.write(Event("came"))
        await stream.flushed()
        assert warehouse.kept.items == [Event("came")]
        assert sorted(told) == [("all", "doubler-client"), ("all", "store-client"), ("store", "store-client")]
        assert {name: len(each.peers) for name, each in listening.services.items()} == {"doubler": 1, "store": 1}
        assert len(listening.peers) == 2
        assert [each.traffic.calls_received for each in listening.services.values()] == [1, 1]
        assert listening.traffic.links == listening.traffic.calls_received == 2
        peer, other = await doubler.linked(), await store.linked()
        assert (peer.info.features, other.info.features) == ({"interface"}, {"interface", "bodies"})
        assert peer.understands(Double, exactly=True)
        assert not peer.understands(Store)
        assert other.understands(Store, exactly=True)
        assert not other.understands(Double)

    async def test_a_service_that_is_not_there(self) -> None:
        await self.listen(Doubler(), Warehouse())
        remote = self.dial(Interface("bakery", Double))
        with pytest.raises(LinkRefused, match="the peer is doubler-server, store-server; bakery-server is wanted"):
            await remote.call(Double(of=1))

    async def test_each_has_its_policy(self) -> None:
        def accept(peer: Any) -> str | None:
            return "no strangers in the store" if peer.name == "stranger" else None

        listening = await self.listen(
            Offer(service=Doubler(), same_name="refuse"), Offer(service=Warehouse(), accept=accept)
        )
        first, second = self.dial(DOUBLER, name="stranger"), self.dial(STORE, name="stranger")
        assert await first.call(Double(of=1)) == Value(2)
        with pytest.raises(LinkRefused, match="no strangers in the store"):
            await second.linked()
        third = self.dial(DOUBLER, name="stranger")
        with pytest.raises(LinkRefused, match="linked already"):
            await third.linked()
        assert len(listening.peers) == 1

    async def test_a_name_is_of_one_service(self) -> None:
        await self.listen(Doubler(), Warehouse(), same_name="refuse")
        for remote in (self.dial(DOUBLER, name="clerk"), self.dial(STORE, name="clerk")):
            await remote.linked()

    async def test_each_has_its_key(self) -> None:
        await self.listen(Offer(service=Doubler(), key=b"k" * 32), Warehouse())
        with pytest.raises(LinkRefused):
            await self.dial(DOUBLER).linked()
        await self.dial(DOUBLER, key=b"k" * 32).linked()
        await self.dial(STORE).linked()

    async def test_what_is_shared_opens_none_that_has_its_own(self) -> None:
        named = Keys(NamedKey("k1", SECOND))
        shared = b"s" * 32
        for alone, for_all, own, common in (
            ({"keys": named}, {"key": shared}, {"keys": named}, {"key": shared}),
            ({"key": shared}, {"keys": named}, {"key": shared}, {"keys": named}),
        ):
            listening = await self.listen(Doubler(), Offer(service=Warehouse(), **alone), **for_all)
            await self.dial(DOUBLER, **common).linked()
            with pytest.raises(LinkRefused):
                await self.dial(STORE, **common).linked()
            await self.dial(STORE, **own).linked()
            await listening.close()

    async def test_streams_to_the_peers_of_one(self) -> None:
        listening = await self.listen(Offer(service=Doubler(), calls=STORE), Warehouse())
        warehouse = Warehouse()
        await self.dial(DOUBLER, name="clerk", service=warehouse).linked()
        with pytest.raises(LocalProtocolError, match="of one of doubler, store"):
            listening.stream("clerk", EVENTS)
        stream = listening.services["doubler"].stream("clerk", EVENTS)
        await stream.write(Event("left"))
        await stream.flushed()
        assert warehouse.kept.items == [Event("left")]

    async def test_what_cannot_listen(self) -> None:
        with pytest.raises(ValueError, match="no service"):
            await listen(reactor, self.endpoint, [])
        with pytest.raises(ValueError, match="have one role"):
            await listen(reactor, self.endpoint, [Doubler(), Doubler()])
        # Each needs a key where one is needed.
        with pytest.raises(BadEndpoint, match="key"):
            await listen(reactor, "tcp:0", [Offer(service=Doubler(), key=b"k" * 32), Warehouse()])

    async def test_by_standard_input_and_output(self) -> None:
        program = "from tests.test_ipc_services import child; child()"
        child = spawn(reactor, [sys.executable, "-c", program], STORE, folder=Path(__file__).parent.parent)
        assert await child.call(Store(content=Blob.of(b"abc"))) == Value(3)
        await child.close()

    async def test_as_a_service_of_twisted(self) -> None:
        service = listening_service(reactor, self.endpoint, [Doubler(), Warehouse()])
        service.startService()
        assert await self.dial(STORE).call(Store(content=Blob.of(b"abc"))) == Value(3)
        assert await self.dial(DOUBLER).call(Double(of=3)) == Value(6)
        await service.stopService()
        with pytest.raises(CannotStart):
            listening_service(reactor, self.endpoint, [Doubler(), Doubler()]).startService()


def test_on_asyncio(tmp_path: Path) -> None:
    async def main() -> None:
        endpoint = f"unix:{tmp_path / 'socket'}"
        async with (
            await aio.listen(endpoint, [Doubler(), Offer(service=Warehouse())]) as listening,
            aio.dial(endpoint, DOUBLER) as doubler,
            aio.dial(endpoint, STORE) as store,
        ):
            assert await doubler.call(Double(of=4)) == Value(8)
            assert await store.call(Store(content=Blob.of(b"abc"))) == Value(3)
            with pytest.raises(LocalProtocolError):
                await doubler.call(Store(content=Blob.of(b"abc")))
            assert [len(each.peers) for each in listening.services.values()] == [1, 1]
            assert listening.services["store"].traffic.links == 1

    asyncio.run(asyncio.wait_for(main(), 30))
