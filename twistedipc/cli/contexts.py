"""
What `twistedipc login` keeps: for each server that somebody has signed in to, under a name, its address and a token;
and which of them the commands talk to. Used by ``access``, ``naming``, ``login`` and ``up``.

All of it is one file that nobody else can read. Versions before 0.2 kept one server in it; such a file is read as one
context, and gets the new form when it is written next.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from twistedipc.cli.client import Client
from twistedipc.cli.failures import ExitCode, Failure

#: The server that is asked if nothing says which.
DEFAULT_URL = "http://127.0.0.1:8080"

#: What a context can be called: also a host with its port.
NAME = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A server, and the token that is sent to it."""

    url: str
    token: str

    def is_of(self, url: str) -> bool:
        """Return whether this is the server's address."""
        return self.url.rstrip("/") == url.rstrip("/")


class Contexts(msgspec.Struct, frozen=True, kw_only=True):
    """All contexts by name, and the name of the one that commands use ("": none)."""

    current: str = ""
    contexts: dict[Annotated[str, msgspec.Meta(pattern=f"^{NAME}$")], Context] = {}

    def get(self, name: str) -> Context:
        """Return a context. Raises `Failure`, which names those that there are."""
        if name not in self.contexts:
            known = ", ".join(sorted(self.contexts))
            there = f"there are {known}" if known else f"there is none yet: twistedipc login {name}"
            raise Failure(ExitCode.NOT_FOUND, f"there is no context {name}; {there}")
        return self.contexts[name]

    def in_use(self) -> Context | None:
        """Return the context that commands use if nothing else is said."""
        return self.contexts.get(self.current)

    def of(self, url: str) -> str | None:
        """Return the name of a context of this server: the one in use, if it is."""
        found = [name for name, context in self.contexts.items() if context.is_of(url)]
        return self.current if self.current in found else next(iter(found), None)

    def with_one(self, name: str, context: Context, *, use: bool) -> Contexts:
        """Return these with this one under its name, and perhaps used from now on."""
        return Contexts(current=name if use else self.current, contexts={**self.contexts, name: context})

    def using(self, name: str) -> Contexts:
        """Return these with another one in use. Raises `Failure` if there is none of this name."""
        self.get(name)
        return Contexts(current=name, contexts=self.contexts)

    def without(self, name: str) -> Contexts:
        """Return these without one; if it was in use, none is."""
        left = {key: context for key, context in self.contexts.items() if key != name}
        return Contexts(current="" if self.current == name else self.current, contexts=left)


def name_for(url: str) -> str:
    """Return what a server's context is called if nobody says: its host, with its port if it isn't the usual one."""
    place = re.sub(r"[^A-Za-z0-9._:-]", "", urlsplit(url).netloc.rpartition("@")[2])
    return place if re.fullmatch(NAME, place) else "server"


def contexts_path() -> Path:
    """Return the file's path, after the XDG base directory specification."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification ignores relative paths.
    base = Path(configured) if os.path.isabs(configured) else Path.home() / ".config"
    return base / "twistedipc" / "credentials.toml"


def read_contexts() -> Contexts:
    """Return what is kept. Raises `Failure` if the file can't be read or is malformed."""
    path = contexts_path()
    try:
        found = tomllib.loads(path.read_text("utf-8"))
        if "url" in found:
            before = msgspec.convert(found, Context)
            name = name_for(before.url)
            return Contexts(current=name, contexts={name: before})
        return msgspec.convert(found, Contexts)
    except FileNotFoundError:
        return Contexts()
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise Failure(
            ExitCode.USAGE, f"{path} can't be used ({error}); remove it, and `twistedipc login` writes a new one"
        ) from error


def write_contexts(kept: Contexts) -> Path:
    """Write the file, which nobody else can read, whole or not at all."""
    path = contexts_path()
    # JSON's strings are TOML's, and so are its keys in quotes.
    lines = [f"current = {json.dumps(kept.current)}"]
    for name, context in kept.contexts.items():
        lines += ["", f"[contexts.{json.dumps(name)}]", f"url = {json.dumps(context.url)}"]
        lines += [f"token = {json.dumps(context.token)}"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes it with mode 0600.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".credentials.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{path} can't be written: {error.strerror}") from error
    return path


def client_for(url: str | None, token: str | None, context: str | None = None) -> Client:
    """
    Return the client for these options; a ``context`` is taken for what they don't say. A kept token is sent only to
    the server that it was kept for.
    """
    if url is None or token is None:
        kept = read_contexts()
        used = kept.get(context) if context else kept.in_use()
        if url is None:
            url = used.url if used is not None else DEFAULT_URL
        if token is None:
            if used is None or not used.is_of(url):
                used = kept.contexts.get(kept.of(url) or "")
            token = used.token if used is not None else ""
    return Client(url, token)
