"""An apiserver on a ledger with made logs, alone on this machine's loopback. For `bench.search` and `bench.browser`."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.common.processes import Program, found, python
from tests.integration.platform import toml
from tests.ports import free_port

#: Seconds until the apiserver answers.
DEADLINE = 20.0


@dataclass(frozen=True)
class Served:
    """Where it answers, which process it is, and a token that may read."""

    port: int
    pid: int
    token: str


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve the ledger in ``folder/data``."""
    port = free_port()
    config = folder / "apiserver.toml"
    config.write_text(
        toml(
            {
                "data": "data",
                "http": {"listen": f"tcp:{port}:interface=127.0.0.1"},
                "releases": {"listen": f"tcp:{free_port()}:interface=127.0.0.1"},
                "link": {"dial": ["unix:link.sock"]},
            }
        )
    )
    twistd = [found("twistd", "Twisted"), "-n", "--pidfile=", f"--logfile={folder / 'log'}"]
    with Program([*twistd, "apiserver", "--config", str(config)]) as server:
        _wait(port)
        yield Served(port, server.pid, _token(config))


def _wait(port: int) -> None:
    until = time.monotonic() + DEADLINE
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            return
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


def _token(config: Path) -> str:
    name = f"bench-{time.monotonic_ns()}"
    token = python("twistedipc.cli", "token", "create", name, "--scope", "read", "--json", "--config", config)
    done = subprocess.run(token, check=True, capture_output=True)
    secret: str = json.loads(done.stdout)["token"]
    return secret
