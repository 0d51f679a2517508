"""Which releases there are of a project, and which one is live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tests.storage_fixtures import NOW, add_build, add_project, database
from twistedipc.builds.states import RELEASE_TRANSITIONS, ReleaseState
from twistedipc.storage import releases
from twistedipc.storage.errors import NotFound
from twistedipc.storage.rows import ReleaseRow

S = ReleaseState


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        add_project(connection, "other")
        yield connection


def add_release(connection: Connection, project: str = "shop", attempt: str | None = None) -> ReleaseRow:
    return releases.create(
        connection,
        attempt=attempt or f"{add_build(connection, project).id}-1",
        project=project,
        sha256="a" * 64,
        files=3,
        size=99,
        commit="c" * 40,
        now=NOW,
    )


def states(connection: Connection) -> list[ReleaseState]:
    return [release.state for release in releases.list_all(connection, "shop")]


def test_a_new_release_is_packed_and_its_attempts_only_one(ledger: Connection) -> None:
    release = add_release(ledger)
    assert (release.state, release.activated, release.project, release.build) == (S.PACKED, None, "shop", 1)
    assert (release.attempt, release.files, release.size, release.commit) == ("1-1", 3, 99, "c" * 40)
    assert add_release(ledger, attempt="1-1") == release
    assert releases.list_all(ledger, "shop") == [release]
    assert releases.live(ledger, "shop") is None


def test_forth_and_back(ledger: Connection) -> None:
    old, middle, new = (add_release(ledger) for _ in range(3))
    assert releases.activate(ledger, "shop", old.id, NOW + 1).activated == NOW + 1
    releases.activate(ledger, "shop", new.id, NOW + 2)
    assert states(ledger) == [S.LIVE, S.PACKED, S.SUPERSEDED]
    live = releases.activate(ledger, "shop", old.id, NOW + 3)
    assert (live.state, live.activated) == (S.LIVE, NOW + 3)
    assert states(ledger) == [S.ROLLED_BACK, S.PACKED, S.LIVE]
    releases.activate(ledger, "shop", middle.id, NOW + 4)
    assert states(ledger) == [S.ROLLED_BACK, S.LIVE, S.SUPERSEDED]
    assert releases.live(ledger, "shop") == releases.get(ledger, "shop", middle.id)


def test_activating_what_is_live_changes_nothing(ledger: Connection) -> None:
    release = add_release(ledger)
    live = releases.activate(ledger, "shop", release.id, NOW + 1)
    assert releases.activate(ledger, "shop", release.id, NOW + 2) == live


def test_another_projects_release_is_none(ledger: Connection) -> None:
    theirs = add_release(ledger, "other")
    for wrong in (theirs.id, 999, -1, 1 << 80):
        assert releases.get(ledger, "shop", wrong) is None
        with pytest.raises(NotFound):
            releases.activate(ledger, "shop", wrong, NOW)
    with pytest.raises(NotFound):
        add_release(ledger, "none", "1-1")
    with pytest.raises(IntegrityError), ledger.begin_nested():
        add_release(ledger, attempt="999-1")
    assert releases.list_all(ledger, "none") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.integers(0, 3), max_size=12))
def test_one_is_live_and_each_step_is_in_the_table(ledger: Connection, order: list[int]) -> None:
    with ledger.begin_nested() as savepoint:
        made = [add_release(ledger) for _ in range(4)]
        seen = {release.id: release.state for release in made}
        for index in order:
            releases.activate(ledger, "shop", made[index].id, NOW)
            now = {release.id: release.state for release in releases.list_all(ledger, "shop")}
            assert [key for key, state in now.items() if state is S.LIVE] == [made[index].id]
            for key, state in now.items():
                # A packed release goes through uploading at once.
                before = S.UPLOADING if seen[key] is S.PACKED and state is not S.PACKED else seen[key]
                assert state is seen[key] or state in RELEASE_TRANSITIONS[before]
            seen = now
        savepoint.rollback()
