"""
A platform of one's own on this machine: what `demo` and `up` have in common. Its folder is as `init` writes it; both
services work in it, and the first token is made in its ledger.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection

from twistedipc.builds.isolation import Isolation
from twistedipc.cli.client import Client
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.joining import load as load_joined
from twistedipc.cli.ledger import milliseconds, read_beside, write_in_ledger
from twistedipc.cli.services import Started, check_alive, free_port, is_free, logs_of
from twistedipc.cli.setup import BUILDER_KEY, SHARED_KEY, Setup, write_setup
from twistedipc.cli.tokens import create_in_ledger, user_here
from twistedipc.ipc import BadKey, NamedKey, make_named_key, read_named_key, write_named_key
from twistedipc.isolation.probe import Wanted, find_isolation
from twistedipc.storage import audit, builders, tokens
from twistedipc.storage.rows import Actor
from twistedipc.storage.secrets import SecretBox
from twistedipc.taps.config import ApiserverConfig, ConfigError, load_apiserver
from twistedipc.web.api.schemas import Health, NewToken

#: Seconds for the services to start and find one another.
START_DEADLINE: Final = 30.0

#: The port of the API and the page, if it is free; that of the releases follows it.
PORT: Final = 8080

_LISTENED = re.compile(r"tcp:([0-9]{1,5}):interface=127\.0\.0\.1")


def state_folder() -> Path:
    """Return where everything is unless something else is said, after the XDG base directory specification."""
    configured = os.environ.get("XDG_STATE_HOME", "")
    base = Path(configured) if os.path.isabs(configured) else Path.home() / ".local" / "state"
    return base / "twistedipc"


def apiserver_toml(folder: Path) -> Path:
    """Return where the apiserver's configuration is."""
    return folder / "apiserver.toml"


def builder_toml(folder: Path) -> Path:
    """Return where the builder's configuration is."""
    return folder / "builder.toml"


def write_local_setup(
    folder: Path,
    *,
    port: int | None,
    builder: str,
    steps_path: str,
    isolation: str = "",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> ApiserverConfig:
    """
    Write the configuration of both services, on free ports of this machine. `give_builder_key` makes the key that it
    names. Raises `Failure`.
    """
    api_port = free_port(PORT) if port is None else port
    write_setup(
        folder,
        Setup(
            http_listen=f"tcp:{api_port}:interface=127.0.0.1",
            releases_port=free_port(api_port + 1),
            local_repositories=True,
            key="later",
            builder_name=builder,
            steps_path=steps_path,
            isolation=isolation,
            environment=environment,
        ),
    )
    return load_local(folder)


def load_local(folder: Path) -> ApiserverConfig:
    """Return the apiserver's configuration. Raises `Failure`: the folder's path may be too long for sockets, say."""
    try:
        return load_apiserver(apiserver_toml(folder))
    except ConfigError as error:
        raise Failure(ExitCode.USAGE, str(error)) from error


def give_builder_key(folder: Path) -> None:
    """
    See to it that the builder has a key of its own, as a file and in the ledger; also where `up` of an older version
    has set both services up with a shared one. They must not be running. Raises `Failure`.
    """
    builder = load_joined(builder_toml(folder))
    path = folder / BUILDER_KEY
    if builder.link.key not in (path, folder / SHARED_KEY):
        return  # it was set up otherwise since
    config = load_local(folder)
    with contextlib.suppress(OSError, BadKey):
        if builder.link.key == path and _is_good(config, builder.name, read_named_key(path).id):
            return
    key = make_named_key(builder.name, "builder")
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)  # the apiserver's, which may never have run
    sealed = SecretBox(config.secret_key).seal(key.secret.hex())
    write_in_ledger(config, _keep_builder_key, key, sealed, milliseconds())
    path.unlink(missing_ok=True)
    write_named_key(path, key)
    for file, before, after in (
        (builder_toml(folder), f'key = "{SHARED_KEY}"', f'key = "{BUILDER_KEY}"'),
        (apiserver_toml(folder), f'key = "{SHARED_KEY}"', '# key = ""'),
    ):
        text = file.read_text("utf-8")
        file.write_text(re.sub(rf"(?m)^{re.escape(before)}$", after, text), "utf-8")


def _is_good(config: ApiserverConfig, name: str, id: str) -> bool:
    """Return whether a builder's key is in the ledger, which may have been deleted since, or be of another version."""
    known = read_beside(config, lambda connection: builders.get(connection, name))
    return known is not None and any(key.id == id and key.revoked is None for key in known.keys)


def _keep_builder_key(connection: Connection, key: NamedKey, sealed: bytes, now: int) -> None:
    known = builders.get(connection, key.name)
    if known is None or all(each.revoked is not None for each in known.keys):
        builders.add(connection, name=key.name, pools=(), shared=False, id=key.id, sealed=sealed, now=now)
        action = "builder.add"
    else:
        builders.add_key(connection, key.name, id=key.id, sealed=sealed, now=now)
        action = "builder.rotate"
    by = Actor(who=user_here(), kind="machine")
    audit.record(connection, by=by, action=action, subject=key.name, project=None, detail={"key": key.id}, now=now)


def leave_taken_ports(folder: Path) -> list[tuple[int, int]]:
    """
    Change the ports at which the apiserver would listen, but other programs do by now, to free ones. Return those that
    were changed, each with the one in its place. Its services must not be running.
    """
    config = load_local(folder)
    listened = [config.http.listen, *config.releases.endpoints]
    ports = dict.fromkeys(int(port) for text in listened for port in _LISTENED.findall(text))
    moved: list[tuple[int, int]] = []
    text = apiserver_toml(folder).read_text("utf-8")
    for port in ports:
        if is_free(port):
            continue
        other = free_port(0)
        text = re.sub(rf"\btcp:{port}:interface=127\.", f"tcp:{other}:interface=127.", text)
        moved.append((port, other))
    if moved:
        apiserver_toml(folder).write_text(text, "utf-8")
    return moved


def isolation_here(folder: Path, steps_path: str) -> Isolation:
    """Return what would isolate the builds of a builder in this folder."""
    return find_isolation(Wanted(path=steps_path, data=str(folder / "builder")))


def new_token(folder: Path, name: str, days: int) -> str:
    """Return a new token for everything. Those of the same name are revoked, since nothing uses them any more."""
    config = load_local(folder)
    now = milliseconds()
    for row in write_in_ledger(config, tokens.list_all):
        if row.name == name and row.revoked is None:
            write_in_ledger(config, tokens.revoke, row.id, now)
    body = NewToken(name=name, scopes=["admin"], expires_in=days * 86400)
    return create_in_ledger(apiserver_toml(folder), body).token


def wait_until_ready(client: Client, services: Sequence[Started]) -> None:
    """Wait until the apiserver answers that a builder is linked. Raises `Failure`."""
    deadline = time.monotonic() + START_DEADLINE
    why = ""
    while time.monotonic() < deadline:
        check_alive(services)
        try:
            health = client.get("/healthz").decode(Health)
        except Failure as error:
            why = error.message
        else:
            if health.status == "ok" and health.builders >= 1:
                return
            why = f"status {health.status}, database {health.database}, {health.builders} builders"
        time.sleep(0.1)
    raise Failure(
        ExitCode.UNAVAILABLE, f"the services aren't ready after {START_DEADLINE:.0f} s: {why}\n{logs_of(services)}"
    )
