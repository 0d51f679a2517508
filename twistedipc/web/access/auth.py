"""
Authentication: which token calls, and what it may do. ``web.access``; ``web.api.resource`` asks for every route.

A caller shows a token in ``Authorization: Bearer``, or the page's cookie, or, for a WebSocket, a ticket. A token in
the query is ignored, since addresses end up in logs. Browsers send cookies without being asked, so a cookie counts
only together with an allowed Origin, unless the request can change nothing. A session's secret works as a cookie only,
and a token's never does.

Only failures are throttled. A good token is accepted at once, however many bad ones have come from the same address,
which may be a proxy's or a firewall's, and so be shared by all callers.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.builds.scopes import Scope
from twistedipc.server.boundaries import RandomBytes
from twistedipc.storage import projects, tokens
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.rows import TokenRow
from twistedipc.web.access.cookies import SessionCookie, SeveralCookies
from twistedipc.web.access.held import HeldOpen, Holding, is_of, sees_one
from twistedipc.web.access.refusals import Refusals
from twistedipc.web.access.visits import Visits
from twistedipc.web.http.channel import BoundedRequest
from twistedipc.web.http.clients import Client
from twistedipc.web.http.problems import ProblemError, unavailable

_K = TypeVar("_K")
_V = TypeVar("_V")

#: Seconds that a browser's session lasts, and a ticket.
SESSION_SECONDS = 12 * 3600
TICKET_SECONDS = 30

#: The most unused tickets at a time, of all tokens and of one.
MAX_TICKETS = 10_000
MAX_TICKETS_OF_TOKEN = 100

#: Failed authentications of one address in `FAILURE_WINDOW` seconds, after which its clients must wait.
MAX_FAILURES = 30
FAILURE_WINDOW = 60.0

#: Seconds in which a secret that is known to be bad isn't looked up again.
BAD_SECONDS = 60.0

CredentialKind = Literal["bearer", "cookie", "ticket", "invitation"]


class Credential(msgspec.Struct, frozen=True):
    """What the caller sends to prove who they are."""

    kind: CredentialKind
    secret: str


def may(token: TokenRow, scope: Scope, project: str) -> bool:
    """Return whether the token has the scope in this project, directly or through a scope that includes it."""
    return token.allowance.allows(scope, project)


def bearer_of(request: BoundedRequest) -> str | None:
    """Return the token in the Authorization header. Raises 401 if the header holds anything else."""
    values = request.requestHeaders.getRawHeaders(b"authorization")
    if not values:
        return None
    scheme, _, secret = values[0].strip().partition(b" ")
    if len(values) > 1 or scheme.lower() != b"bearer" or not secret.strip():
        raise unauthenticated("the Authorization header must be: Bearer TOKEN")
    return secret.strip().decode("latin-1")


def unauthenticated(detail: str, headers: dict[str, str] | None = None) -> ProblemError:
    """Return the problem of a 401 response."""
    return ProblemError(401, detail, name="unauthenticated", headers={"WWW-Authenticate": "Bearer"} | (headers or {}))


def forbidden(detail: str) -> ProblemError:
    """Return the problem of a 403 response."""
    return ProblemError(403, detail, name="forbidden")


# -- origins ---------------------------------------------------------------------------------------------------------

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_allowed(origin: str, host: str, allowed: frozenset[str]) -> bool:
    """
    Return whether a page from ``origin`` may use this API with a browser's cookie: it comes from the host that the
    request is to, or from one that the operator has named. The origin "null" never may. Behind a proxy that ends TLS
    the scheme of the request is unknown, so only host and port are compared with the API's own.
    """
    if origin.rstrip("/") in allowed:
        return True
    try:
        parts = urlsplit(origin)
        default = _DEFAULT_PORTS.get(parts.scheme)
        if default is None or not parts.hostname or parts.path or parts.query or parts.username is not None:
            return False
        mine = urlsplit(f"//{host}")
        return (parts.hostname, parts.port or default) == (mine.hostname, mine.port or default)
    except ValueError:
        return False


def check_origin(
    request: BoundedRequest, credential: Credential | None, allowed: frozenset[str], websocket: bool
) -> None:
    """
    Refuse (403) what another site makes a browser do: a request with a foreign Origin, unless the caller shows a token
    in a header, which no foreign page can do; and a request without an Origin where a browser would have sent one.
    """
    if credential is not None and credential.kind == "bearer" and not websocket:
        return
    origin = request.getHeader("origin")
    if origin is None:
        if credential is not None and credential.kind != "bearer":
            raise forbidden("a request with a cookie or a ticket needs an Origin header")
        return
    if not origin_allowed(origin, request.getHeader("host") or "", allowed):
        raise forbidden(f"pages from {origin[:200]} may not use this API (see allowed_origins in the configuration)")


# -- tickets ---------------------------------------------------------------------------------------------------------


class Tickets:
    """
    One-use tickets, for browsers, which can't send a header with a WebSocket's handshake. Kept in memory: a restart
    makes them void, and the page asks for another.
    """

    def __init__(self, clock: IReactorTime, random: RandomBytes) -> None:
        self._clock = clock
        self._random = random
        self._tickets: OrderedDict[str, tuple[float, TokenRow]] = OrderedDict()  # the oldest first
        self._count: dict[int, int] = {}  # by token

    def issue(self, token: TokenRow) -> str:
        """Return a new ticket. Raises 429 or 503 when there are too many."""
        self._forget_expired()
        if self._count.get(token.id, 0) >= MAX_TICKETS_OF_TOKEN:
            raise ProblemError(
                429,
                f"this token has {MAX_TICKETS_OF_TOKEN} tickets that are not used yet",
                headers={"Retry-After": str(TICKET_SECONDS)},
            )
        if len(self._tickets) >= MAX_TICKETS:
            raise unavailable("there are too many unused tickets", retry_after=TICKET_SECONDS)
        ticket = "tipk_" + base64.urlsafe_b64encode(self._random(32)).decode().rstrip("=")
        self._tickets[ticket] = (self._clock.seconds() + TICKET_SECONDS, token)
        self._count[token.id] = self._count.get(token.id, 0) + 1
        return ticket

    def redeem(self, ticket: str) -> TokenRow | None:
        """Return the token that the ticket stands for, once."""
        self._forget_expired()
        found = self._tickets.pop(ticket, None)
        if found is None:
            return None
        self._uncount(found[1])
        return found[1]

    def tokens(self) -> list[TokenRow]:
        """Return the tokens that there are tickets for."""
        return [token for _, token in self._tickets.values()]

    def forget(self, concerned: Callable[[TokenRow], bool]) -> None:
        """Make the tickets of these tokens void."""
        for ticket, (_, token) in list(self._tickets.items()):
            if concerned(token):
                del self._tickets[ticket]
                self._uncount(token)

    def _forget_expired(self) -> None:
        now = self._clock.seconds()
        while self._tickets:
            ticket, (expires, token) = next(iter(self._tickets.items()))
            if expires > now:
                return
            del self._tickets[ticket]
            self._uncount(token)

    def _uncount(self, token: TokenRow) -> None:
        left = self._count[token.id] - 1
        if left:
            self._count[token.id] = left
        else:
            del self._count[token.id]


# -- authentication --------------------------------------------------------------------------------------------------


class Failures:
    """
    Recent failed authentications: how many came from where, and which secrets they showed. Guessing a token is
    hopeless anyway; this tells programs that go on with a bad one, and spares the ledger the look-ups.
    """

    _MOST = 10_000

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._bad: OrderedDict[bytes, float] = OrderedDict()

    def is_bad(self, credential: Credential) -> bool:
        """Return whether the same secret was shown a moment ago and was bad. A bad secret never becomes good."""
        return self._bad.get(_digest(credential), 0.0) > self._clock.seconds()

    def failed(self, client: Client, credential: Credential) -> int:
        """Count a failure; return how many seconds this client should wait, 0 if it needn't."""
        now, where = self._clock.seconds(), client.neighbourhood
        since, count = self._failures.get(where, (now, 0))
        if now - since >= FAILURE_WINDOW:
            since, count = now, 0
        self._remember(self._failures, where, (since, count + 1))
        self._remember(self._bad, _digest(credential), now + BAD_SECONDS)
        return int(since + FAILURE_WINDOW - now) + 1 if count >= MAX_FAILURES else 0

    def _remember(self, table: OrderedDict[_K, _V], key: _K, value: _V) -> None:
        table[key] = value
        table.move_to_end(key)
        if len(table) > self._MOST:
            table.popitem(last=False)


class Authentication:
    """Finds the token of a request."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        now: Callable[[], int],
        ledger: Ledger,
        tickets: Tickets,
        visits: Visits,
        cookie: SessionCookie,
    ) -> None:
        self._now = now
        self._ledger = ledger
        self._tickets = tickets
        self._visits = visits
        self.cookie = cookie
        self.held = HeldOpen(clock, now)
        self._failures = Failures(clock)
        self.refusals = Refusals(clock, now, ledger)
        self._projects: dict[str, int] = {}  # as `refresh` has found them

    def credential_of(self, request: BoundedRequest, ticket: str | None) -> Credential | None:
        """Return what the caller shows: the header goes before the ticket, the ticket before the cookie. Raises 401."""
        if (secret := bearer_of(request)) is not None:
            return Credential("bearer", secret)
        if ticket is not None:
            return Credential("ticket", ticket)
        try:
            secret = self.cookie.value(request)
        except SeveralCookies:
            raise unauthenticated(
                "there are two sessions in the cookies, one of them set by a page elsewhere: sign in again",
                self.cookie.clear_all(request),
            ) from None
        return None if secret is None else Credential("cookie", secret)

    def revoked(self, token_id: int) -> None:
        """End everything that the token, and the sessions begun with it, hold open: it was revoked."""
        self._forget(lambda token: token_id in (token.id, token.parent))
        self.held.revoked(token_id)

    def project_gone(self, name: str) -> None:
        """End everything that tokens hold open which may see this project, but not all: it was deleted."""
        self._forget(lambda token: sees_one(token, name))
        self.held.project_gone(name)

    def person_disabled(self, person: int) -> None:
        """End everything that a person's tokens and sessions hold open: their tokens aren't valid any more."""
        self._forget(lambda token: is_of(token, person))
        self.held.person_disabled(person)

    def person_changed(self, person: int) -> None:
        """End everything that a person's tokens and sessions hold open: they may do something else now."""
        self._forget(lambda token: is_of(token, person))
        self.held.person_changed(person)

    async def refresh(self) -> None:
        """
        Look at all tokens again that hold something here: another apiserver may have revoked or changed them. Raises
        `LedgerUnavailable`.
        """
        numbers = await self._ledger.read(projects.all_numbers)
        known, self._projects = self._projects, numbers
        for name, number in known.items():
            if numbers.get(name) != number:
                self.project_gone(name)
        shown = {token.id: token for token in (*self.held.tokens(), *self._tickets.tokens(), *self._visits.tokens())}
        if not shown:
            return
        self.held.changes += 1  # what is being read now may be from before
        found = await self._ledger.read(tokens.again, tuple(sorted(shown)))
        for token in shown.values():
            again = found.get(token.id)
            if again is None or again.revoked:
                self.revoked(token.id)
            elif again.disabled and token.person is not None:
                self.person_disabled(token.person.id)
            elif _what_it_may(again.row) != _what_it_may(token):
                self._changed(token.id)

    def _changed(self, token_id: int) -> None:
        self._forget(lambda token: token_id == token.id)
        self.held.changed(token_id)

    def _forget(self, concerned: Callable[[TokenRow], bool]) -> None:
        for table in (self._tickets, self._visits):
            table.forget(concerned)

    async def holding_of(self, request: BoundedRequest, credential: Credential | None) -> Holding:
        """
        Return what the caller's token holds from now on; the caller of this must release it. Raises 401, 429;
        `LedgerUnavailable`.
        """
        if credential is None:
            raise unauthenticated("a token is needed: Authorization: Bearer TOKEN")
        row = await self.lookup(request, credential)
        if row is None:
            raise unauthenticated(
                {
                    "bearer": "this token is not valid: it is unknown, expired or revoked",
                    "cookie": "the session is over: sign in again",
                    "invitation": "this invitation is not valid: it is unknown, expired or was used before",
                    "ticket": "this ticket is not valid: it is unknown, expired or was used before",
                }[credential.kind],
                self.cookie.clear(request) if credential.kind == "cookie" else {},
            )
        return self.held.hold(row)

    async def lookup(self, request: BoundedRequest, credential: Credential) -> TokenRow | None:
        """
        Return the credential's token, if it is good. Raises 429 for a bad token after too many failures; a session
        that has ended isn't delayed, since the page must learn of it. Raises `LedgerUnavailable`.
        """
        row = None if self._failures.is_bad(credential) else await self._find(credential)
        if row is None:
            self.failed(request, credential)
            return None
        if row.last_used is None or self._now() - row.last_used >= 60_000:
            self._ledger.write(tokens.touch, row.id, self._now()).addErrback(self._not_touched)
        return row

    def failed(self, request: BoundedRequest, credential: Credential) -> None:
        """Note that a credential is no good. Raises 429 after too many failures, but for a session that has ended."""
        self.refusals.note(request.remote.address, credential.kind)
        wait = self._failures.failed(request.remote, credential)
        if wait and credential.kind in ("bearer", "invitation"):
            what = "token" if credential.kind == "bearer" else "invitation"
            raise ProblemError(
                429,
                f"this {what} is not valid, and neither were too many before it from this address",
                name="too-many-failures",
                headers={"Retry-After": str(wait)},
            )

    async def _find(self, credential: Credential) -> TokenRow | None:
        if credential.kind == "ticket":
            return self._tickets.redeem(credential.secret)
        if not tokens.well_formed(credential.secret):
            return None
        changes, row = -1, None
        while changes != self.held.changes:  # else it may have been revoked while it was being read
            changes = self.held.changes
            row = await self._ledger.read(tokens.authenticate, credential.secret, self._now())
        return row if row is not None and row.session == (credential.kind == "cookie") else None

    def _not_touched(self, failure: Failure) -> None:
        # Failing to note when a token was last used is no reason to refuse the request.
        failure.trap(LedgerUnavailable)
        self._log.debug("the last use of a token could not be noted: {error}", error=failure.value)


def _what_it_may(token: TokenRow) -> object:
    return token.scopes, token.projects, token.person


def _digest(credential: Credential) -> bytes:
    return hashlib.sha256(f"{credential.kind} {credential.secret}".encode("utf-8", "surrogatepass")).digest()
