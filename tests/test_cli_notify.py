"""`twistedipc project notify`: what is asked, and what is printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_server import Server, as_json, serving
from tests.test_cli_commands import run

AT = "2026-01-02T03:04:05.678Z"
HOOK = {"name": "hook", "kind": "webhook", "events": ["failed"], "where": "https://x.example/…", "void": False,
        "created": AT, "updated": AT, "secret": None}  # fmt: skip
TELLING = {"id": 17, "receiver": "hook", "kind": "webhook", "part": "event", "phase": "failed", "event": "failed",
           "build": 3, "attempt": 1, "state": "given_up", "tone": "bad", "reason": "it answered 400", "tries": 1,
           "due": None, "ended": AT}  # fmt: skip
PATH = "/api/v1/projects/shop"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the credentials of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_receivers_are_listed(server: Server) -> None:
    server.on(f"GET {PATH}/receivers", as_json({"receivers": [HOOK, {**HOOK, "name": "old", "void": True}]}))
    result = run(server, "project", "notify", "shop")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()[1:]
    assert first.split() == ["hook", "webhook", "https://x.example/…", "failed"]
    assert "void: set it again" in second


def test_a_webhook_is_added_and_its_secret_shown(server: Server) -> None:
    server.on(f"PUT {PATH}/receivers/hook", as_json({**HOOK, "secret": "whsec_AAAA"}))
    result = run(server, "project", "notify", "shop", "--add", "hook", "--kind", "webhook", "--where",
                 "https://x.example/y", "--events", "failed, fixed")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == "whsec_AAAA\n"
    assert server.asked[0].json == {"kind": "webhook", "where": "https://x.example/y", "events": ["failed", "fixed"]}


def test_what_is_secret_comes_from_standard_input(server: Server) -> None:
    server.on(f"PUT {PATH}/receivers/chat", as_json({**HOOK, "kind": "slack"}))
    server.on(f"PUT {PATH}/receivers/host", as_json({**HOOK, "kind": "github"}))
    result = run(server, "project", "notify", "shop", "--add", "chat", "--kind", "slack", given="https://hooks/x\n")
    assert result.exit_code == 0, result.output
    result = run(server, "project", "notify", "shop", "--add", "host", "--kind", "github", given="t0ken\n")
    assert result.exit_code == 0, result.output
    assert [each.json for each in server.asked] == [
        {"kind": "slack", "where": "https://hooks/x"},
        {"kind": "github", "secret": "t0ken"},
    ]


def test_what_makes_no_sense_is_refused(server: Server) -> None:
    for arguments, part in (
        (("--add", "x"), "needs --kind"),
        (("--add", "x", "--kind", "slack", "--where", "https://secret"), "is a secret"),
        (("--add", "x", "--kind", "mail", "--where", "a@b.example", "--events", "never"), "no event never"),
        (("--deliveries", "--remove", "x"), "one at a time"),
    ):
        result = run(server, "project", "notify", "shop", *arguments)
        assert result.exit_code == 2
        assert part in result.output
    assert server.asked == []


def test_deliveries_are_shown_and_told_again(server: Server) -> None:
    server.on(f"GET {PATH}/tellings", as_json({"tellings": [TELLING], "next": None}))
    server.on(f"POST {PATH}/tellings/17/again", as_json({**TELLING, "state": "waiting"}))
    result = run(server, "project", "notify", "shop", "--deliveries")
    assert result.exit_code == 0, result.output
    assert "given up" in result.stdout
    assert "it answered 400" in result.stdout
    assert "hook is told again of build 3" in run(server, "project", "notify", "shop", "--again", "17").output


def test_a_receiver_is_removed(server: Server) -> None:
    server.on(f"DELETE {PATH}/receivers/hook", as_json(None))
    assert "told nothing more" in run(server, "project", "notify", "shop", "--remove", "hook").output
