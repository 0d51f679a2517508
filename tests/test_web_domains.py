"""Projects' own domains by HTTP: given, listed and taken away, and what is served at them, at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from sqlalchemy import Connection

from tests.site_client import put_release
from tests.test_web_team import PAGE, Served, cookies_of
from tests.web_world import Answer
from twistedipc.builds.domains import is_among
from twistedipc.builds.site.rules import Redirect, Serving
from twistedipc.storage import domains
from twistedipc.web.access.domains import Domains
from twistedipc.web.site import api_site

P = "/api/v1/projects/blog/domains"


class DomainsTest(Served):
    async def put(self, name: str, status: int = 200, project: str = "blog", token: str = "", **body: Any) -> Any:
        answer = await self.ask("PUT", f"/api/v1/projects/{project}/domains/{name}", body, token=token)
        assert answer.status == status, answer.raw
        return answer.json

    async def at(self, host: str, path: str = "/", **headers: str) -> Answer:
        return await self.get(path, host=host, **headers)

    async def test_a_domain_is_given_listed_and_taken_away(self) -> None:
        made = await self.put("XN--Bcher-KVA.Example.")
        assert made == {
            "name": "xn--bcher-kva.example", "readable": "bücher.example", "url": "http://xn--bcher-kva.example:8081/",
            "main": True, "redirect": False, "reason": "", "certificate_ends": None,
            "created": made["created"],
        }  # fmt: skip
        www = await self.put("www.xn--bcher-kva.example", redirect=True)
        assert (await self.ask("GET", P)).json == {"domains": [made, www]}
        project = (await self.ask("GET", "/api/v1/projects/blog")).json
        assert project["release_url"] == made["url"]
        assert project["addresses"] == {"static": made["url"]}
        assert project["domains"] == ["xn--bcher-kva.example", "www.xn--bcher-kva.example"]
        self.problem(await self.ask("DELETE", f"{P}/xn--bcher-kva.example"), 409, "leads to xn--bcher-kva.example")
        assert (await self.ask("DELETE", f"{P}/www.xn--bcher-kva.example")).status == 204
        assert (await self.ask("DELETE", f"{P}/xn--bcher-kva.example")).status == 204
        self.problem(await self.ask("DELETE", f"{P}/a.example"), 404, "project blog has no domain a.example")
        assert (await self.ask("GET", P)).json == {"domains": []}
        lines = (await self.ask("GET", "/api/v1/audit")).json["lines"][:4]
        assert [(line["action"], line["project"], line["detail"]) for line in lines] == [
            ("domain.delete", "blog", {"domain": "xn--bcher-kva.example"}),
            ("domain.delete", "blog", {"domain": "www.xn--bcher-kva.example"}),
            ("domain.set", "blog", {"domain": "www.xn--bcher-kva.example", "use": "redirect"}),
            ("domain.set", "blog", {"domain": "xn--bcher-kva.example", "use": "main"}),
        ]

    async def test_what_isnt_taken_is_said(self) -> None:
        for name, said in [
            ("*.acme.example", "add each name by itself"),
            ("acme.example:80", "leave out the scheme, port and path"),
            ("192.0.2.1", "is an address"),
            ("example", "one part only"),
            ("api.test", "api.test is a host of the API's"),
            ("evil.api.test", "is below api.test, a host of the API's"),
            ("shop.localhost", "the machine of the person who looks"),
            ("a%3Fb.example", "leave out"),
        ]:
            self.problem(await self.ask("PUT", f"{P}/{name}", {}), 422, said)
        self.problem(await self.ask("PUT", f"{P}/a.example", {"redirect": True}), 409, "no other domain")
        assert (await self.ask("GET", P)).json == {"domains": []}

    async def test_a_release_is_served_at_its_domains_at_once(self) -> None:
        assert (await self.at("www.acme.example")).status == 421
        await self.put("acme.example")
        await self.put("www.acme.example", redirect=True)
        for host in ("acme.example", "ACME.example.", "acme.example:8081"):
            assert (await self.at(host)).body == b"<h1>blog</h1>", host
        asset = await self.at("acme.example", "/assets/index-BvJ3kT9a.js")
        assert "immutable" in asset.headers["Cache-Control"]
        sent = await self.at("www.acme.example:8081", "/a//b/%C3%A4?x=1&y=%2F")
        assert sent.status == 404, "no path has two slashes"
        sent = await self.at("www.acme.example:8081", "/a/%C3%A4/?x=1&y=%2F&z=//evil.example")
        assert sent.status == 308
        assert sent.headers["Location"] == "http://acme.example:8081/a/%C3%A4/?x=1&y=%2F&z=//evil.example"
        await self.put("www.acme.example", main=True)
        await self.put("acme.example", redirect=True)
        assert (await self.at("www.acme.example")).body == b"<h1>blog</h1>"
        assert (await self.at("acme.example")).headers["Location"] == "http://www.acme.example:8081/"
        assert (await self.ask("DELETE", f"{P}/acme.example")).status == 204
        gone = await self.at("acme.example")
        assert (gone.status, b"<h1>" in gone.raw) == (421, False)
        assert (await self.ask("DELETE", "/api/v1/projects/blog")).status == 204
        assert (await self.at("www.acme.example")).status == 421
        await self.put("www.acme.example", project="shop")

    async def test_a_start_finds_all_of_them(self) -> None:
        await self.put("acme.example")
        await self.put("www.acme.example", redirect=True)
        await self.put("b.example", project="shop")
        after = Domains(self.hosts, lambda project: [f"https://{project}.pages.example/"])
        await after.load(self.ledger)
        assert [after.hosts.project_of(name) for name in ("acme.example", "www.acme.example", "b.example")] == [
            "blog", "blog", "shop",
        ]  # fmt: skip
        assert after.sent_to("www.acme.example") == "acme.example"
        assert after.url_of("shop") == "https://b.example/"

    async def test_a_change_whose_answer_was_lost_is_found_later(self) -> None:
        await self.put("a.example")
        await self.put("b.example")
        known = self.context.domains

        def move(connection: Connection) -> None:
            domains.remove(connection, "blog", "a.example")
            domains.put(connection, "shop", "a.example", main=True, redirect=False, now=1)

        await self.ledger.write(move)
        assert known.hosts.project_of("a.example") == "blog"
        await known.refresh(self.ledger)
        assert [known.hosts.project_of(name) for name in ("a.example", "b.example")] == ["shop", "blog"]
        assert known.url_of("blog") == "http://b.example:8081/"
        await self.ledger.write(domains.remove, "shop", "a.example")
        await known.refresh(self.ledger)
        assert known.hosts.project_of("a.example") is None
        await self.ledger.close()
        await known.refresh(self.ledger)
        assert known.hosts.project_of("b.example") == "blog", "what is known holds while the database is away"

    async def test_no_request_for_any_host_asks_the_ledger(self) -> None:
        await self.put("acme.example")
        assert (await self.at("acme.example")).status == 200  # which asks once for whom the project's releases are
        asked: list[object] = []
        read = self.ledger.read

        def counted(query: Any, *args: Any, **more: Any) -> Any:
            asked.append(query)
            return read(query, *args, **more)

        self.patch(self.ledger, "read", counted)
        for host in ("acme.example", "unknown.example", "www.acme.example"):
            await self.at(host)
        assert asked == []

    async def test_hosts_that_only_look_like_a_domain_are_nobodys(self) -> None:
        await self.put("acme.example")
        for host in (
            "x.acme.example", "acme.example.evil.example", "ada@acme.example", "acme.example/x", "acme.example#",
            "acme.example\\.evil.example", "acme.example:80:80", "acme.example..", ".acme.example", "acme%2eexample",
            "evil.example?acme.example", "build-1--blog.acme.example", "xn--acme.example", "[acme.example]",
        ):  # fmt: skip
            assert (await self.at(host)).status == 421, host
        assert (await self.at("acme.example, evil.example")).status == 421

    async def test_a_domain_is_never_the_apis(self) -> None:
        await self.put("acme.example")
        for path in ("/", "/api/v1/projects", "/api/v1/openapi.json"):
            self.problem(
                await self.ask("GET", path, headers={"Host": "acme.example"}), 421, "isn't called acme.example"
            )
        for headers in (
            {"Origin": "http://acme.example:8081"},
            {"Origin": "http://acme.example"},
            {"Origin": "https://acme.example", "Host": "api.test"},
        ):
            answer = await self.ask("POST", "/api/v1/sessions", {"token": self.admin}, token=None, headers=headers)
            assert answer.status == 403, answer.raw
            assert "Set-Cookie" not in answer.headers
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "http://acme.example:8081"}
        answer = await self.ask("GET", "/api/v1/stream", headers=upgrade)
        assert answer.status == 403, answer.raw

    async def test_what_a_site_says_holds_at_its_domain(self) -> None:
        await self.put("acme.example")
        serving = Serving(redirects=[Redirect(source="/old", target="/")])
        put_release(self.folder / "releases", "blog", 2, {"index.html": b"<h1>2</h1>"}, serving)
        self.release_store.activate("blog", 2)
        moved = await self.at("acme.example", "/old")
        assert (moved.status, moved.headers["Location"]) == (301, "/")
        asset = await self.at("acme.example", "/assets/index-BvJ3kT9a.js")
        assert asset.body == b"one()", "of the release before, which an open page asks for"
        page = await self.at("acme.example")
        assert page.headers["X-Content-Type-Options"] == "nosniff"

    async def test_who_may_give_which(self) -> None:
        await self.project("other")
        person = await self.person("max", {"blog": "maintainer"})
        own = await self.token("max", "admin", person=person)
        bound = await self.token("bound", "admin", ["blog"])
        for token in (own, bound):
            answer = await self.ask("PUT", f"{P}/www.acme.example", {}, token=token)
            self.problem(answer, 403, "www.acme.example isn't among the domains that the operator lets projects have")
        await self.put("www.acme.example")  # by an admin of the platform
        await self.put("b.example")
        await self.put("www.acme.example", token=own, main=True)  # what is there can be changed
        answer = await self.ask("PUT", "/api/v1/projects/other/domains/b.example", {}, token=self.admin)
        self.problem(answer, 409, "b.example is a domain of project blog")
        other = await self.token("other", "admin", ["other"])
        answer = await self.ask("PUT", "/api/v1/projects/other/domains/b.example", {}, token=other)
        self.problem(answer, 409, "b.example is a domain of another project")
        assert (await self.ask("DELETE", f"{P}/b.example", token=own)).status == 204
        self.problem(await self.ask("PUT", f"{P}/b.example", {}, token=own), 403, "the operator")

    async def test_what_the_operator_allows_is_for_each_projects_admins(self) -> None:
        context = replace(self.context, may_add_domain=lambda name: is_among(name, ["*.acme.example"]))
        self.port = self.listen(api_site(context))
        bound = await self.token("bound", "admin", ["blog"])
        await self.put("www.acme.example", token=bound)
        await self.put("acme.example", 403, token=bound)

    async def test_a_release_for_the_team_is_seen_at_its_domain(self) -> None:
        await self.put("intern.acme.example", project="shop")
        host = "intern.acme.example:8081"
        assert (await self.at(host)).status == 401
        begun = await self.at(host, "/a?b=c", **PAGE)
        project, asked, challenge, to = map(unquote, begun.headers["Location"].partition("#/visit/")[2].split("/"))
        assert (project, asked, to) == ("shop", host, "/a?b=c")
        body = {"host": asked, "challenge": challenge, "path": to}
        visit = await self.ask("POST", "/api/v1/projects/shop/visits", body)
        assert visit.json["url"].startswith(f"http://{host}/.well-known/twistedipc-visit?")
        path = visit.json["url"].removeprefix(f"http://{host}")
        entered = await self.get(path, host=host, cookie="; ".join(map("=".join, cookies_of(begun).items())))
        cookie = "; ".join(f"{name}={value}" for name, value in cookies_of(entered).items() if value)
        assert (await self.get("/", host=host, cookie=cookie)).body == b"<h1>shop</h1>"
        assert (await self.get("/", host="shop.localhost:8081", cookie=cookie)).status == 401, "another host's"
        assert (await self.at("shop.localhost:8081", **PAGE)).headers["Location"].startswith("http://api.test/#/visit/")
        elsewhere = await self.at("intern.acme.example:9999", **PAGE)
        assert elsewhere.headers["Location"] == f"http://{host}/"
        body["host"] = "evil.example:8081"
        self.problem(await self.ask("POST", "/api/v1/projects/shop/visits", body), 404)
        body["host"] = host
        self.problem(await self.ask("POST", "/api/v1/projects/blog/visits", body), 404)
