"""People's accounts and invitations, and the members of projects. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.builds.roles import Role, highest
from twistedipc.storage import members, people, tokens
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import MemberRow, PersonRow, TokenRow
from twistedipc.web.access.auth import forbidden
from twistedipc.web.api import sessions
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.schemas import (
    Acceptance,
    CreatedToken,
    Invitation,
    Member,
    Members,
    NewMember,
    NewPerson,
    People,
    Person,
    PersonChange,
    PersonName,
    expiry_of,
)
from twistedipc.web.api.tokens import created
from twistedipc.web.http.problems import not_found

# -- accounts


async def list_all(call: Call[None, None]) -> Reply[People]:
    """List all people, also those who are disabled."""
    _check_admin(call)
    rows = await call.context.ledger.read(people.list_all)
    return Reply(body=People(people=[_person(row) for row in rows]))


async def invite(call: Call[None, NewPerson]) -> Reply[Invitation]:
    """
    Make a person's account, with an invitation: a code that is good for one sign-in within seven days. It is in this
    answer and nowhere else.
    """
    _check_admin(call)
    body, context = call.body, call.context
    names.line(body.name)
    if body.email is not None:
        names.email(body.email)

    def change(connection: Connection, now: int) -> tuple[PersonRow, str, int]:
        row = people.add(connection, name=body.name, email=body.email, role=body.role, now=now)
        detail = {"role": row.role} | ({} if row.email is None else {"email": row.email})
        call.audit(connection, "person.invite", row.name, detail)
        return row, *people.invite(connection, row.id, context.random, now)

    return _invitation(call, *await context.ledger.write(change, context.now()))


async def invite_again(call: Call[None, None]) -> Reply[Invitation]:
    """
    Make another invitation for a person who has an account: a code for one sign-in. Those before it are void; tokens
    and sessions stay.
    """
    _check_admin(call)
    context, wanted = call.context, int(call.path["person"])

    def change(connection: Connection, now: int) -> tuple[PersonRow, str, int]:
        row = people.existing(connection, wanted)
        call.audit(connection, "person.invite", row.name, {})
        return row, *people.invite(connection, row.id, context.random, now)

    return _invitation(call, *await context.ledger.write(change, context.now()))


async def accept(call: Call[None, Acceptance]) -> Reply[CreatedToken]:
    """
    Take an invitation's code for a token of the person's own, with which they may do all that they may. (A browser
    signs in by the code itself.)
    """
    body, context = call.body, call.context
    name = None if isinstance(body.name, UnsetType) else names.line(body.name)

    def change(connection: Connection, now: int) -> tuple[TokenRow, str] | None:
        person = people.accept(connection, body.code, now)
        if person is None:
            return None
        row, secret = tokens.issue(
            connection,
            name=name or tokens.free_name(connection, person.name, now),
            scopes=["admin"],
            projects=None,
            expires=expiry_of(UNSET, now),
            person=person.id,
            random=context.random,
            now=now,
        )
        by = sessions.actor_of(call, person, row.id)
        call.audit(connection, "person.join", person.name, {}, by=by)
        call.audit(connection, "token.create", str(row.id), {"name": row.name, "scopes": "admin"}, by=by)
        return row, secret

    made = await context.ledger.write(change, context.now())
    if made is None:
        raise sessions.refused(call, body.code)
    return Reply(body=created(*made))


async def change(call: Call[None, PersonChange]) -> Reply[Person]:
    """
    Change what is given of a person's account. With ``disabled`` all of their tokens and sessions end at once, and
    don't come back when it is taken back: an invitation lets them in then.
    """
    _check_admin(call)
    body, context, wanted = call.body, call.context, int(call.path["person"])
    values: dict[str, Any] = {}
    if not isinstance(body.email, UnsetType):
        values["email"] = None if body.email is None else names.email(body.email)
    if not isinstance(body.role, UnsetType):
        values["role"] = body.role
    if body.disabled is True and call.token.person is not None and call.token.person.id == wanted:
        raise NotPossible("you can't disable your own account: another admin can")

    def change(connection: Connection, now: int) -> PersonRow:
        before = people.existing(connection, wanted)
        row = people.change(connection, wanted, values)
        said = {
            name: f"{getattr(before, name) or '—'} → {getattr(row, name) or '—'}"
            for name in values
            if getattr(before, name) != getattr(row, name)
        }
        if said:
            call.audit(connection, "person.change", row.name, said)
        if body.disabled is True and people.disable(connection, wanted, now):
            tokens.revoke_of_person(connection, wanted, now)
            call.audit(connection, "person.disable", row.name, {})
        if body.disabled is False and people.enable(connection, wanted):
            call.audit(connection, "person.enable", row.name, {})
        return people.existing(connection, wanted)

    row = await context.ledger.write(change, context.now())
    if row.disabled is not None:
        call.authentication.person_disabled(row.id)
    else:
        call.authentication.person_changed(row.id)
    return Reply(body=_person(row))


# -- members


async def list_members(call: Call[None, None]) -> Reply[Members]:
    """List the project's members. (Admins of the platform may everything, and need not be among them.)"""
    rows = await call.context.ledger.read(members.list_all, call.project.name)
    return Reply(body=Members(members=[_member(row) for row in rows]))


async def set_member(call: Call[None, NewMember]) -> Reply[Members]:
    """Give a person a role in the project, or another one than before."""
    context, body, project = call.context, call.body, call.project.name

    def change(connection: Connection, now: int) -> tuple[PersonRow, list[MemberRow]]:
        person = people.named(connection, body.person)
        if person is None:
            raise not_found(f"there is no person {body.person}: an admin can invite them (twistedipc people invite)")
        before = members.set_role(connection, project, person.id, body.role, now)
        if before != body.role:
            call.audit(connection, "member.set", person.name, {"role": f"{before or '—'} → {body.role}"})
        return person, members.list_all(connection, project)

    person, rows = await context.ledger.write(change, context.now())
    call.authentication.person_changed(person.id)
    return Reply(body=Members(members=[_member(row) for row in rows]))


async def remove_member(call: Call[None, None]) -> Reply[Members]:
    """Take the role from a person that somebody gave them in the project. One that they have by their groups stays."""
    context, project, wanted = call.context, call.project.name, int(call.path["person"])

    def change(connection: Connection, now: int) -> list[MemberRow]:
        before = members.remove(connection, project, wanted)
        if before is None:
            raise not_found(f"nobody gave person {wanted} a role in {project}")
        call.audit(connection, "member.remove", people.existing(connection, wanted).name, {"role": f"{before} → —"})
        return members.list_all(connection, project)

    rows = await context.ledger.write(change, context.now())
    call.authentication.person_changed(wanted)
    return Reply(body=Members(members=[_member(row) for row in rows]))


# -- answers


def _check_admin(call: Call[Any, Any]) -> None:
    if not call.token.allowance.allows_everywhere("admin"):
        raise forbidden("accounts are the whole platform's: this needs an admin of it, and no token for some projects")


def _person(row: PersonRow) -> Person:
    state: Literal["invited", "active", "disabled"] = "invited" if row.joined is None else "active"
    return Person(
        id=row.id,
        name=row.name,
        email=row.email,
        role="admin" if row.is_admin else "member",
        state="disabled" if row.disabled is not None else state,
        by_groups=row.group_role == "admin" and row.role != "admin",
        created=moment(row.created),
        joined=moment_or_none(row.joined),
    )


def _invitation(call: Call[Any, Any], row: PersonRow, code: str, expires: int) -> Reply[Invitation]:
    url = f"{call.context.api_url}/#token={code}"
    return Reply(body=Invitation(person=_person(row), code=code, url=url, expires=moment(expires)))


def _member(row: MemberRow) -> Member:
    given: list[Role] = [role for role in (row.added, row.by_groups) if role is not None]
    return Member(
        person=PersonName(id=row.person.id, name=row.person.name),
        role=highest(*given),
        added=row.added,
        by_groups=row.by_groups,
        active=row.person.disabled is None,
    )
