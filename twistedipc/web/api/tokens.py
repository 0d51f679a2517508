"""Tokens, browsers' sessions, tickets, and who the caller is. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.builds.names import BadValue
from twistedipc.builds.roles import INVITATION_PREFIX
from twistedipc.builds.scopes import SCOPES, allow
from twistedipc.storage import tokens
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import Owner, TokenRow
from twistedipc.web.access.auth import TICKET_SECONDS, Credential, forbidden, unauthenticated
from twistedipc.web.access.held import is_of
from twistedipc.web.api import sessions
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.queries import SignOut
from twistedipc.web.api.schemas import (
    CreatedToken,
    Identity,
    NewOwnToken,
    NewToken,
    PersonName,
    Session,
    Sessions,
    SignIn,
    Ticket,
    Token,
    Tokens,
    expiry_of,
)
from twistedipc.web.http.problems import not_found


async def list_all(call: Call[None, None]) -> Reply[Tokens]:
    """
    List the tokens that the caller may manage. (An admin of some projects alone may manage tokens bound to no others.)
    """
    rows = await call.context.ledger.read(tokens.list_all)
    mine = call.token.allowance.projects_with("admin")
    shown = [row for row in rows if not row.session and _within(row.projects, mine)]
    return Reply(body=Tokens(tokens=[Token(**_fields(row)) for row in shown]))


async def create(call: Call[None, NewToken]) -> Reply[CreatedToken]:
    """
    Make a token. Its secret is in this answer and nowhere else. A person's is their own, and may do no more than they
    may; with ``service`` it is a program's, and no person's.
    """
    body = call.body
    bound = _bound(body.projects)
    if not _within(bound, call.token.allowance.projects_with("admin")):
        raise forbidden("you are an admin of some projects alone, and can make no token that is valid for others")
    return await _create(call, body, bound, None if body.service else call.token.person, service=body.service)


async def revoke(call: Call[None, None]) -> Reply[None]:
    """Revoke a token and its sessions, for ever."""
    mine = call.token.allowance.projects_with("admin")
    return await _revoke(call, lambda row: _within(row.projects, mine))


async def list_own(call: Call[None, None]) -> Reply[Tokens]:
    """List the caller's own tokens, if the caller is a person."""
    me = call.token.person
    rows = [] if me is None else await call.context.ledger.read(tokens.list_all)
    mine = [row for row in rows if not row.session and me is not None and is_of(row, me.id)]
    return Reply(body=Tokens(tokens=[Token(**_fields(row)) for row in mine]))


async def create_own(call: Call[None, NewOwnToken]) -> Reply[CreatedToken]:
    """
    Make a token of the caller's own, if the caller is a person. It may do no more than the token that asks for it, and
    no more than the person may at the time. Its secret is in this answer and nowhere else.
    """
    me, body = call.token.person, call.body
    if me is None:
        raise NotPossible(f"the token {call.token.name} is no person's, so that none can be its own")
    bound = _bound(body.projects)
    if not _within(bound, call.token.projects) or not all(allow(call.token.scopes, scope) for scope in body.scopes):
        raise forbidden("a token can't make one that may do more than itself")
    return await _create(call, body, bound, me, service=False)


async def revoke_own(call: Call[None, None]) -> Reply[None]:
    """Revoke a token of the caller's own and its sessions, for ever."""
    me = call.token.person
    return await _revoke(call, lambda row: me is not None and is_of(row, me.id))


async def revoke_this(call: Call[None, None]) -> Reply[None]:
    """
    Revoke the token that the request is made with, and its sessions, for ever. (A browser's session ends by
    `DELETE /api/v1/sessions`.)
    """
    mine = call.token
    if mine.session:
        raise NotPossible("this is a browser's session, and no token: DELETE /api/v1/sessions ends it")
    return await _revoke_one(call, mine.id, lambda row: row.id == mine.id)


def _bound(wanted: list[str] | None) -> frozenset[str] | None:
    if wanted is None:
        return None
    if not 1 <= len(wanted) <= 1000:
        raise BadValue("a token is bound to 1 to 1000 projects; without `projects` it is valid for all")
    return frozenset(names.project(name) for name in wanted)


async def _create(
    call: Call[None, Any],
    body: NewToken | NewOwnToken,
    bound: frozenset[str] | None,
    person: Owner | None,
    *,
    service: bool,
) -> Reply[CreatedToken]:
    names.line(body.name)
    context = call.context

    def change(connection: Connection, now: int) -> tuple[TokenRow, str]:
        row, secret = tokens.issue(
            connection,
            name=body.name,
            scopes=body.scopes,
            projects=bound,
            expires=expiry_of(body.expires_in, now),
            person=None if person is None else person.id,
            service=service,
            random=context.random,
            now=now,
        )
        detail = {"name": body.name, "scopes": " ".join(sorted(row.scopes))}
        if service:
            detail["for"] = "a service"
        call.audit(connection, "token.create", str(row.id), detail)
        return row, secret

    row, secret = await context.ledger.write(change, context.now())
    return Reply(body=created(row, secret))


async def _revoke(call: Call[None, None], may_revoke: Callable[[TokenRow], bool]) -> Reply[None]:
    return await _revoke_one(call, int(call.path["token"]), may_revoke)


async def _revoke_one(call: Call[None, None], wanted: int, may_revoke: Callable[[TokenRow], bool]) -> Reply[None]:
    def change(connection: Connection, now: int) -> bool:
        known = {row.id: row for row in tokens.list_all(connection)}
        if wanted not in known or not may_revoke(known[wanted]):
            return False
        revoked = tokens.revoke(connection, wanted, now)
        if revoked:
            detail = {"name": known[wanted].name}
            call.audit(connection, "token.revoke", str(wanted), detail)
        return revoked

    context = call.context
    revoked = await context.ledger.write(change, context.now())
    call.authentication.revoked(wanted)
    if not revoked:
        raise not_found(f"there is no token {wanted} that could be revoked")
    return Reply(body=None)


async def show_identity(call: Call[None, None]) -> Reply[Identity]:
    """
    Show who the caller is, and what they may do. ``scopes`` are those that the caller has in one project at least.
    """
    row = call.token
    person = row.person
    return Reply(
        body=Identity(
            name=row.who,
            scopes=_scopes(row) if person is None else [s for s in SCOPES if row.allowance.allows_somewhere(s)],
            projects=_projects(row),
            expires=moment_or_none(row.expires),
            person=_person_name(row),
            roles=None if person is None else person.roles,
        )
    )


async def issue_ticket(call: Call[None, None]) -> Reply[Ticket]:
    """Issue a ticket for one WebSocket, for browsers, which can't send a header with its handshake."""
    expires = datetime.fromtimestamp(call.context.now() / 1000, UTC) + timedelta(seconds=TICKET_SECONDS)
    return Reply(body=Ticket(ticket=call.context.tickets.issue(call.token), expires=expires))


async def sign_in(call: Call[None, SignIn]) -> Reply[None]:
    """
    Sign a browser in, by a token or by an invitation's code: the answer sets a cookie, which no script can read.
    """
    context, cookie = call.context, call.authentication.cookie
    if not cookie.possible(call.request):
        raise forbidden(
            "there can be no session at this host: it isn't one of the API's"
            + (f"; sign in at {context.api_url}" if context.api_url else "")
        )
    if call.body.token.startswith(INVITATION_PREFIX):
        return Reply(body=None, headers=await sessions.begin_by_invitation(call, call.body.token))
    row = await call.authentication.lookup(call.request, Credential("bearer", call.body.token))
    if row is None:
        raise unauthenticated("this token is not valid: it is unknown, expired or revoked")
    if row.service:
        raise forbidden(f"the token {row.name} is a program's: no browser can sign in with it")
    return Reply(body=None, headers=await sessions.begin_with_token(call, row))


async def list_sessions(call: Call[None, None]) -> Reply[Sessions]:
    """
    List the browsers that the caller has signed in: a person all of theirs, another those with the same token. To an
    admin of the platform, all browsers.
    """
    found = await call.context.ledger.read(tokens.sessions, call.context.now())
    shown = [_session(row, call.token) for row in found if _may_end(call.token, row)]
    return Reply(body=Sessions(sessions=shown))


async def sign_out(call: Call[SignOut, None]) -> Reply[None]:
    """
    End the browser's session; with ``all``, every session of the same person, or, if the token is no person's, every
    one that was begun with it. (A token that isn't a session stays as it is.)
    """
    token, now = call.token, call.context.now()
    if call.query.all == "1":
        ends = [row.id for row in await call.context.ledger.read(tokens.sessions, now) if _is_own(token, row)]
    else:
        ends = [token.id] if token.session else []
    await _end_sessions(call, ends)
    headers = call.authentication.cookie.clear_all(call.request, storage=True) if token.session else {}
    return Reply(body=None, headers=headers)


async def end_session(call: Call[None, None]) -> Reply[None]:
    """End one session: one of the caller's own, or, for an admin of the platform, any."""
    wanted = int(call.path["session"])
    found = await call.context.ledger.read(tokens.sessions, call.context.now())
    if not any(row.id == wanted and _may_end(call.token, row) for row in found):
        raise not_found(f"there is no session {wanted} that could be ended")
    await _end_sessions(call, [wanted])
    return Reply(body=None)


async def _end_sessions(call: Call[Any, None], ends: list[int]) -> None:
    def change(connection: Connection, now: int) -> None:
        for session in ends:
            tokens.revoke(connection, session, now)
            call.audit(connection, "session.end", str(session), {})

    if ends:
        await call.context.ledger.write(change, call.context.now())
    for session in ends:
        call.authentication.revoked(session)


def _root(token: TokenRow) -> int:
    """Return the token itself, or the one that a session was begun with."""
    return token.id if token.parent is None else token.parent


def _is_own(token: TokenRow, session: TokenRow) -> bool:
    if token.person is not None:
        return is_of(session, token.person.id)
    return session.person is None and _root(session) == _root(token)


def _may_end(token: TokenRow, session: TokenRow) -> bool:
    return _is_own(token, session) or token.allowance.allows_everywhere("admin")


def _session(row: TokenRow, caller: TokenRow) -> Session:
    return Session(
        id=row.id,
        name=row.name,
        token=_root(row),
        person=_person_name(row),
        created=moment(row.created),
        last_used=moment_or_none(row.last_used),
        expires=moment_or_none(row.expires),
        address=row.address,
        agent=row.agent,
        current=row.id == caller.id,
    )


def _within(projects: frozenset[str] | None, bound: frozenset[str] | None) -> bool:
    """Return whether everything that ``projects`` allows is within ``bound``."""
    return bound is None or (projects is not None and projects <= bound)


def _person_name(row: TokenRow) -> PersonName | None:
    return None if row.person is None else PersonName(id=row.person.id, name=row.person.name)


def _scopes(row: TokenRow) -> list[Any]:
    return [scope for scope in SCOPES if scope in row.scopes]


def _projects(row: TokenRow) -> list[str] | None:
    return None if row.projects is None else sorted(row.projects)


def created(row: TokenRow, secret: str) -> CreatedToken:
    """Return what the API answers about a new token."""
    return CreatedToken(**_fields(row), token=secret)


def _fields(row: TokenRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scopes": _scopes(row),
        "projects": _projects(row),
        "created": moment(row.created),
        "expires": moment_or_none(row.expires),
        "revoked": moment_or_none(row.revoked),
        "last_used": moment_or_none(row.last_used),
        "service": row.service,
        "person": _person_name(row),
    }
