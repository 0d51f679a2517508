"""`twistedipc why`: what it says of failures, as text, and what it asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.cli_server import Say, Server, as_json, problem, serving
from twistedipc.cli.main import commands

FAILURE = "GET /api/v1/builds/7/failure"

FOUND: dict[str, Any] = {
    "build": 7,
    "attempt": 2,
    "project": "shop",
    "state": "failed",
    "reason": "the step build failed with exit code 2",
    "commit": "0a1b",
    "step": {
        "index": 1,
        "name": "build",
        "command": "npm run build",
        "outcome": "failed",
        "exit_code": 2,
        "first": 90,
        "last": 120,
    },
    "error": {"record": 100, "text": "a.ts(1,1): error TS2304: no x"},
    "explanation": None,
    "around": [
        {"record": 98, "text": "> tsc"},
        {"record": 99, "text": ""},
        {"record": 100, "text": "a.ts(1,1): error TS2304: no x"},
        {"record": 118, "text": ""},  # what is said of it there is below
    ],
    "annotations": [
        {"record": 118, "step": 1, "level": "error", "message": "no \x1b[2Jx", "file": "a.ts", "line": 1},
        {"record": 119, "step": 1, "level": "warning", "message": "old", "file": "", "line": 0},
    ],
    "new": {
        "against": "6-1",
        "lines": [{"record": 100, "text": "a.ts(1,1): error TS2304: no x"}],
        "count": 1,
        "complete": True,
    },
    "log": {"records": 120, "sha256": "ab" * 32, "complete": True},
    "omitted": ["3 annotations"],
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def run(server: Server, *arguments: str) -> Result:
    environment = {"TWISTEDIPC_URL": server.url, "TWISTEDIPC_TOKEN": "tipc_x"}
    return CliRunner().invoke(commands, ["why", *arguments], env=environment)


def test_what_it_says(server: Server) -> None:
    server.on(FAILURE, as_json(FOUND))
    result = run(server, "7", "--attempt", "2")
    assert result.exit_code == 0, result.output
    assert server.asked[-1].query == {"attempt": "2"}
    assert result.stdout == (
        "build 7-2 of shop failed: the step build failed with exit code 2\n"
        "step build (npm run build) failed, exit code 2, from record 90 to 120\n"
        "\n"
        "  98  > tsc\n"
        "  99\n"
        ">100  a.ts(1,1): error TS2304: no x\n"
        "\n"
        "error at record 118 a.ts:1: no x\n"
        "warning at record 119: old\n"
        "\n"
        "new against 6-1, the last success:\n"
        " 100  a.ts(1,1): error TS2304: no x\n"
        "\n"
        f"log: 120 records, sha256 {'ab' * 32}, complete\n"
        "left out: 3 annotations\n"
    )
    assert "attempt" not in server.asked[-1].path


def test_little_is_known(server: Server) -> None:
    found = {
        **FOUND,
        "step": None,
        "error": None,
        "around": [],
        "annotations": [],
        "explanation": {"cause": "a disk is full", "cure": "Free some room"},
        "new": {"against": "6-1", "lines": [], "count": 0, "complete": False},
        "log": {"records": 0, "sha256": "", "complete": False},
        "omitted": [],
    }
    server.on(FAILURE, as_json(found))
    assert run(server, "7").stdout == (
        "build 7-2 of shop failed: the step build failed with exit code 2\n"
        "that is known: a disk is full. Free some room.\n"
        "no line of its log says why\n"
        "\n"
        "nothing is new against 6-1, the last success, as far as both were read\n"
        "\n"
        "log: 0 records, not known to be complete\n"
    )


def test_as_json(server: Server) -> None:
    server.on(FAILURE, as_json(FOUND))
    assert json.loads(run(server, "7", "--json").stdout) == FOUND


def test_the_newest_that_failed(server: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server.on("GET /api/v1/builds", as_json({"builds": [], "next": None}))
    result = run(server)
    assert (result.exit_code, "no build that is failed" in result.output) == (4, True)
    assert server.asked[-1].query == {"state": "failed", "limit": "1"}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (problem(409, "build 7 has not failed: its attempt 1 is running"), 2, "has not failed"),
        (problem(404, "nothing is here"), 4, "nothing"),
        (problem(503, "others search; ask again soon"), 5, "ask again"),
    ],
)
def test_what_it_can_not_say(server: Server, answer: Say, code: int, said: str) -> None:
    server.on(FAILURE, answer)
    result = run(server, "7")
    assert result.exit_code == code
    assert said in result.output
