"""Every change of an attempt's state: from every state, with the right lease and a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from tests.properties import examples
from tests.storage_fixtures import HOLDER, LEASE, NOW, add_build, add_project, database, run
from twistedipc.builds.attempt import Publish, Published, Result, StepResult, Used
from twistedipc.builds.egress import Contact, Egress
from twistedipc.builds.lint import Linted, LintedPackage, Message
from twistedipc.builds.logs import StepStarted
from twistedipc.builds.names import BadValue
from twistedipc.builds.recognition.recognised import Finding
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.states import LEASED, STATES, TERMINAL, AttemptState
from twistedipc.publish.targets.registry import to_flat
from twistedipc.storage import attempts, builds, logs, projects
from twistedipc.storage.rows import AttemptRow, Holder

S = AttemptState
Change = Callable[[Connection, str, Holder], AttemptRow | None]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        yield connection


def result(outcome: str = "succeeded", **changes: object) -> Result:
    plain = Result(outcome="succeeded", lines=3, sha256="0" * 64, started=NOW + 5, ended=NOW + 9)
    return msgspec.structs.replace(plain, outcome=outcome, **changes)


def put(connection: Connection, attempt: str, state: AttemptState, lease: str = LEASE) -> AttemptRow:
    """Put an attempt into a state, whatever it was in."""
    build, number = attempt.split("-")
    held = lease if state in LEASED | TERMINAL else ""
    values = {"state": str(state), "lease": held, "builder": "one" if held else "", "b": int(build), "n": int(number)}
    connection.execute(
        text("UPDATE attempts SET state=:state, lease=:lease, builder=:builder WHERE build_id=:b AND number=:n"), values
    )
    connection.execute(text("UPDATE builds SET state=:state WHERE id=:b"), values)
    row = attempts.get(connection, attempt)
    assert row is not None
    return row


#: change -> (the states it changes, to what) and the states in which it finds it done already
CHANGES: dict[str, tuple[Change, dict[AttemptState, AttemptState], set[AttemptState]]] = {
    "accept": (lambda c, a, holder: attempts.accept(c, a, holder), {S.OFFERED: S.ACCEPTED}, set()),
    "requeue": (
        lambda c, a, holder: attempts.requeue(c, a, holder, NOW),
        {S.OFFERED: S.QUEUED},
        set(),
    ),
    "started": (
        lambda c, a, holder: attempts.started(c, a, holder, NOW, NOW),
        {S.ACCEPTED: S.RUNNING, S.DISCONNECTED: S.RUNNING},
        {S.RUNNING, S.PUBLISHING},
    ),
    "publishing": (
        lambda c, a, holder: attempts.publishing(c, a, holder),
        {S.ACCEPTED: S.PUBLISHING, S.RUNNING: S.PUBLISHING, S.DISCONNECTED: S.PUBLISHING},
        {S.PUBLISHING},
    ),
    "reconnected accepted": (
        lambda c, a, holder: attempts.reconnected(c, a, holder, S.ACCEPTED),
        {S.OFFERED: S.ACCEPTED, S.DISCONNECTED: S.ACCEPTED},
        {S.ACCEPTED, S.RUNNING, S.PUBLISHING},
    ),
    "reconnected running": (
        lambda c, a, holder: attempts.reconnected(c, a, holder, S.RUNNING),
        {S.ACCEPTED: S.RUNNING, S.DISCONNECTED: S.RUNNING},
        {S.RUNNING, S.PUBLISHING},
    ),
    "reconnected publishing": (
        lambda c, a, holder: attempts.reconnected(c, a, holder, S.PUBLISHING),
        {S.ACCEPTED: S.PUBLISHING, S.RUNNING: S.PUBLISHING, S.DISCONNECTED: S.PUBLISHING},
        {S.PUBLISHING},
    ),
    "finish": (
        lambda c, a, holder: attempts.finish(c, a, holder, result("failed"), True, NOW),
        dict.fromkeys((S.ACCEPTED, S.RUNNING, S.DISCONNECTED, S.PUBLISHING), S.FAILED),
        {*TERMINAL, S.WAITING_APPROVAL, S.DELIVERING},
    ),
    "lose": (
        lambda c, a, holder: attempts.lose(c, a, holder, "gone", NOW),
        dict.fromkeys((S.ACCEPTED, S.RUNNING, S.DISCONNECTED, S.PUBLISHING), S.LOST),
        set(),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("before", list(S))
def test_each_change_from_each_state(ledger: Connection, name: str, before: AttemptState) -> None:
    change, changes, already = CHANGES[name]
    build = add_build(ledger)
    attempt = f"{build.id}-1"
    row = put(ledger, attempt, before)
    after = change(ledger, attempt, row.holder)
    stored = attempts.get(ledger, attempt)
    if before in changes:
        assert after is not None
        assert after.state is changes[before]
        assert after.state in STATES[before].then
        assert stored == after
    else:
        assert stored == row
        assert after == (row if before in already else None)
    listed = builds.get(ledger, build.id)
    assert listed is not None
    assert stored is not None
    assert listed.state is stored.state


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("before", list(S))
def test_no_change_but_by_the_builder_that_has_the_lease(ledger: Connection, name: str, before: AttemptState) -> None:
    attempt = f"{add_build(ledger).id}-1"
    row = put(ledger, attempt, before)
    for holder in (Holder("f" * 16, row.builder), Holder(row.lease, "another"), Holder("", "another")):
        assert CHANGES[name][0](ledger, attempt, holder) is None
        assert attempts.get(ledger, attempt) == row
    assert CHANGES[name][0](ledger, "999-1", HOLDER) is None


@pytest.mark.parametrize("before", list(S))
def test_only_what_is_queued_can_be_offered(ledger: Connection, before: AttemptState) -> None:
    attempt = f"{add_build(ledger).id}-1"
    row = put(ledger, attempt, before)
    after = attempts.offer(ledger, attempt, "a" * 16, "two", NOW + 1)
    if before is S.QUEUED:
        assert after is not None
        assert (after.state, after.lease, after.builder, after.offered) == (S.OFFERED, "a" * 16, "two", NOW + 1)
    else:
        assert after is None
        assert attempts.get(ledger, attempt) == row


def test_names_that_are_none(ledger: Connection) -> None:
    for name in ("", "1", "1-", "0-1", "1-0", "../1-1", "1-1\n", "1" * 30 + "-1"):
        with pytest.raises(BadValue):
            attempts.get(ledger, name)


def test_an_offer_has_all_that_a_builder_needs(ledger: Connection) -> None:
    build = add_build(ledger)
    plain = add_build(ledger, publish=False, now=NOW + 1)
    offers = attempts.next_queued(ledger, 10)
    first = offers[0]
    assert (first.name, first.build, first.project, first.ref) == (f"{build.id}-1", build.id, "shop", "main")
    assert (first.repository, first.commit) == ("https://example.org/shop.git", "")
    assert (first.parameters, first.environment) == ({"COLOUR": "blue"}, {"MODE": "live"})
    assert (first.timeout, first.idle_timeout) == (600.0, 60.0)
    assert [to_flat(offer.targets) for offer in offers] == [Publish(static=True), Publish()]
    assert attempts.next_queued(ledger, 1) == [first]
    assert [one.name for one in attempts.next_queued(ledger, 10)] == [first.name, f"{plain.id}-1"]


def test_a_requeued_attempt_has_its_old_place(ledger: Connection) -> None:
    first, second = (add_build(ledger, now=NOW + n) for n in range(2))
    attempts.offer(ledger, f"{first.id}-1", LEASE, "one", NOW)
    back = attempts.requeue(ledger, f"{first.id}-1", HOLDER, NOW + 50)
    assert back is not None
    assert (back.lease, back.builder, back.offered) == ("", "", None)
    assert [offer.build for offer in attempts.next_queued(ledger, 10)] == [first.id, second.id]
    # The old lease is void, and so is the empty one.
    for holder in (HOLDER, Holder("", "")):
        assert attempts.accept(ledger, f"{first.id}-1", holder) is None


def test_requeueing_what_is_to_be_cancelled_cancels_it(ledger: Connection) -> None:
    build = add_build(ledger)
    attempts.offer(ledger, f"{build.id}-1", LEASE, "one", NOW)
    builds.request_cancel(ledger, build.id, "enough", NOW)
    row = attempts.requeue(ledger, f"{build.id}-1", HOLDER, NOW + 7)
    assert row is not None
    assert (row.state, row.reason, row.ended, row.lines, row.complete) == (S.CANCELLED, "enough", NOW + 7, 0, True)


def test_starting_twice_keeps_the_first_time(ledger: Connection) -> None:
    build = add_build(ledger)
    run(ledger, f"{build.id}-1")
    row = attempts.started(ledger, f"{build.id}-1", HOLDER, NOW + 500, NOW + 500)
    assert row is not None
    assert row.started == NOW + 5


def test_a_builder_goes_and_comes_back(ledger: Connection) -> None:
    names = [f"{add_build(ledger).id}-1" for _ in range(5)]
    for name, state in zip(names, (S.OFFERED, S.ACCEPTED, S.RUNNING, S.PUBLISHING, S.FAILED), strict=True):
        put(ledger, name, state)
    other = f"{add_build(ledger).id}-1"
    run(ledger, other, "b" * 16, "two")
    assert [row.name for row in attempts.leased(ledger, "one")] == names[:4]
    assert [row.name for row in attempts.leased(ledger, None)] == [*names[:4], other]
    gone = attempts.disconnected(ledger, "one")
    assert [(row.name, row.state) for row in gone] == [(name, S.DISCONNECTED) for name in names[1:4]]
    assert attempts.disconnected(ledger, "one") == []
    back = attempts.reconnected(ledger, names[2], HOLDER, S.RUNNING)
    assert back is not None
    assert back.state is S.RUNNING
    row = attempts.get(ledger, other)
    assert row is not None
    assert row.state is S.RUNNING


@pytest.mark.parametrize("phase", sorted(set(S) - {S.ACCEPTED, S.RUNNING, S.PUBLISHING}))
def test_what_is_no_phase(ledger: Connection, phase: AttemptState) -> None:
    with pytest.raises(ValueError, match=phase):
        attempts.reconnected(ledger, "1-1", HOLDER, phase)


def test_the_end_tells_all(ledger: Connection) -> None:
    build = add_build(ledger)
    attempt = f"{build.id}-1"
    run(ledger, attempt)
    logs.append(
        ledger,
        [
            logs.ChunkItem(
                attempt=attempt,
                first=1,
                count=2,
                data=b"{}\n",
                events=[(NOW, StepStarted(0, "old", "")), (NOW, StepStarted(7, "left running", ""))],
            )
        ],
    )
    published = [Published(name="p", version="1.0.0", integrity="sha512-x", status="published", registry="r")]
    steps = [
        StepResult(
            index=0, name="install", command="npm ci", outcome="succeeded", started=NOW, ended=NOW + 2, exit_code=0
        ),
        StepResult(
            index=1,
            name="build",
            command="npm run build",
            outcome="failed",
            started=NOW + 2,
            ended=NOW + 3,
            exit_code=137,
        ),
    ]
    end = result("failed", reason="npm run build: 137", commit="c" * 40, subject="Fix", author="Ann", steps=steps)
    end = msgspec.structs.replace(end, published=published)
    row = attempts.finish(ledger, attempt, HOLDER, end, True, NOW)
    assert row is not None
    assert (row.state, row.reason, row.lines, row.sha256) == (S.FAILED, "npm run build: 137", 3, "0" * 64)
    assert (row.commit, row.subject, row.author, row.complete) == ("c" * 40, "Fix", "Ann", True)
    assert (row.started, row.ended) == (NOW + 5, NOW + 9)
    assert row.published == published
    left = StepResult(index=7, name="left running", command="", outcome="failed", started=NOW, ended=NOW + 9)
    assert row.steps == [*steps, left]
    # Another end changes nothing any more.
    for again in (end, result("succeeded", reason="really")):
        assert attempts.finish(ledger, attempt, HOLDER, again, False, NOW + 99) == row
    assert attempts.lose(ledger, attempt, HOLDER, "gone", NOW) is None


def test_the_end_keeps_a_commit_that_it_does_not_tell(ledger: Connection) -> None:
    build = add_build(ledger)
    run(ledger, f"{build.id}-1")
    attempts.finish(ledger, f"{build.id}-1", HOLDER, result("failed", commit="c" * 40), True, NOW)
    builds.retry(ledger, build.id, "ann", NOW)
    run(ledger, f"{build.id}-2", "b" * 16)
    row = attempts.finish(ledger, f"{build.id}-2", Holder("b" * 16, "one"), result("cancelled"), True, NOW)
    assert row is not None
    assert row.commit == "c" * 40


@pytest.mark.parametrize(
    ("outcome", "step"), [("timed_out", "timed_out"), ("cancelled", "cancelled"), ("lost", "failed")]
)
def test_a_step_ends_with_its_attempt(ledger: Connection, outcome: str, step: str) -> None:
    attempt = f"{add_build(ledger).id}-1"
    run(ledger, attempt)
    event = (NOW, StepStarted(0, "build", "make"))
    logs.append(ledger, [logs.ChunkItem(attempt=attempt, first=1, count=1, data=b"{}\n", events=[event])])
    row = attempts.get(ledger, attempt)
    assert row is not None
    assert [(one.outcome, one.ended) for one in row.steps] == [("running", 0)]
    row = attempts.finish(ledger, attempt, HOLDER, result(outcome), True, NOW)
    assert row is not None
    assert [(one.outcome, one.ended) for one in row.steps] == [(step, NOW + 9)]


def test_a_lost_attempt_has_the_log_that_came(ledger: Connection) -> None:
    attempt = f"{add_build(ledger).id}-1"
    run(ledger, attempt)
    logs.append(ledger, [logs.ChunkItem(attempt=attempt, first=1, count=4, data=b"{}\n")])
    row = attempts.lose(ledger, attempt, HOLDER, "the builder is gone", NOW + 3)
    assert row is not None
    assert (row.state, row.reason, row.ended) == (S.LOST, "the builder is gone", NOW + 3)
    assert (row.lines, row.sha256, row.complete) == (4, "", False)


def test_an_offer_says_which_hosts_the_last_green_build_used(ledger: Connection) -> None:
    def offered() -> list[str] | None:
        add_build(ledger)
        return attempts.next_queued(ledger, 100)[-1].used

    def ended(outcome: str, *contacts: Contact) -> None:
        attempt = f"{add_build(ledger).id}-1"
        run(ledger, attempt)
        attempts.finish(ledger, attempt, HOLDER, result(outcome, egress=Egress(contacts=list(contacts))), True, NOW)

    asking = BuildSettings(network="registries", egress="ask")
    projects.update(ledger, "shop", {"settings": asking}, NOW)
    assert offered() is None
    refused = Contact(host="evil.example.org", port=443, why="it isn't known")
    ended("succeeded", Contact(host="a.example.org", port=443), Contact(host="a.example.org", port=22), refused)
    ended("failed", Contact(host="b.example.org", port=443))
    assert offered() == ["a.example.org"]
    assert attempts.next_queued(ledger, 1)[0].needs >= {"network", "settings"}
    projects.update(ledger, "shop", {"settings": BuildSettings()}, NOW)
    assert offered() is None


def test_a_builders_nonsense_is_stored_as_well_as_can_be(ledger: Connection) -> None:
    attempt = f"{add_build(ledger).id}-1"
    run(ledger, attempt)
    huge = 1 << 80
    step = StepResult(index=-1, name="\0", command="", outcome="?", started=huge, ended=-huge, exit_code=huge)
    end = Result(
        outcome="failed",
        reason="\ud800\0" + "x" * 100_000,
        lines=huge,
        sha256="?" * 1000,
        started=-huge,
        ended=huge,
        commit="c" * 10_000,
        steps=[step, *(msgspec.structs.replace(step, index=index) for index in (huge, 3, 3, 2))],
        published=[Published(name="\ud800", version="", integrity="", status="published")] * 1000,
        recognised=[Finding(what="\0", value="x" * 10_000, why="\ud800", line=-1)] * 1000,
        used=Used(memory=huge, disk=-huge, cpu=7),
        linted=Linted(
            why="\ud800",
            packages=[
                LintedPackage(
                    target="npm",
                    name="p",
                    version="1",
                    more=-1,
                    messages=[Message(level="error", text="\ud800" * 1000)] * 300,
                )
            ]
            * 200,
        ),
        egress=Egress(contacts=[Contact(host="\ud800" * 1000, port=-1, received=huge)] * 1000, more=5),
    )
    row = attempts.finish(ledger, attempt, HOLDER, end, False, NOW)
    assert row is not None
    assert len(row.reason) == len(row.commit) == 4096
    assert row.ended == row.lines == (1 << 53) - 1
    assert [(one.index, one.outcome, one.exit_code, one.ended) for one in row.steps] == [
        (2, "failed", None, NOW),
        (3, "failed", None, NOW),
    ]
    assert len(row.published) == len(row.recognised) == 100
    assert row.recognised[0] == Finding(what="\ufffd", value="x" * 1000, why="?", line=0)
    assert row.used == Used(memory=(1 << 53) - 1, cpu=7)
    assert row.egress is not None
    assert row.egress.contacts[0] == Contact(host="?" * 253, port=0, received=(1 << 53) - 1)
    assert (len(row.egress.contacts), row.egress.more) == (200, 805)
    assert row.linted is not None
    assert (row.linted.why, len(row.linted.packages)) == ("?", 100)
    assert row.linted.packages[0].messages[0].text == "?" * 400
    assert [(len(each.messages), each.more) for each in row.linted.packages[:2]] == [(200, 100), (0, 300)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(30))
@given(st.lists(st.tuples(st.sampled_from([*CHANGES, "offer", "cancel", "retry"]), st.booleans()), max_size=25))
def test_in_whatever_order_no_attempt_leaves_the_table(ledger: Connection, story: list[tuple[str, bool]]) -> None:
    """Leases old and new, cancellations and retries in between: each step is in the table, an end is an end."""
    with ledger.begin_nested() as savepoint:
        build = add_build(ledger).id
        leases = [LEASE]
        seen = builds.attempts(ledger, build)
        for number, (name, stale) in enumerate(story):
            newest = seen[-1]
            lease = leases[0] if stale else leases[-1]
            match name:
                case "offer":
                    leases.append(f"{number:016x}")
                    attempts.offer(ledger, newest.name, leases[-1], "one", NOW)
                case "cancel" if newest.state not in TERMINAL:
                    builds.request_cancel(ledger, build, "no", NOW)
                case "retry" if newest.state in TERMINAL:
                    builds.retry(ledger, build, "ann", NOW)
                case "cancel" | "retry":
                    continue
                case _:
                    CHANGES[name][0](ledger, newest.name, Holder(lease, "one"))
            now = builds.attempts(ledger, build)
            for before, after in zip(seen, now, strict=False):
                assert after.state is before.state or after.state in STATES[before.state].then
                if before.state in TERMINAL:
                    assert after == before
            row = builds.get(ledger, build)
            assert row is not None
            assert (row.state, row.attempt) == (now[-1].state, now[-1].number)
            seen = now
        savepoint.rollback()
