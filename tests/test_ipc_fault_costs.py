"""
What a fault costs, by the table in docs/ipc.md: each of its rows in each dialect; and each frame of a link with each of
its fields made wrong in each way. Only what is at fault ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.test_ipc_bad_input import Ask, Item, Note, Told
from tests.test_ipc_bad_input import say as say_on_link
from twistedipc.ipc import (
    Blob,
    CallFailed,
    Interface,
    Peer,
    Request,
    Service,
    StreamId,
    StreamOf,
    handles,
    receives,
)
from twistedipc.ipc.connections.plain import PlainProtocol
from twistedipc.ipc.service import Listening
from twistedipc.ipc.sessionless import PlainFactory
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire import bodies, messages, windows
from twistedipc.ipc.wire.jsonrpc import JsonRpcConversation, JsonRpcFormat
from twistedipc.ipc.wire.plain import PlainConversation
from twistedipc.ipc.wire.settings import Side

_TEXT = (Path(__file__).parent.parent / "docs" / "ipc.md").read_text("utf-8")
_TABLE = _TEXT.split("## What a fault costs")[1].split("\n## ")[0]
#: The fault; what it costs on a link, by plain lines, by JSON-RPC.
ROWS = {
    fault: costs
    for fault, *costs in re.findall(r"^\| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|", _TABLE, re.MULTILINE)[2:]
}

TALK = Interface("talk", Ask, Note)


class Talk(Service):
    interface = TALK

    @handles(Ask)
    def ask(self, request: Ask, peer: Peer) -> Told:
        match request.s:
            case "raise":
                raise ZeroDivisionError("a secret")
            case "refuse":
                raise CallFailed("no-such-thing", "there is none")
            case "wrong":
                return Told(n=cast(Any, "text"))
            case "large":
                return Told("x" * 3_000_000)
        return Told(request.s)

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        if message.s == "raise":
            raise ZeroDivisionError("a secret")


class Dialect(Protocol):
    """How a fault is said, and what is heard of it. Another one is one more class in `DIALECTS`."""

    def request(self, type: str, fields: str) -> bytes: ...

    def message(self, type: str, fields: str) -> bytes: ...

    def say(self, line: bytes) -> list[str]:
        """The codes of what is answered; "bye" before that of an end."""

    def lives(self) -> bool:
        """Whether another request is answered."""


class Link:
    column = 0

    def __init__(self) -> None:
        self.pair = ServicePair(Talk())
        self.count = 0

    def request(self, type: str, fields: str) -> bytes:
        self.count += 1
        return f'{{"type":"call","id":{self.count},"request":{{"type":"{type}"{fields}}}}}'.encode()

    def message(self, type: str, fields: str) -> bytes:
        return f'{{"type":"{type}"{fields}}}'.encode()

    def say(self, line: bytes) -> list[str]:
        return codes(say_on_link(self.pair, Side.DIALLER, line + b"\n"))

    def lives(self) -> bool:
        answers = say_on_link(self.pair, Side.DIALLER, self.request("ask", ',"s":"good"') + b"\n")
        return any(b'"good"' in line for line in answers)


class _InMemory:
    conversation: Callable[[], Any]

    def __init__(self) -> None:
        clock = Clock()
        listening = Listening(clock, Talk(), None)
        factory = PlainFactory(clock, listening, type(self).conversation, check=lambda _: None)
        self.clock = clock
        self.protocol = cast(PlainProtocol, factory.buildProtocol(None))
        self.wire = StringTransport()
        cast(Any, self.wire).abortConnection = lambda: None
        self.protocol.makeConnection(cast(Any, self.wire))

    def lines(self, line: bytes) -> list[bytes]:
        self.wire.clear()
        self.protocol.dataReceived(line + b"\n")
        self.clock.advance(0)
        data: bytes = self.wire.value()
        return data.splitlines()

    def say(self, line: bytes) -> list[str]:
        return codes(self.lines(line))

    def lives(self) -> bool:
        return any(b'"good"' in line for line in self.lines(cast(Any, self).request("ask", ',"s":"good"')))


class Plain(_InMemory):
    column = 1
    conversation = staticmethod(lambda: PlainConversation(TALK))

    def request(self, type: str, fields: str) -> bytes:
        return f'{{"type":"{type}","id":1{fields}}}'.encode()

    def message(self, type: str, fields: str) -> bytes:
        return f'{{"type":"{type}"{fields}}}'.encode()


class JsonRpc(_InMemory):
    column = 2
    conversation = staticmethod(lambda: JsonRpcConversation(TALK, None, JsonRpcFormat()))

    def request(self, type: str, fields: str) -> bytes:
        return f'{{"jsonrpc":"2.0","id":1,"method":"{type}","params":{{{fields[1:]}}}}}'.encode()

    def message(self, type: str, fields: str) -> bytes:
        return f'{{"jsonrpc":"2.0","method":"{type}","params":{{{fields[1:]}}}}}'.encode()


DIALECTS: list[Any] = [Link, Plain, JsonRpc]


def codes(lines: list[bytes]) -> list[str]:
    found: list[str] = []
    for line in lines:
        said: Any = json.loads(line)
        if said.get("type") == "bye":
            found.append(f"bye {said['code']}")
        elif said.get("type") == "error":
            found.append(said["code"])
        elif "error" in said:
            data = said["error"].get("data")
            found.append(str(data["code"] if isinstance(data, dict) and "code" in data else said["error"]["code"]))
    return found


#: How each fault of the table is said.
FAULTS: dict[str, Callable[[Any], bytes]] = {
    "a request with wrong fields": lambda d: d.request("ask", ',"n":"x"'),
    "a request of an unknown type": lambda d: d.request("sing", ',"n":1'),
    "a message with wrong fields": lambda d: d.message("note", ',"n":"x"'),
    "a message of an unknown type": lambda d: d.message("dance", ',"n":1'),
    "a handler of a request raises": lambda d: d.request("ask", ',"s":"raise"'),
    "a handler of a message raises": lambda d: d.message("note", ',"s":"raise"'),
    "a handler raises `CallFailed`": lambda d: d.request("ask", ',"s":"refuse"'),
    "a handler's reply isn't what was declared": lambda d: d.request("ask", ',"s":"wrong"'),
    "a reply over the limit": lambda d: d.request("ask", ',"s":"large"'),
    "a line that is no JSON": lambda d: b"{nonsense}",
    "a line over the limit": lambda d: b" " * (3 << 20),
}


def test_the_table_is_whole() -> None:
    assert list(ROWS) == list(FAULTS)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_row_in_each_dialect(fault: str, dialect: Any) -> None:
    end = dialect()
    words = ROWS[fault][dialect.column]
    expected = re.findall(r"`([^`]+)`", words)
    found = end.say(FAULTS[fault](end))
    assert [each.removeprefix("bye ") for each in found] == expected, words
    assert end.lives() is not words.startswith("the connection")


# -- each frame of a link, with each field made wrong -----------------------------------------------------------------

ITEMS = StreamOf("items", Item)


class Put(Request[int]):
    content: Blob


class Target(Talk):
    interface = Interface("talk", Ask, Note, Put, streams=[ITEMS])

    @handles(Put)
    async def put(self, request: Put, peer: Peer) -> int:
        return len(await request.content.read())

    @receives(ITEMS)
    def items(self, stream: StreamId) -> Any:
        return self

    def position(self) -> int:
        return 1

    def take(self, first: int, items: Any) -> None: ...


#: Frames as they should be. The call, the stream and the body that they are of are there.
FRAMES: dict[type[msgspec.Struct], dict[str, Any]] = {
    messages.Call: {"type": "call", "id": 1, "request": {"type": "ask"}},
    messages.Reply: {"type": "reply", "id": 1, "reply": {"s": "x"}},
    messages.Error: {"type": "error", "id": 1, "code": "c", "message": "m", "data": [1]},
    messages.CallItems: {"type": "call-items", "id": 7, "items": [{"n": 1}]},
    messages.CallMore: {"type": "call-more", "id": 7, "credit": 100},
    messages.Drop: {"type": "drop", "id": 1},
    messages.Ping: {"type": "ping"},
    messages.Pong: {"type": "pong"},
    messages.Bye: {"type": "bye", "code": "c", "reason": "r"},
    windows.StreamOpen: {"type": "stream-open", "stream": "items", "id": "another", "first": 1, "opening": 1},
    windows.StreamItems: {"type": "stream-items", "id": "x", "first": 1, "items": [{"n": 1}]},
    windows.StreamClose: {"type": "stream-close", "id": "x"},
    bodies.BodyWanted: {"type": "link-body-wanted", "body": 1, "credit": 100},
    bodies.BodyChunk: {"type": "link-body-chunk", "body": 1, "data": "YWJj"},
    bodies.BodyEnded: {"type": "link-body-ended", "body": 1, "size": 0},
    bodies.BodyFailed: {"type": "link-body-failed", "body": 1, "code": "c", "message": "m"},
    bodies.BodyDone: {"type": "link-body-done", "body": 1},
}

#: What each field may be made instead; None: it is left out.
VALUES: dict[str, bytes | None] = {
    "missing": None,
    "null": b"null",
    "a text": b'"text"',
    "a number": b"7",
    "a fraction": b"1.5",
    "true": b"true",
    "negative": b"-1",
    "huge": b"9" * 400,
    "a long text": b'"%b"' % (b"x" * 100_000),
    "an array": b"[]",
    "an object": b"{}",
    "nested": b"[" * 200 + b"]" * 200,
    "nested too deeply": b"[" * 100_000 + b"]" * 100_000,
    "a lone surrogate": b'"\\ud800"',
    "NaN": b"NaN",
    "no UTF-8": b'"\xff"',
}

CASES = [(kind, field) for kind, frame in FRAMES.items() for field in frame]


def written(frame: dict[str, Any], field: str, value: bytes | None) -> bytes:
    members = [
        b'"%b":%b' % (name.encode(), value if name == field and value is not None else json.dumps(each).encode())
        for name, each in frame.items()
        if name != field or value is not None
    ]
    return b"{" + b",".join(members) + b"}\n"


#: What has an end of its own, if it is wrong: the link goes on. All else is the link's own.
COSTS_ITSELF = {
    (messages.Call, "request"),
    (messages.Reply, "reply"),
    (messages.Error, "code"),
    (messages.Error, "message"),
    (messages.Error, "data"),
    (windows.StreamItems, "items"),
}


def test_all_frames_are_here() -> None:
    own = {kind for kind in messages.Frame.__subclasses__() if kind.__module__.startswith("twistedipc.")}
    said_by_service = {windows.StreamPosition, windows.StreamAck, windows.StreamRefused, windows.UnreadItems}
    assert {kind.__struct_config__.tag for kind in own - said_by_service} <= {
        kind.__struct_config__.tag for kind in FRAMES
    }


@pytest.mark.parametrize(("kind", "field"), CASES, ids=lambda each: each if isinstance(each, str) else each.__name__)
def test_each_frame_with_each_field_made_wrong(kind: Any, field: str) -> None:
    for name, value in VALUES.items():
        line = written(FRAMES[kind], field, value)
        pair = ServicePair(Target())
        service_calls = kind in (messages.Reply, messages.Error)
        say_on_link(pair, Side.DIALLER, b'{"type":"stream-open","stream":"items","id":"x","first":1}\n')
        say_on_link(pair, Side.DIALLER, b'{"type":"call","id":98,"request":{"type":"put","content":{"body":1}}}\n')
        if service_calls:
            pair = ServicePair(Target(), answers=Talk())
            (peer,) = pair.listening.peers
            outcome: list[Any] = []
            peer.call(Ask("x")).addBoth(outcome.append)
            pair.clock.advance(0)
            assert pair.wire is not None
            pair.wire.wire(Side.LISTENER).buffer.clear()
        said = codes(say_on_link(pair, Side.DIALLER, line))
        good = b'{"type":"call","id":99,"request":{"type":"ask","s":"good"}}\n'
        lives = any(b'"good"' in each for each in say_on_link(pair, Side.DIALLER, good))
        ends = [each for each in said if each.startswith("bye")]
        assert lives is not bool(ends) or kind is messages.Bye, (name, said)
        if (kind, field) in COSTS_ITSELF:
            assert lives, (name, said)
        assert ends in ([], ["bye bad-message"]), (name, said)
        if service_calls and lives and (kind, field) in COSTS_ITSELF:
            assert len(outcome) == 1, "the call has ended, and nothing else"
