"""The queue in the ledger: its order, its rules, and what a look at it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from tests.plans import explained
from tests.properties import examples
from tests.storage_fixtures import HOLDER, NOW, add_build, add_project, as_of_0050, database, run
from twistedipc.builds.attempt import Result
from twistedipc.builds.priorities import HEAD_START, PriorityRule, QueueRules, due
from twistedipc.builds.states import DELIVERS, TERMINAL, AttemptState
from twistedipc.storage import attempts, builders, builds, projects, queue, tables
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.rows import Actor, Passed, RunsOn

PROJECTS = ("a", "b", "c")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        for name in PROJECTS:
            add_project(connection, name)
        yield connection


def rules(ledger: Connection, project: str, **said: Any) -> None:
    projects.update(ledger, project, {"queue": QueueRules(**said)}, NOW)


def end(ledger: Connection, build: int) -> None:
    result = Result(outcome="failed", reason="no", lines=0, sha256="0" * 64, started=NOW, ended=NOW + 9)
    assert attempts.finish(ledger, f"{build}-1", HOLDER, result, True, NOW)


def in_order(ledger: Connection, limit: int = 100) -> list[int]:
    return queue.next_builds(ledger, limit)


def fair_order(waiting: Mapping[int, Sequence[tuple[int, int]]], running: Mapping[int, int]) -> list[int]:
    """
    The order in the plainest words: the next build is of the project with the fewest that run, then the one due first.
    """
    left = {project: sorted(each) for project, each in waiting.items() if each}
    taken = dict(running)
    order: list[int] = []
    while left:
        project = min(left, key=lambda each: (taken.get(each, 0), left[each][0]))
        order.append(left[project].pop(0)[1])
        taken[project] = taken.get(project, 0) + 1
        left = {each: some for each, some in left.items() if some}
    return order


def test_a_thousand_builds_of_one_project_hold_up_no_other(ledger: Connection) -> None:
    many = [add_build(ledger, "a", now=NOW + number).id for number in range(30)]
    one = add_build(ledger, "b", now=NOW + 99).id
    assert in_order(ledger, 3) == [many[0], one, many[1]]
    run(ledger, f"{many[0]}-1")
    assert in_order(ledger, 2) == [one, many[1]]


@given(
    asked=st.lists(st.tuples(st.sampled_from(PROJECTS), st.integers(0, 5), st.sampled_from(["low", "normal", "high"]))),
    runs=st.lists(st.sampled_from(PROJECTS), max_size=4),
    limit=st.integers(1, 12),
)
@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_is_fair(ledger: Connection, asked: list[tuple[str, int, Any]], runs: list[str], limit: int) -> None:
    with ledger.begin_nested() as transaction:
        running: dict[int, int] = {}
        for project in runs:
            run(ledger, f"{add_build(ledger, project).id}-1", lease=str(len(running)) + project)
            running[PROJECTS.index(project)] = running.get(PROJECTS.index(project), 0) + 1
        waiting: dict[int, list[tuple[int, int]]] = {}
        for project, minutes, priority in asked:
            now = NOW + minutes * 1_800_000
            build = builds.prioritise(ledger, add_build(ledger, project, now=now).id, priority)
            assert build.priority == priority
            waiting.setdefault(PROJECTS.index(project), []).append((due(priority, now), build.id))
        expected = fair_order(waiting, running)
        assert in_order(ledger, limit) == expected[:limit]
        # Page after page it is all of it, each build once, and each project's in its own order.
        passed: dict[int, Passed] = {}
        seen: list[int] = []
        while page := attempts.next_queued(ledger, 3, None, tuple(passed.values())):
            seen += [offer.build for offer in page]
            passed |= {offer.place.project: offer.place for offer in page}
        assert sorted(seen) == sorted(expected)
        places = queue.places(ledger, expected)
        for some in waiting.values():
            assert [places[build].before for _due, build in sorted(some)] == list(range(len(some)))
        transaction.rollback()


def test_a_low_priority_waits_two_head_starts_at_most(ledger: Connection) -> None:
    low = builds.prioritise(ledger, add_build(ledger, "a").id, "low")
    before = builds.prioritise(ledger, add_build(ledger, "a", now=NOW + 2 * HEAD_START - 1).id, "high")
    after = builds.prioritise(ledger, add_build(ledger, "a", now=NOW + 2 * HEAD_START + 1).id, "high")
    assert in_order(ledger) == [before.id, low.id, after.id]


def test_who_asks_decides_and_what_the_project_says_of_its_refs(ledger: Connection) -> None:
    rules(
        ledger,
        "a",
        priorities=[PriorityRule(ref="release/*", priority="high"), PriorityRule(ref="main", priority="low")],
    )

    def ask(ref: str, kind: Any = "token", project: str = "a") -> str:
        by = Actor(who="x", kind=kind)
        made, _new = builds.create(
            ledger, project=project, ref=ref, publish=True, parameters={}, by=by, now=NOW, idempotency=None
        )
        return made.priority

    assert [ask("release/1"), ask("refs/heads/release/1"), ask("main"), ask("topic")] == [
        "high",
        "high",
        "low",
        "normal",
    ]
    assert [ask("topic", "schedule"), ask("release/2", "schedule"), ask("topic", "hook")] == ["low", "high", "normal"]
    assert ask("main", "schedule", "b") == "low"


def test_tried_again_it_is_at_the_end(ledger: Connection) -> None:
    first = builds.prioritise(ledger, add_build(ledger, "a").id, "high")
    run(ledger, f"{first.id}-1")
    end(ledger, first.id)
    second = add_build(ledger, "a", now=NOW + HEAD_START).id
    builds.retry(ledger, first.id, "ann", NOW + 3 * HEAD_START)
    assert in_order(ledger) == [second, first.id]


def test_a_limit_holds_in_the_order_and_in_the_offer(ledger: Connection) -> None:
    first, second, third = (add_build(ledger, "a").id for _ in range(3))
    rules(ledger, "a", at_once=2)
    assert in_order(ledger) == [first, second]
    # Two apiservers that looked at the same time offer different builds: the third offer finds no room.
    run(ledger, f"{first}-1")
    assert attempts.offer(ledger, f"{second}-1", "l2", "one", NOW)
    assert attempts.offer(ledger, f"{third}-1", "l3", "one", NOW) is None
    assert in_order(ledger) == []
    place = queue.places(ledger, [third])[third]
    assert (place.running, place.rules.at_once, place.before) == (2, 2, 0)
    end(ledger, first)
    assert attempts.offer(ledger, f"{third}-1", "l3", "one", NOW)


def test_a_paused_queue(ledger: Connection) -> None:
    build, other = add_build(ledger, "a").id, add_build(ledger, "b").id
    rules(ledger, "a", paused=NOW)
    assert in_order(ledger) == [other]
    assert attempts.offer(ledger, f"{build}-1", "l", "one", NOW) is None
    rules(ledger, "a")
    assert in_order(ledger) == [build, other]


def test_a_drained_builder_is_offered_nothing_whichever_apiserver_it_is_linked_to(ledger: Connection) -> None:
    builders.add(ledger, name="one", pools=[], shared=False, id="k", sealed=b"s", now=NOW)
    build = add_build(ledger, "a").id
    builders.set_drained(ledger, "one", True, NOW)
    assert queue.drained(ledger) == {"one"}
    assert attempts.offer(ledger, f"{build}-1", "l", "one", NOW) is None
    assert attempts.offer(ledger, f"{build}-1", "l", "two", NOW)


def test_what_is_bound_to_others_is_not_read(ledger: Connection) -> None:
    projects.update(ledger, "a", {"runs_on": RunsOn(builders=["x"], pools=["large", "gpu"])}, NOW)
    mine, other = add_build(ledger, "a").id, add_build(ledger, "b").id

    def found(*can: str) -> list[int]:
        return queue.next_builds(ledger, 9, can=[frozenset(can)])

    assert found("pool:large") == found("builder:y", "pool:gpu") == [other]
    assert found("pool:large", "pool:gpu") == found("builder:x") == [mine, other]
    assert queue.next_builds(ledger, 9, can=[frozenset(["pool:large"]), frozenset(["pool:gpu"])]) == [other]


def test_what_is_queued_is_cancelled(ledger: Connection) -> None:
    some = [add_build(ledger, "a").id for _ in range(3)]
    other = add_build(ledger, "b").id
    run(ledger, f"{some[0]}-1")
    chosen = queue.queued_of(ledger, "a")
    assert chosen == [some[2], some[1]]
    assert attempts.offer(ledger, f"{some[1]}-1", "l", "two", NOW)  # meanwhile
    assert [row.build for row in builds.cancel_queued(ledger, chosen, "no", NOW)] == [some[2]]
    states = [row.state for row in builds.some(ledger, [*some, other])]
    assert states == [AttemptState.QUEUED, AttemptState.CANCELLED, AttemptState.OFFERED, AttemptState.RUNNING]


def test_what_goes_on_is_what_has_not_ended() -> None:
    """The condition of an index is a text, which has to follow the table of states."""
    named = {word for word in tables.GOES_ON.replace("'", " ").split() if word.strip("(), ") in set(AttemptState)}
    assert named == set(AttemptState) - TERMINAL
    assert {each for each in AttemptState if each in DELIVERS} <= named


@pytest.mark.sqlite  # the schema is taken back in its words
def test_a_queue_of_before_keeps_its_order_and_a_pool_is_one_of_several(tmp_path: Path) -> None:
    with database(tmp_path) as connection:
        add_project(connection, "a")
        some = [add_build(connection, "a", now=NOW + when).id for when in (5, 1)]
        as_of_0050(connection)
        connection.exec_driver_sql("""UPDATE projects SET runs_on = '{"builders":["x"],"pool":"large"}'""")
        upgrade(connection)
        assert in_order(connection) == [some[1], some[0]]
        project = projects.get(connection, "a")
        assert project is not None
        assert project.runs_on == RunsOn(builders=["x"], pools=["large"])


# -- what it costs ---------------------------------------------------------------------------------------------------


def test_no_look_walks_through_history_or_through_the_whole_queue(ledger: Connection) -> None:
    some = [add_build(ledger, project).id for project in "abab"]
    rules(ledger, "a", at_once=3)
    with explained(ledger) as steps:
        attempts.next_queued(ledger, 3)
        queue.places(ledger, some)
        queue.admits(ledger, f"{some[0]}-1", "one")
        queue.queued_of(ledger, "a")
        builds.going_on(ledger, 1, "refs/heads/main")
        builds.turns(ledger, some)
    of_builds = [
        step for step in steps if " builds " in step.partition("<-")[0] or " earlier " in step.partition("<-")[0]
    ]
    assert of_builds
    for step in of_builds:
        assert step.startswith("SEARCH"), step
    by = " ".join(steps)
    assert "ix_builds_queue" in by
    assert "ix_builds_lane" in by


@pytest.mark.parametrize("queued", [200])
def test_a_look_reads_no_more_of_a_longer_queue(ledger: Connection, queued: int) -> None:
    """Rows that the databases gave, and not milliseconds, which a test can't hold."""

    def rows_of_a_look() -> int:
        with explained(ledger) as steps:
            found = attempts.next_queued(ledger, 4)
        assert len(found) == 4
        return len(steps)

    for _ in range(4):
        add_build(ledger, "a")
    before = rows_of_a_look()
    for _ in range(queued):
        add_build(ledger, "a")
    assert rows_of_a_look() == before
