"""
What JSON has that shouldn't be, at every place of a link where there are values: in messages, calls, replies, errors,
streams, in what nobody asked for, and before anybody is authenticated. Each ends in a typed error, a close with a code,
or does nothing; the same on whichever side it is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twistedipc.ipc import (
    CallFailed,
    Interface,
    Message,
    Peer,
    Request,
    Service,
    StreamId,
    StreamOf,
    handles,
    receives,
)
from twistedipc.ipc.testing import ConnectedPair, ServicePair
from twistedipc.ipc.wire.settings import Side


class Told(msgspec.Struct):
    s: str = ""
    n: int = 0
    x: float = 0.0


class Note(Message):
    s: str = ""
    n: int = 0
    x: float = 0.0


class Ask(Request[Told]):
    s: str = ""
    n: int = 0
    x: float = 0.0


class Item(msgspec.Struct):
    s: str = ""
    n: int = 0
    x: float = 0.0


ITEMS = StreamOf("items", Item)


class Odd(Service):
    """Notes what comes through."""

    interface = Interface("odd", Note, Ask, streams=[ITEMS])

    def __init__(self) -> None:
        self.got: list[Any] = []

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        self.got.append(message)

    @handles(Ask)
    def ask(self, request: Ask, peer: Peer) -> Told:
        self.got.append(request)
        return Told(request.s, request.n, request.x)

    @receives(ITEMS)
    def items(self, stream: StreamId) -> Odd:
        return self

    def position(self) -> int:
        return 1

    def take(self, first: int, items: Sequence[Item]) -> None:
        self.got += items


#: Not JSON, or no JSON that may be, also in what nobody asks for. It costs what it is in, where that can be told.
MALFORMED: dict[str, bytes] = {
    "100,000 levels": b'"q":' + b"[" * 100_000 + b"]" * 100_000,
    "100,000 levels without end": b'"q":' + b"[" * 100_000,
    "100,000 objects": b'"q":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 levels in a known field": b'"n":' + b"[" * 100_000 + b"]" * 100_000,
    "NaN": b'"x":NaN',
    "Infinity": b'"x":-Infinity',
    "NaN, ignored": b'"q":NaN',
    "a lone surrogate": b'"s":"\\ud800"',
    "a lone low surrogate": b'"s":"\\udc00 "',
    "surrogates the wrong way round": b'"s":"\\udc00\\ud800"',
    "a lone surrogate, ignored": b'"q":"\\ud800"',
    "a surrogate in bytes": b'"s":"\xed\xa0\x80"',
    "overlong UTF-8": b'"s":"\xc0\xaf"',
    "overlong UTF-8, ignored": b'"q":"\xc0\xaf"',
    "overlong UTF-8 as a key": b'"\xe0\x80\xaf":1',
    "bytes that are no UTF-8": b'"s":"\xff"',
    "NUL": b'"s":"\0"',
    "a control character": b'"s":"a\tb"',
    "a comma too many": b'"n":1,',
    "a key without quotes": b"n:1",
    "half a number": b'"n":-',
    "half a word": b'"q":tru',
}

#: Good JSON, and not what the field is declared to be.
WRONG: dict[str, bytes] = {
    "1e999": b'"x":1e999',
    "-1e999": b'"x":-1e999',
    "10,000 digits": b'"n":' + b"9" * 10_000,
    "10,000 digits for a float": b'"x":' + b"9" * 10_000,
    "a string for a number": b'"n":"1"',
    "null": b'"n":null',
    "a float for an integer": b'"n":1.5',
    "a boolean for an integer": b'"n":true',
    "an array for a string": b'"s":[]',
    "an object for a string": b'"s":{}',
}

#: Odd, and harmless: the last of two equal keys counts, and what isn't known doesn't.
HARMLESS: dict[str, bytes] = {
    "duplicate keys": b'"n":1,"n":2',
    "1e999, ignored": b'"q":1e999',
    "10,000 digits, ignored": b'"q":' + b"9" * 10_000,
    "10,000 digits behind the point": b'"x":0.' + b"9" * 10_000,
    "NUL, escaped": b'"s":"\\u0000"',
    "an empty key": b'"":1',
    "more than 64 bits": b'"n":%d' % 2**70,
    "a pair of surrogates": b'"s":"\\ud83d\\ude00"',
}

OPEN = b'{"type":"stream-open","stream":"items","id":"x","first":1}\n'

#: Where it may be: in what a peer says to the service.
PLACES: dict[str, bytes] = {
    "message": b'{"type":"note",%b}\n',
    "message before its type": b'{%b,"type":"note"}\n',
    "request": b'{"type":"call","id":1,"request":{"type":"ask",%b}}\n',
    "items": b'{"type":"stream-items","id":"x","first":1,"items":[{%b}]}\n',
    # Fields that no program looks at.
    "call": b'{"type":"call","id":1,%b,"request":{"type":"ask"}}\n',
    "unknown message": b'{"type":"zzz",%b}\n',
    "unknown request": b'{"type":"call","id":1,"request":{"type":"zzz",%b}}\n',
    "error about nothing": b'{"type":"error","code":"c","message":"m","data":{%b}}\n',
    "ping": b'{"type":"ping",%b}\n',
    "drop": b'{"type":"drop","id":7,%b}\n',
}

DECLARED = ("message", "message before its type", "request", "items")


def say(pair: ServicePair, side: Side, data: bytes) -> list[bytes]:
    """Say something raw, from this side; the lines that are answered."""
    wire = pair.wire
    assert isinstance(wire, ConnectedPair)
    heard: list[bytes] = []
    speaker = wire.dialler if side is Side.DIALLER else wire.listener
    cast(Any, speaker).dataReceived = heard.append
    wire.wire(side).write(data)
    pair.pump()
    return b"".join(heard).splitlines()


def closed_with(lines: list[bytes]) -> str:
    """The code of the ``bye`` in the end, "" if there is none."""
    said: Any = msgspec.json.decode(lines[-1]) if lines else {}
    return said["code"] if said.get("type") == "bye" else ""


#: Of what is malformed, in each place: what is said to it. Where that is a ``bye``, it can't be told what it is in, or
#: the frame is the link's own.
SAID_TO_IT: dict[str, tuple[str, str]] = {
    "message": ("error", "bad-message"),
    "message before its type": ("bye", "bad-message"),
    "request": ("error", "bad-request"),
    "items": ("stream-refused", "bad-item"),
    "call": ("error", "bad-request"),
    "unknown message": ("error", "unknown-type"),
    "unknown request": ("error", "bad-request"),
    "error about nothing": ("", ""),
    "ping": ("bye", "bad-message"),
    "drop": ("bye", "bad-message"),
}

#: What doesn't keep a reader that isn't strict from finding the type behind it.
READABLE = {name for name in MALFORMED if name.endswith("UTF-8, ignored") or "UTF-8" in name or "in bytes" in name}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", MALFORMED)
def test_malformed(place: str, what: str) -> None:
    service = Odd()
    pair = ServicePair(service)
    lines = say(pair, Side.DIALLER, OPEN + PLACES[place] % MALFORMED[what])
    said: list[Any] = [answer for line in lines if "code" in (answer := msgspec.json.decode(line))]
    expected = SAID_TO_IT[place]
    if place == "message before its type" and what in READABLE:
        expected = ("error", "bad-message")
    assert [(line["type"], line["code"]) for line in said] == ([expected] if expected[0] else [])
    assert service.got == []
    if expected[0] != "bye":
        assert say(pair, Side.DIALLER, b'{"type":"note","s":"alive"}\n') == []
        assert service.got == [Note("alive")]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", WRONG)
def test_wrong(place: str, what: str) -> None:
    service = Odd()
    pair = ServicePair(service)
    lines = say(pair, Side.DIALLER, OPEN + PLACES[place] % WRONG[what])
    if place == "request":
        # A call has an answer: nothing else is in doubt.
        answers: list[Any] = [answer for line in lines if (answer := msgspec.json.decode(line))["type"] == "error"]
        assert [(answer["id"], answer["code"]) for answer in answers] == [(1, "bad-request")]
        assert service.got == []
    elif place in DECLARED:
        # A message's author, a stream's sender is told, and that is all.
        code = {"items": ("stream-refused", "bad-item")}.get(place, ("error", "bad-message"))
        told: list[Any] = [msgspec.json.decode(line) for line in lines if b'"code"' in line]
        assert [(line["type"], line["code"]) for line in told] == [code]
        assert service.got == []
    assert closed_with(lines) == ""
    assert say(pair, Side.DIALLER, b'{"type":"note","s":"alive"}\n') == []
    assert service.got[-1] == Note("alive")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", HARMLESS)
def test_harmless(place: str, what: str) -> None:
    service = Odd()
    pair = ServicePair(service)
    lines = say(pair, Side.DIALLER, OPEN + PLACES[place] % HARMLESS[what])
    assert closed_with(lines) == ""
    assert len(service.got) == (place in DECLARED or place == "call")


def asked(data: bytes) -> tuple[ServicePair, list[bytes], object]:
    """A call, what the service says to it, what it is told then, and what comes of the call."""
    pair = ServicePair(Odd())
    outcome: list[object] = []
    reply: Deferred[Told] = pair.remote.call(Ask())
    reply.addBoth(outcome.append)
    assert pair.wire is not None
    pair.clock.advance(0)  # the dialler's turn ends, and it writes
    pair.wire.wire(Side.DIALLER).buffer.clear()  # the service doesn't hear it: the test answers
    lines = say(pair, Side.LISTENER, data)
    return pair, lines, outcome[0] if outcome else None


ANSWERS = {
    "reply": b'{"type":"reply","id":1,"reply":{%b}}\n',
    "error": b'{"type":"error","id":1,"code":"c","message":"m","data":{%b}}\n',
}


@pytest.mark.parametrize("place", ANSWERS)
@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_answers(place: str, what: str) -> None:
    """The call has failed: of an error, with what can be read of it."""
    pair, lines, outcome = asked(ANSWERS[place] % MALFORMED[what])
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.value, CallFailed)
    assert outcome.value.code == {"reply": "bad-reply", "error": "c"}[place]
    assert closed_with(lines) == ""
    assert pair.remote.peer is not None


@pytest.mark.parametrize("what", WRONG)
def test_wrong_answers(what: str) -> None:
    pair, lines, outcome = asked(ANSWERS["reply"] % WRONG[what])
    assert closed_with(lines) == ""
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.value, CallFailed)
    assert outcome.value.code == "bad-reply"
    assert pair.remote.peer is not None


@pytest.mark.parametrize("what", HARMLESS)
def test_harmless_answers(what: str) -> None:
    _pair, lines, outcome = asked(ANSWERS["reply"] % HARMLESS[what])
    assert (closed_with(lines), type(outcome)) == ("", Told)


@pytest.mark.parametrize("number", [b"1e999", b"9" * 10_000])
def test_data_of_an_error_that_no_number_can_hold(number: bytes) -> None:
    _pair, lines, outcome = asked(ANSWERS["error"] % (b'"q":' + number))
    assert isinstance(outcome, Failure)
    # The caller is told, without the data if it can't be read.
    assert outcome.check(CallFailed)
    assert closed_with(lines) == ""


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type":"call","id":%b,"request":{"type":"ask"}}\n',
        b'{"type":"drop","id":%b}\n',
        b'{"type":"reply","id":%b,"reply":{}}\n',
        b'{"type":"error","id":%b,"code":"c","message":"m"}\n',
        b'{"type":"stream-open","stream":"items","id":"y","first":%b}\n',
        b'{"type":"stream-items","id":"x","first":%b,"items":[]}\n',
    ],
)
@pytest.mark.parametrize(
    "number",
    [b"0", b"-1", b"%d" % 2**53, b"%d" % 2**64, b"9" * 10_000, b"1.5", b"1e999", b'"1"', b"null", b"NaN", b"[]"],
)
def test_numbers_that_cannot_be(frame: bytes, number: bytes) -> None:
    assert closed_with(say(ServicePair(Odd()), Side.DIALLER, OPEN + frame % number[:20_000])) == "bad-message"


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type":"stream-open","stream":"","id":"y","first":1}\n',
        b'{"type":"stream-open","stream":"items","id":"","first":1}\n',
        b'{"type":"stream-open","stream":"items","id":"%b","first":1}\n' % (b"y" * 65),
        b'{"type":"stream-open","stream":"items","id":"y"}\n',
        b'{"type":"call","request":{}}\n',
        b'{"type":"reply","id":1}\n',
        b'{"type":"bye"}\n',
        b'{"type":"hello","version":1,"role":"x","name":"../x","incarnation":"i","nonce":"0","mac":"0"}\n',
        b'{"type":"welcome","incarnation":"x","heartbeat":10000,"mac":""}\n',
        b'{"type":"challenge","versions":[1],"role":"x","name":"x","nonce":"0"}\n',
        b'{"type":null}\n',
        b'{"type":1}\n',
        b'{"type":["note"]}\n',
        b"{}\n",
        b"[]\n",
        b'"note"\n',
        b"null\n",
        b"0\n",
        b"\xef\xbb\xbf{}\n",
        b"\r\n",
        b"\0\n",
        b'{"type":"note"}{"type":"note"}\n',
        b'{"type":"note"\n}\n',
    ],
)
def test_frames_that_cannot_be(frame: bytes) -> None:
    service = Odd()
    assert closed_with(say(ServicePair(service), Side.DIALLER, OPEN + frame)) == "bad-message"
    assert service.got == []


@pytest.mark.parametrize(
    "items", ["", "{}", "null", '"[]"', "[null]", "[1]", '[{"n":"1"},{}]', "[{]}", "[" * 2000 + "]" * 2000]
)
def test_items_that_cannot_be(items: str) -> None:
    """The stream is refused for good, with the reason, and what else comes of it is ignored."""
    service = Odd()
    pair = ServicePair(service)
    frame = b'{"type":"stream-items","id":"x","first":1%b}\n' % (items and f',"items":{items}').encode()
    said = [msgspec.json.decode(line) for line in say(pair, Side.DIALLER, OPEN + frame + frame)]
    assert [(line["type"], line.get("code"), line.get("retry_after")) for line in said] == [
        ("stream-position", None, None),
        ("stream-refused", "bad-item", 0.0),
    ]
    assert service.got == []


def test_a_call_without_a_request() -> None:
    """It can be told which call that is, so only that one fails."""
    pair = ServicePair(Odd())
    (line,) = say(pair, Side.DIALLER, b'{"type":"call","id":1}\n')
    assert msgspec.json.decode(line) == {
        "type": "error",
        "id": 1,
        "code": "bad-request",
        "message": "Object missing required field `request`",
    }


def test_crlf_is_white_space() -> None:
    service = Odd()
    assert closed_with(say(ServicePair(service), Side.DIALLER, b'{"type":"note"}\r\n')) == ""
    assert service.got == [Note()]


def test_frames_of_the_wrong_direction() -> None:
    """What only a receiver of streams says, to a peer that sends none."""
    service = Odd()
    pair = ServicePair(service)
    for frame in (
        b'{"type":"stream-ack","id":"x","next":1}\n',
        b'{"type":"stream-position","id":"x","next":1,"credit":1}\n',
        b'{"type":"stream-refused","id":"x","code":"c","message":"m"}\n',
    ):
        (line,) = say(pair, Side.DIALLER, frame)
        assert msgspec.json.decode(line)["code"] == "unknown-type"


#: What a receiver might say of a stream, to its sender.
OF_A_RECEIVER = [
    b'{"type":"stream-position","id":"%b","next":0,"credit":1}\n',
    b'{"type":"stream-position","id":"%b","next":1,"credit":0}\n',
    b'{"type":"stream-position","id":"%b","next":1,"credit":9007199254740992}\n',
    b'{"type":"stream-position","id":"%b","next":1,"credit":-1}\n',
    b'{"type":"stream-position","id":"%b","next":1,"credit":1e999}\n',
    b'{"type":"stream-ack","id":"%b","next":9007199254740991}\n',
    b'{"type":"stream-ack","id":"%b","next":9007199254740992}\n',
    b'{"type":"stream-ack","id":"%b","next":3}\n',
    b'{"type":"stream-refused","id":"%b","code":"c","message":"m","retry_after":1e9}\n',
    b'{"type":"stream-refused","id":"%b","code":"c","message":"m","retry_after":-1}\n',
    b'{"type":"stream-refused","id":"%b","code":"c","message":"m","retry_after":NaN}\n',
    b'{"type":"stream-refused","id":"%b"}\n',
]


@pytest.mark.parametrize("frame", OF_A_RECEIVER)
def test_what_a_receiver_cannot_say(frame: bytes) -> None:
    pair = ServicePair(Odd())
    stream = pair.remote.stream(ITEMS)
    Deferred.fromCoroutine(stream.write(Item()))
    pair.pump()
    assert stream.acknowledged == 2
    assert closed_with(say(pair, Side.LISTENER, frame % stream.id.encode())) == "bad-message"


@pytest.mark.parametrize("what", [*MALFORMED, *WRONG])
@pytest.mark.parametrize("field", [b"version", b"name", b"role", b"nonce", b"mac", b"incarnation"])
def test_before_authentication(what: str, field: bytes) -> None:
    """A hello is read strictly, and in all that it has."""
    value = {**MALFORMED, **WRONG}[what].partition(b":")[2] or b"1"
    pair = ServicePair(Odd(), linked=False)
    wire = pair.wire = ConnectedPair(
        pair.clock,
        (pair.settings[Side.DIALLER], pair.remote.application),
        (pair.settings[Side.LISTENER], pair.listening.application),
    )
    wire.wire(Side.DIALLER).buffer.clear()
    hello = b'{"type":"hello","version":1,"role":"r","name":"n","incarnation":"i","nonce":"%b","mac":"%b",%b:%b}\n'
    hello %= (b"0" * 64, b"0" * 64, b'"' + field + b'"', value)
    lines = say(pair, Side.DIALLER, hello)
    assert closed_with(lines) in ("bad-handshake", "frame-too-long", "unauthorized", "version")
    assert pair.remote.peer is None
