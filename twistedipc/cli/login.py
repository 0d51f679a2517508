"""`twistedipc login`: keeps an address and a token for the other commands."""

from __future__ import annotations

import click

from twistedipc.builds.roles import INVITATION_PREFIX
from twistedipc.cli.access import (
    DEFAULT_URL,
    Credentials,
    client_for,
    read_credentials,
    token_option,
    url_option,
    write_credentials,
)
from twistedipc.cli.client import path
from twistedipc.cli.output import local_time, note
from twistedipc.web.api.schemas import Acceptance, CreatedToken, Identity


@click.command()
@url_option
@token_option
def login(url: str | None, token: str | None) -> None:
    """Keep an apiserver's address and a token, for the other commands.

    The code of an invitation is as good as a token, once: a token of your own is made with it.
    """
    if url is None:
        kept = read_credentials()
        url = str(click.prompt("Address", default=kept.url if kept is not None else DEFAULT_URL, err=True))
    if token is None:
        token = str(click.prompt("Token, or the code of an invitation", hide_input=True, err=True)).strip()
    client = client_for(url, token)
    if token.startswith(INVITATION_PREFIX):
        token = client.post(path("invitations"), Acceptance(code=token)).decode(CreatedToken).token
        client = client_for(client.url, token)
    identity = client.get(path("identity")).decode(Identity)
    where = write_credentials(Credentials(url=client.url, token=token))
    projects = "all projects" if identity.projects is None else " ".join(identity.projects)
    if identity.roles is not None:
        projects = ", ".join(f"{role} of {name}" for name, role in sorted(identity.roles.items())) or "no project yet"
    if identity.expires is not None:
        projects += f"; until {local_time(identity.expires)}"
    note(f"signed in at {client.url} as {identity.name} ({' '.join(identity.scopes)}; {projects}), kept in {where}")
