"""Releases that are for the team alone, and the headers that releases are served with."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote

import pytest
from twisted.internet import reactor as global_reactor

from tests.site_client import put_release
from tests.web_world import Answer, World, request_bytes, say
from twistedipc.builds.names import BadValue
from twistedipc.builds.site.headers import read_headers
from twistedipc.builds.site.rules import Serving
from twistedipc.publish.targets.static.headers import check_headers, headers_of
from twistedipc.web.access.visits import CODE_SECONDS, VISIT_SECONDS, challenge_of
from twistedipc.web.releases.gate import Gate
from twistedipc.web.releases.site import releases_site

reactor: Any = global_reactor

HOST = "shop.localhost:8081"
FOR_TEAM = [{"type": "static", "access": "team"}]
PAGE = {"Accept": "text/html"}


class Served(World):
    """A site of releases beside the API."""

    api_url = "http://api.test"

    async def prepare(self) -> None:
        domains = self.context.domains
        gate = Gate(self.context.visits, self.context.guests, self.api_url, domains.urls_of)
        site = releases_site(
            self.release_store,
            reactor,
            os.urandom,
            domains=domains,
            audience=self.context.audience,
            gate=gate,
        )
        listening = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.releases_port: int = listening.getHost().port
        await self.project("shop", targets=FOR_TEAM)
        await self.project("blog")
        for project in ("shop", "blog"):
            files = {"index.html": f"<h1>{project}</h1>".encode(), "assets/index-BvJ3kT9a.js": b"one()"}
            put_release(self.folder / "releases", project, 1, files)
            self.release_store.activate(project, 1)

    async def get(self, path: str = "/", host: str = HOST, cookie: str = "", **headers: str) -> Answer:
        return await self.send("GET", path, host, cookie, b"", **headers)

    async def send(self, method: str, path: str, host: str, cookie: str, body: bytes, **headers: str) -> Answer:
        sent = {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if cookie:
            sent["Cookie"] = cookie
        return Answer(await say(self.releases_port, request_bytes(method, path, sent, body)))


def cookies_of(answer: Answer) -> dict[str, str]:
    lines = answer.headers.get_all("Set-Cookie") or []
    return dict(line.partition(";")[0].split("=", 1) for line in lines)


class Team(Served):
    async def asked(self, path: str = "/a?b=c") -> tuple[dict[str, str], dict[str, str]]:
        """What the page is told, and the browser's cookies."""
        answer = await self.get(path, **PAGE)
        assert answer.status == 302, answer.raw
        where, _, fragment = answer.headers["Location"].partition("#/visit/")
        assert where == "http://api.test/"
        project, host, challenge, to = map(unquote, fragment.split("/"))
        assert (project, to) == ("shop", path)
        return {"host": host, "challenge": challenge, "path": to}, cookies_of(answer)

    async def begun(self, token: str = "", **more: str) -> Answer:
        body, _ = await self.asked()
        return await self.ask("POST", "/api/v1/projects/shop/visits", body | more, token=token)

    async def visit(self, token: str = "") -> str:
        """The cookie of a visit."""
        body, cookies = await self.asked()
        answer = await self.ask("POST", "/api/v1/projects/shop/visits", body, token=token)
        assert answer.status == 201, answer.raw
        entered = await self.enter(answer.json["url"], cookies)
        assert (entered.status, entered.headers["Location"]) == (302, "/a?b=c"), entered.raw
        return "; ".join(f"{name}={value}" for name, value in cookies_of(entered).items() if value)

    async def enter(self, url: str, cookies: dict[str, str]) -> Answer:
        assert url.startswith(f"http://{HOST}/.well-known/twistedipc-visit?")
        return await self.get(url.removeprefix(f"http://{HOST}"), cookie="; ".join(map("=".join, cookies.items())))

    async def test_nothing_is_served_without_a_visit(self) -> None:
        for path in ("/", "/index.html", "/assets/index-BvJ3kT9a.js", "/nothing", "/.well-known/x"):
            answer = await self.get(path)
            assert answer.status == 401, answer.raw
            assert b"shop</h1>" not in answer.raw
        assert (await self.get("/", Sec_Fetch_Mode="no-cors", **PAGE)).status == 401
        assert (await self.get("/", host="blog.localhost:8081")).body == b"<h1>blog</h1>"

    async def test_who_is_signed_in_is_let_in(self) -> None:
        cookie = await self.visit(await self.token("bob", "read"))
        answer = await self.get("/", cookie=cookie)
        assert answer.body == b"<h1>shop</h1>"
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Vary"] == "Cookie"
        asset = await self.get("/assets/index-BvJ3kT9a.js", cookie=cookie)
        assert asset.headers["Cache-Control"].startswith("private, max-age")
        lines = (await self.ask("GET", "/api/v1/audit?action=visit")).json["lines"]
        assert [(line["who"], line["project"]) for line in lines] == [("bob", "shop")]

    async def test_files_of_an_open_page_are_for_the_team_too(self) -> None:
        files = {"index.html": b'<script src="/app.js"></script>', "app.js": b"two()"}
        put_release(self.folder / "releases", "shop", 2, files)
        self.release_store.activate("shop", 2)
        assert (await self.get("/~r2~/app.js")).status == 401
        cookie = await self.visit()
        page = await self.get("/", cookie=cookie)
        assert page.body == b'<script src="/~r2~/app.js"></script>'
        assert (page.headers["Cache-Control"], page.headers["Vary"]) == ("private, no-cache", "Cookie, Accept-Encoding")
        asset = await self.get("/~r2~/app.js", cookie=cookie)
        assert (asset.body, asset.headers["Cache-Control"]) == (b"two()", "private, max-age=31536000, immutable")

    async def test_no_cache_between_is_told_to_keep_anything(self) -> None:
        told = ("CDN-Cache-Control", "Cloudflare-CDN-Cache-Control", "netlify-cdn-cache-control", "Surrogate-Control",
                "Surrogate-Key", "Expires", "Edge-Control")  # fmt: skip
        lines = [f"  {name}: max-age=60" for name in ("Cache-Control", *told)]
        serving = Serving(headers=read_headers("\n".join(["/*", *lines, "  X-A: 1"]).encode()))
        files = {"index.html": b"<script src='/app.js'></script>", "app.js": b"two()", "404.html": b"none"}
        for project in ("shop", "blog"):
            put_release(self.folder / "releases", project, 2, files, serving)
            self.release_store.activate(project, 2)
        cookie = await self.visit()
        for path in ("/", "/app.js", "/~r2~/app.js", "/none"):
            answer = await self.get(path, cookie=cookie)
            assert (answer.status, answer.headers["X-A"]) == (404 if path == "/none" else 200, "1"), path
            assert [name for name in told if answer.headers[name] is not None] == [], path
            if path != "/none":
                assert answer.headers["Cache-Control"] == "private, max-age=60"
        answer = await self.get("/", host="blog.localhost:8081")
        assert [name for name in told if answer.headers[name] is None] == [], "it is for everybody"

    async def test_the_cookie_is_of_this_host_alone(self) -> None:
        body, cookies = await self.asked()
        url = (await self.ask("POST", "/api/v1/projects/shop/visits", body)).json["url"]
        set_cookie = ((await self.enter(url, cookies)).headers.get_all("Set-Cookie") or [""])[0]
        for part in ("HttpOnly", "SameSite=Lax", "Path=/"):
            assert part in set_cookie
        assert "Domain" not in set_cookie

    async def test_a_code_is_for_once_for_this_browser_and_not_for_long(self) -> None:
        body, cookies = await self.asked()
        for other in ({}, {"twistedipc_asked": "other"}):
            url = (await self.ask("POST", "/api/v1/projects/shop/visits", body)).json["url"]
            assert (await self.enter(url, other)).status == 403
            assert (await self.enter(url, cookies)).status == 403, "it was tried"
        url = (await self.ask("POST", "/api/v1/projects/shop/visits", body)).json["url"]
        self.time += CODE_SECONDS * 1000
        assert (await self.enter(url, cookies)).status == 403
        url = (await self.ask("POST", "/api/v1/projects/shop/visits", body)).json["url"]
        assert (await self.enter(url, cookies)).status == 302
        assert (await self.enter(url, cookies)).status == 403

    async def test_who_may_not_see_the_project_gets_no_code(self) -> None:
        self.problem(await self.begun(await self.token("stranger", "admin", ["blog"])), 404)
        self.problem(await self.begun(host="evil.example"), 404)
        self.problem(await self.begun(host="shop.localhost:9999"), 404)
        self.problem(await self.begun(challenge="x"), 422)

    async def test_a_visit_ends_with_its_token_and_with_time(self) -> None:
        answer = await self.ask("POST", "/api/v1/tokens", {"name": "bob", "scopes": ["read"]})
        cookie = await self.visit(answer.json["token"])
        other = await self.visit()
        assert (await self.get("/", cookie=cookie)).status == 200
        assert (await self.ask("DELETE", f"/api/v1/tokens/{answer.json['id']}")).status == 204
        assert (await self.get("/", cookie=cookie)).status == 401
        assert (await self.get("/", cookie=other)).status == 200
        self.time += VISIT_SECONDS * 1000
        assert (await self.get("/", cookie=other)).status == 401

    async def test_a_visit_is_for_one_project(self) -> None:
        cookie = await self.visit()
        change = {"targets": FOR_TEAM}
        assert (await self.ask("PATCH", "/api/v1/projects/blog", change)).status == 200
        assert (await self.get("/", host="blog.localhost:8081", cookie=cookie)).status == 401

    async def test_a_change_holds_at_once(self) -> None:
        assert (await self.get("/", host="blog.localhost:8081")).status == 200
        await self.ask("PATCH", "/api/v1/projects/blog", {"targets": FOR_TEAM})
        assert (await self.get("/", host="blog.localhost:8081")).status == 401
        await self.ask("PATCH", "/api/v1/projects/blog", {"publish": {"static": True}})
        assert (await self.get("/", host="blog.localhost:8081")).status == 401, "the older form says nothing of it"
        await self.ask("PATCH", "/api/v1/projects/blog", {"targets": [{"type": "static"}]})
        assert (await self.get("/", host="blog.localhost:8081")).status == 200

    async def test_it_leads_nowhere_else(self) -> None:
        for path in ("//evil.example/", "/\\evil.example", "https://evil.example/"):
            body, cookies = await self.asked()
            answer = await self.ask("POST", "/api/v1/projects/shop/visits", body | {"path": path})
            if answer.status == 422:
                continue
            entered = await self.enter(answer.json["url"], cookies)
            assert entered.headers["Location"] == "/"

    async def test_on_a_shared_host_it_leads_to_its_own(self) -> None:
        answer = await self.get("/shop/a", host="127.0.0.2:8081", **PAGE)
        assert (answer.status, answer.headers["Location"]) == (302, f"http://{HOST}/a")

    async def test_a_number_is_shown_as_its_digest_alone(self) -> None:
        body, cookies = await self.asked()
        assert body["challenge"] == challenge_of(cookies["twistedipc_asked"])


class OverHttps(Served):
    scheme = "https"

    async def test_cookies_and_headers_are_those_of_https(self) -> None:
        answer = await self.get("/", **PAGE)
        (line,) = answer.headers.get_all("Set-Cookie") or []
        assert line.startswith("__Host-twistedipc_asked=")
        assert "; Secure" in line
        assert (await self.get("/", host="blog.localhost:8081")).headers["Strict-Transport-Security"]


class Headers(Served):
    async def blog(self) -> Answer:
        return await self.get("/", host="blog.localhost:8081")

    async def test_the_platforms_own_and_those_of_a_project(self) -> None:
        answer = await self.blog()
        assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Strict-Transport-Security"] is None
        lines = ["content-security-policy: default-src 'self'", "X-Frame-Options:", "X-Robots-Tag: noindex"]
        change = {"targets": [{"type": "static", "headers": lines}]}
        assert (await self.ask("PATCH", "/api/v1/projects/blog", change)).status == 200
        answer = await self.blog()
        assert answer.headers["Content-Security-Policy"] == "default-src 'self'"
        assert answer.headers["X-Robots-Tag"] == "noindex"
        assert answer.headers["X-Frame-Options"] is None

    async def test_what_cannot_be_set(self) -> None:
        for line in (
            "Set-Cookie: a=b",
            "Location: /",
            "Content-Length: 0",
            "X",
            "X-Robots-Tag: a\nb",
            "Cache-Control: no",
        ):
            change = {"targets": [{"type": "static", "headers": [line]}]}
            self.problem(await self.ask("PATCH", "/api/v1/projects/blog", change), 422)
        change = {"targets": [{"type": "static", "access": "friends"}]}
        self.problem(await self.ask("PATCH", "/api/v1/projects/blog", change), 422, "access is public or team")


def test_headers() -> None:
    assert headers_of(["Referrer-Policy: origin"], https=False)[b"Referrer-Policy"] == b"origin"
    assert b"Strict-Transport-Security" in headers_of([], https=True)
    assert headers_of(["Strict-Transport-Security:"], https=True)[b"Strict-Transport-Security"] == b""
    with pytest.raises(BadValue, match="at most"):
        check_headers(["X-Robots-Tag: x"] * 21)
