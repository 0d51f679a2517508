"""
What a registry gives for an ID token ("trusted publishing"): a token for one package, for a while. The request is the
client's (npm makes it in its lib/utils/oidc.js); here is what is kept of the answers, and what refusals mean. Pure.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from twistedipc.builds.names import shown
from twistedipc.publish.targets.npm.registry import Answer, Kind

#: Seconds before its end from which a token isn't used any more.
EARLY = 10.0

#: Seconds from which on a token may have ended without a word, where a registry refuses what it would hide.
OLD = 60.0

#: The seconds by which two clocks may differ before that is said.
SKEW = 30.0

#: The most characters of a claim in a sentence.
MAX_CLAIM = 300


@dataclass
class Exchanged:
    """A token that was given for an ID token."""

    token: str
    since: float  # by the clock of `Exchanges`
    until: float  # likewise
    accepted: bool = False  # a request has gone well with it


class Exchanges:
    """
    The tokens of packages.

    :param mint: returns an ID token that is good now
    :param clock: seconds, which only grow
    """

    def __init__(self, mint: Callable[[], str], clock: Callable[[], float]) -> None:
        self.mint = mint
        self._clock = clock
        self._of: dict[str, Exchanged] = {}

    def token(self, package: str) -> str:
        """Return the token for a package; "": there is none, or it has ended."""
        found = self._of.get(package)
        return found.token if found is not None and self._clock() < found.until - EARLY else ""

    def keep(self, package: str, said: Mapping[str, Any], now: datetime) -> str:
        """Keep the token of a registry's answer (`token_in`), and return it."""
        since = self._clock()
        found = self._of[package] = Exchanged(token_in(said), since, since + _lasts(said, now))
        return found.token

    def has_ended(self, package: str, answer: Answer, *, changes: bool) -> bool:
        """
        Note how a request about a package went. Return whether its token has ended, so that another may do: it was good
        before, and is refused now. (To an upload with an expired token the public registry says 404.)
        """
        found = self._of.get(package)
        if found is None:
            return False
        if answer.kind in (Kind.DONE, Kind.TAKEN):
            found.accepted = True
        old = self._clock() - found.since > OLD
        denied = answer.kind is Kind.DENIED and (found.accepted or old)
        hidden = answer.kind in (Kind.FORBIDDEN, Kind.ABSENT) and changes and old
        if denied or hidden:
            del self._of[package]
        return denied or hidden

    def went_well(self, package: str) -> None:
        """Note that a request about a package has got what it asked for."""
        if (found := self._of.get(package)) is not None:
            found.accepted = True


def token_in(said: Mapping[str, Any]) -> str:
    """Return the token in an answer; "" if there is none that can be sent."""
    token = said.get("token")
    return token if isinstance(token, str) and re.fullmatch(r"[\x21-\x7e]{1,4096}", token) else ""


def _lasts(said: Mapping[str, Any], now: datetime) -> float:
    """Return for how many seconds a token is good, as far as the registry says so."""
    seconds = said.get("expires_in")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0:
        return float(seconds)
    ends = _moment(said.get("expires"))
    if ends is None:
        return float("inf")
    return (ends - (_moment(said.get("created")) or now)).total_seconds()  # by the registry's clock, if it says both


def _moment(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def explained(answer: Answer, id_token: str, package: str, headers: Mapping[str, str], now: datetime) -> Answer:
    """
    Return the refusal of an ID token with what a person needs who sets up the registry: what the token says, and the
    difference of the clocks if there is one.

    :param headers: of the answer, by their names in small letters
    """
    if answer.kind is not Kind.DENIED:
        return answer
    claims = claims_of(id_token)
    sent = ", ".join(f"{what} {claims[name]}" for what, name in _NAMED if name in claims)
    said = f"{answer.said}; it was sent {sent}, and has to trust these for {package}" if sent else answer.said
    try:
        theirs = email.utils.parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        theirs = None
    if theirs is not None and theirs.tzinfo is not None and abs((theirs - now).total_seconds()) > SKEW:
        said += (
            f"; and its clock says {theirs.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC while it is {now:%Y-%m-%d %H:%M:%S} "
            "UTC here: set the one that is wrong"
        )
    return replace(answer, said=said)


_NAMED = (("issuer", "iss"), ("subject", "sub"), ("audience", "aud"))


def claims_of(id_token: str) -> dict[str, str]:
    """Return what an ID token says, its texts alone, without checking it; nothing if it isn't one."""
    try:
        body = id_token.split(".")[1]
        found = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=dict[str, object])
    except (IndexError, binascii.Error, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return {}
    return {name: shown(value, MAX_CLAIM) for name, value in found.items() if isinstance(value, str)}
