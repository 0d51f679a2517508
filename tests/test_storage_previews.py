"""Which releases have addresses beside the project's own, and what happens when one is promoted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import Connection

from tests.storage_fixtures import HOLDER, LEASE, NOW, add_project, database
from twistedipc.builds.attempt import Result
from twistedipc.builds.states import ReleaseState
from twistedipc.builds.variables import OfContexts
from twistedipc.publish.targets.static.target import OFF, TEAM, StaticSettings
from twistedipc.storage import attempts, build_secrets, builds, previews, projects, promotions, refs_gone, releases
from twistedipc.storage.errors import NotPossible, NotProtected
from twistedipc.storage.rows import Actor, ReleaseRow

DAY = 86_400_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        yield connection


def built(
    connection: Connection,
    ref: str = "fix",
    *,
    parameters: bool = False,
    resolved: int = 0,
    now: int = NOW,
    protected: str = "",
    ends: Literal["succeeded", "failed"] = "succeeded",
) -> ReleaseRow:
    """A build ends, with a release; its ref led to its commit ``resolved`` ms after another moment."""
    build, _ = builds.create(
        connection,
        project="shop",
        ref=ref,
        publish=True,
        parameters={"COLOUR": "blue"} if parameters else {},
        by=Actor(who="ann"),
        now=NOW,
        idempotency=None,
    )
    attempt = f"{build.id}-1"
    queued = next(each for each in attempts.next_queued(connection, 10) if each.name == attempt)
    assert attempts.offer(connection, attempt, LEASE, "one", NOW - 1000, queued.of, queued.inputs)
    assert attempts.accept(connection, attempt, HOLDER)
    release = releases.create(
        connection,
        attempt=attempt,
        target="static",
        project="shop",
        sha256="a" * 64,
        files=3,
        size=99,
        commit="c" * 40,
        now=NOW,
    )
    result = Result(outcome=ends, lines=0, sha256="", started=NOW, ended=NOW, commit="c" * 40, protected=protected)
    assert attempts.finish(connection, attempt, HOLDER, result, True, now, NOW - 100 + resolved)
    settled = releases.settle(connection, "shop", release.id, now) if ends == "succeeded" else release
    previews.settle(connection, releases.get(connection, "shop", settled.id) or settled, now)
    return releases.get(connection, "shop", release.id) or release


def at(connection: Connection, label: str, now: int = NOW) -> int | None:
    found = previews.find(connection, "shop", label, now)
    return None if found is None else found.release.id


def say(connection: Connection, settings: StaticSettings) -> None:
    projects.update(connection, "shop", {"targets": (settings,)}, NOW)


def test_a_branch_leads_to_its_newest_build_and_each_build_to_its_own(ledger: Connection) -> None:
    first, second = built(ledger, resolved=1), built(ledger, resolved=2)
    assert at(ledger, "fix") == second.id
    assert at(ledger, f"build-{first.build}") == first.id
    assert at(ledger, f"build-{second.build}") == second.id
    assert at(ledger, "other") is None
    assert at(ledger, "build-99") is None


def test_a_slow_build_of_an_older_commit_takes_no_address(ledger: Connection) -> None:
    new, old = built(ledger, resolved=2), built(ledger, resolved=1)
    assert at(ledger, "fix") == new.id != old.id


def test_the_name_that_is_told(ledger: Connection) -> None:
    first = built(ledger, resolved=1)
    assert previews.name_of(ledger, "shop", first.build, NOW) == "fix--shop"
    second = built(ledger, resolved=2)
    assert previews.name_of(ledger, "shop", first.build, NOW) == f"build-{first.build}--shop"
    assert previews.name_of(ledger, "shop", second.build, NOW + 31 * DAY) == f"build-{second.build}--shop"
    assert previews.name_of(ledger, "shop", built(ledger, ends="failed").build, NOW) == ""
    say(ledger, StaticSettings(previews=OFF))
    assert previews.name_of(ledger, "shop", second.build, NOW) == ""


def test_one_branch_written_in_several_ways_has_one_address(ledger: Connection) -> None:
    built(ledger, "fix", resolved=1)
    newest = built(ledger, "refs/heads/fix", resolved=2)
    assert at(ledger, "fix") == newest.id
    assert [each.label for each in previews.list_all(ledger, "shop", NOW)] == ["fix"]


def test_what_did_not_succeed_has_no_address(ledger: Connection) -> None:
    failed = built(ledger, ends="failed")
    assert at(ledger, "fix") is None
    assert at(ledger, f"build-{failed.build}") is None
    about = projects.get(ledger, "shop")
    assert about is not None
    assert previews.of_release(about, failed) == []


def test_another_projects_build_is_not_found(ledger: Connection) -> None:
    release = built(ledger)
    add_project(ledger, "other")
    assert previews.find(ledger, "other", f"build-{release.build}", NOW) is None


def test_it_ends_with_its_ref(ledger: Connection) -> None:
    release = built(ledger)
    built(ledger, "refs/pull/12/head")
    assert previews.end(ledger, "shop", ["refs/heads/none", "refs/heads/fix", "refs/pull/12/head"]) == ["fix", "pr-12"]
    assert at(ledger, "fix") is None
    assert at(ledger, f"build-{release.build}") == release.id
    assert previews.end(ledger, "none", ["fix"]) == []


def test_it_ends_when_its_ref_is_told_to_be_gone(ledger: Connection) -> None:
    built(ledger)
    assert refs_gone.gone(ledger, "shop", "refs/heads/fix", 0, NOW) == ["the preview fix is gone"]
    assert at(ledger, "fix") is None


def test_it_ends_when_nothing_new_comes(ledger: Connection) -> None:
    release = built(ledger)
    assert at(ledger, "fix", NOW + 30 * DAY - 1) == release.id
    assert previews.to_keep(ledger, "shop", NOW) == {release.id}
    assert previews.list_all(ledger, "shop", NOW)[0].days == 30
    assert at(ledger, "fix", NOW + 30 * DAY) is None
    assert previews.to_keep(ledger, "shop", NOW + 30 * DAY) == frozenset()
    say(ledger, StaticSettings(preview_days=0))
    assert at(ledger, "fix", NOW + 3000 * DAY) == release.id
    assert previews.list_all(ledger, "shop", NOW)[0].days is None


def test_they_can_be_off(ledger: Connection) -> None:
    release = built(ledger)
    about = projects.get(ledger, "shop")
    assert about is not None
    assert previews.of_release(about, release) == ["fix", f"build-{release.build}"]
    say(ledger, StaticSettings(previews=OFF))
    about = projects.get(ledger, "shop")
    assert about is not None
    assert previews.of_release(about, release) == []
    assert at(ledger, "fix") is None


def test_for_whom_they_are() -> None:
    assert StaticSettings(access=TEAM).previews_for_team
    assert not StaticSettings(access=TEAM, previews="public").previews_for_team
    assert StaticSettings(previews=TEAM).previews_for_team
    assert not StaticSettings().previews_for_team


# -- promotion -------------------------------------------------------------------------------------------------------


def test_a_preview_of_a_commit_that_was_merged_goes_live_as_it_is(ledger: Connection) -> None:
    release = built(ledger, protected="main")
    assert release.state is ReleaseState.PACKED
    assert promotions.decide(ledger, release.build) == promotions.Promotion(release, "")


def test_a_preview_of_a_commit_that_is_nowhere_else_does_not_go_live(ledger: Connection) -> None:
    release = built(ledger)
    with pytest.raises(NotProtected, match="Merge it there first"):
        promotions.decide(ledger, release.build)


def test_a_build_without_a_release_cant_go_live(ledger: Connection) -> None:
    release = built(ledger, ends="failed")
    with pytest.raises(NotPossible, match="has made no release"):
        promotions.decide(ledger, release.build)


def test_production_is_built_where_its_variables_are_others(ledger: Connection) -> None:
    projects.update(ledger, "shop", {"of_contexts": OfContexts(previews={"API": "https://test.example.org"})}, NOW)
    release = built(ledger, protected="main")
    assert promotions.decide(ledger, release.build).rebuild.startswith("it was built with other variables")


def test_production_is_built_where_a_variable_has_changed_since(ledger: Connection) -> None:
    release = built(ledger, protected="main")
    projects.update(ledger, "shop", {"environment": {"MODE": "dark"}}, NOW)
    assert promotions.decide(ledger, release.build).rebuild.startswith("it was built with other variables")


def test_production_is_built_where_it_has_a_secret_of_its_own(ledger: Connection) -> None:
    about = projects.get(ledger, "shop")
    assert about is not None
    build_secrets.put(
        ledger,
        about.id,
        about.repository,
        "KEY",
        b"x",
        characters=9,
        steps="build",
        builds="production",
        now=NOW,
    )
    release = built(ledger, protected="main")
    assert promotions.decide(ledger, release.build).rebuild.startswith("it was built with other variables")


def test_production_is_built_where_the_request_had_parameters(ledger: Connection) -> None:
    release = built(ledger, protected="main", parameters=True)
    assert promotions.decide(ledger, release.build).rebuild.startswith("it was built with other variables")
