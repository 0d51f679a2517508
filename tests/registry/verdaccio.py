"""A Verdaccio, for tests against a registry that others wrote. It is installed once, in a folder that stays."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node import node_environment, npm
from tests.integration.platform import wait_for
from tests.node import need_node
from tests.ports import free_port

VERDACCIO = "verdaccio@6"


def installed() -> Path:
    """Return the folder with Verdaccio's packages, for all tests of this user. The test is skipped if there is none."""
    need_node()
    folder = Path(tempfile.gettempdir()) / f"twistedipc-tests-{os.getuid()}" / VERDACCIO
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        pytest.skip(f"{folder} is somebody else's")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder / "packages", ignore_errors=True)
            (folder / "packages").mkdir()
            # A dependency of a dependency asks for a dist-tag of node-fetch, which not every registry's mirror has.
            (folder / "packages/package.json").write_text('{"private": true, "overrides": {"node-fetch": "2.7.0"}}')
            try:
                npm(folder / "packages", "install", VERDACCIO)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"{VERDACCIO} can't be installed: {str(error)[-300:]}")
            (folder / "complete").touch()
    return folder / "packages"


class Verdaccio:
    """A Verdaccio of the test's own."""

    def __init__(self, folder: Path) -> None:
        program = installed() / "node_modules/verdaccio/bin/verdaccio"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        config = {
            "storage": str(folder / "storage"),
            "auth": {"htpasswd": {"file": str(folder / "htpasswd"), "max_users": 10}},
            "uplinks": {},
            "packages": {"**": {"access": "$all", "publish": "$authenticated"}},
            "log": {"type": "stdout", "format": "json", "level": "warn"},
            "web": {"enable": False},
        }
        # JSON is YAML.
        (folder / "config.yaml").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(need_node() / "node"),
                    str(program),
                    "--config",
                    str(folder / "config.yaml"),
                    "--listen",
                    f"127.0.0.1:{self.port}",
                ],
                env=node_environment(folder),
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for("Verdaccio answers", self.answers)
            self.token = self._sign_up()
        except BaseException:
            self.stop()
            raise

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            with urllib.request.urlopen(self.url + "-/ping", timeout=5):
                return True
        except OSError:
            return False

    def _sign_up(self) -> str:
        body = json.dumps({"name": "publisher", "password": "a-password-of-a-test"}).encode()
        request = urllib.request.Request(
            self.url + "-/user/org.couchdb.user:publisher",
            data=body,
            method="PUT",
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            token: str = json.load(response)["token"]
            return token

    def package(self, name: str) -> dict[str, Any]:
        """What the registry has of a package."""
        with urllib.request.urlopen(self.url + name, timeout=20) as response:
            found: dict[str, Any] = json.load(response)
            return found

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def running_verdaccio(folder: Path) -> Iterator[Verdaccio]:
    """A Verdaccio with its packages in a folder, while it is needed."""
    verdaccio = Verdaccio(folder)
    try:
        yield verdaccio
    finally:
        verdaccio.stop()
