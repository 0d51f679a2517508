"""The plain profile: what goes over the wire, without one and over real sockets, with a real Node at the other end."""

from __future__ import annotations

import json
import re
import socket
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.node import need_node
from twistedipc.ipc import (
    BadEndpoint,
    BadVocabulary,
    CallFailed,
    Interface,
    LinkReactor,
    Listening,
    LocalProtocolError,
    Message,
    NotConnected,
    Peer,
    Request,
    Service,
    StreamOf,
    TLSFiles,
    handles,
    listen_plain,
)
from twistedipc.ipc.connections.lateness import LAST_ANSWERS, LINE_TIMEOUT
from twistedipc.ipc.connections.plain import PlainProtocol
from twistedipc.ipc.places.endpoints import client_endpoint, parse_dialled
from twistedipc.ipc.sessionless import PlainFactory
from twistedipc.ipc.wire.conversation import Asked, Ended, Refused
from twistedipc.ipc.wire.plain import MAX_ASKED, PlainConversation, PlainFormat

reactor = cast(LinkReactor, global_reactor)


class Told(msgspec.Struct):
    answer: str


class Ask(Request[Told]):
    what: str


class Note(Message):
    n: int
    text: str = ""


TALK = Interface("talk", Ask, Note)


class Talk(Service):
    interface = TALK

    def __init__(self) -> None:
        self.notes: list[int] = []
        self.asked: list[str] = []
        self.pending: list[Deferred[Told]] = []
        self.working: list[Deferred[None]] = []
        self.peers: list[Peer] = []
        self.lost: list[str] = []
        self.cancelled = 0

    @handles(Ask)
    def ask(self, request: Ask, peer: Peer) -> Any:
        self.asked.append(request.what)
        match request.what:
            case "refuse":
                raise CallFailed("no-such-thing", "there is no such thing")
            case "fail":
                raise ZeroDivisionError("a secret of this side")
            case "wrong":
                return Note(1)
            case "big":
                return Told("x" * 100_000)
            case "bad data":
                raise CallFailed("odd", "odd", object())
            case what if what.startswith("later"):
                self.pending.append(Deferred(lambda _: self._cancel()))
                return self.pending[-1]
        return Told(f"about {request.what}")

    def _cancel(self) -> None:
        self.cancelled += 1

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> Any:
        self.notes.append(message.n)
        if message.text == "echo":
            peer.send(message)
        elif message.text == "fail":
            raise ZeroDivisionError
        elif message.text == "work":
            self.working.append(Deferred())
            return self.working[-1]
        return None

    def peer_ready(self, peer: Peer) -> None:
        self.peers.append(peer)

    def peer_lost(self, peer: Peer, reason: str) -> None:
        self.lost.append(reason)


#: What a stranger may say, and whether the connection goes on; with the code of the answer.
BAD_LINES: list[tuple[bytes, str, bool]] = [
    (b"", "bad-message", False),
    (b" ", "bad-message", False),
    (b"\r", "bad-message", False),
    (b"\xef\xbb\xbf{}", "bad-message", False),
    (b'{"type":"note","n":1,"text":"\xff"}', "bad-message", False),
    (b'{"type":"note","n":1,"other":"\xc0\xaf"}', "bad-message", False),
    (b"\0", "bad-message", False),
    (b'{"type":"note","n":1,"text":"\\ud800"}', "bad-message", False),
    (b"[" * 100_000, "bad-message", False),
    (b'{"type":"note","n":' + b"[" * 100_000, "bad-message", False),
    (b'{"type":"note","n":NaN}', "bad-message", False),
    (b'{"type":"note","n":1e999}', "bad-message", True),
    (b'{"type":"note","n":' + b"9" * 10_000 + b"}", "bad-message", True),
    (b"[]", "bad-message", False),
    (b'"x"', "bad-message", False),
    (b"null", "bad-message", False),
    (b"{}", "bad-message", False),
    (b'{"type":1}', "bad-message", False),
    (b'{"type":"note"}', "bad-message", True),
    (b'{"type":"note","n":"x"}', "bad-message", True),
    (b'{"type":"note","n":"x"', "bad-message", False),
    (b'{"type":"note","n":1}{"type":"note","n":2}', "bad-message", False),
    (b'{"type":"ask","id":1}', "bad-request", True),
    (b'{"type":"ask","what":"x","id":{}}', "bad-request", True),
    (b'{"type":"ask","what":"x","id":-1}', "bad-request", True),
    (b'{"type":"ask","what":"x","id":1.5}', "bad-request", True),
    (b'{"type":"ask","what":"x","id":true}', "bad-request", True),
    (b'{"type":"ask","what":"x","id":null}', "bad-request", True),
    (b'{"type":"ask","what":"x","id":' + b"9" * 300 + b"}", "bad-request", True),
    (b'{"type":"ask","what":"x","id":"' + b"x" * 65 + b'"}', "bad-request", True),
    (b'{"type":"sing"}', "unknown-type", True),
    (b'{"type":"ping"}', "unknown-type", True),
    (b'{"type":"told","answer":"x"}', "unknown-type", True),
    (b'{"type":"hello","version":1}', "unknown-type", True),
    (b'{"type":"call","id":1,"request":{"type":"ask","what":"x"}}', "unknown-type", True),
    (b'{"type":"' + b"x" * 10_000 + b'"}', "unknown-type", True),
    (b"GET / HTTP/1.1\r", "bad-message", False),
    (b"\x16\x03\x01\x02\x00\x01", "bad-message", False),
]


@pytest.mark.parametrize(("line", "code", "goes_on"), BAD_LINES)
def test_bad_lines(line: bytes, code: str, goes_on: bool) -> None:
    conversation = PlainConversation(TALK)
    good = b'{"type":"note","n":7}'
    first, *rest = conversation.receive(line + b"\n" + good + b"\n")
    if goes_on:
        assert isinstance(first, Refused)
        answer = json.loads(first.line)
        assert (answer["type"], answer["code"]) == ("error", code)
        assert rest == [Note(7)]
    else:
        assert isinstance(first, Ended)
        assert first.code == code
        assert rest == []
        assert len(conversation.bye(first.code, first.reason)) < 1000


def test_what_is_good() -> None:
    conversation = PlainConversation(TALK)
    lines = [
        '{"type":"note","n":1}',
        '{"n":1,"type":"note","other":[{}]}\r',
        ' {"type":"note","n":1,"n":2} ',
        '{"type":"note","n":3,"id":{}}',
        '{"type":"ask","what":"x"}',
        '{"type":"ask","what":"x","id":0}',
        '{"id":"a","type":"ask","what":"ü"}',
        f'{{"type":"ask","what":"x","id":{2**53 - 1}}}',
    ]
    assert list(conversation.receive("".join(line + "\n" for line in lines).encode())) == [
        Note(1),
        Note(1),
        Note(2),
        Note(3),
        Asked(msgspec.UNSET, Ask("x")),
        Asked(0, Ask("x")),
        Asked("a", Ask("ü")),
        Asked(2**53 - 1, Ask("x")),
    ]


@pytest.mark.parametrize(("size", "arrives"), [(-1, True), (0, True), (1, False)])
def test_a_line_at_the_limit(size: int, arrives: bool) -> None:
    conversation = PlainConversation(TALK, how=PlainFormat(line_limit=100))
    line = b'{"type":"note","n":1,"text":"' + b"x" * (100 + size - 31) + b'"}'
    assert len(line) == 100 + size
    (event,) = conversation.receive(line + b"\n")
    assert isinstance(event, Note) == arrives
    if not arrives:
        assert isinstance(event, Ended)
        assert event.code == "frame-too-long"


@given(st.lists(st.sampled_from([line for line, _, _ in BAD_LINES if len(line) < 100]), max_size=6), st.integers(1, 9))
def test_any_cut(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    whole = list(PlainConversation(TALK).receive(data))
    conversation = PlainConversation(TALK)
    cut: list[msgspec.Struct] = []
    for at in range(0, len(data), size):
        for event in conversation.receive(data[at : at + size]):
            cut.append(event)
        if cut and isinstance(cut[-1], Ended):
            break
    assert cut == whole


def test_what_this_profile_has_not() -> None:
    class Get(Request[Told]):
        id: int

    with pytest.raises(BadVocabulary, match="a field id"):
        PlainConversation(Interface("talk", Get))
    with pytest.raises(BadVocabulary, match="streams"):
        PlainConversation(Interface("talk", streams=[StreamOf("notes", Note)]))
    with pytest.raises(LocalProtocolError, match="not tagged"):
        PlainConversation(TALK).message(Told("x"))
    with pytest.raises(LocalProtocolError, match="over the limit"):
        PlainConversation(TALK, how=PlainFormat(line_limit=50)).message(Note(1, "x" * 50))


class World:
    """One connection in memory, on a clock."""

    def __init__(self, **changes: Any) -> None:
        self.clock = Clock()
        self.service = Talk()
        listening = Listening(self.clock, self.service, None)
        how = PlainFormat(line_limit=changes.pop("line_limit", 1 << 20))
        self.factory = PlainFactory(
            self.clock, listening, lambda: PlainConversation(TALK, how=how), check=lambda _: None, **changes
        )
        self.protocol = cast(PlainProtocol, self.factory.buildProtocol(None))
        self.wire = StringTransport()
        cast(Any, self.wire).abortConnection = lambda: setattr(self.wire, "aborted", True)
        self.protocol.makeConnection(cast(Any, self.wire))

    def say(self, *lines: str | bytes | dict[str, Any]) -> list[dict[str, Any]]:
        """Say these in one chunk; what was answered by the end of the turn."""
        encoded = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
        self.protocol.dataReceived(
            b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in encoded)
        )
        return self.heard()

    def heard(self) -> list[dict[str, Any]]:
        self.clock.advance(0)
        data = self.wire.value()
        self.wire.clear()
        return [json.loads(line) for line in data.splitlines()]


def test_the_transcript() -> None:
    text = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text("utf-8")
    (transcript,) = re.findall(r"^```plain\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    world = World()
    answers: list[dict[str, Any]] = []
    for line in transcript.splitlines():
        side, _, said = line.partition(": ")
        if side == "client":
            assert answers == []
            answers = world.say(said)
        else:
            assert answers.pop(0) == json.loads(said)
    assert answers == []
    assert world.wire.disconnecting
    assert world.service.notes == [1]


class ProtocolTests(SynchronousTestCase):
    def test_answers_in_any_order_with_ids(self) -> None:
        world = World()
        asks = [{"type": "ask", "what": what, "id": what} for what in ("later 1", "later 2", "now")]
        assert world.say(*asks) == [{"type": "reply", "id": "now", "reply": {"answer": "about now"}}]
        second, first = reversed(world.service.pending[:2]), world.service.pending[0]
        next(iter(second)).callback(Told("two"))
        first.callback(Told("one"))
        assert [(line["id"], line["reply"]["answer"]) for line in world.heard()] == [
            ("later 2", "two"),
            ("later 1", "one"),
        ]

    def test_answers_in_order_without(self) -> None:
        world = World()
        assert (
            world.say({"type": "ask", "what": "later"}, {"type": "ask", "what": "now"}, {"type": "note", "n": 1}) == []
        )
        assert world.service.notes == []
        assert world.wire.producerState == "paused"
        world.service.pending[0].callback(Told("first"))
        assert [line["reply"]["answer"] for line in world.heard()] == ["first", "about now"]
        assert world.service.notes == [1]
        assert world.wire.producerState == "producing"

    def test_errors(self) -> None:
        world = World()
        answers = world.say(*({"type": "ask", "what": what, "id": 1} for what in ("fail", "wrong", "bad data")))
        assert [(line["type"], line["code"]) for line in answers] == [
            ("error", "internal"),
            ("error", "internal"),
            ("error", "odd"),
        ]
        assert "secret" not in str(answers)
        assert "data" not in answers[2]
        assert len(self.flushLoggedErrors()) == 3
        assert world.say({"type": "note", "n": 1, "text": "fail"}) == [
            {"type": "error", "code": "internal", "message": "note: an error inside; see the log there"}
        ]
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        assert world.service.lost == []

    def test_more_requests_than_are_answered_at_a_time(self) -> None:
        world = World()
        world.say(*({"type": "ask", "what": f"later {n}", "id": n} for n in range(2 * MAX_ASKED)))
        assert len(world.service.pending) == MAX_ASKED
        assert world.wire.producerState == "paused"
        answered = 0
        while world.service.pending:
            world.service.pending.pop(0).callback(Told("x"))
            answered += len(world.heard())
        assert answered == 2 * MAX_ASKED
        assert world.wire.producerState == "producing"

    def test_who_does_not_read_is_not_read(self) -> None:
        world = World()
        world.protocol.pause_writing()
        assert world.say({"type": "ask", "what": "x", "id": 1}) == []
        assert world.service.asked == []
        assert world.wire.producerState == "paused"
        draining = world.service.peers[0].drain()
        self.assertNoResult(draining)
        world.protocol.resume_writing()
        self.successResultOf(draining)
        assert len(world.heard()) == 1
        assert world.wire.producerState == "producing"

    def test_what_waits_for_who_does_not_read_is_bounded(self) -> None:
        world = World(outbound_limit=10_000)
        world.protocol.pause_writing()
        with self.assertRaises(NotConnected):
            for n in range(1000):
                world.service.peers[0].send(Note(n, "x" * 100))
        assert cast(Any, world.wire).aborted
        assert world.service.lost == ["more than 10000 bytes wait for the peer to read them [overflow]"]

    def test_pausing(self) -> None:
        world = World()
        (peer,) = world.service.peers
        peer.pause_reading()
        assert world.wire.producerState == "paused"
        world.say({"type": "note", "n": 1})
        assert world.service.notes == []
        peer.resume_reading()
        world.heard()
        assert world.service.notes == [1]
        assert world.wire.producerState == "producing"

    def test_a_peer_cannot_be_called(self) -> None:
        with self.assertRaises(LocalProtocolError):
            World().service.peers[0].call(Ask("x"), 5)

    def test_idleness(self) -> None:
        world = World(idle_timeout=10.0)
        world.clock.advance(9)
        world.say({"type": "ask", "what": "later", "id": 1})
        world.clock.advance(100)
        assert not world.wire.disconnecting, "it waits for us"
        world.service.pending[0].callback(Told("x"))
        assert len(world.heard()) == 1
        world.clock.advance(9)
        assert not world.wire.disconnecting
        world.clock.advance(1)
        assert world.heard() == [{"type": "bye", "code": "silent", "reason": "there was no line for 10 seconds"}]
        assert world.wire.disconnecting

    def test_a_line_that_does_not_end(self) -> None:
        world = World()
        for _ in range(int(LINE_TIMEOUT / 10) + 1):
            world.protocol.dataReceived(b" ")
            world.clock.advance(10)
        assert world.heard()[0]["code"] == "silent"
        world = World()
        world.clock.advance(10 * LINE_TIMEOUT)
        world.say({"type": "note", "n": 1})
        world.clock.advance(10 * LINE_TIMEOUT)
        assert not world.wire.disconnecting, "who says nothing is idle, which is allowed"

    def test_an_endless_line(self) -> None:
        world = World()
        for _ in range(17):
            world.protocol.dataReceived(b"{" * 65536)
        assert world.heard()[0]["code"] == "frame-too-long"
        world.protocol.dataReceived(b"{" * 65536)
        assert world.protocol._conversation.pending == 0

    def test_who_asks_no_more_still_gets_the_answers(self) -> None:
        world = World()
        world.say({"type": "ask", "what": "later", "id": 1}, {"type": "note", "n": 1, "text": "work"})
        world.protocol.readConnectionLost()
        world.heard()
        assert not world.wire.disconnecting
        world.service.pending[0].callback(Told("x"))
        assert len(world.heard()) == 1
        assert not world.wire.disconnecting, "a message is still at work"
        world.service.working[0].callback(None)
        world.heard()
        assert world.wire.disconnecting

    def test_within_a_time(self) -> None:
        world = World()
        world.say({"type": "ask", "what": "later", "id": 1})
        world.protocol.readConnectionLost()
        world.clock.advance(LAST_ANSWERS)
        assert world.heard()[-1]["code"] == "silent"
        assert world.service.cancelled == 1

    def test_the_time_begins_with_the_peers_end(self) -> None:
        world = World()
        world.say({"type": "ask", "what": "later", "id": 1})
        world.clock.advance(2 * LAST_ANSWERS)
        world.protocol.readConnectionLost()
        world.clock.advance(LAST_ANSWERS - 1)
        world.service.pending[0].callback(Told("x"))
        assert world.heard()[-1]["id"] == 1

    def test_nothing_is_left(self) -> None:
        world = World(idle_timeout=5.0)
        world.say({"type": "ask", "what": "later", "id": 1})
        world.protocol.connectionLost()
        assert world.service.cancelled == 1
        assert world.clock.getDelayedCalls() == []
        with self.assertRaises(NotConnected):
            world.service.peers[0].send(Note(1))
        self.failureResultOf(world.service.peers[0].drain(), NotConnected)

    def test_nothing_grows(self) -> None:
        world = World()
        flood = (b'{"type":"sing"}\n' * 4000, b'{"type":"note","n":"x"}\n' * 3000)
        world.protocol.dataReceived(flood[0])
        world.wire.clear()
        tracemalloc.start()
        try:
            for _ in range(10):
                for chunk in flood:
                    world.protocol.dataReceived(chunk)
                    world.clock.advance(0)
                    world.wire.clear()
            kept, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept < 1 << 20


CLIENT = """
const socket = require('net').connect(process.argv[2]);
const send = (message) => socket.write(JSON.stringify(message) + '\\n');
let rest = '';
socket.on('data', (data) => {
  const lines = (rest + data).split('\\n');
  rest = lines.pop();
  for (const line of lines) console.log(line);
});
send({type: 'note', n: 1, text: 'echo'});
send({type: 'ask', what: 'Node', id: 1});
socket.end();
"""


class Stranger(Protocol):
    """Connects and says anything."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True


async def until(condition: Callable[[], object]) -> None:
    """Let the reactor turn until the condition holds; the test's own time limit ends it if it never does."""
    while not condition():
        await deferLater(reactor, 0.002)


class SocketTests(TestCase):
    timeout = 180

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="plain-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.path = str(self.folder / "talk.sock")
        self.service = Talk()

    async def listening(self, endpoint: str, **more: Any) -> Listening:
        listening = await listen_plain(reactor, endpoint, self.service, **more)
        self.addCleanup(listening.close)
        return listening

    async def stranger(self, data: bytes) -> Stranger:
        stranger = Stranger()
        await connectProtocol(UNIXClientEndpoint(reactor, self.path), stranger)
        assert stranger.transport is not None
        stranger.transport.write(data)
        return stranger

    async def test_node(self) -> None:
        node = str(need_node() / "node")
        script = self.folder / "client.js"
        script.write_text(CLIENT)
        listening = await self.listening("tcp:0")
        await self.listening(f"unix:{self.path}")
        for where in (str(listening.port), self.path):
            out, errors, code = await getProcessOutputAndValue(node, [str(script), where])
            assert (errors, code) == (b"", 0)
            assert list(map(json.loads, out.splitlines())) == [
                {"type": "note", "n": 1, "text": "echo"},
                {"type": "reply", "id": 1, "reply": {"answer": "about Node"}},
            ]
        assert self.service.lost == ["the peer closed the connection"] * 2

    async def test_a_flood_of_requests_from_who_reads_late(self) -> None:
        await self.listening(f"unix:{self.path}")
        ask = b'{"type":"ask","what":"big","id":%d}\n'
        stranger = await self.stranger(b"".join(ask % n for n in range(80)))
        cast(Any, stranger.transport).pauseProducing()
        await until(lambda: self.service.peers and self.service.peers[0].paused)
        await deferLater(reactor, 0.05)
        assert len(self.service.asked) < 80
        cast(Any, stranger.transport).resumeProducing()
        await until(lambda: stranger.received.count(b"\n") == 80)
        assert [json.loads(line)["id"] for line in stranger.received.splitlines()] == list(range(80))
        cast(Any, stranger.transport).loseConnection()
        await until(lambda: stranger.lost)

    async def test_bad_lines_over_a_socket(self) -> None:
        await self.listening(f"unix:{self.path}")
        for line, code, goes_on in BAD_LINES:
            stranger = await self.stranger(line + b'\n{"type":"note","n":7,"text":"echo"}\n')
            await until(lambda s=stranger, g=goes_on: s.received.count(b"\n") == 2 if g else s.lost)  # type: ignore[misc]
            first = json.loads(stranger.received.splitlines()[0])
            assert first["code"] == code, line
            assert first["type"] == ("error" if goes_on else "bye")
            cast(Any, stranger.transport).loseConnection()
            await until(lambda s=stranger: s.lost)  # type: ignore[misc]

    async def test_too_many_connections_and_the_end(self) -> None:
        listening = await self.listening(f"unix:{self.path}", connections=1)
        first = await self.stranger(b"")
        await until(lambda: len(self.service.peers) == 1)
        second = await self.stranger(b"")
        await until(lambda: second.lost)
        assert json.loads(second.received)["code"] == "refused"
        await listening.close()
        await until(lambda: first.lost)
        assert json.loads(first.received) == {"type": "bye", "code": "closed", "reason": "the peer is stopping"}
        assert listening.peers == set()

    async def test_strangers(self) -> None:
        await self.listening(f"unix:{self.path}", uids=frozenset())
        stranger = await self.stranger(b'{"type":"note","n":1}\n')
        await until(lambda: stranger.lost)
        assert b"isn't allowed at this socket" in stranger.received
        assert self.service.notes == []

    async def test_how_long_it_may_stay_awake(self) -> None:
        with self.assertRaises(ValueError):
            await listen_plain(reactor, f"unix:{self.mktemp()}", Talk(), busy_poll=1)

    async def test_where_it_may_be(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        certificate, key = self.folder / "cert.pem", self.folder / "key.pem"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        for endpoint, tls, complaint in (
            ("tcp:0:interface=0.0.0.0", None, "use tls:"),
            ("tls:0", None, "the peers need certificates"),
            ("tls:0", TLSFiles(certificate, key), "the peers need certificates"),
        ):
            with self.assertRaisesRegex(BadEndpoint, complaint):
                await listen_plain(reactor, endpoint, self.service, tls=tls)

    async def test_with_certificates(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        files = TLSFiles(self.folder / "cert.pem", self.folder / "key.pem", self.folder / "ca.pem")
        issued.cert_chain_pems[0].write_to_path(str(files.certificate))
        issued.private_key_pem.write_to_path(str(files.key))
        authority.cert_pem.write_to_path(str(files.authority))
        listening = await self.listening("tls:0:interface=127.0.0.1", tls=files)
        address = parse_dialled(f"tls:localhost:{listening.port}", has_key=True)
        for own, answer in (
            (files, b'{"type":"note","n":1,"text":"echo"}\n'),
            (TLSFiles(authority=files.authority), b""),
        ):
            client = Stranger()
            await connectProtocol(client_endpoint(reactor, address, own), client)
            assert client.transport is not None
            client.transport.write(b'{"type":"note","n":1,"text":"echo"}\n')
            await until(lambda c=client: c.received or c.lost)  # type: ignore[misc]
            assert client.received == answer
            client.transport.loseConnection()
            await until(lambda c=client: c.lost)  # type: ignore[misc]

    async def test_at_an_inherited_connection(self) -> None:
        ours, theirs = socket.socketpair()
        listening = await self.listening(f"fd:{theirs.detach()}")
        ours.sendall(b'{"type":"note","n":1,"text":"echo"}\n')
        ours.shutdown(socket.SHUT_WR)
        assert await listening.closed() == "the peer closed the connection"
        assert ours.recv(1000) == b'{"type":"note","n":1,"text":"echo"}\n'
        ours.close()
