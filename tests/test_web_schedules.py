"""Schedules by HTTP: set, listed and removed, and what isn't taken."""

from __future__ import annotations

from typing import Any

from tests.web_world import World

P = "/api/v1/projects/shop/schedules"


class SchedulesTest(World):
    async def prepare(self) -> None:
        await self.project("shop")

    async def set(self, name: str = "nightly", status: int = 200, **body: Any) -> Any:
        answer = await self.ask("PUT", f"{P}/{name}", {"cron": "30 2 * * *", **body})
        assert answer.status == status, answer.raw
        return answer.json

    async def test_a_schedule_is_set_listed_and_removed(self) -> None:
        made = await self.set(zone="Europe/Berlin", ref="fix", publish=False)
        assert made == {
            "name": "nightly", "cron": "30 2 * * *", "zone": "Europe/Berlin", "ref": "fix", "publish": False,
            "due": made["due"], "ran": None, "build": None, "reason": "",
            "created": made["created"], "updated": made["updated"],
        }  # fmt: skip
        assert made["due"][14:16] == "30"
        changed = await self.set(cron=" @daily ")
        assert (changed["cron"], changed["zone"], changed["publish"]) == ("@daily", "UTC", True)
        assert changed["due"].endswith("T00:00:00Z")
        assert (await self.ask("GET", P)).json == {"schedules": [changed]}
        assert (await self.ask("DELETE", f"{P}/nightly")).status == 204
        self.problem(await self.ask("DELETE", f"{P}/nightly"), 404, "project shop has no schedule nightly")
        assert (await self.ask("GET", P)).json == {"schedules": []}
        lines = (await self.ask("GET", "/api/v1/audit")).json["lines"]
        assert [line["action"] for line in lines[:3]] == ["schedule.delete", "schedule.set", "schedule.set"]
        assert lines[2]["detail"] == {
            "schedule": "nightly", "cron": "30 2 * * *", "zone": "Europe/Berlin", "ref": "fix", "publish": "no",
        }  # fmt: skip

    async def test_what_isnt_taken_is_said(self) -> None:
        for body, said in [
            ({"cron": "0 25 * * *"}, "the hour can't be '25'"),
            ({"cron": "0 0 31 2 *"}, "there is no such day"),
            ({"zone": "Mars/Olympus"}, "no time zone that this machine knows"),
            ({"zone": "../../etc/passwd"}, "no time zone that this machine knows"),
            ({"ref": "-x"}, "a ref is a branch"),
        ]:
            answer = await self.ask("PUT", f"{P}/nightly", {"cron": "@daily", **body})
            self.problem(answer, 422, said)
        assert (await self.ask("GET", P)).json == {"schedules": []}

    async def test_there_are_so_many_at_most(self) -> None:
        for number in range(20):
            await self.set(f"s{number}")
        answer = await self.ask("PUT", f"{P}/more", {"cron": "@daily"})
        self.problem(answer, 409, "project shop has 20 schedules already: remove one first")
