"""The handshake (docs/protocol.md, "The handshake", "Named keys")."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from twistedipc.conform.cases import case
from twistedipc.conform.codes import HELLO, WELCOME, Key, agreed, code, of_welcome
from twistedipc.conform.meeting import Meeting
from twistedipc.conform.wire import Failed, NotTried, Wire, shown

SECTION = "The handshake"
NAMED = "Named keys"

ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?\Z")
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_DIGITS = re.compile(r"[0-9a-f]{64}\Z")

#: Seconds that an end has to get ready, and what is added for a busy machine.
_DEADLINE, _MORE = 10.0, 4.0


def _check(frame: Mapping[str, Any], **patterns: re.Pattern[str]) -> None:
    for name, pattern in patterns.items():
        if not isinstance(frame.get(name), str) or not pattern.match(frame[name]):
            raise Failed(f"{name} isn't as it must be in {shown(frame)}")


def _check_limit(frame: Mapping[str, Any]) -> None:
    limit = frame.get("frame_limit", 4096)
    if not isinstance(limit, int) or limit < 4096:
        raise Failed(f"its frame_limit is no integer from 4096: {limit}")


def _key(meeting: Meeting) -> Key:
    if meeting.about.key is None:
        raise NotTried("it needs --key: without one there is no code to be wrong")
    return meeting.about.key


def _challenged(meeting: Meeting) -> tuple[Wire, dict[str, Any]]:
    wire = meeting.connect()
    return wire, wire.next("challenge", skip=())


# -- of an end that listens -------------------------------------------------------------------------------------------


@case("2.1", SECTION, "32 random bytes, new for each connection", end="listens")
def its_challenge(meeting: Meeting) -> None:
    seen = set()
    for _ in range(3):
        wire, challenge = _challenged(meeting)
        _check(challenge, role=ROLE, name=_NAME, nonce=_DIGITS)
        _check_limit(challenge)
        versions = challenge.get("versions")
        if not isinstance(versions, list) or 1 not in versions or len(versions) > 16:
            raise Failed(f"its versions don't have 1 in them, or are no list: {versions}")
        seen.add(challenge["nonce"])
        wire.close()
    if len(seen) < 3:
        raise Failed("it sends the same nonce on several connections")


@case("2.2", SECTION, "milliseconds, 10 to 3,600,000; holds for both ends", end="listens")
def its_welcome(meeting: Meeting) -> None:
    wire, challenge = _challenged(meeting)
    hello = meeting.hello(challenge, newer="field")
    wire.send(hello)
    welcome = wire.next("welcome", skip=())
    _check(welcome, incarnation=_WORD)
    if not isinstance(welcome.get("heartbeat"), int) or not 10 <= welcome["heartbeat"] <= 3_600_000:
        raise Failed(f"its heartbeat isn't between 10 and 3,600,000: {shown(welcome)}")
    meeting.check_welcome(challenge, hello, welcome)


def _unauthorized(meeting: Meeting, change: Any) -> None:
    wire, challenge = _challenged(meeting)
    wire.send(change(challenge, meeting.hello(challenge)))
    wire.ends("unauthorized")


def _with_mac(hello: dict[str, Any], mac: str) -> dict[str, Any]:
    """The hello with this code in the place of each that it has."""
    keys = {"keys": [{**each, "mac": mac} for each in hello["keys"]]} if "keys" in hello else {}
    return {**hello, **keys, "mac": "" if keys else mac}


@case("2.3", SECTION, "Both ends MUST check the code they receive", end="listens")
def a_wrong_code(meeting: Meeting) -> None:
    _key(meeting)
    _unauthorized(meeting, lambda _, hello: _with_mac(hello, "0" * 64))
    _unauthorized(meeting, lambda _, hello: _with_mac(hello, ""))


@case("2.4", SECTION, "Both ends MUST check the code they receive", end="listens")
def a_code_under_another_key(meeting: Meeting) -> None:
    other = Key(secrets.token_bytes(32), _key(meeting).id)
    _unauthorized(meeting, lambda challenge, hello: _with_mac(hello, code(other, HELLO, agreed(challenge, hello))))


@case("2.5", SECTION, "32 random bytes, new for each connection", end="listens")
def a_hello_of_another_connection(meeting: Meeting) -> None:
    _key(meeting)
    wire, challenge = _challenged(meeting)
    hello = meeting.hello(challenge)
    wire.send(hello)
    wire.next("welcome", skip=())
    wire.close()
    _unauthorized(meeting, lambda _, __: hello)


@case("2.6", SECTION, "`twistedipc link welcome`; the same that follow the label in `hello`", end="listens")
def a_code_with_the_other_label(meeting: Meeting) -> None:
    key = _key(meeting)
    _unauthorized(meeting, lambda challenge, hello: _with_mac(hello, code(key, WELCOME, agreed(challenge, hello))))


@case("2.7", SECTION, "the fields, in order", end="listens")
def a_code_over_another_name(meeting: Meeting) -> None:
    _key(meeting)
    _unauthorized(meeting, lambda _, hello: {**hello, "name": "somebody-else"})


@case("2.8", SECTION, "the highest version that both speak", end="listens")
def a_version_that_it_has_not_offered(meeting: Meeting) -> None:
    wire, challenge = _challenged(meeting)
    wire.send(meeting.hello(challenge, version=999))
    wire.ends("version")


@case("2.9", SECTION, "Each end also\nchecks that the other's `role` is the one it wants", end="listens")
def a_role_that_it_does_not_want(meeting: Meeting) -> None:
    wire, challenge = _challenged(meeting)
    wire.send(meeting.hello(challenge, role="conform-nobody"))
    wire.ends("refused")


@case("2.10", SECTION, "MUST NOT act on anything else\nbefore that", end="listens")
def a_wrong_role_and_a_wrong_code(meeting: Meeting) -> None:
    _key(meeting)
    _unauthorized(meeting, lambda _, hello: {**_with_mac(hello, "0" * 64), "role": "conform-nobody"})


@case("2.11", SECTION, "Until an end is ready it takes only the one frame whose turn it is", end="listens")
def another_frame_than_hello(meeting: Meeting) -> None:
    for wrong in ({"type": "ping"}, {"type": "call", "id": 1, "request": {"type": "x"}}, {"type": "welcome"}):
        wire, _ = _challenged(meeting)
        wire.send(wrong)
        wire.ends("bad-handshake")


@case("2.12", "Frames", "the first byte of\n  each is `{`", end="listens")
def what_is_no_frame_in_place_of_hello(meeting: Meeting) -> None:
    for wrong in (b"GET / HTTP/1.1\r\n\r\n", b"\n", b"\x16\x03\x01\x00\n"):
        wire, _ = _challenged(meeting)
        wire.send_bytes(wrong)
        wire.ends("bad-handshake")


@case("2.13", "Frames", "Before authentication, a line is at most 4096 bytes long", end="listens")
def a_hello_that_is_too_long(meeting: Meeting) -> None:
    wire, challenge = _challenged(meeting)
    wire.send({**meeting.hello(challenge), "x": "x" * 5000})
    wire.ends("frame-too-long", "bad-handshake")


@case("2.14", SECTION, "The listener gives a connection 10 seconds to get ready", end="listens", seconds=14)
def a_hello_that_comes_drop_by_drop(meeting: Meeting) -> None:
    wire, _ = _challenged(meeting)
    begun = time.monotonic()
    wire.send_bytes(b'{"type":"hello","x":"')
    while time.monotonic() - begun < _DEADLINE + _MORE:
        wire.send_bytes(b"x")
        if (frame := wire.frame(0.5)) is not None or wire.closed:
            if frame is not None and frame.get("code") != "handshake-timeout":
                raise Failed(f"it says {shown(frame)}, and the code must be handshake-timeout")
            if time.monotonic() - begun < _DEADLINE - 1:
                raise Failed("it doesn't wait for 10 seconds")
            return
    raise Failed(f"it waits for longer than {_DEADLINE + _MORE:.0f} s")


@case("2.15", NAMED, "An id that isn't known MUST cost as much, and be answered by the same words", end="listens")
def a_named_key_that_it_does_not_know(meeting: Meeting) -> None:
    wire, challenge = _challenged(meeting)
    if not challenge.get("keys"):
        raise NotTried("it takes no named keys")
    other = Key(secrets.token_bytes(32), "conform-unknown")
    hello = meeting.hello(challenge)
    hello["keys"] = [{"id": other.id}]
    hello["keys"][0]["mac"] = code(other, HELLO, agreed(challenge, hello))
    hello["mac"] = code(Key(other.secret), HELLO, agreed(challenge, hello))
    wire.send(hello)
    wire.ends("unauthorized")


# -- of an end that dials ---------------------------------------------------------------------------------------------


def _greeted(meeting: Meeting, **changed: Any) -> tuple[Wire, dict[str, Any], dict[str, Any]]:
    wire = meeting.connect()
    challenge = meeting.challenge(**changed)
    wire.send(challenge)
    return wire, challenge, wire.next("hello", skip=())


@case("2.21", SECTION, "another one each time that the process starts", end="dials")
def its_hello(meeting: Meeting) -> None:
    seen = set()
    for _ in range(2):
        wire, challenge, hello = _greeted(meeting)
        _check(hello, role=ROLE, name=_NAME, nonce=_DIGITS, incarnation=_WORD)
        _check_limit(hello)
        if hello.get("version") != 1:
            raise Failed(f"its version isn't 1: {shown(hello)}")
        meeting.check_hello(challenge, hello)
        seen.add(hello["nonce"])
        wire.close()
    if len(seen) < 2:
        raise Failed("it sends the same nonce on several connections")


@case("2.22", SECTION, "as above, its own; only if the `challenge` had one", end="dials")
def a_challenge_of_an_older_end(meeting: Meeting) -> None:
    wire = meeting.connect()
    challenge = meeting.challenge()
    for name in ("frame_limit", "keys"):
        challenge.pop(name, None)
    wire.send(challenge)
    hello = wire.next("hello", "bye", skip=())
    if hello["type"] == "bye":
        if meeting.about.key is not None and meeting.about.key.id:
            return  # it has a named key alone, which can't be had here
        raise Failed(f"it says {shown(hello)} to a challenge without frame_limit")
    if "frame_limit" in hello or "keys" in hello:
        raise Failed(f"it says what the challenge didn't ask for: {shown(hello)}")


@case("2.23", SECTION, "Both ends MUST check the code they receive", end="dials")
def a_welcome_with_a_wrong_code(meeting: Meeting) -> None:
    _key(meeting)
    for mac in ("0" * 64, ""):
        wire, challenge, hello = _greeted(meeting)
        wire.send({**meeting.welcome(challenge, hello), "mac": mac})
        wire.ends("unauthorized")


@case("2.24", SECTION, "`twistedipc link welcome`; the same that follow the label in `hello`", end="dials")
def its_own_code_sent_back(meeting: Meeting) -> None:
    key = _key(meeting)
    wire, challenge, hello = _greeted(meeting)
    welcome = meeting.welcome(challenge, hello)
    own = hello["keys"][0]["mac"] if key.id and hello.get("keys") else hello["mac"]
    wire.send({**welcome, "mac": own})
    wire.ends("unauthorized")
    wire, challenge, hello = _greeted(meeting)
    wire.send({**welcome, "mac": code(key, HELLO, of_welcome(agreed(challenge, hello), welcome))})
    wire.ends("unauthorized")


@case("2.25", SECTION, "the protocol versions that it speaks", end="dials")
def no_version_in_common(meeting: Meeting) -> None:
    wire = meeting.connect()
    wire.send(meeting.challenge(versions=[998, 999]))
    wire.ends("version")


@case("2.26", SECTION, "Each end also\nchecks that the other's `role` is the one it wants", end="dials")
def a_listener_of_another_role(meeting: Meeting) -> None:
    wire = meeting.connect()
    challenge = meeting.challenge(role="conform-nobody")
    wire.send(challenge)
    frame = wire.next("hello", "bye", skip=())
    if frame["type"] == "hello":
        wire.send(meeting.welcome(challenge, frame))
        wire.ends("refused")
    elif frame.get("code") != "refused":
        raise Failed(f"it says {shown(frame)}, and the code must be refused")


@case("2.27", SECTION, "Until an end is ready it takes only the one frame whose turn it is", end="dials")
def another_frame_than_challenge(meeting: Meeting) -> None:
    wire = meeting.connect()
    wire.send({"type": "ping"})
    wire.ends("bad-handshake")


@case("2.28", SECTION, "and so does the dialler", end="dials", seconds=14)
def a_listener_that_is_silent(meeting: Meeting) -> None:
    wire = meeting.connect()
    wire.frame(_DEADLINE + _MORE)
    if wire.bye is None and not wire.closed:
        raise Failed(f"it waits for longer than {_DEADLINE + _MORE:.0f} s")
