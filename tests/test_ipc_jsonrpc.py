"""JSON-RPC 2.0: what each input costs, on both sides, in memory; how much anything may take; its two framings."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.ipc import (
    BadVocabulary,
    CallFailed,
    CallTimedOut,
    Interface,
    Listening,
    LocalProtocolError,
    Message,
    NotConnected,
    Peer,
    Remote,
    Request,
    Service,
    StreamOf,
    TooManyCalls,
    Unlinked,
    handles,
)
from twistedipc.ipc.connections.plain import PlainProtocol
from twistedipc.ipc.sessionless import PlainFactory
from twistedipc.ipc.wire.content_length import HEADER_LIMIT, BadFraming, HeaderFraming
from twistedipc.ipc.wire.conversation import Asked, Ended, Misunderstood, Refused
from twistedipc.ipc.wire.jsonrpc import BATCH_LIMIT, JsonRpcConversation, JsonRpcFormat


class Sum(msgspec.Struct):
    value: int


class Subtract(Request[Sum], tag="math/subtract"):
    minuend: int
    subtrahend: int = 0


class Point(Request[Sum], tag_field="method", array_like=True):
    x: int
    y: int


class Later(Request[Sum]):
    what: str = ""


class Note(Message):
    text: str = ""


MATH = Interface("math", Subtract, Point, Later, Note)


class Math(Service):
    interface = MATH

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.pending: list[Deferred[Sum]] = []
        self.cancelled: list[str] = []
        self.peers: list[Peer] = []

    @handles(Subtract)
    def subtract(self, request: Subtract, peer: Peer) -> Sum:
        match request.minuend:
            case -1:
                raise CallFailed("overdrawn", "there is too little", {"left": 3})
            case -2:
                raise CallFailed("-32050", "of its own", [1])
            case -3:
                raise ZeroDivisionError("a secret of this side")
            case -4:
                raise CallFailed("odd", "odd", object())
        return Sum(request.minuend - request.subtrahend)

    @handles(Point)
    def point(self, request: Point, peer: Peer) -> Sum:
        return Sum(request.x * 100 + request.y)

    @handles(Later)
    def later(self, request: Later, peer: Peer) -> Deferred[Sum]:
        self.pending.append(Deferred(lambda _: self.cancelled.append(request.what)))
        return self.pending[-1]

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        if message.text == "fail":
            raise ZeroDivisionError
        self.notes.append(message.text)

    def peer_ready(self, peer: Peer) -> None:
        self.peers.append(peer)


class World:
    """A server's connection in memory, on a clock."""

    def __init__(self, *, max_calls: int = 1024, calls: Interface | None = None, **how: Any) -> None:
        self.clock = Clock()
        self.service = Math()
        listening = Listening(self.clock, self.service, calls)
        form = JsonRpcFormat(**how)
        self.factory = PlainFactory(
            self.clock,
            listening,
            lambda: JsonRpcConversation(MATH, calls, form, max_calls=max_calls),
            check=lambda _: None,
        )
        self.protocol = cast(PlainProtocol, self.factory.buildProtocol(None))
        self.wire = StringTransport()
        cast(Any, self.wire).abortConnection = lambda: setattr(self.wire, "aborted", True)
        self.protocol.makeConnection(cast(Any, self.wire))

    def say(self, *lines: Any) -> list[Any]:
        """Say these in one chunk; what was answered by the end of the turn."""
        data = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        self.protocol.dataReceived(b"".join(each + b"\n" for each in data))
        return self.heard()

    def heard(self) -> list[Any]:
        self.clock.advance(0)
        data = self.wire.value()
        self.wire.clear()
        return [json.loads(line) for line in data.splitlines()]


def rpc(method: str, id_: Any = None, **params: Any) -> dict[str, Any]:
    """A call; without an id, a notification."""
    return {"jsonrpc": "2.0", "method": method, **({} if id_ is None else {"id": id_}), "params": params}


def result(id_: Any, value: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "result": {"value": value}}


#: A line, and what it is answered by: the id and the code of each error. Nothing else suffers.
COSTS: list[tuple[bytes, list[tuple[Any, int]]]] = [
    # the specification's own examples
    (b'{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', [("1", -32601)]),
    (b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', [(None, -32700)]),
    (b'{"jsonrpc": "2.0", "method": 1, "params": "bar"}', [(None, -32600)]),
    (b'[ {"jsonrpc": "2.0", "method": "sum", "params": [1], "id": "1"}, {"jsonrpc": "2.0" ]', [(None, -32700)]),
    (b"[]", [(None, -32600)]),
    # no JSON, or not all of it
    (b"hello", [(None, -32700)]),
    (b"GET / HTTP/1.1\r", [(None, -32700)]),
    (b"\xff\xfe", [(None, -32700)]),
    (b"[" * 100_000, [(None, -32700)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"later","params":' + b"[" * 100_000, [(None, -32700)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"note","other":"\xc0\xaf"}', [(None, -32700)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"later"}{"jsonrpc":"2.0","id":2,"method":"later"}', [(None, -32700)]),
    # JSON, and no message
    (b"1", [(None, -32600)]),
    (b"null", [(None, -32600)]),
    (b"{}", [(None, -32600)]),
    (b'{"id":1,"method":"later"}', [(1, -32600)]),
    (b'{"jsonrpc":"1.0","id":"x","method":"later"}', [("x", -32600)]),
    (b'{"jsonrpc":2.0,"id":"x","method":"later"}', [("x", -32600)]),
    (b'{"jsonrpc":"2.0","id":1}', [(1, -32600)]),
    (b'{"jsonrpc":"2.0","id":1,"method":2}', [(1, -32600)]),
    (b'{"jsonrpc":"2.0","id":true,"method":"later"}', [(None, -32600)]),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"later"}', [(None, -32600)]),
    (b'{"jsonrpc":"2.0","id":{},"method":"later"}', [(None, -32600)]),
    (b'{"jsonrpc":"2.0","id":[1],"method":"later"}', [(None, -32600)]),
    (b'{"jsonrpc":"2.0","id":"' + b"x" * 300 + b'","method":"later"}', [(None, -32600)]),
    # wrong parameters
    (b'{"jsonrpc":"2.0","id":1,"method":"math/subtract"}', [(1, -32602)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"math/subtract","params":{"minuend":"x"}}', [(1, -32602)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"math/subtract","params":[1,2,3]}', [(1, -32602)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"math/subtract","params":["1"]}', [(1, -32602)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"math/subtract","params":7}', [(1, -32602)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"point","params":{"x":1,"y":2}}', [(1, -32602)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"point"}', [(1, -32602)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"later","params":{"what":"\\ud800"}}', [(None, -32700)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"note"}', [(1, -32601)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}', [(1, -32601)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"$/cancelRequest","params":{"id":1}}', [(1, -32601)]),
    # nobody waits for an answer
    (b'{"jsonrpc":"2.0","method":"foobar"}', []),
    (b'{"jsonrpc":"2.0","method":"note","params":{"text":1}}', []),
    (b'{"jsonrpc":"2.0","method":"note","params":7}', []),
    (b'{"jsonrpc":"2.0","method":"math/subtract","params":{}}', []),
    (b'{"jsonrpc":"2.0","method":"math/subtract","params":[-3]}', []),
    (b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":{}}}', []),
    (b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"nobody"}}', []),
    (b'{"jsonrpc":"2.0","method":"$/cancelRequest"}', []),
    (b" \t\r", []),
    # answers to nothing are never answered: two sides could go on for ever
    (b'{"jsonrpc":"2.0","id":7,"result":{}}', []),
    (b'{"jsonrpc":"2.0","id":"x","result":{}}', []),
    (b'{"jsonrpc":"2.0","id":{},"result":{}}', []),
    (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}', []),
    (b'{"jsonrpc":"2.0","id":null,"error":"what?"}', []),
    (b'{"id":1,"error":"what?"}', []),
]  # fmt: skip


class CostTests(SynchronousTestCase):
    def test_what_each_costs(self) -> None:
        for line, expected in COSTS:
            world = World()
            answers = world.say(rpc("later", "before"), line, rpc("math/subtract", 99, minuend=5, subtrahend=3))
            assert [(each["id"], each["error"]["code"]) for each in answers[:-1]] == expected, line
            assert all(each["jsonrpc"] == "2.0" and each["error"]["message"] for each in answers[:-1])
            assert answers[-1] == result(99, 2), line
            world.service.pending[-1 if b"later" not in line else 0].callback(Sum(1))
            assert world.heard() == [result("before", 1)], line
            assert not world.wire.disconnecting
            self.flushLoggedErrors(ZeroDivisionError)

    def test_whole_numbers_with_a_fraction_of_nothing(self) -> None:
        """So languages without integers may write an id."""
        world = World()
        call = b'{"jsonrpc":"2.0","id":7.0,"method":"math/subtract","params":[5,3]}'
        assert world.say(call) == [result(7, 2)]
        assert world.say(b"[" + call + b"]") == [[result(7, 2)]]
        (answer,) = world.say(b'{"jsonrpc":"2.0","id":7.0,"method":"nobody"}')
        assert (answer["id"], answer["error"]["code"]) == (7, -32601)
        (answer,) = world.say(b'{"jsonrpc":"2.0","id":7.0,"method":1}')
        assert (answer["id"], answer["error"]["code"]) == (7, -32600)
        world.say(rpc("later", 8))
        (answer,) = world.say(b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":8.0}}')
        assert (answer["id"], answer["error"]["code"]) == (8, -32800)
        for wrong in (b"1e300", b"7.5", b"-9007199254740994.0"):
            (answer,) = world.say(call.replace(b"7.0", wrong))
            assert (answer["id"], answer["error"]["code"]) == (None, -32600), wrong

    def test_in_a_batch_each_costs_itself(self) -> None:
        for line, expected in COSTS:
            if b"[" in line[:2] or (None, -32700) in expected or not line.strip():
                continue  # it spoils the whole line
            world = World()
            good = json.dumps(rpc("math/subtract", 99, minuend=5)).encode()
            (answers,) = world.say(b"[" + line + b"," + good + b"]")
            assert [(each["id"], each["error"]["code"]) for each in answers[:-1]] == expected, line
            assert answers[-1] == result(99, 5)
            self.flushLoggedErrors(ZeroDivisionError)


class CallTests(SynchronousTestCase):
    def test_calls(self) -> None:
        world = World()
        assert world.say(
            rpc("math/subtract", 1, minuend=42, subtrahend=23),
            rpc("math/subtract", "a", minuend=42),
            b'{"jsonrpc":"2.0","id":null,"method":"math/subtract","params":[42,23]}',
            b'{"jsonrpc":"2.0","id":-3,"method":"math/subtract","params":[42]}',
            b'{"id":2,"params":[4,2],"method":"point","jsonrpc":"2.0","more":{}}',
            b'{"jsonrpc":"2.0","method":"math/subtract","params":[42,23]}',
            rpc("note", text="hello"),
            b'{"jsonrpc":"2.0","method":"note"}',
            b'{"jsonrpc":"2.0","method":"note","params":null}',
            b'{"jsonrpc":"2.0","method":"note","params":[]}',
        ) == [result(1, 19), result("a", 42), result(None, 19), result(-3, 42), result(2, 402)]
        assert world.service.notes == ["hello", "", "", ""]

    def test_errors(self) -> None:
        world = World()
        answers = world.say(*(rpc("math/subtract", n, minuend=-n) for n in (1, 2, 3, 4)))
        assert [each["error"] for each in answers] == [
            {"code": -32000, "message": "there is too little", "data": {"code": "overdrawn", "data": {"left": 3}}},
            {"code": -32050, "message": "of its own", "data": [1]},
            {"code": -32603, "message": "an error inside; see the log there"},
            {"code": -32000, "message": "odd", "data": {"code": "odd", "data": None}},
        ]
        assert len(self.flushLoggedErrors()) == 2
        assert world.say(rpc("note", text="fail")) == []
        assert len(self.flushLoggedErrors()) == 1

    def test_cancelling_as_language_servers_do(self) -> None:
        world = World()
        world.say(rpc("later", 1, what="a"), rpc("later", "1", what="b"))
        (answer,) = world.say(rpc("$/cancelRequest", id=1), rpc("$/cancelRequest", id=1))
        assert (answer["id"], answer["error"]["code"]) == (1, -32800)
        assert world.service.cancelled == ["a"]
        world.service.pending[1].callback(Sum(2))
        assert world.heard() == [result("1", 2)]
        assert world.say({**rpc("later"), "id": 1}) == [], "its id is free"

    def test_cancelling_as_the_model_context_protocol_does(self) -> None:
        world = World(cancel="notifications/cancelled")
        world.say(rpc("later", 1, what="a"))
        assert world.say(rpc("notifications/cancelled", requestId=1, reason="no")) == []
        assert world.service.cancelled == ["a"]
        world.say([rpc("later", 1, what="b"), rpc("math/subtract", 2, minuend=1)])
        assert world.say(rpc("notifications/cancelled", requestId=1)) == [[result(2, 1)]]
        world = World(cancel=None)
        world.say(rpc("later", 1))
        world.say(rpc("$/cancelRequest", id=1), rpc("notifications/cancelled", requestId=1))
        assert world.service.cancelled == []

    def test_an_id_in_use(self) -> None:
        """Its answer must not be taken for the answer to the first."""
        world = World()
        (refused,) = world.say(rpc("later", 1), rpc("later", 1))
        assert (refused["id"], refused["error"]["code"]) == (None, -32600)
        world.service.pending[0].callback(Sum(1))
        assert world.heard() == [result(1, 1)]

    def test_too_many_calls(self) -> None:
        world = World(max_calls=3)
        null = b'{"jsonrpc":"2.0","id":null,"method":"later"}'
        (refused,) = world.say(rpc("later", 1), rpc("later", 2), null, rpc("later", 4))
        assert (refused["id"], refused["error"]["code"]) == (4, -32000)
        assert refused["error"]["data"]["code"] == "busy"
        for each in world.service.pending:
            each.callback(Sum(1))
        assert len(world.heard()) == 3
        assert world.say(rpc("later", 5), null) == []

    def test_a_handler_that_takes_long_keeps_nobody_waiting(self) -> None:
        world = World()
        assert world.say({**rpc("later")}, rpc("math/subtract", 2, minuend=1)) == [result(2, 1)]
        world.service.pending[0].callback(Sum(1))
        assert world.heard() == [], "nobody waits for it"

    def test_batches(self) -> None:
        world = World()
        assert world.say([rpc("later", 1), rpc("note", text="x"), rpc("math/subtract", 2, minuend=7)]) == []
        assert world.say(rpc("math/subtract", 3, minuend=1)) == [result(3, 1)], "others don't wait for it"
        world.service.pending[0].callback(Sum(1))
        assert world.heard() == [[result(2, 7), result(1, 1)]]
        assert world.say([rpc("note"), rpc("note")]) == []
        assert world.say([rpc("math/subtract", 1, minuend=1), rpc("note")]) == [[result(1, 1)]]
        (answers,) = world.say(b"[1,2]")
        assert [(each["id"], each["error"]["code"]) for each in answers] == [(None, -32600)] * 2
        (answers,) = world.say([[rpc("note")], [[]]])
        assert [each["error"]["code"] for each in answers] == [-32600, -32600], "no batches in batches"
        assert world.service.notes == ["x", "", "", ""]

    def test_bounds_of_batches(self) -> None:
        world = World()
        (refused,) = world.say([rpc("note")] * (BATCH_LIMIT + 1))
        assert refused["error"]["code"] == -32600
        assert world.service.notes == []
        (refused,) = World(batch_limit=0).say([rpc("note")])
        assert "no batches" in refused["error"]["message"]
        world = World(frame_limit=5200)
        ids = [f"{n}" + "x" * 200 for n in range(20)]
        assert world.say([{"jsonrpc": "2.0", "method": "later", "id": each} for each in ids]) == []
        for each in world.service.pending:
            each.callback(Sum(10**15))
        (answers,) = world.heard()
        assert [each["id"] for each in answers] == ids
        assert answers[-1]["error"]["data"]["code"] == "too-large"


class OtherSideTests(SynchronousTestCase):
    """A remote whose server is this test."""

    def setUp(self) -> None:
        self.begin()

    def begin(self, service: Service | None = None, *, max_calls: int = 1024, **how: Any) -> None:
        self.clock = Clock()
        self.remote = Remote(self.clock, MATH, service, Unlinked())
        answered = None if service is None else service.interface
        conversation = JsonRpcConversation(answered, MATH, JsonRpcFormat(**how), max_calls=max_calls)
        self.link = PlainProtocol(self.clock, cast(Any, self), conversation, self.remote.application, "server")
        self.wire = StringTransport()
        cast(Any, self.wire).abortConnection = self.wire.loseConnection
        self.link.makeConnection(cast(Any, self.wire))

    # -- as its owner

    def link_made(self, link: PlainProtocol) -> str | None:
        return None

    def link_ready(self, link: PlainProtocol) -> None:
        """It isn't waited for here."""

    def link_lost(self, link: PlainProtocol, reason: str) -> None:
        """It is over."""

    def said(self) -> list[Any]:
        self.clock.advance(0)
        lines = [json.loads(line) for line in self.wire.value().splitlines()]
        self.wire.clear()
        return lines

    def hear(self, *lines: Any) -> None:
        data = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        self.link.dataReceived(b"".join(line + b"\n" for line in data))
        self.clock.advance(0)

    def test_calls_and_notifications(self) -> None:
        calls = [self.remote.call(each) for each in (Subtract(5, 3), Point(1, 2), Later())]
        self.remote.send(Note("x"))
        assert self.said() == [
            rpc("math/subtract", 1, minuend=5, subtrahend=3),
            {"jsonrpc": "2.0", "id": 2, "method": "point", "params": [1, 2]},
            rpc("later", 3, what=""),
            rpc("note", text="x"),
        ]
        self.hear(result(3, 3), result(1, 2), {**result(2, 102), "error": None})
        assert [self.successResultOf(each) for each in calls] == [Sum(2), Sum(102), Sum(3)]

    def test_errors(self) -> None:
        for error, code, data in [
            ({"code": -32601, "message": "no"}, "unknown-type", None),
            ({"code": -32602, "message": "no", "data": [1]}, "bad-request", [1]),
            ({"code": -32603, "message": "no"}, "internal", None),
            ({"code": -32050, "message": "no"}, "-32050", None),
            ({"code": 7}, "7", None),
            ({"code": -32000, "message": "no", "data": "x"}, "-32000", "x"),
            ({"code": -32000, "message": "no", "data": {"code": "overdrawn", "data": 3}}, "overdrawn", 3),
            ("no", "bad-reply", None),
            ({"code": "x"}, "bad-reply", None),
        ]:
            self.begin()
            failed, other = self.remote.call(Later()), self.remote.call(Later())
            self.hear({"jsonrpc": "2.0", "id": 1, "error": error}, result(2, 1))
            found = self.failureResultOf(failed, CallFailed).value
            assert (found.code, found.data) == (code, data)
            assert self.successResultOf(other) == Sum(1)

    def test_ids_of_answers_as_languages_without_integers_write_them(self) -> None:
        right, wrong = self.remote.call(Later()), self.remote.call(Later())
        self.hear(
            b'{"jsonrpc":"2.0","id":1.0,"result":{"value":5}}',
            b'{"jsonrpc":"2.0","id":2.0,"error":{"code":7,"message":"no"}}',
        )
        assert self.successResultOf(right) == Sum(5)
        assert self.failureResultOf(wrong, CallFailed).value.code == "7"

    def test_answers_that_are_none(self) -> None:
        wrong, right = self.remote.call(Later()), self.remote.call(Later())
        self.hear(
            {"jsonrpc": "2.0", "id": 1, "result": {"value": "x"}},
            result(99, 1),
            result("2", 1),
            result(True, 1),
            {"jsonrpc": "2.0", "id": 2},
            b"nonsense",
        )
        assert self.failureResultOf(wrong, CallFailed).value.code == "bad-reply"
        self.hear([result(2, 5), result(1, 1)])
        assert self.successResultOf(right) == Sum(5), "answers may come in a batch"
        assert not self.wire.disconnecting

    def test_in_time(self) -> None:
        self.begin(max_calls=2)
        late, cancelled = self.remote.call(Later(), 5), self.remote.call(Later(), 9)
        self.failureResultOf(self.remote.call(Later(), 5), TooManyCalls)
        self.said()
        cancelled.cancel()
        self.failureResultOf(cancelled)
        assert self.said() == [rpc("$/cancelRequest", id=2)]
        self.clock.advance(5)
        self.failureResultOf(late, CallTimedOut)
        assert self.said() == [rpc("$/cancelRequest", id=1)]
        self.hear({"jsonrpc": "2.0", "id": 1, "error": {"code": -32800, "message": "cancelled"}}, result(2, 1))
        self.begin(cancel="notifications/cancelled")
        self.remote.call(Later()).addErrback(lambda _: None).cancel()
        assert self.said()[1] == rpc("notifications/cancelled", requestId=1)

    def test_both_ways(self) -> None:
        service = Math()
        self.begin(service)
        call = self.remote.call(Subtract(1))
        self.said()
        self.hear(rpc("math/subtract", 1, minuend=9), rpc("note", text="x"), result(1, 1))
        assert self.said() == [result(1, 9)]
        assert self.successResultOf(call) == Sum(1)
        assert service.notes == ["x"]

    def test_a_peer_that_does_not_read_is_read(self) -> None:
        """Both sides call: each would wait for the other."""
        call = self.remote.call(Subtract(1))
        self.said()
        assert self.wire.producer is not None
        self.wire.producer.pauseProducing()
        self.hear(result(1, 1))
        assert self.successResultOf(call) == Sum(1)

    def test_the_other_side_is_a_link(self) -> None:
        self.hear({"type": "challenge", "nonce": "0" * 64, "versions": [1]})
        assert self.link.refusal == "bad-handshake"
        assert self.wire.disconnecting

    def test_the_end(self) -> None:
        call = self.remote.call(Later())
        self.link.connectionLost()
        self.failureResultOf(call, NotConnected)

    def test_what_cannot_be_sent(self) -> None:
        class Wide(Message):
            x: float

        for message, complaint in [
            (Wide(float("nan")), "NaN|nan"),
            (Wide(1.0), ""),
            (Sum(1), "tag"),
            (Note("x" * 100), "limit"),
        ]:
            conversation = JsonRpcConversation(None, None, JsonRpcFormat(frame_limit=90))
            if complaint:
                with self.assertRaisesRegex(LocalProtocolError, complaint):
                    conversation.message(message)
            else:
                assert json.loads(conversation.message(message)) == rpc("wide", x=1.0)


def test_classes_for_json_rpc_alone() -> None:
    """A method of a name that is the link's own, and a parameter `type`."""

    class Ping(Request[Sum], tag_field="method", tag="ping"):
        pass

    class Show(Message, tag_field="method", tag="window/showMessage"):
        type: int
        message: str = ""

    interface = Interface("client", Ping, Show)
    conversation = JsonRpcConversation(interface, interface)
    assert json.loads(conversation.message(Show(3, "x"))) == rpc("window/showMessage", type=3, message="x")
    assert json.loads(conversation.call(Ping(), 0)[1]) == rpc("ping", 1)
    sent = [rpc("window/showMessage", type=3), rpc("ping", 1)]
    data = b"".join(json.dumps(each).encode() + b"\n" for each in sent)
    assert list(conversation.receive(data)) == [Show(3), Asked(1, Ping())]


def test_streams_need_a_link() -> None:
    with pytest.raises(BadVocabulary, match="streams"):
        JsonRpcConversation(Interface("talk", streams=[StreamOf("notes", Note)]))


@given(
    st.lists(st.sampled_from([line for line, _ in COSTS if len(line) < 200]), max_size=6),
    st.integers(1, 40),
    st.booleans(),
)
def test_any_cut(lines: list[bytes], size: int, with_headers: bool) -> None:
    def conversation() -> JsonRpcConversation:
        return JsonRpcConversation(MATH, MATH, JsonRpcFormat(framing="content-length" if with_headers else "lines"))

    data = b"".join(HeaderFraming(0).wrap(line) if with_headers else line + b"\n" for line in lines)
    cut = conversation()
    pieces = [event for at in range(0, len(data), size) for event in cut.receive(data[at : at + size])]
    assert pieces == list(conversation().receive(data))
    assert cut.pending == 0


@given(st.binary(max_size=300), st.integers(1, 50), st.booleans())
def test_nothing_that_comes_is_a_fault(data: bytes, size: int, with_headers: bool) -> None:
    conversation = JsonRpcConversation(
        MATH, MATH, JsonRpcFormat(framing="content-length" if with_headers else "lines", frame_limit=100)
    )
    for at in range(0, len(data), size):
        for event in conversation.receive(data[at : at + size]):
            if isinstance(event, Ended):
                return
            assert isinstance(event, Refused | Misunderstood)


# -- the header


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (b"Content-Length: -1", "number of bytes"),
        (b"Content-Length: +1", "number of bytes"),
        (b"Content-Length: 1.0", "number of bytes"),
        (b"Content-Length: 0x1", "number of bytes"),
        (b"Content-Length: 1_0", "number of bytes"),
        (b"Content-Length: \xd9\xa1", "number of bytes"),
        (b"Content-Length:", "number of bytes"),
        (b"Content-Length: " + b"9" * 4000, "number of bytes"),
        (b"Content-Length: 1000001", "longer than 1000000"),
        (b"Content-Length: 999999999999999", "longer than 1000000"),
        (b"Content-Length: 2\r\nContent-Length: 2", "one Content-Length"),
        (b"Content-Length: 2\r\ncontent-length: 3", "one Content-Length"),
        (b"Content-Type: application/json", "one Content-Length"),
        (b"Content-Length: 2\r\nContent-Type: x; charset=latin-1", "isn't UTF-8"),
        (b"GET / HTTP/1.1", "no colon"),
        (b"", "no colon"),
        (b"{}", "no colon"),
        (b"X: " + b"x" * HEADER_LIMIT, "longer than 4096"),
    ],
)
def test_headers_that_say_no_length(header: bytes, complaint: str) -> None:
    framing = HeaderFraming(1_000_000)
    with pytest.raises(BadFraming, match=complaint) as bad:
        framing.feed(framing.wrap(b"{}") + header + b"\r\n\r\n{}")
    assert bad.value.complete == [b"{}"]


def test_headers_that_do() -> None:
    framing = HeaderFraming(100)
    for header in (
        b"Content-Length: 2",
        b"content-length:2 ",
        b"CONTENT-LENGTH: 02",
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: 2",
        b'Content-Length: 2\r\nContent-Type: x; charset="utf8"\r\nX-Other: a:b',
    ):
        assert framing.feed(header + b"\r\n\r\n{}") == [b"{}"]
    assert framing.feed(b"Content-Length: 0\r\n\r\n") == [b""]
    assert framing.feed(framing.wrap("é".encode())) == ["é".encode()]


@given(
    st.lists(
        st.sampled_from([b"", b"{}", b"x" * 700, b"Content-Length: 2\r\n\r\n{}", b"Content-Length: "]), max_size=6
    ),
    st.lists(st.sampled_from(["usual", "spaced", "first", "zero"]), min_size=6, max_size=6),
    st.integers(1, 900),
)
def test_headers_in_messages_and_of_every_kind(messages: list[bytes], kinds: list[str], size: int) -> None:
    written = {
        "usual": b"Content-Length: %d\r\n\r\n",
        "spaced": b"content-length:%d\r\n\r\n",
        "first": b"Content-Length: %d\r\nContent-Type: x\r\n\r\n",
        "zero": b"Content-Length: 0%d\r\n\r\n",
    }
    data = b"".join(written[kind] % len(each) + each for kind, each in zip(kinds, messages, strict=False))
    framing = HeaderFraming(1000)
    assert framing.feed(data) == messages
    assert [each for at in range(0, len(data), size) for each in framing.feed(data[at : at + size])] == messages
    assert framing.pending == 0


def test_a_header_without_an_end() -> None:
    framing = HeaderFraming(100)
    for _ in range(HEADER_LIMIT):
        framing.feed(b"x")
    with pytest.raises(BadFraming, match="a header is longer"):
        framing.feed(b"x")


class HeaderTests(SynchronousTestCase):
    def test_the_end_of_a_connection_says_why(self) -> None:
        world = World(framing="content-length")
        good = HeaderFraming(0).wrap(json.dumps(rpc("math/subtract", 1, minuend=4)).encode())
        world.protocol.dataReceived(good + b"Content-Length: -1\r\n\r\n" + good)
        world.clock.advance(0)
        first, second = HeaderFraming(1000).feed(world.wire.value())
        assert json.loads(first) == result(1, 4)
        assert json.loads(second)["error"]["code"] == -32700
        assert world.wire.disconnecting

    def test_a_message_in_its_time(self) -> None:
        world = World(framing="content-length")
        world.protocol.dataReceived(b"Content-Length: 50\r\n\r\n")
        world.clock.advance(61)
        assert world.wire.disconnecting
        world = World(framing="content-length")
        world.protocol.dataReceived(HeaderFraming(0).wrap(b'{"jsonrpc":"2.0","method":"note"}'))
        world.clock.advance(10_000)
        assert not world.wire.disconnecting


class FloodTests(SynchronousTestCase):
    def test_nothing_grows(self) -> None:
        """A million messages of each kind, were it long: here as many as show that nothing is kept of them."""
        world = World(calls=MATH)
        note, strange = json.dumps(rpc("note")), json.dumps(rpc("strange", 1))
        kinds = [
            f"{note}\n" * 2000,
            f"{strange}\n" * 1000,
            '{"jsonrpc":"2.0","id":7,"result":{}}\n' * 1000,
            '{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":7}}\n' * 1000,
            f"[{','.join([note] * 200)}]\n" * 10,
            f"[{','.join(['[[]]'] * 200)}]\n" * 5,
            "[]\n" * 1000,
            "x\n" * 1000,
        ]
        for kind in kinds:
            world.protocol.dataReceived(kind.encode())
            world.clock.advance(0)
            world.wire.clear()
        world.service.notes.clear()
        tracemalloc.start()
        try:
            for _ in range(3):
                for kind in kinds:
                    world.protocol.dataReceived(kind.encode())
                    world.clock.advance(0)
                    world.wire.clear()
                world.service.notes.clear()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept < 1 << 20
        assert not world.wire.disconnecting
