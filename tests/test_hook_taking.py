"""What is made of messages of hosts, in whatever order they come: on a ledger in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select, update

from tests.properties import examples
from tests.storage_fixtures import HOLDER, LEASE, NOW, add_project, database, run
from twistedipc.builds.attempt import Result
from twistedipc.builds.environments import Environment
from twistedipc.builds.hooks.events import HookEvent
from twistedipc.builds.hooks.settings import HookSettings
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.states import AttemptState
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.storage import (
    attempts,
    build_secrets,
    builds,
    hooks,
    package_requests,
    projects,
    promotions,
    receivers,
    releases,
    taking,
)
from twistedipc.storage.errors import NotFound, NotPossible, NotProtected
from twistedipc.storage.rows import Actor, BuildRow, OfferRow
from twistedipc.storage.tables import builds as builds_table
from twistedipc.storage.tables import hook_deliveries, outbox, publications

S = AttemptState
ANN = Actor(who="ann", token=1)
A, B, C, D = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        yield connection


_numbers = iter(range(1, 1_000_000))


def push(commit: str = B, before: str = A, ref: str = "refs/heads/main", **more: Any) -> HookEvent:
    known: dict[str, Any] = {"what": "push", "delivery": f"d-{next(_numbers)}", "sender": "ann"}
    return HookEvent(kind="github", ref=ref, before=before, commit=commit, **{**known, **more})


def pull(commit: str = B, *, fork: bool = False, **more: Any) -> HookEvent:
    known: dict[str, Any] = {"ref": "refs/heads/fix", "before": "", "what": "pull_request"}
    return push(commit, base="main", title="Fix", fork=fork, **{"number": 7, **known, **more})


def deleted(ref: str = "refs/heads/fix", before: str = B) -> HookEvent:
    return push("", before, ref, what="gone")


def take(ledger: Connection, event: HookEvent, now: int = NOW) -> taking.Taken:
    return taking.take(ledger, "shop", event, now)


def built(ledger: Connection) -> list[BuildRow]:
    """All builds, oldest first."""
    numbers = ledger.execute(select(builds_table.c.id)).scalars().all()
    return list(reversed(builds.some(ledger, numbers)))


def offers(ledger: Connection) -> list[OfferRow]:
    return attempts.next_queued(ledger, 50)


def end(ledger: Connection, name: str, outcome: Any = "succeeded") -> None:
    result = Result(outcome=outcome, lines=0, sha256="0" * 64, started=NOW, ended=NOW, commit=D)
    assert attempts.finish(ledger, name, HOLDER, result, True, NOW)


def settled(ledger: Connection, **values: Any) -> None:
    about = projects.get(ledger, "shop")
    assert about is not None
    hooks.set_settings(ledger, about.id, HookSettings(**values))


# -- one message -----------------------------------------------------------------------------------------------------


def test_a_push_makes_a_build_of_its_branch(ledger: Connection) -> None:
    taken = take(ledger, push())
    (build,) = built(ledger)
    assert taken.made == build
    assert (build.ref, build.publish, build.requested_by, build.commit) == ("main", True, "ann at GitHub", "")
    assert build.origin is not None
    assert (build.origin.event, build.origin.commit, build.origin.branch) == ("push", B, "main")
    assert (taken.row.outcome, taken.row.build, taken.row.reason) == ("built", build.id, "")
    (offer,) = offers(ledger)
    assert offer.of.is_production
    assert not offer.stranger


def test_a_message_is_taken_once(ledger: Connection) -> None:
    event = push()
    first, second = take(ledger, event), take(ledger, event, NOW + 5)
    assert (second.again, second.made, second.row) == (True, None, first.row)
    assert len(built(ledger)) == 1
    other = take(ledger, msgspec.structs.replace(push(C, B), delivery=event.delivery, kind="gitea"))
    assert other.made is not None  # another host's ids are others


def test_there_must_be_a_project(ledger: Connection) -> None:
    with pytest.raises(NotFound, match="no project blog"):
        taking.take(ledger, "blog", push(), NOW)


def test_filters_are_those_of_the_project(ledger: Connection) -> None:
    settled(ledger, branches=["main"])
    projects.update(ledger, "shop", {"settings": BuildSettings(watch=["apps/shop"])}, NOW)
    ignored = [
        (push(ref="refs/heads/fix"), "fix isn't among the branches"),
        (push(skip=True), "[skip ci]"),
        (push(C, changed=["apps/blog/x"]), "nothing that the project watches"),
        (push(ref="refs/tags/v1", what="tag"), "the tag v1 isn't protected"),
        (push(what="other", why="star builds nothing", ref="", before="", commit=""), "star builds nothing"),
        (push(what="ping", ref="", before="", commit=""), "it arrives"),
    ]
    for event, why in ignored:
        row = take(ledger, event).row
        assert row.outcome == "ignored"
        assert why in row.reason
    assert built(ledger) == []
    assert take(ledger, push(D, C, changed=["apps/shop/x"])).made is not None


def test_only_so_many_messages_are_remembered(ledger: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "REMEMBERED", 3)
    for number in range(6):
        take(ledger, push(what="ping", delivery=f"p{number}", ref="", before="", commit=""))
    about = projects.get(ledger, "shop")
    assert about is not None
    assert [row.event.delivery for row in hooks.deliveries(ledger, about.id)] == ["p5", "p4", "p3"]


def test_much_of_one_sort_pushes_out_nothing_of_another(ledger: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "REMEMBERED", 3)
    monkeypatch.setattr(hooks, "LISTED", 2)
    about = projects.get(ledger, "shop")
    assert about is not None
    stranger, first = take(ledger, pull(fork=True)), push(what="ping", ref="", before="", commit="")
    take(ledger, first)
    for number in range(6):
        seen = HookEvent(kind="poll", what="push", delivery=str(number), ref=f"refs/heads/{number}", commit=B)
        taking.take_seen(ledger, about, seen, NOW)
    assert [row.event.delivery for row in hooks.deliveries(ledger, about.id)] == ["5", "4", stranger.row.event.delivery]
    assert take(ledger, first).again
    for _ in range(6):
        take(ledger, push(what="ping", ref="", before="", commit=""))
    assert not take(ledger, first).again
    assert taking.allow(ledger, "shop", stranger.row.id, ANN, NOW).made is not None
    waiting = [take(ledger, pull(fork=True, number=number)).row.id for number in range(20, 25)]
    with pytest.raises(NotFound):
        taking.allow(ledger, "shop", waiting[0], ANN, NOW)  # those of strangers have an end too
    taking.allow(ledger, "shop", waiting[2], ANN, NOW)


def test_a_project_that_is_deleted_forgets_its_hook(ledger: Connection) -> None:
    settled(ledger, branches=["main"])
    take(ledger, push(ref="refs/heads/fix"))
    assert projects.delete(ledger, "shop", NOW)
    assert ledger.execute(select(hook_deliveries)).all() == []
    add_project(ledger)
    assert take(ledger, push(ref="refs/heads/fix")).made is not None


# -- order -----------------------------------------------------------------------------------------------------------


def test_an_older_push_after_a_newer_one_builds_nothing(ledger: Connection) -> None:
    newer, older = push(C, B), push(B, A)
    assert take(ledger, newer).made is not None
    late = take(ledger, older)
    assert (late.row.outcome, late.made) == ("ignored", None)
    assert "newer push" in late.row.reason
    assert take(ledger, push(D, C)).made is not None


def test_a_branch_can_be_pushed_back(ledger: Connection) -> None:
    settled(ledger, production="cancel-older")
    for commit, before in ((B, A), (A, B), (B, A)):
        assert take(ledger, push(commit, before)).made is not None
    assert [build.state for build in built(ledger)] == [S.CANCELLED, S.CANCELLED, S.QUEUED]


def test_a_message_that_was_lost_leaves_no_doubt_behind(ledger: Connection) -> None:
    take(ledger, push(B, A))
    assert take(ledger, push(D, C)).made is not None  # that of C has never come
    assert take(ledger, push(C, B)).row.outcome == "ignored"


def test_what_is_late_for_a_branch_that_is_gone(ledger: Connection) -> None:
    fix = "refs/heads/fix"
    take(ledger, push(B, "", fix))
    take(ledger, deleted(before=C))
    late = take(ledger, push(C, B, fix))
    assert (late.made, late.row.reason) == (None, "the branch is gone since")
    assert take(ledger, push(C, "", fix)).made is not None  # it is there again
    assert take(ledger, deleted(before=B)).row.outcome == "ignored"  # that is late too


COMMITS = [f"{number:040x}" for number in range(1, 9)]


@settings(max_examples=examples(50))
@given(st.permutations(range(7)))
@example([6, 5, 4, 3, 2, 1, 0])
@example([0, 1, 2, 3, 4, 5, 6])
def test_in_whatever_order_pushes_come_the_newest_commit_is_built(order: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, database(Path(folder)) as ledger:
        add_project(ledger)
        for at in order:
            take(ledger, push(COMMITS[at + 1], COMMITS[at]))
        # The one build that is left is of the branch, and so of its newest commit.
        (waiting,) = [build for build in built(ledger) if build.state is S.QUEUED]
        assert (waiting.ref, waiting.commit) == ("main", "")
        # In their own order, and in the opposite one, no message is in doubt.
        if order in (sorted(order), sorted(order, reverse=True)):
            assert len(built(ledger)) == (7 if order[0] == 0 else 1)


# -- pull requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", ["push first", "pull request first"])
def test_a_push_and_its_pull_request_make_one_build(ledger: Connection, turn: str) -> None:
    messages = [push(B, A, "refs/heads/fix"), pull(B)]
    if turn != "push first":
        messages.reverse()
    for message in messages:
        assert take(ledger, message).row.outcome == "built"
    (build,) = built(ledger)
    assert build.origin is not None
    assert (build.ref, build.origin.number, build.origin.base, build.origin.fork) == ("fix", 7, "main", False)


def test_a_pull_request_is_told_how_a_build_went_that_was_there_before(ledger: Connection) -> None:
    receivers.put(ledger, "shop", "github", kind="github", events=[], shown="", sealed=b"x", bound_to=None, now=NOW)
    made = take(ledger, push(B, A, "refs/heads/fix")).made
    assert made is not None
    assert comments(ledger) == []
    noted = take(ledger, pull(B))
    assert noted.noted is not None
    assert comments(ledger) == [made.id]
    take(ledger, pull(B))
    assert comments(ledger) == [made.id]


def comments(ledger: Connection) -> list[int]:
    """The builds of which a pull request is to be told."""
    return list(ledger.execute(select(outbox.c.build_id).where(outbox.c.part == "comment")).scalars())


def test_what_wasnt_to_be_built_isnt_by_its_pull_request(ledger: Connection) -> None:
    take(ledger, push(B, A, "refs/heads/fix", skip=True))
    assert take(ledger, pull(B)).row.outcome == "ignored"
    assert built(ledger) == []


def test_a_strangers_commit_is_built_once_a_member_allows_it(ledger: Connection) -> None:
    waits = take(ledger, pull(B, fork=True))
    assert (waits.row.outcome, waits.made, built(ledger)) == ("waits", None, [])
    allowed = taking.allow(ledger, "shop", waits.row.id, ANN, NOW + 1)
    (build,) = built(ledger)
    assert (allowed.row.outcome, allowed.row.build, allowed.row.decided_by) == ("built", build.id, "ann")
    assert (build.ref, build.requested_by, build.commit) == ("refs/pull/7/head", "ann", B)
    (offer,) = offers(ledger)
    assert (offer.stranger, offer.commit, offer.of.environment, offer.secrets) == (True, B, "preview", False)
    assert offer.of.preview == "it is of a pull request from a fork"
    assert "strangers" in offer.needs
    with pytest.raises(NotPossible, match="doesn't wait"):
        taking.allow(ledger, "shop", waits.row.id, ANN, NOW)


def test_leave_is_for_one_commit(ledger: Connection) -> None:
    first = take(ledger, pull(B, fork=True))
    second = take(ledger, pull(C, fork=True, before=B))
    with pytest.raises(NotPossible, match="a newer commit of the pull request has come"):
        taking.allow(ledger, "shop", first.row.id, ANN, NOW)
    late = take(ledger, pull(B, fork=True))
    assert (late.row.outcome, "newer push" in late.row.reason) == ("ignored", True)
    assert taking.allow(ledger, "shop", second.row.id, ANN, NOW).made is not None
    third = take(ledger, pull(D, fork=True, before=C))
    assert (third.row.outcome, len(built(ledger))) == ("waits", 1)
    assert take(ledger, pull(D, fork=True, delivery="reopened")).row.outcome == "waits"


def test_a_retry_of_a_strangers_build_is_of_the_same_commit(ledger: Connection) -> None:
    waits = take(ledger, pull(B, fork=True))
    made = taking.allow(ledger, "shop", waits.row.id, ANN, NOW).made
    assert made is not None
    run(ledger, f"{made.id}-1")
    failed = Result(outcome="failed", reason="no network", lines=0, sha256="0" * 64, started=NOW, ended=NOW)
    assert attempts.finish(ledger, f"{made.id}-1", HOLDER, failed, True, NOW)
    assert builds.retry(ledger, made.id, "ann", NOW).commit == B


def test_a_retry_of_a_strangers_build_publishes_no_canary(ledger: Connection) -> None:
    """Also if another person retries it: it would be uploaded with the project's token."""
    targets = (NpmSettings(registry="https://npm.example/", canary=True),)
    projects.update(ledger, "shop", {"targets": targets}, NOW)
    waits = take(ledger, pull(B, fork=True))
    made = taking.allow(ledger, "shop", waits.row.id, ANN, NOW).made
    own = take(ledger, push(B, A, "refs/heads/other")).made
    assert made is not None
    assert own is not None
    for build, published in ((made, False), (own, True)):
        run(ledger, f"{build.id}-1")
        end(ledger, f"{build.id}-1", "failed")
        builds.retry(ledger, build.id, "ann", NOW, may_publish=True)
        (offer,) = [each for each in offers(ledger) if each.build == build.id]
        assert (bool(offer.targets), offer.versioning is not None) == (published, published)


def test_nothing_of_a_strangers_build_goes_live(ledger: Connection) -> None:
    """Not even once its commit was merged: it had no secrets, and no submodules. The commit is built for that."""
    waits = take(ledger, pull(B, fork=True))
    made = taking.allow(ledger, "shop", waits.row.id, ANN, NOW).made
    assert made is not None
    run(ledger, f"{made.id}-1")
    release = releases.create(
        ledger, attempt=f"{made.id}-1", target="static", project="shop", sha256="a" * 64, files=1, size=1, commit=B,
        now=NOW,
    )  # fmt: skip
    result = Result(outcome="succeeded", lines=0, sha256="", started=NOW, ended=NOW, commit=B, protected="main")
    assert attempts.finish(ledger, f"{made.id}-1", HOLDER, result, True, NOW)
    with pytest.raises(NotProtected, match="of a stranger's pull request"):
        releases.activate(ledger, "shop", release.id, NOW, who="ann")
    assert promotions.decide(ledger, made.id).rebuild == "it was built as a stranger's pull request is"


def test_a_strangers_build_gets_no_secret_whatever_its_builder_asks(ledger: Connection) -> None:
    about = projects.get(ledger, "shop")
    assert about is not None
    build_secrets.put(
        ledger, about.id, about.repository, "TOKEN", b"sealed", characters=6, steps="build", builds="all", now=NOW
    )
    waits = take(ledger, pull(B, fork=True))
    made = taking.allow(ledger, "shop", waits.row.id, ANN, NOW).made
    own = take(ledger, push(B, A, "refs/heads/other")).made
    assert made is not None
    assert own is not None
    for build, expected in ((made, []), (own, ["TOKEN"])):
        (offer,) = [each for each in offers(ledger) if each.build == build.id]
        assert attempts.offer(ledger, offer.name, LEASE, "one", NOW, offer.of)
        assert attempts.accept(ledger, offer.name, HOLDER)
        answer = build_secrets.give(ledger, offer.name, LEASE, "one", about.repository, ["steps"], NOW)
        assert [each.name for each in answer.secrets] == expected


def test_a_closed_pull_request_ends_what_waits(ledger: Connection) -> None:
    waits = take(ledger, pull(B, fork=True))
    assert take(ledger, pull(B, fork=True, what="gone")).row.outcome == "gone"
    with pytest.raises(NotPossible, match="the pull request is closed"):
        taking.allow(ledger, "shop", waits.row.id, ANN, NOW)


# -- one build after another -----------------------------------------------------------------------------------------


def test_a_newer_commit_of_a_preview_cancels_the_older_build(ledger: Connection) -> None:
    fix = "refs/heads/fix"
    first = take(ledger, push(B, A, fix)).made
    assert first is not None
    run(ledger, f"{first.id}-1")
    second = take(ledger, push(C, B, fix))
    third = take(ledger, push(D, C, fix))
    running = attempts.get(ledger, f"{first.id}-1")
    assert running is not None
    assert (running.state, running.cancel_reason) == (
        S.RUNNING,
        f"build {second.row.build} is of a newer commit of fix",
    )
    assert [row.build for row in third.cancelled] == [first.id, second.row.build]
    assert [build.state for build in built(ledger)] == [S.RUNNING, S.CANCELLED, S.QUEUED]


def test_of_production_what_runs_goes_on_and_the_newest_waits_for_it(ledger: Connection) -> None:
    first = take(ledger, push(B, A)).made
    assert first is not None
    run(ledger, f"{first.id}-1")
    second = take(ledger, push(C, B)).made
    assert second is not None
    assert (offers(ledger), builds.before_in_turn(ledger, second.id)) == ([], first.id)
    third = take(ledger, push(D, C)).made
    assert third is not None
    assert [build.state for build in built(ledger)] == [S.RUNNING, S.CANCELLED, S.QUEUED]
    end(ledger, f"{first.id}-1")
    assert [offer.build for offer in offers(ledger)] == [third.id]
    assert builds.before_in_turn(ledger, third.id) is None


def test_what_publishes_isnt_cancelled(ledger: Connection) -> None:
    settled(ledger, production="cancel-older")
    first = take(ledger, push(B, A)).made
    assert first is not None
    run(ledger, f"{first.id}-1")
    assert attempts.publishing(ledger, f"{first.id}-1", HOLDER)
    assert take(ledger, push(C, B)).cancelled == []


def test_a_push_is_skipped_while_a_build_goes_on(ledger: Connection) -> None:
    settled(ledger, previews="skip")
    fix = "refs/heads/fix"
    first = take(ledger, push(B, A, fix)).made
    assert first is not None
    skipped = take(ledger, push(C, B, fix))
    assert (skipped.made, skipped.row.reason) == (None, f"build {first.id} of fix goes on")
    run(ledger, f"{first.id}-1")
    end(ledger, f"{first.id}-1")
    assert take(ledger, push(D, C, fix)).made is not None


def test_builds_of_people_and_of_other_refs_are_left_alone(ledger: Connection) -> None:
    asked, _new = builds.create(
        ledger, project="shop", ref="fix", publish=True, parameters={}, by=ANN, now=NOW, idempotency=None
    )
    other = take(ledger, push(B, A, "refs/heads/other")).made
    assert other is not None
    assert take(ledger, push(B, A, "refs/heads/fix")).cancelled == []
    assert {build.state for build in built(ledger)} == {S.QUEUED}
    assert asked.origin is None


# -- what is gone ----------------------------------------------------------------------------------------------------


def test_a_branch_that_is_deleted_ends_its_builds(ledger: Connection) -> None:
    made = take(ledger, push(B, A, "refs/heads/fix")).made
    assert made is not None
    gone = take(ledger, deleted())
    assert (gone.row.outcome, [row.build for row in gone.cancelled]) == ("gone", [made.id])
    assert take(ledger, push("", "", "refs/heads/fix", what="gone")).row.outcome == "ignored"  # told twice


def test_a_pull_request_of_a_branch_that_is_for_more_ends_nothing(ledger: Connection) -> None:
    staging = [Environment(name="staging", refs=["develop"])]
    projects.update(ledger, "shop", {"environments": staging}, NOW)
    for branch in ("main", "develop"):
        ref = f"refs/heads/{branch}"
        assert take(ledger, push(B, A, ref)).made is not None
        closed = take(ledger, pull(B, ref=ref, what="gone", merged=True))
        assert (closed.row.outcome, closed.cancelled) == ("ignored", [])


def test_the_tags_of_canaries_go_with_their_branch(ledger: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str]] = []

    def add(connection: Connection, *, package: str, kind: str, tag: str, **_: Any) -> None:
        asked.append((package, kind, tag))

    monkeypatch.setattr(package_requests, "add", add)
    made = take(ledger, push(B, A, "refs/heads/fix")).made
    assert made is not None
    for position, (name, version) in enumerate((("@acme/ui", f"1.0.0-fix.{made.id}"), ("@acme/x", "1.0.0"))):
        ledger.execute(
            insert(publications).values(
                build_id=made.id, number=1, target="npm", position=position, name=name, version=version,
                integrity="sha512-x", tag="fix", size=1, sha256="", state="published", reason="", created=1, updated=1,
            )
        )  # fmt: skip
    ledger.execute(update(builds_table).values(state="succeeded"))
    gone = take(ledger, deleted())
    assert asked == [("@acme/ui", "untag", "fix")]
    assert (gone.asked, gone.row.reason) == (True, "the tag fix of @acme/ui is being removed")


# -- once more -------------------------------------------------------------------------------------------------------


def test_a_person_can_have_a_message_done_again(ledger: Connection) -> None:
    settled(ledger, branches=["main"])
    ignored = take(ledger, push(ref="refs/heads/fix", skip=True))
    again = taking.again(ledger, "shop", ignored.row.id, ANN, NOW + 9)
    assert again.made is not None
    assert (again.row.outcome, again.row.decided_by, again.made.requested_by) == ("built", "ann", "ann")
    twice = taking.again(ledger, "shop", ignored.row.id, ANN, NOW + 10)
    assert twice.made is not None
    assert twice.made.id > again.made.id
    ping = take(ledger, push(what="ping", ref="", before="", commit=""))
    with pytest.raises(NotPossible, match="asks for nothing"):
        taking.again(ledger, "shop", ping.row.id, ANN, NOW)
    waits = take(ledger, pull(C, fork=True))
    with pytest.raises(NotPossible, match="hook allow"):
        taking.again(ledger, "shop", waits.row.id, ANN, NOW)
    with pytest.raises(NotFound, match="no message 99"):
        taking.again(ledger, "shop", 99, ANN, NOW)
