"""Reliable streams, of an end that receives them (docs/protocol.md, "Streams")."""

from __future__ import annotations

import json
import secrets
from typing import Any

from twistedipc.conform.cases import case
from twistedipc.conform.meeting import Linked, Meeting
from twistedipc.conform.wire import Failed, NotTried, shown

SECTION = "Streams"


def _open(linked: Linked, stream: str, run: str, first: int = 1, opening: int = 1) -> dict[str, Any]:
    """Open a stream; the answer to that."""
    linked.wire.send({"type": "stream-open", "stream": stream, "id": run, "first": first, "opening": opening})

    def is_it(frame: dict[str, Any]) -> bool:
        of_streams = frame["type"] in ("stream-position", "stream-refused")
        return (of_streams and frame.get("id") == run) or (frame["type"] == "error" and "id" not in frame)

    answer = linked.wire.until(is_it, "a stream-position or a stream-refused must come")
    if answer["type"] == "error":
        raise NotTried("it knows no streams")
    if answer.get("opening", 0) != opening:
        raise Failed(f"its answer has another opening than {opening}: {shown(answer)}")
    return answer


def _position(linked: Linked, meeting: Meeting, run: str, first: int = 1, opening: int = 1) -> dict[str, Any]:
    answer = _open(linked, meeting.option("stream"), run, first, opening)
    if answer["type"] != "stream-position":
        raise Failed(f"it doesn't take the stream: {shown(answer)}")
    return answer


def _items(meeting: Meeting, run: str, first: int, count: int) -> dict[str, Any]:
    item = json.loads(meeting.option("item"))
    return {"type": "stream-items", "id": run, "first": first, "items": [item] * count}


def _acknowledged(linked: Linked, run: str, wanted: int) -> None:
    def is_it(frame: dict[str, Any]) -> bool:
        if frame["type"] == "stream-refused":
            raise Failed(f"it refuses the stream: {shown(frame)}")
        return frame["type"] == "stream-ack" and frame.get("id") == run and frame["next"] >= wanted

    answer = linked.wire.until(is_it, f"the items below {wanted} must be acknowledged")
    if answer["next"] != wanted:
        raise Failed(f"it acknowledges the items below {answer['next']}, and those below {wanted} were sent")


@case("5.1", SECTION, "A refusal is of one stream: the link and its other streams go on.", of=("link",))
def a_stream_that_it_does_not_have(meeting: Meeting) -> None:
    linked = meeting.link()
    answer = _open(linked, "conform-nobody-has-this", secrets.token_hex(8))
    if (answer["type"], answer.get("code")) != ("stream-refused", "stream"):
        raise Failed(f"it says {shown(answer)} to a stream that it doesn't have")
    linked.lives()


@case("5.2", SECTION, "it wants the items from `next` on", of=("link",))
def the_items_of_a_new_stream(meeting: Meeting) -> None:
    linked, run = meeting.link(), secrets.token_hex(8)
    answer = _position(linked, meeting, run)
    if answer["next"] != 1 or answer["credit"] <= 0:
        raise Failed(f"it begins a new stream by {shown(answer)}")
    linked.wire.send(_items(meeting, run, 1, 3))
    _acknowledged(linked, run, 4)


@case("5.3", SECTION, "A receiver drops what it has by its number.", of=("link",))
def items_that_come_twice(meeting: Meeting) -> None:
    linked, run = meeting.link(), secrets.token_hex(8)
    _position(linked, meeting, run)
    linked.wire.send(_items(meeting, run, 1, 3))
    _acknowledged(linked, run, 4)
    linked.wire.send(_items(meeting, run, 2, 4))
    _acknowledged(linked, run, 6)


@case("5.4", SECTION, "arrive once each, in order, over one connection after another", of=("link",))
def a_stream_that_goes_on_over_another_connection(meeting: Meeting) -> None:
    linked, run = meeting.link(), secrets.token_hex(8)
    _position(linked, meeting, run)
    linked.wire.send(_items(meeting, run, 1, 3))
    _acknowledged(linked, run, 4)
    linked.wire.close()
    linked = meeting.link()
    answer = _position(linked, meeting, run, opening=9)
    if answer["next"] != 4:
        raise Failed(f"it has acknowledged the items below 4, and wants those from {answer['next']} on")


@case("5.5", SECTION, "Comes again, once, if something is missing: it acknowledges nothing then", of=("link",))
def a_hole(meeting: Meeting) -> None:
    linked, run = meeting.link(), secrets.token_hex(8)
    _position(linked, meeting, run)
    linked.wire.send(_items(meeting, run, 3, 1))
    answer = linked.wire.next("stream-position")
    if answer["next"] != 1:
        raise Failed(f"it says {shown(answer)} where the items from 1 on are missing")
    linked.wire.send(_items(meeting, run, 1, 3))
    _acknowledged(linked, run, 4)


@case("5.6", SECTION, "Position and refusal repeat the `opening` that\nthey answer", of=("link",))
def a_refused_stream_that_is_closed_and_opened_again(meeting: Meeting) -> None:
    linked, run = meeting.link(), secrets.token_hex(8)
    for opening in (1, 2):
        if _open(linked, "conform-nobody-has-this", run, opening=opening)["type"] != "stream-refused":
            raise Failed("it takes a stream that it doesn't have")
        linked.wire.send({"type": "stream-close", "id": run})
    linked.lives()
