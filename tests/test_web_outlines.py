"""The outline of a log over HTTP: while its build runs, after its end, and of logs that are older than outlines."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, delete, update

from tests.web_world import World
from twistedipc.builds.logs import Annotation, Group, Lines, Notice, Record, StepEnded, StepStarted, encoder
from twistedipc.sealed.making import make
from twistedipc.sealed.outline import MAX_ERRORS, MAX_GROUPS, MAX_REMARKS, marked_of
from twistedipc.storage import logs, sealed_logs
from twistedipc.storage.sealed_logs import Placed, Unsealed
from twistedipc.storage.tables import attempts, outlines
from twistedipc.web.api.schemas import LogOutline


class Outlines(World):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()
        self.name = f"{self.number}-1"
        self.path = f"/api/v1/builds/{self.number}/log/outline"

    async def say(self, *records: Record, time: int = 1_800_000_000_000) -> None:
        """The build's log goes on, as a commit writes it."""
        first = await self.ledger.read(logs.next_record, self.name)
        batch = Lines(first, time, 0, list(records))
        steps = [(time, record) for record in records if isinstance(record, StepStarted | StepEnded)]
        item = logs.ChunkItem(
            attempt=self.name,
            first=first,
            count=len(records),
            data=encoder.encode(batch) + b"\n",
            events=steps,
            marks=marked_of(batch),
        )
        await self.ledger.write(logs.append, [item])

    async def outline(self, query: str = "") -> Any:
        answer = await self.ask("GET", self.path + query)
        assert answer.status == 200, answer.raw
        msgspec.convert(answer.json, LogOutline)
        return answer.json

    async def test_of_a_build_that_runs(self) -> None:
        assert await self.outline() == {
            "attempt": 1,
            "records": 0,
            "bytes": 0,
            "complete": False,
            "steps": [],
            "groups": [],
            "annotation_counts": {"errors": 0, "warnings": 0, "notices": 0},
            "annotations": [],
            "errors": [],
        }
        await self.say("cloning", StepStarted(0, "install", "npm ci"), "added 41 packages")
        found = await self.outline()
        assert (found["records"], found["complete"]) == (3, False)
        assert found["bytes"] > 0
        (step,) = found["steps"]
        assert (step["name"], step["outcome"], step["first"], step["last"]) == ("install", "running", 2, None)
        await self.say(StepEnded(0, "failed", 9, 1), StepStarted(1, "build", ""), Group("Tests"))
        await self.say(
            Annotation("error", "no module", "src/a.ts", 3), Annotation("warning", "old"), Notice("info", "x")
        )
        found = await self.outline("?attempt=1")
        assert [(step["first"], step["last"]) for step in found["steps"]] == [(2, 4), (5, None)]
        assert [(group["record"], group["name"]) for group in found["groups"]] == [(6, "Tests")]
        assert [(each["record"], each["level"]) for each in found["annotations"]] == [(7, "error"), (8, "warning")]
        assert found["errors"] == [
            {"record": 4, "step": 0, "what": "step", "message": "the step has failed"},
            {"record": 7, "step": 0, "what": "annotation", "message": "no module"},
        ]

    async def test_it_is_bounded(self) -> None:
        for _ in range(12):
            await self.say(*[Annotation("error", "x" * 4000, "f" * 1000, 1)] * 20, *[Group("g" * 200)] * 50)
        answer = await self.ask("GET", self.path)
        assert len(answer.json["annotations"]) == MAX_REMARKS
        assert len(answer.json["groups"]) == MAX_GROUPS
        assert len(answer.json["errors"]) == MAX_ERRORS
        assert len(answer.raw) < 200_000
        assert answer.json["annotations"][0]["record"] == 1

    async def test_of_a_log_that_is_older_it_is_made_at_sealing(self) -> None:
        await self.say(StepStarted(0, "install", "npm ci"), "x", StepEnded(0, "succeeded", 9, 0), Group("Tests"))
        known = await self.outline()

        def forget(connection: Connection) -> None:
            connection.execute(delete(outlines))

        def seal(connection: Connection) -> None:
            rows = sealed_logs.unsealed(connection, Unsealed(attempt=self.name, over=True))
            made, marks = make([message for row in rows for message in row.data.splitlines()])
            plain = [(row.first, row.count) for row in rows]
            assert sealed_logs.replace(connection, self.name, plain, [Placed(each) for each in made], marks)

        await self.ledger.write(forget)
        assert (await self.outline())["groups"] == []
        await self.ledger.write(seal)
        assert await self.outline() == known

    async def test_a_log_that_is_not_kept_is_not_complete(self) -> None:
        await self.say("cloning")

        def change(connection: Connection, /, **values: Any) -> None:
            connection.execute(update(attempts).values(**values))

        await self.ledger.write(change, state="failed", complete=True)
        assert (await self.outline())["complete"]
        await self.ledger.write(change, log_removed=1, log_rule="logs = 1 day")
        assert not (await self.outline())["complete"]

    async def test_what_is_not_there(self) -> None:
        assert (await self.ask("GET", self.path + "?attempt=2")).status == 404
        assert (await self.ask("GET", "/api/v1/builds/99/log/outline")).status == 404
        assert (await self.ask("GET", self.path + "?attempt=x")).status == 422
