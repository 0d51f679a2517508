"""Each route of the API for each kind of caller, both WebSockets included, as the table of routes has them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.web_world import World
from twistedipc.builds.roles import ROLES, SCOPE_OF, Role
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
    role: Role | None = None  # of a person: in the project that is asked for, or in another
    person: bool = False  # an admin's of no project if ``role`` is None too

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
        if self.person:
            return self._refused_by_role(route)
        return {404} if self.projects == "another" and route.binding != "none" else set()

    def _refused_by_role(self, route: Route) -> set[int]:
        """What the person's role leads to, whose token has the scope."""
        enough = self.role is not None and SCOPES.index(SCOPE_OF[self.role]) >= SCOPES.index(route.needs)
        if route.binding == "none":
            return set() if enough or route.needs == "read" else {403}
        if self.role is None or self.projects == "another":
            return {404}
        return set() if enough else {403}


class EveryRouteForEveryCaller(World):
    async def prepare(self) -> None:
        await self.project()
        await self.project("elsewhere")
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
        members = [
            Caller(
                f"{role or 'member'} of {where}, token {scope}",
                {"Authorization": f"Bearer {await self.persons(role, where, scope)}"},
                scope=scope,
                projects=where,
                role=role,
                person=True,
            )
            for role in (None, *ROLES)
            for where in ("this", "another")
            for scope in SCOPES
            # What is left of them to other tokens: test_roles.
            if (scope == "admin" and where == "this") or role == "maintainer"
        ]
        root = await self.token("root's", "admin", person=await self.person("root", admin=True))
        return [
            *members,
            Caller("an admin who is a person", {"Authorization": f"Bearer {root}"}, scope="admin"),
            Caller("nobody", {}),
            *bearers,
            Caller("a token in the query", {}, query=f"token={self.admin}"),
            *good,
            Caller("a browser", await self.signed_in() | OWN, scope="admin"),
            Caller("a foreign page", await self.signed_in() | {"Origin": "https://evil.example"}, foreign=True),
            Caller("a browser without a page", await self.signed_in(), foreign=True),
        ]

    async def persons(self, role: Role | None, where: str, scope: Scope) -> str:
        """A token of a new person, who has this role in the one project or the other."""
        roles: dict[str, Role] = {} if role is None else {"shop" if where == "this" else "elsewhere": role}
        name = f"{role} {where} {scope}"
        return await self.token(name, scope, person=await self.person(name, roles))

    async def signed_in(self) -> dict[str, str]:
        """The cookie of a new session."""
        answer = await self.ask("POST", "/api/v1/sessions", {"token": self.admin}, token=None, headers=OWN)
        return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}

    @staticmethod
    def path(route: Route, project: str, number: int) -> str:
        values = {"project": project, "attempt": f"{number}-1", "secret": "npm_token", "package": "@acme/ui"}
        return VARIABLE.sub(lambda found: str(values.get(found[2], number)), route.rule)

    async def test_who_may_do_what(self) -> None:
        callers = await self.callers()
        assert len(callers) == 8 + 2 + len(SCOPES) * len(PROJECTS) + 1 + len(ROLES) + 7
        for caller in callers:
            for route in sorted(ROUTES, key=lambda route: route.name == "sign_out"):  # it ends the browser's session
                refused = caller.refused(route)
                if route.name == "revoke_this_token" and not refused:
                    continue  # the caller would be nobody from then on
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
                elif route.needs == "admin" and route.binding == "none" and (caller.projects != "all" or caller.person):
                    assert answer.status not in (401, 429), about  # what is about all projects may be refused
                elif route.needs != "none":
                    assert answer.status not in (401, 403, 429), about
                assert answer.status < 500, about
