"""`twistedipc project poll`: what is asked, and what is printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_server import Server, as_json, serving
from tests.test_cli_commands import run

AT = "2026-01-02T03:04:05.678Z"
SETTINGS = {"branches": ["main"], "tags": [], "pull_requests": True, "previews": "cancel-older", "production": "queue"}
OFF = {"on": False, "every": 5, "due": None, "looked": None, "refs": 0, "builder": "", "failures": 0, "reason": "",
       "settings": SETTINGS}  # fmt: skip
ON = {**OFF, "on": True, "due": AT, "looked": AT, "refs": 7, "builder": "one"}
PATH = "/api/v1/projects/shop/poll"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.on(f"GET {PATH}", as_json(OFF))
        running.on(f"PUT {PATH}", as_json(ON))
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the credentials of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_how_it_is_turned_on_is_said_where_it_is_off(server: Server) -> None:
    assert "`twistedipc project poll shop --on` has that done" in run(server, "project", "poll", "shop").output


def test_it_is_turned_on(server: Server) -> None:
    result = run(server, "project", "poll", "shop", "--on")
    assert result.exit_code == 0, result.output
    assert "every 5 minutes, last seen 2026-01-0" in result.stdout
    assert "7 branches and tags, by builder one" in result.stdout
    run(server, "project", "poll", "shop", "--every", "1", "--json")
    assert [each.json for each in server.asked if each.method == "PUT"] == [{}, {"every": 1}]


def test_why_it_fails_is_shown(server: Server) -> None:
    server.on(f"GET {PATH}", as_json({**ON, "looked": None, "failures": 3, "reason": "it is away"}))
    result = run(server, "project", "poll", "shop")
    assert "every 5 minutes, not seen yet; it is away (failed 3 times in a row)" in result.stdout


def test_a_look_can_be_had_now_and_it_can_be_turned_off(server: Server) -> None:
    server.on(f"POST {PATH}/look", as_json(ON))
    assert "next" in run(server, "project", "poll", "shop", "--now").stdout
    server.on(f"DELETE {PATH}", as_json({}))
    assert "isn't looked at any more" in run(server, "project", "poll", "shop", "--off").output


def test_filters_are_those_of_the_hook(server: Server) -> None:
    at = "/api/v1/projects/shop/hook"
    shown = as_json({"url": "https://ci.example/hooks/shop", "secret": None, "settings": SETTINGS})
    server.on(f"GET {at}", shown)
    server.on(f"PUT {at}", shown)
    result = run(server, "project", "poll", "shop", "--branch", "main", "--branch", "r/*", "--tag", "v*", "--on")
    assert result.exit_code == 0, result.output
    (sent,) = [each.json for each in server.asked if each.method == "PUT" and each.path == at]
    assert sent == {"branches": ["main", "r/*"], "tags": ["v*"]}


@pytest.mark.parametrize(
    "options", [["--off", "--on"], ["--off", "--now"], ["--branch", "x", "--all-branches"], ["--every", "0"]]
)
def test_what_does_not_go_together_is_refused(server: Server, options: list[str]) -> None:
    assert run(server, "project", "poll", "shop", *options).exit_code == 2
