"""`twistedipc.ipc.wire.session` and ``wire.handshake``: two sessions back to back, and one against an enemy."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ipc_example import Ask, Note, Told, apiserver, builder
from tests.test_ipc_messages import BAD
from twistedipc.ipc.wire import handshake
from twistedipc.ipc.wire.errors import CallFailed, CallTimedOut, LocalProtocolError, NotConnected
from twistedipc.ipc.wire.messages import CallReceived, CallReplied, Vocabulary
from twistedipc.ipc.wire.session import (
    CallDropped,
    CallEnded,
    Closed,
    ErrorReceived,
    Event,
    MessageRefused,
    Ready,
    Session,
)
from twistedipc.ipc.wire.settings import SessionSettings, Side
from twistedipc.ipc.wire.states import State

NONCES = {Side.DIALLER: "d" * 64, Side.LISTENER: "1" * 64}


class ConnectionPair:
    """Two sessions; what one sends, the other receives at once. After h11's."""

    def __init__(self, dialler: SessionSettings | None = None, listener: SessionSettings | None = None) -> None:
        self.sessions = {
            Side.DIALLER: Session(Side.DIALLER, dialler or builder(), nonce=NONCES[Side.DIALLER], now=0.0),
            Side.LISTENER: Session(Side.LISTENER, listener or apiserver(), nonce=NONCES[Side.LISTENER], now=0.0),
        }
        self.dialler, self.listener = self.sessions[Side.DIALLER], self.sessions[Side.LISTENER]
        self.events: dict[Side, list[Event]] = {side: [] for side in Side}
        self.said: dict[Side, bytes] = dict.fromkeys(Side, b"")

    def exchange(self, now: float = 0.0) -> ConnectionPair:
        moved = True
        while moved:
            moved = False
            for side, other in ((Side.LISTENER, Side.DIALLER), (Side.DIALLER, Side.LISTENER)):
                data = self.sessions[side].data_to_send()
                if data:
                    moved = True
                    self.said[side] += data
                    self.events[other] += self.sessions[other].receive(data, now)
        return self

    def take(self, side: Side) -> list[Event]:
        events, self.events[side] = self.events[side], []
        return events


def ready(**changes: Any) -> ConnectionPair:
    pair = ConnectionPair(builder(**changes), apiserver(**changes)).exchange()
    assert (pair.dialler.state, pair.listener.state) == (State.READY, State.READY)
    pair.take(Side.DIALLER)
    pair.take(Side.LISTENER)
    return pair


def listener(settings: SessionSettings | None = None, nonce: str = "1" * 64) -> tuple[Session, dict[str, Any]]:
    """A listener alone, and its challenge."""
    session = Session(Side.LISTENER, settings or apiserver(), nonce=nonce, now=0.0)
    challenge: dict[str, Any] = json.loads(session.data_to_send())
    return session, challenge


def closed(session: Session, events: list[Event]) -> Closed:
    """How the session has ended, having said so to the peer."""
    assert session.state is State.CLOSING
    end = events[-1]
    assert isinstance(end, Closed)
    if not end.remote:
        bye = json.loads(session.data_to_send().splitlines()[-1])
        assert bye == {"type": "bye", "code": end.code, "reason": end.reason}
    assert session.receive(b"more\n", 0.0) == []
    assert session.next_deadline() is None
    return end


# -- the handshake ---------------------------------------------------------------------------------------------------


def test_both_become_ready() -> None:
    pair = ConnectionPair().exchange()
    (there,), (here,) = pair.take(Side.DIALLER), pair.take(Side.LISTENER)
    assert isinstance(there, Ready)
    assert isinstance(here, Ready)
    assert (there.peer.name, there.peer.role, there.peer.incarnation) == (
        "apiserver-1",
        "apiserver",
        "apiserver-run-1",
    )
    assert (here.peer.name, here.peer.role, here.peer.incarnation) == ("builder-1", "builder", "builder-run-1")


def test_without_a_key_on_both_sides() -> None:
    pair = ready(key=None)
    assert b'"mac":""' in pair.said[Side.DIALLER]


@pytest.mark.parametrize(
    ("dialler", "listener", "said"),
    [
        ({"key": b"x" * 32}, {}, "unauthorized"),
        ({"key": None}, {}, "unauthorized"),
        ({}, {"key": None}, "unauthorized"),
        ({}, {"role": "viewer"}, "refused"),
        ({"role": "viewer"}, {}, "refused"),
    ],
)
def test_refusals(dialler: dict[str, Any], listener: dict[str, Any], said: str) -> None:
    pair = ConnectionPair(builder(**dialler), apiserver(**listener)).exchange()
    ends = [pair.take(side)[-1] for side in Side]
    assert all(isinstance(end, Closed) and end.code == said for end in ends)
    assert not any(isinstance(event, Ready) for event in pair.take(Side.DIALLER))


def test_the_dialler_trusts_nobody_without_proof() -> None:
    # A listener without the key, which can't check the dialler's code and says welcome anyway.
    session = Session(Side.DIALLER, builder(), nonce=NONCES[Side.DIALLER], now=0.0)
    challenge = {"type": "challenge", "versions": [1], "role": "apiserver", "name": "x", "nonce": "0" * 64}
    session.receive(json.dumps(challenge).encode() + b"\n", 0.0)
    session.data_to_send()
    welcome = {"type": "welcome", "incarnation": "x", "heartbeat": 10000, "mac": ""}
    assert closed(session, session.receive(json.dumps(welcome).encode() + b"\n", 0.0)).code == "unauthorized"


def test_a_replayed_hello() -> None:
    pair = ConnectionPair().exchange()
    recorded = pair.said[Side.DIALLER]
    session, _ = listener(nonce="2" * 64)
    assert closed(session, session.receive(recorded, 0.0)).code == "unauthorized"


def test_a_reflected_code() -> None:
    # The enemy has no key. It dials, and answers the challenge with what it got from the listener by being dialled.
    challenge = handshake.Challenge(versions=[1], role="apiserver", name="a", nonce="1" * 64)
    hello = handshake.Hello(version=1, role="builder", name="b", incarnation="i", nonce="2" * 64, mac="")
    welcome = handshake.Welcome(incarnation="i", heartbeat=10_000, mac="")
    key = b"k" * 32
    codes = {handshake.hello_mac(key, challenge, hello), handshake.welcome_mac(key, challenge, hello, welcome)}
    assert len(codes) == 2
    dialler = Session(Side.DIALLER, builder(), nonce=NONCES[Side.DIALLER], now=0.0)
    reflected = {"type": "challenge", "versions": [1], "role": "apiserver", "name": "apiserver-1", "nonce": "1" * 64}
    dialler.receive(json.dumps(reflected).encode() + b"\n", 0.0)
    said = json.loads(dialler.data_to_send())
    events = dialler.receive(
        json.dumps({"type": "welcome", "incarnation": "x", "heartbeat": 10000, "mac": said["mac"]}).encode() + b"\n",
        0.0,
    )
    assert closed(dialler, events).code == "unauthorized"


@given(st.integers(0, 8), st.data())
def test_every_field_is_authenticated(which: int, data: st.DataObject) -> None:
    challenge = handshake.Challenge(versions=[1, 2], role="apiserver", name="a", nonce="1" * 64)
    hello = handshake.Hello(version=1, role="builder", name="b", incarnation="i", nonce="2" * 64, mac="")
    changes: list[tuple[handshake.Challenge, handshake.Hello]] = [
        (msgspec.structs.replace(challenge, versions=[1]), hello),
        (msgspec.structs.replace(challenge, role="viewer"), hello),
        (msgspec.structs.replace(challenge, name=data.draw(st.text("bcdxyz", min_size=1, max_size=9))), hello),
        (msgspec.structs.replace(challenge, nonce="3" * 64), hello),
        (challenge, msgspec.structs.replace(hello, version=2)),
        (challenge, msgspec.structs.replace(hello, role="viewer")),
        (challenge, msgspec.structs.replace(hello, name="a")),
        (challenge, msgspec.structs.replace(hello, incarnation="j")),
        (challenge, msgspec.structs.replace(hello, nonce="3" * 64)),
    ]
    key = b"k" * 32
    assert handshake.hello_mac(key, challenge, hello) != handshake.hello_mac(key, *changes[which])


def test_fields_cant_be_shifted() -> None:
    challenge = handshake.Challenge(versions=[1], role="ab", name="c", nonce="1" * 64)
    shifted = msgspec.structs.replace(challenge, role="a", name="bc")
    hello = handshake.Hello(version=1, role="builder", name="b", incarnation="i", nonce="2" * 64, mac="")
    assert handshake.hello_mac(b"k" * 32, challenge, hello) != handshake.hello_mac(b"k" * 32, shifted, hello)


@pytest.mark.parametrize(
    ("ours", "theirs", "best"),
    [((1,), (1,), 1), ((1, 2, 3), (2, 3, 4), 3), ((1,), (0, 999), None), ((1,), (), None)],
)
def test_highest_common_version(ours: tuple[int, ...], theirs: tuple[int, ...], best: int | None) -> None:
    assert handshake.highest_common(ours, theirs) == best


@pytest.mark.parametrize("versions", [[0], [999], [0, 999]])
def test_a_challenge_without_a_common_version(versions: list[int]) -> None:
    session = Session(Side.DIALLER, builder(), nonce=NONCES[Side.DIALLER], now=0.0)
    challenge = {"type": "challenge", "versions": versions, "role": "apiserver", "name": "x", "nonce": "0" * 64}
    end = closed(session, session.receive(json.dumps(challenge).encode() + b"\n", 0.0))
    assert end.code == "version"
    assert "no version in common" in end.reason


def hello_to(challenge: dict[str, Any], **changes: Any) -> bytes:
    """A good hello, signed, with changes made before the signature."""
    fields: dict[str, Any] = {
        "version": 1,
        "role": "builder",
        "name": "b",
        "incarnation": "i",
        "nonce": "2" * 64,
        "frame_limit": 1 << 20,
        "mac": "",
    } | changes
    heard = msgspec.convert(challenge, handshake.Challenge)
    unchecked = handshake.Hello(**{name: fields[name] for name in handshake.Hello.__struct_fields__ if name in fields})
    if not fields["mac"]:
        fields["mac"] = handshake.hello_mac(apiserver().key, heard, unchecked)
    return json.dumps({"type": "hello"} | fields).encode() + b"\n"


def test_a_good_hello() -> None:
    session, challenge = listener()
    assert isinstance(session.receive(hello_to(challenge), 0.0)[0], Ready)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version": 0}, "version"),
        ({"version": 999}, "version"),
        ({"version": -1}, "bad-handshake"),
        ({"version": True}, "bad-handshake"),
        ({"name": "../x"}, "bad-handshake"),
        ({"name": "x\n"}, "bad-handshake"),
        ({"name": ""}, "bad-handshake"),
        ({"name": "x" * 65}, "bad-handshake"),
        ({"role": "Builder"}, "bad-handshake"),
        ({"role": "viewer"}, "refused"),
        ({"incarnation": "a b"}, "bad-handshake"),
        ({"frame_limit": 4095}, "bad-handshake"),
        ({"frame_limit": None}, "bad-handshake"),
        ({"nonce": "2" * 63}, "bad-handshake"),
        ({"nonce": "G" * 64}, "bad-handshake"),
        ({"mac": "0" * 64}, "unauthorized"),
        ({"mac": "0" * 63}, "bad-handshake"),
    ],
)
def test_a_hello_that_is_wrong(changes: dict[str, Any], code: str) -> None:
    session, challenge = listener()
    assert closed(session, session.receive(hello_to(challenge, **changes), 0.0)).code == code


@pytest.mark.parametrize(
    "line",
    [
        *BAD,
        b'{"type":"note","n":1}\n',
        b'{"type":"ping"}\n',
        b'{"type":"call","id":1,"request":{"type":"ask","what":"x"}}\n',
        b'{"type":"welcome","incarnation":"x","heartbeat":10000,"mac":""}\n',
        b'{"type":"challenge","versions":[1],"role":"apiserver","name":"x","nonce":"' + b"0" * 64 + b'"}\n',
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS, whose line may never end
        b"\x00" * 100,
    ],
    ids=lambda line: repr(line[:40]),
)
def test_anything_else_before_authentication(line: bytes) -> None:
    session, _ = listener()
    assert closed(session, session.receive(line, 0.0)).code in ("bad-handshake", "frame-too-long")


def test_the_limit_before_authentication() -> None:
    session, challenge = listener()
    hello = hello_to(challenge)
    padded = hello[:-2] + b',"x":"' + b"x" * (4096 - len(hello) - 6) + b'"}\n'
    assert len(padded) == 4097
    assert isinstance(session.receive(padded, 0.0)[0], Ready)
    session, challenge = listener()
    assert closed(session, session.receive(padded.replace(b'"x":"', b'"xx":"'), 0.0)).code == "frame-too-long"
    session, _ = listener()
    for _ in range(4096):
        assert session.receive(b"{", 0.0) == []
    assert closed(session, session.receive(b"{", 0.0)).code == "frame-too-long"


def test_the_limit_rises_with_the_line_that_authenticates() -> None:
    session, challenge = listener()
    events = session.receive(hello_to(challenge) + b'{"type":"note","n":1,"text":"' + b"x" * 100_000 + b'"}\n', 0.0)
    assert isinstance(events[0], Ready)
    assert events[1] == Note(1, "x" * 100_000)


def test_a_second_hello() -> None:
    session, challenge = listener()
    hello = hello_to(challenge)
    session.receive(hello, 0.0)
    session.data_to_send()
    assert closed(session, session.receive(hello, 0.0)).code == "bad-message"


def test_no_authentication_in_time() -> None:
    session, _ = listener()
    assert session.next_deadline() == 10.0
    for second in range(10):
        session.receive(b"{", second)
        assert session.tick(second) == []
    assert closed(session, session.tick(10.0)).code == "handshake-timeout"


# -- a conversation --------------------------------------------------------------------------------------------------


def test_the_limit_of_frames() -> None:
    for extra, good in ((-1, True), (0, True), (1, False)):
        pair = ready(frame_limit=5000)
        frame = b'{"type":"note","n":1,"text":"' + b"x" * (5000 + extra - 31) + b'"}'
        assert len(frame) == 5000 + extra
        events = pair.listener.receive(frame + b"\n", 0.0)
        if good:
            assert events == [Note(1, "x" * (5000 + extra - 31))]
        else:
            assert closed(pair.listener, events).code == "frame-too-long"


def test_messages_before_a_frame_that_is_too_long() -> None:
    pair = ready(frame_limit=5000)
    events = pair.listener.receive(b'{"type":"note","n":1}\n' + b"x" * 5001, 0.0)
    assert events[0] == Note(1)
    assert closed(pair.listener, events).code == "frame-too-long"


@pytest.mark.parametrize("line", BAD, ids=lambda line: repr(line[:40]))
def test_bad_lines(line: bytes) -> None:
    pair = ready()
    events = pair.listener.receive(b'{"type":"note","n":1}\n' + line, 0.0)
    assert events[0] == Note(1)
    assert closed(pair.listener, events).code == "bad-message"


def test_a_million_empty_lines() -> None:
    pair = ready()
    end = closed(pair.listener, pair.listener.receive(b"\n" * 1_000_000, 0.0))
    assert end.reason == "an empty line is not a message"


def test_unknown_types() -> None:
    pair = ready()
    pair.events[Side.LISTENER] += pair.listener.receive(b'{"type":"later"}\n{"type":"note","n":1}\n', 0.0)
    pair.exchange()
    assert pair.take(Side.LISTENER) == [MessageRefused("'later' is not received here"), Note(1)]
    assert pair.take(Side.DIALLER) == [ErrorReceived("unknown-type", "'later' is not received here")]


def test_calls_that_cant_be_answered() -> None:
    pair = ready()
    for request, code in (
        (b'{"type":"later"}', "unknown-type"),
        (b'{"type":"note","n":1}', "unknown-type"),
        (b'{"type":"ask"}', "bad-request"),
        (b"[]", "bad-request"),
    ):
        pair.listener.receive(b'{"type":"call","id":5,"request":' + request + b"}\n", 0.0)
        answer = json.loads(pair.listener.data_to_send())
        assert (answer["type"], answer["id"], answer["code"]) == ("error", 5, code)
    assert pair.listener.state is State.READY


def test_calls() -> None:
    pair = ready()
    id_ = pair.dialler.call(Ask("x"), 5.0)
    pair.exchange()
    assert pair.take(Side.LISTENER) == [CallReceived(id_, Ask("x"))]
    pair.listener.answer(id_, Told("y"))
    pair.exchange()
    assert pair.take(Side.DIALLER) == [CallReplied(id_, Told("y"))]
    other = pair.dialler.call(Ask("x"), 5.0)
    assert other != id_
    pair.exchange()
    pair.listener.refuse(other, "nope", "no")
    pair.exchange()
    (ended,) = pair.take(Side.DIALLER)
    assert isinstance(ended, CallEnded)
    assert isinstance(ended.error, CallFailed)
    assert (ended.error.code, ended.error.message) == ("nope", "no")
    pair.listener.answer(other, Told("too late"))
    assert pair.listener.data_to_send() == b""


class Count(msgspec.Struct, frozen=True, tag="count", tag_field="type"):
    """A request whose reply is of another type than that of `Ask`."""


def test_replies_of_several_types() -> None:
    vocabulary = Vocabulary(Note, answers={Ask: Told, Count: Note}, calls={Ask: Told, Count: Note})
    pair = ready(vocabulary=vocabulary)
    replies = {Ask: Told("y"), Count: Note(3)}
    # All of one type; then of several, while only some have been answered; then of one again.
    for requests in ([Ask("x"), Ask("x")], [Ask("x"), Count(), Ask("x"), Count()], [Count()], [Ask("x")]):
        ids = [pair.dialler.call(request, 5.0) for request in requests]
        pair.exchange()
        assert pair.take(Side.LISTENER) == [CallReceived(id_, each) for id_, each in zip(ids, requests, strict=True)]
        for id_, request in reversed(list(zip(ids, requests, strict=True))):
            pair.listener.send(Note(id_))
            pair.listener.answer(id_, replies[type(request)])
            pair.exchange()
            assert pair.take(Side.DIALLER) == [Note(id_), CallReplied(id_, replies[type(request)])]


def test_a_late_reply_is_of_another_type_than_those_awaited() -> None:
    vocabulary = Vocabulary(answers={Ask: Told, Count: Note}, calls={Ask: Told, Count: Note})
    pair = ready(vocabulary=vocabulary)
    late = pair.dialler.call(Count(), 5.0)
    pair.dialler.drop(late)
    id_ = pair.dialler.call(Ask("x"), 5.0)
    pair.dialler.data_to_send()
    lines = b'{"type":"reply","id":%d,"reply":{"n":1}}\n{"type":"reply","id":%d,"reply":{"answer":"y"}}\n'
    assert pair.dialler.receive(lines % (late, id_), 0.0) == [CallReplied(id_, Told("y"))]
    assert pair.dialler.state is State.READY


def test_a_dropped_call_counts_until_it_is_answered() -> None:
    pair = ready(max_calls=1)
    first = pair.dialler.call(Ask("x"), 5.0)
    pair.exchange()
    pair.dialler.drop(first)
    pair.exchange()
    assert pair.take(Side.LISTENER) == [CallReceived(first, Ask("x")), CallDropped(first)]
    second = pair.dialler.call(Ask("x"), 5.0)
    pair.exchange()
    (ended,) = pair.take(Side.DIALLER)
    assert isinstance(ended, CallEnded)
    assert isinstance(ended.error, CallFailed)
    assert (ended.id, ended.error.code) == (second, "busy")
    pair.listener.answer(first, Told("nobody waits"))
    assert pair.listener.data_to_send() == b""
    pair.dialler.call(Ask("x"), 5.0)
    pair.exchange()
    assert isinstance(pair.take(Side.LISTENER)[0], CallReceived)


def test_an_answer_that_crosses_with_the_drop() -> None:
    pair = ready()
    id_ = pair.dialler.call(Ask("x"), 5.0)
    pair.exchange()
    pair.listener.answer(id_, Told("y"))
    answer = pair.listener.data_to_send()
    (ended,) = pair.dialler.tick(5.0)
    assert isinstance(ended, CallEnded)
    assert isinstance(ended.error, CallTimedOut)
    assert pair.dialler.receive(answer, 5.0) == []
    assert pair.dialler.state is State.READY


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"reply","id":7,"reply":{"answer":"x"}}\n',  # a call that was never made
        b'{"type":"error","id":7,"code":"x","message":"y"}\n',
    ],
)
def test_answers_that_make_no_sense(line: bytes) -> None:
    pair = ready()
    assert pair.dialler.call(Ask("x"), 5.0) == 1
    pair.dialler.data_to_send()
    assert closed(pair.dialler, pair.dialler.receive(line, 0.0)).code == "bad-message"


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"reply","id":1,"reply":{"answer":7}}\n',
        b'{"type":"reply","id":1,"reply":{"answer":"\xff"}}\n',
        b'{"type":"reply","id":1,"reply":null}\n',
        b'{"type":"reply","id":1}\n',
        b'{"type":"error","id":1,"code":404,"message":"y"}\n',
    ],
)
def test_answers_that_are_not_what_was_declared(line: bytes) -> None:
    """The call fails, the peer is told, and the other call goes on."""
    pair = ready()
    assert (pair.dialler.call(Ask("x"), 5.0), pair.dialler.call(Ask("y"), 5.0)) == (1, 2)
    pair.dialler.data_to_send()
    (ended,) = pair.dialler.receive(line, 0.0)
    assert isinstance(ended, CallEnded)
    assert isinstance(ended.error, CallFailed)
    assert ended.error.code == "bad-reply"
    said = json.loads(pair.dialler.data_to_send())
    assert (said["type"], said["code"], "id" in said) == ("error", "bad-reply", False)
    assert "to ask: " in said["message"]
    assert pair.dialler.receive(b'{"type":"reply","id":2,"reply":{"answer":"z"}}\n', 0.0) == [CallReplied(2, Told("z"))]


def test_a_call_with_an_id_that_is_in_flight() -> None:
    pair = ready()
    call = b'{"type":"call","id":1,"request":{"type":"ask","what":"x"}}\n'
    assert closed(pair.listener, pair.listener.receive(call + call, 0.0)).code == "bad-message"


def test_a_drop_of_nothing() -> None:
    pair = ready()
    assert pair.listener.receive(b'{"type":"drop","id":99}\n', 0.0) == []


def test_many_pings_are_worth_one_pong() -> None:
    pair = ready()
    pair.listener.receive(b'{"type":"ping"}\n' * 1000, 0.0)
    assert pair.listener.data_to_send() == b'{"type":"pong"}\n'


def test_the_peers_words_are_fit_for_a_log() -> None:
    pair = ready()
    (end,) = pair.listener.receive(b'{"type":"bye","code":"c","reason":"a\\nb\\u001b[2J"}\n', 0.0)
    assert str(end) == "the peer said: a�b�[2J [c]"


def test_an_error_about_nothing_is_cut() -> None:
    pair = ready()
    words = b"m" * 100_000 + b"\\n"
    (event,) = pair.listener.receive(b'{"type":"error","code":"%b","message":"\\n%b"}\n' % (words, words), 0.0)
    assert event == ErrorReceived("m" * 512, "\N{REPLACEMENT CHARACTER}" + "m" * 511)


def test_heartbeats() -> None:
    pair = ready()
    session = pair.dialler
    assert session.next_deadline() == 8.0
    assert session.tick(7.9) == []
    assert session.data_to_send() == b""
    for now in (8.0, 16.0):
        assert session.tick(now) == []
        assert session.data_to_send() == b'{"type":"ping"}\n'
    session.receive(b"{", 20.0)  # any byte will do
    assert session.tick(24.0) == []
    assert session.data_to_send() == b""
    assert [session.tick(now) for now in (28.0, 36.0)] == [[], []]
    session.data_to_send()
    end = closed(session, session.tick(44.0))
    assert (end.code, end.abrupt) == ("silent", True)


def test_the_listeners_heartbeat_counts() -> None:
    pair = ConnectionPair(builder(heartbeat=10), apiserver(heartbeat=3, dead_after=9)).exchange()
    assert pair.dialler.next_deadline() == 3.0
    pair.dialler.tick(3.0)
    assert pair.dialler.data_to_send() == b'{"type":"ping"}\n'


def test_late_ticks_are_no_news_of_the_peer() -> None:
    pair = ready()
    assert pair.dialler.tick(1000.0) == []
    assert pair.dialler.state is State.READY


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_whole_conversation_at_every_cut(size: int) -> None:
    whole = ready()
    whole.dialler.send_many([Note(1, "größer"), Note(2, "☃")])
    whole.dialler.call(Ask("x"), 5.0)
    data = whole.dialler.data_to_send()
    pair = ready()
    events: list[Event] = []
    for start in range(0, len(data), size):
        events += pair.listener.receive(data[start : start + size], 0.0)
    assert events == [Note(1, "größer"), Note(2, "☃"), CallReceived(1, Ask("x"))]


@given(st.binary(max_size=200), st.integers(1, 50))
def test_no_bytes_escape(data: bytes, size: int) -> None:
    pair = ready()
    fresh, _ = listener()
    for session in (pair.dialler, pair.listener, fresh):
        for start in range(0, len(data), size):
            session.receive(data[start : start + size], 0.0)
        assert len(session.out) < 100_000


# -- our own faults --------------------------------------------------------------------------------------------------


def test_local_faults() -> None:
    session, _ = listener()
    with pytest.raises(LocalProtocolError, match="before the peer"):
        session.send(Note(1))
    pair = ready(frame_limit=5000)
    with pytest.raises(LocalProtocolError, match="over the limit"):
        pair.dialler.send(Note(1, "x" * 5000))
    with pytest.raises(LocalProtocolError, match="over the limit"):
        pair.dialler.send_many([Note(1), Note(1, "x" * 5000)])
    with pytest.raises(LocalProtocolError, match="over the limit"):
        pair.dialler.call(Ask("x" * 5000), 1.0)
    with pytest.raises(LocalProtocolError):
        pair.dialler.send(Told("untagged"))
    assert pair.dialler.data_to_send() == b""
    pair.dialler.send_many([Note(n, "x" * 100) for n in range(100)])  # no single one is too long
    pair.dialler.call(Ask("x"), 1.0)
    pair.exchange()
    (*_, call) = pair.take(Side.LISTENER)
    assert isinstance(call, CallReceived)
    with pytest.raises(LocalProtocolError):
        pair.listener.answer(call.id, Note(1))
    pair.listener.answer(call.id, Told("still open"))
    pair.dialler.close("closed", "done")
    with pytest.raises(NotConnected, match="done"):
        pair.dialler.send(Note(1))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../x"},
        {"name": ""},
        {"role": "A"},
        {"incarnation": "a/b"},
        {"key": b"short"},
        {"heartbeat": 0},
        {"frame_limit": 10},
    ],
)
def test_settings_that_cant_be(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        builder(**changes)


def test_what_cannot_be_sent_leaves_nothing_behind() -> None:
    session = ready().dialler
    session.send(Note(1))
    for bad in (Note(2, "\ud800"), Note(3, "x" * session.settings.frame_limit), Note(4, object())):  # type: ignore[arg-type]
        with pytest.raises(LocalProtocolError):
            session.send(bad)
    session.send(Note(5))
    assert [json.loads(line)["n"] for line in session.data_to_send().splitlines()] == [1, 5]
