"""
Packages that the apiserver publishes, on an apiserver in memory: its builder uploads them and is done; a process of the
apiserver's publishes them, once, whatever dies in between; another person may have to approve it first.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, select, text
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from tests.storage_fixtures import add_build
from tests.test_server_builders import Builder
from twistedipc.builds import messages as m
from twistedipc.builds import names
from twistedipc.builds.attempt import Package, Packed, Permit, Published, Result
from twistedipc.builds.logs import Event, Lines, LogDigest, Notice, StepEnded, StepStarted, batch_decoder
from twistedipc.builds.states import AttemptState, PublicationState
from twistedipc.ipc import CallFailed
from twistedipc.publish.record import Facts, Outcome, Step
from twistedipc.publish.stored import Delivered, Needs, Row, StepBegins, StepEnds
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.server.discarding import Discarding
from twistedipc.server.rejecting import REJECTED_AGAIN
from twistedipc.server.workflows import RETRY_INTERVAL
from twistedipc.storage import builds, logs, package_requests, projects, publications, retention
from twistedipc.storage.errors import NotAllowed
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import Actor, AttemptRow, Place, PublicationRow
from twistedipc.storage.tables import audit

COMMIT = "c" * 40
REGISTRY = "https://r.example/"
TOKEN = "npm_S3cretOfTheRegistry"
DATA = [b"the first tarball", b"the second"]
ANN, BOB = Actor(who="ann", token=1), Actor(who="bob", token=2)
S = AttemptState


def package(number: int, data: bytes) -> Package:
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    return Package(file=f"package/{number}/p.tgz", name=f"@acme/p{number}", version="1.0.0", integrity=integrity)


PACKAGES = [package(number, data) for number, data in enumerate(DATA)]


class World:
    """An apiserver, a builder, and an attempt that has packed two packages."""

    def __init__(
        self,
        folder: Path,
        *,
        approval: int = 0,
        npm: NpmSettings | None = None,
        api_url: str = "http://api.example",
        features: Sequence[str] = m.FEATURES,
    ) -> None:
        self.folder = folder
        self.ledger = InstantLedger()
        self.clock = Clock()
        self.api_url = api_url
        self.apiserver = Apiserver(folder, self.ledger, self.clock, api_url=api_url)
        npm = npm or NpmSettings(registry=REGISTRY, publish_at="apiserver", packages=["@acme/*"])
        self.attempt = self.ledger.queue(targets=(npm,))
        self.ledger.now(projects.update, "hello", {"approval": approval}, 6)
        if npm.auth != "oidc":
            sealed = self.apiserver.secret_box.seal(TOKEN)
            self.ledger.now(projects.set_secret, "hello", "npm_token", sealed, 7)
        self.builder = Builder(self.apiserver)
        self.builder.sync(features=features)
        (self.offer,) = self.builder.take(m.Offer)
        self.builder.run(self.offer)
        events: list[Event] = [StepStarted(0, "checkout", ""), StepEnded(0, "succeeded", 1, 0)]
        events += [StepStarted(1, "pack", ""), StepEnded(1, "succeeded", 1, 0)]
        self.batch = Lines(1, 1000, 0, list(events))
        self.builder.log(self.offer, self.batch)

    @property
    def row(self) -> AttemptRow:
        return self.apiserver.row(self.attempt)

    @property
    def publications(self) -> list[PublicationRow]:
        return self.ledger.now(publications.of_attempt, self.attempt)

    def permit(self) -> Permit:
        want = m.WantPermit(attempt=self.offer.attempt, lease=self.offer.lease, package=PACKAGES[0], also=PACKAGES[1:])
        return self.builder.call(want, Permit)

    def want_upload(self, position: int, data: bytes) -> m.UploadGrant:
        want = m.WantUpload(
            attempt=self.offer.attempt, lease=self.offer.lease, size=len(data),
            sha256=hashlib.sha256(data).hexdigest(), target="npm", position=position,
        )  # fmt: skip
        return self.builder.call(want, m.UploadGrant)

    def upload(self, position: int, data: bytes) -> None:
        """As the API takes it."""
        grant = self.want_upload(position, data)
        target = self.apiserver.grants.grant_for(self.attempt, grant.token)
        assert target is not None
        self.apiserver.artifacts.append(target.upload, 0, data)
        self.apiserver.artifacts.complete(target.upload, target.size, target.sha256, target.integrity)
        of = (target.attempt, target.target, target.position)
        self.ledger.now(publications.note_stored, *of, target.sha256, self.apiserver.now())

    def built(self, **said: object) -> None:
        """The builder is done."""
        digest = LogDigest()
        digest.add(self.batch)
        packed = [
            Packed(target="npm", position=number, file="x", size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for number, data in enumerate(DATA)
        ]
        result = Result(outcome="succeeded", lines=4, sha256=digest.hexdigest(), started=1000, ended=1001,
                        commit=COMMIT, packed=packed)  # fmt: skip
        result = msgspec.structs.replace(result, **said)
        self.builder.say(m.Final(attempt=self.offer.attempt, lease=self.offer.lease, result=result))
        self.clock.advance(1)

    def all_stored(self) -> None:
        """All the way to the builder's end."""
        assert self.permit().store
        for position, data in enumerate(DATA):
            self.upload(position, data)
        self.built()

    def restarted(self) -> None:
        """The apiserver was killed, and is started again."""
        self.apiserver = Apiserver(self.folder, self.ledger, self.clock, api_url=self.api_url)

    def files(self) -> list[Path]:
        return [path for path in (self.folder / "artifacts/complete").rglob("*") if path.is_file()]

    def log(self) -> list[object]:
        chunks = self.ledger.now(logs.read, self.attempt, 1, 1 << 20)
        batches = [batch_decoder.decode(line) for chunk in chunks for line in chunk.data.splitlines()]
        return [record for batch in batches if isinstance(batch, Lines) for record in batch.lines]

    def audited(self) -> list[str]:
        return self.ledger.now(_actions)

    def ask(self, work: object) -> object:
        results: list[object] = []
        Deferred.fromCoroutine(work).addBoth(results.append)  # type: ignore[arg-type]
        return results[0]


def _actions(connection: Connection) -> list[str]:
    wanted = audit.c.action.like("p%.%") & audit.c.action.not_like("project.%")
    return list(connection.execute(select(audit.c.action).where(wanted).order_by(audit.c.id)).scalars())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def approved(tmp_path: Path) -> World:
    return World(tmp_path, approval=1)


def test_the_builder_uploads_and_the_apiserver_publishes(world: World) -> None:
    permit = world.permit()
    assert permit == Permit(granted=True, packages=2, store=True)
    world.all_stored()
    assert world.builder.take(m.FinalAck)
    assert world.row.state is S.DELIVERING
    assert {each.state for each in world.publications} == {PublicationState.STORED}
    (job,) = world.apiserver.programs.jobs
    assert [Path(path).read_bytes() for path in job.tarballs] == DATA
    assert [(each.name, each.integrity) for each in job.packages] == [(p.name, p.integrity) for p in PACKAGES]
    assert job.secrets == {"npm_token": TOKEN}
    world.apiserver.programs.say("npm notice", "done")
    world.apiserver.programs.ends(world.attempt)
    row = world.row
    assert (row.state, row.reason, [each.name for each in row.published]) == (S.SUCCEEDED, "", ["@acme/p0", "@acme/p1"])
    assert [(step.name, step.outcome) for step in row.steps][-1] == ("publish", "succeeded")
    assert world.log()[4:7] == [StepStarted(2, "publish", ""), "npm notice", "done"]
    assert (row.lines, row.complete) == (8, True)
    assert row.sha256 == world.ledger.now(logs.verify, world.attempt)[1]
    assert {each.state for each in world.publications} == {PublicationState.PUBLISHED}
    assert world.audited() == ["package.new"] * 2 + ["permit.store"] * 2 + ["permit.give"] * 2 + ["package.publish"] * 2
    assert world.files() == []  # the registry has them


def test_what_a_viewer_was_shown_before_a_crash_is_what_is_there_afterwards(world: World) -> None:
    world.all_stored()
    world.apiserver.programs.say("before")
    shown = world.log()
    world.restarted()
    assert world.log()[: len(shown)] == shown
    assert isinstance(world.log()[len(shown)], Notice)  # it says that it was stopped
    assert world.apiserver.programs.running == [world.attempt]
    world.apiserver.programs.ends(world.attempt)
    assert world.row.state is S.SUCCEEDED
    assert [step.name for step in world.row.steps].count("publish") == 1
    assert world.audited().count("permit.give") == 2


def test_what_a_request_has_locked_when_a_crash_came_stops_no_publication(world: World) -> None:
    world.all_stored()
    world.ledger.now(publications.take_locks, names.place(REGISTRY), ["@acme/old"], package_requests.holder(7), 5)
    world.restarted()
    assert world.apiserver.programs.running == [world.attempt]
    world.apiserver.programs.ends(world.attempt)
    assert world.row.state is S.SUCCEEDED


def test_a_stop_in_the_middle_is_no_failure(world: World) -> None:
    world.all_stored()
    world.apiserver.server.delivering.stop()
    assert world.row.state is S.DELIVERING
    assert {each.state for each in world.publications} == {PublicationState.STORED}
    world.apiserver.server.bell.ring(Topic.DELIVERY)
    assert len(world.apiserver.programs.jobs) == 1
    world.restarted()
    world.apiserver.programs.ends(world.attempt)
    assert world.apiserver.state(world.attempt) is S.SUCCEEDED


@pytest.mark.parametrize("committed", range(12))
def test_killed_after_any_commit_it_ends_well(tmp_path: Path, committed: int) -> None:
    """The ledger takes so many more writes before the apiserver is killed. It publishes no package that is noted."""
    world = World(tmp_path)
    world.permit()
    for position, data in enumerate(DATA):
        world.upload(position, data)
    world.ledger.held = []
    world.built()
    for _ in range(committed):
        if world.ledger.held:
            world.ledger.held.pop(0).callback(None)
        elif world.apiserver.programs.running:
            world.apiserver.programs.ends(world.attempt)
    noted = {each.state for each in world.publications} == {PublicationState.PUBLISHED}
    world.ledger.held = None
    world.restarted()
    builder = Builder(world.apiserver)
    held = m.HeldAttempt(attempt=world.attempt, lease=world.offer.lease, phase="ended", next=5)
    (order,) = builder.sync(held).orders
    if order.order == "continue":
        world.builder = builder
        world.built()
    assert bool(world.apiserver.programs.jobs) != noted
    if not noted:
        world.apiserver.programs.ends(world.attempt)
    assert world.row.state is S.SUCCEEDED
    assert len(world.row.published) == 2
    assert world.files() == []


def test_what_is_not_published_says_why(world: World) -> None:
    world.all_stored()
    one = Published(name="@acme/p0", version="1.0.0", integrity=PACKAGES[0].integrity, status="published")
    foreign = Published(name="left-pad", version="9.9.9", integrity="sha512-x", status="published")
    world.apiserver.programs.ends(world.attempt, Delivered(published=[one, foreign], reason="the registry forbids it"))
    row = world.row
    assert (row.state, row.reason) == (S.FAILED, "the registry forbids it")
    assert [each.name for each in row.published] == ["@acme/p0"]
    assert [each.state.value for each in world.publications] == ["published", "failed"]
    assert world.files() == []


def test_a_process_that_says_nothing_has_not_published(world: World) -> None:
    world.all_stored()
    world.apiserver.programs.ends(world.attempt, Delivered())
    assert "didn't say why" in world.row.reason
    assert world.row.state is S.FAILED


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"targets": ()}, "publishes no npm package any more"),
        (
            {"targets": (NpmSettings(registry="https://other.example/", publish_at="apiserver"),)},
            "has changed since this build began",
        ),
        (
            {"targets": (NpmSettings(registry=REGISTRY, publish_at="apiserver", packages=["@acme/p0"]),)},
            "may publish @acme/p0",
        ),
    ],
)
def test_a_project_that_has_changed_since(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    world = World(tmp_path, approval=1)
    world.all_stored()
    world.ledger.now(projects.update, "hello", change, 9)
    world.ask(world.apiserver.lifecycle.approve_build(1, BOB))
    assert world.row.state is S.FAILED
    assert sentence in world.row.reason
    assert world.apiserver.programs.jobs == []


def test_a_builder_that_uploads_less_than_it_says_has_failed(world: World) -> None:
    world.permit()
    world.upload(0, DATA[0])
    world.built()
    assert world.row.state is S.FAILED
    assert "@acme/p1 has not arrived" in world.row.reason
    assert world.apiserver.programs.jobs == []
    assert [each.state.value for each in world.publications] == ["dropped", "dropped"]
    world.restarted()
    assert world.files() == []


def test_what_may_be_uploaded(world: World) -> None:
    with pytest.raises(CallFailed, match="has no permit"):
        world.want_upload(0, DATA[0])
    world.permit()
    with pytest.raises(CallFailed, match="has no permit"):
        world.want_upload(2, b"x")
    world.want_upload(0, DATA[0])
    with pytest.raises(CallFailed, match="another file"):
        world.want_upload(0, b"a longer file than that")
    world.upload(0, DATA[0])
    assert world.want_upload(0, DATA[0]).complete


def test_no_package_is_published_whose_commit_is_on_no_protected_ref(world: World) -> None:
    world.permit()
    for position, data in enumerate(DATA):
        world.upload(position, data)
    world.built(protected="")
    assert world.row.state is S.FAILED
    assert "isn't on a protected ref" in world.row.reason
    assert world.apiserver.programs.jobs == []


def test_a_builder_of_before_is_offered_nothing_that_it_would_have_to_store(tmp_path: Path) -> None:
    apiserver = Apiserver(tmp_path, InstantLedger(), Clock())
    attempt = apiserver.ledger.queue(targets=(NpmSettings(registry=REGISTRY, publish_at="apiserver"),))
    old = Builder(apiserver)
    old.sync(features=[each for each in m.FEATURES if each != "stored"])
    assert old.take(m.Offer) == []
    waiting = apiserver.dispatch.why_waiting(apiserver.row(attempt), Place())
    assert waiting is not None
    assert "upload packages that the apiserver publishes" in waiting.text


def test_lines_whose_commit_seemed_to_fail_are_there_once(world: World) -> None:
    world.all_stored()
    world.ledger.unheard = 1
    world.apiserver.programs.say("once")
    world.clock.advance(RETRY_INTERVAL)
    world.apiserver.programs.ends(world.attempt)
    assert world.log().count("once") == 1
    assert world.row.state is S.SUCCEEDED
    assert world.row.sha256 == world.ledger.now(logs.verify, world.attempt)[1]


def test_the_log_goes_on_though_the_builder_goes(world: World) -> None:
    """With a viewer that comes after that."""
    world.all_stored()
    world.builder.lose()
    before = _read(world)
    world.apiserver.programs.say("after")
    assert len(_read(world)) == len(before) + 1
    world.apiserver.programs.ends(world.attempt)
    assert _read(world)[-1] == "succeeded"
    assert world.log().count("after") == 1


def test_what_a_builder_sends_after_its_end_is_not_taken(world: World) -> None:
    world.all_stored()
    world.builder.log(world.offer, Lines(5, 1002, 0, ["too late"]))
    world.clock.advance(1)
    world.apiserver.programs.say("npm notice")
    world.apiserver.programs.ends(world.attempt)
    assert "too late" not in world.log()
    assert world.row.state is S.SUCCEEDED


# -- approval


def test_another_person_approves_what_is_published(approved: World) -> None:
    approved.all_stored()
    assert approved.apiserver.state(approved.attempt) is S.WAITING_APPROVAL
    assert approved.apiserver.programs.jobs == []
    approved.ledger.now(_asked_by, ANN)
    with pytest.raises(NotAllowed):
        raise approved.ask(approved.apiserver.lifecycle.approve_build(1, ANN)).value  # type: ignore[attr-defined]
    approved.restarted()
    assert approved.apiserver.programs.jobs == []
    begun = approved.ask(approved.apiserver.lifecycle.approve_build(1, BOB))
    assert isinstance(begun, AttemptRow)
    assert begun.state is S.DELIVERING
    approved.apiserver.programs.ends(approved.attempt)
    assert approved.row.state is S.SUCCEEDED
    assert approved.row.decision is not None
    assert approved.log()[4] == StepStarted(2, "publish", "")


def test_a_log_that_was_over_goes_on_for_viewers(approved: World) -> None:
    approved.all_stored()
    before = _read(approved)
    assert before[-1] == "waiting_approval"
    approved.ask(approved.apiserver.lifecycle.approve_build(1, BOB))
    approved.apiserver.programs.say("npm notice")
    assert _read(approved)[len(before) - 1 :] == ["lines", "lines"]  # the step, and its output; no end yet
    approved.apiserver.programs.ends(approved.attempt)
    assert _read(approved)[-1] == "succeeded"


def test_what_is_refused_is_dropped(approved: World) -> None:
    approved.all_stored()
    assert len(approved.files()) == 2
    approved.ask(approved.apiserver.lifecycle.refuse_build(1, "not on a Friday", BOB))
    assert approved.row.state is S.CANCELLED
    assert [each.state.value for each in approved.publications] == ["dropped", "dropped"]
    assert approved.files() == []
    assert approved.apiserver.programs.jobs == []


def test_what_is_cancelled_while_it_waits_is_dropped(approved: World) -> None:
    approved.all_stored()
    approved.ask(approved.apiserver.lifecycle.cancel_build(1, "no", BOB))
    assert approved.row.state is S.CANCELLED
    assert approved.files() == []


def test_a_cancellation_ends_the_process(world: World) -> None:
    world.all_stored()
    world.ask(world.apiserver.lifecycle.cancel_build(1, "cancelled by bob", BOB))
    assert world.row.state is S.DELIVERING
    assert world.apiserver.programs.told_to_end == [world.attempt]
    one = Published(name="@acme/p0", version="1.0.0", integrity=PACKAGES[0].integrity, status="published")
    world.apiserver.programs.ends(world.attempt, Delivered(published=[one], reason="it was cancelled"))
    row = world.row
    assert (row.state, row.reason, len(row.published)) == (S.CANCELLED, "cancelled by bob", 1)


def test_a_cancellation_that_comes_too_late_changes_nothing(world: World) -> None:
    world.all_stored()
    world.ask(world.apiserver.lifecycle.cancel_build(1, "cancelled by bob", BOB))
    world.apiserver.programs.ends(world.attempt)
    assert world.row.state is S.SUCCEEDED


def test_a_file_that_another_attempt_needs_stays(tmp_path: Path) -> None:
    """Two attempts have packed the same: the second waits."""
    world = World(tmp_path, approval=1)
    world.all_stored()
    first = world.attempt
    second = _another(world)
    world.ask(world.apiserver.lifecycle.refuse_build(1, "", BOB))
    assert {each.state.value for each in world.ledger.now(publications.of_attempt, first)} == {"dropped"}
    assert len(world.files()) == 2
    world.ask(world.apiserver.lifecycle.approve_build(2, BOB))
    world.apiserver.programs.ends(second)
    assert world.files() == []


def test_no_package_waits_for_files_that_are_deleted(world: World) -> None:
    """Pruning may have noted thousands of files, of gigabytes."""
    deleted: Deferred[Any] = Deferred()

    def in_thread(_function: Any, /, *_args: object) -> Deferred[Any]:
        return deleted

    delivering = world.apiserver.server.delivering
    delivering._files = Discarding(world.apiserver.artifacts, in_thread)
    world.ledger.now(retention.note_files, ["ab" * 32])
    delivering.wake()
    world.all_stored()
    assert len(world.apiserver.programs.jobs) == 1
    deleted.callback(None)
    assert not world.ledger.now(retention.any_files)


def _another(world: World) -> str:
    build, _new = world.ledger.now(
        builds.create, project="hello", ref="main", publish=True, may_publish=True, parameters={}, by=Actor(who="ann"),
        now=9, idempotency=None,
    )  # fmt: skip
    world.apiserver.server.bell.ring(Topic.QUEUE)
    world.attempt = f"{build.id}-1"
    (world.offer,) = world.builder.take(m.Offer)
    world.builder.run(world.offer)
    world.builder.log(world.offer, world.batch)
    world.all_stored()
    return world.attempt


def _asked_by(connection: Connection, who: Actor) -> None:
    connection.execute(text("UPDATE attempts SET asker = :token"), {"token": who.token})


def _read(world: World) -> Sequence[str]:
    """What a viewer that comes now reads: the kinds of the messages, and the state that the end says."""
    found: list[str] = []
    cursor = world.apiserver.logs.cursor(world.attempt, 0, lambda: None)
    for _ in range(10):
        run = cursor.take(1 << 20)
        if run is None:
            Deferred.fromCoroutine(cursor.fetch())
            continue
        for entry in run:
            said = msgspec.json.decode(entry.message)
            found.append(said["state"] if said["type"] == "end" else said["type"])
    cursor.close()
    return found


# -- steps, and a person


class Steps:
    """The newest process, which has its steps written down."""

    def __init__(self, world: World) -> None:
        self._world = world

    def say(self, row: Row) -> str:
        """Have a row written down. Return why it isn't."""
        results: list[object] = []
        self._world.apiserver.programs.writes[-1](row).addBoth(results.append)
        return "" if results == [None] else str(results)

    def done(self, position: int, step: Step, reached: PublicationState | None = None, **facts: Any) -> None:
        """A step begins, and ends well."""
        assert self.say(StepBegins(position=position, step=step)) == ""
        ends = StepEnds(position=position, step=step, outcome=Outcome.DONE, reached=reached, facts=Facts(**facts))
        assert self.say(ends) == ""

    def staged(self) -> None:
        """All is in the stage, and a person is needed."""
        for position in range(2):
            self.done(position, Step.PREFLIGHT, PublicationState.CHECKED, mode="staged", registry=REGISTRY)
        for position in range(2):
            self.done(position, Step.STAGE, PublicationState.STAGED, stage=f"s{position}")
        needs = Needs(reason="2 packages are staged: a person is to approve")
        self._world.apiserver.programs.ends(self._world.attempt, Delivered(needs=needs))

    def published(self) -> None:
        """All is approved and published."""
        for position in range(2):
            self.done(position, Step.APPROVE, PublicationState.APPROVED)
            self.done(position, Step.VERIFY, PublicationState.PRESENT, status="published")
        for position in range(2):
            self.done(position, Step.VERIFY, PublicationState.PUBLISHED)


def test_what_is_staged_waits_for_a_person_and_holds_nothing(world: World) -> None:
    world.all_stored()
    steps = Steps(world)
    steps.staged()
    row = world.row
    assert (row.state, row.reason) == (S.WAITING_APPROVAL, "2 packages are staged: a person is to approve")
    assert world.apiserver.programs.running == []
    assert world.ledger.now(publications.take_locks, REGISTRY, ["@acme/p0"], "9-1", 1) == ""
    world.ledger.now(publications.free_locks, "9-1")
    assert _read(world)[-1] == "waiting_approval"
    world.restarted()
    assert world.apiserver.programs.running == []
    # Nobody else is asked for, where the project doesn't want another person.
    world.ledger.now(_asked_by, ANN)
    begun = world.ask(world.apiserver.lifecycle.approve_build(1, ANN, "123456"))
    assert isinstance(begun, AttemptRow)
    assert begun.state is S.DELIVERING
    start = world.apiserver.programs.jobs[-1].start
    assert (start.otp, start.set_tag) == ("123456", "build-1")
    assert [(each.state, each.facts.stage) for each in start.standings] == [
        (PublicationState.STAGED, "s0"), (PublicationState.STAGED, "s1"),
    ]  # fmt: skip
    assert [each.step for each in start.steps] == [Step.PREFLIGHT] * 2 + [Step.STAGE] * 2
    steps = Steps(world)
    steps.published()
    world.apiserver.programs.ends(world.attempt, Delivered())
    row = world.row
    assert row.state is S.SUCCEEDED
    assert [(each.name, each.registry) for each in row.published] == [("@acme/p0", REGISTRY), ("@acme/p1", REGISTRY)]
    assert {each.approved_by for each in world.publications} == {"ann"}
    assert row.sha256 == world.ledger.now(logs.verify, world.attempt)[1]


def test_a_password_is_asked_for_again_but_no_other_person(approved: World) -> None:
    approved.all_stored()
    approved.ledger.now(_asked_by, ANN)
    approved.ask(approved.apiserver.lifecycle.approve_build(1, BOB))
    Steps(approved).staged()
    assert approved.apiserver.state(approved.attempt) is S.WAITING_APPROVAL
    approved.ask(approved.apiserver.lifecycle.approve_build(1, ANN, "1"))
    assert approved.apiserver.state(approved.attempt) is S.DELIVERING
    assert approved.row.decision is not None
    assert approved.row.decision.who == "bob"
    refused = Needs(reason="the registry refuses the one-time password", password=True)
    approved.apiserver.programs.ends(approved.attempt, Delivered(needs=refused))
    assert (approved.row.state, approved.row.reason) == (S.WAITING_APPROVAL, refused.reason)


def test_a_password_is_nowhere(world: World) -> None:
    """Not in the ledger, the audit or a log; and it is used once."""
    world.all_stored()
    Steps(world).staged()
    world.ask(world.apiserver.lifecycle.approve_build(1, ANN, "one-time-918273"))
    assert world.apiserver.programs.jobs[-1].start.otp == "one-time-918273"
    connection: Any = world.ledger.engine.raw_connection()
    dump = "\n".join(connection.driver_connection.iterdump())
    assert "918273" not in dump
    assert "build.approve" in dump
    world.restarted()
    assert [each.start.otp for each in world.apiserver.programs.jobs] == [""]


def test_what_is_staged_and_refused_is_taken_back(world: World) -> None:
    world.all_stored()
    Steps(world).staged()
    world.ask(world.apiserver.lifecycle.refuse_build(1, "no", BOB, "123456"))
    assert world.row.state is S.CANCELLED
    job = world.apiserver.programs.jobs[-1]
    assert (job.start.what, job.start.otp) == ("reject", "123456")
    steps = Steps(world)
    for position in range(2):
        steps.done(position, Step.REJECT, PublicationState.REJECTED)
    world.apiserver.programs.ends(world.attempt, Delivered())
    assert {each.state for each in world.publications} == {PublicationState.REJECTED}
    world.clock.advance(2 * REJECTED_AGAIN)
    assert world.apiserver.programs.running == []


def test_tags_of_what_is_refused_in_the_middle_are_moved_back(world: World) -> None:
    """Both packages are in the registry, and the tag of the first one is moved, when the password runs out."""
    in_the_middle(world)
    world.ledger.now(publications.take_locks, names.place(REGISTRY), ["@acme/p1"], "9-1", 5)
    world.ask(world.apiserver.lifecycle.refuse_build(1, "no", BOB, "123456"))
    assert world.row.state is S.CANCELLED
    assert world.apiserver.programs.running == []  # another build has one of them now
    world.ledger.now(publications.free_locks, "9-1")
    world.apiserver.server.bell.ring(Topic.DELIVERY)
    assert world.apiserver.programs.running == [world.attempt]
    start = world.apiserver.programs.jobs[-1].start
    assert (start.what, start.steps[-1].detail) == ("reject", "latest from 0.9.0")
    assert world.ledger.now(publications.take_locks, names.place(REGISTRY), ["@acme/p1"], "9-1", 5) == world.attempt
    steps = Steps(world)
    for position in range(2):
        steps.done(position, Step.REJECT, PublicationState.DROPPED)
    world.apiserver.programs.ends(world.attempt, Delivered())
    assert world.ledger.now(publications.take_locks, names.place(REGISTRY), ["@acme/p1"], "9-1", 5) == ""
    world.clock.advance(2 * REJECTED_AGAIN)
    assert world.apiserver.programs.running == []


def test_tags_that_a_newer_build_has_moved_stay(world: World) -> None:
    in_the_middle(world)
    world.ledger.now(_published_by_another, 2)
    world.ask(world.apiserver.lifecycle.refuse_build(1, "no", BOB))
    assert world.apiserver.programs.running == []
    assert {each.state for each in world.publications} == {PublicationState.DROPPED}
    assert {each.reason for each in world.publications} == {"a newer build has published it"}


def in_the_middle(world: World) -> None:
    world.all_stored()
    steps = Steps(world)
    for position in range(2):
        steps.done(position, Step.PREFLIGHT, PublicationState.CHECKED, mode="direct", registry=REGISTRY)
        steps.done(position, Step.UPLOAD)
        steps.done(position, Step.VERIFY, PublicationState.PRESENT, status="published")
    assert steps.say(StepBegins(position=0, step=Step.TAG, detail="latest from 0.9.0")) == ""
    assert steps.say(StepEnds(position=0, step=Step.TAG, outcome=Outcome.DONE)) == ""
    needs = Needs(reason="@acme/p1@1.0.0 can't be tagged yet: the registry wants a one-time password", password=True)
    world.apiserver.programs.ends(world.attempt, Delivered(needs=needs))
    assert world.row.state is S.WAITING_APPROVAL


def _published_by_another(connection: Connection, build: int) -> None:
    """The same versions are published by a newer build."""
    add_build(connection, "hello")
    attempt = f"{build}-1"
    publications.add(connection, attempt, "npm", PACKAGES, 9)
    for position in range(2):
        publications.begin_upload(connection, attempt, "npm", position, 10, 9)
        publications.note_stored(connection, attempt, "npm", position, f"{position:064}", 9)
    publications.end(connection, attempt, "npm", [each.name for each in PACKAGES], "", 9)


def test_what_can_not_be_taken_back_is_tried_again(world: World) -> None:
    world.all_stored()
    Steps(world).staged()
    world.ask(world.apiserver.lifecycle.cancel_build(1, "no", BOB))
    assert world.row.state is S.CANCELLED
    assert world.apiserver.programs.jobs[-1].start.what == "reject"
    world.apiserver.programs.ends(world.attempt, Delivered(needs=Needs(reason="a password is needed", password=True)))
    count = len(world.apiserver.programs.jobs)
    world.clock.advance(REJECTED_AGAIN)
    assert len(world.apiserver.programs.jobs) == count + 1


def test_a_step_that_can_not_be_is_not_written_down(world: World) -> None:
    world.all_stored()
    steps = Steps(world)
    assert "no package 7" in steps.say(StepBegins(position=7, step=Step.UPLOAD))
    assert "is under way" in steps.say(StepEnds(position=0, step=Step.UPLOAD, outcome=Outcome.DONE))
    steps.say(StepBegins(position=0, step=Step.APPROVE))
    ends = StepEnds(position=0, step=Step.APPROVE, outcome=Outcome.DONE, reached=PublicationState.APPROVED)
    assert "stored can't become approved" in steps.say(ends)


def test_another_set_waits_for_a_package_of_this_one(world: World) -> None:
    world.all_stored()
    first = world.attempt
    second = _another(world)
    assert world.apiserver.programs.running == [first]
    assert any("waiting for build 1, which changes packages of this set now" in str(each) for each in world.log())
    world.apiserver.programs.ends(first)
    assert world.apiserver.programs.running == [second]
    world.apiserver.programs.ends(second)
    assert world.row.state is S.SUCCEEDED


def test_what_a_crash_has_locked_is_free_again(world: World) -> None:
    world.ledger.now(publications.take_locks, REGISTRY, ["@acme/p0"], "1-7", 1)
    world.restarted()
    world.ledger.now(publications.take_locks, REGISTRY, ["@acme/p0"], "2-1", 1)
    assert world.ledger.now(publications.take_locks, REGISTRY, ["@acme/p0"], "1-1", 1) == "2-1"


def test_interrupted_while_tags_are_moved_it_goes_on(world: World) -> None:
    """A cancellation that comes there is too late."""
    world.all_stored()
    steps = Steps(world)
    for position in range(2):
        steps.done(position, Step.PREFLIGHT, PublicationState.CHECKED, mode="direct", registry=REGISTRY)
        steps.done(position, Step.VERIFY, PublicationState.PRESENT, status="published")
    steps.done(0, Step.TAG)
    world.apiserver.programs.ends(world.attempt, Delivered(reason="it took too long", interrupted=True))
    assert world.apiserver.programs.running == [world.attempt]
    steps = Steps(world)
    steps.done(1, Step.TAG)
    for position in range(2):
        steps.done(position, Step.VERIFY, PublicationState.PUBLISHED)
    world.apiserver.programs.ends(world.attempt, Delivered())
    assert world.row.state is S.SUCCEEDED
