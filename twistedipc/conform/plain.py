"""The plain profile, of a server (docs/protocol.md, "The plain profile")."""

from __future__ import annotations

from typing import Any

from twistedipc.conform.cases import Subject, case
from twistedipc.conform.meeting import Meeting
from twistedipc.conform.wire import Failed, Wire, line_of, shown

SECTION = "The plain profile"

PLAIN: tuple[Subject, ...] = ("plain",)

_NOBODY = {"type": "conform-nobody-answers-this"}


def _lives(wire: Wire, number: int | str = 990) -> None:
    """The connection must go on: a request of a type that nobody has is answered, with its id."""
    wire.send({**_NOBODY, "id": number})
    answer = wire.until(lambda frame: frame.get("id") == number, f"an answer with the id {number} must come")
    if (answer["type"], answer.get("code")) != ("error", "unknown-type"):
        raise Failed(f"it answers a request of an unknown type by {shown(answer)}")


def _error(wire: Wire, line: Any, *codes: str) -> dict[str, Any]:
    wire.send(line)
    answer = wire.until(lambda frame: frame["type"] in ("error", "bye"), "an error must come")
    if answer["type"] != "error" or answer.get("code") not in codes:
        raise Failed(f"it answers {shown(line)} by {shown(answer)}, and the code must be {' or '.join(codes)}")
    return answer


@case("6.1", SECTION, "The server says nothing until it is asked or has\nsomething to say.", of=PLAIN)
def it_does_not_speak_first(meeting: Meeting) -> None:
    wire = meeting.connect()
    wire.quiet("challenge", "ping")
    _lives(wire)


@case("6.2", SECTION, "the answer has the one that the request had", of=PLAIN)
def ids_of_both_kinds(meeting: Meeting) -> None:
    wire = meeting.connect()
    for number in (0, 1, 2**53 - 1, "x-7", "i" * 64):
        _lives(wire, number)


@case("6.3", SECTION, "the one that had none", of=PLAIN)
def a_request_without_an_id(meeting: Meeting) -> None:
    wire = meeting.connect()
    answer = _error(wire, _NOBODY, "unknown-type")
    if "id" in answer:
        raise Failed(f"its answer has an id, and the request had none: {shown(answer)}")


@case("6.4", SECTION, "or with an `id` that can't be one", of=PLAIN)
def ids_that_are_none(meeting: Meeting) -> None:
    wire = meeting.connect()
    impossible: tuple[object, ...] = (-1, 1.5, 2**53, "i" * 65, [1], {}, True)
    for wrong in impossible:
        _error(wire, {**_NOBODY, "id": wrong}, "bad-request", "unknown-type")
    _lives(wire)


@case("6.5", SECTION, "those of the link's own frames among them", of=PLAIN)
def frames_of_the_links_own(meeting: Meeting) -> None:
    wire = meeting.connect()
    for kind in ("ping", "call", "hello", "drop"):
        _error(wire, {"type": kind, "id": 1}, "unknown-type")
    _lives(wire)


def _ends(meeting: Meeting, data: bytes, code: str) -> None:
    wire = meeting.connect()
    wire.send_bytes(data)
    wire.ends(code, within=3 * wire.soon)


@case("6.6", SECTION, "no JSON, no object, no `type`, not UTF-8, an empty line", of=PLAIN)
def what_is_no_line(meeting: Meeting) -> None:
    for wrong in (b"GET / HTTP/1.1\n", b"[1]\n", b"{}\n", b'{"type":1}\n', b'{"x":"\xff","type":"a"}\n', b"\n"):
        _ends(meeting, wrong, "bad-message")


@case("6.7", SECTION, "something nested too deeply", of=PLAIN)
def deep_nesting_in_a_line(meeting: Meeting) -> None:
    wire = meeting.connect()
    wire.send_bytes(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"type":"conform"}\n')
    wire.until(lambda frame: frame["type"] in ("error", "bye"), "an error or a bye must come", 2 * wire.soon)


@case("6.8", SECTION, "a line over the limit", of=PLAIN)
def a_line_over_the_limit(meeting: Meeting) -> None:
    limit = int(meeting.about.options.get("limit") or 1 << 20)
    _ends(meeting, b'{"type":"conform","x":"' + b"x" * limit + b'"}\n', "frame-too-long")


@case("6.9", "Frames", "How frames are cut into packets means nothing", of=PLAIN)
def lines_in_pieces_and_together(meeting: Meeting) -> None:
    wire = meeting.connect()
    text = "größer 日本 🚀"
    data = b"".join(line_of({**_NOBODY, "text": text, "id": number}) for number in range(40))
    wire.send_bytes(data[:-60])
    for byte in data[-60:]:
        wire.send_bytes(bytes([byte]))
    found = [wire.next("error").get("id") for _ in range(40)]
    if sorted(map(str, found)) != sorted(map(str, range(40))):
        raise Failed(f"it answers {found} where 0 to 39 were asked")


@case("6.10", SECTION, "A client\nthat has shut down its sending side still gets its answers", of=PLAIN)
def a_client_that_has_said_all(meeting: Meeting) -> None:
    wire = meeting.connect()
    wire.send({**_NOBODY, "id": 1}, {**_NOBODY, "id": 2})
    wire.finish_sending()
    found = {wire.next("error").get("id") for _ in range(2)}
    if found != {1, 2}:
        raise Failed(f"it answers {found} where 1 and 2 were asked")
