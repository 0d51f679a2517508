"""
Visits of releases that are for the team alone: who may see them, and for how long. ``web.access``; used by
``web.releases``, which is another origin than the API's, and by ``web.api``, which knows who calls.

A browser that has no visit is sent to the page, at the API's origin, with the digest of a number that only it has (a
cookie of the release's host). The page asks the API for a visit, as the person that is signed in there; the answer is
an address at the release's host with a code: for once, for half a minute, for this project, host and number. There the
code becomes a cookie of that host alone. So no code is good in another browser, and the API's own session never leaves
its origin. All of it is in memory: after a restart, browsers are sent to the page again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from twistedipc.server.boundaries import RandomBytes
from twistedipc.storage.rows import TokenRow

#: Seconds that a visit lasts, and a code.
VISIT_SECONDS = 8 * 3600
CODE_SECONDS = 30

#: The most of either; the oldest go first.
MOST = 10_000


class Visit(NamedTuple):
    """A visit, or the code for one."""

    project: str
    host: str
    challenge: str  # of the browser that asked; "" of a visit
    token: TokenRow
    expires: int  # milliseconds since the epoch


def challenge_of(number: str) -> str:
    """Return what a browser shows of its number."""
    return hashlib.sha256(number.encode("utf-8", "surrogatepass")).hexdigest()


class Visits:
    """The codes and the visits. ``now``: milliseconds since the epoch."""

    def __init__(self, now: Callable[[], int], random: RandomBytes) -> None:
        self._now = now
        self._random = random
        self._codes: OrderedDict[str, Visit] = OrderedDict()  # by their digests
        self._visits: OrderedDict[str, Visit] = OrderedDict()

    def number(self) -> str:
        """Return a number for a browser to keep."""
        return base64.urlsafe_b64encode(self._random(32)).decode().rstrip("=")

    def code(self, project: str, host: str, challenge: str, token: TokenRow) -> str:
        """Return a code for a visit of this project at this host, by the browser with this challenge."""
        expires = self._now() + CODE_SECONDS * 1000
        return self._add(self._codes, Visit(project, host, challenge, token, expires))

    def redeem(self, code: str, project: str, host: str, number: str) -> str | None:
        """Return the secret of a visit for a code, once; None if it is no good, here or for this browser."""
        found = self._codes.pop(challenge_of(code), None)
        if found is None or found.expires <= self._now() or (found.project, found.host) != (project, host):
            return None
        if not hmac.compare_digest(found.challenge, challenge_of(number)):
            return None
        expires = self._now() + VISIT_SECONDS * 1000
        if found.token.expires is not None:
            expires = min(expires, found.token.expires)
        return self._add(self._visits, Visit(project, host, "", found.token, expires))

    def admits(self, secret: str, project: str, host: str) -> bool:
        """Return whether there is a visit with this secret, of this project at this host."""
        found = self._visits.get(challenge_of(secret))
        return found is not None and found.expires > self._now() and (found.project, found.host) == (project, host)

    def tokens(self) -> list[TokenRow]:
        """Return the tokens with which what is valid began."""
        return [visit.token for table in (self._codes, self._visits) for visit in table.values()]

    def forget(self, concerned: Callable[[TokenRow], bool]) -> None:
        """End the visits that began with these tokens, and make their codes void."""
        for table in (self._codes, self._visits):
            for digest in [digest for digest, visit in table.items() if concerned(visit.token)]:
                del table[digest]

    def _add(self, table: OrderedDict[str, Visit], visit: Visit) -> str:
        secret = self.number()
        table[challenge_of(secret)] = visit
        if len(table) > MOST:
            table.popitem(last=False)
        return secret
