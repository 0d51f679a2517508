"""`twistedipc cancel --queued`, `project pause` and `resume`: what is asked, and what is printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_server import Server, as_json, serving
from tests.test_cli_commands import run

PATH = "/api/v1/projects/shop"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the credentials of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_all_that_is_queued_is_cancelled(server: Server) -> None:
    server.on(f"POST {PATH}/queue/cancel", as_json({"cancelled": 3}))
    result = run(server, "cancel", "--project", "shop", "--queued")
    assert (result.exit_code, "3 queued builds of shop cancelled" in result.output) == (0, True), result.output
    for words in (["--queued"], ["--project", "shop"], ["7", "--project", "shop", "--queued"], []):
        assert run(server, "cancel", *words).exit_code == 2


def test_a_queue_is_paused_and_resumed(server: Server) -> None:
    server.on(f"PATCH {PATH}", as_json({}))
    for word in ("pause", "resume"):
        result = run(server, "project", word, "shop")
        assert result.exit_code == 0, result.output
    assert [each.json for each in server.asked] == [{"queue": {"paused": True}}, {"queue": {"paused": False}}]


def test_a_priority_is_one_of_three(server: Server) -> None:
    result = run(server, "project", "set", "shop", "--priority", "main=urgent")
    assert (result.exit_code, "a priority is one of low, normal, high, not urgent" in result.output) == (2, True)
