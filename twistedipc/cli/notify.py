"""`twistedipc project notify …`: to whom a project's news go. ``cli``; used by ``projects``."""

from __future__ import annotations

import sys

import click
from msgspec import UNSET

from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.output import json_option, local_time, note, print_json, print_table
from twistedipc.outgoing.kinds import KINDS, KindName
from twistedipc.outgoing.told import EVENTS, Event
from twistedipc.web.api.schemas import NewReceiver, Receiver, Receivers, Telling, Tellings

#: Of which kinds the address is a secret, and so is asked for and not taken from the command line.
_SECRET_ADDRESS = ("slack", "teams")


@click.command()
@with_client
@click.argument("name")
@click.option("--add", metavar="RECEIVER", help="Set a receiver of this name, with --kind.")
@click.option("--kind", type=click.Choice(list(KINDS)), help="What it is: the repository's host, or another service.")
@click.option(
    "--where",
    help="Of a webhook its address, of mail the addresses, of a repository's host that of its API, if it doesn't "
    "follow from the repository's. Those of slack and teams are secrets, and asked for.",
)
@click.option("--events", metavar="EVENT,…", help=f"What it is told of, of {', '.join(EVENTS)}; else of all.")
@click.option(
    "--secret", "new_secret", is_flag=True, help="Ask for the secret with which a webhook's events are signed."
)
@click.option("--remove", metavar="RECEIVER", help="Tell it nothing more.")
@click.option("--deliveries", is_flag=True, help="Show what was told, and what is to be.")
@click.option("--again", metavar="ID", type=int, help="Tell this one again.")
@json_option
def notify(
    client: Client,
    name: str,
    add: str | None,
    kind: KindName | None,
    where: str | None,
    events: str | None,
    new_secret: bool,
    remove: str | None,
    deliveries: bool,
    again: int | None,
    as_json: bool,
) -> None:
    """Show and set to whom news of the project NAME go.

    The host of its repository (github, gitlab, gitea) shows how each commit and pull request goes. Webhooks, chats and
    mail are told when a build fails, when the next one mends it, when something goes live, and when something waits for
    an approval.
    """
    if sum(each is not None for each in (add, remove, again)) + deliveries > 1:
        raise click.UsageError("--add, --remove, --deliveries and --again are one at a time")
    if add is not None:
        _add(client, name, add, kind, where, events, new_secret, as_json)
    elif remove is not None:
        client.delete(path("projects", name, "receivers", remove))
        note(f"{remove} is told nothing more of {name}")
    elif again is not None:
        told = client.post(path("projects", name, "tellings", str(again), "again")).decode(Telling)
        note(f"{told.receiver} is told again of build {told.build}")
    elif deliveries:
        _show_deliveries(client, name, as_json)
    else:
        _show(client, name, as_json)


def _add(
    client: Client,
    name: str,
    receiver: str,
    kind: KindName | None,
    where: str | None,
    events: str | None,
    new_secret: bool,
    as_json: bool,
) -> None:
    if kind is None:
        raise click.UsageError(f"--add needs --kind, one of {', '.join(KINDS)}")
    if kind in _SECRET_ADDRESS:
        if where is not None:
            raise click.UsageError(f"the address of {kind} is a secret: leave --where out, and it is asked for")
        where = _asked(f"address of {receiver}")
    secret = _asked(f"token of {kind}" if KINDS[kind].host else "secret") if KINDS[kind].host or new_secret else None
    body = NewReceiver(
        kind=kind,
        where=UNSET if where is None else where,
        secret=UNSET if secret is None else secret,
        events=_events(events) or UNSET,
    )
    answer = client.put(path("projects", name, "receivers", receiver), body)
    if as_json:
        print_json(answer)
        return
    made = answer.decode(Receiver)
    note(f"{made.name} is told of {name}")
    if made.secret is not None:
        note("its events are signed with this secret, which isn't shown again:")
        click.echo(made.secret)


def _events(said: str | None) -> list[Event]:
    wanted = [each.strip() for each in said.split(",")] if said else []
    for each in wanted:
        if each not in EVENTS:
            raise click.UsageError(f"there is no event {each}; there are {', '.join(EVENTS)}")
    return [each for each in EVENTS if each in wanted]


def _asked(what: str) -> str:
    """Ask for a secret; without a terminal, read it from standard input."""
    if sys.stdin.isatty():
        found: str = click.prompt(what, hide_input=True, err=True)
        return found
    return sys.stdin.readline().strip()


def _show(client: Client, name: str, as_json: bool) -> None:
    answer = client.get(path("projects", name, "receivers"))
    if as_json:
        print_json(answer)
        return
    print_table(
        ("RECEIVER", "KIND", "WHERE", "EVENTS"),
        [
            (
                each.name,
                each.kind,
                "void: set it again, the project has another repository now" if each.void else each.where or "its API",
                "all that concerns it" if KINDS[each.kind].host else " ".join(each.events),
            )
            for each in answer.decode(Receivers).receivers
        ],
        empty=f"news of {name} go to nobody; `twistedipc project notify {name} --add NAME --kind KIND` adds somebody",
    )


def _show_deliveries(client: Client, name: str, as_json: bool) -> None:
    answer = client.get(path("projects", name, "tellings"))
    if as_json:
        print_json(answer)
        return
    print_table(
        ("ID", "RECEIVER", "WHAT", "BUILD", "STATE", "TRIES", "WHEN", "REASON"),
        [
            (
                each.id,
                each.receiver,
                each.event if each.event and each.part == "event" else f"{each.part} {each.phase}",
                each.build,
                each.state.replace("_", " "),
                each.tries,
                local_time(each.ended) if each.ended else local_time(each.due) if each.due else "",
                each.reason,
            )
            for each in answer.decode(Tellings).tellings
        ],
        empty=f"nothing was told of {name} yet",
    )
