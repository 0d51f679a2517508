"""Frames: how lines are cut, and what is none (docs/protocol.md, "Frames")."""

from __future__ import annotations

import time

from twistedipc.conform.cases import case
from twistedipc.conform.meeting import Linked, Meeting
from twistedipc.conform.wire import Failed, line_of, shown

SECTION = "Frames"

_NOBODY = {"type": "conform-nobody-answers-this", "text": "größer 日本 🚀"}


def _calls(linked: Linked, count: int) -> tuple[list[int], bytes]:
    """Return the ids of some calls, and their bytes."""
    ids = [linked.number + 1 + each for each in range(count)]
    linked.number += count
    return ids, b"".join(line_of({"type": "call", "id": number, "request": _NOBODY}) for number in ids)


def _all_answered(linked: Linked, ids: list[int]) -> None:
    found: list[object] = []
    while len(found) < len(ids):
        found.append(linked.wire.next("error", within=2 * linked.wire.soon).get("id"))
    if sorted(map(str, found)) != sorted(map(str, ids)):
        raise Failed(f"it answers the calls {found} where {ids} were made")


@case("1.1", SECTION, "many may come in one")
def many_frames_in_one_piece(meeting: Meeting) -> None:
    linked = meeting.link()
    ids, data = _calls(linked, 50)
    linked.wire.send_bytes(data)
    _all_answered(linked, ids)


@case("1.2", SECTION, "one may come in many pieces, cut anywhere")
def a_frame_in_pieces_of_one_byte(meeting: Meeting) -> None:
    linked = meeting.link()
    ids, data = _calls(linked, 1)
    for byte in data:
        linked.wire.send_bytes(bytes([byte]))
        time.sleep(0.0005)
    _all_answered(linked, ids)


@case("1.3", SECTION, "so a line may end with `\\r\\n`")
def a_line_that_ends_with_a_carriage_return(meeting: Meeting) -> None:
    linked = meeting.link()
    ids, data = _calls(linked, 1)
    linked.wire.send_bytes(b" \t" + data.replace(b"\n", b" \r\n"))
    _all_answered(linked, ids)


@case("1.4", SECTION, "Unknown fields MUST be ignored.")
def unknown_fields(meeting: Meeting) -> None:
    linked = meeting.link()
    number = linked.call(_NOBODY, newer={"a": [1, None, 2.5]}, also="x")
    if linked.answered(number).get("code") != "unknown-type":
        raise Failed("it doesn't answer a call that has a field more")
    linked.wire.send({"type": "ping", "newer": True}, {"type": "pong", "newer": []})
    linked.lives()


@case("1.5", SECTION, "a line is at most 1,048,576 bytes long, or as long as its receiver has")
def a_line_of_the_longest_length(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.number += 1
    begin = line_of({"type": "call", "id": linked.number, "request": {"type": "conform-nobody", "x": ""}})[:-4]
    data = begin + b"x" * (linked.limit - len(begin) - 3) + b'"}}\n'
    assert len(data) == linked.limit + 1
    linked.wire.send_bytes(data)
    if linked.answered(linked.number, 3 * linked.wire.soon).get("code") != "unknown-type":
        raise Failed("it doesn't take a line of the longest length")


@case("1.6", SECTION, "a line is at most 1,048,576 bytes long, or as long as its receiver has")
def a_line_that_is_too_long(meeting: Meeting) -> None:
    linked = meeting.link()
    linked.wire.send_bytes(b'{"type":"conform-long","x":"' + b"x" * linked.limit + b'"}\n')
    linked.wire.ends("frame-too-long", within=3 * linked.wire.soon)


def _refused(meeting: Meeting, data: bytes) -> None:
    """
    The line, a ping that is malformed, must be answered by an error that names no call, or by the link's end: it isn't
    taken, and not ignored.
    """
    linked = meeting.link()
    linked.wire.send_bytes(data + b"\n")
    frame = linked.wire.next("error", "bye", "pong")
    if frame["type"] == "bye":
        if frame.get("code") != "bad-message":
            raise Failed(f"it says {shown(frame)}, and the code must be bad-message")
        return
    if "id" in frame or frame.get("code") not in ("bad-message", "unknown-type"):
        raise Failed(f"it says {shown(frame)} to a line that is none")
    linked.lives()


_MALFORMED = "are malformed"


@case("1.7", SECTION, "An empty line is not a frame.")
def an_empty_line(meeting: Meeting) -> None:
    _refused(meeting, b"")


@case("1.8", SECTION, "invalid UTF-8 (overlong forms and surrogates too)")
def bytes_that_are_no_utf_8(meeting: Meeting) -> None:
    for wrong in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):
        _refused(meeting, b'{"x":"' + wrong + b'","type":"ping"}')
        meeting.close_all()


@case("1.9", SECTION, "lone surrogates in")
def half_a_surrogate_pair(meeting: Meeting) -> None:
    _refused(meeting, b'{"x":"\\ud800","type":"ping"}')


@case("1.10", SECTION, "`NaN` and `Infinity`")
def numbers_that_json_has_not(meeting: Meeting) -> None:
    _refused(meeting, b'{"x":NaN,"type":"ping"}')


@case("1.11", SECTION, "raw control characters in strings")
def a_raw_control_character(meeting: Meeting) -> None:
    _refused(meeting, b'{"x":"\x01","type":"ping"}')


@case("1.12", SECTION, "two objects on one line")
def two_objects_on_a_line(meeting: Meeting) -> None:
    _refused(meeting, b'{"type":"ping"}{"type":"ping"}')


@case("1.13", SECTION, "A byte order mark")
def a_byte_order_mark(meeting: Meeting) -> None:
    _refused(meeting, b'\xef\xbb\xbf{"type":"ping"}')


@case("1.14", SECTION, "A frame is one JSON object on one line")
def json_that_is_no_object(meeting: Meeting) -> None:
    for wrong in (b"[1]", b"1", b'"ping"', b"null", b"{}", b'{"type":1}'):
        _refused(meeting, wrong)
        meeting.close_all()


@case("1.15", SECTION, "nesting that is too deep for the receiver are malformed")
def deep_nesting(meeting: Meeting) -> None:
    linked = meeting.link()
    deep = b"[" * 100_000 + b"]" * 100_000
    linked.wire.send_bytes(b'{"x":' + deep + b',"type":"conform"}\n')
    frame = linked.wire.next("error", "bye", within=2 * linked.wire.soon)
    if frame["type"] == "bye":
        meeting.close_all()
        linked = meeting.link()  # it lives
    linked.lives()
