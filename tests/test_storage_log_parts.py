"""What is read of logs to search in them: all of it once, from either end, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, update

from tests import databases
from tests.plans import explained
from tests.postgres import running_postgresql
from tests.storage_fixtures import add_build, add_project, database, run
from twistedipc.builds.logs import Gap, Lines, encoder
from twistedipc.sealed.grams import grams_of
from twistedipc.sealed.making import make
from twistedipc.storage import log_parts, logs, sealed_logs
from twistedipc.storage.log_parts import LogParts, attempts_of, some_parts
from twistedipc.storage.logs import ChunkItem
from twistedipc.storage.sealed_logs import Placed
from twistedipc.storage.tables import attempts, builds, metadata


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Engine]:
    """A PostgreSQL with the ledger's tables, in which nothing is kept."""
    with running_postgresql() as server:
        engine = create_engine(server.url)
        metadata.create_all(engine)
        yield engine
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    if request.param == "sqlite":
        with database(tmp_path) as connection:
            yield connection
    else:
        with request.getfixturevalue("postgresql").connect() as connection:
            yield connection


def fill(connection: Connection, attempt: str, chunks: int, sealed: int) -> None:
    """A log of so many chunks with ten lines each, the third a gap; the first ones are sealed, each by itself."""
    for number in range(chunks):
        first = number * 10 + 1
        lines = Lines(first, 1, 0, [f"chunk{number} line{index}" for index in range(10)])
        data = encoder.encode(Gap(first, first + 9, "lost") if number == 2 else lines)
        logs.append(connection, [ChunkItem(attempt=attempt, first=first, count=10, data=data + b"\n")])
        if number < sealed:
            made, marks = make([data])
            placed = [Placed(each) for each in made]
            assert sealed_logs.replace(connection, attempt, [(first, 10)], placed, marks)


def walk(
    connection: Connection, attempt: str, first: int, last: int, *, newest: bool, word: str = ""
) -> list[LogParts]:
    """All steps of a search, each as small as can be."""
    needs = ((grams_of(word),),) if word else ()
    steps: list[LogParts] = []
    while first <= last:
        steps.append(some_parts(connection, attempt, first, last, 1, newest=newest, needs=needs))
        assert (steps[-1].first, steps[-1].last) != (first, last), "it goes on"
        first, last = steps[-1].first, steps[-1].last
    return steps


@pytest.mark.parametrize("page", [2, 32])
def test_all_of_a_log_once(ledger: Connection, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_parts, "_PAGE", page)
    add_project(ledger)
    attempt = f"{add_build(ledger).id}-1"
    run(ledger, attempt)
    fill(ledger, attempt, 9, 5)
    for newest in (False, True):
        parts = [part for step in walk(ledger, attempt, 1, 90, newest=newest) for part in step.parts]
        expected = [(number * 10 + 1, 10, number < 5) for number in range(9)]
        assert [(part.first, part.count, part.sealed) for part in parts] == (expected[::-1] if newest else expected)
        # A part of it; what is there of chunks that begin before it, or end behind it, comes too.
        parts = [part for step in walk(ledger, attempt, 35, 61, newest=newest) for part in step.parts]
        assert sorted(part.first for part in parts) == [31, 41, 51, 61]
        # Only what may hold a word; the gap isn't skipped, since it can't be searched.
        steps = walk(ledger, attempt, 1, 90, newest=newest, word="chunk3")
        skipped = {run for step in steps for run in step.skipped}
        there = {part.first for step in steps for part in step.parts}
        assert there >= {21, 31, 51, 61, 71, 81}
        assert skipped == {(first, first + 9) for first in (1, 11, 41)} - {(first, first + 9) for first in there}
        assert len(skipped) >= 2
    assert some_parts(ledger, attempt, 91, 200, 1, newest=False) == LogParts([], 201, 200)
    assert some_parts(ledger, attempt.replace("-1", "-2"), 1, 20, 1, newest=True) == LogParts([], 21, 20)


@pytest.mark.sqlite
def test_many_chunks_that_can_not_match_are_passed_by_few_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_parts, "_PAGE", 2)
    monkeypatch.setattr(log_parts, "_LARGEST_PAGE", 8)
    looks: list[int] = []

    def noted(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        if "sealed_chunks.grams" in statement:
            looks.append(parameters[-2])

    with database(tmp_path) as connection:
        add_project(connection)
        attempt = f"{add_build(connection).id}-1"
        run(connection, attempt)
        fill(connection, attempt, 30, 30)
        event.listen(connection, "before_cursor_execute", noted)
        needs = ((grams_of("chunk29"),),)
        found = some_parts(connection, attempt, 31, 300, 1, newest=False, needs=needs)
    assert [part.first for part in found.parts] == [291]
    assert looks[:5] == [2, 4, 8, 8, 8]
    assert len(looks) <= 6


def test_nothing_of_a_log_whose_removal_has_begun(ledger: Connection) -> None:
    add_project(ledger)
    attempt = f"{add_build(ledger).id}-1"
    run(ledger, attempt)
    fill(ledger, attempt, 4, 2)
    ledger.execute(update(attempts).values(log_removed=1, log_rule="logs"))
    for newest in (False, True):
        assert some_parts(ledger, attempt, 1, 40, 1, newest=newest) == LogParts([], 41, 40)


def test_the_attempts_of_a_project(ledger: Connection) -> None:
    project = add_project(ledger).id
    add_project(ledger, "other")
    numbers = [add_build(ledger, "other" if index == 2 else "shop").id for index in range(5)]
    first, second, _others, silent, last = numbers
    for build in numbers:
        run(ledger, f"{build}-1", f"{build:016x}")
        if build != silent:
            fill(ledger, f"{build}-1", 1, 0)

    def found(
        newest: bool, before: tuple[int, int] | None = None, after: tuple[int, int] | None = None, limit: int = 9
    ) -> list[int]:
        rows = attempts_of(ledger, project, before=before, after=after, newest=newest, limit=limit)
        assert {(row.number, row.records) for row in rows} <= {(1, 10)}
        return [row.build for row in rows]

    assert found(True) == [last, second, first]
    assert found(False) == [first, second, last]
    assert found(True, limit=2) == [last, second]
    assert found(True, before=(second, 1)) == [first]
    assert found(True, before=(second, 2)) == [second, first]
    assert found(False, after=(second, 1)) == [last]
    assert found(False, after=(first, 1), before=(last, 1)) == [second]
    # What isn't kept any more isn't searched, and isn't called missing in each search.
    ledger.execute(update(attempts).where(attempts.c.build_id == second).values(log_removed=1))
    assert found(True) == [last, first]
    # Of a build that is known to have no log, none is looked for.
    ledger.execute(update(builds).where(builds.c.id == last).values(has_log=False))
    assert found(True) == [first]


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("where", [{}, {"before": (7, 2)}, {"after": (3, 1)}, {"before": (7, 2), "after": (3, 1)}])
def test_the_attempts_of_a_project_are_found_by_index(tmp_path: Path, newest: bool, where: dict[str, Any]) -> None:
    """As many are read as are wanted, whatever the project has, and none is sorted."""
    with database(tmp_path) as connection, explained(connection) as plan:
        attempts_of(connection, 1, **{"before": None, "after": None, **where}, newest=newest, limit=50)
    if databases.ON_POSTGRESQL:  # which begins with either table
        assert all(step.startswith("SEARCH ") for step in plan), plan
        return
    assert len(plan) == 2, plan
    found, condition = plan[0].replace(" ", "").split("<-")[0].split("(", 1)
    assert found == "SEARCHbuildsUSINGCOVERINGINDEXix_builds_with_log"
    assert condition.strip("(").startswith("project_id=")
    assert ("id>" in condition, "id<" in condition) == ("after" in where, "before" in where)
    assert plan[1].startswith("SEARCH attempts USING INDEX")
    assert "(build_id=" in plan[1].replace(" ", "")
