"""
The ledger's bearer tokens. Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer.

A secret is shown once and stored as its SHA-256: with 256 random bits in it, it needs neither salt nor a slow hash.
A browser's session is a token too, with an end. It ends early if nothing is asked for with it, and if it began with
another token, its parent, it is valid for as long as that is.

A token has a name of its own among those that aren't revoked. One that has expired gives its name up to the next. It
belongs to a person, or to none. That of a person who is disabled is not valid.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from itertools import count as count_from
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Row, Select, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from twistedipc.storage import rings
from twistedipc.storage.columns import from_json, text, to_json
from twistedipc.storage.errors import NameTaken
from twistedipc.storage.people import owners
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import TokenRow
from twistedipc.storage.tables import people, token_projects, tokens

PREFIX = "tipc_"

#: How long a session lasts without a request, in milliseconds.
SESSION_IDLE = 2 * 3_600_000

#: How long an ended session's row is kept, and how exact `TokenRow.last_used` is: milliseconds.
_KEEP_SESSIONS = 7 * 86_400_000
_TOUCH_EVERY = 60_000


def issue(
    connection: Connection,
    *,
    name: str,
    scopes: Iterable[str],
    projects: Iterable[str] | None,
    expires: int | None,
    parent: int | None = None,
    session: bool = False,
    person: int | None = None,
    service: bool = False,
    address: str | None = None,
    agent: str | None = None,
    random: Callable[[int], bytes],
    now: int,
) -> tuple[TokenRow, str]:
    """
    Make a token, and return it with its secret, which is nowhere else. ``projects`` None: all; ``expires``:
    milliseconds since the epoch. ``session``: a browser has it; if it begins with another token, that is its
    ``parent``, and the caller sees to it that it may no more; ``address`` and ``agent`` say where it began. ``person``:
    whose it is. ``service``: a program has it. ``random`` gives so many bytes that can't be guessed. Raises
    `NameTaken`.
    """
    _forget_old_sessions(connection, now)
    if not session:
        _give_up_name(connection, name, now)
    secret = PREFIX + base64.urlsafe_b64encode(random(32)).decode().rstrip("=")
    bound = None if projects is None else sorted(set(projects))
    values = {
        "name": name,
        "secret_sha256": _digest(secret),
        "scopes": to_json(sorted(set(scopes))),
        "all_projects": bound is None,
        "created": now,
        "expires": expires,
        "parent": parent,
        "session": session,
        "person": person,
        "service": service,
        "address": None if address is None else text(address, 200),
        "agent": None if agent is None else text(agent, 200),
    }
    try:
        token_id = connection.execute(insert(tokens).values(values).returning(tokens.c.id)).scalar_one()
    except IntegrityError as error:
        raise NameTaken(
            f"there is a token named {name} already: revoke it first, or give this one another name"
        ) from error
    if bound:
        connection.execute(insert(token_projects), [{"token_id": token_id, "project": project} for project in bound])
    (token,) = _rows(connection, connection.execute(select(tokens).where(tokens.c.id == token_id)).all())
    return token, secret


class Again(NamedTuple):
    """A token that was good once. ``disabled``: its person is."""

    row: TokenRow
    revoked: bool
    disabled: bool


def well_formed(secret: str) -> bool:
    """Return whether this could be a token's secret at all, so that it is worth a look into the ledger."""
    return secret.startswith(PREFIX) and len(secret) <= 200


def authenticate(connection: Connection, secret: str, now: int) -> TokenRow | None:
    """
    Return the token with this secret, if it is valid: neither the token nor its parent has expired or is revoked, and
    its person is active.
    """
    if not well_formed(secret):
        return None
    found = connection.execute(_WITH_SECRET, {"secret": _digest(secret), **_at(now)}).first()
    return None if found is None else _rows(connection, [found])[0]


def sessions(connection: Connection, now: int) -> list[TokenRow]:
    """Return the browsers' sessions that are good, oldest first."""
    return _rows(connection, connection.execute(_SESSIONS, _at(now)).all())


def _good() -> Select[Any]:
    """Return the query for the tokens that are valid; its parameters are `_at`'s."""
    parents = tokens.alias("parents")
    now, used_since = bindparam("now", type_=BigInteger), bindparam("used_since", type_=BigInteger)
    return (
        select(tokens)
        .outerjoin(parents, parents.c.id == tokens.c.parent)
        .where(
            *(
                t.c.revoked.is_(None) & or_(t.c.expires.is_(None), t.c.expires > now)  # true where there is no parent
                for t in (tokens, parents)
            )
        )
        # It is no session, or one with which something was asked for a short while ago.
        .where(or_(~tokens.c.session, func.coalesce(tokens.c.last_used, tokens.c.created) > used_since))
    )


def _at(now: int) -> dict[str, int]:
    return {"now": now, "used_since": now - SESSION_IDLE}


# Made once: each request begins with this, and what SQLAlchemy does to make a statement takes longer than SQLite takes
# for it.
_WITH_SECRET = (
    _good()
    .outerjoin(people, people.c.id == tokens.c.person)
    .where(people.c.disabled.is_(None), tokens.c.secret_sha256 == bindparam("secret"))
)
_SESSIONS = _good().where(tokens.c.session).order_by(tokens.c.id)


def again(connection: Connection, ids: Collection[int]) -> dict[int, Again]:
    """Return how these tokens are by now; what is deleted isn't there."""
    parents = tokens.alias("parents")
    query = (
        select(tokens, parents.c.revoked.label("parent_revoked"), people.c.disabled.label("disabled"))
        .outerjoin(parents, parents.c.id == tokens.c.parent)
        .outerjoin(people, people.c.id == tokens.c.person)
        .where(tokens.c.id.in_(list(ids)))
    )
    found = connection.execute(query).all()
    rows = {row.id: row for row in _rows(connection, found)}
    return {
        each.id: Again(
            row=rows[each.id],
            revoked=each.revoked is not None or each.parent_revoked is not None,
            disabled=each.disabled is not None,
        )
        for each in found
    }


def touch(connection: Connection, token_id: int, now: int) -> None:
    """Note that the token is in use; at most once a minute does this write anything."""
    connection.execute(
        update(tokens)
        .where(tokens.c.id == token_id, or_(tokens.c.last_used.is_(None), tokens.c.last_used <= now - _TOUCH_EVERY))
        .values(last_used=now)
    )


def list_all(connection: Connection) -> list[TokenRow]:
    """Return all tokens, also invalid ones, and browsers' sessions; oldest first."""
    return _rows(connection, connection.execute(select(tokens).order_by(tokens.c.id)).all())


def revoke(connection: Connection, token_id: int, now: int) -> bool:
    """Revoke the token and its sessions. Return False if there is no such token, or it was revoked before."""
    changed = connection.execute(
        update(tokens).where(tokens.c.id == token_id, tokens.c.revoked.is_(None)).values(revoked=now)
    )
    connection.execute(
        update(tokens).where(tokens.c.parent == token_id, tokens.c.revoked.is_(None)).values(revoked=now)
    )
    rings.note(connection, Topic.TOKEN, str(token_id))
    return changed.rowcount > 0


def revoke_of_person(connection: Connection, person: int, now: int) -> None:
    """Revoke all tokens and sessions of a person."""
    connection.execute(update(tokens).where(tokens.c.person == person, tokens.c.revoked.is_(None)).values(revoked=now))
    rings.note(connection, Topic.TOKEN)


def count(connection: Connection) -> int:
    """Return how many tokens of people aren't revoked: with 0, no one can sign in."""
    return connection.execute(
        select(func.count()).select_from(tokens).where(tokens.c.revoked.is_(None), ~tokens.c.session)
    ).scalar_one()


def free_name(connection: Connection, wanted: str, now: int) -> str:
    """Return ``wanted``, or with a number behind it if a token has that name: "ada", "ada 2"."""
    good = or_(tokens.c.expires.is_(None), tokens.c.expires > now)
    query = select(tokens.c.name).where(~tokens.c.session, tokens.c.revoked.is_(None), good)
    taken = set(connection.execute(query).scalars())
    numbered = (f"{wanted} {number}" for number in count_from(2))
    return next(name for name in chain([wanted], numbered) if name not in taken)


def _give_up_name(connection: Connection, name: str, now: int) -> None:
    """Revoke the token of this name if it has expired, so that another can have the name."""
    connection.execute(
        update(tokens)
        .where(tokens.c.name == name, ~tokens.c.session, tokens.c.revoked.is_(None), tokens.c.expires <= now)
        .values(revoked=tokens.c.expires)
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _forget_old_sessions(connection: Connection, now: int) -> None:
    connection.execute(delete(tokens).where(tokens.c.session, tokens.c.expires < now - _KEEP_SESSIONS))


def _rows(connection: Connection, found: Iterable[Row[Any]]) -> list[TokenRow]:
    found = list(found)
    bound: dict[int, set[str]] = {}
    query = select(token_projects)
    if len(found) == 1:
        query = query.where(token_projects.c.token_id == found[0].id)
    for token_id, project in connection.execute(query):
        bound.setdefault(token_id, set()).add(project)
    persons = owners(connection, {row.person for row in found if row.person is not None})
    return [
        TokenRow(
            id=row.id,
            name=row.name,
            scopes=frozenset(from_json(row.scopes, list[str])),
            projects=None if row.all_projects else frozenset(bound.get(row.id, ())),
            created=row.created,
            expires=row.expires,
            revoked=row.revoked,
            last_used=row.last_used,
            parent=row.parent,
            service=row.service,
            address=row.address,
            agent=row.agent,
            session=row.session,
            person=None if row.person is None else persons[row.person],
        )
        for row in found
    ]
