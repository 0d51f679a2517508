"""The packages of a project in the API: what the apiserver has published, and how."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from tests.storage_fixtures import run
from tests.web_world import Answer, World
from twistedipc.builds.attempt import Package
from twistedipc.builds.states import PublicationState
from twistedipc.publish.asking import Answered, Changed, Question, Seen
from twistedipc.publish.record import Facts, Outcome, Step
from twistedipc.storage import publications
from twistedipc.web.api.schemas import Approval, NewPackageRequest, Password, Refusal

REGISTRY = "https://npm.example.org/"


class _World(World):
    number: int

    async def publish(self, *names: str, build: int | None = None) -> str:
        """A build has packed these, and the first one is being published."""
        attempt = f"{build or self.number}-1"
        packed = [Package(file="x", name=name, version="1.0.0", integrity=f"sha512-{name}") for name in names]

        def write(connection: Connection) -> None:
            run(connection, attempt, lease=attempt)
            publications.add(connection, attempt, "npm", packed, self.time)
            publications.begin_upload(connection, attempt, "npm", 0, 10, self.time)
            publications.note_stored(connection, attempt, "npm", 0, f"{attempt:064}", self.time)
            publications.begin_step(connection, attempt, "npm", 0, Step.PREFLIGHT, "", self.time + 1000)
            known = Facts(registry=REGISTRY, mode="staged", tag_before="0.9.0", set_tag="build-1", stage="s-1")
            reached = PublicationState.CHECKED
            publications.end_step(connection, attempt, "npm", 0, Step.PREFLIGHT, Outcome.DONE, self.time + 2000,
                                  reached=reached, facts=known)  # fmt: skip
            publications.begin_step(connection, attempt, "npm", 0, Step.STAGE, "build-1", self.time + 3000)

        await self.ledger.write(write)
        return attempt


class Packages(_World):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()

    async def test_a_build_says_what_it_publishes(self) -> None:
        await self.publish("@acme/ui", "@acme/core")
        answer = await self.ask("GET", f"/api/v1/builds/{self.number}")
        ui, core = answer.json["publications"]
        assert {name: ui[name] for name in ("name", "version", "state", "tone", "registry", "mode", "tag", "tag_before",
                                            "set_tag", "stage", "size", "integrity", "asked_by", "approved_by",
                                            "approved", "build", "attempt", "position")} == {
            "name": "@acme/ui", "version": "1.0.0", "state": "checked", "tone": "busy", "registry": REGISTRY,
            "mode": "staged", "tag": "latest", "tag_before": "0.9.0", "set_tag": "build-1", "stage": "s-1", "size": 10,
            "integrity": "sha512-@acme/ui", "asked_by": "ada", "approved_by": "", "approved": None,
            "build": self.number, "attempt": 1, "position": 0,
        }  # fmt: skip
        assert [(step["step"], step["outcome"], step["ended"] is None) for step in ui["steps"]] == [
            ("preflight", "done", False), ("stage", "", True),
        ]  # fmt: skip
        assert (core["state"], core["tone"], core["steps"], core["size"]) == ("packed", "waiting", [], 0)

    async def test_packages_are_listed_page_by_page(self) -> None:
        assert (await self.ask("GET", "/api/v1/projects/shop/packages")).json == {"packages": [], "next": None}
        await self.publish("ui", "core", "app")
        first = (await self.ask("GET", "/api/v1/projects/shop/packages?limit=2")).json
        assert ([each["name"] for each in first["packages"]], first["next"]) == (["app", "core"], "core")
        (newest,) = first["packages"][0]["publications"]
        assert (newest["version"], newest["steps"]) == ("1.0.0", [])
        rest = (await self.ask("GET", "/api/v1/projects/shop/packages?after=core")).json
        assert ([each["name"] for each in rest["packages"]], rest["next"]) == (["ui"], None)
        for limit in ("0", "101", "x"):
            self.problem(await self.ask("GET", f"/api/v1/projects/shop/packages?limit={limit}"), 422)

    async def test_the_history_of_a_package_by_its_scoped_name(self) -> None:
        await self.publish("@acme/ui")
        second = await self.build()
        await self.publish("@acme/ui", build=second)
        for name in ("@acme/ui", "@acme%2fui", "%40acme%2Fui"):
            found = (await self.ask("GET", f"/api/v1/projects/shop/packages/{name}")).json
            assert (found["name"], [each["build"] for each in found["publications"]], found["next"]) == (
                "@acme/ui", [second, self.number], None,
            )  # fmt: skip
            assert found["publications"][0]["steps"]
        where = "/api/v1/projects/shop/packages/@acme/ui"
        page = (await self.ask("GET", f"{where}?limit=1")).json
        assert page["next"] == f"{second}-1"
        older = (await self.ask("GET", f"{where}?limit=1&before={page['next']}")).json
        assert ([each["build"] for each in older["publications"]], older["next"]) == ([self.number], None)
        self.problem(await self.ask("GET", "/api/v1/projects/shop/packages/@acme/nothing"), 404, "@acme/nothing")
        self.problem(await self.ask("GET", f"{where}?before=1"), 422)

    async def test_who_may_not_see_the_project_sees_no_package(self) -> None:
        await self.publish("ui")
        stranger = await self.token("stranger", "admin", ["elsewhere"])
        for where in ("", "/ui"):
            answer = await self.ask("GET", f"/api/v1/projects/shop/packages{where}", token=stranger)
            self.problem(answer, 404, "there is no project shop")


class Requests(_World):
    """What is asked to be done with packages. (The registry, and what is done, are in ``test_server_requesting``.)"""

    async def prepare(self) -> None:
        npm = {"type": "npm", "registry": REGISTRY, "publish_at": "apiserver"}
        await self.project(targets=[npm])
        assert (await self.ask("PUT", "/api/v1/projects/shop/secrets/npm_token", {"value": "npm_S3cret"})).status == 204
        self.number = await self.build()
        await self.publish("@acme/ui")
        self.otps: list[str] = []
        self.ask_programs.answers = self.answer
        self.server.requesting.start()

    def answer(self, question: Question) -> Answered:
        seen = [Seen(name=each.name, registry=REGISTRY, tags={"latest": "1.0.0"}) for each in question.looks]
        self.otps.append(question.otp)
        changed = Changed(outcome="done" if question.otp == "123456" else "password")
        return Answered(seen=seen, changed=None if question.change is None else changed)

    async def request(self, **body: object) -> Answer:
        return await self.ask("POST", "/api/v1/projects/shop/packages/@acme/ui/requests", body)

    async def ended(self, number: int, state: str) -> Any:
        """The request, once it is in this state."""
        for _ in range(200):
            found = (await self.ask("GET", f"/api/v1/projects/shop/package-requests/{number}")).json
            if found["state"] == state:
                return found
        raise AssertionError(found)

    async def test_a_request_waits_for_a_password_that_nothing_keeps(self) -> None:
        answer = await self.request(kind="promote", tag="next", version="1.0.0")
        assert answer.status == 202, answer.raw
        number = answer.json["id"]
        assert answer.headers["Location"] == f"/api/v1/projects/shop/package-requests/{number}"
        waiting = await self.ended(number, "waiting")
        assert (waiting["tone"], waiting["reason"]) == ("waiting", "the registry wants a one-time password")
        where = f"/api/v1/projects/shop/package-requests/{number}/password"
        self.problem(await self.ask("POST", where, {"otp": "12 34"}), 422)
        assert (await self.ask("POST", where, {"otp": "123456"})).status == 202
        done = await self.ended(number, "done")
        assert (done["kind"], done["tag"], done["version"], done["before"], done["asked_by"]) == (
            "promote", "next", "1.0.0", "", "ada",
        )  # fmt: skip
        assert self.otps[-1] == "123456"
        history = (await self.ask("GET", "/api/v1/projects/shop/packages/@acme/ui")).json
        assert (history["requests"], history["tags"], history["moved"]) == ([done], {"next": "1.0.0"}, [])
        for path in ("audit", f"projects/shop/package-requests/{number}"):
            assert b"123456" not in (await self.ask("GET", f"/api/v1/{path}")).raw
        assert all(b"123456" not in path.read_bytes() for path in self.folder.rglob("*") if path.is_file())

    async def test_what_is_asked_must_be_whole(self) -> None:
        for body, part in (
            ({"kind": "promote"}, "a version is needed"),
            ({"kind": "deprecate", "version": "1.0.0"}, "has a message"),
            ({"kind": "promote", "version": "1.0.0", "message": "x"}, "has a message"),
            ({"kind": "unpublish", "version": "1.0.0"}, ""),
            ({"kind": "promote", "version": "1.0.0", "tag": "1.0.0"}, ""),
            ({"kind": "promote", "version": "-x"}, ""),
            ({"kind": "promote", "version": "1.0.0", "otp": "S3cret of mine"}, ""),
        ):
            answer = await self.request(**body)
            self.problem(answer, 422, part)
            assert b"S3cret" not in answer.raw
        missing = await self.ask("POST", "/api/v1/projects/shop/packages/nothing/requests", {"kind": "rollback"})
        self.problem(missing, 404, "has published no package nothing")
        self.problem(await self.ask("GET", "/api/v1/projects/shop/package-requests/99"), 404)
        builder = await self.token("bob", "build")
        answer = await self.ask("POST", "/api/v1/projects/shop/packages/@acme/ui/requests", {}, token=builder)
        self.problem(answer, 403, "publish")


class Approvals(_World):
    """A one-time password with an approval. (What becomes of it is in ``test_server_delivering``.)"""

    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()

    async def test_a_password_must_look_like_one_and_is_repeated_nowhere(self) -> None:
        for verb in ("approve", "refuse"):
            where = f"/api/v1/builds/{self.number}/{verb}"
            self.problem(await self.ask("POST", where, {"otp": "123456"}), 409, "doesn't wait for an approval")
            self.problem(await self.ask("POST", where), 409)
            for otp in ("12", "x" * 101, "12 345678", "1\n23456"):
                answer = await self.ask("POST", where, {"otp": otp})
                self.problem(answer, 422)
                assert otp.encode() not in answer.body or len(otp) == 2


def test_nothing_secret_is_in_what_is_shown_of_a_body() -> None:
    assert repr(Password(otp="123456")) == "Password(…)"
    for body in (NewPackageRequest(kind="rollback", otp="123456"), Approval(otp="123456"), Refusal(otp="123456")):
        assert "123456" not in repr(body)
