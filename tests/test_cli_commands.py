"""The commands against a real HTTP server: what they ask, what they print, and what they exit with."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import select
import signal
import stat
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pyte
import pytest
from click.testing import CliRunner, Result

from tests.cli_server import Say, Server, as_json, problem, serving
from twistedipc.builds.logs import (
    Annotation,
    End,
    Lines,
    LogDigest,
    Progress,
    Record,
    StepEnded,
    StepStarted,
    Summary,
    encoder,
)
from twistedipc.cli import main as entry
from twistedipc.cli.client import Client
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.main import COMMANDS, commands
from twistedipc.cli.waiting import WaitingNotes


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the credentials of the person who runs it."""
    for name in ("TWISTEDIPC_URL", "TWISTEDIPC_TOKEN", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def run(server: Server | None, *arguments: str, given: str | None = None, token: str = "tipc_t") -> Result:
    environment = {"TWISTEDIPC_URL": server.url, "TWISTEDIPC_TOKEN": token} if server is not None else {}
    return CliRunner().invoke(commands, arguments, input=given, env=environment)


BUILD: dict[str, object] = {
    "id": 7,
    "project": "shop",
    "ref": "main",
    "publish": True,
    "live": False,
    "parameters": {},
    "requested_by": "ann",
    "state": "queued",
    "reason": "",
    "attempt": 1,
    "commit": "",
    "subject": "",
    "author": "",
    "cancel_requested": False,
    "created": "2026-01-02T03:04:05.678Z",
    "started": None,
    "ended": None,
    "progress": None,
    "annotations": {"errors": 0, "warnings": 0, "notices": 0},
}
STEP: dict[str, object] = {
    "index": 0,
    "name": "build",
    "command": "npm run build",
    "outcome": "failed",
    "exit_code": 2,
    "started": "2026-01-02T03:04:06.000Z",
    "ended": "2026-01-02T03:04:07.500Z",
}
ATTEMPT: dict[str, object] = {
    "number": 1,
    "state": "failed",
    "reason": "step build ended with exit code 2",
    "builder": "b1",
    "commit": "ab" * 20,
    "created": "2026-01-02T03:04:05.678Z",
    "offered": None,
    "started": "2026-01-02T03:04:06.000Z",
    "ended": "2026-01-02T03:05:16.000Z",
    "lines": 12,
    "sha256": "x",
    "complete": True,
    "steps": [STEP],
    "published": [{"name": "@shop/ui", "version": "1.2.3", "integrity": "sha512-x", "status": "published"}],
    "release": None,
    "release_state": None,
    "release_why": "",
    "progress": None,
    "annotations": {"errors": 2, "warnings": 1, "notices": 0},
    "summary": "**48 pages**\n\x1b[2J1.2 MB",
}
DETAIL: dict[str, object] = {
    **BUILD,
    "state": "failed",
    "reason": "step build ended with exit code 2",
    "attempts": [ATTEMPT],
    "release_url": None,
    "position": None,
}
PROJECT: dict[str, object] = {
    "name": "shop",
    "repository": "https://example.org/shop.git",
    "default_ref": "main",
    "publish": {"static": True, "npm": True},
    "environment": {"A": "b"},
    "timeout": 3600,
    "idle_timeout": 900,
    "secrets": ["npm_token"],
    "release_url": "http://shop.localhost:8081/",
    "created": "2026-01-02T03:04:05.678Z",
    "updated": "2026-01-02T03:04:05.678Z",
}
RELEASE: dict[str, object] = {
    "build": 7,
    "attempt": 1,
    "why": "",
    "ref": "main",
    "resolved": None,
    "commit": "ab" * 20,
    "sha256": "x",
    "files": 3,
    "size": 2048,
    "created": "2026-01-02T03:04:05.678Z",
    "activated": None,
}


def log_with(*lines: str, state: str = "succeeded", sha256: str | None = None) -> Say:
    batch = Lines(first=1, time=1, step=-1, lines=list(lines))
    digest = LogDigest()
    digest.add(batch)
    end = End(digest.count, sha256 or digest.hexdigest(), state, True)
    return Say(chunks=[encoder.encode(batch) + b"\n" + encoder.encode(end) + b"\n"])


# -- the process -----------------------------------------------------------------------------------------------------


def test_all_commands_are_there() -> None:
    for name in COMMANDS:
        command = commands.get_command(click.Context(commands), name)
        assert command is not None
        assert command.name == name
        assert command.help
    result = run(None, "--help")
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.output for name in COMMANDS)


def exit_code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        entry(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_exit_codes_of_the_process(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code_of("--version") == 0
    assert exit_code_of("show") == 2
    assert exit_code_of("nonsense") == 2
    monkeypatch.setenv("TWISTEDIPC_URL", server.url)
    assert exit_code_of("show", "7") == 4
    server.on("POST /api/v1/projects/shop/builds", as_json(BUILD, 201))
    server.on("GET /api/v1/builds/7/log", log_with("x", state="failed"))
    assert exit_code_of("build", "shop", "--follow") == 1

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "get", interrupted)
    assert exit_code_of("builds") == 130


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (409, 2), (413, 2), (415, 2), (422, 2), (401, 3), (403, 3), (404, 4), (429, 5), (500, 5), (503, 5)],
)
def test_exit_codes_of_answers(server: Server, status: int, code: int) -> None:
    server.on("GET /api/v1/builds", problem(status, "the sentence of the server"))
    result = run(server, "builds")
    assert result.exit_code == code
    assert "the sentence of the server" in result.stderr
    assert result.stdout == ""


def test_a_problem_lists_its_errors(server: Server) -> None:
    server.on("GET /api/v1/builds", problem(422, "the query is wrong", errors=["limit: too large", "the query"]))
    result = run(server, "builds")
    assert result.stderr == "Error: the query is wrong\n  limit: too large\n"


def test_a_server_that_is_not_there() -> None:
    result = run(None, "builds", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 5
    assert "can't reach the server at http://127.0.0.1:1: Connection refused" in result.stderr


def test_something_else_than_an_apiserver(server: Server) -> None:
    server.on("GET /api/v1/builds", Say(body=b"<html>", content_type="text/html"))
    assert run(server, "builds").exit_code == 5
    server.on("GET /api/v1/builds", Say(status=502, body=b"<html>", content_type="text/html"))
    result = run(server, "builds")
    assert result.exit_code == 5
    assert "answered 502 Bad Gateway" in result.stderr
    server.on("GET /api/v1/builds", Say(status=301))
    assert run(server, "builds").exit_code == 2
    server.on("GET /api/v1/builds", Say(hang_up=True))
    assert run(server, "builds").exit_code == 5


@pytest.mark.parametrize("url", ["builds", "ftp://x", "http://", "http://x:y", "http://x?y"])
def test_addresses_that_are_none(url: str) -> None:
    result = run(None, "builds", "--url", url)
    assert result.exit_code == 2
    assert "isn't the address of a server" in result.stderr


def test_a_token_that_would_break_the_header(server: Server) -> None:
    assert run(server, "builds", "--token", "a\r\nX: y").exit_code == 2


# -- which server is asked, and with which token ---------------------------------------------------------------------


def test_login_keeps_the_token_for_that_server_alone(server: Server, home: Path) -> None:
    server.on("GET /api/v1/identity", as_json({"name": "ann", "scopes": ["read"], "projects": None}))
    server.on("GET /api/v1/builds", as_json({"builds": [], "next": None}))
    result = run(None, "login", given=f"{server.url}\ntipc_secret\n")
    assert result.exit_code == 0, result.output
    assert "tipc_secret" not in result.output
    assert "as ann (read; all projects)" in result.stderr
    kept = home / "config/twistedipc/credentials.toml"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert run(None, "builds").exit_code == 0
    assert server.asked[-1].headers["authorization"] == "Bearer tipc_secret"
    with serving() as other:
        other.on("GET /api/v1/builds", problem(401, "a token is needed"))
        result = run(None, "builds", "--url", other.url)
        assert result.exit_code == 3
        assert "twistedipc login" in result.stderr
        assert "authorization" not in other.asked[-1].headers


def test_login_keeps_nothing_that_is_no_good(server: Server, home: Path) -> None:
    server.on("GET /api/v1/identity", problem(401, "this token is not valid"))
    assert run(None, "login", "--url", server.url, given="nonsense\n").exit_code == 3
    assert not (home / "config/twistedipc/credentials.toml").exists()


def test_kept_credentials_that_are_damaged(home: Path) -> None:
    path = home / "config/twistedipc/credentials.toml"
    path.parent.mkdir(parents=True)
    path.write_text("url = 1")
    result = run(None, "builds")
    assert result.exit_code == 2
    assert str(path) in result.stderr


def test_the_caches_of_a_project_are_cleared(server: Server) -> None:
    server.on("DELETE /api/v1/projects/shop/caches", as_json(None, 204))
    result = run(server, "project", "caches", "clear", "shop")
    assert (result.exit_code, "builds of shop use nothing" in result.stderr) == (0, True)
    assert run(server, "project", "caches", "clear", "blog").exit_code == 4


# -- builds ----------------------------------------------------------------------------------------------------------


def test_build(server: Server) -> None:
    server.on("POST /api/v1/projects/shop/builds", as_json(BUILD, 201))
    result = run(server, "build", "shop", "--ref", "v1", "--no-publish", "--param", "A=b=c")
    assert result.exit_code == 0
    assert result.stderr == f"build 7 of shop at main: {server.url}/#/builds/7\n"
    asked = server.asked[0]
    assert asked.json == {"ref": "v1", "publish": False, "parameters": {"A": "b=c"}}
    assert asked.headers["content-type"] == "application/json"


def test_a_parameter_that_looks_like_a_secret_is_warned_of(server: Server) -> None:
    server.on("POST /api/v1/projects/shop/builds", as_json(BUILD))
    assert "API_KEY looks like a secret" in run(server, "build", "shop", "--param", "API_KEY=x").stderr
    assert "looks like" not in run(server, "build", "shop", "--param", "MODE=x").stderr


def test_a_lost_answer_makes_no_second_build(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.on("POST /api/v1/projects/shop/builds", Say(hang_up=True), problem(503, "locked"), as_json(BUILD, 201))
    client = Client(server.url, "t", sleep=lambda seconds: None)
    assert json.loads(client.post_once("/api/v1/projects/shop/builds", End(0, "", "", True), "key").body)["id"] == 7
    assert [asked.headers["idempotency-key"] for asked in server.asked] == ["key"] * 3
    server.on("POST /api/v1/projects/shop/builds", problem(422, "no"))
    with pytest.raises(Failure):
        client.post_once("/api/v1/projects/shop/builds", End(0, "", "", True), "key")
    assert len(server.asked) == 4


def test_build_and_follow(server: Server) -> None:
    server.on("POST /api/v1/projects/shop/builds", as_json(BUILD, 201))
    server.on("GET /api/v1/builds/7/log", log_with("\x1b[32mone", "two"))
    result = run(server, "build", "shop", "--follow")
    assert result.exit_code == 0
    assert result.stdout == "one\ntwo\n"
    assert result.stderr.endswith("log complete, verified (2 lines)\nbuild 7 succeeded\n")
    assert "\x1b[32mone" in run(server, "build", "shop", "--follow", "--color").stdout


def test_why_a_build_waits_is_said_while_it_is_followed(server: Server) -> None:
    """A followed build that was queued showed nothing at all. What only counts down isn't said again."""

    def waiting(text: str) -> Say:
        return as_json(
            {**DETAIL, "state": "queued", "waiting": {"code": "slots", "text": text, "position": 1, "until": None}}
        )

    texts = ["b is away for 3 s", "b is away for 2 min", "all 2 slots are taken"]
    server.on("GET /api/v1/builds/7", *(waiting(text) for text in texts), as_json(DETAIL))
    said: list[str] = []
    over = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            over.set()

    with WaitingNotes(Client(server.url, "t"), 7, say, first=0.0, interval=0.01):
        assert over.wait(10)
    assert said == ["build 7 waits: b is away for 3 s", "build 7 waits: all 2 slots are taken"]
    server.on("GET /api/v1/builds/7", waiting("no builder is linked"))
    assert "no builder is linked" in run(server, "show", "7").stdout


@pytest.mark.parametrize("state", ["failed", "cancelled", "timed_out", "lost"])
def test_a_followed_build_that_does_not_succeed(server: Server, state: str) -> None:
    server.on("GET /api/v1/builds/7", as_json(DETAIL))
    server.on("GET /api/v1/builds/7/log", log_with("x", state=state))
    assert run(server, "logs", "7", "--follow").exit_code == ExitCode.NOT_SUCCEEDED


def test_a_log_that_is_not_what_the_build_wrote(server: Server) -> None:
    server.on("GET /api/v1/builds/7/log", log_with("x", sha256=hashlib.sha256(b"y\n").hexdigest()))
    result = run(server, "logs", "7", "--attempt", "1", "--follow")
    assert result.exit_code == ExitCode.INCOMPLETE
    assert "SHA-256 of the 1 lines differs" in result.stderr


def test_logs_by_pages(server: Server) -> None:
    batch = {"type": "lines", "first": 3, "time": 1, "step": 0, "lines": ["c"]}
    end = {"type": "end", "lines": 3, "sha256": "x", "state": "failed", "complete": True}
    server.on("GET /api/v1/builds/7", as_json(DETAIL))
    server.on("GET /api/v1/builds/7/log", as_json({"attempt": 1, "batches": [batch], "after": 3, "end": end}))
    result = run(server, "logs", "7", "--after", "2")
    # Without --follow it is the log that was asked for, not how the build went.
    assert result.exit_code == 0
    assert result.stdout == "c\n"
    assert server.asked[-1].query == {"format": "json", "attempt": "1", "after": "2", "limit": "10000"}


def test_builds(server: Server) -> None:
    page = {"builds": [{**BUILD, "subject": "[red]not markup[/red] \x1b[2J\u202e"}], "next": 7}
    server.on("GET /api/v1/builds", as_json(page))
    result = run(server, "builds", "--project", "shop", "--state", "queued", "--limit", "1")
    assert result.exit_code == 0
    assert server.asked[0].query == {"project": "shop", "state": "queued", "limit": "1"}
    assert "shop" in result.stdout
    assert "[red]not markup[/red]" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert "--before 7" in result.stderr
    assert run(server, "builds", "--state", "nonsense").exit_code == 2


def test_builds_that_say_something(server: Server) -> None:
    said = {
        "state": "running",
        "progress": {"value": 0.29, "label": "12 of\n48 \x1b[2Jpages"},
        "annotations": {"errors": 1, "warnings": 2, "notices": 0},
    }
    server.on("GET /api/v1/builds", as_json({"builds": [{**BUILD, **said}], "next": None}))
    assert "29% 12 of 48 pages, 1 error, 2 warnings" in run(server, "builds").stdout


def test_json_is_the_answer_exactly(server: Server) -> None:
    body = b'{"builds": [],   "next": null, "new_field": 1}'
    server.on("GET /api/v1/builds", Say(body=body))
    assert run(server, "builds", "--json").stdout_bytes == body + b"\n"


MESSAGE: dict[str, object] = {
    "id": 3, "host": "GitHub", "delivery": "d", "what": "pull_request", "about": "pull request 7 from a fork by bob",
    "ref": "refs/heads/fix", "commit": "ab" * 20, "number": 7, "fork": True, "title": "Fix", "sender": "bob", "url": "",
    "received": "2026-01-02T03:04:05.678Z", "outcome": "waits", "reason": "it comes from a fork", "build": None,
    "decided_by": None, "decided": None,
}  # fmt: skip
HOOK: dict[str, object] = {"url": "https://ci.example/hooks/shop", "secret": None, "settings": {}}


def test_a_hook_is_made_with_what_is_to_be_clicked(server: Server) -> None:
    server.on("GET /api/v1/projects/shop/hook", as_json(HOOK))
    made = {"url": "https://ci.example/hooks/shop", "secret": "whsec_c2VjcmV0"}
    server.on("POST /api/v1/projects/shop/hook/secret", as_json(made, 201))
    said = run(server, "project", "hook", "shop").stdout
    for part in ("https://ci.example/hooks/shop", "whsec_c2VjcmV0", "GitHub: ", "GitLab: ", "Gitea, Forgejo: "):
        assert part in said


def test_a_hook_that_there_is_keeps_its_secret(server: Server) -> None:
    server.on("GET /api/v1/projects/shop/hook", as_json({**HOOK, "secret": "2026-01-02T03:04:05.678Z"}))
    assert "--rotate makes another" in run(server, "project", "hook", "shop").stdout
    answer = {**HOOK, "settings": {"branches": ["main"], "previews": "queue"}}
    server.on("PUT /api/v1/projects/shop/hook", as_json(answer))
    said = run(server, "project", "hook", "shop", "--branch", "main", "--previews", "queue").stdout
    assert server.asked[-1].json == {"branches": ["main"], "previews": "queue"}
    assert "main" in said
    assert [asked for asked in server.asked if asked.method == "POST"] == []


def test_messages_and_what_members_say_of_them(server: Server) -> None:
    server.on("GET /api/v1/projects/shop/hook/messages", as_json({"messages": [MESSAGE]}))
    listed = run(server, "project", "hook", "shop", "--deliveries")
    assert "pull request 7 from a fork by bob" in listed.stdout
    assert "twistedipc hook allow shop MESSAGE" in listed.stderr
    for how in ("allow", "repeat"):
        built = {**MESSAGE, "outcome": "built", "build": 9}
        server.on(f"POST /api/v1/projects/shop/hook/messages/3/{how}", as_json(built))
        assert "build 9 of shop" in run(server, "hook", how, "shop", "3").stderr


def test_show_says_where_a_build_came_from(server: Server) -> None:
    pull = "https://git.example/acme/shop/pulls/3"
    origin = {"kind": "gitea", "event": "pull_request", "number": 3, "fork": True, "sender": "bob", "url": pull}
    server.on("GET /api/v1/builds/7", as_json({**DETAIL, "origin": origin}))
    assert f"pull request 3 from a fork by bob {pull}" in run(server, "show", "7").stdout


def test_show(server: Server) -> None:
    server.on("GET /api/v1/builds/7", as_json(DETAIL))
    text = run(server, "show", "7").stdout
    for part in ("step build ended with exit code 2", "npm run build", "1 min 10 s", "12 lines, complete", "@shop/ui"):
        assert part in text
    assert "2 errors, 1 warning" in text
    assert text.endswith("\n\n**48 pages**\n1.2 MB\n")
    assert "progress" not in text
    assert json.loads(run(server, "show", "7", "--json").stdout) == DETAIL
    assert run(server, "show", "0").exit_code == 2
    assert run(server, "show", "x").exit_code == 2


def test_what_was_built_is_downloaded(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    server.on("GET /api/v1/builds/7", as_json(DETAIL))
    server.on("GET /api/v1/builds/7/files", Say(body=b"x" * 5000, content_type="application/gzip"))
    done = run(server, "download", "7")
    assert (done.exit_code, done.stderr) == (0, "shop-7.tar.gz: 4.9 KiB\n")
    assert Path("shop-7.tar.gz").read_bytes() == b"x" * 5000
    refused = run(server, "download", "7")
    assert refused.exit_code == ExitCode.USAGE
    assert "--force writes over it" in refused.stderr
    assert run(server, "download", "7", "--to", "-").stdout_bytes == b"x" * 5000
    # One that breaks off, or isn't there, leaves nothing, and what was there as it was.
    server.on("GET /api/v1/builds/7/files", Say(chunks=[b"y" * 10], cut=True))
    assert run(server, "download", "7", "--force").exit_code == ExitCode.UNAVAILABLE
    server.on("GET /api/v1/builds/7/files", problem(404, "there is nothing to download"))
    assert run(server, "download", "7", "--to", "other").exit_code == ExitCode.NOT_FOUND
    assert Path("shop-7.tar.gz").read_bytes() == b"x" * 5000
    assert {path.name for path in home.iterdir()} <= {"shop-7.tar.gz", "config"}


def test_cancel_and_retry(server: Server) -> None:
    server.on("POST /api/v1/builds/7/cancel", as_json(DETAIL, 202), problem(409, "build 7 has ended"))
    assert run(server, "cancel", "7").exit_code == 0
    assert run(server, "cancel", "7").exit_code == 2
    server.on("POST /api/v1/builds/7/retry", as_json({**DETAIL, "attempt": 2}, 201))
    result = run(server, "retry", "7")
    assert "attempt 2 of build 7" in result.stderr
    assert server.asked[-1].body == b""


# -- projects, releases, tokens --------------------------------------------------------------------------------------


def test_project_add(server: Server) -> None:
    server.on("POST /api/v1/projects", as_json(PROJECT, 201))
    address = "https://example.org/shop.git"
    result = run(server, "project", "add", "shop", address, "--npm", "--no-static", "--env", "A=b", "--timeout", "60")
    assert result.exit_code == 0
    assert server.asked[0].json == {
        "name": "shop",
        "repository": address,
        "default_ref": "HEAD",
        "publish": {"npm": True},
        "environment": {"A": "b"},
        "timeout": 60.0,
        "idle_timeout": 900.0,
    }
    assert run(server, "project", "add", "shop", address, "--env", "A").exit_code == 2


def test_projects(server: Server) -> None:
    server.on("GET /api/v1/projects", as_json({"projects": [PROJECT]}), as_json({"projects": []}))
    assert "static release, npm package" in run(server, "project", "list").stdout
    assert run(server, "project", "list").stdout == ""
    server.on("GET /api/v1/projects/shop", as_json(PROJECT))
    text = run(server, "project", "show", "shop").stdout
    assert "http://shop.localhost:8081/" in text
    assert "npm_token" in text


def test_a_name_is_one_part_of_the_path(server: Server) -> None:
    assert run(server, "project", "show", "../tokens").exit_code == 4
    assert server.asked[0].path == "/api/v1/projects/..%2Ftokens"


def test_project_set(server: Server) -> None:
    server.on("GET /api/v1/projects/shop", as_json(PROJECT))
    server.on("PATCH /api/v1/projects/shop", as_json(PROJECT))
    assert run(server, "project", "set", "shop", "--ref", "next").exit_code == 0
    assert server.asked[-1].json == {"default_ref": "next"}
    assert run(server, "project", "set", "shop", "--no-npm").exit_code == 0
    assert server.asked[-1].json == {"publish": {"static": True}}


def test_the_packages_that_a_project_may_publish(server: Server) -> None:
    server.on("POST /api/v1/projects", as_json(PROJECT, 201))
    named = ["--package", "@acme/ui", "--package", "@acme/*"]
    assert run(server, "project", "add", "ui", "https://example.org/ui.git", "--npm", *named).exit_code == 0
    assert server.asked[-1].json["publish"] == {"static": True, "npm": True, "packages": ["@acme/ui", "@acme/*"]}
    publish = {"npm": True, "packages": ["@acme/ui"]}
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "publish": publish}))
    server.on("PATCH /api/v1/projects/shop", as_json(PROJECT))
    assert "@acme/ui" in run(server, "project", "show", "shop").stdout
    # What isn't given stays; what is given is all of them.
    assert run(server, "project", "set", "shop", "--static").exit_code == 0
    assert server.asked[-1].json == {"publish": {**publish, "static": True}}
    assert run(server, "project", "set", "shop", "--package", "other").exit_code == 0
    assert server.asked[-1].json == {"publish": {"npm": True, "packages": ["other"]}}
    assert run(server, "project", "set", "shop", "--package", "").exit_code == 0
    assert server.asked[-1].json == {"publish": {"npm": True}}
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "publish": {"npm": True}}))
    assert "the first that it publishes" in run(server, "project", "show", "shop").stdout


def test_what_another_host_s_file_says_is_set(tmp_path: Path, server: Server) -> None:
    """Over what the project has, of which the rest stays."""
    (tmp_path / "netlify.toml").write_text('[build]\npublish = "dist"\n[build.environment]\nVITE_A = "1"\n')
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "settings": {"root": "web", "output": "out"}}))
    server.on("PATCH /api/v1/projects/shop", as_json(PROJECT))
    assert run(server, "import", str(tmp_path), "--project", "shop").exit_code == 0
    assert server.asked[-1].json == {
        "settings": {"root": "web", "output": "dist"},
        "variables": [{"name": "VITE_A", "value": "1"}],
    }


def test_how_a_project_is_built(server: Server) -> None:
    server.on("POST /api/v1/projects", as_json(PROJECT, 201))
    said = ["--root", "./apps/web/", "--manager", "pnpm@9", "--watch", "apps/**", "--watch", "!*.md", "--spa"]
    assert run(server, "project", "add", "ui", "https://example.org/ui.git", *said).exit_code == 0
    settings = {"root": "apps/web", "manager": "pnpm@9", "spa": True, "watch": ["apps/**", "!*.md"]}
    assert server.asked[-1].json["settings"] == settings
    result = run(server, "project", "add", "ui", "https://example.org/ui.git", "--root", "../x")
    assert result.exit_code == 2
    assert "root: it must be a folder inside the repository" in result.stderr
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "settings": settings}))
    server.on("PATCH /api/v1/projects/shop", as_json(PROJECT))
    shown = run(server, "project", "show", "shop").stdout
    for words in ("apps/web", "pnpm@9", "apps/** !*.md", "yes"):
        assert words in shown
    # What isn't given stays, what is recognised again is gone.
    change = ["--install", "", "--watch", "", "--recognise", "manager"]
    assert run(server, "project", "set", "shop", *change).exit_code == 0
    assert server.asked[-1].json == {"settings": {"root": "apps/web", "spa": True, "install": ""}}
    assert run(server, "project", "set", "shop", "--root", "a", "--recognise", "root").exit_code == 2


def test_what_a_change_makes_void_is_said(server: Server) -> None:
    notice = "the npm_token was for https://npm.example.org/ …, and is void: set it again"
    server.on("GET /api/v1/projects/shop", as_json(PROJECT))
    server.on("PATCH /api/v1/projects/shop", as_json({**PROJECT, "notices": [notice]}))
    result = run(server, "project", "set", "shop", "--registry", "https://other.example.org/")
    assert result.exit_code == 0
    assert notice in result.stderr


def test_variables_that_this_token_may_not_see(server: Server) -> None:
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "environment": {"B": "b", "A": None}}))
    assert "A=(for admins to see) B=b" in run(server, "project", "show", "shop").stdout


def test_project_secret(server: Server) -> None:
    registry = "https://npm.example.org/"
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "publish": {"npm": True, "registry": registry}}))
    server.on("PUT /api/v1/projects/shop/secrets/npm_token", Say(status=204))
    server.on("DELETE /api/v1/projects/shop/secrets/npm_token", Say(status=204))
    result = run(server, "project", "secret", "shop", "npm_token", given="npm_abc\n")
    assert result.exit_code == 0
    assert "npm_abc" not in result.output
    # Should somebody send it elsewhere meanwhile, the server won't take it.
    assert server.asked[-1].json == {"value": "npm_abc", "registry": "https://npm.example.org"}
    assert run(server, "project", "secret", "shop", "npm_token", given="").exit_code == 2
    assert run(server, "project", "secret", "set", "shop", "npm_token", given="npm_abc").exit_code == 0
    assert run(server, "project", "secret", "shop", "a-b", given="xxxx").exit_code == 2
    assert run(server, "project", "secret", "shop", "npm_token", "--remove").exit_code == 0
    assert server.asked[-1].method == "DELETE"


def test_the_token_of_a_scopes_registry(server: Server) -> None:
    npm = {"type": "npm", "registry": "https://r.example/", "scopes": ["@acme=https://npm.acme.example/"]}
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "targets": [npm]}))
    server.on("PUT /api/v1/projects/shop/secrets/npm_token@acme", Say(status=204))
    server.on("PUT /api/v1/projects/shop/secrets/npm_token%40acme", Say(status=204))
    result = run(server, "project", "secret", "set", "shop", "npm_token@acme", given="npm_abc\n")
    assert result.exit_code == 0, result.output
    assert server.asked[-1].json == {"value": "npm_abc", "registry": "https://npm.acme.example"}
    refused = run(server, "project", "secret", "set", "shop", "npm_token@other", given="npm_abc\n")
    assert (refused.exit_code, "shop has nothing that needs npm_token@other" in refused.output) == (2, True)
    shown = run(server, "project", "show", "shop")
    assert "packages of @acme" in shown.output, shown.output
    server.on("PATCH /api/v1/projects/shop", as_json({**PROJECT, "targets": [npm]}))
    said = ("--scope-registry", "@acme=https://a.example/", "--scope-registry", "@word=oidc+https://w.example/")
    assert run(server, "project", "set", "shop", *said).exit_code == 0
    sent = {**npm, "scopes": ["@acme=https://a.example/", "@word=oidc+https://w.example/"]}
    assert server.asked[-1].json == {"targets": [sent]}
    wrong = run(server, "project", "set", "shop", "--scope-registry", "acme")
    assert (wrong.exit_code, "scopes are like @acme=" in wrong.output) == (2, True)


def test_secrets_of_builds(server: Server) -> None:
    server.on("PUT /api/v1/projects/shop/secrets/KEY", Say(status=204))
    pem = "-----BEGIN KEY-----\nabc\n-----END KEY-----"
    result = run(
        server, "project", "secret", "set", "shop", "KEY", "--steps", "install", "--previews", given=f"{pem}\n\n"
    )
    assert result.exit_code == 0, result.output
    assert "abc" not in result.output
    assert server.asked[-1].json == {"value": pem, "steps": "install", "builds": "previews"}
    assert run(server, "project", "secret", "shop", "KEY", given="long enough").exit_code == 0
    assert server.asked[-1].json == {"value": "long enough"}
    asked = len(server.asked)
    for name in ("NODE_OPTIONS", "PATH"):
        refused = run(server, "project", "secret", "set", "shop", name, given="long enough")
        assert (refused.exit_code, len(server.asked)) == (2, asked)
    assert run(server, "project", "secret", "set", "shop", "KEY", given="x" * 40_000).exit_code == 2
    server.on("DELETE /api/v1/projects/shop/secrets/KEY", Say(status=204))
    assert run(server, "project", "secret", "remove", "shop", "KEY").exit_code == 0


def test_listing_secrets(server: Server) -> None:
    kept = {"name": "KEY", "steps": "install", "builds": "production", "updated": "2026-01-02T03:04:05.678Z"}
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "build_secrets": [kept]}))
    listed = run(server, "project", "secret", "list", "shop").stdout.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [
        ["npm_token", "publish", "all"],
        ["KEY", "install", "production"],
    ]
    assert "npm_token KEY" in run(server, "project", "show", "shop").stdout


def test_variables_one_at_a_time(server: Server) -> None:
    notices = ["API_KEY looks like a secret"]
    server.on("PATCH /api/v1/projects/shop", as_json({**PROJECT, "notices": notices}))
    result = run(server, "project", "env", "set", "shop", "A=1", "API_KEY=a=b", "--production")
    assert result.exit_code == 0, result.output
    assert "note: API_KEY looks like a secret" in result.stderr
    assert server.asked[-1].json == {
        "variables": [
            {"name": "A", "value": "1", "builds": "production"},
            {"name": "API_KEY", "value": "a=b", "builds": "production"},
        ]
    }
    run(server, "project", "set", "shop", "--env", "B=2")
    assert server.asked[-1].json == {"variables": [{"name": "B", "value": "2"}]}
    of_contexts = {"production": {"C": "3"}, "previews": {"C": None}}
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "of_contexts": of_contexts}))
    assert run(server, "project", "env", "unset", "shop", "A", "C").exit_code == 0
    assert server.asked[-1].json == {"variables": [{"name": "A", "value": None}, {"name": "C", "value": None}]}
    assert run(server, "project", "env", "unset", "shop", "X").exit_code == 4
    listed = run(server, "project", "env", "list", "shop").stdout
    assert [line.split() for line in listed.splitlines()[1:]] == [
        ["A", "b", "all"],
        ["C", "(for", "admins", "to", "see)", "previews"],
        ["C", "3", "production"],
    ]
    assert "A=b C=(for admins to see) (previews) C=3 (production)" in run(server, "project", "show", "shop").stdout
    assert run(server, "project", "env", "set", "shop", "A").exit_code == 2


def test_registries(server: Server) -> None:
    first = {"address": "https://npm.example.org/", "secret": "TOKEN", "scopes": ["@acme"]}
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "registries": [first]}))
    server.on("PATCH /api/v1/projects/shop", as_json(PROJECT))
    other = "https://other.example/npm/"
    run(server, "project", "registry", "add", "shop", other, "--token-secret", "KEY", "--scope", "@b", "--scope", "@c")
    assert server.asked[-1].json == {"registries": [first, {"address": other, "secret": "KEY", "scopes": ["@b", "@c"]}]}
    run(server, "project", "registry", "add", "shop", "https://npm.example.org")
    assert server.asked[-1].json == {"registries": [{"address": "https://npm.example.org"}]}
    assert "https://npm.example.org/\t@acme\tTOKEN" in run(server, "project", "registry", "list", "shop").stdout
    assert run(server, "project", "registry", "remove", "shop", "https://npm.example.org").exit_code == 0
    assert server.asked[-1].json == {"registries": []}
    assert run(server, "project", "registry", "remove", "shop", other).exit_code == 4


def test_project_remove(server: Server) -> None:
    server.on("DELETE /api/v1/projects/shop", Say(status=204))
    assert run(server, "project", "remove", "shop", given="n\n").exit_code != 0
    assert server.asked == []
    assert run(server, "project", "remove", "shop", "--yes").exit_code == 0


def test_releases_and_rollback(server: Server) -> None:
    states = {5: "superseded", 4: "live", 3: "packed", 2: "superseded", 1: "rolled_back"}
    lived = "2026-01-02T03:04:05.678Z"
    listed = [
        {**RELEASE, "id": number, "build": number, "state": state, "activated": None if number in (3, 5) else lived}
        for number, state in states.items()
    ]
    listed[2] = {**listed[2], "ref": "feature", "why": "it is of feature"}
    disk = {"releases": 2, "contents": 12, "size": 3 << 20}
    answer = {"releases": listed, "url": "http://shop.localhost/", "held": None, "disk": disk}
    server.on("GET /api/v1/projects/shop/releases", as_json(answer))
    for number in (1, 2):
        server.on(f"POST /api/v1/projects/shop/releases/{number}/activate", as_json(listed[-number]))
    result = run(server, "releases", "shop")
    assert "2.0 KiB" in result.stdout
    assert "live at http://shop.localhost/" in result.stderr
    assert "on disk: 3.0 MiB, 12 contents of 2 releases" in result.stderr
    assert "it is of feature" in result.stdout
    assert "by itself" not in result.stderr
    # The one before the live one that was live itself.
    assert "release 2 of shop is live" in run(server, "rollback", "shop").stderr
    assert "release 1 of shop is live" in run(server, "rollback", "shop", "1").stderr
    assert run(server, "rollback", "shop", "99").exit_code == 4
    # One that is resolved later is newer, though it was made before.
    earlier = {**listed[4], "resolved": "2030-01-02T03:04:05.678Z"}
    server.on("GET /api/v1/projects/shop/releases", as_json({**answer, "releases": [*listed[:4], earlier]}))
    assert "release 2 of shop is live" in run(server, "rollback", "shop").stderr
    server.on("GET /api/v1/projects/shop/releases", as_json({**answer, "releases": listed[1:3], "url": ""}))
    assert run(server, "rollback", "shop").exit_code == 4


def test_what_a_release_has_other_than_another(server: Server) -> None:
    sizes = {"size": 300_000, "gzip": 90_000, "br": 80_000}
    more = {"size": 310_240, "gzip": None, "br": None}
    files = [
        {"path": "a-2.js", "was": "assets/a-1.js", "kind": "js", "before": sizes, "after": more},
        {"path": "new.css", "was": "", "kind": "css", "before": None, "after": {**sizes, "size": 2048, "gzip": 1024}},
        {"path": "old.png", "was": "", "kind": "images", "before": sizes, "after": None},
        *({"path": f"{n}.txt", "was": "", "kind": "other", "before": None, "after": sizes} for n in range(60)),
    ]
    none = {"files": 0, "size": 0, "gzip": 0}
    answer = {
        "before": {**RELEASE, "id": 4, "state": "live"},
        "after": {**RELEASE, "id": 5, "build": 9, "state": "packed", "ref": "refs/heads/fix"},
        "added": 61,
        "changed": 1,
        "removed": 1,
        "files": files,
        "totals": [
            {"kind": "js", "before": {"files": 1, "size": 300_000, "gzip": 90_000}, "after": {"files": 1, **more}},
            {"kind": "css", "before": none, "after": {"files": 1, "size": 2048, "gzip": 1024}},
        ],
    }
    server.on("GET /api/v1/projects/shop/releases/diff", as_json(answer))
    result = run(server, "release", "diff", "shop")
    assert server.asked[-1].query == {"from": "live", "to": "latest"}
    assert "release 4 (build 7, main, live) -> release 5 (build 9, fix, packed)" in result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["~", "a-2.js", "(was", "a-1.js)", "293.0", "KiB", "303.0", "KiB", "+10.0", "KiB"] in lines
    assert ["+", "new.css", "2.0", "KiB", "+2.0", "KiB", "1.0", "KiB", "+1.0", "KiB"] in lines
    assert ["-", "old.png", "293.0", "KiB", "-293.0", "KiB", "-87.9", "KiB"] in lines
    assert ["total", "2", "293.0", "KiB", "305.0", "KiB", "+12.0", "KiB"] in lines
    assert "and 13 more" in result.stderr
    assert "61 files are new, 1 changed, 1 gone" in result.stderr
    assert run(server, "release", "diff", "shop", "build-7", "fix/menu").exit_code == 0
    assert server.asked[-1].query == {"from": "build-7", "to": "fix/menu"}
    assert json.loads(run(server, "release", "diff", "shop", "--json").stdout) == answer
    server.on(
        "GET /api/v1/projects/shop/releases/diff",
        as_json({**answer, "files": [], "added": 0, "changed": 0, "removed": 0}),
    )
    assert "they have the same files" in run(server, "release", "diff", "shop").stderr


def test_previews_and_their_password(server: Server) -> None:
    preview = {
        "url": "http://fix--shop.localhost/",
        "ref": "refs/heads/fix",
        "build": 9,
        "release": 5,
        "commit": "ab" * 20,
        "since": "2026-01-02T03:04:05Z",
        "ends": None,
    }
    answer = {"releases": [], "url": "", "held": None, "previews": [preview], "password_since": "2026-01-02T03:04:05Z"}
    server.on("GET /api/v1/projects/shop/releases", as_json(answer))
    result = run(server, "project", "previews", "shop")
    assert result.stdout.splitlines()[1].split()[:3] == ["fix", "http://fix--shop.localhost/", "9"]
    assert "they have a password since" in result.stderr
    server.on("PUT /api/v1/projects/shop/previews/password", Say(status=204))
    server.on("DELETE /api/v1/projects/shop/previews/password", Say(status=204))
    result = run(server, "project", "previews", "shop", "--password", given="eight or more\n")
    assert (result.exit_code, server.asked[-1].json) == (0, {"password": "eight or more"})
    assert "eight or more" not in result.output
    asked = len(server.asked)
    for given in ("short\n", "", "x" * 201, "tab\tin it"):
        refused = run(server, "project", "previews", "shop", "--password", given=given)
        assert (refused.exit_code, len(server.asked)) == (2, asked)
        assert "a password has 8 to 200 characters" in refused.stderr
    assert run(server, "project", "previews", "shop", "--no-password").exit_code == 0
    assert server.asked[-1].method == "DELETE"


def test_a_build_of_another_ref_that_is_to_go_live(server: Server) -> None:
    server.on("POST /api/v1/projects/shop/builds", as_json({**BUILD, "live": True}, 201))
    assert run(server, "build", "shop", "--ref", "hotfix", "--live").exit_code == 0
    assert server.asked[0].json == {"ref": "hotfix", "live": True}
    refused = run(server, "build", "shop", "--live", "--no-publish")
    assert refused.exit_code == 2
    assert "contradict" in refused.stderr


def test_a_build_that_raises_versions(server: Server) -> None:
    server.on("POST /api/v1/projects/shop/builds", as_json({**BUILD, "bump": "prerelease:beta"}, 201))
    assert run(server, "build", "shop", "--bump", "prerelease:beta").exit_code == 0
    assert server.asked[0].json == {"bump": "prerelease:beta"}
    refused = run(server, "build", "shop", "--bump", "patch", "--no-publish")
    assert refused.exit_code == 2
    assert "versions are raised to be published" in refused.stderr


def test_a_build_that_publishes_canaries(server: Server) -> None:
    answer = {**BUILD, "preview": "fix isn't the protected ref (main) of shop", "canary": "fix"}
    server.on("POST /api/v1/projects/shop/builds", as_json(answer, 201))
    said = run(server, "build", "shop", "--ref", "fix").stderr
    assert "its packages are published as canaries, with the tag fix" in said


def test_following_a_build_says_that_its_release_is_not_live(server: Server) -> None:
    attempt = {**ATTEMPT, "release": 3, "release_state": "superseded", "release_why": "release 4 of build 9 is newer"}
    server.on("POST /api/v1/projects/shop/builds", as_json(BUILD, 201))
    server.on("GET /api/v1/builds/7/log", log_with("one"))
    server.on("GET /api/v1/builds/7", as_json({**DETAIL, "attempts": [attempt]}))
    result = run(server, "build", "shop", "--follow")
    assert result.exit_code == 0
    assert "release 3 isn't live: release 4 of build 9 is newer" in result.stderr
    assert "3, superseded: release 4 of build 9 is newer" in run(server, "show", "7").stdout


def test_a_rollback_holds_the_releases_until_they_are_resumed(server: Server) -> None:
    release = {**RELEASE, "id": 4, "build": 9, "state": "live"}
    held = {"by": "ada", "since": "2026-01-02T03:04:05.678Z", "release": 2}
    server.on("GET /api/v1/projects/shop/releases", as_json({"releases": [release], "url": "", "held": held}))
    server.on("POST /api/v1/projects/shop/releases/2/activate", as_json(release))
    for command in (("rollback", "shop", "2"), ("releases", "shop")):
        said = run(server, *command).stderr
        assert "no release of shop goes live by itself since ada rolled it back to release 2" in said
        assert "twistedipc release resume shop" in said
    at = "POST /api/v1/projects/shop/releases/resume"
    for answer, word in (
        ({"was_held": True, "release": release}, "release 4 (build 9), the newest that waited, is live now"),
        ({"was_held": True, "release": None}, "none was waiting"),
        ({"was_held": False, "release": None}, "nothing has changed"),
    ):
        server.on(at, as_json(answer))
        assert word in run(server, "release", "resume", "shop").stderr


def test_tokens(server: Server) -> None:
    token = {
        "id": 3,
        "name": "ci",
        "scopes": ["build"],
        "projects": ["shop"],
        "created": "2026-01-02T03:04:05.678Z",
        "expires": None,
        "revoked": None,
        "last_used": None,
    }
    server.on("POST /api/v1/tokens", as_json({**token, "token": "tipc_new"}, 201))
    server.on("GET /api/v1/tokens", as_json({"tokens": [token]}))
    server.on("DELETE /api/v1/tokens/3", Say(status=204))
    result = run(server, "token", "create", "ci", "--scope", "build", "--project", "shop", "--expires", "30d")
    # Alone on standard output, for TOKEN=$(…).
    assert result.stdout == "tipc_new\n"
    assert server.asked[0].json == {"name": "ci", "scopes": ["build"], "projects": ["shop"], "expires_in": 2592000}
    listed = run(server, "token", "list").stdout
    assert "never" in listed
    assert "tipc_new" not in listed
    assert run(server, "token", "revoke", "3").exit_code == 0


@pytest.mark.parametrize("expires", ["30", "1w", "30s", "99999d", "-1d"])
def test_durations_that_are_none(server: Server, expires: str) -> None:
    result = run(server, "token", "create", "ci", "--scope", "read", "--expires", expires)
    assert result.exit_code == 2
    assert server.asked == []


def test_a_reader_that_has_gone(server: Server) -> None:
    batches = [Lines(first=1 + index * 100, time=1, step=0, lines=["x" * 1000] * 100) for index in range(80)]
    server.on("GET /api/v1/builds/7/log", Say(chunks=[encoder.encode(batch) + b"\n" for batch in batches]))
    command = f"'{sys.executable}' -m twistedipc.cli logs 7 --attempt 1 --follow --url {server.url} --token t | head -1"
    done = subprocess.run(["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, timeout=180)
    assert done.returncode == 141
    assert done.stderr == b""


def test_a_disk_without_room_for_the_output(server: Server) -> None:
    """The command ended with a traceback. The second is of what Python had kept to write at the end."""
    batches = [Lines(first=1 + index * 100, time=1, step=0, lines=["x" * 1000] * 100) for index in range(8)]
    server.on("GET /api/v1/builds/7/log", Say(chunks=[encoder.encode(batch) + b"\n" for batch in batches]))
    server.on("GET /api/v1/projects", as_json({"projects": []}))
    for words in (["logs", "7", "--attempt", "1", "--follow"], ["project", "list", "--json"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "twistedipc.cli", *words, "--url", server.url, "--token", "t"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=180,
                check=False,
            )
        assert done.stderr.splitlines()[-1] == "Error: the output can't be written: No space left on device"
        assert "Traceback" not in done.stderr
        assert done.returncode == ExitCode.NOT_WRITTEN


def in_a_terminal(server: Server, *arguments: str, interrupt_at: str = "") -> tuple[str, list[str], int]:
    """
    Run the command in a terminal of 60 columns: what it wrote, what is on the screen in the end, the exit code.
    ``interrupt_at``: it gets SIGINT once this is seen.
    """
    parent, child = os.openpty()
    termios.tcsetwinsize(child, (12, 60))
    environment = {**os.environ, "TERM": "xterm-256color", "TWISTEDIPC_URL": server.url, "TWISTEDIPC_TOKEN": "t"}
    command = [sys.executable, "-m", "twistedipc.cli", *arguments]
    running = subprocess.Popen(
        command,
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
        start_new_session=True,
        # The process that has started the tests may ignore it (a shell does, for what it starts in the background).
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(child)
    written = ""
    read = codecs.getincrementaldecoder("utf-8")()
    deadline = time.monotonic() + 180
    poll = select.poll()  # not `select`, which knows no descriptors above 1023
    poll.register(parent, select.POLLIN)
    try:
        while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
            try:
                written += read.decode(os.read(parent, 65536))
            except OSError:  # EIO: no process has the other end open
                break
            if interrupt_at and interrupt_at in written:
                interrupt_at = ""
                running.send_signal(signal.SIGINT)
        code = running.wait(max(1.0, deadline - time.monotonic()))
    finally:
        running.kill()
        running.wait()
        os.close(parent)
    screen = pyte.Screen(60, 12)
    pyte.Stream(screen).feed(written)
    rows = [row.rstrip() for row in screen.display]
    return written, [row for row in rows if row], code


def test_following_in_a_terminal(server: Server) -> None:
    records: list[Record] = [
        StepStarted(0, "build", "node build.js"),
        Progress(0.25, "bundling"),
        Annotation("error", "no such name", "a.ts", 3),
        Summary("**two** files"),
        StepEnded(0, "succeeded", 1000, 0),
    ]
    log = [Lines(first=1 + index, time=1, step=0, lines=[record]) for index, record in enumerate(records)]
    digest = LogDigest()
    for each in log:
        digest.add(each)
    messages = [*log, End(5, digest.hexdigest(), "succeeded", True)]
    server.on("GET /api/v1/builds/7/log", Say(chunks=[encoder.encode(message) + b"\n" for message in messages]))
    written, rows, code = in_a_terminal(server, "logs", "7", "--attempt", "1", "--follow")
    assert code == 0, written
    assert "━\x1b[90m─" in written, "a bar"
    assert "25% bundling" in written
    assert rows == [
        "── build $ node build.js",
        "a.ts:3: error: no such name",
        "✓ build 1.0 s",
        "── summary",
        "two files",
        "log complete, verified (5 lines)",
        "build 7 succeeded",
    ]


def test_an_interrupted_follower_leaves_no_bar(server: Server) -> None:
    batch = Lines(first=1, time=1, step=0, lines=["one", Progress(0.25, "bundling")])
    server.on("GET /api/v1/builds/7/log", Say(chunks=[encoder.encode(batch) + b"\n"]))
    _, rows, code = in_a_terminal(server, "logs", "7", "--attempt", "1", "--follow", interrupt_at="bundling")
    assert code == ExitCode.INTERRUPTED
    assert rows[0] == "one"
    assert not any("bundling" in row for row in rows)


ACCESS = {
    "host": "ssh://example.org",
    "public_key": "ssh-ed25519 AAAA twistedipc-shop",
    "fingerprint": "SHA256:x",
    "token": False,
    "host_keys": [{"line": "example.org ssh-ed25519 AAAB", "fingerprint": "SHA256:y"}],
}


def test_project_key(server: Server) -> None:
    """It is made once; after that the public half is printed."""
    server.on("GET /api/v1/projects/shop", as_json(PROJECT))
    server.on("POST /api/v1/projects/shop/deploy-key", as_json(ACCESS))
    made = run(server, "project", "key", "shop")
    assert (made.exit_code, made.stdout) == (0, "ssh-ed25519 AAAA twistedipc-shop\n")
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "access": ACCESS}))
    again = run(server, "project", "key", "shop")
    assert again.stdout == made.stdout
    assert [asked.method for asked in server.asked] == ["GET", "POST", "GET"]
    shown = run(server, "project", "show", "shop").stdout
    for line in ("ssh-ed25519 AAAA twistedipc-shop", "ssh-ed25519 SHA256:y", "ssh://example.org"):
        assert line in shown


def test_project_hosts(server: Server) -> None:
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "access": ACCESS}))
    assert run(server, "project", "hosts", "shop").stdout == "example.org ssh-ed25519 AAAB\tSHA256:y\n"
    server.on("PUT /api/v1/projects/shop/known-hosts", as_json(ACCESS))
    assert run(server, "project", "hosts", "shop", "--set", given="example.org ssh-ed25519 AAAB\n").exit_code == 0
    assert server.asked[-1].json == {"lines": "example.org ssh-ed25519 AAAB\n"}
    assert run(server, "project", "hosts", "shop", "--set", "--forget").exit_code == 2


def test_project_secret_git_token(server: Server) -> None:
    server.on("PUT /api/v1/projects/shop/secrets/git_token", Say(status=204))
    assert run(server, "project", "secret", "shop", "git_token", given="glpat-1\n").exit_code == 0
    assert server.asked[-1].json == {"value": "glpat-1"}
