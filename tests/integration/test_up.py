"""`twistedipc up` in a folder: the first release by one command, and what becomes of it when things are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.platform import DEADLINE, git, wait_for
from tests.node import need_node
from tests.ports import free_port
from twistedipc.cli.local import apiserver_toml, builder_toml
from twistedipc.cli.services import Detached

#: As Vite has it: a script that writes hashed names, and never ends where there is a file "hold".
BUILD = """\
import { mkdirSync, writeFileSync, existsSync } from "node:fs";
console.log("building");
while (existsSync("hold")) await new Promise((go) => setTimeout(go, 100));
mkdirSync("dist/assets", { recursive: true });
writeFileSync("dist/assets/index-Blbe_Jou.js", "document.title = 'shop'");
writeFileSync("dist/index.html", '<script type="module" src="/assets/index-Blbe_Jou.js"></script><p>the shop</p>');
"""


class Machine:
    """A person's machine: a home, a repository, and a browser that says what it was given."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.config = folder / "config/twistedipc/credentials.toml"
        self.opened = folder / "opened"
        self.browser = folder / "browser"
        self.browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {self.opened}\n')
        self.browser.chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TWISTEDIPC_")},
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "TWISTEDIPC_DATA": str(self.data),
            "BROWSER": str(self.browser),
        }
        self.shop = self.repository(folder / "shop")

    def repository(self, folder: Path) -> Path:
        folder.mkdir()
        package = {"name": "shop", "private": True, "version": "1.0.0", "scripts": {"build": "node build.mjs"}}
        (folder / "package.json").write_text(json.dumps(package))
        (folder / "build.mjs").write_text(BUILD)
        (folder / ".gitignore").write_text("dist\n")
        git(folder, "init", "-q", "-b", "main")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", "one")
        return folder

    def start(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "twistedipc.cli", *arguments],
            cwd=cwd or self.shop,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None, code: int = 0) -> str:
        process = self.start(*arguments, cwd=cwd)
        said = process.communicate(timeout=DEADLINE)[0]
        assert process.returncode == code, said
        return said

    @property
    def services(self) -> list[Detached]:
        return [
            Detached("apiserver", "apiserver", apiserver_toml(self.data)),
            Detached("builder", "buildipc", builder_toml(self.data)),
        ]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    need_node()
    one = Machine(tmp_path)
    yield one
    for service in one.services:
        if one.data.exists():
            service.stop()


def page_at(address: str) -> str:
    parts = urlsplit(address)
    connection = HTTPConnection("127.0.0.1", parts.port, timeout=DEADLINE)
    try:
        connection.request("GET", "/", headers={"Host": parts.netloc})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def address_in(said: str) -> str:
    found = re.search(r"^live at (\S+)$", said, re.MULTILINE)
    assert found is not None, said
    return found[1]


@pytest.mark.long
def test_from_a_folder_to_a_release(machine: Machine) -> None:
    said = machine.run("up", "--port", str(free_port()))
    assert "<p>the shop</p>" in page_at(address_in(said))
    assert "project shop is added" in said
    # The browser was led to the page by a file that nobody else can read, and no command line has the token.
    opened = machine.opened.read_text()
    assert opened == f"{(machine.data / 'open.html').as_uri()}\n"
    assert stat.S_IMODE((machine.data / "open.html").stat().st_mode) == 0o600
    token = re.search("#token=(tipc_[A-Za-z0-9_-]+)", (machine.data / "open.html").read_text())
    assert token is not None
    assert token[1] in machine.config.read_text()
    assert token[1] not in said
    # The services go on, and the other commands talk to them.
    status = machine.run("status")
    for word in ("local (linked)", "shop", address_in(said)):
        assert word in status
    # The builder has a key of its own, and nothing takes a shared one.
    (builder,) = json.loads(machine.run("builder", "list", "--json"))["builders"]
    assert builder["link"]["key"] == builder["keys"][0]["id"]
    assert not (machine.data / "link.key").exists()
    assert "succeeded" in machine.run("show", "latest")


@pytest.mark.long
def test_once_more(machine: Machine) -> None:
    said = machine.run("up", "--port", str(free_port()))
    opened = machine.opened.read_text()
    # What has died is started again, on the same ports, with what there was.
    before = machine.services[0].pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_for("it is known that it has died", lambda: machine.services[0].ended())
    machine.run("status", code=5)
    git(machine.shop, "switch", "-qc", "new")
    (machine.shop / "build.mjs").write_text(BUILD.replace("the shop", "a new shop"))
    assert "what isn't committed isn't built, and 1 file differs" in machine.run("up", cwd=machine.shop / ".git/..")
    (machine.shop / ".twistedipc.toml").write_text('project = "front"\n')
    git(machine.shop, "add", "-A")
    git(machine.shop, "commit", "-qm", "two")
    # Somebody who is signed in somewhere else goes on there, and is told so.
    kept = machine.config.read_text().replace("local", "own")
    elsewhere = '[contexts.work]\nurl = "https://work.example"\ntoken = "x"\n'
    machine.config.write_text(kept.replace('current = "own"', 'current = "work"') + elsewhere)
    again = machine.run("up")
    assert "the other commands talk to work; `twistedipc use own`" in again
    assert "it is a preview" in again
    assert "added" not in again
    assert "<p>the shop</p>" in page_at(address_in(said))
    assert machine.opened.read_text() == opened
    down = machine.run("down")
    assert "builder is stopped" in down
    assert all(service.ended() for service in machine.services)
    assert "no services are running" in machine.run("down")


@pytest.mark.long
def test_two_at_a_time(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = machine.repository(tmp_path / "other/shop")
    both = [machine.start("up", cwd=machine.shop), machine.start("up", cwd=other)]
    said = [process.communicate(timeout=DEADLINE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("busy with the services: waiting" in each for each in said) == [False, True]
    # Two folders of one name are two projects.
    assert sorted(address_in(each).partition(".")[0] for each in said) == ["http://shop", "http://shop-2"]
    assert "the project is called shop-2: shop is file://" in "".join(said)


@pytest.mark.long
def test_a_build_goes_on_without_anybody(machine: Machine) -> None:
    hold = machine.shop / "hold"
    hold.write_text("")
    git(machine.shop, "add", "-Af")
    git(machine.shop, "commit", "-qm", "held")
    process = machine.start("up", "--no-open")
    assert process.stdout is not None
    for line in process.stdout:
        if line == "building\n":
            break
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=DEADLINE)[0]
    assert process.returncode == 130
    assert "build 1 goes on: `twistedipc logs 1 --follow`" in said
    assert "1 build (1) goes on" in machine.run("down")
    machine.run("logs", "1", code=5)
    # The next one takes the build over.
    hold.unlink()
    git(machine.shop, "commit", "-qam", "not held")
    machine.run("up", "--no-open")
    assert "running" in machine.run("show", "1")
    machine.run("down", "--cancel")
    machine.run("up", "--no-open")
    assert "cancelled" in machine.run("show", "1")


@pytest.mark.long
def test_a_port_that_another_program_has_taken(machine: Machine) -> None:
    port = free_port()
    # The project is called as the repository says.
    (machine.shop / ".twistedipc.toml").write_text('project = "front"\n')
    git(machine.shop, "add", "-A")
    git(machine.shop, "commit", "-qm", "two")
    assert address_in(machine.run("up", "--port", str(port))).startswith("http://front.")
    machine.run("down")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        said = machine.run("up")
        assert f"port {port} is another program's by now" in said
        assert "<p>the shop</p>" in page_at(address_in(said))
        assert f":{port}" not in machine.run("status")
    assert "has the ports now" in machine.run("up", "--port", str(port), code=2)
