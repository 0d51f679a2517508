"""
`twistedipc project key` and `twistedipc project hosts`: how a private repository is read. ``cli``; used by
``projects``.
"""

from __future__ import annotations

import sys

import click

from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, note, print_json
from twistedipc.web.api.schemas import KnownHosts, Project, RepositoryAccess

#: The most characters that are read of host keys.
MAX_LINES = 64 * 1024


def fields_of(found: Project) -> list[tuple[str, object]]:
    """What a project's private repository is read with, as fields for people."""
    access = found.access
    if access is None:
        return []
    keys = ", ".join(f"{key.line.split(' ')[1]} {key.fingerprint}" for key in access.host_keys)
    pinned = keys or ("pinned at the first contact" if access.host.startswith("ssh://") else "")
    return [
        ("credentials for", access.host),
        *([("deploy key", access.public_key)] if access.public_key else []),
        *([("git_token", "is set")] if access.token else []),
        *([("host key", pinned)] if pinned else []),
    ]


@click.command()
@with_client
@click.argument("name")
@click.option("--new", is_flag=True, help="Make another key in the place of the one that there is.")
@click.option("--remove", is_flag=True, help="Erase the key.")
@json_option
def key(client: Client, name: str, new: bool, remove: bool, as_json: bool) -> None:
    """Make a deploy key for the private repository of the project NAME, and print its public half.

    Add that to the repository at its host, as a deploy key that may read. The private half is never shown. If there is
    a key already, its public half is printed.
    """
    where = path("projects", name, "deploy-key")
    if remove:
        client.delete(where)
        note(f"the deploy key of {name} is erased; remove it at the host too")
        return
    access = client.get(path("projects", name)).decode(Project).access
    if new or access is None or not access.public_key:
        answer = client.post(where, None)
        if as_json:
            print_json(answer)
            return
        access = answer.decode(RepositoryAccess)
        note(f"made a deploy key for {access.host}; add it to the repository there, as one that may read:")
    if as_json:
        print_json(client.get(path("projects", name)))
        return
    click.echo(access.public_key)


@click.command()
@with_client
@click.argument("name")
@click.option("--set", "set_them", is_flag=True, help="Set them: known_hosts lines, from standard input.")
@click.option("--forget", is_flag=True, help="Forget them: what the host shows next is pinned.")
def hosts(client: Client, name: str, set_them: bool, forget: bool) -> None:
    """Show, set or forget the host keys of the private repository of the project NAME.

    Without --set, the key that the host shows at the first contact is pinned: a build fails once it shows another.
    """
    where = path("projects", name, "known-hosts")
    if set_them and forget:
        raise Failure(ExitCode.USAGE, "give one of --set and --forget")
    if forget:
        client.delete(where)
        note(f"the host keys of {name} are forgotten; what the host shows next is pinned")
        return
    if set_them:
        access: RepositoryAccess | None = client.put(
            where, KnownHosts(lines=sys.stdin.read(MAX_LINES + 1)[:MAX_LINES])
        ).decode(RepositoryAccess)
        note(f"the host keys of {name} are set")
    else:
        access = client.get(path("projects", name)).decode(Project).access
    if access is None or not access.host_keys:
        note("no host key is pinned yet")
        return
    for each in access.host_keys:
        click.echo(f"{each.line}\t{each.fingerprint}")
