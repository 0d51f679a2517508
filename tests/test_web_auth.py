"""Authentication: tokens, sessions and their cookies, failures, clients behind proxies, and the audit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from tests.web_world import Answer, World, request_bytes, say
from twistedipc.storage.tables import audit
from twistedipc.web.http.clients import Proxies
from twistedipc.web.http.hosts import Hosts

OWN_ORIGIN = {"Origin": "http://api.test"}


class Signed(World):
    """Signs in."""

    async def sign_in(self, token: str = "", **headers: str) -> Answer:
        sent = OWN_ORIGIN | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("POST", "/api/v1/sessions", {"token": token or self.admin}, token=None, headers=sent)

    async def cookie(self, token: str = "", **headers: str) -> str:
        """``name=value``."""
        answer = await self.sign_in(token, **headers)
        assert answer.status == 204, answer.raw
        return answer.headers["Set-Cookie"].partition(";")[0]

    async def status(self, cookie: str | None = None, token: str | None = None, **headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie is not None:
            sent["Cookie"] = cookie
        return (await self.ask("GET", "/api/v1/identity", token=token, headers=sent)).status


class Throttling(Signed):
    async def test_a_good_token_is_let_in_whatever_came_from_its_address(self) -> None:
        """31 bad tokens from one address locked out all callers that share it: behind a proxy, every caller."""
        fresh = await self.token("fresh", "read")
        bad = [(await self.ask("GET", "/api/v1/identity", token=f"tipc_{number}")) for number in range(33)]
        assert [answer.status for answer in bad] == [401] * 30 + [429] * 3
        assert 0 < int(bad[-1].headers["Retry-After"]) <= 61
        assert await self.status(token=fresh) == 200
        session = await self.cookie(fresh)
        assert await self.status(session) == 200
        assert (await self.sign_in("tipc_guess")).status == 429
        assert (await self.sign_in(self.admin)).status == 204

    async def test_a_session_that_is_over_is_not_held_up(self) -> None:
        """The page would show an error instead of asking to sign in again."""
        session = await self.cookie()
        for _ in range(31):
            await self.status(token="tipc_x")
        out = {"Cookie": session} | OWN_ORIGIN
        assert (await self.ask("DELETE", "/api/v1/sessions", token=None, headers=out)).status == 204
        assert await self.status(session) == 401

    async def test_what_is_known_to_be_bad_is_not_looked_up_again(self) -> None:
        reads = 0
        read = self.ledger.read

        def counted(*arguments: Any) -> Any:
            nonlocal reads
            reads += 1
            return read(*arguments)

        self.patch(self.ledger, "read", counted)
        for secret in ("tipc_unknown", "not even a token"):
            reads = 0
            for _ in range(3):
                assert await self.status(token=secret) == 401
            assert reads == (1 if secret.startswith("tipc_") else 0)


class Kinds(Signed):
    async def test_a_session_is_no_bearer_token_and_a_token_no_session(self) -> None:
        session = await self.cookie()
        name, _, secret = session.partition("=")
        assert await self.status(session) == 200
        assert await self.status(token=secret) == 401, "a cookie that is found is no token for the command"
        assert await self.status(f"{name}={self.admin}") == 401
        assert await self.status(session) == 200, "what was bad as a token is still good as a session"
        assert (await self.sign_in(secret)).status == 401


class Cookies(Signed):
    async def test_the_name_is_this_installations(self) -> None:
        name = (await self.cookie()).partition("=")[0]
        assert name.startswith("twistedipc_")
        assert len(name) == len("twistedipc_") + 16
        document = await self.ask("GET", "/api/v1/openapi.json", token=None)
        assert name.encode() not in document.body, "it would tell everybody"
        assert await self.status((await self.cookie()).replace(name, "twistedipc_session")) == 401

    async def test_two_sessions_are_none(self) -> None:
        """A page at another port of the host sets a second cookie, and the browser sends both, in any order."""
        mine, other = await self.cookie(), await self.cookie(await self.token("mallory", "read"))
        for cookies in (f"{mine}; {other}", f"{other}; {mine}", f"{mine}; a=b; {mine}"):
            answer = await self.ask("GET", "/api/v1/identity", token=None, headers={"Cookie": cookies})
            self.problem(answer, 401, "two sessions")
            assert "Max-Age=0" in answer.headers["Set-Cookie"]
            assert answer.headers["Clear-Site-Data"] == '"cookies"'
        raw = request_bytes("GET", "/api/v1/identity", {"Cookie": mine}, b"")
        twice = raw.replace(b"Cookie:", f"Cookie: {other}\r\nCookie:".encode())
        assert Answer(await say(self.port, twice)).status == 401
        assert await self.status(f"a=b; {mine}; twistedipc_session=x") == 200
        assert await self.status(f"{mine}; {other}", token=self.admin) == 200, "a token in the header comes first"

    async def test_cookies_too_large_for_a_head_are_cleared(self) -> None:
        """Ten cookies of 4 KB, set by a page at another port, made the API unusable for that browser."""
        large = "; ".join(f"c{number}={'x' * 4000}" for number in range(10))
        for headers in ({"Cookie": large}, {"X": "y" * 9000, "Cookie": "c=" + "x" * 8000}):
            answer = await self.ask("GET", "/", token=None, headers=headers)
            self.problem(answer, 400, "cookies")
            assert answer.headers["Clear-Site-Data"] == '"cookies"'
        other = await self.ask("GET", "/", token=None, headers={"X-Large": "x" * 40_000})
        self.problem(other, 400)
        assert other.headers["Clear-Site-Data"] is None, "a link with a long address must sign nobody out"

    async def test_signing_out_leaves_nothing(self) -> None:
        session = await self.cookie()
        out = await self.ask("DELETE", "/api/v1/sessions", token=None, headers=OWN_ORIGIN | {"Cookie": session})
        assert out.status == 204
        assert "Max-Age=0" in out.headers["Set-Cookie"]
        assert out.headers["Clear-Site-Data"] == '"cookies", "storage"'
        assert await self.status(session) == 401


class Elsewhere(Signed):
    async def prepare(self) -> None:
        self.site.proxies = Proxies(["127.0.0.1"])

    async def test_over_https_no_other_page_can_set_it(self) -> None:
        https = {"X_Forwarded_Proto": "https"}
        answer = await self.sign_in(**https)
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-twistedipc_")
        assert "; Secure" in cookie
        assert "; Path=/;" in cookie
        assert "Domain" not in cookie
        pair = cookie.partition(";")[0]
        assert await self.status(pair, **https) == 200
        # A neighbour's page can set any cookie but one that begins with __Host-.
        assert await self.status(pair.removeprefix("__Host-"), **https) == 401

    async def test_failures_are_those_of_the_client(self) -> None:
        for _ in range(31):
            assert await self.status(token="tipc_x", X_Forwarded_For="192.0.2.1") in (401, 429)
        assert await self.status(token="tipc_x", X_Forwarded_For="192.0.2.1") == 429
        assert await self.status(token="tipc_x", X_Forwarded_For="192.0.2.2") == 401
        assert await self.status(token="tipc_x", X_Forwarded_For="192.0.2.2, 192.0.2.1") == 429

    async def test_the_audit_says_from_where(self) -> None:
        from_there = {"X-Forwarded-For": "6.6.6.6, 192.0.2.7"}

        async def ask(method: str, path: str, body: Any = None) -> Any:
            answer = await self.ask(method, path, body, headers=from_there)
            assert answer.status < 300, answer.raw
            return answer.json if answer.body else None

        await ask("POST", "/api/v1/projects", {"name": "shop", "repository": "https://git.example/shop.git"})
        await ask("PATCH", "/api/v1/projects/shop", {"default_ref": "next", "environment": {"KEY": "s3cret"}})
        await ask("PUT", "/api/v1/projects/shop/secrets/npm_token", {"value": "s3cret"})
        await ask("PATCH", "/api/v1/projects/shop", {"repository": "https://git.example/other.git"})
        await ask("PUT", "/api/v1/projects/shop/secrets/npm_token", {"value": "s3cret"})
        await ask("DELETE", "/api/v1/projects/shop/secrets/npm_token")
        build = (await ask("POST", "/api/v1/projects/shop/builds", {}))["id"]
        await ask("POST", f"/api/v1/builds/{build}/cancel")
        await ask("POST", f"/api/v1/builds/{build}/retry")
        await ask("POST", f"/api/v1/builds/{build}/cancel")
        token = (await ask("POST", "/api/v1/tokens", {"name": "t", "scopes": ["read"]}))["id"]
        await ask("DELETE", f"/api/v1/tokens/{token}")
        session = await self.cookie(X_Forwarded_For="192.0.2.7")
        out = OWN_ORIGIN | from_there | {"Cookie": session}
        assert (await self.ask("DELETE", "/api/v1/sessions", token=None, headers=out)).status == 204
        await ask("DELETE", "/api/v1/projects/shop")
        rows = await self.ledger.read(lambda connection: connection.execute(select(audit).order_by(audit.c.id)).all())
        assert {row.address for row in rows} == {"192.0.2.7"}
        assert {row.who for row in rows} == {"ada"}
        assert {(row.kind, row.token) for row in rows} == {("token", 1)}
        assert all(row.request for row in rows)
        assert {row.project for row in rows} == {"shop", None}
        assert "s3cret" not in str(rows)
        actions = [row.action for row in rows]
        for action in (
            "project.create",
            "project.change",
            "project.delete",
            "secret.set",
            "secret.void",
            "build.request",
        ):
            assert action in actions
        for action in ("secret.delete", "token.create", "token.revoke", "session.begin", "session.end"):
            assert action in actions
        (changed, *_) = (row.detail for row in rows if row.action == "project.change")
        assert "HEAD → next" in changed
        assert "environment.KEY" in changed


class Public(Signed):
    """A proxy speaks https for the API, but doesn't say so."""

    api_url = "https://builds.test"
    hosts = Hosts(api=["api.test", "builds.test"])

    async def test_the_public_address_is_enough_to_know_of_https(self) -> None:
        """Behind a proxy the cookie was one for http, unless two other keys of the configuration were set as well."""
        for host in ("builds.test", "Builds.test:443"):
            answer = await self.sign_in(Host=host, Origin="https://builds.test")
            cookie = answer.headers["Set-Cookie"]
            assert cookie.startswith("__Host-twistedipc_"), host
            assert "; Secure" in cookie
            assert await self.status(cookie.partition(";")[0], Host=host) == 200
        for host in ("builds.test:8080", "127.0.0.1:8080"):
            answer = await self.sign_in(Host=host, Origin=f"http://{host}")
            assert "Secure" not in answer.headers["Set-Cookie"], f"{host} is reached by http, without the proxy"


class Hosted(Signed):
    """The API on hosts of the releases'."""

    hosts = Hosts(api=["api.test"], domain="pages.test", by_path=["by-path.test"])

    async def test_no_session_at_a_host_of_the_releases(self) -> None:
        """A release's script shares the cookies of its host with the API at another port there."""
        session = await self.cookie()
        for host in ("shop.pages.test", "by-path.test:8080"):
            assert await self.status(session, Host=host) == 421
            assert await self.status(token=self.admin, Host=host) == 421
        origin = {"Host": "127.0.0.2:8080", "Origin": "http://127.0.0.2:8080"}
        signed = await self.ask("POST", "/api/v1/sessions", {"token": self.admin}, token=None, headers=origin)
        self.problem(signed, 403, "there can be no session at this host")
        assert await self.status(session, Host="127.0.0.2:8080") == 401
        assert await self.status(token=self.admin, Host="127.0.0.2:8080") == 200, "a token is valid at each address"


class Projects(Signed):
    async def test_variables_are_for_admins_to_see(self) -> None:
        """Every token that could look at a build could read the project's passwords."""
        await self.project(environment={"DB_PASSWORD": "s3cret"})
        for scope in ("read", "build"):
            token = await self.token(scope, scope)
            for path in ("/api/v1/projects", "/api/v1/projects/shop"):
                answer = await self.ask("GET", path, token=token)
                assert answer.status == 200
                assert b"s3cret" not in answer.raw
                assert b'"environment":{"DB_PASSWORD":null}' in answer.body
        assert b"s3cret" in (await self.ask("GET", "/api/v1/projects/shop")).body
        cookie = await self.cookie(await self.token("reader", "read"))
        answer = await self.ask("GET", "/api/v1/projects", token=None, headers={"Cookie": cookie})
        assert b"s3cret" not in answer.raw

    async def test_what_a_change_voids_is_said(self) -> None:
        old, new = "https://npm.example/", "https://evil.example/"
        await self.project(publish={"npm": True, "registry": old})
        path = "/api/v1/projects/shop"
        assert (await self.ask("PUT", f"{path}/secrets/npm_token", {"value": "s", "registry": old})).status == 204
        same = {"publish": {"npm": True, "registry": "https://NPM.example:443"}}
        kept = (await self.ask("PATCH", path, same)).json
        assert (kept["secrets"], kept["notices"]) == (["npm_token"], [])
        changed = (await self.ask("PATCH", path, {"publish": {"npm": True, "registry": new}})).json
        assert changed["secrets"] == []
        (notice,) = changed["notices"]
        assert "the npm_token was for https://NPM.example:443" in notice
        assert "set it again" in notice
        refused = await self.ask("PUT", f"{path}/secrets/npm_token", {"value": "s", "registry": old})
        self.problem(refused, 409, f"publishes to {new} now")
        document = (await self.ask("GET", "/api/v1/openapi.json")).json["paths"]
        for at, operations in document.items():
            for method in operations.keys() & {"post", "put", "patch", "delete"}:
                assert "409" in operations[method]["responses"], f"the document doesn't say that {method} {at} may"

    async def test_a_token_that_would_go_in_the_clear_is_said(self) -> None:
        made = await self.project(publish={"npm": True, "registry": "http://npm.example/"})
        assert "isn't https" in made["notices"][0]
        for registry in ("http://127.0.0.1:4873/", "http://localhost:4873", "http://[::1]/", "https://npm.example/"):
            path = "/api/v1/projects/shop"
            assert (await self.ask("PATCH", path, {"publish": {"npm": True, "registry": registry}})).json[
                "notices"
            ] == []

    async def test_a_token_in_a_repositorys_address_is_refused(self) -> None:
        """All callers that may see the project would read it."""
        for address in (
            "https://git.example/shop.git?token=abc",
            "https://git.example/shop.git?private_token=abc",
            "http://git.example/shop?access_token=abc",
            "https://git.example/shop.git#abc",
            "https://git.example?token=abc",
            "git://git.example/shop.git?x",
            "ssh://git@git.example/shop.git?token=abc",
            "https://ghp_abcdefghijklmnopqrstuvwxyz0123456789@git.example/shop.git",
            "https://user:abc@git.example/shop.git",
            "https://:abc@git.example/shop.git",
            "ssh://user:abc@git.example/shop.git",
        ):
            answer = await self.ask("POST", "/api/v1/projects", {"name": "a", "repository": address})
            self.problem(answer, 422)
            assert any(word in answer.json["detail"] for word in ("query or fragment", "password or a token")), address
            assert "abc" not in answer.json["detail"]
