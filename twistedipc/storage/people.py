"""
People: their accounts, how they come to have them, and what they may do. Functions for `Ledger.read` and
`Ledger.write`; ``storage`` layer. Below ``tokens``.

An account is made by an admin's invitation, whose code is good for one sign-in, or by the first sign-in at who else
knows people (an *identity*: an issuer, and its name for the person that never changes). It is never removed, since the
audit refers to it. An address for mail is only kept if somebody has verified it: an admin, or the issuer.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Mapping
from itertools import chain, count
from typing import Any, Final, Literal

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from twistedipc.builds.roles import INVITATION_PREFIX, PlatformRole, Role, highest
from twistedipc.storage.columns import columns_of, row_as
from twistedipc.storage.errors import NameTaken, NotFound, NotPossible
from twistedipc.storage.rows import Owner, PersonRow
from twistedipc.storage.tables import identities, invitations, members, people, projects

#: For how many milliseconds an invitation is good.
INVITED_FOR: Final = 7 * 86_400_000


def add(
    connection: Connection,
    *,
    name: str,
    email: str | None,
    role: PlatformRole,
    now: int,
) -> PersonRow:
    """Make an account. Raises `NameTaken` if the name, in whichever case, or the address is another person's."""
    if connection.execute(select(people.c.id).where(func.lower(people.c.name) == name.lower())).first() is not None:
        raise NameTaken(f"there is a person named {name} already: give this one another name")
    _check_email(connection, email, None)
    values = {"name": name, "email": _email(email), "role": role, "created": now}
    try:
        number = connection.execute(insert(people).values(values).returning(people.c.id)).scalar_one()
    except IntegrityError as error:
        raise NameTaken(f"there is a person with the name {name} or the address {email} already") from error
    return existing(connection, number)


def get(connection: Connection, number: int) -> PersonRow | None:
    """Return the person with this number."""
    return _first(connection, people.c.id == number)


def existing(connection: Connection, number: int) -> PersonRow:
    """Return the person with this number. Raises `NotFound`."""
    row = get(connection, number)
    if row is None:
        raise NotFound(f"there is no person {number}")
    return row


def named(connection: Connection, name: str) -> PersonRow | None:
    """Return the person with this name."""
    return _first(connection, people.c.name == name)


def with_email(connection: Connection, email: str) -> PersonRow | None:
    """Return the person whose address this is."""
    return _first(connection, people.c.email == _email(email))


def list_all(connection: Connection) -> list[PersonRow]:
    """Return all people, also those who are disabled, by name."""
    return [row_as(PersonRow, row) for row in connection.execute(_SELECT.order_by(people.c.name)).all()]


def names_of_emails(connection: Connection, emails: Collection[str]) -> dict[str, tuple[int, str]]:
    """Return number and name of the people who have these addresses, by the address in small letters."""
    if not emails:
        return {}
    wanted = sorted({email.lower() for email in emails})
    query = select(people.c.email, people.c.id, people.c.name).where(people.c.email.in_(wanted))
    return {row.email: (row.id, row.name) for row in connection.execute(query)}


def change(connection: Connection, number: int, values: Mapping[str, Any]) -> PersonRow:
    """Change some of ``email`` and ``role``. Raises `NotFound`, `NameTaken`."""
    existing(connection, number)
    values = dict(values)
    if "email" in values:
        _check_email(connection, values["email"], number)
        values["email"] = _email(values["email"])
    if values:
        connection.execute(update(people).where(people.c.id == number).values(values))
    return existing(connection, number)


def disable(connection: Connection, number: int, now: int) -> bool:
    """Let a person do nothing from now on; their invitation is void. False if they were disabled. Raises `NotFound`."""
    existing(connection, number)
    connection.execute(delete(invitations).where(invitations.c.person_id == number))
    changed = connection.execute(
        update(people).where(people.c.id == number, people.c.disabled.is_(None)).values(disabled=now)
    )
    return changed.rowcount > 0


def enable(connection: Connection, number: int) -> bool:
    """Let a person in again, who has no token then. False if they were active. Raises `NotFound`."""
    existing(connection, number)
    changed = connection.execute(
        update(people).where(people.c.id == number, people.c.disabled.is_not(None)).values(disabled=None)
    )
    return changed.rowcount > 0


# -- invitations


def invite(connection: Connection, number: int, random: Callable[[int], bytes], now: int) -> tuple[str, int]:
    """
    Return a code with which the person can sign in once, and when it expires; those before it are void. Raises
    `NotFound`, and `NotPossible` if the person is disabled.
    """
    person = existing(connection, number)
    if person.disabled is not None:
        raise NotPossible(f"{person.name} is disabled: enable the account first")
    code = INVITATION_PREFIX + base64.urlsafe_b64encode(random(32)).decode().rstrip("=")
    expires = now + INVITED_FOR
    connection.execute(delete(invitations).where(invitations.c.person_id == number))
    values = {"person_id": number, "secret_sha256": _digest(code), "created": now, "expires": expires}
    connection.execute(insert(invitations).values(values))
    return code, expires


def accept(connection: Connection, code: str, now: int) -> PersonRow | None:
    """Take an invitation's code, which is void then, and return the person; None if it isn't good."""
    if not code.startswith(INVITATION_PREFIX) or len(code) > 200:
        return None
    taken = connection.execute(
        delete(invitations)
        .where(invitations.c.secret_sha256 == _digest(code), invitations.c.expires > now)
        .returning(invitations.c.person_id)
    ).first()
    if taken is None:
        return None
    person = existing(connection, taken.person_id)
    return None if person.disabled is not None else joined(connection, person.id, now)


def joined(connection: Connection, number: int, now: int) -> PersonRow:
    """Note that a person has signed in. Raises `NotFound`."""
    connection.execute(update(people).where(people.c.id == number, people.c.joined.is_(None)).values(joined=now))
    return existing(connection, number)


# -- what they may do


def owners(connection: Connection, numbers: Collection[int]) -> dict[int, Owner]:
    """Return these people with what they may do."""
    if not numbers:
        return {}
    found = [row_as(PersonRow, row) for row in connection.execute(_SELECT.where(people.c.id.in_(numbers))).all()]
    roles: dict[int, dict[str, Role]] = {person.id: {} for person in found if not person.is_admin}
    query = (
        select(members.c.person_id, projects.c.name, members.c.role)
        .join(projects, projects.c.id == members.c.project_id)
        .where(members.c.person_id.in_(list(roles)), projects.c.deleted.is_(None))
    )
    for number, project, role in connection.execute(query) if roles else ():
        mine = roles[number]
        mine[project] = highest(role, mine.get(project, role))
    return {person.id: Owner(id=person.id, name=person.name, roles=roles.get(person.id)) for person in found}


# -- sign-ins elsewhere

#: What becomes of somebody whom an issuer has signed in: an account they had, one that is theirs from now on, a new
#: one; or why there is none for them.
Outcome = Literal["known", "link", "new", "disabled", "taken", "unknown"]


def outcome(known: PersonRow | None, by_email: PersonRow | None, other_identity: bool, allow_new: bool) -> Outcome:
    """
    Return what becomes of a sign-in.

    :param known: whose identity it is
    :param by_email: whose address it is, which the issuer has verified
    :param other_identity: whether that one has another identity of the same issuer: an address may come to be another
        person's, an identity never does
    :param allow_new: whether there are accounts for people whom nobody has invited
    """
    if known is not None:
        return "disabled" if known.disabled is not None else "known"
    if by_email is not None:
        if by_email.disabled is not None:
            return "disabled"
        return "taken" if other_identity else "link"
    return "new" if allow_new else "unknown"


def sign_in(
    connection: Connection, *, issuer: str, subject: str, name: str, email: str | None, allow_new: bool, now: int
) -> tuple[Outcome, PersonRow | None]:
    """
    Find or make the account of somebody whom an issuer has signed in. ``email``: verified by it. The account is None
    if there is none for them.
    """
    mine = (identities.c.issuer == issuer) & (identities.c.subject == subject)
    known = _first(connection, people.c.id == select(identities.c.person_id).where(mine).scalar_subquery())
    by_email = None if email is None else with_email(connection, email)
    found = outcome(known, by_email, by_email is not None and _has_identity(connection, by_email.id, issuer), allow_new)
    person = known or by_email
    if found == "new":
        person = add(connection, name=_free_name(connection, name), email=email, role="member", now=now)
    if person is None or found in ("disabled", "taken", "unknown"):
        return found, None
    if found != "known":
        values = {"issuer": issuer, "subject": subject, "person_id": person.id, "created": now}
        connection.execute(insert(identities).values(values))
    if email is not None and by_email is None and person.email != _email(email):
        connection.execute(update(people).where(people.c.id == person.id).values(email=_email(email)))
    return found, joined(connection, person.id, now)


def set_group_role(connection: Connection, number: int, role: PlatformRole | None) -> None:
    """Say what a person is on the platform by their groups; None: these say nothing."""
    connection.execute(update(people).where(people.c.id == number).values(group_role=role))


_SELECT = select(*columns_of(PersonRow, people))


def _first(connection: Connection, which: Any) -> PersonRow | None:
    found = connection.execute(_SELECT.where(which)).first()
    return None if found is None else row_as(PersonRow, found)


def _email(email: str | None) -> str | None:
    return None if email is None else email.lower()


def _check_email(connection: Connection, email: str | None, mine: int | None) -> None:
    other = None if email is None else with_email(connection, email)
    if other is not None and other.id != mine:
        raise NameTaken(f"{email} is the address of {other.name} already")


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()


def _has_identity(connection: Connection, number: int, issuer: str) -> bool:
    query = select(identities.c.subject).where(identities.c.person_id == number, identities.c.issuer == issuer)
    return connection.execute(query.limit(1)).first() is not None


def _free_name(connection: Connection, wanted: str) -> str:
    """Return ``wanted``, or with a number behind it if it is somebody's: "Ann", "Ann 2"."""
    taken = {name.lower() for name in connection.execute(select(people.c.name)).scalars()}
    numbered = (f"{wanted} {number}" for number in count(2))
    return next(name for name in chain([wanted], numbered) if name.lower() not in taken)
