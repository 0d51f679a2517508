"""
What is told to others: each state at least once, the last one last, in whatever way the receiver and the apiserver
fail. In memory: real queries, a clock, and hosts that do what their documentation says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, update
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from tests.outside import TOKEN, Anybody, Gitea, GitHub, GitLab, Outsiders, RepositoryHost, json
from tests.properties import examples
from twistedipc.builds.attempt import FoundCommit, Package, Published, Result
from twistedipc.builds.origin import Origin
from twistedipc.builds.states import TellingState
from twistedipc.outgoing.exchange import Answer
from twistedipc.outgoing.kinds import KindName
from twistedipc.outgoing.told import EVENTS
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.publish.targets.static.target import StaticSettings
from twistedipc.storage import attempts, builds, outbox, projects, receivers, releases
from twistedipc.storage.columns import to_json
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.receivers import Secret
from twistedipc.storage.rows import Actor, AttemptRow, Holder, TellingRow
from twistedipc.storage.tables import deliveries

S = TellingState
Outcome = Literal["succeeded", "failed"]
HOOK = "https://hooks.example/secret-part"


#: Of each host: what it is, the repository's address, and its words for a commit whose build waits, goes on, and ends.
HOSTS: dict[KindName, tuple[type[RepositoryHost], str, tuple[str, str, str, str]]] = {
    "github": (GitHub, "https://github.com/team/shop.git", ("pending", "pending", "success", "failure")),
    "gitlab": (GitLab, "https://git.example/team/shop.git", ("pending", "running", "success", "failed")),
    "gitea": (Gitea, "https://git.example/team/shop.git", ("pending", "pending", "success", "failure")),
}


class World:
    """An apiserver with the project shop, whose repository is at GitHub, or at another host of this ``kind``."""

    def __init__(self, folder: Path, kind: KindName = "github") -> None:
        host, self.repository, (self.waits, self.goes_on, self.good, self.bad) = HOSTS[kind]
        self.kind = kind
        self.folder = folder
        self.ledger = InstantLedger()
        self.clock = Clock()
        self.github, self.hook = host(), Anybody()
        self.ledger.now(
            projects.create,
            name="shop",
            repository=self.repository,
            default_ref="main",
            targets=(StaticSettings(),),
            environment={},
            timeout=60.0,
            idle_timeout=30.0,
            now=1,
        )
        self.begin()

    def begin(self) -> None:
        """Start an apiserver; another time after a kill."""
        outside = Outsiders()
        outside.services = {f"{self.github.base}/": self.github, HOOK: self.hook}
        self.server = Apiserver(self.folder, self.ledger, self.clock, outside=outside)

    def kill(self) -> None:
        """Let nothing of the apiserver happen any more, and start another."""
        self.server.outside.held, time = [], self.server.time
        self.server.server.sender.stop()
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.begin()
        self.server.time = max(self.server.time, time)

    def receiver(self, name: str, kind: KindName, where: str = "", secret: str = TOKEN) -> None:
        """Tell somebody."""
        sealed = self.server.secret_box.seal(msgspec.json.encode(Secret(where=where, secret=secret)).decode())
        self.ledger.now(receivers.put, "shop", name, kind=kind, events=list(EVENTS), shown="", sealed=sealed,
                        bound_to=self.repository if kind in HOSTS else None, now=1)  # fmt: skip

    def pass_time(self, seconds: float) -> None:
        """Let time pass, for timers and for clocks alike."""
        end = self.clock.seconds() + seconds
        while True:
            due = [call.getTime() for call in self.clock.getDelayedCalls() if call.getTime() <= end]
            step = max(0.0, min(due, default=end) - self.clock.seconds())
            self.server.time += round(step * 1000)
            self.clock.advance(step)
            if not due:
                return

    def queue(self, commit: str, *, number: int = 0, ref: str = "main") -> str:
        """A build that a push has asked for; without a commit, a person has."""
        self.github.commits.add(commit)
        event = "pull_request" if number else "push"
        build, _new = self.ledger.now(
            builds.create,
            project="shop",
            ref=ref,
            publish=True,
            parameters={},
            by=Actor(who="hook"),
            now=self.server.now(),
            idempotency=None,
            origin=Origin(kind=self.kind, event=event, commit=commit, number=number)  # type: ignore[arg-type]
            if commit
            else None,
        )
        self.wake()
        return f"{build.id}-1"

    def run(self, attempt: str) -> None:
        """It is taken by a builder."""
        holder = Holder("a" * 16, "one")
        self.ledger.now(attempts.offer, attempt, holder.lease, holder.builder, self.server.now())
        self.ledger.now(attempts.accept, attempt, holder)
        assert self.ledger.now(attempts.started, attempt, holder, self.server.now(), self.server.now())
        self.wake()

    def check_out(self, attempt: str, commit: str) -> None:
        """Its builder says which commit it builds."""
        self.github.commits.add(commit)
        found = FoundCommit(commit=commit, subject="Faster", author="Ann")
        self.ledger.now(attempts.checked_out, attempt, Holder("a" * 16, "one"), found, self.server.now(), None)
        self.wake()

    def end(self, attempt: str, outcome: Outcome = "succeeded", commit: str = "", reason: str = "") -> AttemptRow:
        """It ends."""
        now = self.server.now()
        result = Result(outcome=outcome, lines=0, sha256="", started=now - 5000, ended=now, commit=commit,
                        reason=reason, subject="Faster", author="Ann")  # fmt: skip
        row = self.ledger.now(attempts.finish, attempt, Holder("a" * 16, "one"), result, True, now)
        assert row is not None
        self.wake()
        return row

    def build(self, commit: str, outcome: Outcome = "succeeded") -> str:
        """A whole build."""
        attempt = self.queue(commit)
        self.run(attempt)
        self.end(attempt, outcome, commit)
        return attempt

    def wake(self) -> None:
        """As the feed of states does."""
        self.server.server.sender.wake()

    def tellings(self, part: str = "") -> list[TellingRow]:
        """What is in the outbox, oldest first."""
        rows = self.ledger.now(outbox.list_page, "shop", None, 5000)
        return [row for row in reversed(rows) if part in ("", row.part)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def github(world: World) -> World:
    world.receiver("host", "github")
    return world


@pytest.fixture(params=HOSTS)
def hosted(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """At each of the hosts."""
    world = World(tmp_path, request.param)
    world.receiver("host", request.param)
    return world


A, B, C = "a" * 40, "b" * 40, "c" * 40


def test_nobody_is_told_anything_who_was_not_named(world: World) -> None:
    world.build(A)
    assert world.tellings() == []
    assert world.github.asked == []


def test_each_state_is_told_in_its_order(hosted: World) -> None:
    attempt = hosted.queue(A)
    assert hosted.github.states_of(A) == [hosted.waits]
    hosted.run(attempt)
    hosted.end(attempt, commit=A)
    assert [state for _, state in hosted.github.statuses] == [hosted.waits, hosted.goes_on, hosted.good]
    assert {row.state for row in hosted.tellings()} == {S.TOLD}


def test_a_build_that_a_person_asked_for_is_told_once_its_commit_is_known(hosted: World) -> None:
    attempt = hosted.queue("")
    hosted.run(attempt)
    assert hosted.tellings() == []
    hosted.check_out(attempt, A)
    assert hosted.github.states_of(A) == [hosted.goes_on]
    hosted.check_out(attempt, A)  # on the next link
    hosted.end(attempt, commit=A)
    assert hosted.github.states_of(A) == [hosted.goes_on, hosted.good]
    assert {row.state for row in hosted.tellings()} == {S.TOLD}


def test_a_checkout_of_what_was_announced_is_no_news(hosted: World) -> None:
    attempt = hosted.queue(A)
    hosted.run(attempt)
    before = hosted.github.statuses[:]
    hosted.check_out(attempt, A)
    assert hosted.github.statuses == before
    # The branch led to a newer commit by then, which waits as the announced one does until the end.
    other = hosted.queue(B)
    hosted.run(other)
    hosted.check_out(other, C)
    assert (hosted.github.states_of(B)[-1], hosted.github.states_of(C)) == (hosted.goes_on, [hosted.goes_on])
    hosted.end(other, "failed", commit=C)
    assert (hosted.github.states_of(B)[-1], hosted.github.states_of(C)[-1]) == (hosted.bad, hosted.bad)


def test_the_commit_that_was_announced_gets_its_end_too(hosted: World) -> None:
    """The branch led to a newer one when it was checked out."""
    attempt = hosted.queue(A)
    hosted.run(attempt)
    hosted.github.commits.add(B)
    hosted.end(attempt, "failed", commit=B)
    assert hosted.github.states_of(A)[-1] == hosted.bad
    assert hosted.github.states_of(B) == [hosted.bad]


def test_a_comment_that_was_copied_from_another_pull_request_is_not_ours(github: World) -> None:
    """Its hidden first line is there for all to see: a stranger who has it first would have the comment."""
    github.queue(A, number=8)
    [copied] = github.github.comments
    there = copied["body"]
    github.queue(B, number=7)
    assert copied["body"] == there
    assert len(github.github.comments) == 2


def test_one_comment_speaks_for_the_newest_build(github: World) -> None:
    first = github.queue(A, number=7)
    github.run(first)
    second = github.queue(B, number=7)
    github.end(first, "failed", commit=A)  # late
    [comment] = github.github.comments
    assert "Build 2" in comment["body"]
    github.run(second)
    github.end(second, commit=B)
    [comment] = github.github.comments
    assert "Build 2" in comment["body"]
    assert "succeeded" in comment["body"]


def test_two_things_of_a_subject_are_never_told_at_the_same_time(github: World) -> None:
    held: list[Deferred[None]] = []
    github.server.outside.held = held
    attempt = github.queue(A)
    github.run(attempt)
    github.end(attempt, commit=A)
    for told in range(1, 4):
        assert len(held) == told
        held[-1].callback(None)
    assert github.github.states_of(A) == ["pending", "success"]
    assert len(held) == 3


# -- the receiver fails ------------------------------------------------------------------------------------------------


def test_a_host_that_is_away_is_told_the_newest_state_when_it_is_back(github: World) -> None:
    github.server.outside.services.clear()
    github.build(A)
    github.pass_time(600)
    assert [row.state for row in github.tellings("status")] == [S.REPLACED, S.REPLACED, S.WAITING]
    assert "no address" in github.tellings("status")[-1].reason
    github.server.outside.services["https://api.github.com/"] = github.github
    github.pass_time(1800)
    assert github.github.states_of(A) == ["success"]


def test_a_state_that_was_refused_is_tried_a_few_times(github: World) -> None:
    """GitHub may not have the commit yet; a token may just be changed."""
    attempt = github.queue(A)
    github.run(attempt)
    github.github.commits.clear()
    github.end(attempt, commit=A)
    github.pass_time(6)
    assert github.tellings("status")[-1].state is S.WAITING
    github.github.commits.add(A)
    github.pass_time(60)
    assert github.github.states_of(A)[-1] == "success"
    github.github.commits.clear()
    github.queue(B)
    github.github.commits.clear()
    github.github.faults = []
    before = len(github.github.asked)
    github.queue(C)
    github.github.commits.clear()
    github.pass_time(3600)
    assert len(github.github.asked) - before < 20
    assert {row.state for row in github.tellings("status")} <= {S.TOLD, S.GIVEN_UP}


def test_a_wrong_token_is_given_up_and_told_again_by_a_person(github: World) -> None:
    github.receiver("host", "github", secret="wrong")
    github.build(A)
    github.pass_time(3600)
    last = github.tellings("status")[-1]
    assert (last.state, last.reason) == (S.GIVEN_UP, "it answered 401: Bad credentials")
    github.receiver("host", "github")
    github.ledger.now(outbox.tell_again, "shop", last.id, github.server.now())
    github.wake()
    assert github.github.states_of(A) == ["success"]


def test_an_old_state_is_not_told_again_over_a_newer_one(github: World) -> None:
    github.build(A)
    first, *_, last = github.tellings("status")
    with pytest.raises(NotPossible, match="newer"):
        github.ledger.now(outbox.tell_again, "shop", first.id, github.server.now())
    github.ledger.now(outbox.tell_again, "shop", last.id, github.server.now())
    github.wake()
    assert github.github.statuses[-1] == (A, "success")


def test_a_limit_on_requests_holds_for_the_whole_receiver(github: World) -> None:
    github.github.faults = [json(429, {}, retry_after="100")]
    github.queue(A)
    github.queue(B)
    assert len(github.github.asked) == 1
    github.pass_time(99)
    assert len(github.github.asked) == 1
    github.pass_time(3)
    assert github.github.states_of(A) == github.github.states_of(B) == ["pending"]


def test_a_limit_of_one_receiver_is_not_anothers(github: World) -> None:
    github.receiver("chat", "slack", HOOK)
    github.github.faults = [json(503, {}, retry_after="100")] * 10
    github.build(A, "failed")
    assert len(github.hook.asked) == 1


def test_a_dead_receiver_does_not_grow_the_table_without_an_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING", 10)
    monkeypatch.setattr(outbox, "KEPT", 5)
    world.receiver("gone", "webhook", "https://gone.example/")
    for number in range(30):
        world.build(f"{number:040x}", "failed")
    world.pass_time(60)
    rows = world.tellings()
    assert len(rows) <= 15
    assert len([row for row in rows if row.state is S.WAITING]) == 10
    assert "others waited" in next(row.reason for row in rows if row.state is S.GIVEN_UP)
    world.server.time += 25 * 3600 * 1000
    world.pass_time(31)
    assert {row.state for row in world.tellings()} == {S.GIVEN_UP}
    assert len(world.tellings()) == 5
    assert "within a day" in world.tellings()[-1].reason


def test_a_service_that_never_answers_holds_nothing_for_ever(github: World) -> None:
    held: list[Deferred[None]] = []
    github.server.outside.held = held
    github.queue(A)
    github.pass_time(121)
    assert "longer than" in github.tellings()[0].reason
    github.server.outside.held = None
    github.pass_time(20)
    assert github.github.states_of(A) == ["pending"]


def test_a_receiver_that_is_removed_takes_what_waits_with_it(github: World) -> None:
    github.server.outside.services.clear()
    github.queue(A)
    assert github.ledger.now(receivers.remove, "shop", "host")
    assert github.tellings() == []
    github.pass_time(600)


def test_the_token_of_another_repository_is_not_sent(github: World) -> None:
    github.ledger.now(projects.update, "shop", {"repository": "https://github.com/evil/shop.git"}, 1)
    [row] = github.ledger.now(receivers.list_all, "shop")
    assert row.void
    github.queue(A)
    assert github.github.asked == []
    assert "another repository" in github.tellings()[0].reason


def test_a_project_that_is_deleted_takes_its_receivers_with_it(github: World) -> None:
    github.build(A)
    assert github.ledger.now(projects.delete, "shop", 5)
    assert github.ledger.now(outbox.anything_due, 10**15) is False


# -- the apiserver fails -----------------------------------------------------------------------------------------------


def test_what_was_told_and_not_written_down_is_told_again_and_the_last_stays_last(github: World) -> None:
    attempt = github.queue(A)
    github.server.outside.mute = True
    github.run(attempt)
    github.end(attempt, commit=A)
    assert len(github.github.statuses) == 2
    github.kill()
    assert [state for _, state in github.github.statuses] == ["pending", "pending", "pending", "success"]


@settings(max_examples=examples(5), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_kills_anywhere(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """
    Builds go through their states, and at each of them the apiserver may be killed: before a request, between the
    request and its answer, or with the answer not written down. Each state is told, in its order, and the last last.
    """
    world = World(tmp_path_factory.mktemp("kills"))
    world.receiver("host", "github")
    ends = {commit: data.draw(st.sampled_from(["success", "failure"])) for commit in (A, B, C)}

    def during(step: Callable[[], object]) -> None:
        fault = data.draw(st.sampled_from(["none", "before", "after", "unwritten"]))
        if fault == "before":
            world.server.outside.held = []
        world.server.outside.mute = fault == "after"
        world.ledger.unheard = 0 if fault != "unwritten" else data.draw(st.integers(1, 3))
        step()
        world.ledger.unheard = 0
        if fault != "none":
            world.kill()

    attempt_of: dict[str, str] = {}
    for commit in ends:
        attempt_of[commit] = world.queue(commit)
    for commit, attempt in attempt_of.items():
        during(partial(world.run, attempt))
        during(partial(world.end, attempt, "succeeded" if ends[commit] == "success" else "failed", commit=commit))
    world.pass_time(60)
    for commit, end in ends.items():
        states = [state for each, state in world.github.statuses if each == commit]
        assert states[:2] == ["pending", "pending"]  # it waits in the queue, and it runs
        assert world.github.states_of(commit) == ["pending", end]
    assert {row.state for row in world.tellings()} == {S.TOLD}


# -- events ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def chat(world: World) -> World:
    world.receiver("hook", "webhook", HOOK, "secret")
    return world


def types(world: World) -> list[str]:
    return [body["type"] for body in world.hook.bodies]


def test_a_build_that_fails_and_the_one_that_mends_it(chat: World) -> None:
    chat.build(A)
    chat.build(B, "failed")
    chat.build(C)
    chat.build(A)
    assert types(chat) == ["build.failed", "build.fixed"]
    assert chat.hook.bodies[1]["data"]["commit"] == C


def test_a_cancelled_build_between_changes_nothing(chat: World) -> None:
    chat.build(A, "failed")
    attempt = chat.queue(B)
    chat.ledger.now(attempts.cancel_at_once, attempt, "not needed", chat.server.now())
    chat.build(C)
    assert types(chat) == ["build.failed", "build.fixed"]


def test_another_ref_mends_nothing(chat: World) -> None:
    attempt = chat.queue(A, ref="topic")
    chat.run(attempt)
    chat.end(attempt, "failed", commit=A)
    chat.build(B)
    assert types(chat) == ["build.failed"]


def test_a_release_that_goes_live(chat: World) -> None:
    attempt = chat.queue(A)
    chat.run(attempt)
    now = chat.server.now()
    made = chat.ledger.now(releases.create, attempt=attempt, target="static", project="shop", sha256="0" * 64, files=1,
                           size=1, commit=A, now=now)  # fmt: skip
    chat.end(attempt, commit=A)
    chat.ledger.now(releases.settle, "shop", made.id, now)
    chat.wake()
    if types(chat) == []:  # it may not go live by itself: a person says so
        chat.ledger.now(releases.activate, "shop", made.id, now, who="ann")
        chat.wake()
    assert types(chat) == ["build.live"]
    assert chat.hook.bodies[0]["data"]["site"] == "http://shop.test/"


def test_only_the_events_that_are_wanted(world: World) -> None:
    world.receiver("hook", "webhook", HOOK)
    sealed = world.server.secret_box.seal(msgspec.json.encode(Secret(where=HOOK, secret="x")).decode())
    world.ledger.now(receivers.put, "shop", "hook", kind="webhook", events=["fixed"], shown="", sealed=sealed,
                     bound_to=None, now=1)  # fmt: skip
    world.build(A, "failed")
    world.build(B)
    assert types(world) == ["build.fixed"]


def test_an_event_is_told_again_under_the_same_id(chat: World) -> None:
    chat.hook.faults = [Answer(status=500)]
    chat.build(A, "failed")
    chat.pass_time(10)
    first, second = chat.hook.asked
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    [row] = chat.tellings()
    chat.ledger.now(outbox.tell_again, "shop", row.id, chat.server.now())
    chat.wake()
    assert chat.hook.asked[-1].headers["webhook-id"] == first.headers["webhook-id"]


def test_what_is_shown_of_a_failure_has_nothing_of_the_address(chat: World) -> None:
    chat.hook.faults = [Answer(status=404, body=b'{"message": "internal page"}')] * 10
    chat.build(A, "failed")
    chat.pass_time(3600)
    [row] = chat.tellings()
    assert row.reason == "it answered 404"


# -- tags --------------------------------------------------------------------------------------------------------------


def test_published_packages_are_tagged_once(github: World) -> None:
    github.ledger.now(projects.update, "shop", {"targets": (NpmSettings(),)}, 1)
    for commit in (A, B):  # a later build has the same version: it was published already
        attempt = github.queue(commit)
        github.run(attempt)
        build = int(attempt.partition("-")[0])
        package = Package(file="ui.tgz", name="ui", version="1.2.0", integrity="sha512-x", git_tag="v1.2.0",
                          notes="- faster")  # fmt: skip
        github.ledger.now(_give, build, package)
        now = github.server.now()
        result = Result(
            outcome="succeeded", lines=0, sha256="", started=now, ended=now, commit=commit,
            published=[Published(target="npm", name="ui", version="1.2.0", integrity="sha512-x", status="published")],
        )  # fmt: skip
        github.ledger.now(attempts.finish, attempt, Holder("a" * 16, "one"), result, True, now)
        github.wake()
    assert list(github.github.releases) == ["v1.2.0"]
    assert github.github.releases["v1.2.0"]["target_commitish"] == A
    assert github.github.releases["v1.2.0"]["body"] == "- faster"


def _give(connection: Connection, build: int, package: Package) -> None:
    values = {"package": to_json(package)}
    changed = connection.execute(update(deliveries).where(deliveries.c.build_id == build).values(**values))
    if not changed.rowcount:
        connection.execute(insert(deliveries).values(build_id=build, number=1, target="npm", lease="a" * 16,
                                                     settings="{}", **values))  # fmt: skip
