"""Walks the table of routes: what it says is what happens, for every route."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.web_world import World
from twistedipc.builds.scopes import SCOPES
from twistedipc.web.api.openapi import document, statuses
from twistedipc.web.api.route import CONVERTERS, Route, parameter_schema
from twistedipc.web.api.routes import ROUTES, Match, Options, match
from twistedipc.web.http.problems import ProblemError

_ROLES = SCOPES


def _path(route: Route, number: int | str = 1, project: str = "shop") -> str:
    values = {
        "project": project,
        "build": number,
        "builder": "one",
        "attempt": f"{number}-1",
        "secret": "npm_token",
        "package": "@acme/ui",
        "name": project,
        "receiver": "chat",
        "domain": "www.shop.example",
    }
    return re.sub(r"<(\w+):\w+>", lambda found: str(values[found[1]]), route.rule)


_UPGRADE = {"Upgrade": "websocket"}


class EveryRoute(World):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()
        self.guarded = [route for route in ROUTES if route.needs in _ROLES]
        assert len(self.guarded) > 15

    async def test_refuses_no_token(self) -> None:
        for route in self.guarded:
            answer = await self.ask(route.method, _path(route), b"{}", token=None, headers=self._headers(route))
            self.problem(answer, 401)

    async def test_refuses_a_scope_that_is_too_small(self) -> None:
        for index, role in enumerate(_ROLES[:-1]):
            token = await self.token(role, role)
            for route in self.guarded:
                if _ROLES.index(route.needs) > index:
                    answer = await self.ask(
                        route.method, _path(route), b"{}", token=token, headers=self._headers(route)
                    )
                    self.problem(answer, 403, route.needs)

    async def test_a_foreign_project_and_a_missing_one_are_the_same(self) -> None:
        stranger = await self.token("stranger", "admin", ["elsewhere"])
        for route in self.guarded:
            if route.binding == "none":
                continue
            headers = self._headers(route)
            foreign = await self.ask(route.method, _path(route, self.number), b"{}", token=stranger, headers=headers)
            missing = await self.ask(
                route.method, _path(route, 987654, "nowhere"), b"{}", token=stranger, headers=headers
            )
            self.problem(foreign, 404)
            self.problem(missing, 404)
            for name in ("type", "title"):
                assert foreign.json[name] == missing.json[name]
        assert (await self.ask("GET", "/api/v1/projects", token=stranger)).json == {"projects": []}
        assert (await self.ask("GET", "/api/v1/builds", token=stranger)).json["builds"] == []
        listed = await self.ask("GET", "/api/v1/builds?project=shop", token=stranger)
        assert listed.json["builds"] == []

    async def test_whatever_takes_a_body_refuses_other_types(self) -> None:
        for route in self.guarded:
            if route.body is None:
                continue
            for headers, status in (
                ({"Content-Type": "text/plain"}, 415),
                ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
                ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
                ({"Content-Type": "application/json"}, 400),
            ):
                answer = await self.ask(route.method, _path(route, self.number), b"\x1f\x8b{", headers=headers)
                self.problem(answer, status)
            answer = await self.ask(
                route.method, _path(route, self.number), b"[]", headers={"Content-Type": "application/json"}
            )
            self.problem(answer, 422)

    async def test_options_and_other_methods(self) -> None:
        for path in {_path(route, self.number) for route in ROUTES}:
            options = await self.ask("OPTIONS", path, token=None)
            assert options.status == 204
            allowed = options.headers["Allow"].split(", ")
            assert "OPTIONS" in allowed
            for method in ("GET", "PUT", "POST", "PATCH", "DELETE", "TRACE", "CONNECT", "BREW"):
                if method not in allowed:
                    answer = await self.ask(method, path)
                    self.problem(answer, 405)
                    assert answer.headers["Allow"] == options.headers["Allow"]

    async def test_head_is_get_without_a_body(self) -> None:
        for route in ROUTES:
            if route.method == "GET" and not route.websocket:
                head = await self.ask("HEAD", _path(route, self.number))
                got = await self.ask("GET", _path(route, self.number))
                assert head.status == got.status
                assert head.raw.endswith(b"\r\n\r\n")
                assert head.headers["Content-Length"] == got.headers["Content-Length"]

    async def test_the_document_is_served(self) -> None:
        answer = await self.ask("GET", "/api/v1/openapi.json", token=None)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json["openapi"] == "3.1.0"

    def _headers(self, route: Route) -> dict[str, str]:
        return {"Content-Type": "application/json"} | (_UPGRADE if route.websocket else {})


def test_every_route_is_documented() -> None:
    made = document(ROUTES, "1")
    for route in ROUTES:
        path = re.sub(r"<\w+:(\w+)>", r"{\1}", route.rule)
        operation = made["paths"][path][route.method.lower()]
        assert operation["operationId"] == route.name
        assert operation["x-needs"] == route.needs
        assert operation["summary"]
        assert {str(status) for status in (*route.responses, *statuses(route))} == set(operation["responses"])
        assert bool(operation["security"]) == (route.needs != "none")
    names = [route.name for route in ROUTES]
    assert len(set(names)) == len(names)


def test_the_document_says_which_members_exclude_one_another() -> None:
    schemas = document(ROUTES, "1")["components"]["schemas"]
    for name in ("NewProject", "ProjectChange"):
        assert schemas[name]["not"] == {"required": ["targets", "publish"]}
    assert "not" not in schemas["NewBuild"]


def test_every_reference_of_the_document_resolves() -> None:
    made = document(ROUTES, "1")

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str):
                assert reference.removeprefix("#/components/schemas/") in made["components"]["schemas"]
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(made)
    assert {name: parameter_schema(name)["type"] for name in CONVERTERS} == {
        "project": "string", "build": "integer", "builder": "string", "attempt": "string", "secret": "string",
        "package": "string", "name": "string", "receiver": "string", "domain": "string",
    }  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "/",
        "//",
        "/api",
        "/api/v1/",
        "/api/v1/builds/",
        "/api/v1//builds",
        "/api/v1/builds/0",
        "/api/v1/builds/01",
        "/api/v1/builds/-1",
        "/api/v1/builds/+1",
        "/api/v1/builds/1e3",
        "/api/v1/builds/1%0a",
        "/api/v1/builds/%00",
        "/api/v1/builds/1%00",
        "/api/v1/builds/" + "9" * 19,
        "/api/v1/builds/" + "9" * 9000,
        "/api/v1/builds/../builds/1",
        "/api/v1/builds/%2e%2e/builds/1",
        "/api/v1/builds%2f1",
        "/api/v1/builds/%252e",
        "/api/v1/builds/%d9%a3",
        "/api/v1/builds/\xff",
        "/api/v1/builds/%ff",
        "/api/v1/projects/..",
        "/api/v1/projects/%2e%2e%2fx",
        "/api/v1/projects/A",
        "/api/v1/projects/a%0a",
        "/api/v1/projects/a%20",
        "/api/v1/projects/-a",
        "/api/v1/projects/" + "a" * 64,
        "/api/v1/uploads/1",
        "/api/v1/uploads/1-0",
        "/api/v1/uploads/../1-1",
        "/api/v1/uploads/1-1%2f..%2f..",
        "/API/V1/builds",
        "/api/v1/projects/shop/packages/a/b",
        "/api/v1/projects/shop/packages/a%2fb",
        "/api/v1/projects/shop/packages/@acme",
        "/api/v1/projects/shop/packages/@acme/",
        "/api/v1/projects/shop/packages/@acme/ui/x",
        "/api/v1/projects/shop/packages/@acme%2fui%2f..",
        "/api/v1/projects/shop/packages/@../ui",
        "http://other/api/v1/builds",
    ],
)
def test_paths_that_name_nothing(path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        with pytest.raises(ProblemError) as raised:
            match(method, path.encode("latin-1"))
        assert raised.value.status == 404, path


def test_paths_that_name_something() -> None:
    found = match("GET", b"/api/v1/builds/42/log")
    assert isinstance(found, Match)
    assert (found.route.name, found.path) == ("read_log", {"build": 42})
    found = match("HEAD", b"/api/v1/projects/sh%6fp")
    assert isinstance(found, Match)
    assert (found.route.name, found.path) == ("show_project", {"project": "shop"})
    for path in (b"ui", b"@acme/ui", b"@acme%2fui", b"%40acme/ui"):
        found = match("GET", b"/api/v1/projects/shop/packages/" + path)
        assert isinstance(found, Match)
        assert found.route.name == "show_package"
        assert found.path["package"] in ("ui", "@acme/ui")
    options = match("OPTIONS", b"/api/v1/uploads/1-1")
    assert isinstance(options, Options)
    assert options.allow == "HEAD, OPTIONS, PUT"
