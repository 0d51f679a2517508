"""Polling, on an apiserver in memory: what is asked when, and what is made of what moves."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.event import listen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from tests.properties import examples
from tests.storage_fixtures import add_project, database
from tests.test_server_builders import Builder
from twistedipc.builds import messages as m
from twistedipc.builds.access import Access
from twistedipc.builds.hooks.events import HookEvent
from twistedipc.builds.hooks.settings import HookSettings
from twistedipc.builds.remotes import (
    MAX_REFS,
    CommitList,
    DescribedCommit,
    ListedRef,
    RefList,
)
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.states import AttemptState
from twistedipc.ipc import CallFailed, CallTimedOut, NotConnected
from twistedipc.server.polling import FIRST, INTERVAL, MOST
from twistedipc.storage import access, attempts, builds, hooks, moved, polls, projects, taking
from twistedipc.storage.rows import Actor, BuildRow, HookDeliveryRow, PollRow, RunsOn
from twistedipc.storage.tables import builds as builds_table
from twistedipc.storage.tables import poll_refs

MINUTE = 60_000
MAIN, FIX = "refs/heads/main", "refs/heads/fix"


def commit(number: int) -> str:
    return f"{number:040x}"


A, B, C, D = (commit(number) for number in range(1, 5))


class Host(Builder):
    """A builder that is asked, and the repository's host."""

    def __init__(self, apiserver: Apiserver, name: str = "one") -> None:
        super().__init__(apiserver, name)
        self.refs: dict[str, str] = {}
        self.pulls_from = 0
        self.asked: list[m.ListRefs] = []
        self.described: list[m.DescribeCommits] = []
        self.commits: dict[str, DescribedCommit] = {}  # by commit
        self.says: Callable[[], Any] = self.listed
        self.held: list[Deferred[Any]] | None = None  # a list: answers wait in it

    def listed(self) -> RefList:
        there = {name: each for name, each in self.refs.items() if self.pulls_from or "/pull/" not in name}
        return RefList(refs=[ListedRef(*each) for each in sorted(there.items())], pulls_from=self.pulls_from)

    def call(self, request: msgspec.Struct, kind: Any) -> Any:
        """Call the apiserver; or be called by it, with the seconds for the answer."""
        if isinstance(kind, type):
            return super().call(request, kind)
        answer: Deferred[Any] = Deferred()
        if isinstance(request, m.DescribeCommits):
            self.described.append(request)
            known = [self.commits.get(each.commit) for each in request.question.moved]
            answer.callback(CommitList(commits=[each for each in known if each is not None]))
            return answer
        assert isinstance(request, m.ListRefs)
        self.asked.append(request)
        try:
            said = self.says()
        except Exception as error:
            answer.errback(error)
            return answer
        if self.held is not None:
            self.held.append(answer.addCallback(lambda _: said))
        else:
            answer.callback(said)
        return answer


class World:
    """An apiserver with a project that is polled, and a builder."""

    def __init__(self, folder: Path, every: int = 5) -> None:
        self.folder = folder
        self.ledger = InstantLedger()
        self.ledger.project()
        self.time = 1_000_000
        self._deliveries = 0
        self.start()
        self.poll(every)

    def start(self) -> None:
        """The apiserver is started, perhaps again, and a builder links."""
        self.clock = Clock()
        self.apiserver = Apiserver(self.folder, self.ledger, self.clock)
        self.apiserver.time = self.time
        self.host = self.links()

    def links(self, name: str = "one", features: Any = m.FEATURES) -> Host:
        host = Host(self.apiserver, name)
        host.sync(slots=0, features=features)
        return host

    def stop(self) -> None:
        self.apiserver.server.stop_publishing()

    def poll(self, every: int = 5) -> None:
        self.ledger.now(polls.put, self.project_id, every, self.time)

    @property
    def project_id(self) -> int:
        row = self.ledger.now(projects.get, "hello")
        assert row is not None
        return row.id

    @property
    def row(self) -> PollRow:
        row = self.ledger.now(polls.get, self.project_id)
        assert row is not None
        return row

    def pass_by(self, milliseconds: float, step: float = INTERVAL * 1000) -> None:
        """The time goes on."""
        left = milliseconds
        while left > 0:
            now = min(step, left)
            left -= now
            self.time = self.apiserver.time = max(self.time, self.apiserver.time) + round(now)
            self.clock.advance(now / 1000)
        self.time = self.apiserver.time

    def look(self) -> None:
        """The repository is looked at now."""
        self.ledger.now(polls.look_soon, self.project_id, self.time)
        self.pass_by(INTERVAL * 1000)

    def first(self, **refs: str) -> None:
        """The first look, at these branches."""
        self.host.refs = {f"refs/heads/{name}": at for name, at in refs.items()}
        self.look()
        assert self.row.repository

    def hook(self, ref: str, at: str, before: str = "", **more: Any) -> HookDeliveryRow:
        self._deliveries += 1
        told: dict[str, Any] = {"kind": "github", "what": "push" if at else "gone", "delivery": str(self._deliveries)}
        event = HookEvent(ref=ref, commit=at, before=before, **{**told, **more})
        taken: list[Any] = []
        Deferred.fromCoroutine(self.apiserver.lifecycle.take_message("hello", event)).addBoth(taken.append)
        self.time = self.apiserver.time
        return cast(HookDeliveryRow, taken[0].row)

    def built(self) -> list[BuildRow]:
        """All builds, oldest first."""
        numbers = self.ledger.now(lambda connection: connection.execute(select(builds_table.c.id)).scalars().all())
        return list(reversed(self.ledger.now(builds.some, numbers)))

    def commits(self) -> list[tuple[str, str]]:
        """Branch and commit of all builds."""
        return [(each.origin.branch, each.origin.commit) for each in self.built() if each.origin is not None]

    def messages(self) -> list[HookDeliveryRow]:
        """The deliveries, oldest first."""
        return list(reversed(self.ledger.now(hooks.deliveries, self.project_id)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# -- what moves ------------------------------------------------------------------------------------------------------


def test_the_first_look_only_notes_what_is_there(world: World) -> None:
    world.host.refs = {MAIN: A, FIX: B}
    world.pass_by(FIRST * 1000)
    assert len(world.host.asked) == 1
    row = world.row
    assert (row.refs, row.builder, row.reason, row.failures) == (2, "one", "", 0)
    assert (world.built(), world.messages()) == ([], [])
    world.pass_by(20 * MINUTE)
    assert (world.built(), world.messages()) == ([], [])
    assert 4 <= len(world.host.asked) <= 6


def test_a_push_builds_as_by_a_hook(world: World) -> None:
    world.first(main=A)
    world.host.refs |= {MAIN: B, FIX: C}
    world.host.commits = {B: DescribedCommit(ref=MAIN, commit=B, subject="Fix the cart")}
    world.look()
    first, second = world.built()  # what goes live comes first
    assert (first.ref, first.requested_by, second.ref, second.requested_by) == ("main", "polling", "fix", "polling")
    assert first.origin is not None
    assert (first.origin.kind, first.origin.event, first.origin.commit) == ("poll", "push", B)
    assert first.origin.title == "Fix the cart"
    assert [(each.event.ref, each.outcome, each.build) for each in world.messages()] == [
        (MAIN, "built", first.id),
        (FIX, "built", second.id),
    ]
    world.pass_by(20 * MINUTE)
    assert len(world.built()) == len(world.messages()) == 2


def test_filters_tags_and_what_a_commit_says(world: World) -> None:
    world.ledger.now(hooks.set_settings, world.project_id, HookSettings(branches=["main", "r/*"], tags=["v*"]))
    world.ledger.now(projects.update, "hello", {"settings": BuildSettings(watch=["apps"])}, world.time)
    world.first(main=A)
    asked = world.host.asked[-1].question
    assert (asked.branches, asked.tags) == (["main", "r/*"], ["tags/v*", "main"])
    world.host.refs |= {MAIN: B, FIX: C, "refs/heads/r/1": C, "refs/heads/r/2": D, "refs/tags/v1": D}
    world.host.commits = {
        B: DescribedCommit(ref=MAIN, commit=B, skip=True),
        C: DescribedCommit(ref="refs/heads/r/1", commit=C, touches=False),
    }
    world.look()
    assert [(each.event.branch, each.outcome, each.reason.partition(":")[0]) for each in world.messages()] == [
        ("main", "ignored", "the commit's message says so"),
        ("fix", "ignored", "fix isn't among the branches that build"),
        ("r/1", "ignored", "it changes nothing that the project watches"),
        ("r/2", "built", ""),
        ("v1", "built", ""),
    ]
    (request,) = world.host.described
    assert request.question.watch == ["apps"]
    assert [each.ref for each in request.question.moved] == [MAIN, "refs/heads/r/1", "refs/heads/r/2", "refs/tags/v1"]
    assert request.question.moved[0].before == A
    world.look()
    assert len(world.messages()) == 5


def test_pull_requests_are_looked_for_if_the_project_says_so_and_wait_for_leave(world: World) -> None:
    world.first(main=A)
    world.host.refs |= {"refs/pull/1/head": C}
    world.look()
    world.ledger.now(hooks.set_settings, world.project_id, HookSettings(poll_pull_requests=True))
    world.host.pulls_from = 1
    world.look()
    assert [each.question.pulls for each in world.host.asked[-2:]] == [False, True]
    assert world.messages() == []  # it was there before

    world.host.refs |= {"refs/pull/2/head": B, FIX: D, "refs/pull/3/head": D}
    world.host.commits = {B: DescribedCommit(ref="refs/pull/2/head", commit=B, subject="Steal it")}
    world.look()
    branch, stranger = world.messages()
    assert (branch.event.ref, branch.outcome) == (FIX, "built")  # and its pull request, 3, is the same
    assert (stranger.outcome, stranger.event.number, stranger.event.title) == ("waits", 2, "Steal it")
    assert "may come from a fork" in stranger.reason

    world.host.refs |= {"refs/pull/2/head": C}
    del world.host.refs[FIX]
    world.look()
    world.look()
    assert [(each.outcome, each.event.number, each.event.commit) for each in world.messages()] == [
        ("built", 0, D),
        ("ignored", 2, B),
        ("gone", 0, ""),
        ("waits", 2, C),
    ]
    allowed = world.ledger.now(
        taking.allow, "hello", world.messages()[-1].id, Actor(who="ann", kind="token"), world.time
    )
    assert allowed.made is not None
    (offer,) = [each for each in world.ledger.now(attempts.next_queued, 50) if each.build == allowed.made.id]
    assert (offer.ref, offer.commit, offer.stranger, offer.secrets) == ("refs/pull/2/head", C, True, False)
    del world.host.refs["refs/pull/2/head"]
    world.look()
    assert (world.messages()[-1].outcome, world.messages()[-1].event.number) == ("gone", 2)


def test_pull_requests_of_which_a_look_tells_no_more_are_not_over(world: World) -> None:
    world.ledger.now(hooks.set_settings, world.project_id, HookSettings(poll_pull_requests=True))
    world.host.pulls_from = 1
    world.first(main=A)
    world.host.refs |= {"refs/pull/1/head": B, "refs/pull/2/head": C}
    world.look()
    assert [each.outcome for each in world.messages()] == ["waits", "waits"]
    del world.host.refs["refs/pull/1/head"]
    world.host.pulls_from = 2  # there are too many newer ones
    world.look()
    del world.host.refs["refs/pull/2/head"]
    world.host.pulls_from = 0  # a builder of an older version
    world.look()
    assert [each.outcome for each in world.messages()] == ["waits", "waits"]


def test_what_waits_of_a_pull_request_is_closed_when_it_has_a_commit_of_the_repositorys_own(world: World) -> None:
    world.ledger.now(hooks.set_settings, world.project_id, HookSettings(poll_pull_requests=True))
    world.host.pulls_from = 1
    world.first(main=A)
    pull = "refs/pull/1/head"
    for at in (B, A, B):
        world.host.refs[pull] = at
        world.look()
    older, newer = world.messages()
    assert (older.event.commit, older.outcome) == (B, "ignored")
    assert older.reason == "the pull request has a commit of the repository's own now"
    assert (newer.event.commit, newer.outcome) == (B, "waits")  # it has come back
    # A message that came while the repository was looked at tells of what is newer.
    world.host.held = []
    world.host.refs[pull] = A
    world.look()
    world.hook("refs/heads/fork", C, number=1, fork=True, what="pull_request")
    (held,), world.host.held = world.host.held, None
    held.callback(None)
    assert [(each.event.commit, each.outcome) for each in world.messages()][2:] == [(C, "waits")]


def test_what_has_moved_on_meanwhile_is_built_once(world: World) -> None:
    world.first(main=A)
    world.host.refs = {MAIN: B}
    world.host.commits = {B: DescribedCommit(ref=MAIN, commit=C, subject="Newer")}
    world.look()
    world.host.refs = {MAIN: C}
    world.look()
    assert world.commits() == [("main", C)]


def test_a_branch_that_is_gone_ends_as_by_a_hook(world: World) -> None:
    ended: list[str] = []
    world.apiserver.server.polling.listen(ended.append)
    world.first(main=A)
    world.host.refs |= {FIX: B}
    world.look()
    (build,) = world.built()
    del world.host.refs[FIX]
    world.look()
    assert world.apiserver.state(f"{build.id}-1") is AttemptState.CANCELLED
    assert [(each.event.what, each.outcome) for each in world.messages()] == [("push", "built"), ("gone", "gone")]
    assert ended == ["hello"]
    world.look()
    world.host.refs[FIX] = B
    world.look()
    assert world.commits() == [("fix", B)] * 2  # it is there again


def test_a_host_that_lists_nothing_ends_nothing(world: World) -> None:
    world.first(main=A, fix=B)
    refs, world.host.refs = world.host.refs, {}
    world.look()
    assert "lists no branch any more, and had 2" in world.row.reason
    world.host.refs = refs | {MAIN: C}
    world.look()
    assert (world.row.reason, [each.event.what for each in world.messages()]) == ("", ["push"])


def test_filters_that_come_to_match_no_branch_are_said_and_end_no_look(world: World) -> None:
    world.ledger.now(hooks.set_settings, world.project_id, HookSettings(branches=["release/*"]))
    release = "refs/heads/release/1"
    world.host.refs = {MAIN: A, release: B}
    world.look()
    assert (world.row.reason, world.row.failures) == ("", 0)
    # So many branches that only those of the filters are told, and there is none of these any more.
    world.host.says = lambda: RefList(refs=[], narrowed=True)
    for _ in range(2):
        world.look()
        assert "no branch matches the project's filters (release/*)" in world.row.reason
        assert world.row.failures == 0
    world.host.says = lambda: RefList(refs=[ListedRef(release, C)], narrowed=True)
    world.look()
    assert world.row.reason == ""


def test_a_host_that_lists_pull_requests_alone_ends_nothing(world: World) -> None:
    world.ledger.now(hooks.set_settings, world.project_id, HookSettings(poll_pull_requests=True))
    world.host.pulls_from = 1
    world.host.refs = {MAIN: A, FIX: B, "refs/pull/1/head": C}
    world.look()
    refs, world.host.refs = world.host.refs, {"refs/pull/1/head": C, "refs/pull/2/head": D}
    world.look()
    assert "lists no branch any more, and had 2 branches and tags" in world.row.reason
    assert world.messages() == []
    world.host.refs = refs
    world.look()
    assert (world.row.reason, world.messages()) == ("", [])


def test_what_is_let_through_later_was_there_before(world: World) -> None:
    """New filters build nothing by themselves."""
    world.first(main=A)
    world.ledger.now(hooks.set_settings, world.project_id, HookSettings(tags=["v*"]))
    world.host.refs |= {"refs/tags/v1": B}
    world.look()
    assert world.messages() == []
    world.host.refs |= {"refs/tags/v1": C, "refs/tags/v2": C}
    world.look()
    assert world.commits() == [("v1", C), ("v2", C)]
    world.ledger.now(hooks.set_settings, world.project_id, HookSettings())
    del world.host.refs["refs/tags/v1"], world.host.refs["refs/tags/v2"]
    world.look()
    assert len(world.messages()) == 2  # they aren't gone: nobody looks for them any more


def test_too_many_branches_are_no_end_of_those_that_are_left_out(world: World) -> None:
    world.first(main=A, fix=B)
    world.ledger.now(hooks.set_settings, world.project_id, HookSettings(branches=["main"]))
    world.host.says = lambda: RefList(refs=[ListedRef(MAIN, C)], narrowed=True)
    world.look()
    world.host.says = world.host.listed
    world.host.refs = {MAIN: C, FIX: D}
    world.look()
    assert [(each.event.branch, each.outcome) for each in world.messages()] == [("main", "built")]


def test_many_that_move_at_once_are_all_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved, "MOST", 10)
    world.first(main=A)
    world.host.refs |= {f"refs/heads/b{number:02}": commit(100 + number) for number in range(25)}
    world.look()
    world.pass_by(MINUTE)
    assert sorted(world.commits()) == [(f"b{number:02}", commit(100 + number)) for number in range(25)]
    assert [len(each.question.moved) for each in world.host.described] == [10, 10, 5]


def test_a_history_that_was_rewritten_makes_so_many_builds_an_hour(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moved, "MOST_BUILDS", 10)
    monkeypatch.setattr(moved, "MOST_BUILDS_AN_HOUR", 15)
    there = {f"b{number:02}": commit(100 + number) for number in range(25)}
    world.first(main=A, old=A, **dict.fromkeys(there, A))
    world.host.refs = {f"refs/heads/{name}": at for name, at in (there | {"main": B}).items()}
    world.look()
    assert [branch for branch, _ in world.commits()] == ["main", *(f"b{number:02}" for number in range(9))]
    assert world.messages()[0].event.what == "gone"
    assert world.row.reason.startswith("16 more branches and tags have moved and wait: a look makes at most 10 builds")
    asked = len(world.host.asked)
    world.pass_by(40 * MINUTE)
    assert len(world.commits()) == 15
    assert len(world.host.asked) - asked <= 10  # it isn't looked at more often for that
    assert world.row.reason.startswith("11 more")
    world.host.refs[MAIN] = C
    world.pass_by(30 * MINUTE)
    assert world.commits()[15] == ("main", C)
    world.pass_by(130 * MINUTE)
    assert sorted(set(world.commits())) == sorted([*there.items(), ("main", B), ("main", C)])
    assert (len(world.commits()), world.row.reason) == (27, "")


def test_pull_requests_that_wait_are_called_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved, "MOST_BUILDS", 2)
    world.ledger.now(hooks.set_settings, world.project_id, HookSettings(poll_pull_requests=True))
    world.host.pulls_from = 1
    world.first(main=A)
    world.host.refs |= {f"refs/pull/{number}/head": commit(100 + number) for number in range(1, 6)}
    world.look()
    assert world.row.reason.startswith("3 more pull requests have moved and wait: a look makes at most 2 builds")
    world.host.refs |= {f"refs/heads/b{number}": commit(200 + number) for number in range(3)}
    world.look()
    assert world.row.reason.startswith("1 more branch or tag and 3 more pull requests have moved and wait")


def test_thousands_of_refs_are_written_down_by_few_statements(tmp_path: Path) -> None:
    with database(tmp_path) as connection:
        add_project(connection)
        about = projects.get(connection, "shop")
        assert about is not None
        refs = {f"refs/heads/b{number}": A for number in range(1200)}
        polls.note(connection, about.id, refs)
        statements: list[str] = []
        listen(connection, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
        changed = dict.fromkeys(refs, B) | {"refs/heads/b7": "", "refs/heads/new": C}
        polls.note(connection, about.id, changed)
        assert len(statements) <= 5
        assert polls.all_seen(connection, about.id) == {name: at for name, at in changed.items() if at}


def test_another_repository_begins_again(world: World) -> None:
    world.first(main=A)
    world.ledger.now(projects.update, "hello", {"repository": "https://git.example/other.git"}, world.time)
    world.host.refs = {MAIN: B}
    world.look()
    assert world.host.asked[-1].remote.repository == "https://git.example/other.git"
    assert world.built() == []
    world.host.refs = {MAIN: C}
    world.look()
    assert world.commits() == [("main", C)]


def test_off_and_on_again_begins_again_and_a_project_that_is_deleted_is_forgotten(world: World) -> None:
    world.first(main=A)
    assert world.ledger.now(polls.remove, world.project_id)
    assert not world.ledger.now(polls.remove, world.project_id)
    asked = len(world.host.asked)
    world.pass_by(20 * MINUTE)
    assert len(world.host.asked) == asked
    world.poll()
    world.host.refs = {MAIN: B}
    world.look()
    assert world.built() == []
    assert world.ledger.now(projects.delete, "hello", world.time)
    world.pass_by(20 * MINUTE)
    assert len(world.host.asked) == asked + 1
    assert world.ledger.now(lambda connection: connection.execute(select(poll_refs)).all()) == []


# -- hooks beside it -------------------------------------------------------------------------------------------------


def test_a_hook_and_a_look_build_one_push_once(world: World) -> None:
    world.first(main=A)
    world.host.refs = {MAIN: B}
    world.hook(MAIN, B, A)
    world.look()
    assert world.commits() == [("main", B)]
    assert len(world.messages()) == 1  # nothing new was seen
    world.host.refs = {MAIN: C}
    world.look()
    assert world.hook(MAIN, C, B).reason == "build 2 is of this commit"
    assert world.commits() == [("main", B), ("main", C)]


def test_a_look_that_was_begun_before_a_hook_tells_nothing_of_its_branch(world: World) -> None:
    world.first(main=A)
    world.host.held, world.host.refs = [], {MAIN: B, FIX: D}
    world.look()
    world.host.refs = {MAIN: C, FIX: D}
    world.hook(MAIN, B, A)
    world.hook(MAIN, C, B)
    (held,), world.host.held = world.host.held, None
    held.callback(None)
    assert world.commits() == [("main", B), ("main", C), ("fix", D)]
    world.pass_by(MINUTE)
    assert len(world.built()) == 3
    assert world.row.digest


def test_a_message_that_does_not_follow_has_the_repository_looked_at(world: World) -> None:
    world.first(main=A)
    world.host.refs = {MAIN: D}
    world.look()  # B, C and D were pushed
    late = world.hook(MAIN, C, B)
    assert (late.outcome, late.build) == ("ignored", None)
    assert "polling finds out where the ref is" in late.reason
    asked = len(world.host.asked)
    world.pass_by(INTERVAL * 1000)
    assert len(world.host.asked) == asked + 1
    assert world.commits() == [("main", D)]
    world.hook(MAIN, commit(9), commit(8))  # one that was lost lies between: it is newer
    world.host.refs = {MAIN: commit(9)}
    world.pass_by(INTERVAL * 1000)
    assert world.commits() == [("main", D), ("main", commit(9))]


def test_a_pull_request_that_is_left_to_a_look_is_written_down_with_its_build(world: World) -> None:
    world.first(main=A, fix=A)
    world.host.refs |= {FIX: C}
    late = world.hook(FIX, C, what="pull_request", number=7, base="main", title="Fix")
    assert late.build is None
    world.look()
    (build,) = world.built()
    assert build.origin is not None
    assert (build.origin.kind, build.origin.number, build.origin.base) == ("poll", 7, "main")
    assert world.hook(FIX, C, A).build == build.id


def test_while_polling_fails_a_message_in_doubt_builds(world: World) -> None:
    world.first(main=A)
    world.host.says = lambda: RefList(failed="it is away")
    world.look()
    assert world.hook(MAIN, C, B).outcome == "built"
    assert world.hook(FIX, "", what="push").outcome == "built"
    world.host.says, world.host.refs = world.host.listed, {MAIN: C, FIX: D}
    world.look()
    assert world.commits() == [("main", C), ("fix", "")]  # that one hasn't begun yet: it finds D


def test_a_message_that_names_no_commit_has_the_repository_looked_at(world: World) -> None:
    world.first(main=A)
    world.host.refs = {MAIN: B}
    before = world.hook(MAIN, "", what="push")
    assert (before.outcome, before.build) == ("ignored", None)
    world.pass_by(INTERVAL * 1000)
    assert world.commits() == [("main", B)]
    assert world.hook(MAIN, "", what="push").build is None
    world.pass_by(MINUTE)
    assert world.commits() == [("main", B)]
    world.hook(MAIN, "", what="gone")  # it isn't: it was made again since
    world.pass_by(MINUTE)
    assert [each.state for each in world.built()] == [AttemptState.QUEUED]


def test_a_program_that_names_a_branch_alone_has_it_built(world: World) -> None:
    """Nothing was built, since nothing had moved."""
    world.first(main=A)
    first = world.hook(MAIN, "", what="push", kind="plain")
    assert first.outcome == "built"
    world.look()
    assert [build.id for build in world.built()] == [first.build]
    # What is pushed meanwhile is found by that build, which hasn't begun; a second wish is a second build.
    world.host.refs = {MAIN: B}
    world.look()
    assert len(world.built()) == 1
    assert world.hook(MAIN, "", what="push", kind="plain").outcome == "built"
    assert world.hook(MAIN, "", what="gone", kind="plain").outcome == "ignored"  # a look tells
    world.pass_by(MINUTE)
    assert len(world.built()) == 2


def test_a_message_about_a_repository_that_was_not_looked_at_yet_builds(world: World) -> None:
    world.first(main=A)
    world.ledger.now(projects.update, "hello", {"repository": "https://git.example/other.git"}, world.time)
    assert world.hook(MAIN, "", what="push").outcome == "built"


# -- when, and by whom -----------------------------------------------------------------------------------------------


def test_what_a_builder_is_told(world: World) -> None:
    box = world.apiserver.secret_box
    address = "https://git.example/hello.git"
    world.ledger.now(
        projects.update, "hello", {"repository": address, "settings": BuildSettings(hosts=["x.example"])}, 1
    )
    world.ledger.now(access.set_token, world.project_id, address, box.seal("t0ken"), 1)
    world.look()
    remote = world.host.asked[-1].remote
    assert (remote.project, remote.repository, remote.hosts) == ("hello", address, ["x.example"])
    assert remote.access == Access(host="https://git.example", username="x-access-token", token="t0ken")


def test_host_keys_that_are_seen_first_are_pinned_even_if_it_fails(world: World) -> None:
    address = "git@git.example:hello.git"
    world.ledger.now(projects.update, "hello", {"repository": address}, 1)
    world.ledger.now(access.set_key, world.project_id, address, b"sealed", "ssh-ed25519 AAAA", 1)
    world.ledger.now(
        access.set_key, world.project_id, address, world.apiserver.secret_box.seal("key"), "ssh-ed25519 AAAA", 1
    )
    world.host.says = lambda: RefList(host_keys=["git.example ssh-ed25519 AAAAC3"], failed="not yet")
    world.look()
    row = world.ledger.now(projects.get, "hello")
    assert row is not None
    assert row.access is not None
    assert row.access.known_hosts == ["git.example ssh-ed25519 AAAAC3"]
    assert "not yet (builder one)" in world.row.reason


def test_credentials_that_cannot_be_opened_are_a_reason(world: World) -> None:
    address = "https://git.example/hello.git"
    world.ledger.now(projects.update, "hello", {"repository": address}, 1)
    world.ledger.now(access.set_token, world.project_id, address, b"rubbish", 1)
    world.look()
    assert "can't read its credentials" in world.row.reason


def test_failures_are_farther_and_farther_apart_and_say_why(world: World) -> None:
    world.host.says = lambda: RefList(failed="https://x can't be fetched")
    world.pass_by(6 * 60 * MINUTE, 2.5 * MINUTE)
    row = world.row
    assert row.reason == "https://x can't be fetched (builder one)"
    assert 8 <= len(world.host.asked) == row.failures <= 12  # 5, 10, 20, 40 and then 60 minutes
    world.host.says = world.host.listed
    world.host.refs = {MAIN: A}
    world.pass_by(70 * MINUTE, 2.5 * MINUTE)
    assert (world.row.reason, world.row.failures) == ("", 0)


@pytest.mark.parametrize(
    "error", [CallFailed("broken", "it broke"), CallTimedOut("no answer"), CallFailed("refused", "nothing isolates")]
)
def test_a_builder_that_cannot_is_followed_by_another(world: World, error: Exception) -> None:
    world.first(main=A)
    other = world.links("two")
    other.refs = {MAIN: B}

    def fail() -> None:
        raise error

    world.host.says = fail
    world.look()
    assert (world.row.builder, world.commits()) == ("two", [("main", B)])
    other.refs = {MAIN: C}
    asked = len(world.host.asked)
    world.look()
    assert len(world.host.asked) == asked  # the one that could is asked first
    other.says = fail
    world.look()
    assert world.row.failures == 1
    assert "can't look" in world.row.reason


def test_builders_that_have_enough_to_do_or_leave_are_no_failure(world: World) -> None:
    world.first(main=A)
    errors = iter([CallFailed("busy", "4 already"), NotConnected("gone")])

    def busy() -> Any:
        error = next(errors, None)
        if error is not None:
            raise error
        return world.host.listed()

    world.host.says = busy
    world.host.refs = {MAIN: B}
    world.look()
    assert (world.row.failures, world.row.reason, world.commits()) == (0, "", [])
    world.pass_by(MINUTE)
    assert world.commits() == [("main", B)]


def test_without_a_builder_it_waits_and_says_so(world: World) -> None:
    world.first(main=A)
    world.host.lose()
    world.look()
    assert world.row.reason == "no builder is linked: start one (twistd buildipc)"
    assert world.row.failures == 0
    old = world.links("old", [each for each in m.FEATURES if each != "remotes"])
    world.pass_by(2 * MINUTE)
    assert "builder old can't ask repositories' hosts (polling)" in world.row.reason
    assert old.asked == []
    other = world.links("two")
    other.refs = {MAIN: B}
    world.pass_by(2 * MINUTE)
    assert (world.row.reason, world.commits()) == ("", [("main", B)])


def test_only_builders_that_may_build_the_project_are_asked(world: World) -> None:
    world.ledger.now(projects.update, "hello", {"runs_on": RunsOn(pools=["trusted"])}, 1)
    world.look()
    assert world.host.asked == []
    assert "no builder has the pool trusted" in world.row.reason


@pytest.mark.parametrize(
    "refs",
    [
        [ListedRef("refs/heads/x..y", A)],
        [ListedRef("refs/pull/1/head", A)],
        [ListedRef(MAIN, "HEAD")],
        [ListedRef(MAIN, A), ListedRef(MAIN, B)],
        [ListedRef(f"refs/heads/{number}", A) for number in range(MAX_REFS + 1)],
    ],
)
def test_a_builder_that_tells_what_cannot_be_is_not_believed(world: World, refs: list[ListedRef]) -> None:
    world.first(main=A)
    world.host.says = lambda: RefList(refs=refs)
    world.look()
    assert world.row.reason.startswith("a builder tells what can't be")
    assert world.row.reason.endswith("(builder one)")
    assert world.messages() == []


def test_many_projects_are_spread_and_few_are_looked_at_at_a_time(world: World) -> None:
    for number in range(25):
        world.ledger.project(f"p{number}")
        row = world.ledger.now(projects.get, f"p{number}")
        assert row is not None
        world.ledger.now(polls.put, row.id, 5, world.time)
    world.host.held = []
    world.pass_by(INTERVAL * 1000)
    assert len(world.host.held) == MOST
    while world.host.held:
        world.host.held.pop().callback(None)
        world.pass_by(100)
    assert len({each.remote.project for each in world.host.asked}) == 26
    world.host.held = None
    dues = [row.due for row in world.ledger.now(polls.due, world.time + 100 * MINUTE)]
    assert max(dues) - min(dues) > 30_000  # though all were turned on at once
    world.host.asked.clear()
    world.pass_by(30 * MINUTE)
    assert 5 * 26 <= len(world.host.asked) <= 7 * 26


def test_a_restart_in_the_middle_loses_and_doubles_nothing(world: World) -> None:
    world.first(main=A)
    world.host.held, world.host.refs = [], {MAIN: B, FIX: C}
    world.look()
    refs = world.host.refs
    world.stop()
    world.start()
    world.host.refs = refs
    world.pass_by(FIRST * 1000)
    assert world.commits() == [("main", B), ("fix", C)]
    world.stop()
    world.start()
    world.host.refs = refs
    world.pass_by(20 * MINUTE)
    assert len(world.built()) == 2


def test_a_ledger_that_goes_away_loses_and_doubles_nothing(world: World) -> None:
    world.first(main=A)
    world.host.refs = {MAIN: B, FIX: C}
    world.ledger.unheard = 2  # what is written is there, and the answer is lost
    world.look()
    world.pass_by(MINUTE)
    world.ledger.available = False
    world.pass_by(MINUTE)
    world.ledger.available = True
    world.pass_by(10 * MINUTE)
    assert sorted(world.commits()) == [("fix", C), ("main", B)]


def test_a_wish_during_a_look_is_a_look_after_it(world: World) -> None:
    world.first(main=A)
    world.host.held = []
    world.look()
    world.ledger.now(polls.look_soon, world.project_id, world.time)
    (held,), world.host.held = world.host.held, None
    asked = len(world.host.asked)
    held.callback(None)
    world.pass_by(1000)
    assert len(world.host.asked) == asked
    world.pass_by(INTERVAL * 1000)
    assert len(world.host.asked) == asked + 1


def test_however_many_want_a_look_there_is_a_pause_between_two(world: World) -> None:
    world.first(main=A)
    asked = len(world.host.asked)
    for _ in range(300):
        world.ledger.now(polls.look_soon, world.project_id, world.time)
        world.apiserver.server.polling.wake()
        world.pass_by(100)
    assert 2 <= len(world.host.asked) - asked <= 4


def test_a_host_whose_copies_differ_is_asked_no_more_often(world: World) -> None:
    world.first(main=A)
    world.hook(MAIN, C, A)
    world.host.refs = {MAIN: B}  # one that lags behind
    world.host.commits = {B: DescribedCommit(ref=MAIN, commit=C)}
    asked = len(world.host.asked)
    world.look()
    world.pass_by(MINUTE, 100)
    assert 2 <= len(world.host.asked) - asked <= 8
    assert world.commits() == [("main", C)]


# -- any order -------------------------------------------------------------------------------------------------------


class Push(msgspec.Struct, frozen=True):
    """A branch is pushed to, or deleted; its hook may be lost, and comes at any time, perhaps more than once."""

    branch: int
    deletes: bool = False
    hooks: int = 1
    tells: bool = True  # which commit it is


_PUSH = st.builds(Push, st.integers(0, 1), st.booleans(), st.integers(0, 2), st.booleans())
_STEP = st.one_of(
    _PUSH,
    _PUSH,
    st.tuples(st.just("hook"), st.integers(0, 20)),
    st.tuples(st.just("hook"), st.integers(0, 20)),
    st.sampled_from(["look", "begin", "end", "restart"]),
)


class Anything:
    """A repository with two branches, to which is pushed; its hooks, which may be lost; and looks at it."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.world.first(main=A, other=B)
        self.refs = dict(self.world.host.refs)
        self.waiting: list[tuple[str, str, str, str]] = []
        self.pushed = 100

    def take(self, step: Any) -> None:
        """Do one thing."""
        world = self.world
        match step:
            case Push():
                self.push(step)
            case ("hook", number) if self.waiting:
                self.tell(number % len(self.waiting))
            case "look":
                world.look()
            case "begin" if world.host.held is None:
                world.host.held = []
                world.look()
            case "end":
                self.answer()
            case "restart":
                world.stop()
                world.start()
                world.host.refs = dict(self.refs)

    def push(self, push: Push) -> None:
        name = [MAIN, "refs/heads/other"][push.branch]
        before = self.refs.get(name, "")
        if push.deletes and push.branch:  # a repository has a branch at least
            self.refs.pop(name, None)
        else:
            self.pushed += 1
            self.refs[name] = commit(self.pushed)
        if before or name in self.refs:
            at, what = self.refs.get(name, ""), "push" if name in self.refs else "gone"
            self.waiting += [(name, at, before, what) if push.tells else (name, "", "", what)] * push.hooks
        self.world.host.refs = dict(self.refs)

    def tell(self, number: int) -> None:
        """A message comes."""
        name, at, before, what = self.waiting.pop(number)
        self.world.hook(name, at, before, what=what)

    def answer(self) -> None:
        """The host answers what it was asked."""
        held, self.world.host.held = self.world.host.held or [], None
        for each in held:
            each.callback(None)

    def end(self) -> None:
        """All messages come that weren't lost, and there is a last look."""
        self.answer()
        while self.waiting:
            self.tell(-1)
        self.world.look()
        self.world.pass_by(MINUTE)


@settings(max_examples=examples(30))
@given(st.lists(_STEP, max_size=25))
def test_each_commit_is_built_once_at_most_and_the_last_of_each_ref_is(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tried = Anything(Path(folder))
        for step in steps:
            tried.take(step)
        tried.end()
        built = tried.world.commits()
        assert len(set(built)) == len(built), built
        for name, at in tried.refs.items():
            if at not in (A, B):
                last = [found for branch, found in built if branch == name.removeprefix("refs/heads/")][-1]
                assert last == at, (name, at, built)
