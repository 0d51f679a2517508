"""`twistedipc login`, `use`, `whoami` and `logout`: which servers the other commands talk to, by which tokens."""

from __future__ import annotations

import re
import sys

import click

from twistedipc.builds.roles import INVITATION_PREFIX
from twistedipc.cli.access import token_option, url_option, with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.contexts import (
    DEFAULT_URL,
    NAME,
    Context,
    client_for,
    name_for,
    read_contexts,
    write_contexts,
)
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, local_time, note, print_fields, print_json, print_table
from twistedipc.web.api.schemas import Acceptance, CreatedToken, Identity


@click.command()
@url_option
@token_option
@click.argument("name", required=False)
def login(url: str | None, token: str | None, name: str | None) -> None:
    """Sign in to an apiserver: keep its address and a token for the other commands, under NAME.

    They talk to it from now on; `twistedipc use` changes between several. Without a NAME it is the host's. The code of
    an invitation is as good as a token, once: a token of your own is made with it.
    """
    kept = read_contexts()
    if name is not None and not re.fullmatch(NAME, name):
        raise click.UsageError("a context's name has 1 to 100 letters, digits and . _ : -, and begins with a letter")
    before = kept.contexts.get(name) if name is not None else kept.in_use()
    if url is None:
        url = str(click.prompt("Address", default=before.url if before is not None else DEFAULT_URL, err=True))
    if name is not None and before is not None and not before.is_of(url):
        raise Failure(
            ExitCode.USAGE,
            f"{name} is {before.url}: choose another name for {url}, or `twistedipc logout {name}` first",
        )
    if token is None:
        token = _asked_token()
    client = client_for(url, token)
    if token.startswith(INVITATION_PREFIX):
        token = client.post(path("invitations"), Acceptance(code=token)).decode(CreatedToken).token
        client = client_for(client.url, token)
    identity = client.get(path("identity")).decode(Identity)
    if name is None:
        name = kept.of(client.url) or name_for(client.url)
    where = write_contexts(kept.with_one(name, Context(url=client.url, token=token), use=True))
    note(f"signed in at {client.url} as {identity.name} ({_rights(identity)}), kept in {where} as {name}")
    if kept.current not in ("", name):
        note(f"the commands talk to {name} now; `twistedipc use {kept.current}` goes back")


@click.command()
@click.argument("name", required=False)
def use(name: str | None) -> None:
    """Have the commands talk to the server kept under NAME; without a NAME, list those that are kept."""
    kept = read_contexts()
    if name is not None:
        write_contexts(kept.using(name))
        note(f"the commands talk to {name} now, {kept.contexts[name].url}")
        return
    rows = [("*" if each == kept.current else "", each, kept.contexts[each].url) for each in sorted(kept.contexts)]
    print_table(("", "NAME", "ADDRESS"), rows, empty="you are signed in nowhere: `twistedipc login`")


@click.command()
@with_client
@json_option
def whoami(client: Client, as_json: bool) -> None:
    """Say which server the commands talk to, and as whom."""
    answer = client.get(path("identity"))
    if as_json:
        print_json(answer)
        return
    identity = answer.decode(Identity)
    print_fields(
        [
            ("context", read_contexts().of(client.url)),
            ("server", client.url),
            ("name", identity.name),
            ("person", identity.person.name if identity.person is not None else None),
            ("may", _rights(identity)),
        ]
    )


@click.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Of all servers.")
@click.option("--keep", is_flag=True, help="Only forget it: something else uses the token too.")
def logout(name: str | None, everything: bool, keep: bool) -> None:
    """Revoke the token kept under NAME, or that of the context in use, and forget it."""
    kept = read_contexts()
    if everything and name is not None:
        raise click.UsageError("--all is without a NAME")
    gone = sorted(kept.contexts) if everything else [name or kept.current]
    if not any(gone):
        note("you are signed in nowhere")
        return
    tokens = {each: kept.get(each) for each in gone}
    for each in gone:
        kept = kept.without(each)
    # In this order: what can't be revoked is known no more here all the same, and a token that is can't be kept.
    said = {each: "forgotten, and stays valid" if keep else _revoke(context) for each, context in tokens.items()}
    write_contexts(kept)
    for each, what in said.items():
        note(f"{each}: its token is {what}")
    if kept.contexts and not kept.current:
        note(f"no context is in use: `twistedipc use {min(kept.contexts)}`, for one")


def _revoke(context: Context) -> str:
    """Revoke a token; return what it is afterwards, for people."""
    try:
        client_for(context.url, context.token).delete(path("identity", "token"))
    except Failure as error:
        if error.exit_code == ExitCode.NOT_ALLOWED:
            return "forgotten; it wasn't valid any more"
        return f"forgotten, but couldn't be revoked, and stays valid until it ends: {error.message}"
    return "revoked and forgotten"


def _asked_token() -> str:
    """Ask for the token; from a pipe it is the next line."""
    if sys.stdin.isatty():
        return str(click.prompt("Token, or the code of an invitation", hide_input=True, err=True)).strip()
    token = sys.stdin.readline().strip()
    if not token:
        raise click.UsageError("there is no token on standard input: give a line with it, or --token")
    return token


def _rights(identity: Identity) -> str:
    projects = "all projects" if identity.projects is None else " ".join(identity.projects)
    if identity.roles is not None:
        projects = ", ".join(f"{role} of {name}" for name, role in sorted(identity.roles.items())) or "no project yet"
    if identity.expires is not None:
        projects += f"; until {local_time(identity.expires)}"
    return f"{' '.join(identity.scopes)}; {projects}"
