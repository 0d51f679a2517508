"""
A session takes frames in two ways: whole blocks that are as they should be, on the fast path, and line by line where
anything is wrong. Both must agree on what the frames amount to, whatever stands beside whatever. It also sends in two
ways: many messages at once, and each by itself.
"""

from __future__ import annotations

import json
import math

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ipc_example import Ask, Note
from tests.properties import examples
from tests.test_ipc_session import ready
from twistedipc.ipc.wire.errors import LocalProtocolError
from twistedipc.ipc.wire.messages import encode
from twistedipc.ipc.wire.session import Event, MessageRefused, Session

#: A line that the fast way can't take, which costs nothing but itself.
ODD = b'{"type":"zzz"}\n'

#: Calls of the dialler that wait for their replies.
CALLS = 2

_ids = st.integers(1, CALLS + 1)
#: What the fast path decodes, and takes or gives back.
DECODED = [
    st.builds(lambda n: {"type": "note", "n": n}, st.integers(0, 3)),
    st.builds(lambda id: {"type": "reply", "id": id, "reply": {"answer": "y"}}, _ids),
    st.builds(lambda id: {"type": "error", "id": id, "code": "busy", "message": "no"}, _ids),
    st.builds(lambda id: {"type": "call", "id": id, "request": {"type": "ask", "what": "x"}}, _ids),
    st.builds(lambda id: {"type": "call", "id": id, "request": {"type": "ping"}}, _ids),
    st.builds(lambda id: {"type": "drop", "id": id}, _ids),
    st.sampled_from([{"type": "ping"}, {"type": "pong"}, {"type": "error", "code": "c", "message": "m"}]),
]
#: What makes it leave the whole block to the general path.
UNDECODED = [
    st.just({"type": "note", "n": "x"}),
    st.builds(lambda id: {"type": "reply", "id": id, "reply": {"answer": 1}}, _ids),
    st.builds(lambda id: {"type": "call", "id": id, "request": {"type": "ask", "what": 1}}, _ids),
]
#: Lines that break a rule in what no type declares.
BROKEN = st.sampled_from([b'{"type":"note","n":1,"later":"\xff"}', b'{"type":"note","n":1}{"type":"note","n":2}'])


def lines(*frames: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[bytes]:
    return st.one_of(*frames).map(lambda frame: json.dumps(frame).encode())


BLOCKS = st.one_of(
    st.lists(lines(DECODED[0]), max_size=4),
    st.lists(lines(DECODED[3]), max_size=6),
    st.lists(lines(*DECODED), max_size=12),
    st.lists(lines(*DECODED, *UNDECODED) | BROKEN, max_size=12),
)


def session_with_calls() -> Session:
    session = ready(max_calls=CALLS).dialler
    for _ in range(CALLS):
        session.call(Ask("x"), deadline=10.0)
    session.data_to_send()
    return session


def outcome(session: Session, events: list[Event], sent: bytes) -> tuple[list[str], list[bytes], str]:
    """What it amounts to, without what the odd line amounts to."""
    told = [repr(event) for event in events if not (isinstance(event, MessageRefused) and "zzz" in event.message)]
    said = [line for line in sent.splitlines() if b"zzz" not in line and b'"pong"' not in line]
    return told, said, session.state.value


@given(block=BLOCKS)
@settings(max_examples=examples(300))
def test_both_ways_agree(block: list[bytes]) -> None:
    lines = [line + b"\n" for line in block]
    fast, slow = session_with_calls(), session_with_calls()
    at_once = outcome(fast, fast.receive(b"".join(lines), 1.0), fast.data_to_send())
    events: list[Event] = []
    sent = b""
    for line in lines:
        events += slow.receive(line + ODD, 1.0)
        sent += slow.data_to_send()
    assert outcome(slow, events, sent) == at_once


def test_the_odd_line_is_odd() -> None:
    session = session_with_calls()
    (refused,) = session.receive(ODD, 1.0)
    assert isinstance(refused, MessageRefused)
    assert b'"unknown-type"' in session.data_to_send()
    assert encode(Ask("x")) != ODD


class Reading(msgspec.Struct, tag="reading", tag_field="type"):
    """A message that may hold what JSON doesn't have."""

    value: float
    more: msgspec.Raw = msgspec.Raw(b"null")


MESSAGES = st.one_of(
    st.builds(Note, st.integers(0, 3), st.sampled_from(["", "\u2603", "null", "\n", "\ud800", "x" * 5000])),
    st.builds(Reading, st.sampled_from([1.5, math.nan, math.inf])),
    st.builds(Reading, st.just(0.5), st.sampled_from([b"[1]", b"[1,\n2]", b"[1", b""]).map(msgspec.Raw)),
)


@given(messages=st.lists(MESSAGES, max_size=5))
@settings(max_examples=examples(200))
def test_many_messages_are_sent_as_each_is(messages: list[msgspec.Struct]) -> None:
    at_once, singly = (ready(frame_limit=4096).dialler for _ in range(2))
    refused = False
    for message in messages:
        try:
            singly.send(message)
        except LocalProtocolError:
            refused = True
    try:
        at_once.send_many(messages)
    except LocalProtocolError:
        assert refused
        assert at_once.data_to_send() == b""
    else:
        assert not refused
        assert at_once.data_to_send() == singly.data_to_send()
