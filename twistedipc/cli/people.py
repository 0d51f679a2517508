"""`twistedipc people …` and `twistedipc project members …`: accounts, and who may do what in a project."""

from __future__ import annotations

import click
from msgspec import UNSET

from twistedipc.builds.roles import ROLES, PlatformRole, Role
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Answer, Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, local_time, note, print_json, print_table
from twistedipc.web.api.schemas import (
    Invitation,
    Member,
    Members,
    NewMember,
    NewPerson,
    People,
    Person,
    PersonChange,
)


@click.group()
def people() -> None:
    """Invite, list and disable people."""


@people.command()
@with_client
@click.argument("name")
@click.option("--email", help="Their address for mail: commits with it as the author's are shown as theirs.")
@click.option("--admin", is_flag=True, help="They may do everything (else: what their roles in projects say).")
@click.option("--again", is_flag=True, help="Make another invitation for somebody who has an account.")
@json_option
def invite(client: Client, name: str, email: str | None, admin: bool, again: bool, as_json: bool) -> None:
    """Make an account for NAME, and print a link for one sign-in. It isn't shown again."""
    if again:
        if email is not None or admin:
            raise click.UsageError("--again only makes another link: `twistedipc people set` changes an account")
        answer = client.post(path("people", _person(client, name).id, "invitations"))
    else:
        role: PlatformRole = "admin" if admin else "member"
        answer = client.post(path("people"), NewPerson(name=name, email=email, role=role))
    if as_json:
        print_json(answer)
        return
    made = answer.decode(Invitation)
    note(
        f"{made.person.name} can sign in once until {local_time(made.expires)}: in a browser by this link, or with "
        "`twistedipc login`, which takes what is behind token= as a token; it isn't shown again:"
    )
    click.echo(made.url)


@people.command("list")
@with_client
@json_option
def list_people(client: Client, as_json: bool) -> None:
    """List all people, also those who are disabled."""
    answer = client.get(path("people"))
    if as_json:
        print_json(answer)
        return
    print_table(
        ("ID", "NAME", "E-MAIL", "ROLE", "STATE", "CREATED", "JOINED"),
        [
            (
                each.id,
                each.name,
                each.email,
                f"{each.role} (by groups)" if each.by_groups else each.role,
                each.state,
                local_time(each.created),
                local_time(each.joined),
            )
            for each in answer.decode(People).people
        ],
        empty="there are no people: `twistedipc people invite NAME` invites one",
    )


@people.command("set")
@with_client
@click.argument("name")
@click.option("--email", help='Their address for mail; "" removes it.')
@click.option("--role", type=click.Choice(["member", "admin"]), help="What they are on the platform.")
@json_option
def set_person(client: Client, name: str, email: str | None, role: PlatformRole | None, as_json: bool) -> None:
    """Change the account of NAME."""
    body = PersonChange(
        email=UNSET if email is None else email or None,
        role=UNSET if role is None else role,
    )
    answer = client.patch(path("people", _person(client, name).id), body)
    if as_json:
        print_json(answer)
        return
    found = answer.decode(Person)
    note(f"{found.name} is {'an admin' if found.role == 'admin' else 'a member'} ({found.email or 'no address'})")


@people.command()
@with_client
@click.argument("name")
def disable(client: Client, name: str) -> None:
    """Let NAME do nothing any more: all of their tokens and sessions end at once, for ever.

    Service tokens are nobody's, and stay: look at `twistedipc token list`.
    """
    client.patch(path("people", _person(client, name).id), PersonChange(disabled=True))
    note(f"{name} is disabled, and their tokens and sessions have ended")


@people.command()
@with_client
@click.argument("name")
def enable(client: Client, name: str) -> None:
    """Let NAME sign in again, with a new invitation or where the company signs people in."""
    client.patch(path("people", _person(client, name).id), PersonChange(disabled=False))
    note(f"{name} is active; `twistedipc people invite {name} --again` makes a link for them")


def _person(client: Client, name: str) -> Person:
    for each in client.get(path("people")).decode(People).people:
        if each.name == name:
            return each
    raise Failure(ExitCode.NOT_FOUND, f"there is no person {name}; `twistedipc people list` has all")


# -- members of a project


@click.command("members")
@with_client
@click.argument("project")
@click.argument("action", type=click.Choice(["add", "remove"]), required=False)
@click.argument("name", required=False)
@click.option(
    "--role",
    type=click.Choice(ROLES),
    help="With add: what they may do: look, build, publish, or look after the project. Each includes those before it.",
)
@json_option
def members(
    client: Client, project: str, action: str | None, name: str | None, role: Role | None, as_json: bool
) -> None:
    """Show the members of PROJECT and their roles, or change them.

    `add NAME --role ROLE` gives somebody a role, or another one than before; `remove NAME` takes it from them.
    """
    where = path("projects", project, "members")
    if (action is None) != (name is None) or (action == "add") != (role is not None):
        raise click.UsageError("what can follow the project: add NAME --role ROLE, or remove NAME")
    match action, name, role:
        case "add", str(), str():
            answer = client.post(where, NewMember(person=name, role=role))
        case "remove", str(), None:
            answer = client.delete(f"{where}/{_member(client, project, name).person.id}")
        case _:
            answer = client.get(where)
    _print_members(answer, as_json)


def _member(client: Client, project: str, name: str) -> Member:
    for each in client.get(path("projects", project, "members")).decode(Members).members:
        if each.person.name == name:
            return each
    raise Failure(ExitCode.NOT_FOUND, f"{name} is no member of {project}")


def _print_members(answer: Answer, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    print_table(
        ("NAME", "ROLE", "BY", "STATE"),
        [
            (each.person.name, each.role, _source(each), "active" if each.active else "disabled")
            for each in answer.decode(Members).members
        ],
        empty="the project has no members: only admins of the platform, and tokens that are no person's, reach it",
    )


def _source(member: Member) -> str:
    """Return where a member's role comes from."""
    ways = [("name", member.added), ("groups", member.by_groups)]
    return ", ".join(f"{way} ({role})" for way, role in ways if role is not None)
