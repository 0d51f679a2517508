"""`twistedipc audit`, and what the first token leaves in the audit."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, text

from tests.cli_server import Asked, Say, Server, as_json, problem, serving
from twistedipc.cli.audit import following
from twistedipc.cli.client import Client
from twistedipc.cli.failures import ExitCode
from twistedipc.cli.main import commands


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def run(server: Server, *arguments: str) -> Result:
    return CliRunner().invoke(commands, [*arguments, "--url", server.url, "--token", "tipc_t"], standalone_mode=True)


def line(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "time": "2026-01-31T12:00:00Z",
        "who": "ann",
        "kind": "token",
        "token": 7,
        "address": "192.0.2.7",
        "request": "00ff",
        "action": "project.change",
        "subject": "shop",
        "project": "shop",
        "detail": {"default_ref": "main → next"},
        **more,
    }


def test_a_table(server: Server) -> None:
    lines = [line(9, who="ann", kind="builder", token=None), line(8)]
    server.on("GET /api/v1/audit", as_json({"lines": lines, "next": 8}))
    result = run(server, "audit", "--project", "shop", "--who", "ann", "--action", "project", "--since", "12h")
    assert result.exit_code == 0, result.output
    assert "builder ann" in result.stdout
    assert "ann (token 7)" in result.stdout
    assert "default_ref: main → next" in result.stdout
    assert "--before 8" in result.stderr
    (asked,) = server.asked
    assert asked.query.pop("since").endswith("Z")
    assert asked.query == {"project": "shop", "who": "ann", "action": "project", "limit": "50"}


def test_json_is_the_apis(server: Server) -> None:
    answer = {"lines": [line(8)], "next": None}
    server.on("GET /api/v1/audit", as_json(answer))
    assert json.loads(run(server, "audit", "--json").stdout) == answer


def test_follow_goes_on_from_line_to_line(server: Server) -> None:
    pauses: list[float] = []

    def answer(asked: Asked) -> Say:
        assert asked.query["who"] == "ann"
        after = int(asked.query["after"])
        if not pauses:
            return problem(503, "the database isn't open")
        lines = [line(number) for number in (9, 11) if number > after and len(pauses) > 1]
        return as_json({"lines": lines, "next": lines[-1]["id"] if lines else after})

    server.on("GET /api/v1/audit", answer)
    lines = following(Client(server.url, "tipc_t", sleep=pauses.append), {"who": "ann"}, 8)
    assert [each.id for each in islice(lines, 2)] == [9, 11]
    assert [asked.query["after"] for asked in server.asked] == ["8", "8", "8"]


def test_bad_options(server: Server) -> None:
    for options in (["--since", "yesterday"], ["--follow", "--before", "3"], ["--limit", "0"]):
        assert run(server, "audit", *options).exit_code == ExitCode.USAGE
    assert server.asked == []


def test_the_first_token_is_in_the_audit(tmp_path: Path) -> None:
    config = tmp_path / "apiserver.toml"
    config.write_text('data = "data"\n[link]\ndial = ["unix:link.sock"]\n')
    options = ["token", "create", "ada", "--scope", "admin", "--config", str(config)]
    assert CliRunner().invoke(commands, options).exit_code == 0
    engine = create_engine(f"sqlite:///{tmp_path / 'data/ledger.sqlite'}")
    with engine.connect() as connection:
        (row,) = connection.execute(text("SELECT who, kind, action, subject, detail FROM audit")).all()
    engine.dispose()
    assert (row.who, row.kind, row.action, row.subject) == (
        pwd.getpwuid(os.getuid()).pw_name,
        "machine",
        "token.create",
        "1",
    )
    assert json.loads(row.detail) == {"name": "ada", "scopes": "admin"}
