"""Why builds failed, over HTTP: of real logs, sealed or not, compared with successes, within 8 KiB and the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, update
from twisted.internet.defer import Deferred

from tests.failures.cases import CASES
from tests.test_causes import MADE, lines_of
from tests.web_world import World, eventually
from twistedipc.builds.logs import Annotation, Lines, Record, StepEnded, StepStarted, encoder
from twistedipc.sealed.making import make
from twistedipc.sealed.outline import marked_of
from twistedipc.server.searching import MAX_RUNNING, SearchTurn
from twistedipc.storage import logs, sealed_logs
from twistedipc.storage.sealed_logs import Placed, Unsealed
from twistedipc.storage.tables import attempts, builds
from twistedipc.web.api.failures import MAX_FAILURE
from twistedipc.web.api.schemas import BuildFailure

INSTALLED: list[Record] = [
    StepStarted(0, "install", "npm ci"),
    "added 41 packages in 9s",
    StepEnded(0, "succeeded", 9, 0),
]
ERROR = "src/cart.ts(3,29): error TS2322: Type 'string' is not assignable to type 'number'."


class Failures(World):
    async def prepare(self) -> None:
        await self.project()

    async def say(self, name: str, *records: Record) -> None:
        """A build's log goes on, as a commit writes it."""
        first = await self.ledger.read(logs.next_record, name)
        batch = Lines(first, 1_800_000_000_000, 1, list(records))
        item = logs.ChunkItem(
            attempt=name,
            first=first,
            count=len(records),
            data=encoder.encode(batch) + b"\n",
            events=[(1_800_000_000_000, record) for record in records if isinstance(record, StepStarted | StepEnded)],
            marks=marked_of(batch),
        )
        await self.ledger.write(logs.append, [item])

    async def end(self, name: str, state: str, **values: Any) -> None:
        def change(connection: Connection) -> None:
            build, number = name.split("-")
            which = (attempts.c.build_id == int(build)) & (attempts.c.number == int(number))
            lines = attempts.c.next_record - 1
            connection.execute(update(attempts).where(which).values(state=state, ended=2, lines=lines, **values))
            connection.execute(update(builds).where(builds.c.id == int(build)).values(state=state))

        await self.ledger.write(change)

    async def seal(self, name: str) -> None:
        def seal(connection: Connection) -> None:
            while rows := sealed_logs.unsealed(connection, Unsealed(attempt=name, over=True)):
                made, marks = make([message for row in rows for message in row.data.splitlines()])
                plain = [(row.first, row.count) for row in rows]
                assert sealed_logs.replace(connection, name, plain, [Placed(each) for each in made], marks)

        await self.ledger.write(seal)

    async def failed(
        self, *output: Record, code: int = 1, sealed: bool = False, after: Sequence[Record] = (), **values: Any
    ) -> int:
        """A build whose step "build" prints this and fails; ``after`` comes behind its end."""
        number = await self.build()
        name = f"{number}-1"
        await self.say(name, *INSTALLED, StepStarted(1, "build", "npm run build"))
        for at in range(0, len(output), 5000):
            await self.say(name, *output[at : at + 5000])
        await self.say(name, StepEnded(1, "failed", 9, code), *after)
        await self.end(name, "failed", reason=f"the step build failed with exit code {code}", **values)
        if sealed:
            await self.seal(name)
        return number

    async def succeeded(self, *output: str) -> int:
        number = await self.build()
        name = f"{number}-1"
        await self.say(name, *INSTALLED, StepStarted(1, "build", "npm run build"), *output)
        await self.say(name, StepEnded(1, "succeeded", 9, 0))
        await self.end(name, "succeeded")
        return number

    async def failure(self, number: int, query: str = "") -> Any:
        answer = await self.ask("GET", f"/api/v1/builds/{number}/failure{query}")
        assert answer.status == 200, answer.raw
        assert len(answer.body) <= MAX_FAILURE
        msgspec.convert(answer.json, BuildFailure)
        return answer.json

    async def test_what_it_says(self) -> None:
        number = await self.failed("> tsc -p .", "", ERROR, "", code=2, sha256="ab" * 32, complete=True)
        found = await self.failure(number)
        assert found == {
            "build": number,
            "attempt": 1,
            "project": "shop",
            "state": "failed",
            "reason": "the step build failed with exit code 2",
            "commit": "",
            "step": {
                "index": 1,
                "name": "build",
                "command": "npm run build",
                "outcome": "failed",
                "exit_code": 2,
                "first": 4,
                "last": 9,
            },
            "error": {"record": 7, "text": ERROR},
            "explanation": None,
            "around": [
                {"record": 5, "text": "> tsc -p ."},
                {"record": 6, "text": ""},
                {"record": 7, "text": ERROR},
                {"record": 8, "text": ""},
            ],
            "annotations": [],
            "new": None,
            "log": {"records": 9, "sha256": "ab" * 32, "complete": True},
            "omitted": [],
        }
        await self.seal(f"{number}-1")
        assert await self.failure(number) == found
        assert await self.failure(number, "?attempt=1") == found

    async def test_it_is_explained(self) -> None:
        said = "There is no command vite. Add the package that has it"
        number = await self.failed("sh: 1: vite: not found", code=127, after=[Annotation("error", said)])
        found = await self.failure(number)
        assert found["explanation"]["cause"] == "there is no command vite"
        assert found["error"]["record"] == 5
        assert [each["message"] for each in found["annotations"]] == [said]

    async def test_what_a_build_says_by_a_command(self) -> None:
        """``::error::`` is no line of the output any more; what the platform says comes after the step's end."""
        remark = Annotation("error", "the pages are odd", "src/a.ts", 3)
        number = await self.failed("building", remark, "done")
        found = await self.failure(number)
        assert found["error"] == {"record": 6, "text": "the pages are odd src/a.ts:3"}
        assert found["annotations"][0]["record"] == 6
        number = await self.failed("building", "odd: the pages are odd", remark, "done")
        assert (await self.failure(number))["error"] == {"record": 6, "text": "odd: the pages are odd"}

    async def test_real_failures(self) -> None:
        """One of each kind, sealed and not; the others differ in nothing that is done here."""
        for kind in dict.fromkeys(case.kind for case in CASES):
            case = next(case for case in CASES if case.kind == kind)
            lines = lines_of(case.name)
            number = await self.failed(*lines, code=MADE[case.name].exit)
            found = await self.failure(number)
            assert found["error"]["text"] == lines[found["error"]["record"] - 5].expandtabs(8)
            assert len(found["around"]) <= 21
            await self.seal(f"{number}-1")
            assert await self.failure(number) == found

    async def test_what_is_new_against_the_last_success(self) -> None:
        old = await self.succeeded("built in 3 s")
        await self.failed("nothing")
        green = await self.succeeded("Error: retrying 3 times", "12 modules", "built in 980 ms")
        number = await self.failed(
            "Error: retrying 4 times", "13 modules", "chunk a is empty", "chunk b is empty", code=1
        )
        found = await self.failure(number)
        assert old < green
        assert found["new"] == {
            "against": f"{green}-1",
            "lines": [{"record": 7, "text": "chunk a is empty"}, {"record": 8, "text": "chunk b is empty"}],
            "count": 2,
            "complete": True,
        }
        # What the success has printed as well isn't the cause, though it is the only one that looks like one.
        assert found["error"]["record"] == 5
        number = await self.failed("Error: retrying 4 times", "can't find the chunk")
        assert (await self.failure(number))["error"]["text"] == "can't find the chunk"

    async def test_a_success_whose_log_is_gone_is_not_compared_with(self) -> None:
        green = await self.succeeded("built")
        gone = await self.succeeded("built")
        await self.end(f"{gone}-1", "succeeded", log_removed=1)
        number = await self.failed("not built")
        assert (await self.failure(number))["new"]["against"] == f"{green}-1"

    async def test_a_large_log(self) -> None:
        """Its end is read; before that, what is surely an error is looked for."""
        noise = [f"page {n} of the catalogue is rendered, with all of its {n} products" for n in range(30_000)]
        await self.succeeded(*noise[:10])
        late = await self.failed(*noise, ERROR, *noise[:30], sealed=True)
        found = await self.failure(late)
        assert found["error"] == {"record": 30_005, "text": ERROR}
        assert len(found["around"]) == 21
        assert any("only what is surely an error" in said for said in found["omitted"])
        assert not found["new"]["complete"]
        for sealed in (False, True):
            early = await self.failed(*noise[:50], ERROR, *noise, sealed=sealed)
            found = await self.failure(early)
            assert found["error"] == {"record": 55, "text": ERROR}
            assert [line["record"] for line in found["around"]] == list(range(45, 66))

    async def test_eight_kibibytes_hold_whatever_is_printed(self) -> None:
        for text in ("x" * 16_000, "\U0001f600" * 4000, '"\\' * 4000, "\x01\x02" * 4000):
            number = await self.failed(
                *[Annotation("warning", text[:4000], text[:1000], 3)] * 30,
                *[f"{n} {text}" for n in range(30)],
                f"Error: {text}",
                *[f"{n} {text}" for n in range(30)],
            )
            found = await self.failure(number)
            assert found["error"]["record"] == 65
            assert len(found["around"]) >= 3
            assert found["omitted"]

    async def test_steps_that_say_nothing(self) -> None:
        number = await self.failed()
        found = await self.failure(number)
        assert (found["error"], found["around"], found["step"]["name"]) == (None, [], "build")

    async def test_a_build_that_never_began_a_step(self) -> None:
        number = await self.build()
        await self.end(f"{number}-1", "failed", reason="no builder has what it needs")
        found = await self.failure(number)
        assert (found["step"], found["error"], found["reason"]) == (None, None, "no builder has what it needs")

    async def test_a_log_that_is_not_kept(self) -> None:
        number = await self.failed(ERROR)
        await self.end(f"{number}-1", "failed", log_removed=1, log_rule="logs = 1 day")
        found = await self.failure(number)
        assert found["error"] is None
        assert "removed" in found["omitted"][0]

    async def test_what_has_not_failed(self) -> None:
        number = await self.build()
        path = f"/api/v1/builds/{number}/failure"
        self.problem(await self.ask("GET", path), 409, "has not failed: its attempt 1 is queued")
        self.problem(await self.ask("GET", path + "?attempt=2"), 404, "no attempt 2")
        await self.end(f"{number}-1", "succeeded")
        self.problem(await self.ask("GET", path), 409, "is succeeded")
        self.problem(await self.ask("GET", "/api/v1/builds/99/failure"), 404)

    async def test_it_waits_its_turn(self) -> None:
        """A diagnosis is a search by its work, so both together are bounded."""
        number = await self.failed(ERROR)
        searching = self.server.searching
        turns = [await searching.turn("others") for _ in range(MAX_RUNNING)]
        answer = Deferred.fromCoroutine(self.ask("GET", f"/api/v1/builds/{number}/failure"))
        await eventually(lambda: searching.waiting == 1)
        assert not answer.called
        for turn in turns:
            turn.end()
        assert (await answer).status == 200
        searching.stop()
        self.problem(await self.ask("GET", f"/api/v1/builds/{number}/failure"), 503, "stopping")

    async def test_a_turn_that_is_over_ends_the_reading(self) -> None:
        """What was read by then is what is looked at."""
        number = await self.failed(*[f"page {n} is rendered" for n in range(20_000)], ERROR, sealed=True)
        searching = self.server.searching
        reads = 0
        parts = searching.parts

        def read(*args: Any, **named: Any) -> Any:
            nonlocal reads
            reads += 1
            turns[0].end()
            return parts(*args, **named)

        turns: list[SearchTurn] = []
        take = searching.turn

        async def taken(who: str) -> SearchTurn:
            turns.append(await take(who))
            return turns[-1]

        searching.parts, searching.turn = read, taken  # type: ignore[method-assign]
        assert (await self.failure(number))["error"]["text"] == ERROR
        assert reads <= 2  # the end, and what is around the error
