"""How browsers' sessions begin, and people's first tokens. ``web.api``; used by ``tokens`` and ``people``."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from twistedipc.storage import people, tokens
from twistedipc.storage.rows import Actor, PersonRow, TokenRow
from twistedipc.web.access.auth import SESSION_SECONDS, Credential, unauthenticated
from twistedipc.web.api.call import Call

#: What is answered to a code that isn't good.
INVITATION_OVER = (
    "this invitation is not valid: it is unknown, expired or was used before; ask an admin for another one "
    "(twistedipc people invite)"
)


async def begin_with_token(call: Call[Any, Any], row: TokenRow) -> dict[str, str]:
    """Begin a session with a token, which the browser has shown; return the headers of the answer."""

    def change(connection: Connection, now: int) -> str:
        session, secret = _issue(call, connection, row, row.expires, now)
        call.audit(connection, "session.begin", str(session.id), {}, by=call.actor_of(row))
        return secret

    secret = await call.context.ledger.write(change, call.context.now())
    return call.authentication.cookie.set(call.request, secret, SESSION_SECONDS)


async def begin_by_invitation(call: Call[Any, Any], code: str) -> dict[str, str]:
    """Begin a session by an invitation's code; return the headers of the answer. Raises 401, 429."""

    def change(connection: Connection, now: int) -> str | None:
        person = people.accept(connection, code, now)
        if person is None:
            return None
        call.audit(connection, "person.join", person.name, {}, by=actor_of(call, person))
        return begin_as(call, connection, person, now)

    secret = await call.context.ledger.write(change, call.context.now())
    if secret is None:
        raise refused(call, code)
    return call.authentication.cookie.set(call.request, secret, SESSION_SECONDS)


def begin_as(call: Call[Any, Any], connection: Connection, person: PersonRow, now: int) -> str:
    """Begin a session of a person who has shown who they are, without a token; return its secret."""
    session, secret = _issue(call, connection, person, None, now)
    call.audit(connection, "session.begin", str(session.id), {}, by=actor_of(call, person, session.id))
    return secret


def actor_of(call: Call[Any, Any], person: PersonRow, token: int | None = None) -> Actor:
    """Return a person as the actor of their own sign-in."""
    return Actor(
        who=person.name,
        token=token,
        person=person.id,
        person_name=person.name,
        address=call.address,
        request=call.request.id,
    )


def refused(call: Call[Any, Any], code: str) -> Exception:
    """Count a code that isn't good, and return the problem of the answer. Raises 429."""
    call.authentication.failed(call.request, Credential("invitation", code))
    return unauthenticated(INVITATION_OVER)


def _issue(
    call: Call[Any, Any], connection: Connection, of: TokenRow | PersonRow, until: int | None, now: int
) -> tuple[TokenRow, str]:
    expires = now + SESSION_SECONDS * 1000
    stands_on = of if isinstance(of, TokenRow) else None
    person = of.id if isinstance(of, PersonRow) else None if of.person is None else of.person.id
    return tokens.issue(
        connection,
        name=of.name,
        # What a person may do is said by their roles.
        scopes=["admin"] if stands_on is None else stands_on.scopes,
        projects=None if stands_on is None else stands_on.projects,
        expires=expires if until is None else min(expires, until),
        parent=None if stands_on is None else stands_on.id,
        session=True,
        person=person,
        address=call.address,
        agent=call.request.getHeader("user-agent"),
        random=call.context.random,
        now=now,
    )
