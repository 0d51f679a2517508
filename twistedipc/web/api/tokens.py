"""Tokens, browsers' sessions, tickets, and who the caller is. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.builds.names import BadValue
from twistedipc.builds.scopes import SCOPES
from twistedipc.storage import tokens
from twistedipc.storage.rows import TokenRow
from twistedipc.web.access.auth import SESSION_SECONDS, TICKET_SECONDS, Credential, forbidden, may, unauthenticated
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.queries import SignOut
from twistedipc.web.api.schemas import (
    CreatedToken,
    Identity,
    NewToken,
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
    List the tokens that the caller may manage. (A token that is bound to projects may manage tokens bound to no
    others.)
    """
    rows = await call.context.ledger.read(tokens.list_all)
    shown = [row for row in rows if row.parent is None and _within(row.projects, call.token.projects)]
    return Reply(body=Tokens(tokens=[Token(**_fields(row)) for row in shown]))


async def create(call: Call[None, NewToken]) -> Reply[CreatedToken]:
    """Make a token. Its secret is in this answer and nowhere else."""
    body, context = call.body, call.context
    names.line(body.name)
    bound = None if body.projects is None else frozenset(names.project(name) for name in body.projects)
    if body.projects is not None and not 1 <= len(body.projects) <= 1000:
        raise BadValue("a token is bound to 1 to 1000 projects; without `projects` it is valid for all")
    if not _within(bound, call.token.projects):
        raise forbidden("this token is bound to projects, and can make no token that is valid for others")

    def change(connection: Connection, now: int) -> tuple[TokenRow, str]:
        expires = expiry_of(body, now)
        row, secret = tokens.issue(
            connection,
            name=body.name,
            scopes=body.scopes,
            projects=bound,
            expires=expires,
            service=body.service,
            random=context.random,
            now=now,
        )
        detail = {"name": body.name, "scopes": " ".join(sorted(row.scopes))}
        call.audit(connection, "token.create", str(row.id), detail)
        return row, secret

    row, secret = await context.ledger.write(change, context.now())
    return Reply(body=CreatedToken(**_fields(row), token=secret))


async def revoke(call: Call[None, None]) -> Reply[None]:
    """Revoke a token and its sessions, for ever."""
    wanted, bound = int(call.path["token"]), call.token.projects

    def change(connection: Connection, now: int) -> bool:
        known = {row.id: row for row in tokens.list_all(connection)}
        if wanted not in known or not _within(known[wanted].projects, bound):
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
    """Show who the caller is, and what they may do."""
    row = call.token
    expires = moment_or_none(row.expires)
    return Reply(body=Identity(name=row.name, scopes=_scopes(row), projects=_projects(row), expires=expires))


async def issue_ticket(call: Call[None, None]) -> Reply[Ticket]:
    """Issue a ticket for one WebSocket, for browsers, which can't send a header with its handshake."""
    expires = datetime.fromtimestamp(call.context.now() / 1000, UTC) + timedelta(seconds=TICKET_SECONDS)
    return Reply(body=Ticket(ticket=call.context.tickets.issue(call.token), expires=expires))


async def sign_in(call: Call[None, SignIn]) -> Reply[None]:
    """Sign a browser in: the answer sets a cookie, which no script can read."""
    context, cookie = call.context, call.authentication.cookie
    if not cookie.possible(call.request):
        raise forbidden(
            "there can be no session at this host: it isn't one of the API's"
            + (f"; sign in at {context.api_url}" if context.api_url else "")
        )
    row = await call.authentication.lookup(call.request, Credential("bearer", call.body.token))
    if row is None:
        raise unauthenticated("this token is not valid: it is unknown, expired or revoked")
    if row.service:
        raise forbidden(f"the token {row.name} is a program's: no browser can sign in with it")

    def change(connection: Connection, row: TokenRow, now: int) -> str:
        expires = now + SESSION_SECONDS * 1000
        if row.expires is not None:
            expires = min(expires, row.expires)
        session, secret = tokens.issue(
            connection,
            name=row.name,
            scopes=row.scopes,
            projects=row.projects,
            expires=expires,
            parent=row.id,
            address=call.address,
            agent=call.request.getHeader("user-agent"),
            random=context.random,
            now=now,
        )
        call.audit(connection, "session.begin", str(session.id), {}, by=call.actor_of(row))
        return secret

    secret = await context.ledger.write(change, row, context.now())
    return Reply(body=None, headers=cookie.set(call.request, secret, SESSION_SECONDS))


async def list_sessions(call: Call[None, None]) -> Reply[Sessions]:
    """
    List the browsers that are signed in with the caller's token; to an admin who may manage all tokens, all browsers.
    """
    found = await call.context.ledger.read(tokens.sessions, call.context.now())
    shown = [_session(row, call.token) for row in found if _may_end(call.token, row)]
    return Reply(body=Sessions(sessions=shown))


async def sign_out(call: Call[SignOut, None]) -> Reply[None]:
    """
    End the browser's session; with ``all``, every session that was begun with the same token. (A token that isn't a
    session stays as it is.)
    """
    token, now = call.token, call.context.now()
    if call.query.all == "1":
        mine = _root(token)
        ends = [row.id for row in await call.context.ledger.read(tokens.sessions, now) if row.parent == mine]
    else:
        ends = [] if token.parent is None else [token.id]
    await _end_sessions(call, ends)
    headers = call.authentication.cookie.clear_all(call.request, storage=True) if token.parent is not None else {}
    return Reply(body=None, headers=headers)


async def end_session(call: Call[None, None]) -> Reply[None]:
    """End one session: of the caller's own token, or, for an admin who may manage all tokens, any."""
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


def _may_end(token: TokenRow, session: TokenRow) -> bool:
    return session.parent == _root(token) or (may(token, "admin") and token.projects is None)


def _session(row: TokenRow, caller: TokenRow) -> Session:
    assert row.parent is not None, "a session has a parent"
    return Session(
        id=row.id,
        name=row.name,
        token=row.parent,
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


def _scopes(row: TokenRow) -> list[Any]:
    return [scope for scope in SCOPES if scope in row.scopes]


def _projects(row: TokenRow) -> list[str] | None:
    return None if row.projects is None else sorted(row.projects)


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
    }
