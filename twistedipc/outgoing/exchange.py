"""Requests to other services, their answers, and whether something is tried again that wasn't told. Pure."""

from __future__ import annotations

import re
from collections.abc import Generator
from enum import StrEnum
from typing import Any, Final

import msgspec

from twistedipc.builds.names import shown

#: The longest that a service can have itself left alone by its answer, in seconds.
LONGEST_AFTER: Final = 3600.0

#: Seconds for which a service is left alone that says it is asked too often, and not for how long.
TOO_OFTEN: Final = 60.0

#: The most characters of what a service's answer says.
_MAX_SAID: Final = 300


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request."""

    method: str
    url: str
    headers: dict[str, str] = {}
    body: bytes = b""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request; or, with a ``problem``, why there was none, as a sentence."""

    status: int = 0
    headers: dict[str, str] = {}  # names in small letters
    body: bytes = b""
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether the service did what it was asked for."""
        return not self.problem and 200 <= self.status < 300


#: Yields requests, is sent their answers, and returns a note for people: "" if there is nothing to say.
Exchange = Generator[Request, Answer, str]


class NotTold(Exception):
    """The service didn't take it. ``answer``: what it said."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.problem or str(answer.status))
        self.answer = answer


def ask(request: Request) -> Generator[Request, Answer, Answer]:
    """Make a request; return the answer, if it is a good one. Raises `NotTold`."""
    answer = yield request
    if not answer.good:
        raise NotTold(answer)
    return answer


def told_by(request: Request) -> Exchange:
    """Make one request, and be done."""
    yield from ask(request)
    return ""


class Again(StrEnum):
    """Whether, and for how long, something is tried again."""

    LONG = "long"  # the service is away or busy: that passes
    SHORT = "short"  # it was refused: a commit may not be there yet, a token may just be changed
    NEVER = "never"  # the same would be refused again


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """
    Why something wasn't told, and what follows. ``after``: seconds; 0.0: the service doesn't say. ``all``: nothing else
    is told to this receiver until then.
    """

    reason: str
    again: Again
    after: float = 0.0
    all: bool = False


#: Refusals that may pass.
_REFUSED: Final = frozenset({401, 403, 404, 409, 422, 423})


def failed(answer: Answer, now: int, *, quote: bool) -> Failed:
    """
    Return what follows from a bad answer.

    :param now: seconds since the epoch
    :param quote: whether people are shown what the service says of it. Not that of any service: an address that
        somebody has set must not become a way to read what is there.
    """
    if answer.problem:
        return Failed(reason=answer.problem, again=Again.LONG, all=True)
    status, after = answer.status, _after(answer, now)
    reason = f"it answered {status}"
    if said := _said(answer) if quote else "":
        reason = f"{reason}: {said}"
    if status == 429 or (status == 403 and _too_often(answer)):
        wait = min(after or TOO_OFTEN, LONGEST_AFTER)
        return Failed(reason=f"it is asked too often ({reason})", again=Again.LONG, after=wait, all=True)
    if status in (408, 425) or status >= 500:
        return Failed(reason=reason, again=Again.LONG, after=min(after, LONGEST_AFTER), all=True)
    if 300 <= status < 400:
        return Failed(reason=f"{reason}: redirects aren't followed. Give the address that it leads to",
                      again=Again.NEVER)  # fmt: skip
    if status in _REFUSED:
        return Failed(reason=reason, again=Again.SHORT, after=min(after, LONGEST_AFTER))
    return Failed(reason=reason, again=Again.NEVER)


def _too_often(answer: Answer) -> bool:
    """Return whether a 403 is about the number of requests, as GitHub says it."""
    headers = answer.headers
    if "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0":
        return True
    return b"secondary rate limit" in answer.body or b"abuse detection" in answer.body


def _after(answer: Answer, now: int) -> float:
    """Return for how many seconds a service wants to be left alone; 0.0: it doesn't say."""
    said = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", said):
        return max(1.0, float(said))
    for name in ("x-ratelimit-reset", "ratelimit-reset"):
        reset = answer.headers.get(name, "").strip()
        used_up = answer.headers.get(name.replace("reset", "remaining"), "0").strip() == "0"
        if used_up and re.fullmatch(r"[0-9]{1,12}", reset):
            return max(1.0, float(reset) - now)
    return 0.0


def _said(answer: Answer) -> str:
    """Return what a host's API says in its field ``message`` or ``error``."""
    try:
        body: Any = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    if not isinstance(body, dict):
        return ""
    said = body.get("message") or body.get("error") or ""
    return shown(said if isinstance(said, str) else msgspec.json.encode(said).decode(), _MAX_SAID)
