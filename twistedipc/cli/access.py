"""
Which apiserver a command talks to, and with which token: options go first, then the environment, then what `twistedipc
login` has kept. Used by the commands that talk HTTP.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec

import click
import msgspec

from twistedipc.cli.client import Client
from twistedipc.cli.failures import ExitCode, Failure

DEFAULT_URL = "http://127.0.0.1:8080"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What `twistedipc login` keeps."""

    url: str
    token: str


def credentials_path() -> Path:
    """Return the path of the credentials, after the XDG base directory specification."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification ignores relative paths.
    base = Path(configured) if os.path.isabs(configured) else Path.home() / ".config"
    return base / "twistedipc" / "credentials.toml"


def read_credentials() -> Credentials | None:
    """Return what is kept, or None. Raises `Failure` if the file can't be read or is malformed."""
    path = credentials_path()
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Credentials)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise Failure(ExitCode.USAGE, f"{path} can't be used ({error}); `twistedipc login` writes a new one") from error


def write_credentials(credentials: Credentials) -> Path:
    """Write the credentials to a file that nobody else can read, whole or not at all."""
    path = credentials_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes it with mode 0600.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".credentials.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            # JSON's strings are TOML's.
            file.write(f"url = {json.dumps(credentials.url)}\ntoken = {json.dumps(credentials.token)}\n")
        os.replace(temporary, path)
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{path} can't be written: {error.strerror}") from error
    return path


def client_for(url: str | None, token: str | None) -> Client:
    """Return the client for these options. A kept token is sent only to the server that it was kept for."""
    if url is None or token is None:
        kept = read_credentials()
        if url is None:
            url = kept.url if kept is not None else DEFAULT_URL
        if token is None:
            token = kept.token if kept is not None and kept.url.rstrip("/") == url.rstrip("/") else ""
    return Client(url, token)


_P = ParamSpec("_P")

url_option = click.option(
    "--url",
    envvar="TWISTEDIPC_URL",
    metavar="ADDRESS",
    help=f"The apiserver's address (TWISTEDIPC_URL; else the one signed in to, else {DEFAULT_URL}).",
)
token_option = click.option(
    "--token",
    envvar="TWISTEDIPC_TOKEN",
    metavar="TOKEN",
    help="The token to use (better in TWISTEDIPC_TOKEN, where other users of this machine can't see it).",
)


def with_client(command: Callable[Concatenate[Client, _P], None]) -> Callable[..., None]:
    """Decorate a command: it gets the options --url and --token, and a client made from them as its first argument."""

    @url_option
    @token_option
    @functools.wraps(command)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> None:
        url, token = kwargs.pop("url"), kwargs.pop("token")
        assert url is None or isinstance(url, str)
        assert token is None or isinstance(token, str)
        client = client_for(url, token)
        try:
            command(client, *args, **kwargs)
        finally:
            if client.expires:
                click.echo(f"note: your token expires at {client.expires}: have another one made", err=True)

    return call
