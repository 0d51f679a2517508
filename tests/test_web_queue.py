"""The API of projects' queues: what a project says of its own, and all of one cancelled."""

from __future__ import annotations

from tests.web_world import World


class QueueTests(World):
    async def test_what_a_project_says_of_its_queue(self) -> None:
        shown = await self.project()
        assert shown["queue"] == {"at_once": None, "paused": None, "priorities": []}
        at = "/api/v1/projects/shop"
        some = [{"ref": "release/*", "priority": "high"}]
        changed = await self.ask("PATCH", at, {"queue": {"at_once": 2, "priorities": some}})
        assert changed.json["queue"] == {"at_once": 2, "paused": None, "priorities": some}, changed.raw
        paused = (await self.ask("PATCH", at, {"queue": {"paused": True}})).json["queue"]
        assert (paused["at_once"], paused["priorities"], paused["paused"] is not None) == (2, some, True)
        again = (await self.ask("PATCH", at, {"queue": {"paused": True, "at_once": None}})).json["queue"]
        assert (again["paused"], again["at_once"]) == (paused["paused"], None), "paused since then"
        assert (await self.ask("PATCH", at, {"queue": {"paused": False}})).json["queue"]["paused"] is None
        self.problem(await self.ask("PATCH", at, {"queue": {"at_once": 0}}), 422)
        bad = [{"ref": "a..b", "priority": "low"}]
        self.problem(await self.ask("PATCH", at, {"queue": {"priorities": bad}}), 422)
        lines = (await self.ask("GET", "/api/v1/audit?action=project.change")).json["lines"]
        assert any(line["detail"].get("queue.paused") == "no → yes" for line in lines), lines

    async def test_a_build_has_a_priority(self) -> None:
        await self.project()
        await self.ask("PATCH", "/api/v1/projects/shop", {"queue": {"priorities": [{"ref": "x", "priority": "low"}]}})
        at = "/api/v1/projects/shop/builds"
        asked = [{"ref": "x"}, {"ref": "x", "priority": "high"}, {"ref": "y"}]
        made = [(await self.ask("POST", at, body)).json for body in asked]
        assert [each["priority"] for each in made] == ["low", "high", "normal"]
        detail = [(await self.ask("GET", f"/api/v1/builds/{each['id']}")).json["position"] for each in made]
        assert detail == [2, 0, 1]

    async def test_all_that_is_queued_is_cancelled(self) -> None:
        await self.project()
        some = [await self.build() for _ in range(3)]
        answer = await self.ask("POST", "/api/v1/projects/shop/queue/cancel")
        assert (answer.status, answer.json) == (202, {"cancelled": 3}), answer.raw
        listed = (await self.ask("GET", "/api/v1/builds")).json["builds"]
        assert [(each["id"], each["state"]) for each in listed] == [(each, "cancelled") for each in reversed(some)]
        assert (await self.ask("POST", "/api/v1/projects/shop/queue/cancel")).json == {"cancelled": 0}
        (line,) = (await self.ask("GET", "/api/v1/audit?action=queue.cancel")).json["lines"]
        assert line["detail"] == {"builds": "3", "first": str(some[0]), "last": str(some[-1])}
