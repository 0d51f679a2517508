"""Features, and what each end says that it takes (docs/protocol.md, "Features")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twistedipc.conform.cases import case
from twistedipc.conform.meeting import Meeting
from twistedipc.conform.wire import Failed, NotTried, Wire, shown

SECTION = "Features"

INTERFACE = "interface"

#: What a row that begins with this word has behind it, beside its name.
_FINGERPRINTS = {"message": 1, "call": 2, "items": 2, "stream": 1}
_FINGERPRINT = re.compile(r"[0-9a-f]{16}\Z")
_FEATURE = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_MOST = 2048


def _offer(meeting: Meeting, name: str = INTERFACE) -> tuple[Wire, dict[str, Any], dict[str, Any]]:
    """Offer a feature, beside one that nobody has. Return the connection, the challenge and the hello."""
    wire, features = meeting.connect(), ["conform-nobody-has-this", name]
    if meeting.about.listens:
        challenge = meeting.challenge(features=features)
        wire.send(challenge)
        hello = wire.next("hello", skip=())
        meeting.check_hello(challenge, hello)
        _check_features(hello)
    else:
        challenge = wire.next("challenge", skip=())
        _check_features(challenge)
        hello = meeting.hello(challenge, **({"features": features} if "features" in challenge else {}))
    return wire, challenge, hello


def _check_features(frame: Mapping[str, Any]) -> None:
    features = frame.get("features", [])
    if not isinstance(features, list) or len(features) > 32 or not all(map(_FEATURE.match, features)):
        raise Failed(f"its features aren't as they must be in {shown(frame)}")


def _introduced(meeting: Meeting) -> tuple[Wire, list[Any]]:
    """Return a connection on which both are proven, and what the other end says that it takes."""
    wire, challenge, hello = _offer(meeting)
    if INTERFACE not in (hello if meeting.about.listens else challenge).get("features", ()):
        raise NotTried("it doesn't say the feature interface")
    if meeting.about.listens:
        wire.send(meeting.welcome(challenge, hello))
    else:
        wire.send(hello)
        meeting.check_welcome(challenge, hello, wire.next("welcome", skip=()))
    rows: list[Any] = []
    while True:
        frame = wire.next("link-interface", skip=())
        rows += frame["takes"]
        if not frame.get("more", False):
            return wire, rows
        if not frame["takes"]:
            raise Failed(f"a part of what it takes has no row, though more is to follow: {shown(frame)}")


def _lives(wire: Wire) -> None:
    wire.send({"type": "call", "id": 1, "request": {"type": "conform-nobody-answers-this"}})
    answer = wire.until(lambda frame: frame.get("id") == 1 and frame["type"] == "error", "call 1 must be answered")
    if answer.get("code") != "unknown-type":
        raise Failed(f"it answers a call of an unknown type by {shown(answer)}")


@case("2.31", SECTION, "an end ignores names that it doesn't know, and may say none")
def features_that_nobody_has(meeting: Meeting) -> None:
    wire, challenge, hello = _offer(meeting, "conform-nor-this")
    if meeting.about.listens:
        wire.send(meeting.welcome(challenge, hello))
    else:
        wire.send(hello)
        meeting.check_welcome(challenge, hello, wire.next("welcome", skip=()))
    _lives(wire)


@case("2.32", SECTION, "the dialler when it has taken the `welcome`. Neither waits for the other's.")
def what_it_says_that_it_takes(meeting: Meeting) -> None:
    wire, rows = _introduced(meeting)
    if len(rows) > _MOST:
        raise Failed(f"it says {len(rows)} rows of what it takes, and {_MOST} are the most")
    for row in rows:
        if not isinstance(row, list) or not 1 <= len(row) <= 8 or not all(isinstance(each, str) for each in row):
            raise Failed(f"a row of what it takes isn't as it must be: {shown(row)}")
        count = _FINGERPRINTS.get(row[0])
        if count is not None and (
            len(row) < 2 + count or not 1 <= len(row[1]) <= 128 or not all(map(_FINGERPRINT.match, row[2 : 2 + count]))
        ):
            raise Failed(f"a row of what it takes isn't as it must be: {shown(row)}")
    wire.send({"type": "link-interface", "takes": []})
    _lives(wire)


@case("2.33", SECTION, "only\nthen it sends anything else")
def it_waits_for_what_the_other_takes(meeting: Meeting) -> None:
    wire, _ = _introduced(meeting)
    wire.quiet()
    wire.send({"type": "link-interface", "takes": []})
    _lives(wire)


@case("2.34", SECTION, "A row that begins\nwith another word than these, and what follows in a row, are to be ignored")
def rows_of_a_later_version(meeting: Meeting) -> None:
    wire, _ = _introduced(meeting)
    rows = [["conform-later", "x"], ["message", "note", "0" * 16, "more"], ["conform-later"]]
    wire.send({"type": "link-interface", "takes": rows, "more": True})
    wire.send({"type": "link-interface", "takes": rows})
    _lives(wire)


@case("2.35", SECTION, "another `link-interface` follows, since a line of the handshake has at most 4096 bytes")
def rows_that_are_none(meeting: Meeting) -> None:
    row = ["message", "note", "0" * 16]
    all_wrong: tuple[dict[str, Any], ...] = (
        {"takes": "note"},
        {"takes": ["note"]},
        {"takes": [[]]},
        {"takes": [row * 3]},
        {"takes": [["message", "note", "0"]]},
        {"takes": [["call", "add", "0" * 16]]},
        {"takes": [], "more": True},
        {"takes": [row], "more": "yes"},
        {},
    )
    for wrong in all_wrong:
        wire, _ = _introduced(meeting)
        wire.send({"type": "link-interface", **wrong})
        wire.ends("bad-handshake")
        meeting.close_all()


@case("2.36", SECTION, "All frames of an end have at most 2048 rows")
def rows_without_end(meeting: Meeting) -> None:
    wire, _ = _introduced(meeting)
    rows = [["conform-later", str(number)] for number in range(100)]
    for _ in range(21):
        wire.send({"type": "link-interface", "takes": rows, "more": True})
    wire.ends("bad-handshake")


@case("2.37", "The handshake", "Until an end is ready it takes only the one frame whose turn it is")
def another_frame_than_what_it_takes(meeting: Meeting) -> None:
    wire, _ = _introduced(meeting)
    wire.send({"type": "ping"})
    wire.ends("bad-handshake")
