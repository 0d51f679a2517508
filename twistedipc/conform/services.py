"""Listeners with several services (docs/protocol.md, "Several services")."""

from __future__ import annotations

import secrets
from typing import Any

from twistedipc.conform.cases import case
from twistedipc.conform.greeting import ROLE
from twistedipc.conform.meeting import LIMIT, Meeting
from twistedipc.conform.wire import Failed, NotTried, Wire, shown

SECTION = "Several services"

_NOBODY = "conform-nobody"


# -- of an end that listens -------------------------------------------------------------------------------------------


def _challenged(meeting: Meeting) -> tuple[Wire, dict[str, Any]]:
    wire = meeting.connect()
    challenge = wire.next("challenge", skip=())
    if "services" not in challenge:
        raise NotTried("it has one service")
    return wire, challenge


@case("2.41", SECTION, "No\ntwo have one role", end="listens")
def its_services(meeting: Meeting) -> None:
    _, challenge = _challenged(meeting)
    services = challenge["services"]
    if not isinstance(services, list) or not 1 <= len(services) <= 16:
        raise Failed(f"its services are no list of 1 to 16: {shown(services)}")
    roles = [challenge["role"], *(each["role"] for each in services)]
    if not all(isinstance(each, str) and ROLE.match(each) for each in roles) or len(set(roles)) < len(roles):
        raise Failed(f"the roles of its services aren't as they must be: {shown(roles)}")
    for each in services:
        if not isinstance(each.get("frame_limit", LIMIT), int) or each.get("frame_limit", LIMIT) < 4096:
            raise Failed(f"a service's frame_limit is no integer from 4096: {shown(each)}")


@case("2.42", SECTION, "So does a listener that is asked for a `service` that it doesn't\n  have", end="listens")
def a_service_that_it_does_not_have(meeting: Meeting) -> None:
    wire, challenge = _challenged(meeting)
    wire.send(meeting.hello(challenge, service=_NOBODY))
    wire.ends("refused")


@case("2.43", SECTION, "All codes are over the roles in `services`, too, and over the `service`", end="listens")
def a_code_without_the_service(meeting: Meeting) -> None:
    if meeting.about.key is None:
        raise NotTried("it needs --key: without one there is no code to be wrong")
    for service in (None, "service"):
        wire, challenge = _challenged(meeting)
        hello = meeting.hello(challenge, service=service and meeting.option(service))
        if service is None:
            # Somebody in between brings a dialler that wants the first one to another.
            hello["service"] = challenge["services"][0]["role"]
        else:
            del hello["service"]
        wire.send(hello)
        wire.ends("unauthorized")


@case("2.44", SECTION, "A dialler that wants another one says its role as `service`", end="listens")
def a_service_beside_the_first(meeting: Meeting) -> None:
    service = meeting.option("service")
    wire, challenge = _challenged(meeting)
    if service not in [each["role"] for each in challenge["services"]]:
        raise NotTried(f"it doesn't have the service {service} beside its first one")
    meeting.linked_by(wire, challenge).lives()


# -- of an end that dials ---------------------------------------------------------------------------------------------


def _offered(meeting: Meeting, *roles: str) -> tuple[Wire, dict[str, Any], dict[str, Any]]:
    """Offer another service first, and these. Return the connection, the challenge, and what is said to it."""
    wire = meeting.connect()
    own = meeting.challenge()
    of_each = {name: own[name] for name in ("frame_limit", "keys") if name in own}
    services = [{"role": role, **of_each} for role in roles]
    challenge = {**own, "role": _NOBODY, "frame_limit": 4096, "services": services}
    wire.send(challenge)
    return wire, challenge, wire.next("hello", "bye", skip=())


@case("2.45", SECTION, "All codes are over the roles in `services`, too, and over the `service`", end="dials")
def its_service_is_not_the_first(meeting: Meeting) -> None:
    wire, challenge, hello = _offered(meeting, "conform-other", meeting.about.role)
    if hello["type"] == "bye":
        if hello.get("code") != "refused":
            raise Failed(f"it says {shown(hello)}, and the code must be refused")
        raise NotTried("it finds the first service only, as an end that is older than this rule")
    if hello.get("service") != meeting.about.role:
        raise Failed(f"it doesn't say which service it wants: {shown(hello)}")
    meeting.check_hello(challenge, hello)
    wire.send(meeting.welcome(challenge, hello))
    meeting.linked(wire, hello).lives()


@case("2.46", SECTION, "A dialler that doesn't find the role that it wants answers by the `bye` `refused`", end="dials")
def its_service_is_not_there(meeting: Meeting) -> None:
    wire, challenge, hello = _offered(meeting, "conform-other", f"conform-{secrets.token_hex(4)}")
    if hello["type"] == "hello":
        wire.send(meeting.welcome(challenge, hello))
        wire.ends("refused")
    elif hello.get("code") != "refused":
        raise Failed(f"it says {shown(hello)}, and the code must be refused")
