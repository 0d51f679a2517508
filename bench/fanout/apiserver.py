"""The real apiserver as a process on the server's core, with an attempt that runs, for `bench.fanout`."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.common.processes import CLIENT_CORE, SERVER_CORE, Program, found, python
from bench.fanout.viewers import Serving
from tests.integration.platform import toml
from tests.ports import free_port

#: Seconds until it answers.
DEADLINE = 20.0


@contextmanager
def apiserver(program: Sequence[str] = ()) -> Iterator[Serving]:
    """
    ``twistd apiserver``, the stand-in for a builder (`bench.fanout.builder`), and a build that has begun. ``program``
    is another command that does what twistd does.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port, feed_port = free_port(), free_port()
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
        twistd = [*(program or [found("twistd", "Twisted")]), "-n", "--pidfile=", f"--logfile={folder / 'log'}"]
        service = [*twistd, "apiserver", "--config", str(config)]
        builder = python("bench.fanout.builder", f"unix:{folder / 'link.sock'}", feed_port)
        with Program(builder, core=CLIENT_CORE) as source, Program(service, core=SERVER_CORE) as server:
            url = f"http://127.0.0.1:{port}"
            _wait(url)
            headers = {"Authorization": f"Bearer {_token(config)}", "Content-Type": "application/json"}
            _post(f"{url}/api/v1/projects", headers, {"name": "log", "repository": "https://git.invalid/log.git"})
            build = _post(f"{url}/api/v1/projects/log/builds", headers, {})["id"]
            source.said(DEADLINE)
            yield Serving(
                port=port,
                feed_port=feed_port,
                path=f"/api/v1/builds/{build}/log/stream",
                headers=(f"Authorization: {headers['Authorization']}",),
                program=server,
                folder=folder,
            )


def _token(config: Path) -> str:
    command = python("twistedipc.cli", "token", "create", "bench", "--scope", "admin", "--json", "--config", config)
    done = subprocess.run(command, check=True, capture_output=True)
    token: str = json.loads(done.stdout)["token"]
    return token


def _wait(url: str) -> None:
    until = time.monotonic() + DEADLINE
    while True:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=DEADLINE) as answer:
                if json.load(answer)["builders"] == 1:
                    return
        except OSError:
            pass
        if time.monotonic() > until:
            raise TimeoutError("the apiserver does not answer")
        time.sleep(0.02)


def _post(url: str, headers: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        made: dict[str, Any] = json.load(answer)
    return made
