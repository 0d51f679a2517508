"""What is removed because of its age, and what never is."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, event, insert, select, text
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from tests.instant import InstantLedger
from tests.plans import explained
from tests.postgres import running_postgresql
from tests.properties import examples
from tests.retention_world import (
    NOW,
    History,
    KilledLedger,
    Remover,
    add_build,
    add_project,
    add_release,
)
from twistedipc.builds.messages import CACHES_KEPT
from twistedipc.builds.names import BadValue
from twistedipc.builds.retention import (
    DAY,
    FOREVER,
    Facts,
    Kind,
    OnBuilders,
    Own,
    Rules,
    Stays,
    check,
    effective,
    parse_count,
    parse_days,
    preview_ends,
    preview_verdict,
    shown,
    verdict,
)
from twistedipc.builds.states import TERMINAL, AttemptState, ReleaseState
from twistedipc.publish.targets.static.target import PREVIEW_DAYS
from twistedipc.server import pruning
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.store import LogStore
from twistedipc.storage import audit, builds, retention, sealed_logs, tables
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.rows import APISERVER

RULES = Rules(
    logs=90,
    artifacts=30,
    unpublished=0,
    previews=20,
    releases=2,
    builds=730,
    messages=90,
    audit=1825,
    newest=2,
    last_success=True,
)
HARSH = Rules(logs=1, artifacts=1, unpublished=0, previews=1, releases=1, builds=1, messages=1, audit=30, newest=0)


# -- the rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pin", [Stays.GOES_ON, Stays.LIVE, Stays.WAITS, Stays.PREVIEW, Stays.PINNED])
@pytest.mark.parametrize("kind", list(retention.OF_BUILDS))
def test_what_is_live_or_pinned_keeps_all_it_has(pin: Stays, kind: Kind) -> None:
    facts = Facts(build=1, ended=0, stays=frozenset({pin, Stays.RELEASE}), beyond_most=True)
    assert verdict(kind, facts, Rules(logs=1, artifacts=1, unpublished=0, builds=1, most_builds=1), NOW).stays is pin


def test_age_counts_from_the_end() -> None:
    facts = Facts(build=1, ended=NOW - 90 * DAY)
    assert verdict(Kind.LOGS, facts, RULES, NOW).rule == "logs = 90 days"
    assert verdict(Kind.LOGS, facts, RULES, NOW - 1).stays is Stays.YOUNG
    assert verdict(Kind.LOGS, facts, Rules(), NOW).stays is Stays.NO_RULE


def test_what_a_build_has_goes_with_it() -> None:
    facts = Facts(build=1, ended=NOW - 800 * DAY)
    rules = Rules(logs=None, builds=730)
    assert verdict(Kind.LOGS, facts, rules, NOW).rule == "builds = 2 years"
    kept = Facts(build=1, ended=NOW - 800 * DAY, stays=frozenset({Stays.PACKAGES}))
    assert verdict(Kind.BUILDS, kept, rules, NOW).stays is Stays.PACKAGES
    assert verdict(Kind.LOGS, kept, rules, NOW).stays is Stays.NO_RULE


def test_a_project_s_own_rules_are_in_place_of_the_apiservers() -> None:
    own = Own(logs=7, artifacts=FOREVER, newest=3, last_success=False)
    rules = effective(own, RULES)
    assert (rules.logs, rules.artifacts, rules.newest, rules.last_success) == (7, None, 3, False)
    assert rules.builds == RULES.builds
    assert effective(Own(), RULES) == RULES


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (Rules(logs=0), "logs"),
        (Rules(logs=-3), "logs"),
        (Rules(artifacts=36_501), "artifacts"),
        (Rules(unpublished=-1), "unpublished"),
        (Rules(releases=0), "releases"),
        (Rules(audit=29), "audit"),
        (Rules(newest=-1), "newest"),
        (Rules(most_builds=0), "most_builds"),
        (Rules(builds=10, logs=11), "builds"),
        (Own(builds=10, artifacts=11), "builds"),
        (Own(logs=0), "logs"),
    ],
)
def test_nonsense_is_refused_by_name(rules: Any, said: str) -> None:
    with pytest.raises(BadValue, match=f"^{said}: "):
        check(rules)


def test_what_makes_sense_is_taken() -> None:
    assert check(RULES, least_newest=1) is RULES
    assert check(Own(logs=FOREVER, builds=1)) == Own(logs=FOREVER, builds=1)
    with pytest.raises(BadValue, match="newest"):
        check(HARSH, least_newest=1)


@pytest.mark.parametrize(
    ("said", "days"),
    [("90 days", 90), ("1 day", 1), (90, 90), ("2 weeks", 14), ("6 months", 180), ("2 years", 730), ("30d", 30),
     ("1y", 365), (" Forever ", FOREVER), ("0 days", 0)],
)  # fmt: skip
def test_times_as_people_write_them(said: str | int, days: object) -> None:
    assert parse_days(said) == days


@pytest.mark.parametrize("said", ["", "days", "-1 days", "1.5 days", "90 fortnights", "90 days ago", "9" * 30, True])
def test_no_times(said: Any) -> None:
    with pytest.raises(BadValue):
        parse_days(said)


def test_counts_as_people_write_them() -> None:
    assert [parse_count(each) for each in ("20", 20, "forever")] == [20, 20, FOREVER]
    for wrong in ("", "-1", "many", "1.5"):
        with pytest.raises(BadValue):
            parse_count(wrong)
    assert [shown(days) for days in (0, 1, 90, 365, 730)] == ["0 days", "1 day", "90 days", "1 year", "2 years"]


# -- histories by chance -----------------------------------------------------------------------------------------------


def _world(
    folder: Path, seed: int, rules: Rules, *, projects: int = 2, count: int = 14
) -> tuple[InstantLedger, Remover]:
    ledger = InstantLedger()
    if ledger.engine.dialect.name == "sqlite":
        with ledger.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            connection.commit()
    remover = Remover(folder, ledger, rules)
    history = History(random.Random(seed), remover.store)
    ledger.now(history.fill, projects, count)
    return ledger, remover


def _rows(connection: Connection) -> dict[str, list[Any]]:
    return {
        table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
        for table in tables.metadata.sorted_tables
        if table.name not in ("audit", "audit_kept")
    }


class _Live:
    """What must be there afterwards as it was: rows of builds, by what keeps them."""

    def __init__(self, connection: Connection, rules: Rules) -> None:
        b, r, p, o = tables.builds.c, tables.releases.c, tables.projects.c, tables.outbox.c
        there = select(p.id).where(p.deleted.is_(None))
        mine = select(b.id).where(b.project_id.in_(there))

        def ids(query: Any) -> set[int]:
            return set(connection.execute(query).scalars())

        released = select(r.build_id).where(r.project_id.in_(there))
        days = min(rules.previews or PREVIEW_DAYS, PREVIEW_DAYS)
        shown = select(tables.previews.c.release_id).where(tables.previews.c.updated > NOW - days * DAY)
        self.whole = (
            ids(select(b.id).where(b.state.not_in(sorted(TERMINAL))))
            | ids(released.where(r.state == ReleaseState.LIVE))
            | ids(released.where(r.id.in_(shown)))
            | ids(mine.where(b.pinned.is_not(None)))
        )
        by_ref: dict[tuple[int, str], int] = {}
        for row in connection.execute(select(b.id, b.project_id, b.ref).where(b.id.in_(mine), b.state == "succeeded")):
            key = row.project_id, row.ref
            by_ref[key] = max(by_ref.get(key, 0), row.id)
        gone = {
            (row.project_id, row.lane)
            for row in connection.execute(select(tables.hook_refs).where(tables.hook_refs.c.gone))
        }
        self.published_whole = (
            {build for (project, ref), build in by_ref.items() if (project, ref) not in gone}
            | (ids(select(o.build_id).where(o.state == "waiting")) & ids(mine))
            | ids(select(tables.hook_refs.c.build_id).where(~tables.hook_refs.c.gone, tables.hook_refs.c.build_id > 0,
                                                            tables.hook_refs.c.project_id.in_(there)))
        )  # fmt: skip
        self.rows_of = self.whole | self.published_whole | ids(select(tables.publications.c.build_id))
        self.rows = _rows(connection)

    def check(self, connection: Connection, store: ArtifactStore) -> None:
        after = _rows(connection)
        for name, ids in (("builds", self.rows_of), ("publications", self.rows_of), ("statements", self.whole)):
            key = 0 if name != "statements" else 1
            before = [row for row in self.rows[name] if row[key] in ids]
            assert [_same(row) for row in before] == [_same(row) for row in after[name] if row[key] in ids], name
        for name, ids in (("log_chunks", self.whole | self.published_whole), ("attempts", self.whole),
                          ("artifacts", self.whole), ("steps", self.rows_of), ("said", self.rows_of)):  # fmt: skip
            before = [row for row in self.rows[name] if row[0] in ids]
            assert before == [row for row in after[name] if row[0] in ids], name
        live = [row for row in self.rows["releases"] if row[9] == ReleaseState.LIVE and row[2] in self.whole]
        assert [row for row in after["releases"] if row in live] == live
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        for row in after["artifacts"]:
            assert store.path(row[3]).exists(), "a row names a file that isn't there"


def _same(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value for value in row if not isinstance(value, bool))  # what needs no other look is marked


@pytest.mark.parametrize("rules", [RULES, HARSH], ids=["usual", "harsh"])
@settings(max_examples=examples(8), derandomize=examples(1) == 1)
@given(seed=st.integers(0, 1 << 32))
def test_nothing_live_is_removed(tmp_path_factory: pytest.TempPathFactory, rules: Rules, seed: int) -> None:
    """And what the plan says goes; nothing is left over that another run would remove."""
    ledger, remover = _world(tmp_path_factory.mktemp("history"), seed, rules)
    live = ledger.now(_Live, rules)
    planned: Counter[Kind] = Counter()
    for line in remover.plan().lines:
        planned[line.kind] += line.count
    run = remover.run()
    assert run.problem == ""
    ledger.now(live.check, remover.store)
    done = {kind: freed.count for kind, freed in run.freed.items()}
    for kind in (Kind.PREVIEWS, Kind.RELEASES, Kind.ARTIFACTS, Kind.UNPUBLISHED, Kind.MESSAGES):
        assert planned[kind] == done.get(kind, 0), kind
    assert sum(line.count for line in remover.plan().lines if line.kind not in (Kind.RELEASES, Kind.BUILDS)) == 0
    while remover.run().did_anything:  # what kept something is gone itself
        pass
    ledger.now(live.check, remover.store)
    assert sum(line.count for line in remover.plan().lines) == 0
    assert ledger.now(lambda connection: connection.execute(select(tables.removed_files)).all()) == []


def test_a_kill_at_every_write_comes_to_the_same(tmp_path: Path) -> None:
    """
    Whatever of a write was done when the process died, rows and files are right, and the next run goes on. Each write
    is done twice here: the first time its files are removed, and the process dies before the commit.
    """
    rules = Rules(logs=1, artifacts=1, unpublished=0, releases=1, builds=30, messages=1, audit=30, newest=1)

    def prepare(name: str) -> tuple[InstantLedger, Remover]:
        ledger, remover = _world(tmp_path / name, 8, rules, count=12)
        ledger.now(_old_audit)
        return ledger, remover

    ledger, remover = prepare("whole")
    remover.run()
    wanted = ledger.now(_rows)
    ledger, remover = prepare("killed")
    live = ledger.now(_Live, rules)
    kills = 0
    over = False
    while not over:
        for committed in (False, True):
            killed = Remover(tmp_path / "killed", KilledLedger(ledger.engine, committed=committed), rules)
            over = killed.run().ended is not None
            kills += not over
            ledger.now(live.check, remover.store)
    assert kills >= 16
    assert ledger.now(_rows) == wanted
    files = {path.name for path in (tmp_path / "killed" / "artifacts" / "complete").glob("*/*")}
    assert files == {row[3] for row in wanted["artifacts"]}


def _old_audit(connection: Connection) -> None:
    for age in (10, 100, 200):
        audit.record(connection, by=APISERVER, action="x", subject="x", project=None, detail={}, now=NOW - age * DAY)


# -- previews, and what is asked back about ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "stays", "rules", "said"),
    [
        (29, None, Rules(), Stays.NO_RULE),
        (30, None, Rules(), "preview_days = 30"),
        (30, Stays.PINNED, Rules(previews=7), "preview_days = 30"),
        (6, None, Rules(previews=7), Stays.YOUNG),
        (7, None, Rules(previews=7), "previews = 7 days"),
        (7, Stays.LIVE, Rules(previews=7), Stays.LIVE),
        (7, Stays.PINNED, Rules(previews=7), Stays.PINNED),
        (31, None, Rules(previews=60), "preview_days = 30"),
    ],
)
def test_a_preview_goes_by_the_rule_or_by_its_target(age: int, stays: Stays | None, rules: Rules, said: str) -> None:
    found = preview_verdict(NOW - age * DAY, stays, 30, rules, NOW)
    assert (found.stays or found.rule) == said
    assert found.goes is not isinstance(said, Stays)


@given(st.sampled_from([None, Stays.LIVE, Stays.PINNED]), *[st.none() | st.integers(1, 60)] * 2)
def test_a_preview_ends_when_it_goes(stays: Stays | None, preview_days: int | None, days: int | None) -> None:
    rules = Rules(previews=days)
    ends = preview_ends(NOW, stays, preview_days, rules)
    if ends is None:
        assert not preview_verdict(NOW, stays, preview_days, rules, NOW + 1000 * DAY).goes
    else:
        assert [preview_verdict(NOW, stays, preview_days, rules, at).goes for at in (ends - 1, ends)] == [False, True]


def _add_preview(connection: Connection, age: float) -> int:
    """Add a build with a preview to which nothing new has come for so many days."""
    build = add_build(connection, 1, age, ref=f"fix-{age}")
    release = add_release(connection, build, 1, ReleaseState.PACKED, None)
    connection.execute(
        insert(tables.previews).values(
            project_id=1, label=f"fix-{age}", ref=f"refs/heads/fix-{age}", release_id=release,
            updated=NOW - int(age * DAY),
        )
    )  # fmt: skip
    return release


def test_a_preview_goes_and_then_its_release(ledger: InstantLedger, tmp_path: Path) -> None:
    for age in (25, 20, 15, 10, 5):
        ledger.now(_add_preview, age)
    remover = Remover(tmp_path, ledger, Rules(previews=8, releases=2, newest=0, last_success=False))
    assert [(line.kind, line.count, line.rules, line.stays) for line in remover.plan().lines] == [
        (Kind.PREVIEWS, 4, ["previews = 8 days"], {Stays.YOUNG: 1}),
        (Kind.RELEASES, 3, ["releases = 2"], {}),
    ]
    run = remover.run()
    assert {kind: freed.count for kind, freed in run.freed.items()} == {Kind.PREVIEWS: 4, Kind.RELEASES: 3}
    labels = ledger.now(lambda connection: list(connection.execute(select(tables.previews.c.label)).scalars()))
    assert labels == ["fix-5"]


@pytest.mark.parametrize(
    ("rules", "kinds"),
    [
        (Rules(previews=5), [Kind.PREVIEWS]),
        (Rules(previews=6), []),
        (Rules(releases=1), [Kind.RELEASES]),
        (Rules(releases=2), []),
        (Rules(messages=4), [Kind.MESSAGES]),
        (Rules(messages=5), []),
        (Rules(previews=5, releases=1, messages=1), [Kind.PREVIEWS, Kind.RELEASES, Kind.MESSAGES]),
    ],
)
def test_what_leaves_nothing_is_known_of_all_kinds(
    ledger: InstantLedger, tmp_path: Path, rules: Rules, kinds: list[Kind]
) -> None:
    """Of releases that is: nothing to roll back to. A plan says the same."""
    ledger.now(_add_preview, 5)
    for activated, state in ((1, ReleaseState.SUPERSEDED), (2, ReleaseState.SUPERSEDED), (3, ReleaseState.LIVE)):
        ledger.now(add_release, ledger.now(add_build, 1, 9), 1, state, activated)

    def message(connection: Connection, age: float) -> None:
        values = {"project_id": 1, "delivery": str(age), "event": "{}", "lane": "", "before": "", "number": 0,
                  "received": NOW - int(age * DAY), "outcome": "built", "reason": ""}  # fmt: skip
        connection.execute(insert(tables.hook_deliveries).values(**values))

    for age in (9, 4.5):
        ledger.now(message, age)
    subject = ledger.now(retention.subjects, rules)[0]
    assert ledger.now(retention.lost, subject, NOW) == kinds
    plan = Remover(tmp_path, ledger, rules).plan()
    assert [line.kind for line in plan.lines if line.nothing_left] == kinds


# -- one by one --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger() -> InstantLedger:
    ledger = InstantLedger()
    ledger.now(add_project, 1)
    return ledger


def test_a_large_log_goes_in_parts_and_ends_marked(ledger: InstantLedger, tmp_path: Path) -> None:
    build = ledger.now(add_build, 1, 100, state=AttemptState.FAILED, chunks=9)
    rules = Rules(logs=30, newest=0)
    subject = ledger.now(retention.subjects, rules)[0]
    sizes = []
    left = True
    while left:
        page = ledger.now(retention.look, subject, Kind.LOGS, 0, 10, NOW)
        removed = ledger.now(retention.remove, subject, Kind.LOGS, page.wanted, page.limits, 250, NOW)
        sizes.append(removed.size)
        left = removed.left
        assert ledger.now(sealed_logs.is_left, f"{build}-1") is left
        if left:  # what is begun is ended, also if somebody pins it
            ledger.now(builds.pin, build, NOW)
    assert sizes == [300, 300, 300]
    row = ledger.now(builds.attempts, build)[0]
    assert (row.log_removed, row.log_rule, row.lines, row.complete) == (NOW, "logs = 30 days", 90, True)
    assert Remover(tmp_path, ledger, rules).plan().lines == []


def test_a_build_that_is_tried_again_keeps_its_new_log(ledger: InstantLedger, tmp_path: Path) -> None:
    build = ledger.now(add_build, 1, 100, state=AttemptState.FAILED)
    remover = Remover(tmp_path, ledger, Rules(logs=30, newest=0))
    assert remover.run().freed[Kind.LOGS].count == 1
    ledger.now(builds.retry, build, "ann", NOW)
    assert remover.run().freed == {}
    assert ledger.now(builds.get, build) is not None


def test_a_file_that_two_builds_have_goes_with_the_second(ledger: InstantLedger, tmp_path: Path) -> None:
    remover = Remover(tmp_path, ledger, Rules(artifacts=30, newest=0, last_success=False))
    old = ledger.now(add_build, 1, 100, archive=b"same", store=remover.store)
    ledger.now(add_build, 1, 1, archive=b"same", store=remover.store)
    (file,) = (tmp_path / "artifacts" / "complete").glob("*/*")
    run = remover.run()
    assert (run.freed[Kind.ARTIFACTS].count, run.files.count) == (1, 0)
    assert file.exists()
    assert ledger.now(retention.subjects, Rules())[0].name == "p1"
    ledger.now(
        lambda connection: connection.execute(tables.artifacts.delete().where(tables.artifacts.c.build_id > old))
    )
    ledger.now(retention.note_files, [file.name])
    assert remover.run().files.count == 1
    assert not file.exists()


@pytest.mark.parametrize("age", [2, 0])
def test_what_an_older_database_does_not_know_is_kept(ledger: InstantLedger, tmp_path: Path, age: float) -> None:
    """It was restored from a copy. In the usual case, a file that nothing names was left by a crash, and goes."""
    ledger.now(add_build, 1, age)
    store = ArtifactStore(tmp_path / "artifacts")
    name = "ab" + "0" * 62
    store.path(name).parent.mkdir()
    store.path(name).write_bytes(b"unknown")
    seconds = NOW / 1000 - 1.5 * 86400
    for path in (store.path(name), store.path(name).parent):
        os.utime(path, (seconds, seconds))
    for _ in range(2):  # also after another start, when the database has newer builds
        remover = Remover(tmp_path, ledger, Rules(logs=30))
        for _ in range(16):
            remover.run()
        assert store.path(name).exists() is (age == 2)
        ledger.now(add_build, 1, 0)
    (tmp_path / "artifacts" / "kept-since").unlink(missing_ok=True)
    remover = Remover(tmp_path, ledger, Rules(logs=30))
    for _ in range(16):
        remover.run()
    assert not store.path(name).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]"])
def test_a_mark_that_cannot_be_read_keeps_all(tmp_path: Path, content: bytes) -> None:
    store = ArtifactStore(tmp_path)
    assert store.kept_since() == math.inf
    (tmp_path / "kept-since").write_bytes(content)
    assert store.kept_since() == 0


def test_a_package_on_its_way_keeps_its_file(ledger: InstantLedger, tmp_path: Path) -> None:
    """It is in the store before its row names it: only its size is known then."""
    remover = Remover(tmp_path, ledger, Rules(artifacts=30, newest=0, last_success=False))
    ledger.now(add_build, 1, 100, archive=b"package", store=remover.store)
    coming = ledger.now(add_build, 1, 0, state=AttemptState.PUBLISHING)
    values = {"target": "npm", "position": 0, "name": "a", "version": "1", "integrity": "sha512-x", "tag": ""}
    ledger.now(
        lambda connection: connection.execute(
            insert(tables.publications).values(
                build_id=coming, number=1, **values, size=7, sha256="", state="packed", reason="", created=1, updated=1
            )
        )
    )
    run = remover.run()
    assert (run.freed[Kind.ARTIFACTS].count, run.files.count) == (1, 0)
    assert len(list((tmp_path / "artifacts" / "complete").glob("*/*"))) == 1


def test_files_that_no_row_names_are_found(ledger: InstantLedger, tmp_path: Path) -> None:
    """A crash has left them. (Those of today may be on their way.)"""
    remover = Remover(tmp_path, ledger, Rules())
    for number in range(3):
        path = remover.store.path(f"{number:02x}".ljust(64, "0"))
        path.parent.mkdir()
        path.write_bytes(b"left")
    kept = ledger.now(add_build, 1, 0, archive=b"kept", store=remover.store)
    runs = [remover.run() for _ in range(16)]  # those of a day
    assert sum(run.files.count for run in runs) == 3
    assert kept
    assert len(list((tmp_path / "artifacts" / "complete").glob("*/*"))) == 1


def test_files_are_taken_out_of_the_store_and_deleted_outside_of_transactions(
    ledger: InstantLedger, tmp_path: Path
) -> None:
    """To delete what has gigabytes takes long, and nothing else could be written meanwhile."""
    remover = Remover(tmp_path, ledger, Rules(artifacts=30, newest=0, last_success=False))
    ledger.now(add_build, 1, 100, archive=b"same", store=remover.store)
    aside = tmp_path / "artifacts" / "removed"
    (aside / "left").write_bytes(b"by a crash")
    left: list[int] = []

    def deleted(connection: Connection) -> None:
        left.append(len(list(aside.iterdir())))

    event.listen(ledger.engine, "commit", deleted)
    assert remover.run().files.count == 1
    assert 1 in left
    assert not [each for each in (tmp_path / "artifacts").rglob("*") if each.is_file()]


def test_messages_that_are_young_are_not_looked_through(ledger: InstantLedger) -> None:
    def fill(connection: Connection, count: int, age: int) -> None:
        values = {
            "project_id": 1,
            "event": "{}",
            "lane": "",
            "before": "",
            "number": 0,
            "outcome": "built",
            "reason": "",
        }
        rows = [{**values, "delivery": f"{age}-{number}", "received": NOW - age * DAY} for number in range(count)]
        connection.execute(insert(tables.hook_deliveries), rows)

    def steps(connection: Connection) -> tuple[int, int]:
        """How many steps of SQLite's machine it takes to look, and how many are found."""
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        connection.connection.driver_connection.set_progress_handler(step, 10)  # type: ignore[union-attr]
        came, _told = retention.old_messages(connection, subject, 2, NOW)
        connection.connection.driver_connection.set_progress_handler(None, 10)  # type: ignore[union-attr]
        return count, len(came)

    subject = ledger.now(retention.subjects, Rules(messages=30))[0]
    ledger.now(fill, 3, 100)
    assert ledger.now(steps)[1] == 2
    ledger.now(lambda connection: connection.execute(tables.hook_deliveries.delete()))
    ledger.now(fill, 2, 5)
    few = ledger.now(steps)
    ledger.now(fill, 1000, 4)
    assert ledger.now(steps) == few == (few[0], 0)


def test_the_transaction_that_removes_counts_no_builds(ledger: InstantLedger, tmp_path: Path) -> None:
    """That takes as long as rules like ``most_builds`` are large: it is done before."""
    for _ in range(5):
        ledger.now(add_build, 1, 100, state=AttemptState.FAILED)
    subject = ledger.now(retention.subjects, Rules(logs=30, newest=2, most_builds=3))[0]
    page = ledger.now(retention.look, subject, Kind.LOGS, 0, 10, NOW)
    with explained(ledger.engine) as removed:
        ledger.now(retention.remove, subject, Kind.LOGS, page.wanted, page.limits, 1 << 20, NOW)
    assert removed
    assert not [each for each in removed if "ORDER BY builds.id DESC" in each]
    assert [item.id for item in page.items if item.verdict.goes] == [1, 2, 3]


def test_what_nothing_was_published_from_keeps_no_archive(ledger: InstantLedger, tmp_path: Path) -> None:
    remover = Remover(tmp_path, ledger, Rules(unpublished=0, newest=10))
    ledger.now(add_build, 1, 0.01, publish=False, archive=b"one", store=remover.store)
    ledger.now(add_build, 1, 0.01, publish=True, archive=b"two", store=remover.store)
    pinned = ledger.now(add_build, 1, 0.01, publish=False, archive=b"three", store=remover.store)
    ledger.now(builds.pin, pinned, NOW)
    run = remover.run()
    assert run.freed[Kind.UNPUBLISHED].count == run.files.count == 1


def test_releases_beyond_the_count_go_and_their_files_with_them(ledger: InstantLedger, tmp_path: Path) -> None:
    remover = Remover(tmp_path, ledger, Rules(releases=2))
    made = []
    for number in range(6):
        build = ledger.now(add_build, 1, 100 - number, archive=b"x")
        state = ReleaseState.SUPERSEDED if number else ReleaseState.LIVE  # rolled back to the oldest
        made.append(ledger.now(add_release, build, 1, state, number))
    ledger.now(builds.pin, 2, NOW)
    assert remover.run().freed[Kind.RELEASES].count == 2
    kept = ledger.now(lambda connection: connection.execute(select(tables.releases.c.id)).scalars().all())
    assert kept == [made[0], made[1], made[4], made[5]]


def test_at_most_so_many_builds(ledger: InstantLedger, tmp_path: Path) -> None:
    numbers = [ledger.now(add_build, 1, 5, state=AttemptState.FAILED) for _ in range(8)]
    remover = Remover(tmp_path, ledger, Rules(most_builds=3, newest=1))
    run = remover.run()
    assert run.freed[Kind.BUILDS].count == 5
    assert ledger.now(lambda connection: connection.execute(select(tables.builds.c.id)).scalars().all()) == numbers[-3:]


def test_the_audit_is_kept_for_as_long_as_its_rule_says(ledger: InstantLedger, tmp_path: Path) -> None:
    ledger.now(_old_audit)
    with pytest.raises(Exception, match="only appended to"):
        ledger.now(lambda connection: connection.execute(text("DELETE FROM audit")))
    assert Remover(tmp_path, ledger, Rules(audit=150)).run().freed[Kind.AUDIT].count == 1
    with pytest.raises(Exception, match="only appended to"):
        ledger.now(lambda connection: connection.execute(text("DELETE FROM audit")))
    lines = ledger.now(audit.list_page, limit=10)
    assert [(line.action, line.detail) for line in lines] == [
        ("retention.prune", {"audit": "1 (0 bytes)"}),
        ("x", {}),
        ("x", {}),
    ]


@pytest.mark.parametrize(("days", "lost"), [(10, False), (9, True)])
def test_it_is_asked_back_before_all_of_the_audit_goes(
    ledger: InstantLedger, tmp_path: Path, days: int, lost: bool
) -> None:
    ledger.now(_old_audit)
    remover = Remover(tmp_path, ledger, Rules(audit=days))
    assert [line.nothing_left for line in remover.plan().lines if line.kind is Kind.AUDIT] == [lost]
    assert remover.lost().of == ([("", Kind.AUDIT)] if lost else [])
    assert remover.lost(frozenset({"p1"})).of == []


def test_builders_that_do_not_know_rules_for_caches_are_named(ledger: InstantLedger, tmp_path: Path) -> None:
    ledger.now(add_project, 2, Own(caches="forever"))
    ledger.now(add_project, 3, Own(caches=7), deleted=True)
    remover = Remover(tmp_path, ledger, Rules(caches=30))
    for name, features in (("new", {CACHES_KEPT}), ("old", {"caches"})):
        remover.link(name, features)
    plan = remover.plan()
    assert (plan.lines, plan.removes) == ([], True)
    assert plan.caches == OnBuilders(projects={"p1": 30}, unaware=["old"])


def test_without_rules_nothing_is_removed(ledger: InstantLedger, tmp_path: Path) -> None:
    ledger.now(add_build, 1, 9000, state=AttemptState.FAILED, archive=b"x")
    remover = Remover(tmp_path, ledger, Rules())
    plan = remover.plan()
    assert (plan.lines, plan.removes) == ([], False)
    assert not remover.run().did_anything


def test_a_project_is_pruned_alone(ledger: InstantLedger, tmp_path: Path) -> None:
    ledger.now(add_project, 2)
    for project in (1, 2):
        ledger.now(add_build, project, 100, state=AttemptState.FAILED)
    remover = Remover(tmp_path, ledger, Rules(logs=30, newest=0))
    assert remover.run(frozenset({"p2"})).freed[Kind.LOGS].count == 1
    assert [line.project for line in remover.plan().lines] == ["p1"]


def test_projects_with_nothing_to_remove_are_asked_about_together(ledger: InstantLedger, tmp_path: Path) -> None:
    """On most days that is nearly all of them, and each question to the ledger is followed by a pause."""
    for number in range(1, 31):
        if number > 1:
            ledger.now(add_project, number)
        ledger.now(add_build, number, 1, archive=b"x")
    rules = Rules(logs=30, artifacts=30, unpublished=30, releases=3, builds=60, messages=30, newest=0)
    remover = Remover(tmp_path, ledger, rules)
    before = ledger.read_count
    assert (remover.plan().lines, remover.lost().of) == ([], [])
    assert ledger.read_count - before <= 4
    assert not remover.run().did_anything
    assert ledger.read_count - before < 30
    ledger.now(add_project, 31)
    ledger.now(add_build, 31, 100, state=AttemptState.FAILED)
    assert [(line.project, line.kind) for line in remover.plan().lines] == [("p31", Kind.LOGS), ("p31", Kind.BUILDS)]


@pytest.mark.parametrize("waits", [0.0, 0.1, 2.0])
def test_it_rests_as_long_as_it_works_for_others_and_as_it_is_made_to_wait(
    ledger: InstantLedger, tmp_path: Path, waits: float
) -> None:
    """A commit that takes long, since much else is going on, makes it rest longer, and remove no fewer at a time."""
    for _ in range(60):
        ledger.now(add_build, 1, 100, state=AttemptState.FAILED)
    remover = Remover(tmp_path, ledger, Rules(logs=30, newest=0))
    clock = remover.clock
    writes, write = 0, ledger.write

    def slow(query: Any, *args: Any) -> Deferred[Any]:
        nonlocal writes
        writes += 1
        clock.rightNow += waits
        return write(query, *args)

    def statement(*_: Any) -> None:
        clock.rightNow += 0.0001

    event.listen(ledger.engine, "before_cursor_execute", statement)
    began, rested, longest = clock.seconds(), 0.0, 0.0
    with patch.object(ledger, "write", slow):
        run = remover.pruning.begin(None, APISERVER)
        while run.ended is None:
            pause = min(call.getTime() for call in clock.getDelayedCalls()) - clock.seconds()
            rested, longest = rested + pause, max(longest, pause)
            clock.advance(pause)
    worked = clock.seconds() - began - rested - writes * waits
    assert run.freed[Kind.LOGS].count == 60
    assert writes <= 7
    assert longest <= pruning.LONGEST_PAUSE
    least = (1 / pruning.SHARE - 1) * worked if not waits else writes * min(waits, pruning.LONGEST_PAUSE)
    assert rested >= 0.9 * least


def test_a_plan_says_that_nothing_would_be_left(ledger: InstantLedger, tmp_path: Path) -> None:
    ledger.now(add_build, 1, 100, state=AttemptState.FAILED)
    (line,) = Remover(tmp_path, ledger, Rules(logs=30, newest=0)).plan().lines
    assert (line.kind, line.count, line.nothing_left) == (Kind.LOGS, 1, True)
    ledger.now(add_build, 1, 1, state=AttemptState.FAILED)
    (line,) = Remover(tmp_path, ledger, Rules(logs=30, newest=0)).plan().lines
    assert not line.nothing_left


def test_whatever_refers_to_a_build_is_thought_of() -> None:
    """A table that comes to refer to builds either goes with them, or keeps them: say which in `storage.retention`."""
    referring = {
        table.name
        for table in tables.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name in ("builds", "attempts", "releases")
    }
    with_it = {"attempts", "said", "steps", "deliveries", "statements", "idempotency", "artifacts"}
    of_its_log = {"log_chunks", "sealed_chunks", "outlines"}
    forgets_it = {"hook_deliveries", "hook_refs"}
    keeps_it = {"publications", "publication_steps", "releases", "previews", "schedules"}
    assert referring == with_it | of_its_log | forgets_it | keeps_it


# -- how it is found ---------------------------------------------------------------------------------------------------


#: What is as small as there are projects, people or things that wait; all else may be as large as the history.
_SMALL = {"projects", "receivers", "schedules", "outbox", "secrets", "build_secrets", "repository_access", "previews",
          "removed_files", "audit_kept", "hook_refs"}  # fmt: skip


@pytest.mark.parametrize("rules", [RULES, HARSH], ids=["usual", "harsh"])
def test_no_query_looks_through_the_history(tmp_path: Path, rules: Rules) -> None:
    """Each statement of a plan, of a run and of a listing finds what it wants by an index."""
    ledger, remover = _world(tmp_path, 3, rules)
    ledger.now(_old_audit)

    def all_of_it() -> None:
        remover.plan()
        remover.run()
        ledger.now(builds.list_page, projects=frozenset({"p1"}), states=None, before=None, limit=50)
        ledger.now(builds.get, 3)

    with explained(ledger.engine) as steps:
        all_of_it()
    assert len(steps) > 100
    scans = {each for each in steps if each.startswith("SCAN ") and "CONSTANT ROW" not in each}
    assert {
        each for each in scans if each.split()[1] not in _SMALL | {"(subquery-1)", "(subquery-2)", "anon_1"}
    } == set()
    for name in ("with_log", "with_archive", "not_lasting", "succeeded"):
        assert any(f"ix_builds_{name}" in each for each in steps), name
    assert any("ix_artifacts_sha256" in each for each in steps)


# -- what readers get --------------------------------------------------------------------------------------------------


def _read(ledger: InstantLedger, attempt: str, after: int = 0) -> list[Any]:
    """What a viewer of a log gets."""
    cursor = LogStore(Clock(), ledger.as_ledger()).cursor(attempt, after, lambda: None)
    found: list[Any] = []
    while not found or found[-1]["type"] != "end":
        entries = cursor.take(1 << 20)
        if entries is None:
            Deferred.fromCoroutine(cursor.fetch())
        else:
            found += [json.loads(entry.message) for entry in entries]
    return found


def test_a_log_that_was_removed_says_so(ledger: InstantLedger, tmp_path: Path) -> None:
    build = ledger.now(add_build, 1, 100, state=AttemptState.FAILED, chunks=9)
    *lines, end = _read(ledger, f"{build}-1")
    assert (len(lines), end["complete"]) == (9, True)
    rules = Rules(logs=30, newest=0)
    subject = ledger.now(retention.subjects, rules)[0]
    page = ledger.now(retention.look, subject, Kind.LOGS, 0, 10, NOW)
    assert ledger.now(retention.remove, subject, Kind.LOGS, page.wanted, page.limits, 250, NOW).left
    gap, half = _read(ledger, f"{build}-1")
    Remover(tmp_path, ledger, rules).run()
    whole = {"type": "gap", "from": 1, "to": 90,
             "reason": "this log was removed on 2030-03-17 by the rule logs = 30 days"}  # fmt: skip
    over = {"type": "end", "lines": 90, "sha256": "d" * 64, "state": "failed", "complete": False}
    assert [gap, half] == _read(ledger, f"{build}-1") == [whole, over]
    assert _read(ledger, f"{build}-1", 50) == [{**whole, "from": 51}, over]
    assert _read(ledger, f"{build}-1", 90) == [over]


@pytest.mark.parametrize(
    ("lost", "gap"), [(1, (1, 10)), (41, (41, 50)), (81, (81, 90))], ids=["front", "middle", "end"]
)
def test_a_log_with_a_hole_is_not_called_complete(ledger: InstantLedger, lost: int, gap: tuple[int, int]) -> None:
    """A row of it that has gone by itself, on a damaged disk say, is a gap. That is written down by one read alone."""
    build = ledger.now(add_build, 1, 100, state=AttemptState.FAILED, chunks=9)
    which = tables.log_chunks.c.first_record == lost
    ledger.now(lambda connection: connection.execute(tables.log_chunks.delete().where(which)))
    before = ledger.writes
    for _ in range(3):
        found = _read(ledger, f"{build}-1")
        (hole,) = (each for each in found if each["type"] == "gap")
        assert (hole["from"], hole["to"], hole["reason"]) == (*gap, "these records aren't stored any more")
        assert len(found) == 10
        assert (found[-1]["lines"], found[-1]["complete"]) == (90, False)
    assert ledger.writes == before + 1
    assert not ledger.now(builds.attempts, build)[0].complete


def test_a_reader_in_the_middle_of_a_log_is_told_too(ledger: InstantLedger, tmp_path: Path) -> None:
    build = ledger.now(add_build, 1, 100, state=AttemptState.FAILED, chunks=9)
    store = LogStore(Clock(), ledger.as_ledger(), limits=LogLimits(fetch=100))
    cursor = store.cursor(f"{build}-1", 0, lambda: None)
    while not (entries := cursor.take(100)):
        Deferred.fromCoroutine(cursor.fetch())
    assert json.loads(entries[0].message)["lines"][0] == " 0"
    Remover(tmp_path, ledger, Rules(logs=30, newest=0)).run()
    while not (entries := cursor.take(100)):
        Deferred.fromCoroutine(cursor.fetch())
    assert json.loads(entries[0].message)["type"] in ("gap", "lines")
    while not entries or not entries[-1].final:
        entries = cursor.take(100)
        if entries is None:
            Deferred.fromCoroutine(cursor.fetch())
            entries = cursor.take(100)


# -- databases that there are ------------------------------------------------------------------------------------------


class SmallerFile(TestCase):
    """SQLite's file, which a ledger has made."""

    async def test_its_room_goes_back_to_the_disk(self) -> None:
        self.patch(pruning, "SHARE", 1.0)
        folder = Path(tempfile.mkdtemp(prefix="twistedipc-test-"))
        self.addCleanup(shutil.rmtree, folder)
        ledger = Ledger(cast(Any, reactor), f"sqlite:///{folder / 'ledger.sqlite'}", now=lambda: NOW)
        await ledger.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(ledger.close()))

        def fill(connection: Connection) -> None:
            add_project(connection, 1)
            build = add_build(connection, 1, 100, state=AttemptState.FAILED, chunks=0)
            for number in range(400):
                connection.execute(
                    insert(tables.log_chunks).values(
                        build_id=build, number=1, first_record=number + 1, records=1, size=30_000, data=b"x" * 30_000
                    )
                )
            connection.execute(tables.attempts.update().values(next_record=401, log_bytes=12_000_000))

        await ledger.write(fill)
        space = await ledger.read(retention.free_space)
        assert space is not None
        assert space.shrinks
        remover = Remover(folder, cast(Any, ledger), Rules(logs=30, newest=0), clock=reactor)
        run = remover.pruning.begin(None, APISERVER)
        while run.ended is None:
            await deferLater(cast(Any, reactor), 0.01)
        remover.pruning.stop()
        assert run.freed[Kind.LOGS].size == 12_000_000
        assert run.given_back > 7_000_000
        space = await ledger.read(retention.free_space)
        assert space is not None
        assert space.free <= 5 << 20


@pytest.mark.long
@pytest.mark.sqlite
def test_postgresql_comes_to_the_same(tmp_path: Path) -> None:
    """The same history, the same rules, the same rows left."""
    rules = Rules(logs=1, artifacts=1, unpublished=0, releases=1, builds=30, messages=1, audit=30, newest=1)
    ledger, remover = _world(tmp_path / "sqlite", 8, rules, count=14)
    ledger.now(_old_audit)
    remover.run()
    with running_postgresql() as server:
        engine = create_engine(server.url)
        with engine.begin() as connection:
            upgrade(connection)
        other = InstantLedger()
        other.engine = engine
        again = Remover(tmp_path / "postgresql", other, rules)
        other.now(History(random.Random(8), again.store).fill, 2, 14)
        other.now(_old_audit)
        assert again.run().problem == ""
        for table in ("builds", "attempts", "artifacts", "releases", "log_chunks", "outbox", "hook_deliveries"):
            assert len(other.now(_rows)[table]) == len(ledger.now(_rows)[table]), table
        assert other.now(lambda connection: connection.execute(text("SELECT count(*) FROM audit")).scalar()) == 2
        with pytest.raises(Exception, match="only appended to"):
            other.now(lambda connection: connection.execute(text("DELETE FROM audit")))
        engine.dispose()
