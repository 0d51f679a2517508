"""
Which apiserver a command talks to, and with which token: options go first, then the environment, then what `twistedipc
login` has kept. Used by the commands that talk HTTP.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import click
from click.core import ParameterSource

from twistedipc.cli.client import Client
from twistedipc.cli.contexts import DEFAULT_URL, client_for
from twistedipc.cli.naming import resolved

_P = ParamSpec("_P")

url_option = click.option(
    "--url",
    envvar="TWISTEDIPC_URL",
    metavar="ADDRESS",
    help=f"The apiserver's address (TWISTEDIPC_URL; else that of the context in use, else {DEFAULT_URL}).",
)
token_option = click.option(
    "--token",
    envvar="TWISTEDIPC_TOKEN",
    metavar="TOKEN",
    help="The token to use (better in TWISTEDIPC_TOKEN, where other users of this machine can't see it).",
)
server_option = click.option(
    "--server",
    envvar="TWISTEDIPC_SERVER",
    metavar="NAME",
    help="One of the servers signed in to (TWISTEDIPC_SERVER; else the one in use: `twistedipc use`).",
)


def chosen_client(url: str | None, token: str | None, server: str | None) -> Client:
    """Return the client for the options of the command that runs."""
    if server and _is_typed("server"):
        # What was typed goes before what is in the environment.
        if _is_typed("url"):
            raise click.UsageError("--server and --url contradict one another: a server that is kept has an address")
        return client_for(None, token if _is_typed("token") else None, server)
    return client_for(url, token, server)


def _is_typed(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def with_client(command: Callable[Concatenate[Client, _P], None]) -> Callable[..., None]:
    """
    Decorate a command: it gets the options --url, --token and --server, and a client made from them as its first
    argument. What its other arguments leave to the server, or to the folder (`naming.Asked`), is found out before.
    """

    @url_option
    @token_option
    @server_option
    @functools.wraps(command)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> None:
        url, token, server = kwargs.pop("url"), kwargs.pop("token"), kwargs.pop("server")
        assert url is None or isinstance(url, str)
        assert token is None or isinstance(token, str)
        assert server is None or isinstance(server, str)
        client = chosen_client(url, token, server)
        try:
            resolved(client, kwargs)
            command(client, *args, **kwargs)
        finally:
            if client.expires:
                click.echo(f"note: your token expires at {client.expires}: have another one made", err=True)

    return call
