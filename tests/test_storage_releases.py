"""Which releases there are of a project, and which one is live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tests.properties import examples
from tests.storage_fixtures import HOLDER, LEASE, NOW, add_build, add_project, database
from twistedipc.builds.attempt import Result
from twistedipc.builds.environments import Decided
from twistedipc.builds.states import RELEASE_STATES, ReleaseState
from twistedipc.storage import attempts, builds, projects, releases
from twistedipc.storage.errors import NotFound, NotProtected
from twistedipc.storage.rows import ReleaseRow

S = ReleaseState


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        add_project(connection, "other")
        yield connection


def add_release(
    connection: Connection, project: str = "shop", attempt: str | None = None, target: str = "static"
) -> ReleaseRow:
    return releases.create(
        connection,
        attempt=attempt or f"{add_build(connection, project).id}-1",
        target=target,
        project=project,
        sha256="a" * 64,
        files=3,
        size=99,
        commit="c" * 40,
        now=NOW,
    )


def states(connection: Connection) -> list[ReleaseState]:
    return [release.state for release in releases.list_page(connection, "shop")]


def test_a_new_release_is_packed_and_its_attempts_only_one(ledger: Connection) -> None:
    release = add_release(ledger)
    assert (release.state, release.activated, release.project, release.build) == (S.PACKED, None, "shop", 1)
    assert (release.attempt, release.files, release.size, release.commit) == ("1-1", 3, 99, "c" * 40)
    assert add_release(ledger, attempt="1-1") == release
    assert releases.list_page(ledger, "shop") == [release]
    assert releases.live(ledger, "shop", "static") is None


def test_forth_and_back(ledger: Connection) -> None:
    old, middle, new = (add_release(ledger) for _ in range(3))
    assert releases.activate(ledger, "shop", old.id, NOW + 1, who="ada").activated == NOW + 1
    releases.activate(ledger, "shop", new.id, NOW + 2, who="ada")
    assert states(ledger) == [S.LIVE, S.PACKED, S.SUPERSEDED]
    live = releases.activate(ledger, "shop", old.id, NOW + 3, who="ada")
    assert (live.state, live.activated) == (S.LIVE, NOW + 3)
    assert states(ledger) == [S.ROLLED_BACK, S.PACKED, S.LIVE]
    releases.activate(ledger, "shop", middle.id, NOW + 4, who="ada")
    assert states(ledger) == [S.ROLLED_BACK, S.LIVE, S.SUPERSEDED]
    assert releases.live(ledger, "shop", "static") == releases.get(ledger, "shop", middle.id)


def test_activating_what_is_live_changes_nothing(ledger: Connection) -> None:
    release = add_release(ledger)
    live = releases.activate(ledger, "shop", release.id, NOW + 1, who="ada")
    assert releases.activate(ledger, "shop", release.id, NOW + 2, who="ada") == live


def test_another_projects_release_is_none(ledger: Connection) -> None:
    theirs = add_release(ledger, "other")
    for wrong in (theirs.id, 999, -1, 1 << 80):
        assert releases.get(ledger, "shop", wrong) is None
        with pytest.raises(NotFound):
            releases.activate(ledger, "shop", wrong, NOW, who="ada")
    with pytest.raises(NotFound):
        add_release(ledger, "none", "1-1")
    with pytest.raises(IntegrityError), ledger.begin_nested():
        add_release(ledger, attempt="999-1")
    assert releases.list_page(ledger, "none") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(15))
@given(st.lists(st.integers(0, 3), max_size=12))
def test_one_is_live_and_each_step_is_in_the_table(ledger: Connection, order: list[int]) -> None:
    with ledger.begin_nested() as savepoint:
        made = [add_release(ledger) for _ in range(4)]
        seen = {release.id: release.state for release in made}
        for index in order:
            releases.activate(ledger, "shop", made[index].id, NOW, who="ada")
            now = {release.id: release.state for release in releases.list_page(ledger, "shop")}
            assert [key for key, state in now.items() if state is S.LIVE] == [made[index].id]
            for key, state in now.items():
                assert state is seen[key] or state in RELEASE_STATES[seen[key]].then
            seen = now
        savepoint.rollback()


# -- what goes live by itself ----------------------------------------------------------------------------------------

#: When everything has been resolved, and builds end.
LATER = NOW + 1_000_000


def end(
    connection: Connection,
    attempt: str,
    resolved: int | None,
    now: int = LATER,
    protected: str | None = None,
    preview: str = "",
    environment: str = "production",
) -> ReleaseRow:
    """The attempt ends well, with a release; its ref led to its commit at NOW + ``resolved``."""
    of = Decided(environment=environment, preview=preview)
    assert attempts.offer(connection, attempt, LEASE, "one", NOW, of)
    assert attempts.accept(connection, attempt, HOLDER)
    release = add_release(connection, attempt=attempt)
    result = Result(
        outcome="succeeded", lines=0, sha256="", started=NOW, ended=NOW, commit="c" * 40, protected=protected
    )
    when = None if resolved is None else NOW + resolved
    assert attempts.finish(connection, attempt, HOLDER, result, True, now, when)
    return releases.settle(connection, "shop", release.id, now)


def built(connection: Connection, resolved: int | None, ref: str = "main", live: bool = False) -> ReleaseRow:
    """A new build ends well."""
    return end(connection, f"{add_build(connection, ref=ref, live=live).id}-1", resolved)


def live_id(connection: Connection) -> int | None:
    found = releases.live(connection, "shop", "static")
    return None if found is None else found.id


def test_a_slow_build_of_an_old_commit_does_not_replace_a_newer_one(ledger: Connection) -> None:
    """The slow build ended after the newer one, and put the old site in its place."""
    old, new = (f"{add_build(ledger).id}-1" for _ in range(2))
    fresh = end(ledger, new, 20)
    assert fresh.state is S.LIVE
    stale = end(ledger, old, 10)
    assert (stale.state, stale.activated) == (S.SUPERSEDED, None)
    assert live_id(ledger) == fresh.id


def test_what_is_tried_again_is_as_old_as_at_first(ledger: Connection) -> None:
    """`retry` of an old build put its commit live over newer ones."""
    old = built(ledger, 10)
    new = built(ledger, 20)
    again = builds.retry(ledger, old.build, "ann", LATER)
    assert end(ledger, again.name, 30).state is S.SUPERSEDED
    assert live_id(ledger) == new.id
    # Of the live one it is the newer try.
    again = builds.retry(ledger, new.build, "ann", LATER)
    assert end(ledger, again.name, None).state is S.LIVE


def test_after_a_force_push_the_ref_decides(ledger: Connection) -> None:
    """The ref leads to an older commit again, on purpose: what was resolved last is live."""
    built(ledger, 10)
    built(ledger, 20)
    assert built(ledger, 30).state is S.LIVE


def test_when_nothing_tells_the_later_build_is_newer(ledger: Connection) -> None:
    """Builders of before say no time; and of two builds of one moment the later one stays."""
    first, second = (f"{add_build(ledger).id}-1" for _ in range(2))
    live = end(ledger, second, None)
    assert live.state is S.LIVE
    assert end(ledger, first, None).state is S.SUPERSEDED


def test_a_clock_that_was_set_back_holds_nothing_up(ledger: Connection) -> None:
    """A release of "next year" would have kept all others from going live until then."""
    ahead = end(ledger, f"{add_build(ledger).id}-1", 500_000, now=LATER)
    behind = add_build(ledger)
    assert ahead.state is S.LIVE
    assert end(ledger, f"{behind.id}-1", 100, now=NOW + 200).state is S.LIVE


@pytest.mark.parametrize("wild", [-(1 << 70), -1, 0, 1 << 62, 1 << 90])
def test_a_builders_word_about_the_time_has_bounds(ledger: Connection, wild: int) -> None:
    release = built(ledger, wild)
    assert release.resolved is not None
    assert NOW <= release.resolved <= LATER


@pytest.mark.parametrize("own", ["main", "heads/main", "refs/heads/main"])
@pytest.mark.parametrize("ref", ["main", "heads/main", "refs/heads/main"])
def test_the_projects_own_ref_however_it_is_written(ledger: Connection, own: str, ref: str) -> None:
    projects.update(ledger, "shop", {"default_ref": own}, NOW)
    assert built(ledger, 1, ref).state is S.LIVE


@pytest.mark.parametrize("ref", ["feature/main", "tags/main", "refs/tags/main", "heads/heads/main", "c" * 40, "Main"])
def test_another_ref_does_not_go_live(ledger: Connection, ref: str) -> None:
    """A build of a branch was a production release."""
    main = built(ledger, 10)
    other = built(ledger, 20, ref)
    assert (other.state, live_id(ledger)) == (S.PACKED, main.id)
    # Nor does it count: main goes on where it was.
    assert built(ledger, 15).state is S.LIVE


def test_another_ref_goes_live_when_it_was_asked_for_so(ledger: Connection) -> None:
    built(ledger, 10)
    hotfix = built(ledger, 20, "hotfix", live=True)
    assert hotfix.state is S.LIVE
    assert built(ledger, 15).state is S.SUPERSEDED
    # Tried again by a caller that may not ask for that, it stays where it is.
    again = builds.retry(ledger, hotfix.build, "ann", LATER, may_publish=False)
    assert end(ledger, again.name, None).state is S.PACKED
    again = builds.retry(ledger, hotfix.build, "ada", LATER)
    assert end(ledger, again.name, None).state is S.LIVE


def test_what_is_on_no_protected_ref_cannot_be_made_live(ledger: Connection) -> None:
    """A branch was built, and made live by hand."""
    built(ledger, 10)
    other = built(ledger, 20, "feature")
    with pytest.raises(NotProtected, match="feature, and its commit was not on the protected ref"):
        releases.activate(ledger, "shop", other.id, LATER, who="ada")
    projects.update(ledger, "shop", {"protected": ["main", "feat*"]}, NOW)
    assert releases.activate(ledger, "shop", other.id, LATER, who="ada").state is S.LIVE
    projects.update(ledger, "shop", {"protected": []}, NOW)
    assert built(ledger, 30).state is S.LIVE
    # It was live: a rollback may go back to it.
    assert releases.activate(ledger, "shop", other.id, LATER, who="ann").state is S.LIVE


@pytest.mark.parametrize(
    ("ref", "protected", "preview", "by_itself", "by_hand"),
    [
        ("main", "refs/heads/main", "", True, True),
        ("main", "refs/heads/main", "ann's token hasn't the scope publish", False, True),
        ("main", "", "", False, False),  # pushed away since its attempt before
        ("main", "", "a preview", False, False),
        ("feature", "refs/heads/main", "feature isn't protected", False, True),  # merged already
        ("feature", "", "feature isn't protected", False, False),
    ],
)
def test_what_its_checkout_has_found_decides(
    ledger: Connection, ref: str, protected: str, preview: str, by_itself: bool, by_hand: bool
) -> None:
    attempt = f"{add_build(ledger, ref=ref).id}-1"
    release = end(ledger, attempt, 10, protected=protected, preview=preview)
    assert (release.state is S.LIVE) == by_itself
    if by_hand:
        assert releases.activate(ledger, "shop", release.id, LATER, who="ann").state is S.LIVE
    else:
        with pytest.raises(NotProtected):
            releases.activate(ledger, "shop", release.id, LATER, who="ann")


def test_after_a_rollback_nothing_goes_live_by_itself(ledger: Connection) -> None:
    """The next build put the bad release's successor live, though somebody had gone back."""
    old, bad = built(ledger, 10), built(ledger, 20)
    releases.activate(ledger, "shop", old.id, LATER, who="ada")
    project = projects.get(ledger, "shop")
    assert project is not None
    assert project.hold is not None
    assert (project.hold.who, project.hold.time, project.hold.release) == ("ada", LATER, old.id)
    waiting = [built(ledger, 30), built(ledger, 40)]
    branch = built(ledger, 50, "feature")
    assert {release.state for release in [*waiting, branch]} == {S.PACKED}
    # Back again: the hold stays as it was.
    releases.activate(ledger, "shop", bad.id, LATER + 5, who="ann")
    releases.activate(ledger, "shop", old.id, LATER + 6, who="ann")
    again = projects.get(ledger, "shop")
    assert again is not None
    assert again.hold == project.hold
    hold, live = releases.resume(ledger, "shop", LATER + 7)
    assert hold == project.hold
    assert [(each.id, each.state) for each in live] == [(waiting[1].id, S.LIVE)]
    assert states(ledger) == [S.PACKED, S.LIVE, S.SUPERSEDED, S.ROLLED_BACK, S.SUPERSEDED]
    assert releases.resume(ledger, "shop", LATER + 8) == (None, [])
    assert built(ledger, 60).state is S.LIVE


def test_what_waits_and_has_no_files_any_more_is_passed_over(ledger: Connection) -> None:
    old, _bad = built(ledger, 10), built(ledger, 20)
    releases.activate(ledger, "shop", old.id, LATER, who="ada")
    first, second = built(ledger, 30), built(ledger, 40)
    _hold, live = releases.resume(ledger, "shop", LATER, frozenset({second.id}))
    assert [each.id for each in live] == [first.id]


def test_each_target_has_its_own_live_release(ledger: Connection) -> None:
    """One attempt makes a release for each; rolling one back holds all, and what waits is resumed for each."""

    def both(resolved: int) -> tuple[ReleaseRow, ReleaseRow]:
        site = built(ledger, resolved)
        copy = add_release(ledger, attempt=site.attempt, target="copies")
        assert copy.id != site.id
        return site, releases.settle(ledger, "shop", copy.id, resolved)

    def live() -> dict[str, int]:
        return {release.target: release.id for release in releases.all_live(ledger, "shop")}

    first, second = both(10), both(20)
    assert live() == {"static": second[0].id, "copies": second[1].id}
    releases.activate(ledger, "shop", first[1].id, LATER, who="ada")
    assert live() == {"static": second[0].id, "copies": first[1].id}
    third, fourth = both(30), both(40)
    assert {release.state for release in (*third, *fourth)} == {S.PACKED}
    assert releases.to_keep(ledger, "shop", "copies", 1) == {first[1].id, fourth[1].id}
    _hold, resumed = releases.resume(ledger, "shop", LATER + 1)
    assert {release.id for release in resumed} == {release.id for release in fourth}
    assert live() == {"static": fourth[0].id, "copies": fourth[1].id}
    assert {release.id for release in releases.list_page(ledger, "shop") if release.state is S.PACKED} == set()


def test_a_release_whose_build_did_not_succeed_does_not_wait(ledger: Connection) -> None:
    old, _bad = built(ledger, 10), built(ledger, 20)
    releases.activate(ledger, "shop", old.id, LATER, who="ada")
    add_release(ledger)  # its attempt goes on
    hold, live = releases.resume(ledger, "shop", LATER)
    assert hold is not None
    assert live == []
    assert live_id(ledger) == old.id


def test_branches_take_no_place_from_what_may_be_rolled_back_to(ledger: Connection) -> None:
    """The ten newest were kept, so ten builds of a branch made rolling back impossible."""
    main = [built(ledger, number).id for number in range(1, 5)]
    releases.activate(ledger, "shop", main[2], LATER, who="ada")
    waiting = built(ledger, 10).id
    branches = [built(ledger, number, "feature").id for number in range(20, 30)]
    unfinished = add_release(ledger).id
    last = [built(ledger, number, "feature").id for number in range(30, 33)]
    assert releases.to_keep(ledger, "shop", "static", 3) == {*main[1:], waiting, unfinished, *last}
    assert not set(branches) & releases.to_keep(ledger, "shop", "static", 3)
    assert releases.to_keep(ledger, "none", "static", 3) == frozenset()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(20))
@given(data=st.data())
def test_live_is_what_was_resolved_last(ledger: Connection, data: st.DataObject) -> None:
    """
    Pushes, ends, retries, rollbacks and resumes in any order: what is live is what the own ref led to last, of all that
    has ended; unless somebody rolled back, and then it is what they chose, until they resume.
    """
    with ledger.begin_nested() as savepoint:
        going: list[tuple[str, int, bool]] = []  # attempt, resolved, own
        ended: dict[int, tuple[int, int, int]] = {}  # release -> its order, of those that may go live
        of_build: dict[int, tuple[int, bool]] = {}
        chosen: int | None = None  # by hand
        passed: set[int] = set()  # what had ended when somebody chose, or was passed over when they resumed
        held = False
        for _ in range(data.draw(st.integers(1, 14))):
            what = data.draw(st.sampled_from(["push", "push", "end", "end", "end", "retry", "activate", "resume"]))
            if what == "push":
                own, resolved = data.draw(st.booleans()), data.draw(st.integers(1, 5))
                build = add_build(ledger, ref="main" if own else "other").id
                of_build[build] = resolved, own
                going.append((f"{build}-1", resolved, own))
            elif what == "end" and going:
                attempt, resolved, own = going.pop(data.draw(st.integers(0, len(going) - 1)))
                release = end(ledger, attempt, resolved)
                if own:
                    ended[release.id] = (resolved, release.build, release.number)
            elif what == "retry":
                if done := [build for build in of_build if not any(a.startswith(f"{build}-") for a, *_ in going)]:
                    build = data.draw(st.sampled_from(done))
                    going.append((builds.retry(ledger, build, "ann", LATER).name, *of_build[build]))
            elif what == "activate" and ended:
                chosen = data.draw(st.sampled_from(sorted(ended)))
                former = live_id(ledger)
                assert former is not None
                held = held or ended[chosen] < ended[former]
                releases.activate(ledger, "shop", chosen, LATER, who="ada")
                passed = set(ended) - {release.id for release in releases.waiting(ledger, "shop")}
            elif what == "resume":
                releases.resume(ledger, "shop", LATER)
                if held:
                    held = False
            expected = chosen if held else _newest(ended, chosen, passed)
            assert live_id(ledger) == expected, what
            if not held:
                chosen, passed = expected, set(ended)
        savepoint.rollback()


def _newest(ended: dict[int, tuple[int, int, int]], chosen: int | None, passed: set[int]) -> int | None:
    """The newest of what has ended since somebody chose, and of what they chose."""
    of = {release: order for release, order in ended.items() if release not in passed or release == chosen}
    return max(of, key=lambda release: of[release], default=None)
