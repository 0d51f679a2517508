"""
`twistedipc conform` on what stands at the ends of a platform's links: its apiserver, its builder, and the builder in
Node. All are real processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.integration.platform import BARE, Platform, wait_for
from tests.integration.test_node_builder import NodeBuilder, answers
from tests.ports import free_port
from twistedipc.conform.command import conform

pytestmark = pytest.mark.long  # dozens of connections each, and real builds


def tried(*words: str) -> dict[str, str]:
    """Run the command; the verdict on each case. Nothing may have failed."""
    done = CliRunner().invoke(conform, [*words, "--json"])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each for each in lines if each["verdict"] == "failed"] == []
    assert done.exit_code == 0, done.output
    return {each["number"]: each["verdict"] for each in lines}


def test_the_apiserver(tmp_path: Path) -> None:
    port = free_port()
    platform = Platform(tmp_path, apiserver_link={"listen": [f"tcp:{port}:interface=127.0.0.1"]})
    platform.apiserver.start()
    try:
        platform.token = platform.make_token("admin", "admin")
        wait_for("the apiserver answers", lambda: answers(platform))
        descriptor = os.open(tmp_path / "other.key", os.O_WRONLY | os.O_CREAT, 0o600)
        with open(descriptor, "w") as file:
            file.write(platform.command("builder", "add", "other").stdout.split()[1])
        platform.add_project("shop", platform.repository({"index.html": "x"}), targets=[])
        for _ in range(4):
            platform.build("shop")
        more = ["--name", "other", "--key", str(tmp_path / "other.key"), "--wait", "30"]
        found = tried(f"tcp:127.0.0.1:{port}", "--as", "apiserver", *more)
        assert {found[f"8.{number}"] for number in range(1, 11)} == {"passed"}
        assert found["2.15"] == "passed"
    finally:
        platform.apiserver.kill()


def test_the_builder(tmp_path: Path) -> None:
    platform = Platform(tmp_path, isolation=BARE)
    platform.builder.start()
    try:
        wait_for("the builder listens", (tmp_path / "link.sock").exists)
        found = tried(f"unix:{tmp_path / 'link.sock'}", "--as", "builder")
        assert {found[f"7.{number}"] for number in range(1, 12)} == {"passed"}
    finally:
        platform.builder.kill()
        for attempt in (tmp_path / "builder-data" / "attempts").glob("*"):
            platform._kill_runner(attempt)


def test_the_builder_in_node(tmp_path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run(["node", "--version"], capture_output=True, check=False).returncode == 0:
            builder = NodeBuilder(Platform(tmp_path), "--listen", f"unix:{tmp_path / 'node.sock'}")
            try:
                wait_for("the Node builder listens", (tmp_path / "node.sock").exists)
                found = tried(f"unix:{tmp_path / 'node.sock'}", "--as", "builder")
                assert {found[f"7.{number}"] for number in range(1, 12)} == {"passed"}
                assert {found[f"1.{number}"] for number in range(1, 16)} == {"passed"}
            finally:
                builder.stop()
            return
    pytest.skip("there is no node")
