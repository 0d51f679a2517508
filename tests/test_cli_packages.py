"""`twistedipc packages`: what is asked, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_server import Asked, Say, Server, as_json, problem, serving
from tests.test_cli_commands import run
from twistedipc.cli import packages

AT = "2026-01-02T03:04:05.678Z"
STEP = {"step": "tag", "detail": "latest", "began": AT, "ended": "2026-01-02T03:04:06.678Z", "outcome": "done",
        "reason": ""}  # fmt: skip
OPEN = {**STEP, "step": "untag", "ended": None, "outcome": ""}
UI = {
    "build": 17, "attempt": 1, "target": "npm", "position": 0, "name": "@acme/ui", "version": "1.2.0",
    "state": "published", "tone": "good", "reason": "", "notice": "", "status": "published",
    "registry": "https://npm.example.org/", "mode": "staged", "integrity": "sha512-x", "size": 2048, "tag": "latest",
    "tag_before": "1.1.0", "set_tag": "build-17", "stage": "s1", "asked_by": "ann", "approved_by": "bob",
    "approved": AT, "created": AT, "updated": AT, "steps": [STEP, OPEN],
}  # fmt: skip
PATH = "/api/v1/projects/shop/packages"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the credentials of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def page_of(asked: Asked) -> Say:
    evil = {**UI, "name": "zoo", "state": "failed", "tone": "bad", "reason": "it said \x1b[2J"}
    if asked.query.get("after") == "@acme/ui":
        return as_json({"packages": [{"name": "zoo", "publications": [evil]}], "next": None})
    return as_json({"packages": [{"name": "@acme/ui", "publications": [UI]}], "next": "@acme/ui"})


def test_a_projects_packages_are_listed(server: Server) -> None:
    server.on(f"GET {PATH}", page_of)
    result = run(server, "packages", "shop")
    assert result.exit_code == 0, result.output
    assert [line.split()[1:5] for line in result.stdout.splitlines()[1:]] == [
        ["@acme/ui", "1.2.0", "latest", "published"], ["zoo", "1.2.0", "latest", "failed"],
    ]  # fmt: skip
    assert "\x1b" not in result.stdout
    assert len(server.asked) == 2


def test_without_a_project_it_lists_those_of_all(server: Server) -> None:
    server.on("GET /api/v1/projects", as_json({"projects": []}))
    result = run(server, "packages")
    assert (result.exit_code, "no package yet" in result.stderr) == (0, True)
    assert run(server, "packages", "--json").exit_code == 2


def test_the_history_of_a_package_with_its_steps(server: Server) -> None:
    failed = {**UI, "build": 16, "state": "failed", "tone": "bad", "reason": "the registry forbids it", "steps": []}
    answer = {"name": "@acme/ui", "publications": [UI, failed], "next": "16-1"}
    server.on(f"GET {PATH}/%40acme%2Fui", as_json(answer))
    result = run(server, "packages", "shop", "@acme/ui", "--limit", "2")
    assert result.exit_code == 0, result.output
    assert "1.1.0" in result.stdout
    assert "the registry forbids it" in result.stdout
    assert [part for part in ("untag", "not known") if part in result.stdout] == ["untag", "not known"]
    assert "@acme/ui@1.2.0 to https://npm.example.org/, sha512-x" in result.stderr
    assert "add --before 16-1" in result.stderr
    assert server.asked[0].query == {"limit": "2"}
    assert json.loads(run(server, "packages", "shop", "@acme/ui", "--json").stdout) == answer


def test_what_is_not_there(server: Server) -> None:
    server.on(f"GET {PATH}/none", problem(404, "the apiserver has published no package none of shop"))
    assert run(server, "packages", "shop", "none").exit_code == 4
    assert run(server, "packages", "shop", "--before", "1-1").exit_code == 2
    assert "packages [PROJECT] [NAME]" in run(None, "packages", "--help").output


# -- what is published is changed

ASKED = {
    "id": 5, "package": "@acme/ui", "kind": "promote", "tag": "next", "version": "1.2.0", "before": "1.1.0",
    "message": "", "state": "asked", "tone": "busy", "reason": "", "registry": "", "asked_by": "ann", "created": AT,
    "began": None, "ended": None,
}  # fmt: skip
WAITING = {**ASKED, "state": "waiting", "tone": "waiting", "reason": "the registry wants a one-time password"}
DONE = {**ASKED, "state": "done", "tone": "good", "ended": AT}
REQUESTS = f"POST {PATH}/%40acme%2Fui/requests"
REQUEST = "/api/v1/projects/shop/package-requests/5"


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "POLL", 0.0)


def test_a_tag_is_promoted_with_the_password_that_the_registry_wants(server: Server) -> None:
    server.on(REQUESTS, as_json(ASKED, 202))
    server.on(f"GET {REQUEST}", as_json(ASKED), as_json(WAITING), as_json(DONE))
    server.on(f"POST {REQUEST}/password", as_json(ASKED, 202))
    arguments = ("packages", "promote", "shop", "@acme/ui", "1.2.0", "--tag", "next")
    result = run(server, *arguments, "--yes", "--otp", "-", given="000000\n123456\n")
    assert result.exit_code == 0, result.output
    assert server.asked[0].json == {"kind": "promote", "tag": "next", "version": "1.2.0", "otp": "000000"}
    assert [asked.json for asked in server.asked if asked.path.endswith("password")] == [{"otp": "123456"}]
    assert "next of @acme/ui leads to 1.2.0; it led to 1.1.0 before" in result.stderr
    assert "123456" not in result.output
    server.on(f"GET {REQUEST}", as_json(WAITING))
    assert "--otp -" in run(server, *arguments, "--yes").stderr
    assert run(server, *arguments, "--yes").exit_code == 8
    assert run(server, *arguments, "--yes", "--otp", "123456").exit_code == 2
    assert run(server, *arguments, given="n\n").exit_code == 1


def test_a_rollback_and_a_deprecation(server: Server) -> None:
    server.on(REQUESTS, as_json({**ASKED, "kind": "rollback", "state": "failed", "reason": "nobody knows"}, 202))
    result = run(server, "packages", "rollback", "shop", "@acme/ui", given="y\n")
    assert (result.exit_code, "request 5: nobody knows" in result.stderr) == (1, True)
    assert "Move latest of @acme/ui back to the version before?" in result.stderr
    assert server.asked[-1].json == {"kind": "rollback"}
    done = {**DONE, "kind": "deprecate", "tag": "", "before": "", "message": "use 2"}
    server.on(REQUESTS, as_json(done, 202))
    result = run(server, "packages", "deprecate", "shop", "@acme/ui", "1.2.0", "--message", "use 2", "--yes")
    assert (result.exit_code, result.stderr) == (0, "@acme/ui@1.2.0 is deprecated\n")
    assert server.asked[-1].json == {"kind": "deprecate", "version": "1.2.0", "message": "use 2"}
    assert run(server, "packages", "deprecate", "shop", "@acme/ui", "1.2.0", "--yes").exit_code == 2


def test_what_somebody_else_has_moved_is_said(server: Server) -> None:
    moved = {"registry": "r", "tag": "latest", "version": "1.0.0", "before": "1.2.0", "noticed": AT,
             "text": "the tag latest was moved from 1.2.0 to 1.0.0, and not from here"}  # fmt: skip
    answer = {"name": "@acme/ui", "publications": [UI], "next": None, "tags": {"latest": "1.0.0"}, "moved": [moved],
              "requests": [DONE]}  # fmt: skip
    server.on(f"GET {PATH}/%40acme%2Fui", as_json(answer))
    result = run(server, "packages", "shop", "@acme/ui")
    assert "the tag latest was moved from 1.2.0 to 1.0.0, and not from here" in result.stderr
    assert "tags: latest leads to 1.0.0" in result.stderr
    assert "promote" in result.stdout
    page = {"packages": [{"name": "@acme/ui", "publications": [UI], "moved": [moved]}], "next": None}
    server.on(f"GET {PATH}", as_json(page))
    assert "not from here" in run(server, "packages", "shop").stdout


def test_the_tags_of_a_ref_that_is_gone_are_removed(server: Server) -> None:
    request = {"id": 1, "kind": "untag", "tag": "pr-12", "version": "", "before": "1.2.0-pr12.7", "message": "",
               "state": "done", "tone": "good", "reason": "", "registry": "", "asked_by": "ann", "created": AT,
               "began": AT, "ended": AT}  # fmt: skip
    server.on(f"GET {PATH}", page_of)
    for name, package in (("%40acme%2Fui", "@acme/ui"), ("zoo", "zoo")):
        server.on(f"POST {PATH}/{name}/requests", as_json({**request, "package": package}, 201))
        server.on("GET /api/v1/projects/shop/package-requests/1", as_json({**request, "package": package}))
    result = run(server, "packages", "tidy", "shop", "refs/pull/12/head", "--yes")
    assert result.exit_code == 0, result.output
    asked = [each.json for each in server.asked if each.method == "POST"]
    assert asked == [{"kind": "untag", "tag": "pr-12"}] * 2
    assert "has no tag pr-12 any more" in result.stderr
