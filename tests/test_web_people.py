"""People by the API: invited, let in, members of projects, disabled; and what their tokens may do."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, update

from tests.web_world import World
from twistedipc.storage import audit, tables, tokens
from twistedipc.storage.people import INVITED_FOR
from twistedipc.web.access.auth import MAX_FAILURES
from twistedipc.web.access.held import Ending

OWN = {"Origin": "http://api.test"}


def _write_author(connection: Connection, email: str | None) -> None:
    connection.execute(update(tables.attempts).values(author="Ann B.", author_email=email))


class People(World):
    api_url = "https://ci.example"

    async def prepare(self) -> None:
        await self.project("shop")
        await self.project("blog")

    async def invited(self, name: str, **more: Any) -> Any:
        """A new person's invitation."""
        answer = await self.ask("POST", "/api/v1/people", {"name": name, **more})
        assert answer.status == 201, answer.raw
        return answer.json

    async def joined(self, name: str, **more: Any) -> tuple[int, str]:
        """A new person's number and token."""
        made = await self.invited(name, **more)
        answer = await self.ask("POST", "/api/v1/invitations", {"code": made["code"]}, token=None)
        assert answer.status == 201, answer.raw
        return made["person"]["id"], answer.json["token"]

    async def member(self, name: str, role: str, project: str = "shop") -> Any:
        answer = await self.ask("POST", f"/api/v1/projects/{project}/members", {"person": name, "role": role})
        assert answer.status == 200, answer.raw
        return answer.json["members"]

    async def did(self, *kinds: str) -> list[tuple[str, str, str | None, dict[str, str]]]:
        """The audit's lines of these kinds, oldest first."""
        rows = await self.ledger.read(lambda connection: audit.list_page(connection, after=0, limit=999))
        return [
            (row.action, row.subject, row.person_name, row.detail)
            for row in rows
            if row.action.partition(".")[0] in kinds
        ]

    async def test_an_invitation_is_a_sentence_and_a_link_for_one_sign_in(self) -> None:
        made = await self.invited("Ann Bo", email="Ann@example.org")
        assert made["url"] == f"https://ci.example/#token={made['code']}"
        assert (made["person"]["state"], made["person"]["email"]) == ("invited", "ann@example.org")
        # A code is no token.
        self.problem(await self.ask("GET", "/api/v1/identity", token=made["code"]), 401)
        answer = await self.ask("POST", "/api/v1/sessions", {"token": made["code"]}, token=None, headers=OWN)
        assert answer.status == 204, answer.raw
        browser = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0], **OWN}
        identity = (await self.ask("GET", "/api/v1/identity", token=None, headers=browser)).json
        assert (identity["name"], identity["roles"], identity["scopes"]) == ("Ann Bo", {}, ["read"])
        self.problem(
            await self.ask("POST", "/api/v1/sessions", {"token": made["code"]}, token=None, headers=OWN),
            401,
            "ask an admin for another",
        )
        (person,) = (await self.ask("GET", "/api/v1/people")).json["people"]
        assert (person["name"], person["state"], person["role"]) == ("Ann Bo", "active", "member")
        # A person with a session makes tokens of their own.
        wanted = {"name": "laptop", "scopes": ["build"]}
        own = await self.ask("POST", "/api/v1/identity/tokens", wanted, token=None, headers=browser)
        assert own.status == 201, own.raw
        assert own.json["person"] == {"id": person["id"], "name": "Ann Bo"}
        assert await self.did("person", "session", "token") == [
            ("person.invite", "Ann Bo", None, {"role": "member", "email": "ann@example.org"}),
            ("person.join", "Ann Bo", "Ann Bo", {}),
            ("session.begin", "2", "Ann Bo", {}),
            ("token.create", "3", "Ann Bo", {"name": "laptop", "scopes": "build"}),
        ]

    async def test_a_commits_author_is_who_has_the_address(self) -> None:
        number = await self.build()
        await self.invited("ann", email="ann@example.org")
        path = f"/api/v1/builds/{number}"
        for email, person in ((None, None), ("eve@example.org", None), ("ann@example.org", {"id": 1, "name": "ann"})):
            await self.ledger.write(_write_author, email)
            for shown in (
                (await self.ask("GET", path)).json,
                (await self.ask("GET", "/api/v1/builds")).json["builds"][0],
            ):
                assert (shown["author"], shown["author_person"]) == ("Ann B.", person)

    async def test_codes_that_are_no_good_are_counted(self) -> None:
        made = await self.invited("ann")
        self.time += INVITED_FOR
        for code in (made["code"], "tipi_x", "nonsense"):
            self.problem(await self.ask("POST", "/api/v1/invitations", {"code": code}, token=None), 401, "not valid")
        for number in range(MAX_FAILURES - 3):
            await self.ask("POST", "/api/v1/invitations", {"code": f"tipi_{number}"}, token=None)
        answer = await self.ask("POST", "/api/v1/sessions", {"token": "tipi_y"}, token=None, headers=OWN)
        self.problem(answer, 429, "invitation is not valid")
        again = await self.ask("POST", f"/api/v1/people/{made['person']['id']}/invitations")
        answer = await self.ask("POST", "/api/v1/invitations", {"code": again.json["code"], "name": "x"}, token=None)
        assert answer.status == 201, "what is good is never delayed"
        assert answer.json["name"] == "x"

    async def test_a_member_sees_and_does_what_the_role_says(self) -> None:
        _number, token = await self.joined("ann")
        self.problem(await self.ask("GET", "/api/v1/projects/shop", token=token), 404)
        members = await self.member("ann", "reader")
        assert [(each["person"]["name"], each["role"]) for each in members] == [("ann", "reader")]
        assert [each["name"] for each in (await self.ask("GET", "/api/v1/projects", token=token)).json["projects"]] == [
            "shop"
        ]
        answer = await self.ask("POST", "/api/v1/projects/shop/builds", {}, token=token)
        self.problem(answer, 403, "ann may not do this in shop: it is for its members with the role developer")
        self.problem(await self.ask("POST", "/api/v1/projects/blog/builds", {}, token=token), 404)
        await self.member("ann", "developer")
        preview = await self.ask("POST", "/api/v1/projects/shop/builds", {}, token=token)
        assert preview.status == 201
        assert "publish" in preview.json["preview"]
        assert preview.json["requested_by"] == "ann"
        await self.member("ann", "publisher")
        assert (await self.ask("POST", "/api/v1/projects/shop/builds", {}, token=token)).json["preview"] == ""
        self.problem(await self.ask("GET", "/api/v1/audit", token=token), 403, "admins of the platform")
        self.problem(await self.ask("PATCH", "/api/v1/projects/shop", {"timeout": 60}, token=token), 403, "maintainer")
        await self.member("ann", "maintainer")
        assert (await self.ask("PATCH", "/api/v1/projects/shop", {"timeout": 60}, token=token)).status == 200
        lines = (await self.ask("GET", "/api/v1/audit", token=token)).json["lines"]
        assert {line["project"] for line in lines} == {"shop"}
        assert lines[0]["person"] == {"id": 1, "name": "ann"}
        new = {"name": "third", "repository": "https://git.example/x.git"}
        self.problem(await self.ask("POST", "/api/v1/projects", new, token=token), 403, "admin of the platform")
        for path in ("/api/v1/people", "/api/v1/builders"):
            self.problem(await self.ask("GET", path, token=token), 403, "admin of")
        assert [line[3]["role"] for line in await self.did("member")] == [
            "— → reader", "reader → developer", "developer → publisher", "publisher → maintainer",
        ]  # fmt: skip

    async def test_a_maintainer_looks_after_members_and_services_of_the_project_alone(self) -> None:
        _number, token = await self.joined("ann")
        other, _token = await self.joined("bob")
        await self.member("ann", "maintainer")
        wanted = {"person": "bob", "role": "maintainer"}
        assert (await self.ask("POST", "/api/v1/projects/shop/members", wanted, token=token)).status == 200
        self.problem(await self.ask("POST", "/api/v1/projects/blog/members", wanted, token=token), 404)
        missing = {"person": "eve", "role": "reader"}
        self.problem(
            await self.ask("POST", "/api/v1/projects/shop/members", missing, token=token), 404, "no person eve"
        )
        gone = await self.ask("DELETE", f"/api/v1/projects/shop/members/{other}", token=token)
        assert [each["person"]["name"] for each in gone.json["members"]] == ["ann"]
        self.problem(await self.ask("DELETE", f"/api/v1/projects/shop/members/{other}", token=token), 404)
        service = {"name": "ci", "scopes": ["build"], "projects": ["shop"], "service": True}
        made = await self.ask("POST", "/api/v1/tokens", service, token=token)
        assert (made.status, made.json["person"]) == (201, None)
        for bound in ({}, {"projects": ["blog"]}):
            answer = await self.ask("POST", "/api/v1/tokens", {"name": "x", "scopes": ["read"], **bound}, token=token)
            self.problem(answer, 403, "admin of some projects alone")
        assert [each["name"] for each in (await self.ask("GET", "/api/v1/tokens", token=token)).json["tokens"]] == [
            "ci"
        ]

    async def test_a_token_of_ones_own_may_no_more_than_what_asks_for_it(self) -> None:
        _number, token = await self.joined("ann")
        await self.member("ann", "publisher")
        own = "/api/v1/identity/tokens"
        narrow = await self.ask("POST", own, {"name": "narrow", "scopes": ["build"], "projects": ["shop"]}, token=token)
        assert narrow.status == 201
        for more in ({"scopes": ["publish"], "projects": ["shop"]}, {"scopes": ["build"]}):
            answer = await self.ask("POST", own, {"name": "x", **more}, token=narrow.json["token"])
            self.problem(answer, 403, "more than itself")
        answer = await self.ask("POST", own, {"name": "x", "scopes": ["read"]})
        self.problem(answer, 409, "the token ada is no person's")
        assert (await self.ask("GET", own)).json == {"tokens": []}
        listed = (await self.ask("GET", own, token=token)).json["tokens"]
        assert [each["name"] for each in listed] == ["ann", "narrow"]
        _other, bobs = await self.joined("bob")
        self.problem(await self.ask("DELETE", f"{own}/{narrow.json['id']}", token=bobs), 404)
        assert (await self.ask("DELETE", f"{own}/{narrow.json['id']}", token=token)).status == 204
        self.problem(await self.ask("GET", "/api/v1/identity", token=narrow.json["token"]), 401)
        # Whatever it says of itself, it may what the person may.
        await self.member("ann", "reader")
        assert (await self.ask("GET", "/api/v1/identity", token=token)).json["scopes"] == ["read"]
        # An admin's is theirs too, unless it is a service's.
        admin = await self.token("root's", "admin", person=await self.person("root", admin=True))
        for service, person in ((False, "root"), (True, None)):
            made = await self.ask(
                "POST", "/api/v1/tokens", {"name": f"t{person}", "scopes": ["read"], "service": service}, token=admin
            )
            assert (made.json["person"] or {}).get("name") == person

    async def test_a_token_ends_itself(self) -> None:
        """Also one that may only read, and is no person's. A browser signs out otherwise."""
        this = "/api/v1/identity/token"
        token = await self.token("ci", "read")
        answer = await self.ask("POST", "/api/v1/sessions", {"token": token}, token=None, headers=OWN)
        browser = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0], **OWN}
        self.problem(await self.ask("DELETE", this, token=None, headers=browser), 409, "a browser's session")
        assert (await self.ask("DELETE", this, token=token)).status == 204
        for headers in ({"Authorization": f"Bearer {token}"}, browser):
            self.problem(await self.ask("GET", "/api/v1/identity", token=None, headers=headers), 401)

    async def test_who_is_disabled_is_out_at_once(self) -> None:
        number, token = await self.joined("ann", role="admin")
        answer = await self.ask("POST", "/api/v1/sessions", {"token": token}, token=None, headers=OWN)
        browser = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0], **OWN}
        rows = await self.ask("GET", "/api/v1/sessions", token=token)
        assert [each["person"]["name"] for each in rows.json["sessions"]] == ["ann"]
        ended: list[Ending] = []
        row = await self.ledger.read(tokens.authenticate, token, self.time)
        assert row is not None
        holding = self.site.held.hold(row)
        self.addCleanup(holding.release)
        holding.on_end(ended.append)
        path = f"/api/v1/people/{number}"
        self.problem(await self.ask("PATCH", path, {"disabled": True}, token=token), 409, "your own account")
        assert (await self.ask("PATCH", path, {"disabled": True})).json["state"] == "disabled"
        assert ended == [Ending.DISABLED]
        self.problem(await self.ask("GET", "/api/v1/identity", token=token), 401)
        self.problem(await self.ask("GET", "/api/v1/identity", token=None, headers=browser), 401)
        self.problem(await self.ask("POST", f"{path}/invitations"), 409, "disabled")
        assert (await self.ask("PATCH", path, {"disabled": False, "role": "member"})).json["state"] == "active"
        self.problem(await self.ask("GET", "/api/v1/identity", token=token), 401)
        assert [line[0] for line in await self.did("person")] == [
            "person.invite", "person.join", "person.disable", "person.change", "person.enable",
        ]  # fmt: skip

    async def test_a_persons_sessions_are_seen_and_ended_with_any_of_their_tokens(self) -> None:
        _number, token = await self.joined("ann")
        again = (await self.ask("POST", "/api/v1/people/1/invitations")).json["code"]
        browsers = []
        for shown in (token, again):
            answer = await self.ask("POST", "/api/v1/sessions", {"token": shown}, token=None, headers=OWN)
            browsers.append({"Cookie": answer.headers["Set-Cookie"].partition(";")[0], **OWN})
        listed = (await self.ask("GET", "/api/v1/sessions", token=None, headers=browsers[1])).json["sessions"]
        assert [(each["name"], each["current"]) for each in listed] == [("ann", False), ("ann", True)]
        _other, bobs = await self.joined("bob")
        assert (await self.ask("GET", "/api/v1/sessions", token=bobs)).json["sessions"] == []
        self.problem(await self.ask("DELETE", f"/api/v1/sessions/{listed[0]['id']}", token=bobs), 404)
        assert len((await self.ask("GET", "/api/v1/sessions")).json["sessions"]) == 2, "an admin sees all"
        first = f"/api/v1/sessions/{listed[0]['id']}"
        assert (await self.ask("DELETE", first, token=None, headers=browsers[1])).status == 204
        self.problem(await self.ask("GET", "/api/v1/identity", token=None, headers=browsers[0]), 401)
        assert (await self.ask("DELETE", "/api/v1/sessions?all=1", token=token)).status == 204
        self.problem(await self.ask("GET", "/api/v1/identity", token=None, headers=browsers[1]), 401)
        assert (await self.ask("GET", "/api/v1/identity", token=token)).status == 200
