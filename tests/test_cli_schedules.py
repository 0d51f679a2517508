"""`twistedipc project schedule`: what is asked, and what is printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_server import Server, as_json, serving
from tests.test_cli_commands import run

AT = "2026-01-02T03:04:05.678Z"
NIGHTLY = {"name": "nightly", "cron": "30 2 * * *", "zone": "UTC", "ref": "main", "publish": True, "due": AT,
           "ran": None, "build": None, "reason": "", "created": AT, "updated": AT}  # fmt: skip
PATH = "/api/v1/projects/shop/schedules"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the credentials of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_a_schedule_is_added(server: Server) -> None:
    server.on(f"PUT {PATH}/nightly", as_json(NIGHTLY))
    result = run(server, "project", "schedule", "add", "shop", "nightly", "30 2 * * *")
    assert result.exit_code == 0, result.output
    assert "main of shop is built by schedule nightly, next at 2026-01-0" in result.output
    result = run(server, "project", "schedule", "add", "shop", "nightly", "@daily", "--zone", "Europe/Berlin",
                 "--ref", "fix", "--no-publish", "--json")  # fmt: skip
    assert '"cron"' in result.stdout
    assert [each.json for each in server.asked] == [
        {"cron": "30 2 * * *"},
        {"cron": "@daily", "zone": "Europe/Berlin", "ref": "fix", "publish": False},
    ]


def test_schedules_are_listed(server: Server) -> None:
    ran = {**NIGHTLY, "name": "old", "due": None, "ran": AT, "build": 7, "reason": "it isn't due any more"}
    server.on(f"GET {PATH}", as_json({"schedules": [NIGHTLY, ran]}))
    result = run(server, "project", "schedule", "list", "shop")
    assert result.exit_code == 0, result.output
    _head, first, second = result.stdout.splitlines()
    assert first.split()[:9] == ["nightly", "30", "2", "*", "*", "*", "UTC", "main", "yes"]
    assert "never" in second
    assert "it isn't due any more" in second


def test_how_one_is_made_is_said_where_there_is_none(server: Server) -> None:
    server.on(f"GET {PATH}", as_json({"schedules": []}))
    assert (
        "shop has no schedule; `twistedipc project schedule add"
        in run(server, "project", "schedule", "list", "shop").output
    )


def test_a_schedule_is_removed(server: Server) -> None:
    server.on(f"DELETE {PATH}/nightly", as_json(None))
    result = run(server, "project", "schedule", "remove", "shop", "nightly")
    assert "shop isn't built by schedule nightly any more" in result.output
