"""Dialling plain servers: what is said and taken, by each option, in memory; and real servers of Node's."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.node import need_node
from tests.test_ipc_plain import BAD_LINES, until
from twistedipc.ipc import (
    BadVocabulary,
    CallFailed,
    CallTimedOut,
    Interface,
    LinkReactor,
    LinkRefused,
    LocalProtocolError,
    Message,
    NotConnected,
    Peer,
    Remote,
    Request,
    Service,
    TooManyCalls,
    Unlinked,
    dial,
    dial_plain,
    handles,
    listen,
    listen_plain,
)
from twistedipc.ipc.connections.plain import PlainProtocol
from twistedipc.ipc.wire.plain import PlainConversation, PlainFormat
from twistedipc.ipc.wire.settings import Side

reactor = cast(LinkReactor, global_reactor)


class Sum(msgspec.Struct):
    value: int


class Add(Request[Sum]):
    a: int
    b: int


class Now(Request[Sum]):
    pass


class Note(Message):
    text: str = ""


CALCULATOR = Interface("calculator", Add, Now, Note)


class Event(Message):
    name: str = ""
    n: int = 0


class Are(Request[Sum]):
    you: str = ""


class Hears(Service):
    """What a server may say to its clients."""

    interface = Interface("events", Event, Are)

    def __init__(self) -> None:
        self.events: list[Event] = []

    @handles(Event)
    def event(self, message: Event, peer: Peer) -> None:
        self.events.append(message)

    @handles(Are)
    def are(self, request: Are, peer: Peer) -> Sum:
        return Sum(len(request.you))


class Owner:
    def __init__(self) -> None:
        self.ends: list[str] = []

    def link_made(self, link: PlainProtocol) -> str | None:
        return None

    def link_ready(self, link: PlainProtocol) -> None:
        """It isn't waited for here."""

    def link_lost(self, link: PlainProtocol, reason: str) -> None:
        self.ends.append(reason)


class World:
    """A remote whose server is this test, one line at a time."""

    def __init__(self, service: Service | None = None, *, max_calls: int = 1024, **how: Any) -> None:
        self.clock = Clock()
        self.owner = Owner()
        self.remote = Remote(self.clock, CALCULATOR, service, Unlinked())
        answered = None if service is None else service.interface
        self.link = PlainProtocol(
            self.clock,
            self.owner,
            PlainConversation(answered, CALCULATOR, PlainFormat(**how), side=Side.DIALLER, max_calls=max_calls),
            self.remote.application,
            "tcp:localhost:1",
        )
        self.wire = StringTransport()
        cast(Any, self.wire).abortConnection = self.wire.loseConnection
        self.link.makeConnection(cast(Any, self.wire))

    def said(self) -> list[dict[str, Any]]:
        self.clock.advance(0)
        lines = [json.loads(line) for line in self.wire.value().splitlines()]
        self.wire.clear()
        return lines

    def hear(self, *lines: dict[str, Any] | bytes) -> None:
        data = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        self.link.dataReceived(b"".join(line + b"\n" for line in data))
        self.clock.advance(0)


class DialTests(SynchronousTestCase):
    def test_calls_and_messages(self) -> None:
        world = World()
        first, second = world.remote.call(Add(2, 3)), world.remote.call(Now())
        world.remote.send(Note("x"))
        assert world.said() == [
            {"type": "add", "a": 2, "b": 3, "id": 1},
            {"type": "now", "id": 2},
            {"type": "note", "text": "x"},
        ]
        world.hear({"type": "reply", "id": 2, "reply": {"value": 7}}, {"id": 1, "value": 5, "type": "sum"})
        assert (self.successResultOf(first), self.successResultOf(second)) == (Sum(5), Sum(7))

    def test_errors(self) -> None:
        answers: list[tuple[dict[str, Any], str, str | None, Any]] = [
            ({"type": "error", "id": 1, "code": "odd", "message": "no", "data": [1]}, "odd", "no", [1]),
            ({"id": 1, "error": "no such row"}, "error", "no such row", None),
            ({"id": 1, "error": {"code": 7, "message": "no"}}, "7", "no", None),
            ({"id": 1, "error": 5}, "error", "5", 5),
            ({"id": 1, "value": "x"}, "bad-reply", None, None),
            ({"id": 1, "reply": 3}, "bad-reply", None, None),
        ]
        for answer, code, message, data in answers:
            world = World()
            call = world.remote.call(Add(2, 3))
            other = world.remote.call(Add(2, 3))
            world.hear(answer)
            error = self.failureResultOf(call, CallFailed).value
            assert (error.code, error.data) == (code, data), answer
            assert message in (None, error.message)
            world.hear({"id": 2, "value": 5, "error": None})
            assert self.successResultOf(other) == Sum(5), "the connection goes on"

    def test_in_time(self) -> None:
        world = World(max_calls=2)
        late, cancelled = world.remote.call(Now(), 5), world.remote.call(Now(), 9)
        self.failureResultOf(world.remote.call(Now(), 5), TooManyCalls)
        cancelled.cancel()
        self.failureResultOf(cancelled)
        world.clock.advance(5)
        assert "no reply to now in time" in str(self.failureResultOf(late, CallTimedOut).value)
        world.hear({"id": 1, "value": 1}, {"id": 2, "value": 2})
        after = world.remote.call(Now(), 5)
        world.hear({"id": 3, "value": 3})
        assert self.successResultOf(after) == Sum(3)
        assert world.owner.ends == []
        assert self.flushLoggedErrors() == []

    def test_the_end_of_a_connection(self) -> None:
        for end in ("connectionLost", "readConnectionLost"):
            world = World()
            retried: list[Deferred[Sum]] = []

            def retry(_: object, world: World = world, retried: list[Deferred[Sum]] = retried) -> None:
                retried.append(world.remote.call(Add(2, 3)))

            world.remote.call(Add(2, 3)).addErrback(retry)
            getattr(world.link, end)()
            assert len(retried) == 1
            self.assertNoResult(retried[0])  # it waits for the next link
            assert world.remote.peer is None

    def test_what_the_server_says_by_itself(self) -> None:
        service = Hears()
        world = World(service)
        world.hear({"type": "event", "name": "a", "id": "of the event"}, {"type": "are", "you": "ok", "id": 0})
        assert service.events == [Event("a")]
        assert world.said() == [{"type": "reply", "id": 0, "reply": {"value": 2}}]
        world.remote.call(Now())
        world.hear({"type": "event", "name": "b", "id": 1})
        assert service.events[-1] == Event("b"), "a type that is received is no answer"

    def test_no_bad_line_is_answered_or_ends_it(self) -> None:
        """A bad request is answered, other bad lines are logged: the dialler chose the server, so nobody attacks it."""
        for line, _, _ in BAD_LINES:
            hears = Hears()
            world = World(hears)
            world.hear(line, {"type": "event", "n": 7})
            assert world.owner.ends == []
            assert hears.events == [Event("", 7)], line
            assert all("id" in answer for answer in world.said()), line

    def test_a_line_without_an_end(self) -> None:
        world = World(line_limit=1000)
        world.hear(b"x" * 2000)
        assert world.wire.disconnecting
        assert world.said() == []

    def test_types_under_another_name(self) -> None:
        service = Hears()
        world = World(service, type_field="cmd", request_id="seq", default_type=Event)
        call = world.remote.call(Add(2, 3))
        world.remote.send(Note())
        now = world.remote.call(Now())
        assert world.said() == [
            {"cmd": "add", "a": 2, "b": 3, "seq": 1},
            {"cmd": "note", "text": ""},
            {"cmd": "now", "seq": 2},
        ]
        world.hear(
            {"seq": 1, "value": 5, "id": 9}, {"name": "bare"}, {"cmd": "event", "n": 2}, {"cmd": "error", "seq": 2}
        )
        assert self.successResultOf(call) == Sum(5)
        assert self.failureResultOf(now, CallFailed).value.code == "error"
        assert service.events == [Event("bare"), Event("", 2)]

    def test_bare_objects(self) -> None:
        service = Hears()
        world = World(service, type_field=None, default_type=Event)
        world.remote.send(Note("x"))
        call, now = world.remote.call(Add(2, 3)), world.remote.call(Now())
        assert world.said() == [{"text": "x"}, {"a": 2, "b": 3, "id": 1}, {"id": 2}]
        world.hear({"name": "a"}, {"id": 1, "value": 5}, {"id": 7, "n": 1}, {"id": 2, "error": "no"}, b"[]")
        assert service.events == [Event("a"), Event("", 1)]
        assert self.successResultOf(call) == Sum(5)
        self.failureResultOf(now, CallFailed)

    def test_a_late_answer_is_no_message(self) -> None:
        service = Hears()
        world = World(service, type_field=None, default_type=Event)
        late, cancelled = world.remote.call(Now(), 5), world.remote.call(Now(), 9)
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        world.clock.advance(5)
        self.failureResultOf(late, CallTimedOut)
        world.hear({"id": 1, "value": 1}, {"id": 2, "error": "no"}, {"id": 1, "n": 1}, {"id": 3, "n": 3})
        assert service.events == [Event("", 1), Event("", 3)], "only what answers a call is an answer, and once"

    def test_a_server_that_says_nothing_more(self) -> None:
        """It may read on, but whatever it was asked now it wouldn't answer."""
        service = Hears()
        world = World(service)
        asked, unanswered = world.remote.call(Now()), world.remote.call(Now())
        peer = world.remote.peer
        assert peer is not None
        peer.pause_reading()
        world.hear({"id": 1, "value": 1}, {"type": "event", "n": 1})
        world.link.readConnectionLost()
        self.failureResultOf(peer.call(Now()), NotConnected)
        assert world.remote.peer is None
        self.assertNoResult(asked)
        peer.resume_reading()
        world.clock.advance(0)
        assert self.successResultOf(asked) == Sum(1), "this answer had come"
        assert service.events == [Event("", 1)]
        self.failureResultOf(unanswered, NotConnected)
        assert world.wire.disconnecting

    def test_the_other_side_is_a_link(self) -> None:
        world = World()
        world.hear({"type": "challenge", "nonce": "0" * 64, "versions": [1]})
        assert world.link.refusal == "bad-handshake"
        world.link.connectionLost()
        assert "use dial" in world.owner.ends[0]

    def test_the_other_side_says_goodbye(self) -> None:
        world = World()
        world.hear({"type": "bye", "code": "closed", "reason": "the peer is\nstopping"}, {"type": "x"})
        world.link.connectionLost()
        assert world.owner.ends == ["the peer is\ufffdstopping [closed]"]


@given(st.lists(st.sampled_from([line for line, _, _ in BAD_LINES if len(line) < 100]), max_size=6), st.integers(1, 9))
def test_any_cut(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)

    def conversation() -> PlainConversation:
        return PlainConversation(Hears.interface, CALCULATOR, PlainFormat(default_type=Event), side=Side.DIALLER)

    cut = conversation()
    pieces = [event for at in range(0, len(data), size) for event in cut.receive(data[at : at + size])]
    assert pieces == list(conversation().receive(data))


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"type_field": None}, "need a default_type"),
        ({"default_type": Note}, "isn't received"),
        ({"request_id": "a"}, "a field a"),
        ({"type_field": "you"}, "a field you"),
        ({"type_field": "id"}, "members of their own"),
    ],
)
def test_options_that_do_not_fit(how: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadVocabulary, match=complaint):
        PlainConversation(Hears.interface, CALCULATOR, PlainFormat(**how))


SERVER = """
const net = require('net');
require('fs').rmSync(process.argv[2], { force: true });
const server = net.createServer((socket) => {
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    const lines = (rest + chunk).split('\\n');
    rest = lines.pop();
    for (const line of lines) {
      const message = JSON.parse(line);
      if (message.type === 'note' && message.text === 'die') process.exit();
      else if (message.type === 'note') socket.write(JSON.stringify({ name: message.text }) + '\\n');
      else if (message.a < 0) socket.write(JSON.stringify({ id: message.id, error: 'too small' }) + '\\n');
      else socket.write(JSON.stringify({ id: message.id, value: message.a + message.b }) + '\\n');
    }
  });
});
server.listen(process.argv[2], () => console.log('ready'));
"""


class SocketTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="plain-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    async def node(self, path: Path) -> Any:
        """Start Node's server, and wait until it listens."""
        script = self.folder / "server.js"
        script.write_text(SERVER)
        node = str(need_node() / "node")
        process = ProcessProtocol()
        ready: Deferred[None] = Deferred()
        ended: Deferred[None] = Deferred()
        process.outReceived = lambda data: ready.callback(None)  # type: ignore[method-assign]
        process.processEnded = lambda reason: ended.callback(None)  # type: ignore[method-assign]
        cast(Any, reactor).spawnProcess(process, node, [node, str(script), str(path)], env=None)
        await ready
        return process, ended

    async def test_a_server_of_nodes(self) -> None:
        path = self.folder / "socket"
        service = Hears()
        server = dial_plain(reactor, f"unix:{path}", CALCULATOR, service=service, default_type=Event)
        self.addCleanup(server.close)
        waits = server.call(Add(2, 3), timeout=30)
        server.send(Note("first"))
        process, ended = await self.node(path)
        assert await waits == Sum(5)
        with self.assertRaisesRegex(CallFailed, "too small"):
            await server.call(Add(-1, 0))
        await until(lambda: service.events == [Event("first")])
        server.send(Note("die"))
        await ended
        with self.assertRaises((NotConnected, CallTimedOut)):
            await server.call(Add(2, 3), timeout=0.05)
        waits = server.call(Add(4, 5), timeout=30)
        process, ended = await self.node(path)
        assert await waits == Sum(9)
        await server.close()
        process.transport.signalProcess("KILL")
        await ended

    async def test_a_plain_listener(self) -> None:
        class Calculator(Service):
            interface = CALCULATOR

            @handles(Add)
            async def add(self, request: Add, peer: Peer) -> Sum:
                return await peer.call(Are("x" * (request.a + request.b)))

            @handles(Now)
            def now(self, request: Now, peer: Peer) -> Sum:
                raise CallFailed("odd", "odd", [1])

            @handles(Note)
            def note(self, message: Note, peer: Peer) -> None:
                peer.send(Event(message.text))

        path = self.folder / "socket"
        options: dict[str, Any] = {"type_field": "cmd", "request_id": "n"}
        listening = await listen_plain(reactor, f"unix:{path}", Calculator(), calls=Hears.interface, **options)
        self.addCleanup(listening.close)
        service = Hears()
        remote = dial_plain(reactor, f"unix:{path}", CALCULATOR, service=service, **options)
        self.addCleanup(remote.close)
        assert await remote.call(Add(2, 3)) == Sum(5)
        with self.assertRaises(CallFailed) as failed:
            await remote.call(Now())
        assert failed.exception.data == [1]
        remote.send(Note("x"))
        await until(lambda: service.events == [Event("x")])

    async def test_a_link_meets_a_plain_server_and_the_reverse(self) -> None:
        path = self.folder / "socket"
        calculator = Interface("calculator", Note)

        class Quiet(Service):
            interface = calculator

            @handles(Note)
            def note(self, message: Note, peer: Peer) -> None:
                """It is heard."""

        listening = await listen_plain(reactor, f"unix:{path}", Quiet())
        link = dial(reactor, f"unix:{path}", calculator, handshake_timeout=0.05)
        with self.assertRaisesRegex(NotConnected, "is it a plain server\\? dial_plain"):
            await link.linked(timeout=0.3)
        await link.close()
        await listening.close()
        listening = await listen(reactor, f"unix:{path}", Quiet())
        self.addCleanup(listening.close)
        plain = dial_plain(reactor, f"unix:{path}", CALCULATOR, fail_on_refusal=True)
        self.addCleanup(plain.close)
        with self.assertRaisesRegex(NotConnected, "not a plain server: use dial"):
            await plain.call(Add(2, 3))
        with self.assertRaisesRegex(LinkRefused, "not a plain server: use dial"):
            await plain.call(Add(2, 3))

    def test_what_cannot_be_sent(self) -> None:
        world = World()
        with self.assertRaises(LocalProtocolError):
            world.remote.call(cast(Any, Note()))
