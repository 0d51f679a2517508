"""Polling by HTTP: turned on, shown, looked now, and turned off."""

from __future__ import annotations

from typing import Any

from tests.web_world import World
from twistedipc.storage import polls, projects

P = "/api/v1/projects/shop/poll"
OFF = {
    "on": False, "every": 5, "due": None, "looked": None, "refs": 0, "builder": "", "failures": 0, "reason": "",
}  # fmt: skip


class PollTest(World):
    async def prepare(self) -> None:
        await self.project("shop")

    async def put(self, body: Any = None, status: int = 200) -> Any:
        answer = await self.ask("PUT", P, body)
        assert answer.status == status, answer.raw
        return answer.json

    async def test_it_is_turned_on_and_off(self) -> None:
        found = (await self.ask("GET", P)).json
        settings = found.pop("settings")
        assert found == OFF
        assert settings == (await self.ask("GET", "/api/v1/projects/shop/hook")).json["settings"]
        made = await self.put()
        assert (made["on"], made["every"], made["looked"]) == (True, 5, None)
        assert made["due"]
        assert (await self.put({"every": 30}))["every"] == 30
        assert (await self.put({}))["every"] == 30
        assert (await self.ask("DELETE", P)).status == 204
        self.problem(await self.ask("DELETE", P), 404, "project shop isn't polled")
        assert not (await self.ask("GET", P)).json["on"]
        lines = (await self.ask("GET", "/api/v1/audit")).json["lines"]
        assert [line["action"] for line in lines[:4]] == ["poll.delete", "poll.set", "poll.set", "poll.set"]
        assert [line["detail"] for line in lines[1:4]] == [{"every": "30"}, {"every": "30"}, {"every": "5"}]

    async def test_what_isnt_taken_is_said(self) -> None:
        for every in (0, 1441, -1, "5", 1.5):
            self.problem(await self.ask("PUT", P, {"every": every}), 422, "every")
        self.problem(await self.ask("POST", f"{P}/look"), 409, "project shop isn't polled: turn that on first")

    async def test_a_look_can_be_had_now_and_what_came_of_the_last_is_shown(self) -> None:
        await self.put()

        def fail(connection: Any) -> None:
            about = projects.get(connection, "shop")
            assert about is not None
            poll = polls.get(connection, about.id)
            assert poll is not None
            polls.failed(connection, poll, "it is\x1b[2J away", self.context.now(), 0.5)

        await self.ledger.write(fail)
        found = (await self.ask("GET", P)).json
        assert (found["failures"], found["reason"]) == (1, "it is\N{REPLACEMENT CHARACTER}[2J away")
        answer = await self.ask("POST", f"{P}/look")
        assert answer.status == 202
        assert answer.json["due"] < found["due"]
