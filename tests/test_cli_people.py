"""`twistedipc people`, `project members`, `login` by an invitation, and `token --own`, against a real HTTP server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.cli_server import Say, Server, as_json, problem, serving
from twistedipc.cli.contexts import read_contexts
from twistedipc.cli.failures import ExitCode
from twistedipc.cli.main import commands

WHEN = "2026-01-31T12:00:00Z"
ANN: dict[str, Any] = {
    "id": 3, "name": "ann", "email": "ann@example.org", "role": "member", "state": "active", "by_groups": False,
    "created": WHEN, "joined": None,
}  # fmt: skip
TOKEN: dict[str, Any] = {
    "id": 9, "name": "laptop", "scopes": ["build"], "projects": None, "created": WHEN, "expires": None,
    "revoked": None, "last_used": None, "person": {"id": 3, "name": "ann"},
}  # fmt: skip


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("TWISTEDIPC_URL", "TWISTEDIPC_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with serving() as running:
        running.on("GET /api/v1/people", as_json({"people": [ANN]}))
        yield running


def run(server: Server, *arguments: str) -> Result:
    return CliRunner().invoke(commands, [*arguments, "--url", server.url, "--token", "tipc_t"])


def test_an_invitation_is_one_line_to_send(server: Server) -> None:
    made = {"person": ANN, "code": "tipi_x", "url": "https://ci.example/#token=tipi_x", "expires": WHEN}
    server.on("POST /api/v1/people", as_json(made, 201))
    server.on("POST /api/v1/people/3/invitations", as_json(made, 201))
    result = run(server, "people", "invite", "ann", "--email", "ann@example.org", "--admin")
    assert result.stdout == "https://ci.example/#token=tipi_x\n"
    assert "ann can sign in once" in result.stderr
    assert server.asked[0].json == {"name": "ann", "email": "ann@example.org", "role": "admin"}
    assert run(server, "people", "invite", "ann", "--again").stdout == result.stdout
    assert server.asked[-1].path == "/api/v1/people/3/invitations"
    assert run(server, "people", "invite", "ann", "--again", "--admin").exit_code == ExitCode.USAGE


def test_people_are_listed_changed_disabled_and_enabled(server: Server) -> None:
    server.on("PATCH /api/v1/people/3", as_json({**ANN, "role": "admin", "by_groups": True}))
    assert "ann@example.org" in run(server, "people", "list").stdout
    assert "ann is an admin" in run(server, "people", "set", "ann", "--email", "", "--role", "admin").stderr
    assert "tokens and sessions have ended" in run(server, "people", "disable", "ann").stderr
    assert "--again" in run(server, "people", "enable", "ann").stderr
    changes = [asked.json for asked in server.asked if asked.method == "PATCH"]
    assert changes == [{"email": None, "role": "admin"}, {"disabled": True}, {"disabled": False}]
    assert run(server, "people", "disable", "eve").exit_code == ExitCode.NOT_FOUND


def test_members_of_a_project(server: Server) -> None:
    member = {"person": {"id": 3, "name": "ann"}, "role": "publisher", "added": "reader", "by_groups": "publisher"}
    for request in ("GET /api/v1/projects/shop/members", "POST /api/v1/projects/shop/members"):
        server.on(request, as_json({"members": [member]}))
    server.on("DELETE /api/v1/projects/shop/members/3", as_json({"members": []}))
    listed = run(server, "project", "members", "shop").stdout
    assert "name (reader), groups (publisher)" in listed
    assert run(server, "project", "members", "shop", "add", "ann", "--role", "reader").stdout == listed
    assert server.asked[-1].json == {"person": "ann", "role": "reader"}
    assert "no members" in run(server, "project", "members", "shop", "remove", "ann").output
    assert run(server, "project", "members", "shop", "remove", "eve").exit_code == ExitCode.NOT_FOUND
    assert run(server, "project", "members", "shop", "add", "ann", "--role", "king").exit_code == ExitCode.USAGE
    for wrong in (["add", "ann"], ["add"], ["remove"], ["remove", "ann", "--role", "reader"], ["--role", "reader"]):
        assert run(server, "project", "members", "shop", *wrong).exit_code == ExitCode.USAGE


def test_login_takes_an_invitation(server: Server) -> None:
    server.on("POST /api/v1/invitations", as_json({**TOKEN, "token": "tipc_mine"}, 201))
    identity = {"name": "ann", "scopes": ["build"], "projects": None, "person": {"id": 3, "name": "ann"}}
    server.on("GET /api/v1/identity", as_json({**identity, "roles": {"shop": "developer"}}))
    result = CliRunner().invoke(commands, ["login", "--url", server.url], input="tipi_code\n")
    assert result.exit_code == 0, result.output
    assert "as ann (build; developer of shop)" in result.output
    assert server.asked[0].json == {"code": "tipi_code"}
    kept = read_contexts()
    assert [each.token for each in kept.contexts.values()] == ["tipc_mine"]
    server.on("POST /api/v1/invitations", problem(401, "this invitation is not valid"))
    again = CliRunner().invoke(commands, ["login", "--url", server.url], input="tipi_code\n")
    assert again.exit_code == ExitCode.NOT_ALLOWED
    assert read_contexts() == kept


def test_tokens_of_ones_own_need_no_admin(server: Server) -> None:
    server.on("POST /api/v1/identity/tokens", as_json({**TOKEN, "token": "tipc_new"}, 201))
    server.on("GET /api/v1/identity/tokens", as_json({"tokens": [TOKEN]}))
    server.on("DELETE /api/v1/identity/tokens/9", Say(status=204))
    assert run(server, "token", "create", "laptop", "--scope", "build", "--own").stdout == "tipc_new\n"
    assert server.asked[0].json == {"name": "laptop", "scopes": ["build"]}
    assert "ann" in run(server, "token", "list", "--own").stdout
    assert run(server, "token", "revoke", "9", "--own").exit_code == 0
    refused = run(server, "token", "create", "x", "--scope", "build", "--own", "--service")
    assert refused.exit_code == ExitCode.USAGE
