"""Each route of the API for each kind of caller, both WebSockets included, as the table of routes has them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.web_world import World
from twistedipc.builds.scopes import SCOPES, Scope
from twistedipc.web.api.route import VARIABLE, Route
from twistedipc.web.api.routes import ROUTES

#: The projects that a caller's token is valid for, by how it stands to the one that is asked for.
PROJECTS = {"all": None, "this": ["shop", "nowhere"], "another": ["elsewhere"]}

#: Where the page is.
OWN = {"Origin": "http://api.test"}


@dataclass(frozen=True)
class Caller:
    """A kind of caller."""

    name: str
    headers: dict[str, str]
    query: str = ""
    scope: Scope | None = None  # None: nothing that the caller shows is good
    projects: str = "all"
    foreign: bool = False  # a page from elsewhere has a browser ask

    def refused(self, route: Route) -> set[int]:
        """What the route answers to refuse the caller; nothing: the caller is let in."""
        if route.needs == "none":
            return set()
        if route.needs == "upload":
            return {401}
        if self.foreign:
            # What changes nothing is answered: no other page can read the answer.
            return {403} if route.websocket or not route.safe else set()
        if self.scope is None:
            return {401, 429}  # after many failures from one address
        if SCOPES.index(self.scope) < SCOPES.index(route.needs):
            return {403}
        return {404} if self.projects == "another" and route.binding != "none" else set()


class EveryRouteForEveryCaller(World):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()

    async def callers(self) -> list[Caller]:
        """All kinds of callers."""
        revoked = await self.token("revoked", "admin")
        number = (await self.ask("GET", "/api/v1/tokens")).json["tokens"][-1]["id"]
        assert (await self.ask("DELETE", f"/api/v1/tokens/{number}")).status == 204
        bad = {
            "revoked": revoked,
            "expired": await self.token("expired", "admin", expires=self.time - 1),
            "garbage": "tipc_" + "x" * 43,
            "an upload's": "tipu_" + "x" * 43,
        }
        bearers = [Caller(name, {"Authorization": f"Bearer {secret}"}) for name, secret in bad.items()]
        good = [
            Caller(
                f"{scope} {projects}",
                {"Authorization": f"Bearer {await self.token(f'{scope} {projects}', scope, bound)}"},
                scope=scope,
                projects=projects,
            )
            for scope in SCOPES
            for projects, bound in PROJECTS.items()
        ]
        return [
            Caller("nobody", {}),
            *bearers,
            Caller("a token in the query", {}, query=f"token={self.admin}"),
            *good,
            Caller("a browser", await self.signed_in() | OWN, scope="admin"),
            Caller("a foreign page", await self.signed_in() | {"Origin": "https://evil.example"}, foreign=True),
            Caller("a browser without a page", await self.signed_in(), foreign=True),
        ]

    async def signed_in(self) -> dict[str, str]:
        """The cookie of a new session."""
        answer = await self.ask("POST", "/api/v1/sessions", {"token": self.admin}, token=None, headers=OWN)
        return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}

    @staticmethod
    def path(route: Route, project: str, number: int) -> str:
        values = {"project": project, "attempt": f"{number}-1", "secret": "npm_token"}
        return VARIABLE.sub(lambda found: str(values.get(found[2], number)), route.rule)

    async def test_who_may_do_what(self) -> None:
        callers = await self.callers()
        assert len(callers) == 8 + 1 + len(SCOPES) * len(PROJECTS)
        for caller in callers:
            for route in sorted(ROUTES, key=lambda route: route.name == "sign_out"):  # it ends the browser's session
                refused = caller.refused(route)
                # Who is let in changes nothing: what they name isn't there, and their body can't be read.
                there = refused or route.safe
                path = self.path(route, "shop", self.number) if there else self.path(route, "nowhere", 987654)
                headers = caller.headers | {"Content-Type": "application/json"}
                if route.websocket:
                    headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
                where = f"{path}?{caller.query}" if caller.query else path
                answer = await self.ask(route.method, where, b"{", token=None, headers=headers)
                about = f"{caller.name}: {route.method} {path}: {answer.status}, and not {refused or 'let in'}"
                if refused:
                    assert answer.status in refused, about
                elif route.needs == "admin" and route.binding == "none" and caller.projects != "all":
                    assert answer.status not in (401, 429), about  # what is about all projects may be refused
                elif route.needs != "none":
                    assert answer.status not in (401, 403, 429), about
                assert answer.status < 500, about
