"""`twistedipc replay`: a build once more, by the real runner; the server only says what the build was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_server import Server, as_json, serving
from tests.integration.platform import DEADLINE, git
from tests.test_cli_commands import ATTEMPT, DETAIL, STEP
from tests.test_cli_contexts import project
from twistedipc.cli.failures import ExitCode

PLAN = """\
[build]
steps = [{name = "see", run = "echo mode=$MODE word=$WORD; ls"}, {name = "test", run = "sh test.sh"}]
output = "site"
"""


class World:
    """A server that knows a build, and a folder with its repository."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.data = folder / "state"
        self.work = folder / "shop"
        (self.work / "site").mkdir(parents=True)
        (self.work / "site/index.html").write_text("hi")
        (self.work / ".twistedipc.toml").write_text(PLAN)
        (self.work / "test.sh").write_text("echo tested")
        git(self.work, "init", "-q", "-b", "main")
        self.commit("one")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TWISTEDIPC_")},
            "TWISTEDIPC_URL": server.url,
            "TWISTEDIPC_TOKEN": "tipc_t",
            "XDG_STATE_HOME": str(self.data),
        }

    def commit(self, message: str) -> None:
        """Commit what is there, and say to the server that build 7 was of that."""
        git(self.work, "add", "-A")
        git(self.work, "commit", "-qm", message)
        made = {**ATTEMPT, "isolation": "chroot", "steps": [{**STEP, "name": "test", "outcome": "failed"}]}
        told = {
            "commit": git(self.work, "rev-parse", "HEAD"),
            "parameters": {"MODE": "quick"},
            "environment": "preview",
        }
        self.server.on("GET /api/v1/builds/7", as_json({**DETAIL, **told, "attempts": [made]}))
        secret = {"name": "KEY", "steps": "all", "builds": "all", "updated": "2026-01-02T03:04:05Z"}
        # The repository itself is out of reach here: the folder has the commit.
        of = {
            **project("shop", "https://git.example.org/team/shop"),
            "targets": [{"type": "static"}],
            "environment": {"WORD": "known", "HIDDEN": None},
            "timeout": 60.0,
            "idle_timeout": 60.0,
            "build_secrets": [secret],
        }
        self.server.on("GET /api/v1/projects/shop", as_json(of))

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "twistedipc.cli", "replay", "7"],
            cwd=self.work,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def replay(self, code: ExitCode) -> str:
        process = self.start()
        said = process.communicate(timeout=DEADLINE)[0]
        assert process.returncode == code, said
        return said

    @property
    def attempts(self) -> list[Path]:
        return list((self.data / "twistedipc/replay/attempts").iterdir())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serving() as server:
        yield World(server, tmp_path)


@pytest.mark.long
def test_a_build_is_replayed(world: World) -> None:
    (world.work / "uncommitted").write_text("")
    said = world.replay(ExitCode.OK)
    assert "mode=quick word=known" in said
    assert "tested" in said
    assert "uncommitted" not in said
    for sentence in (
        "secrets aren't given: KEY",
        "their values are for admins: HIDDEN",
        "here, and was by chroot on b1",
        "the replay succeeded",
    ):
        assert sentence in said
    assert "test\tsucceeded\t" in said
    assert "\tfailed\t1.5 s" in said
    assert {asked.method for asked in world.server.asked} == {"GET"}
    # What it has made stays, until the next one.
    [first] = world.attempts
    assert (first / "work/site/index.html").read_text() == "hi"
    (world.work / "test.sh").write_text("echo broken; exit 3")
    world.commit("two")
    said = world.replay(ExitCode.NOT_SUCCEEDED)
    assert "the replay failed: step test ended with exit code 3" in said
    [second] = world.attempts
    assert second != first


@pytest.mark.long
def test_an_interrupted_replay_leaves_nothing_running(world: World) -> None:
    (world.work / "test.sh").write_text("echo waiting; sleep 600")
    world.commit("two")
    process = world.start()
    assert process.stdout is not None
    for line in process.stdout:
        if line == "waiting\n":
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == ExitCode.INTERRUPTED
    [left] = world.attempts
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            assert os.fsencode(left) not in (entry / "cmdline").read_bytes()
        except OSError:
            continue


def test_a_build_without_a_commit(world: World) -> None:
    world.server.on("GET /api/v1/builds/7", as_json({**DETAIL, "commit": ""}))
    assert "there is nothing to replay" in world.replay(ExitCode.NOT_FOUND)
