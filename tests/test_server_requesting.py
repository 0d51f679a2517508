"""
What people ask to be done with published packages, and tags that somebody else moves, on an apiserver in memory with a
registry in memory.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, select
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from tests.storage_fixtures import run
from twistedipc.builds import names
from twistedipc.builds.attempt import Package
from twistedipc.builds.states import PublicationState as P
from twistedipc.builds.states import RequestState as S
from twistedipc.publish.asking import Answered, Changed, Question, Seen, StageSeen
from twistedipc.publish.record import Facts, Outcome, Step
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.server.watching import INTERVAL, PAUSE
from twistedipc.storage import package_requests, package_tags, projects, publications
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.rows import Actor, PackageRequestRow
from twistedipc.storage.tables import audit

REGISTRY = "https://r.example/"
PLACE = names.place(REGISTRY)  # as its packages are locked
UI = "@acme/ui"
ANN = Actor(who="ann", token=1)
TOKEN, OTP = "npm_S3cret", "123456"


class World:
    """An apiserver that has published 1.0.0, 1.1.0 and 1.2.0 of a package, each as the latest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = InstantLedger()
        self.clock = Clock()
        self.versions = {"1.0.0": "", "1.1.0": "", "1.2.0": ""}  # in the registry, with their deprecations
        self.tags = {"latest": "1.2.0"}
        self.otp = ""  # that the registry wants
        self.busy = 0.0
        self.stages: set[str] = set()
        self.start()
        self.ledger.project(targets=(NpmSettings(registry=REGISTRY, publish_at="apiserver", packages=["@acme/*"]),))
        sealed = self.apiserver.secret_box.seal(TOKEN)
        self.ledger.now(projects.set_secret, "hello", "npm_token", sealed, 7)
        for version, before in (("1.0.0", ""), ("1.1.0", "1.0.0"), ("1.2.0", "1.1.0")):
            self.publish(version, before)

    def start(self) -> None:
        """The apiserver is started, perhaps again."""
        self.apiserver = Apiserver(self.folder, self.ledger, self.clock)
        programs = self.apiserver.ask_programs
        programs.answers = self.answer
        for question, waiting in list(zip(programs.asked, programs.waiting, strict=True)):
            waiting.callback(self.answer(question))  # what is gone on with at once
        self.apiserver.time = self.ledger.now(_time) + 10

    def publish(self, version: str, before: str) -> None:
        attempt = self.ledger.queue()

        def write(connection: Connection) -> None:
            now = self.apiserver.now
            run(connection, attempt, lease=attempt)
            packed = [Package(file="x", name=UI, version=version, integrity=f"sha512-{version}")]
            publications.add(connection, attempt, "npm", packed, now())
            publications.begin_upload(connection, attempt, "npm", 0, 10, now())
            publications.note_stored(connection, attempt, "npm", 0, version, now())
            steps: list[tuple[Step, P | None]] = [(Step.PREFLIGHT, P.CHECKED), (Step.UPLOAD, P.PRESENT)]
            steps += [(Step.TAG, None), (Step.VERIFY, P.PUBLISHED)]
            for step, reached in steps:
                publications.begin_step(connection, attempt, "npm", 0, step, "", now())
                facts = Facts(registry=REGISTRY, tag_before=before, status="published")
                publications.end_step(connection, attempt, "npm", 0, step, Outcome.DONE, now(), reached=reached,
                                      facts=facts)  # fmt: skip

        self.ledger.now(write)

    def answer(self, question: Question) -> Answered:
        """As the process does, and the registry behind it."""
        assert question.secrets == {"npm_token": TOKEN}
        assert question.settings["registry"] == REGISTRY
        if self.busy:
            unknown = [Seen(name=each.name, registry=REGISTRY, unknown="busy") for each in question.looks]
            return Answered(seen=unknown, after=self.busy)
        seen = [
            Seen(name=each.name, registry=REGISTRY, tags=dict(self.tags),
                 versions={version: self.versions[version] for version in each.versions if version in self.versions})
            for each in question.looks
        ]  # fmt: skip
        stages = [StageSeen(stage=each.stage, waits=each.stage in self.stages) for each in question.stages]
        return Answered(seen=seen, stages=stages, changed=self._changed(question))

    def _changed(self, question: Question) -> Changed | None:
        change = question.change
        if change is None:
            return None
        if change.kind == "untag":
            return Changed(outcome="done" if self.tags.pop(change.tag, "") else "already")
        if change.version not in self.versions:
            return Changed(outcome="refused", reason=f"{change.name}@{change.version} isn't in the registry")
        if change.kind == "tag" and self.tags.get(change.tag, "") == change.version:
            return Changed(outcome="already")
        if question.otp != self.otp:
            return Changed(outcome="password", reason="refused" if question.otp else "")
        if change.kind == "tag":
            if self.tags.get(change.tag, "") != change.expected:
                return Changed(outcome="moved", reason="it was moved")
            self.tags[change.tag] = change.version
        else:
            self.versions[change.version] = change.message
        return Changed(outcome="done")

    def ask(self, kind: str, *, version: str = "", tag: str = "latest", message: str = "", otp: str = "",
            package: str = UI) -> PackageRequestRow:  # fmt: skip
        """What became of a request, as far as that is known at once."""
        tag = "" if "deprecate" in kind else tag
        row = self.result(
            self.apiserver.server.requesting.request(
                project="hello", package=package, kind=kind, tag=tag, version=version, message=message, otp=otp, by=ANN
            )
        )
        return self.row(row.id)

    def result(self, work: object) -> PackageRequestRow:
        results: list[PackageRequestRow] = []
        failures: list[Exception] = []
        Deferred.fromCoroutine(work).addCallbacks(  # type: ignore[arg-type]
            results.append, lambda failure: failures.append(failure.value)
        )
        if failures:
            raise failures[0]
        return results[0]

    def row(self, number: int) -> PackageRequestRow:
        row = self.ledger.now(package_requests.get, "hello", number)
        assert row is not None
        return row

    def round(self) -> None:
        self.apiserver.time += int(INTERVAL * 1000)
        self.clock.advance(INTERVAL)

    def minute(self) -> None:
        self.round()
        self.round()

    def moved(self) -> list[tuple[str, str, str]]:
        return [(row.tag, row.before, row.version) for row in self.ledger.now(package_tags.moved, UI, [REGISTRY])]

    def audited(self, kind: str) -> list[str]:
        return [action for action in self.ledger.now(_actions) if action.startswith(kind)]


def _time(connection: Connection) -> int:
    return max(connection.execute(select(audit.c.time)).scalars(), default=1000)


def _actions(connection: Connection) -> list[str]:
    return list(connection.execute(select(audit.c.action).order_by(audit.c.id)).scalars())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_tag_is_promoted_to_a_version(world: World) -> None:
    row = world.ask("promote", version="1.1.0", tag="next")
    assert (row.state, row.version, row.before, row.registry) == (S.DONE, "1.1.0", "", REGISTRY)
    assert row.began is not None
    assert row.ended is not None
    assert world.tags == {"latest": "1.2.0", "next": "1.1.0"}
    row = world.ask("promote", version="1.2.0", tag="next")
    assert (row.state, row.before) == (S.DONE, "1.1.0")
    assert world.ask("promote", version="1.2.0", tag="next").reason == "it was so already"
    assert world.audited("package.") == ["package.promote", "package.done"] * 3


def test_a_rollback_goes_to_where_the_tag_was_and_a_second_one_further(world: World) -> None:
    row = world.ask("rollback")
    assert (row.state, row.before, row.version, world.tags["latest"]) == (S.DONE, "1.2.0", "1.1.0", "1.1.0")
    assert world.ask("rollback").version == "1.0.0"
    row = world.ask("rollback")
    assert (row.state, world.tags["latest"]) == (S.FAILED, "1.0.0")
    assert "doesn't know to which version latest led before 1.0.0" in row.reason
    assert world.ask("rollback", version="1.2.0").state is S.DONE


def test_only_what_is_in_the_registry_and_was_published_from_here(world: World) -> None:
    row = world.ask("promote", version="9.9.9")
    assert (row.state, row.reason) == (S.FAILED, "@acme/ui@9.9.9 isn't in the registry")
    with pytest.raises(NotFound, match="has published no package left-pad"):
        world.ask("promote", version="1.0.0", package="left-pad")
    settings = NpmSettings(registry=REGISTRY, publish_at="apiserver", packages=["@other/*"])
    world.ledger.now(projects.update, "hello", {"targets": (settings,)}, 9)
    with pytest.raises(NotPossible, match="may publish @other"):
        world.ask("promote", version="1.0.0")
    world.ledger.now(projects.update, "hello", {"targets": ()}, 10)
    with pytest.raises(NotPossible, match="doesn't publish to npm any more"):
        world.ask("promote", version="1.0.0")


def test_a_version_is_deprecated_with_a_message(world: World) -> None:
    assert world.ask("deprecate", version="1.0.0", message="use 1.2").state is S.DONE
    assert world.versions["1.0.0"] == "use 1.2"
    row = world.ask("undeprecate", version="1.0.0")
    assert (row.state, row.before, world.versions["1.0.0"]) == (S.DONE, "use 1.2", "")


def test_the_tag_of_canaries_is_removed_and_no_other(world: World) -> None:
    world.tags["pr-12"] = "1.3.0-pr12.7"
    row = world.ask("untag", tag="pr-12")
    assert (row.state, row.before, row.version) == (S.DONE, "1.3.0-pr12.7", "")
    assert "pr-12" not in world.tags
    world.minute()
    assert world.moved() == []
    assert world.ask("untag", tag="pr-12").reason == "it was so already"
    for tag in ("latest", "next"):
        world.tags["next"] = "1.3.0-next.1"
        row = world.ask("untag", tag=tag)
        assert (row.state, tag in world.tags) == (S.FAILED, True)
        assert row.reason == f"{tag} leads to {world.tags[tag]}, and isn't a tag of canaries: those alone are removed"


def test_it_waits_for_a_password_which_is_used_once(world: World) -> None:
    world.otp = OTP
    row = world.ask("promote", version="1.1.0", tag="next")
    assert (row.state, row.reason) == (S.WAITING, "the registry wants a one-time password")
    requesting = world.apiserver.server.requesting
    world.result(requesting.give_password("hello", row.id, "000000", ANN))
    assert world.row(row.id).reason == "the registry wants a one-time password (refused)"
    world.start()  # nothing of it is asked again by itself
    assert world.row(row.id).state is S.WAITING
    assert world.apiserver.ask_programs.asked == []
    requesting = world.apiserver.server.requesting
    world.result(requesting.give_password("hello", row.id, OTP, ANN))
    assert world.row(row.id).state is S.DONE
    with pytest.raises(NotPossible, match="waits for no one-time password"):
        world.result(requesting.give_password("hello", row.id, OTP, ANN))
    with pytest.raises(NotFound):
        world.result(requesting.give_password("hello", 99, OTP, ANN))
    assert world.ask("promote", version="1.0.0", tag="old", otp=OTP).state is S.DONE


def test_nobody_gives_a_password(world: World) -> None:
    world.otp = OTP
    row = world.ask("promote", version="1.1.0", tag="next")
    world.minute()
    assert world.row(row.id).state is S.WAITING
    world.apiserver.time += package_requests.PATIENCE
    world.minute()
    assert (world.row(row.id).state, "within an hour" in world.row(row.id).reason) == (S.FAILED, True)


def test_a_package_that_is_being_published_is_left_alone(world: World) -> None:
    world.ledger.now(publications.take_locks, PLACE, [UI], "7-1", 5)
    row = world.ask("promote", version="1.0.0", tag="next")
    assert (row.state, row.reason) == (S.FAILED, "build 7 changes @acme/ui now: ask again once it has ended")
    world.ledger.now(publications.free_locks, "7-1")
    assert world.ask("promote", version="1.0.0", tag="next").state is S.DONE
    assert world.ledger.now(publications.take_locks, PLACE, [UI], "7-1", 5) == ""


@pytest.mark.parametrize("committed", range(8))
@pytest.mark.parametrize("kind", ["promote", "rollback"])
def test_killed_after_any_commit_it_is_done_once(tmp_path: Path, committed: int, kind: str) -> None:
    """The ledger takes so many more writes before the apiserver is killed; the last thing that is asked is lost."""
    world = World(tmp_path)
    world.ledger.held = []
    work = world.apiserver.server.requesting.request(
        project="hello", package=UI, kind=kind, tag="latest", version="1.1.0" if kind == "promote" else "", message="",
        otp="", by=ANN,
    )  # fmt: skip
    Deferred.fromCoroutine(work)
    for _ in range(committed):
        if world.ledger.held:
            world.ledger.held.pop(0).callback(None)
    world.ledger.held = None
    before = world.apiserver.server.requesting
    before.stop()
    world.start()
    rows = world.ledger.now(package_requests.of_package, "hello", UI, 10)
    assert len(rows) == (1 if committed else 0)
    for row in rows:
        assert (row.state, row.before, row.version) == (S.DONE, "1.2.0", "1.1.0")
        assert world.tags["latest"] == "1.1.0"
    assert world.ledger.now(publications.take_locks, PLACE, [UI], "7-1", 5) == ""


def test_a_request_keeps_its_package_over_a_crash_and_nothing_else_is_kept(world: World) -> None:
    programs = world.apiserver.ask_programs
    lost: Deferred[Answered] = Deferred()  # the process is asked, and the apiserver is killed
    programs.ask = lambda question: succeed(world.answer(question)) if question.change is None else lost  # type: ignore[method-assign]
    number = world.ask("promote", version="1.1.0", tag="next").id
    world.ledger.now(publications.take_locks, PLACE, ["@acme/old"], package_requests.holder(99), 5)
    world.apiserver.server.requesting.stop()
    world.apiserver = Apiserver(world.folder, world.ledger, world.clock)
    assert world.row(number).state is S.BEGUN
    assert world.ledger.now(publications.take_locks, PLACE, [UI], "7-1", 5) == package_requests.holder(number)
    assert world.ledger.now(publications.take_locks, PLACE, ["@acme/old"], "7-1", 5) == ""
    world.start()
    assert world.row(number).state is S.DONE
    assert world.ledger.now(publications.take_locks, PLACE, [UI], "7-1", 5) == ""


# -- tags that somebody else moves


def test_a_tag_that_somebody_else_moves_is_noticed_within_a_minute_and_told_once(world: World) -> None:
    world.minute()
    assert world.moved() == []
    world.tags["latest"] = "1.0.0"
    world.minute()
    assert world.moved() == [("latest", "1.2.0", "1.0.0")]
    world.minute()
    assert world.audited("package.tag") == ["package.tag_moved"]
    world.tags.clear()
    world.tags["other"] = "1.0.0"
    world.minute()
    assert world.moved() == [("latest", "1.0.0", "")]
    assert world.audited("package.tag") == ["package.tag_moved"] * 2


def test_what_is_put_right_is_no_notice_any_more(world: World) -> None:
    world.tags["latest"] = "1.0.0"
    world.minute()
    world.tags["latest"] = "1.2.0"
    world.minute()
    assert (world.moved(), world.audited("package.tag")) == ([], ["package.tag_moved", "package.tag_back"])
    world.tags["latest"] = "1.0.0"
    world.minute()
    row = world.ask("rollback")  # of what somebody else has done
    assert (row.version, world.tags["latest"], world.moved()) == ("1.2.0", "1.2.0", [])
    world.minute()
    assert world.moved() == []


def test_what_is_done_from_here_is_no_news(world: World) -> None:
    world.ask("rollback")
    world.tags["latest"] = "1.2.0"  # a copy of the registry that lags
    world.round()
    assert world.moved() == []
    world.tags["latest"] = "1.1.0"
    world.minute()
    assert world.moved() == []
    world.tags["latest"] = "1.0.0"
    world.ledger.now(publications.take_locks, PLACE, [UI], "7-1", 5)
    world.minute()
    assert world.moved() == []
    world.ledger.now(publications.free_locks, "7-1")
    world.minute()
    assert world.moved() == [("latest", "1.1.0", "1.0.0")]


def test_a_busy_registry_is_left_alone_for_longer_and_longer(world: World) -> None:
    world.busy = 5.0
    asked = world.apiserver.ask_programs.asked

    def looks(minutes: int) -> int:
        before = len(asked)
        for _ in range(minutes):
            world.minute()
        return len(asked) - before

    assert PAUSE <= 60
    assert looks(2) == 2
    assert looks(8) <= 3
    world.busy = 0.0
    world.tags["latest"] = "1.0.0"
    looks(32)
    assert world.moved() == [("latest", "1.2.0", "1.0.0")]
    assert looks(2) == 4


def test_old_packages_are_not_watched(world: World) -> None:
    world.minute()
    world.apiserver.time += package_tags.WATCHED + 1
    asked = world.apiserver.ask_programs.asked
    before = len(asked)
    world.minute()
    assert len(asked) == before
