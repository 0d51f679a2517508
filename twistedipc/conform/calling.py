"""Messages, calls, heartbeat and the end of a link (docs/protocol.md, "Messages and calls" and what follows)."""

from __future__ import annotations

import time

from twistedipc.conform.cases import case
from twistedipc.conform.meeting import Linked, Meeting
from twistedipc.conform.wire import Failed, NotTried, shown

CALLS, HEARTBEAT, END = "Messages and calls", "Heartbeat", "The end"

#: Seconds of silence after which a link is dead, however short its heartbeat is.
PATIENCE = 24


@case("3.1", HEARTBEAT, "A `ping` is answered by a `pong`")
def a_ping(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.wire.send({"type": "ping"})
    linked.wire.until(lambda frame: frame["type"] == "pong", "its pong must come")


def _heartbeat(linked: Linked) -> float:
    if linked.heartbeat > 10:
        raise NotTried(f"its heartbeat is {linked.heartbeat:.0f} s long")
    return linked.heartbeat


@case("3.2", HEARTBEAT, "An end that has received no byte for one heartbeat sends a `ping`", seconds=10)
def it_pings_when_nothing_comes(meeting: Meeting) -> None:
    linked = meeting.link()
    within = _heartbeat(linked) * 1.5 + 1
    linked.wire.until(lambda frame: frame["type"] == "ping", "a ping must come", within)


@case("3.3", HEARTBEAT, "After three heartbeats without a received byte", seconds=30)
def it_ends_a_link_that_is_dead(meeting: Meeting) -> None:
    linked = meeting.link()
    beat = _heartbeat(linked)
    linked.wire.pongs = False
    for _ in range(6):
        linked.wire.send({"type": "pong"})
        linked.wire.frame(beat)
    linked.lives()  # what says something isn't dead
    # Each heartbeat of a busy machine may be late, and as many of them as there are in its patience.
    deadline = time.monotonic() + max(beat * 4, PATIENCE) + 2 + linked.wire.soon
    while (frame := linked.wire.frame(max(0.0, deadline - time.monotonic()))) is not None:
        if frame["type"] == "bye":
            if frame.get("code") != "silent":
                raise Failed(f"it says {shown(frame)}, and the code must be silent")
            return
    if not linked.wire.closed:
        raise Failed("it keeps a link on which nothing comes")


@case("4.1", CALLS, "The link goes on. An `error` is never answered.")
def an_error_without_an_id(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.wire.send({"type": "error", "code": "conform", "message": "nothing is wrong"})
    linked.lives()


@case("4.2", END, "a type that isn't received here, a type of the other direction among them")
def a_call_of_an_unknown_type(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.lives()
    linked.lives()


@case("4.3", END, "a type that isn't received here, a type of the other direction among them")
def a_message_of_an_unknown_type(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.wire.send({"type": "conform-nobody-takes-this"})
    frame = linked.wire.until(lambda frame: frame["type"] == "error", "an error must come")
    if "id" in frame or frame.get("code") != "unknown-type":
        raise Failed(f"it says {shown(frame)} to a message of an unknown type")
    linked.lives()


@case("4.4", CALLS, "So is a `call` without\n  a `request`")
def a_call_without_a_request(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.number += 1
    linked.wire.send({"type": "call", "id": linked.number})
    answer = linked.answered(linked.number)
    if answer.get("code") != "bad-request":
        raise Failed(f"it says {shown(answer)}, and the code must be bad-request")
    linked.lives()


@case("4.5", CALLS, "and so is a `drop` for a\n  call that has been answered")
def a_drop_of_a_call_that_was_answered(meeting: Meeting) -> None:
    linked = meeting.link()
    number = linked.call({"type": "conform-nobody"})
    linked.answered(number)
    linked.wire.send({"type": "drop", "id": number})
    linked.lives()


@case("4.6", CALLS, "wrong fields in the link's own frames, end the link")
def wrong_fields_in_a_frame_of_the_links_own(meeting: Meeting) -> None:
    for wrong in ({"type": "drop", "id": "one"}, {"type": "drop"}, {"type": "call", "id": 0, "request": {"type": "x"}}):
        linked = meeting.link()
        linked.wire.send(wrong)
        linked.wire.ends("bad-message")
        meeting.close_all()


@case("4.7", END, "an answer to a call that was never made")
def an_answer_to_no_call(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.wire.send({"type": "reply", "id": 77_777, "reply": {}})
    linked.wire.ends("bad-message")


@case("4.8", END, "a second `hello`")
def a_second_hello(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.wire.send(
        {"type": "hello", "version": 1, "role": "x", "name": "x", "incarnation": "x", "nonce": "", "mac": ""}
    )
    linked.wire.ends("bad-message")


@case("4.9", HEARTBEAT, "A\n`pong` may come unasked")
def a_pong_unasked(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.wire.send({"type": "pong"}, {"type": "pong"})
    linked.lives()


@case("4.10", END, "What comes\nafter a `bye`, or from an end that was sent one, is ignored.")
def what_comes_behind_a_bye(meeting: Meeting) -> None:
    linked = meeting.link()
    bye = {"type": "bye", "code": "closed", "reason": "conform"}
    linked.wire.send(bye, {"type": "call", "id": 1, "request": {"type": "conform-nobody"}})
    while (frame := linked.wire.frame()) is not None:
        if frame["type"] in ("error", "reply") and frame.get("id") == 1:
            raise Failed("it answers a call that comes behind a bye")
    if not linked.wire.closed:
        raise Failed("it keeps the connection open behind a bye")


@case("4.11", "Frames", "If a key occurs twice, the last one counts; a second `type` that\n  differs is malformed.")
def a_key_that_comes_twice(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.wire.send_bytes(b'{"type":"call","id":7,"id":1,"request":{"type":"conform-nobody"}}\n')
    linked.answered(1)
    linked.number = 1
    linked.lives()
