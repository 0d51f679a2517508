"""To whom a project's news go, by the API: what is secret stays so, and nothing is sent to this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed

from tests.outside import TOKEN, Anybody
from tests.web_world import World, eventually, reactor
from twistedipc.builds.attempt import Result
from twistedipc.builds.places import Place
from twistedipc.outgoing.exchange import Answer
from twistedipc.outgoing.webhook import signature
from twistedipc.storage import attempts
from twistedipc.storage.rows import Holder
from twistedipc.web.site import api_site

HOOK = "https://hooks.example/services/very/secret"
P = "/api/v1/projects/shop"


class ReceiversTest(World):
    async def prepare(self) -> None:
        await self.project()
        self.hook = Anybody()
        self.outside.services["https://hooks.example/"] = self.hook
        self.server.sender.start()
        self.addCleanup(self.server.sender.stop)

    async def set(self, name: str, status: int = 200, **body: Any) -> Any:
        answer = await self.ask("PUT", f"{P}/receivers/{name}", body)
        assert answer.status == status, answer.raw
        return answer.json

    async def build_that_fails(self) -> int:
        build = await self.build()
        holder = Holder("a" * 16, "one")

        def end(connection: Any) -> None:
            attempts.offer(connection, f"{build}-1", holder.lease, holder.builder, self.time)
            attempts.accept(connection, f"{build}-1", holder)
            result = Result(outcome="failed", reason="tests failed", lines=0, sha256="", started=1, ended=2)
            attempts.finish(connection, f"{build}-1", holder, result, True, self.time)

        await self.ledger.write(end)
        self.server.sender.wake()
        return build

    async def test_a_webhook_is_told_and_its_secret_is_shown_once(self) -> None:
        made = await self.set("hook", kind="webhook", where=HOOK, events=["failed"])
        assert made["secret"].startswith("whsec_")
        assert made["where"] == "https://hooks.example/…"
        listed = (await self.ask("GET", f"{P}/receivers")).json["receivers"]
        assert [each["secret"] for each in listed] == [None]
        build = await self.build_that_fails()
        await eventually(lambda: bool(self.hook.asked))
        [asked] = self.hook.asked
        assert asked.url == HOOK
        headers = asked.headers
        signed = signature(made["secret"], headers["webhook-id"], int(headers["webhook-timestamp"]), asked.body)
        assert headers["webhook-signature"] == signed
        assert self.hook.bodies[0]["type"] == "build.failed"
        assert self.hook.bodies[0]["data"]["build"] == build

    async def test_what_was_told_is_listed_and_can_be_told_again(self) -> None:
        await self.set("hook", kind="webhook", where=HOOK)
        self.hook.faults = [Answer(status=400)]
        await self.build_that_fails()
        await eventually(lambda: bool(self.hook.asked))
        telling: Any = None
        for _ in range(1000):
            [telling] = (await self.ask("GET", f"{P}/tellings")).json["tellings"]
            if telling["state"] == "given_up":
                break
        assert (telling["state"], telling["reason"], telling["event"]) == ("given_up", "it answered 400", "failed")
        answer = await self.ask("POST", f"{P}/tellings/{telling['id']}/again")
        assert answer.status == 202
        await eventually(lambda: len(self.hook.asked) == 2)
        assert self.hook.asked[0].headers["webhook-id"] == self.hook.asked[1].headers["webhook-id"]
        self.problem(await self.ask("POST", f"{P}/tellings/999/again"), 404)

    async def test_pages_of_tellings(self) -> None:
        await self.set("hook", kind="webhook", where=HOOK)
        for _ in range(3):
            await self.build_that_fails()
        page = (await self.ask("GET", f"{P}/tellings?limit=2")).json
        assert len(page["tellings"]) == 2
        rest = (await self.ask("GET", f"{P}/tellings?limit=2&before={page['next']}")).json
        assert (len(rest["tellings"]), rest["next"]) == (1, None)

    async def test_nothing_secret_is_in_an_answer_or_in_the_audit(self) -> None:
        await self.set("chat", kind="slack", where=HOOK)
        await self.set("host", kind="gitea", secret=TOKEN)
        for path in (f"{P}/receivers", P, "/api/v1/audit", f"{P}/tellings"):
            raw = (await self.ask("GET", path)).raw
            assert b"very/secret" not in raw
            assert TOKEN.encode() not in raw

    async def test_a_token_goes_nowhere_else_without_being_given_again(self) -> None:
        await self.set("host", kind="gitea", secret=TOKEN)
        await self.set("host", kind="gitea", events=["failed"])  # it stays
        answer = await self.ask("PUT", f"{P}/receivers/host", {"kind": "gitea", "where": "https://evil.example/api"})
        self.problem(answer, 422, "with a new address again")
        answer = await self.ask("PUT", f"{P}/receivers/host", {"kind": "gitlab"})
        self.problem(answer, 422, "needs a token")

    async def test_a_token_does_not_follow_the_project_to_another_repository(self) -> None:
        await self.set("host", kind="gitea", secret=TOKEN)
        moved = {"repository": "https://evil.example/git/shop.git"}
        assert (await self.ask("PATCH", P, moved)).status == 200
        self.problem(await self.ask("PUT", f"{P}/receivers/host", {"kind": "gitea"}), 422, "with a new address again")
        [host] = (await self.ask("GET", f"{P}/receivers")).json["receivers"]
        assert host["void"]
        assert not (await self.set("host", kind="gitea", secret="another"))["void"]

    async def test_a_receiver_at_this_machine_is_refused(self) -> None:
        def look_up(host: str) -> Deferred[list[Place]]:
            return succeed([Place("127.0.0.1", True)])

        context = replace(self.context, look_up=look_up, elsewhere=lambda address: "allowed" not in address)
        site = api_site(context)
        listening = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.addCleanup(lambda: Deferred.fromCoroutine(site.stop()))
        self.port = listening.getHost().port
        answer = await self.ask("PUT", f"{P}/receivers/hook", {"kind": "webhook", "where": "http://inside.example/"})
        self.problem(answer, 422, "this machine itself")
        await self.set("hook", kind="webhook", where="http://allowed.example/")

    async def test_values_that_are_refused(self) -> None:
        for body, part in (
            ({"kind": "webhook"}, "begins with https"),
            ({"kind": "webhook", "where": "https://user:pass@x.example/"}, "user"),
            ({"kind": "webhook", "where": HOOK, "secret": "whsec_???"}, "base64"),
            ({"kind": "mail", "where": "nobody"}, "address for mail"),
            ({"kind": "slack", "where": HOOK, "secret": "x"}, "no secret but its address"),
            ({"kind": "github"}, "needs a token"),
            ({"kind": "pigeon"}, ""),
            ({"kind": "webhook", "where": HOOK, "events": ["never"]}, ""),
        ):
            answer = await self.ask("PUT", f"{P}/receivers/x", body)
            assert answer.status in (400, 422), answer.raw
            self.problem(answer, answer.status, part)

    async def test_who_may(self) -> None:
        await self.set("hook", kind="webhook", where=HOOK)
        reader = await self.token("bob", "read", ["shop"])
        assert (await self.ask("GET", f"{P}/tellings", token=reader)).status == 200
        self.problem(await self.ask("GET", f"{P}/receivers", token=reader), 403)
        self.problem(await self.ask("DELETE", f"{P}/receivers/hook", token=reader), 403)
        other = await self.token("eve", "admin", ["other"])
        self.problem(await self.ask("GET", f"{P}/tellings", token=other), 404)
        assert (await self.ask("DELETE", f"{P}/receivers/hook")).status == 204
        self.problem(await self.ask("DELETE", f"{P}/receivers/hook"), 404)
