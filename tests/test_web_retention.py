"""What isn't kept any more, by HTTP: looked at, removed, asked back about; and builds that are pinned."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import deferLater

from tests.retention_world import NOW, add_build
from tests.web_world import World, reactor
from twistedipc.builds.states import AttemptState
from twistedipc.server import pruning
from twistedipc.storage import projects
from twistedipc.storage.rows import APISERVER

P = "/api/v1/projects/shop"


class Retention(World):
    async def prepare(self) -> None:
        self.time = NOW
        await self.project()
        self.number = (await self.ledger.read(projects.list_all, None))[0].id
        self.old = await self.add(100)
        self.new = await self.add(1)

    async def add(self, age: float, state: AttemptState = AttemptState.FAILED) -> int:
        return await self.ledger.write(add_build, self.number, age, state=state)

    async def keep(self, status: int = 200, **rules: Any) -> Any:
        confirm = {"confirm": rules.pop("confirm")} if "confirm" in rules else {}
        answer = await self.ask("PATCH", P, {"retention": rules, **confirm})
        assert answer.status == status, answer.raw
        return answer.json

    async def ended(self) -> Any:
        """The run, when it has ended."""
        while (run := (await self.ask("GET", "/api/v1/prune/run")).json)["ended"] is None:
            await deferLater(reactor, 0.01)
        return run

    async def test_by_default_nothing_goes(self) -> None:
        found = (await self.ask("GET", "/api/v1/prune")).json
        caches: dict[str, object] = {"projects": {}, "unaware": []}
        assert found == {"removes": False, "whole": True, "plan": [], "caches": caches, "run": None, "busy": False}
        self.problem(await self.ask("GET", "/api/v1/prune/run"), 404, "since the apiserver's start")
        shown = (await self.ask("GET", P)).json
        assert shown["retention"] == {}
        assert shown["kept"]["logs"] is None

    async def test_a_plan_is_shown_and_then_done(self) -> None:
        shown = await self.keep(logs=30, newest=1, artifacts="forever")
        assert shown["retention"] == {"logs": 30, "artifacts": "forever", "newest": 1}
        assert (shown["kept"]["logs"], shown["kept"]["artifacts"], shown["kept"]["newest"]) == (30, None, 1)
        (line,) = (await self.ask("GET", "/api/v1/prune?project=shop")).json["plan"]
        assert line == {
            "project": "shop", "kind": "logs", "count": 1, "size": 200, "rules": ["logs = 30 days"], "stays": {},
            "whole": True, "nothing_left": False,
        }  # fmt: skip
        begun = await self.ask("POST", "/api/v1/prune?project=shop", {})
        assert (begun.status, begun.json["by"]) == (202, "ada")
        run = await self.ended()
        assert (run["freed"], run["problem"]) == ({"logs": {"count": 1, "size": 200}}, "")
        lines = (await self.ask("GET", "/api/v1/audit")).json["lines"]
        assert (lines[0]["action"], lines[0]["project"], lines[0]["detail"]) == (
            "retention.prune", "shop", {"logs": "1 (200 bytes)"},
        )  # fmt: skip
        (attempt,) = (await self.ask("GET", f"/api/v1/builds/{self.old}")).json["attempts"]
        assert (attempt["log_rule"], attempt["lines"], attempt["complete"]) == ("logs = 30 days", 20, True)
        assert attempt["log_removed"] is not None
        (attempt,) = (await self.ask("GET", f"/api/v1/builds/{self.new}")).json["attempts"]
        assert attempt["log_removed"] is None

    async def test_of_caches_only_the_rule_is_known(self) -> None:
        await self.project("other")
        shown = await self.keep(caches=7)
        assert (shown["retention"], shown["kept"]["caches"]) == ({"caches": 7}, 7)
        found = (await self.ask("GET", "/api/v1/prune")).json
        assert (found["removes"], found["plan"]) == (True, [])
        assert found["caches"] == {"projects": {"shop": 7}, "unaware": []}
        assert (await self.keep(caches="forever"))["kept"]["caches"] is None

    async def test_rules_that_leave_nothing_are_asked_back_about(self) -> None:
        rules = {"logs": 1, "newest": 0, "last_success": False}
        refused = await self.keep(409, **rules)
        assert refused["type"].endswith(":confirm")
        assert "even the newest logs of shop would be removed" in refused["detail"]
        assert (await self.ask("GET", P)).json["retention"] == {}
        await self.keep(confirm=True, **rules)
        self.problem(await self.ask("POST", "/api/v1/prune"), 409, "even the newest of the logs of shop")
        assert (await self.ask("POST", "/api/v1/prune", {"confirm": True})).status == 202
        assert (await self.ended())["freed"]["logs"]["count"] == 2

    async def test_what_could_not_all_be_looked_at_is_asked_back_about(self) -> None:
        await self.keep(logs=30, newest=1)
        self.patch(pruning, "PLAN_SECONDS", -1.0)
        assert not (await self.ask("GET", "/api/v1/prune")).json["whole"]
        self.problem(
            await self.ask("POST", "/api/v1/prune"), 409, "take too long to find out whether something is left"
        )
        assert (await self.ask("POST", "/api/v1/prune", {"confirm": True})).status == 202
        assert (await self.ended())["freed"]["logs"]["count"] == 1

    async def test_nonsense_is_refused(self) -> None:
        for rules, said in (
            ({"logs": 0}, "logs: it is 1 to 36500 days, or forever, not 0"),
            ({"builds": 10, "logs": 20}, "builds: a build goes after 10 days"),
            ({"logs": -1}, "logs"),
            ({"logs": "90 days"}, "logs"),
            ({"releases": 0}, "releases"),
            ({"caches": 0}, "caches: it is 1 to 36500 days, or forever, not 0"),
            ({"audit": 1}, "audit"),
        ):
            self.problem(await self.ask("PATCH", P, {"retention": rules}), 422, said)
        assert (await self.ask("GET", P)).json["retention"] == {}

    async def test_an_admin_of_one_project_prunes_that_one(self) -> None:
        await self.project("other")
        await self.keep(logs=30, newest=1)
        mine = await self.token("max", "admin", ["other"])
        assert (await self.ask("GET", "/api/v1/prune", token=mine)).json["plan"] == []
        for method in ("GET", "POST"):
            self.problem(await self.ask(method, "/api/v1/prune?project=shop", token=mine), 404, "no project shop")
            self.problem(await self.ask(method, "/api/v1/prune?project=nothing"), 404, "no project nothing")
        assert (await self.ask("POST", "/api/v1/prune", token=mine)).status == 202
        assert (await self.ended())["freed"] == {}
        assert (await self.ask("GET", "/api/v1/prune", token=mine)).json["run"]["by"] == "max"
        assert (await self.ask("POST", "/api/v1/prune")).status == 202
        await self.ended()
        found = (await self.ask("GET", "/api/v1/prune", token=mine)).json
        assert (found["run"], found["busy"]) == (None, False)
        self.problem(await self.ask("GET", "/api/v1/prune/run", token=mine), 404, "nothing was removed")

    async def test_a_run_of_others_is_not_shown_but_that_it_goes_on_is(self) -> None:
        await self.project("other")
        mine = await self.token("max", "admin", ["other"])
        run = self.context.retention.begin(None, APISERVER)
        while run.ended is None:
            await deferLater(reactor, 0.01)
        run.ended = None  # it goes on
        found = (await self.ask("GET", "/api/v1/prune", token=mine)).json
        assert (found["run"], found["busy"]) == (None, True)
        self.problem(await self.ask("POST", "/api/v1/prune", token=mine), 409, "a run of other projects, or of all")
        found = (await self.ask("GET", "/api/v1/prune")).json
        assert (found["run"]["by"], found["busy"]) == (APISERVER.name, False)

    async def test_what_is_pinned_stays_until_it_is_let_go(self) -> None:
        await self.keep(logs=30, newest=1)
        pinned = await self.ask("PUT", f"/api/v1/builds/{self.old}/pin")
        assert (pinned.status, pinned.json["id"]) == (200, self.old)
        assert pinned.json["pinned"] is not None
        (line,) = (await self.ask("GET", "/api/v1/prune")).json["plan"]
        assert (line["count"], line["stays"]) == (0, {"it is pinned": 1})
        assert (await self.ask("DELETE", f"/api/v1/builds/{self.old}/pin")).json["pinned"] is None
        (line,) = (await self.ask("GET", "/api/v1/prune")).json["plan"]
        assert line["count"] == 1
        lines = (await self.ask("GET", "/api/v1/audit")).json["lines"]
        assert [each["action"] for each in lines[:2]] == ["build.unpin", "build.pin"]
        reader = await self.token("rea", "read")
        self.problem(await self.ask("PUT", f"/api/v1/builds/{self.old}/pin", token=reader), 403)
