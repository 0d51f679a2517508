"""Builds as people ask for them: made, repeated, listed, retried, cancelled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from tests import databases
from tests.plans import explained
from tests.properties import examples
from tests.storage_fixtures import HOLDER, NOW, add_build, add_project, database, run
from twistedipc.builds.attempt import Result
from twistedipc.builds.states import AttemptState
from twistedipc.storage import attempts, builds, queue
from twistedipc.storage.builds import Idempotency, Sought
from twistedipc.storage.errors import IdempotencyConflict, NotFound, NotPossible
from twistedipc.storage.overview import overview
from twistedipc.storage.rows import Actor

DAY = 86_400_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        yield connection


def finish(connection: Connection, attempt: str, commit: str = "c" * 40) -> None:
    result = Result(outcome="failed", reason="no", lines=0, sha256="0" * 64, started=NOW, ended=NOW + 9, commit=commit)
    assert attempts.finish(connection, attempt, HOLDER, result, True, NOW)


def ask(connection: Connection, key: Idempotency | None, project: str = "shop", now: int = NOW) -> tuple[int, bool]:
    build, created = builds.create(
        connection,
        project=project,
        ref="main",
        publish=True,
        parameters={},
        by=Actor(who="ann"),
        now=now,
        idempotency=key,
    )
    return build.id, created


def test_a_new_build_is_queued(ledger: Connection) -> None:
    build = add_build(ledger)
    assert builds.get(ledger, build.id) == build
    assert (build.project, build.ref, build.publish, build.parameters) == ("shop", "main", True, {"COLOUR": "blue"})
    assert (build.state, build.attempt, build.requested_by, build.created) == (AttemptState.QUEUED, 1, "ann", NOW)
    assert (build.started, build.ended, build.cancel_requested) == (None, None, False)
    (attempt,) = builds.attempts(ledger, build.id)
    assert (attempt.name, attempt.state, attempt.lease) == (f"{build.id}-1", AttemptState.QUEUED, "")


def test_what_is_not_there(ledger: Connection) -> None:
    for build in (1, 0, -1, 1 << 62, 1 << 70):
        assert builds.get(ledger, build) is None
        assert builds.attempts(ledger, build) == []
        assert builds.position(ledger, build) is None
        with pytest.raises(NotFound):
            builds.retry(ledger, build, "ann", NOW)
        with pytest.raises(NotFound):
            builds.request_cancel(ledger, build, "x", NOW)
    with pytest.raises(NotFound, match="none"):
        ask(ledger, None, project="none")


def test_a_repeated_request_is_the_same_build(ledger: Connection) -> None:
    add_project(ledger, "other")
    key = Idempotency("k", 1, "body")
    # The tokens here are only numbers.
    if databases.ON_POSTGRESQL:
        ledger.execute(text("ALTER TABLE idempotency DROP CONSTRAINT fk_idempotency_token_id"))
    else:
        ledger.execute(text("PRAGMA defer_foreign_keys = ON"))
    first, created = ask(ledger, key)
    assert created
    assert ask(ledger, key) == (first, False)
    with pytest.raises(IdempotencyConflict, match=f"build {first}"):
        ask(ledger, Idempotency("k", 1, "another body"))
    others = [
        ask(ledger, Idempotency("k", 2, "body")),
        ask(ledger, Idempotency("K", 1, "body")),
        ask(ledger, key, project="other"),
        ask(ledger, None),
    ]
    assert all(created for _, created in others)
    assert len({first, *(build for build, _ in others)}) == 5
    assert ask(ledger, key, now=NOW + 7 * DAY) == (first, False)
    assert ask(ledger, key, now=NOW + 7 * DAY + 1)[1]
    ledger.execute(text("DELETE FROM idempotency"))


def test_a_builds_number_is_never_given_twice(ledger: Connection) -> None:
    build = add_build(ledger)
    ledger.execute(text("DELETE FROM attempts"))
    ledger.execute(text("DELETE FROM builds"))
    assert add_build(ledger).id > build.id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(30))
@given(st.data())
def test_pages_are_what_a_plain_filter_gives(ledger: Connection, data: st.DataObject) -> None:
    with ledger.begin_nested() as savepoint:
        for name in ("a", "b", "c"):
            add_project(ledger, name)
        for number, project in enumerate(data.draw(st.lists(st.sampled_from("abc"), max_size=12))):
            build = add_build(ledger, project, now=NOW + number)
            if data.draw(st.booleans()):
                builds.request_cancel(ledger, build.id, "no", NOW)
            elif data.draw(st.booleans()):
                run(ledger, f"{build.id}-1")
        every = builds.list_page(ledger, projects=None, states=None, before=None, limit=1000)
        assert [build.id for build in every] == sorted((build.id for build in every), reverse=True)
        names = data.draw(st.none() | st.frozensets(st.sampled_from(["a", "b", "none"])))
        states = data.draw(st.none() | st.frozensets(st.sampled_from(AttemptState)))
        limit = data.draw(st.integers(1, 5))
        wanted = [
            build
            for build in every
            if (names is None or build.project in names) and (states is None or build.state in states)
        ]
        paged = []
        before: int | None = None
        while page := builds.list_page(ledger, projects=names, states=states, before=before, limit=limit):
            assert len(page) <= limit
            paged += page
            before = page[-1].id
        assert paged == wanted
        savepoint.rollback()


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        (Sought(ref="main"), "main"),
        (Sought(ref="fix-menu"), "fix"),
        (Sought(ref="v1.0"), "tag"),
        (Sought(ref="MAIN"), ""),
        (Sought(by="ANN"), "main fix tag percent"),
        (Sought(by="ada"), "fix"),
        (Sought(by="an_"), ""),
        (Sought(text="menu"), "fix"),
        (Sought(text="100%"), "percent"),
        (Sought(text="Üb"), "fix"),
        (Sought(text="abc"), "fix"),
        (Sought(text="ABCDEF"), "fix"),
        (Sought(text="bcd"), ""),
        (Sought(text="menu", ref="main"), ""),
        (Sought(), "main fix tag percent"),
    ],
)
def test_builds_are_found_by_what_is_known_of_them(ledger: Connection, sought: Sought, found: str) -> None:
    refs = {"main": "main", "fix": "refs/heads/fix-menu", "tag": "refs/tags/v1.0", "percent": "up-to-100%"}
    ids = {name: add_build(ledger, ref=ref).id for name, ref in refs.items()}
    said = {"subject": "Übersetzt, at last", "author": "Ada", "commit": "abcdef" + "0" * 34, "build": ids["fix"]}
    ledger.execute(
        text("UPDATE attempts SET subject = :subject, author = :author, commit_id = :commit WHERE build_id = :build"),
        said,
    )
    listed = builds.list_page(ledger, projects=None, states=None, before=None, limit=10, sought=sought)
    assert [row.id for row in listed] == sorted((ids[name] for name in found.split()), reverse=True)


def test_how_each_project_stands(ledger: Connection) -> None:
    for name in ("c", "b", "a"):
        add_project(ledger, name)
    numbers = [add_build(ledger, name).id for name in ("a", "a", "b")]
    found = overview(ledger, "static", None, None)
    assert [(row.name, row.newest and row.newest.id) for row in found] == [
        ("a", numbers[1]),
        ("b", numbers[2]),
        ("c", None),
        ("shop", None),
    ]
    assert [row.name for row in overview(ledger, "static", frozenset("bd"), None)] == ["b"]
    assert overview(ledger, "static", None, "b") == found[1:2]
    assert overview(ledger, "static", frozenset("a"), "b") == []


def test_pages_are_found_by_index(ledger: Connection) -> None:
    for query in (
        "SELECT id FROM builds WHERE state = 'queued' ORDER BY id DESC LIMIT 5",
        "SELECT id FROM builds WHERE project_id = 1 ORDER BY id DESC LIMIT 5",
        "SELECT id FROM builds WHERE project_id = 1 AND state = 'queued' AND id < 7 ORDER BY id DESC LIMIT 5",
        "SELECT * FROM attempts WHERE state = 'queued' ORDER BY created, build_id LIMIT 5",
    ):
        with explained(ledger) as steps:
            ledger.execute(text(query))
        assert " INDEX " in steps[0], steps
        assert not any(step.startswith("SORT") for step in steps), steps


def test_position_in_the_queue(ledger: Connection) -> None:
    ids = [add_build(ledger, now=NOW + when).id for when in (0, 5, 5, 3)]
    assert [builds.position(ledger, build) for build in ids] == [0, 2, 3, 1]
    order = [offer.build for offer in attempts.next_queued(ledger, 10)]
    assert order == [ids[0], ids[3], ids[1], ids[2]]
    run(ledger, f"{ids[0]}-1")
    assert [builds.position(ledger, build) for build in ids] == [None, 1, 2, 0]
    assert {build: place.before for build, place in queue.places(ledger, ids[:3]).items()} == {ids[1]: 1, ids[2]: 2}


def test_how_long_builds_usually_take(ledger: Connection) -> None:
    """By those that succeeded before, of the same project, and only the last of them."""
    add_project(ledger, "other")
    times: list[int | None] = []
    for took, good, project in [
        (70, True, "shop"),
        (9000, True, "other"),
        (1, False, "shop"),
        (50, True, "shop"),
        (10, True, "shop"),
        *[(100, True, "shop")] * 9,
        (0, False, "shop"),
    ]:
        build, _ = ask(ledger, None, project)
        times.append(builds.usual(ledger, build))
        run(ledger, f"{build}-1")
        result = Result(
            outcome="succeeded" if good else "failed",
            reason="",
            lines=0,
            sha256="0" * 64,
            started=NOW,
            ended=NOW + 5 + took,
            commit="c" * 40,
        )
        assert attempts.finish(ledger, f"{build}-1", HOLDER, result, True, NOW)
    assert times[:6] == [None, None, 70, 70, 50, 50]
    assert times[-1] == 100
    assert builds.usual(ledger, 1 << 70) is None


def test_retrying_is_a_new_attempt_of_the_same_commit(ledger: Connection) -> None:
    build = add_build(ledger)
    run(ledger, f"{build.id}-1")
    with pytest.raises(NotPossible, match="running"):
        builds.retry(ledger, build.id, "bob", NOW)
    finish(ledger, f"{build.id}-1")
    attempt = builds.retry(ledger, build.id, "bob", NOW + 20)
    assert (attempt.name, attempt.number, attempt.state) == (f"{build.id}-2", 2, AttemptState.QUEUED)
    assert (attempt.commit, attempt.created, attempt.lines) == ("c" * 40, NOW + 20, None)
    (offer,) = attempts.next_queued(ledger, 10)
    assert (offer.name, offer.commit) == (attempt.name, "c" * 40)
    row = builds.get(ledger, build.id)
    assert row is not None
    assert (row.attempt, row.state, row.ended) == (2, AttemptState.QUEUED, None)
    assert [one.state for one in builds.attempts(ledger, build.id)] == [AttemptState.FAILED, AttemptState.QUEUED]
    with pytest.raises(NotPossible, match="queued"):
        builds.retry(ledger, build.id, "bob", NOW)


def test_cancelling_what_is_queued_ends_it(ledger: Connection) -> None:
    build = add_build(ledger)
    attempt = builds.request_cancel(ledger, build.id, "not needed", NOW + 4)
    assert (attempt.state, attempt.reason, attempt.ended) == (AttemptState.CANCELLED, "not needed", NOW + 4)
    # Its log is empty, and that is all of it.
    assert (attempt.lines, attempt.sha256, attempt.complete) == (0, hashlib.sha256().hexdigest(), True)
    assert attempts.next_queued(ledger, 10) == []
    with pytest.raises(NotPossible, match="cancelled"):
        builds.request_cancel(ledger, build.id, "again", NOW)


def test_cancelling_what_runs_is_noted_first(ledger: Connection) -> None:
    build = add_build(ledger)
    run(ledger, f"{build.id}-1")
    for reason in ("first", "second"):
        attempt = builds.request_cancel(ledger, build.id, reason, NOW)
        assert (attempt.state, attempt.cancel_reason) == (AttemptState.RUNNING, "first")
    row = builds.get(ledger, build.id)
    assert row is not None
    assert row.cancel_requested
    finish(ledger, f"{build.id}-1")
    with pytest.raises(NotPossible, match="failed"):
        builds.request_cancel(ledger, build.id, "late", NOW)


def test_a_cancellation_without_a_reason_is_one(ledger: Connection) -> None:
    build = add_build(ledger)
    run(ledger, f"{build.id}-1")
    assert builds.request_cancel(ledger, build.id, "", NOW).cancel_reason
