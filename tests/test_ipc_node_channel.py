"""The format of Node's channel, without a channel."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.ipc.wire.errors import LocalProtocolError
from twistedipc.ipc.wire.node_channel import BadLine, Event, NodeChannel, Overlong, Received

# Characters of their own kind are lone surrogates: JavaScript's strings may have them.
TEXT = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def messages(events: list[Event]) -> list[Any]:
    """What was received, and nothing else was."""
    assert all(isinstance(event, Received) for event in events), events
    return [event.message for event in events if isinstance(event, Received)]


def is_internal(message: Any) -> bool:
    return isinstance(message, dict) and str(message.get("cmd", "")).startswith("NODE_") and len(message["cmd"]) > 5


@given(st.lists(JSON.filter(lambda message: not is_internal(message)), max_size=6), st.data())
def test_whatever_is_sent_arrives_however_it_is_cut(sent: list[Any], data: st.DataObject) -> None:
    stream = b"".join([NodeChannel().encode(message) for message in sent])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    receiver = NodeChannel()
    got: list[Any] = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += messages(receiver.receive(stream[begin:end]))
    assert got == sent
    assert receiver.answers() == b""


@given(JSON.filter(lambda message: not is_internal(message)))
def test_a_line_is_one_line_of_what_every_json_parser_takes(message: Any) -> None:
    line = NodeChannel().encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert len(line) > 1
    assert json.loads(line) == message


def test_what_javascript_writes_as_null_is_null() -> None:
    channel = NodeChannel()
    assert channel.encode([math.nan, math.inf, -math.inf]) == b"[null,null,null]\n"
    assert json.loads(channel.encode(["\ud800", math.nan])) == ["\ud800", None]


def test_structs_can_be_sent() -> None:
    class Point(msgspec.Struct):
        x: int
        name: str = ""

    assert NodeChannel().encode(Point(3)) == b'{"x":3,"name":""}\n'
    assert json.loads(NodeChannel().encode([Point(3, "\udfff")])) == [{"x": 3, "name": "\udfff"}]


@pytest.mark.parametrize("message", [{"cmd": "NODE_HANDLE"}, {"cmd": "NODE_X", "a": 1}, {"a": 1, "cmd": "NODE_ABC"}])
def test_what_node_keeps_for_itself_is_refused(message: Any) -> None:
    with pytest.raises(LocalProtocolError, match="keeps"):
        NodeChannel().encode(message)


def test_a_struct_is_refused_by_what_it_becomes() -> None:
    class Sly(msgspec.Struct):
        cmd: str

    with pytest.raises(LocalProtocolError, match="keeps"):
        NodeChannel().encode(Sly("NODE_HANDLE"))


@pytest.mark.parametrize(
    "message", [{"cmd": "NODE_"}, {"cmd": "node_handle"}, {"cmd": 5}, ["NODE_HANDLE"], "NODE_HANDLE"]
)
def test_what_only_looks_like_it_is_a_message(message: Any) -> None:
    line = NodeChannel().encode(message)
    assert messages(NodeChannel().receive(line)) == [message]


@pytest.mark.parametrize("message", [object(), {(1, 2): 3}, {1, object()}])
def test_what_is_no_json_is_refused(message: Any) -> None:
    with pytest.raises(LocalProtocolError, match="JSON"):
        NodeChannel().encode(message)


def test_a_list_within_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(LocalProtocolError, match="JSON"):
        NodeChannel().encode(endless)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"  ",
        b"\r",
        b"{",
        b'"\xff"',
        b"NaN",
        b'{"a":Infinity}',
        b"[" * 100_000,
        b'"\\ud800',
        b"1 2",
        b'{"\\u00":1}',
    ],
)
def test_a_bad_line_harms_nothing(line: bytes) -> None:
    events = NodeChannel().receive(b'"before"\n' + line + b'\n"behind"\n')
    assert [type(event) for event in events] == [Received, BadLine, Received]
    assert events[2] == Received("behind")


def test_lone_surrogates_arrive() -> None:
    assert messages(NodeChannel().receive(b'"\\ud83d"\n{"\\udc00":"\\ud83d\\ude00"}\n')) == ["\ud83d", {"\udc00": "😀"}]


def test_a_handle_that_came_is_acknowledged_and_its_message_arrives() -> None:
    channel = NodeChannel()
    channel.handle_received()
    events = channel.receive(b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"hello":1}}\n"next"\n')
    assert events == [Received({"hello": 1}, handle_refused=True), Received("next")]
    assert channel.answers() == b'{"cmd":"NODE_HANDLE_ACK"}\n'
    assert channel.answers() == b""


def test_a_handle_that_did_not_come_is_asked_for_again() -> None:
    channel = NodeChannel()
    assert channel.receive(b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":1}\n') == []
    assert channel.answers() == b'{"cmd":"NODE_HANDLE_NACK"}\n'


def test_what_else_is_nodes_own_is_no_message() -> None:
    channel = NodeChannel()
    assert channel.receive(b'{"cmd":"NODE_HANDLE_ACK"}\n{"cmd":"NODE_CLUSTER","act":"online"}\n') == []
    assert channel.answers() == b""


def test_a_message_over_the_limit_ends_the_channel_behind_what_came_before() -> None:
    channel = NodeChannel(message_limit=10)
    events = channel.receive(b'"good"\n' + b'"' + b"x" * 20 + b'"\n"more"\n')
    assert events[0] == Received("good")
    assert isinstance(events[1], Overlong)
    assert channel.receive(b'"more"\n') == []
    with pytest.raises(LocalProtocolError, match="limit"):
        channel.encode("x" * 20)


def test_the_last_line_without_an_end_is_dropped() -> None:
    assert NodeChannel().receive(b'"whole"\n"half') == [Received("whole")]
