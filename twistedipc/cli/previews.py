"""`twistedipc project previews`: a project's previews, and the password by which guests see them. ``cli``."""

from __future__ import annotations

import sys

import click

from twistedipc.builds import names
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, local_time, note, print_json, print_table
from twistedipc.web.api.schemas import NewPreviewPassword, Releases


@click.command("previews")
@with_client
@click.argument("name")
@click.option(
    "--password/--no-password",
    default=None,
    help="Set the password by which guests see the previews, asked for or read from standard input; or have none.",
)
@json_option
def previews(client: Client, name: str, password: bool | None, as_json: bool) -> None:
    """List the previews of the project NAME, or say by which password guests see them.

    Another password ends what the one before it has opened. Members of the project go on seeing previews by signing in.
    """
    where = path("projects", name, "previews", "password")
    if password:
        client.put(where, NewPreviewPassword(password=_password(name)))
        note(f"the previews of {name} are for guests with this password from now on, and for its team")
        return
    if password is False:
        client.delete(where)
        note(
            f"the previews of {name} have no password any more: `twistedipc project show {name}` says whom they are for"
        )
        return
    answer = client.get(path("projects", name, "releases"))
    if as_json:
        print_json(answer)
        return
    found = answer.decode(Releases)
    print_table(
        ("REF", "ADDRESS", "BUILD", "COMMIT", "SINCE", "ENDS"),
        [
            (
                each.ref.removeprefix("refs/heads/"),
                each.url,
                each.build,
                each.commit[:12],
                local_time(each.since),
                local_time(each.ends) if each.ends is not None else "with its ref",
            )
            for each in found.previews
        ],
        empty=f"{name} has no previews of branches or pull requests",
    )
    if found.password_since is not None:
        note(f"they have a password since {local_time(found.password_since)}")


def _password(name: str) -> str:
    """Ask for a password, or read it. It is no argument: others could read that. Raises `Failure`."""
    if sys.stdin.isatty():
        given = str(
            click.prompt(f"Password for the previews of {name}", hide_input=True, confirmation_prompt="Again", err=True)
        )
    else:
        given = sys.stdin.read(names.MAX_PASSWORD + 3).rstrip("\r\n")
    if not names.MIN_PASSWORD <= len(given) <= names.MAX_PASSWORD or not given.isprintable():
        raise Failure(
            ExitCode.USAGE,
            f"a password has {names.MIN_PASSWORD} to {names.MAX_PASSWORD} characters, all of which can be printed",
        )
    return given
