"""A service and the remote that asks it: what is declared, what is answered, and what happens without a link."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twistedipc.ipc import (
    BadKey,
    BadService,
    BadVocabulary,
    CallFailed,
    CallTimedOut,
    FileOutbox,
    Interface,
    LocalProtocolError,
    Message,
    NotConnected,
    Peer,
    QueueFull,
    Request,
    Service,
    StreamOf,
    Unlinked,
    dial,
    handles,
    listen,
    send_to,
)
from twistedipc.ipc.connections.load import MAX_RUNNING
from twistedipc.ipc.places.endpoints import LinkReactor
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire.settings import Side


class Sum(msgspec.Struct):
    value: int


class Nothing(msgspec.Struct):
    pass


class Add(Request[Sum]):
    a: int
    b: int = 0


class Divide(Request[Sum]):
    by: int


class Later(Request[Nothing]):
    pass


class Note(Message):
    text: str


class Slow(Message):
    number: int


class Said(Message):
    text: str


CALCULATOR = Interface("calculator", Add, Divide, Later, Note, Slow)


class Opaque:
    """What msgspec knows nothing of."""


T = TypeVar("T")


class Calculator(Service):
    """Notes all that happens to it."""

    interface = CALCULATOR

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.peers: list[str] = []
        self.pending: list[Deferred[None]] = []
        self.cancelled = 0

    @handles(Add)
    def add(self, request: Add, peer: Peer) -> Sum:
        return Sum(request.a + request.b)

    @handles(Divide)
    async def divide(self, request: Divide, peer: Peer) -> Sum:
        if request.by == 0:
            raise CallFailed("division", "by zero", {"by": 0, "limit": [1, None]})
        if request.by < 0:
            raise CallFailed("division", "odd", {"not json": object()})
        return Sum(12 // request.by)

    def _cancel(self, _: object) -> None:
        self.cancelled += 1

    @handles(Later)
    async def later(self, request: Later, peer: Peer) -> Nothing:
        waiting: Deferred[None] = Deferred(self._cancel)
        self.pending.append(waiting)
        await waiting
        return Nothing()

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        if message.text == "fail":
            raise ZeroDivisionError
        self.notes.append(message.text)

    @handles(Slow)
    async def slow(self, message: Slow, peer: Peer) -> None:
        waiting: Deferred[None] = Deferred(self._cancel)
        self.pending.append(waiting)
        await waiting
        self.notes.append(str(message.number))

    def peer_ready(self, peer: Peer) -> None:
        self.peers.append(f"+{peer.info.role}")

    def peer_lost(self, peer: Peer, reason: str) -> None:
        self.peers.append(f"-{peer.info.role}")


class DeclarationTests(SynchronousTestCase):
    """What is wrong is found when it is declared."""

    def test_a_missing_handler(self) -> None:
        with self.assertRaisesRegex(BadService, "Lazy has no handler for Note, Add"):

            class Lazy(Service):
                interface = Interface("lazy", Add, Note)

    def test_a_handler_for_something_else(self) -> None:
        with self.assertRaisesRegex(BadService, "Eager handles Note, not of eager's interface"):

            class Eager(Service):
                interface = Interface("eager", Add)

                @handles(Add)
                def add(self, request: Add, peer: Peer) -> Sum:
                    return Sum(0)

                @handles(Note)
                def note(self, message: Note, peer: Peer) -> None: ...

    def test_two_handlers_for_one(self) -> None:
        with self.assertRaisesRegex(BadService, "one and two both handle Note"):

            class Double(Service):
                interface = Interface("double", Note)

                @handles(Note)
                def one(self, message: Note, peer: Peer) -> None: ...

                @handles(Note)
                def two(self, message: Note, peer: Peer) -> None: ...

    def test_a_subclass_may_override(self) -> None:
        class Louder(Calculator):
            def note(self, message: Note, peer: Peer) -> None:
                self.notes.append(message.text.upper())

        service = Louder()
        pair = ServicePair(service)
        pair.remote.send(Note("hello"))
        pair.pump()
        assert service.notes == ["HELLO"]

    def test_a_base_without_an_interface(self) -> None:
        heard: list[str] = []

        class Base(Service):
            @handles(Note)
            def note(self, message: Note, peer: Peer) -> None:
                heard.append(message.text)

        class Whole(Base):
            interface = Interface("whole", Note)

        pair = ServicePair(Whole())
        pair.remote.send(Note("it is heard"))
        pair.pump()
        assert heard == ["it is heard"]

    def test_interfaces_that_cannot_be(self) -> None:
        class Untagged(msgspec.Struct):
            pass

        class Note2(Message, tag="note"):
            pass

        class Ping(Message):
            pass

        class Vague(Request):  # type: ignore[type-arg]
            pass

        class Wrong(Request[dict[str, list[Opaque]]]):
            pass

        class Untold(Request[Untagged | Sum]):
            pass

        class Quoted(Request["Sum"]):
            pass

        class Generic(Request[T]):
            pass

        for name, kinds, complaint in (
            ("x", (Untagged,), "not tagged"),
            ("x", (Note, Note2), "same type 'note'"),
            ("x", (Ping,), r"belongs to the link itself. Use class Ping\(…, tag=\"ping-…\"\)"),
            ("x", (Vague,), "doesn't say what its reply is"),
            (
                "x",
                (Wrong,),
                "the reply to .*Wrong can't be .*: msgspec can't decode Opaque. Say it by a msgspec.Struct",
            ),
            ("x", (Untold,), "all Struct types must be tagged"),
            ("x", (Quoted,), "the reply to .*Quoted is only named, 'Sum': define its class before"),
            ("x", (Generic,), "the reply to .*Generic has no type yet, only ~T: a generic request can't be of an"),
            ("Not a name", (Add,), "no name"),
        ):
            with self.assertRaisesRegex(BadVocabulary, complaint):
                Interface(name, *cast(Any, kinds))


class ServiceTests(SynchronousTestCase):
    """A linked pair."""

    def setUp(self) -> None:
        self.service = Calculator()
        self.pair = ServicePair(self.service)
        self.remote = self.pair.remote

    def test_calls_and_messages(self) -> None:
        reply = self.remote.call(Add(a=2, b=3))
        self.remote.send(Note("hello"))
        self.pair.pump()
        assert self.successResultOf(reply) == Sum(5)
        assert self.service.notes == ["hello"]
        assert self.service.peers == ["+calculator-client"]

    def test_an_error_crosses_with_its_code_message_and_data(self) -> None:
        reply = self.remote.call(Divide(by=0))
        self.pair.pump()
        error = self.failureResultOf(reply, CallFailed).value
        assert (error.code, error.message, error.data) == ("division", "by zero", {"by": 0, "limit": [1, None]})

    def test_data_that_cannot_be_sent_is_left_out(self) -> None:
        reply = self.remote.call(Divide(by=-1))
        self.pair.pump()
        error = self.failureResultOf(reply, CallFailed).value
        assert (error.code, error.data) == ("division", None)
        assert len(self.flushLoggedErrors(LocalProtocolError)) == 1

    def test_cancelling_a_call_tells_the_service(self) -> None:
        reply = self.remote.call(Later())
        self.pair.pump()
        reply.addErrback(lambda _: None)
        reply.cancel()
        self.pair.pump()
        assert self.service.cancelled == 1

    def test_a_call_times_out(self) -> None:
        reply = self.remote.call(Later(), timeout=5)
        self.pair.advance(6)
        self.failureResultOf(reply, CallTimedOut)
        assert self.service.cancelled == 1

    def test_what_is_not_of_the_interface_is_not_sent(self) -> None:
        class Other(Request[Sum]):
            pass

        with self.assertRaises(LocalProtocolError):
            self.remote.call(Other())

    def test_a_handler_that_fails_costs_its_message_alone(self) -> None:
        peer = self.remote.peer
        self.remote.send(Note("fail"))
        self.pair.pump()
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        assert self.remote.peer is peer
        self.remote.send(Note("next"))
        self.pair.pump()
        assert self.service.notes == ["next"]

    def test_slow_handlers_are_bounded_and_make_the_peer_wait(self) -> None:
        for number in range(MAX_RUNNING + 10):
            self.remote.send(Slow(number))
        self.pair.pump()
        assert len(self.service.pending) == MAX_RUNNING
        self.service.pending[0].callback(None)
        self.pair.pump()
        assert len(self.service.pending) == MAX_RUNNING + 1
        for waiting in self.service.pending[1:]:
            waiting.callback(None)
        self.pair.pump()
        for waiting in self.service.pending[MAX_RUNNING + 1 :]:
            waiting.callback(None)
        assert len(self.service.notes) == MAX_RUNNING + 10

    def test_handlers_are_cancelled_when_the_link_ends(self) -> None:
        self.remote.send(Slow(1))
        reply = self.remote.call(Later())
        self.pair.pump()
        self.pair.cut()
        assert self.service.cancelled == 2
        self.failureResultOf(reply, NotConnected)
        assert self.service.peers == ["+calculator-client", "-calculator-client"]
        assert self.pair.listening.peers == set()

    def test_drain(self) -> None:
        self.pair = ServicePair(self.service, high_water=1000)
        remote = self.pair.remote
        assert self.pair.wire is not None
        self.successResultOf(Deferred.fromCoroutine(remote.drain()))
        remote.send(Note("x" * 5000))
        self.pair.clock.advance(0)
        draining = Deferred.fromCoroutine(remote.drain())
        self.assertNoResult(draining)
        self.pair.pump()
        self.successResultOf(draining)
        assert len(self.service.notes) == 1

    def test_draining_ends_with_the_link(self) -> None:
        self.pair = ServicePair(self.service, high_water=1000)
        self.pair.remote.send(Note("x" * 5000))
        self.pair.clock.advance(0)
        draining = Deferred.fromCoroutine(self.pair.remote.drain())
        self.pair.cut()
        self.failureResultOf(draining, NotConnected)

    def test_both_sides_may_call(self) -> None:
        class Clerk(Service):
            interface = Interface("clerk", Add)

            @handles(Add)
            def add(self, request: Add, peer: Peer) -> Sum:
                return Sum(-request.a)

        pair = ServicePair(self.service, answers=Clerk())
        (peer,) = pair.listening.peers
        reply = peer.call(Add(a=7), timeout=5)
        mine = pair.remote.call(Add(a=7))
        pair.pump()
        assert self.successResultOf(reply) == Sum(-7)
        assert self.successResultOf(mine) == Sum(7)

    def test_a_slow_wire_cut_to_pieces(self) -> None:
        pair = ServicePair(self.service, latency=0.5, split=lambda data: [data[i : i + 1] for i in range(len(data))])
        pair.advance(5, 0.25)
        reply = pair.remote.call(Add(a=1))
        pair.advance(0.75, 0.25)
        self.assertNoResult(reply)
        pair.advance(0.5, 0.25)
        assert self.successResultOf(reply) == Sum(1)


def _cancel(_: object, other: Deferred[Peer]) -> None:
    other.cancel()


class UnlinkedTests(SynchronousTestCase):
    """What happens while there is no link."""

    def pair(self, unlinked: Unlinked) -> ServicePair:
        self.service = Calculator()
        return ServicePair(self.service, unlinked=unlinked, linked=False)

    def test_calls_wait_for_a_link(self) -> None:
        pair = self.pair(Unlinked())
        reply = pair.remote.call(Add(a=1), timeout=10)
        pair.advance(5)
        pair.link()
        assert self.successResultOf(reply) == Sum(1)

    def test_not_longer_than_they_may(self) -> None:
        pair = self.pair(Unlinked())
        reply = pair.remote.call(Add(a=1), timeout=10)
        pair.advance(11)
        self.assertIn("no link within 10 seconds", str(self.failureResultOf(reply, CallTimedOut).value))
        pair.link()
        late = pair.remote.call(Later(), timeout=10)
        pair.advance(11)
        self.failureResultOf(late, CallTimedOut)

    def test_the_wait_counts(self) -> None:
        pair = self.pair(Unlinked())
        reply = pair.remote.call(Later(), timeout=10)
        pair.advance(6)
        pair.link()
        self.assertNoResult(reply)
        pair.advance(5)
        self.failureResultOf(reply, CallTimedOut)

    def test_a_call_that_waits_can_be_cancelled(self) -> None:
        pair = self.pair(Unlinked())
        reply, linked = pair.remote.call(Add(a=1)), pair.remote.linked()
        for waiting in (reply, linked):
            waiting.addErrback(lambda _: None)
            waiting.cancel()
        pair.link()
        assert pair.remote.peer is not None
        assert self.successResultOf(reply) is None
        assert self.successResultOf(linked) is None

    def test_or_they_fail_at_once(self) -> None:
        pair = self.pair(Unlinked(calls_wait=False))
        self.failureResultOf(pair.remote.call(Add(a=1)), NotConnected)
        pair.link()
        pair.cut()
        self.failureResultOf(pair.remote.call(Add(a=1)), NotConnected)

    def test_messages_queue_in_order(self) -> None:
        pair = self.pair(Unlinked())
        pair.remote.send(Note("1"))
        pair.remote.send(Note("2"))
        pair.link()
        pair.remote.send(Note("3"))
        pair.pump()
        pair.cut()
        pair.remote.send(Note("4"))
        pair.link()
        assert self.service.notes == ["1", "2", "3", "4"]

    def test_within_a_bound(self) -> None:
        pair = self.pair(Unlinked(queue=100))
        pair.remote.send(Note("x" * 50))
        with self.assertRaises(QueueFull):
            pair.remote.send(Note("y" * 50))
        pair.link()
        assert self.service.notes == ["x" * 50]
        pair.cut()
        pair.remote.send(Note("y" * 50))

    def test_what_would_break_the_link_does_not_wait_for_it(self) -> None:
        pair = self.pair(Unlinked(queue=10 << 20))
        pair.remote.send(Note(text="good"))
        for bad in (Sum(1), Add(a=1), Note(text="x" * (1 << 20))):
            self.assertRaises(LocalProtocolError, pair.remote.send, bad)
        pair.link()
        assert self.service.notes == ["good"]

    def test_or_are_refused(self) -> None:
        pair = self.pair(Unlinked(queue=0))
        with self.assertRaises(NotConnected):
            pair.remote.send(Note("1"))

    def test_after_close(self) -> None:
        pair = self.pair(Unlinked())
        waiting, reply = pair.remote.linked(), pair.remote.call(Add(a=1))
        pair.remote.send(Note("1"))
        self.successResultOf(pair.remote.close())
        self.successResultOf(pair.remote.close())
        for deferred in (waiting, reply, pair.remote.call(Add(a=1)), pair.remote.linked()):
            self.failureResultOf(cast("Deferred[Any]", deferred), NotConnected)
        with self.assertRaises(NotConnected):
            pair.remote.send(Note("2"))

    def test_who_waits_for_a_link_may_cancel_others_who_do(self) -> None:
        for end in (ServicePair.link, lambda pair: pair.remote.close()):
            pair = self.pair(Unlinked())
            first, second, third = (pair.remote.linked() for _ in range(3))
            first.addErrback(lambda _: None).addCallback(_cancel, second)
            end(pair)
            self.failureResultOf(second, CancelledError)
            third.addErrback(lambda failure: failure.trap(NotConnected) and None)
            assert self.successResultOf(third) is pair.remote.peer

    def test_another_interface_is_refused(self) -> None:
        pair = self.pair(Unlinked())
        other = ServicePair(Calculator(), linked=False)
        other.settings[Side.LISTENER] = dataclasses.replace(other.settings[Side.LISTENER], role="something-else")
        wire = other.link()
        assert other.remote.peer is None
        assert "something-else" in wire.reason(Side.DIALLER)
        assert pair.remote.peer is None


class SocketTests(TestCase):
    """The same over real sockets."""

    timeout = 180

    @inlineCallbacks
    def exchange(self, listened: str, dialled: str, key: bytes | None) -> Any:
        service = Calculator()
        real = cast(LinkReactor, reactor)
        listening = yield Deferred.fromCoroutine(listen(real, listened, service, key=key))
        if "PORT" in dialled:
            dialled = dialled.replace("PORT", str(listening.port))
        remote = dial(real, dialled, CALCULATOR, key=key)
        try:
            reply = yield remote.call(Add(a=20, b=22))
            assert reply == Sum(42)
        finally:
            yield remote.close()
            yield listening.close()

    def test_unix(self) -> Any:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "calculator.sock"
        return self.exchange(f"unix:{path}", f"unix:{path}", None)

    def test_tcp(self) -> Any:
        return self.exchange("tcp:0", "tcp:127.0.0.1:PORT", b"0123456789abcdef")

    async def test_why_there_is_no_link_is_told_to_who_waits_for_one(self) -> None:
        real = cast(LinkReactor, reactor)
        listening = await listen(real, "tcp:0", Calculator(), key=b"0123456789abcdef")
        for endpoint, key, why in (
            (f"tcp:127.0.0.1:{listening.port}", b"fedcba9876543210", "do both sides have the same key"),
            ("unix:/nowhere/calculator.sock", None, "No such file or directory"),
        ):
            remote = dial(real, endpoint, CALCULATOR, key=key)
            told = ""
            while why not in told:  # as soon as an attempt has failed; the test's own time limit is the deadline
                with self.assertRaises(CallTimedOut) as raised:
                    await remote.call(Add(a=1), timeout=0.1)
                told = str(raised.exception)
                assert told.startswith("no link within 0.1 seconds: ")
            await remote.close()
        await listening.close()

    async def test_a_key_that_is_none(self) -> None:
        real = cast(LinkReactor, reactor)
        with self.assertRaisesRegex(BadKey, "bytes, not str"):
            dial(real, "tcp:127.0.0.1:1", CALCULATOR, key=cast(bytes, "0123456789abcdef"))
        with self.assertRaisesRegex(BadKey, "at least 16 bytes"):
            await listen(real, "tcp:0", Calculator(), key=b"short")

    async def test_a_stream_that_outlives_the_process_wants_a_name_that_does(self) -> None:
        real = cast(LinkReactor, reactor)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        sums = StreamOf("sums", Sum)
        events = Interface("events", streams=[sums])
        for name, wrong in (("", True), ("shop-1", False)):
            remote = dial(real, f"unix:{folder.name}/sock", events, name=name)
            outbox = FileOutbox(Path(folder.name) / "outbox")
            if wrong:
                self.assertRaisesRegex(LocalProtocolError, "name=", remote.stream, sums, outbox)
                outbox.close()
            else:
                remote.stream(sums, outbox)
            await remote.close()


def test_the_types_are_static() -> None:
    """mypy knows the reply of a call; this is for it to see."""
    pair = ServicePair(Calculator())
    reply: Deferred[Sum] = pair.remote.call(Add(a=1))
    pair.pump()
    assert reply.called


@pytest.mark.parametrize("count", [0, 3])
def test_peers_come_and_go(count: int) -> None:
    service = Calculator()
    pair = ServicePair(service)
    for _ in range(count):
        pair.cut()
        pair.link()
    assert len(pair.listening.peers) == 1
    assert service.peers.count("+calculator-client") == count + 1


def test_two_clients_of_one_service() -> None:
    """A chat: what one says comes to the other, and each has a link of its own."""
    heard: dict[str, list[str]] = {"alice": [], "bob": []}

    class Screen(Service):
        interface = Interface("screen", Said)

        def __init__(self, name: str) -> None:
            self.name = name

        @handles(Said)
        def said(self, message: Said, peer: Peer) -> None:
            heard[self.name].append(message.text)

    class Chat(Service):
        interface = Interface("chat", Said)

        @handles(Said)
        def said(self, message: Said, peer: Peer) -> None:
            send_to(alice.listening.peers - {peer}, Said(text=f"{peer.info.name}: {message.text}"))

    chat = Chat()
    alice = ServicePair(chat, answers=Screen("alice"), name="alice")
    bob = ServicePair(chat, answers=Screen("bob"), name="bob", beside=alice)
    alice.remote.send(Said(text="hello"))
    alice.pump()
    assert heard == {"alice": [], "bob": ["alice: hello"]}
    alice.cut()
    bob.remote.send(Said(text="where are you?"))
    bob.pump()
    assert [peer.info.name for peer in bob.listening.peers] == ["bob"]
    alice.link()
    bob.remote.send(Said(text="hi"))
    alice.advance(1)
    assert heard["alice"] == ["bob: hi"]
    assert alice.clock is bob.clock
