"""
README's "for a team", as it stands there: `init`, both services as processes of their own without a shared key, `login`
with a token, a project, a build; and then the page and the release answer.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.integration.platform import DEADLINE, Service, git, wait_for
from tests.node import need_node
from tests.ports import free_port

README = Path(__file__).parent.parent.parent / "README.md"

BUILD = """\
import { mkdirSync, writeFileSync } from "node:fs";
mkdirSync("dist", { recursive: true });
writeFileSync("dist/index.html", "<p>the shop</p>");
"""


class Team:
    """A machine on which README's commands are given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builds = folder / "builds"
        self.services = {
            name: Service(name, self.builds / file)
            for name, file in (("apiserver", "apiserver.toml"), ("buildipc", "builder.toml"))
        }
        self.api, self.releases = free_port(), free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TWISTEDIPC_")},
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }

    def run(self, *arguments: str, text: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "twistedipc.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def use_free_ports(self) -> None:
        config = self.builds / "apiserver.toml"
        text = config.read_text().replace(":8080", f":{self.api}").replace(":8081", f":{self.releases}")
        text = re.sub(r"\btcp:8080\b", f"tcp:{self.api}", text)
        config.write_text(text)
        builder = self.builds / "builder.toml"
        builder.write_text(builder.read_text().replace(":8080", f":{self.api}"))

    def page(self, port: int, host: str, path: str = "/") -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        try:
            connection.request("GET", path, headers={"Host": f"{host}:{port}"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    need_node()
    one = Team(tmp_path)
    yield one
    for service in reversed(one.services.values()):
        if service.config.exists():
            service.stop()


@pytest.mark.long
def test_what_readme_says_for_a_team(team: Team) -> None:
    readme = README.read_text()
    for line in (
        "twistedipc init ~/builds",
        "twistd -n --pidfile= apiserver --config ~/builds/apiserver.toml",
        "twistd -n --pidfile= buildipc --config ~/builds/builder.toml",
        "twistedipc token create me --scope admin --config ~/builds/apiserver.toml",
        "twistedipc project add shop ",
        "twistedipc build shop --follow",
    ):
        assert line in readme, f"README says something else now: change this test as well ({line})"
    said = team.run("init", str(team.builds), "--local-repositories")
    assert "apiserver.toml" in said
    team.use_free_ports()
    # No key is shared: the builder has one of its own, which nobody else reads.
    assert not list(team.builds.rglob("link.key"))
    assert "shared_key" not in (team.builds / "apiserver.toml").read_text()
    [key] = list(team.builds.glob("*.key"))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600

    for service in team.services.values():
        service.start()
    wait_for("the page", lambda: _answers(team))
    token = team.run("token", "create", "me", "--scope", "admin", "--config", str(team.builds / "apiserver.toml"))
    secret = re.search(r"tipc_[A-Za-z0-9_-]+", token)
    assert secret is not None, token
    team.run("login", text=f"http://127.0.0.1:{team.api}\n{secret[0]}\n")
    wait_for("the builder", lambda: json.loads(team.page(team.api, "127.0.0.1", "/healthz")[1])["builders"] == 1)

    shop = team.folder / "shop"
    shop.mkdir()
    package = {"name": "shop", "private": True, "version": "1.0.0", "scripts": {"build": "node build.mjs"}}
    (shop / "package.json").write_text(json.dumps(package))
    (shop / "build.mjs").write_text(BUILD)
    git(shop, "init", "-q", "-b", "main")
    git(shop, "add", "-A")
    git(shop, "commit", "-qm", "one")
    team.run("project", "add", "shop", str(shop))
    said = team.run("build", "shop", "--follow")
    assert "succeeded" in said
    assert f"http://shop.localhost:{team.releases}/" in said
    assert team.page(team.releases, "shop.localhost")[1] == "<p>the shop</p>"
    assert "complete" in team.run("logs", "latest")
    (builder,) = json.loads(team.run("builder", "list", "--json"))["builders"]
    assert builder["link"]["key"] == builder["keys"][0]["id"]
    status, page = team.page(team.api, "127.0.0.1")
    assert status == 200
    assert "<script" in page
    for service in team.services.values():
        service.stop()
        assert "Traceback" not in service.text()


def _answers(team: Team) -> bool:
    try:
        return team.page(team.api, "127.0.0.1", "/healthz")[0] == 200
    except OSError:
        return False
