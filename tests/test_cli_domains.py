"""`twistedipc project domain`: what is asked, and what is printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_server import Server, as_json, serving
from tests.test_cli_commands import run

AT = "2026-01-02T03:04:05.678Z"
MAIN = {"name": "xn--bcher-kva.example", "readable": "bücher.example", "url": "https://xn--bcher-kva.example/",
        "main": True, "redirect": False, "reason": "", "created": AT}  # fmt: skip
WWW = {**MAIN, "name": "www.acme.example", "readable": "www.acme.example", "url": "https://www.acme.example/",
       "main": False, "redirect": True}  # fmt: skip
PATH = "/api/v1/projects/shop/domains"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the credentials of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_a_domain_is_added(server: Server) -> None:
    server.on(f"PUT {PATH}/xn--bcher-kva.example", as_json(MAIN))
    server.on(f"PUT {PATH}/www.acme.example", as_json(WWW))
    result = run(server, "project", "domain", "add", "shop", "bücher.example", "--main")
    assert result.exit_code == 0, result.output
    assert "the release of shop is at https://xn--bcher-kva.example/, its main domain" in result.output
    result = run(server, "project", "domain", "add", "shop", "www.acme.example", "--redirect")
    assert "https://www.acme.example/ leads to the main domain of shop" in result.output
    assert '"name"' in run(server, "project", "domain", "add", "shop", "www.acme.example", "--json").stdout
    assert [each.json for each in server.asked] == [{"main": True}, {"redirect": True}, {}]


def test_what_is_no_domain_is_said_before_anything_is_asked(server: Server) -> None:
    for command in ("add", "remove"):
        result = run(server, "project", "domain", command, "shop", "https://acme.example/")
        assert result.exit_code == 2
        assert "https://acme.example/ isn't a name alone" in result.output
    assert server.asked == []


def test_domains_are_listed(server: Server) -> None:
    hidden = {**MAIN, "name": "a.example", "readable": "a.example", "main": False, "reason": "is a host of the API's"}
    server.on(f"GET {PATH}", as_json({"domains": [MAIN, WWW, hidden]}))
    result = run(server, "project", "domain", "list", "shop")
    assert result.exit_code == 0, result.output
    _head, first, second, third = result.stdout.splitlines()
    assert first.split() == ["bücher.example", "main", "https://xn--bcher-kva.example/"]
    assert second.split()[:2] == ["www.acme.example", "redirect"]
    assert third.endswith("is a host of the API's")
    assert '"domains"' in run(server, "project", "domain", "list", "shop", "--json").stdout


def test_how_one_is_added_is_said_where_there_is_none(server: Server) -> None:
    server.on(f"GET {PATH}", as_json({"domains": []}))
    said = run(server, "project", "domain", "list", "shop").output
    assert "shop has no domain of its own; `twistedipc project domain add shop" in said


def test_a_domain_is_removed(server: Server) -> None:
    server.on(f"DELETE {PATH}/www.acme.example", as_json(None))
    result = run(server, "project", "domain", "remove", "shop", "www.acme.example")
    assert "shop isn't served at www.acme.example any more" in result.output
