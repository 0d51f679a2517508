"""Schedules that are due, on an apiserver in memory: none is lost at a start, and none is built twice."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, update
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from twistedipc.builds.names import BadValue
from twistedipc.server.scheduling import INTERVAL, Scheduling
from twistedipc.server.workflows import Workflows
from twistedipc.storage import builds, projects, schedules
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.rows import BuildRow, ScheduleRow
from twistedipc.storage.tables import audit
from twistedipc.storage.tables import builds as builds_table
from twistedipc.storage.tables import schedules as schedules_table

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


class World:
    """An apiserver with a project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = InstantLedger()
        self.ledger.project()
        self.time = at("2026-01-01 00:00")
        self.start()

    def start(self) -> None:
        """The apiserver is started, perhaps again."""
        self.clock = Clock()
        self.apiserver = Apiserver(self.folder, self.ledger, self.clock)
        self.apiserver.time = self.time
        self.apiserver.server.scheduling.start()
        self.clock.advance(0)

    def stop(self) -> None:
        self.apiserver.server.scheduling.stop()

    def pass_by(self, milliseconds: int, step: int = MINUTE) -> None:
        """The time goes on in steps, with a look in each at least."""
        for _ in range(milliseconds // step):
            self.time += step
            self.apiserver.time = self.time
            self.clock.advance(min(step / 1000, INTERVAL))

    def put(
        self, expression: str = "@hourly", name: str = "nightly", ref: str = "", publish: bool = True
    ) -> ScheduleRow:
        return self.ledger.now(
            schedules.put, "hello", name, expression=expression, zone="UTC", ref=ref, publish=publish, now=self.time
        )

    def row(self) -> ScheduleRow:
        found = self.ledger.now(schedules.get, "hello", "nightly")
        assert found is not None
        return found

    def built(self) -> list[BuildRow]:
        """All builds, oldest first."""
        numbers = self.ledger.now(lambda connection: connection.execute(select(builds_table.c.id)).scalars().all())
        return list(reversed(self.ledger.now(builds.some, numbers)))

    def end(self) -> None:
        """What was built is over."""
        for build in self.built():
            if build.state == "queued":
                self.ledger.now(builds.request_cancel, build.id, "test", self.time)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_is_due_is_built(world: World) -> None:
    row = world.put("30 2 * * *")
    assert (row.due, row.ran, row.build) == (at("2026-01-01 02:30"), None, None)
    world.pass_by(2 * HOUR + 29 * MINUTE)
    assert world.built() == []
    world.pass_by(MINUTE)
    (build,) = world.built()
    assert (build.ref, build.publish, build.requested_by) == ("main", True, "schedule nightly")
    assert row.due is not None
    assert build.created // 1000 == row.due // 1000
    assert build.origin is not None
    assert (build.origin.kind, build.origin.event, build.origin.title) == ("schedule", "schedule", "nightly")
    row = world.row()
    assert (row.due, row.ran, row.build, row.reason) == (at("2026-01-02 02:30"), build.created, build.id, "")
    [line] = world.ledger.now(lambda connection: connection.execute(select(audit)).all())
    assert (line.action, line.who, line.kind) == ("build.request", "nightly", "schedule")
    assert '"schedule":"nightly"' in line.detail.replace(" ", "")


def test_it_says_what_is_built_and_whether_it_is_published(world: World) -> None:
    world.put(ref="fix", publish=False)
    world.pass_by(HOUR)
    (build,) = world.built()
    assert (build.ref, build.publish) == ("fix", False)


def test_a_look_is_taken_when_something_is_due_and_not_later(world: World) -> None:
    world.put("* * * * *")
    assert MINUTE / 1000 % INTERVAL == 0  # else this shows nothing
    world.pass_by(MINUTE - 5000, 5000)
    world.ledger.now(schedules.put, "hello", "more", expression="* * * * *", zone="UTC", ref="", publish=True,
                     now=world.time)  # fmt: skip
    world.pass_by(5000, 5000)
    assert [build.created // 1000 for build in world.built()] == [world.time // 1000] * 2


def test_one_build_of_a_schedule_goes_on_at_a_time(world: World) -> None:
    world.put()
    world.pass_by(2 * HOUR)
    (build,) = world.built()
    row = world.row()
    assert row.reason == f"build {build.id}, of the time before, still goes on"
    assert (row.due, row.build) == (world.time + HOUR, build.id)
    world.end()
    world.pass_by(HOUR)
    assert len(world.built()) == 2
    assert world.row().reason == ""


def test_builds_of_others_are_left_alone(world: World) -> None:
    world.ledger.queue()
    world.put()
    world.put(name="other")
    world.pass_by(HOUR)
    assert [build.state for build in world.built()] == ["queued"] * 3


def test_what_was_due_while_the_apiserver_was_away_is_built_once(world: World) -> None:
    world.put()
    world.stop()
    world.time += 5 * HOUR + MINUTE
    world.start()
    (build,) = world.built()
    assert build.created // 1000 == world.time // 1000
    assert world.row().due == at("2026-01-01 06:00")
    world.stop()
    world.start()
    assert len(world.built()) == 1


def test_what_was_due_longer_ago_than_a_day_isnt_built(world: World) -> None:
    world.put("0 3 1 * *", name="monthly")
    world.put("@daily")
    world.stop()
    world.time = at("2026-02-03 04:00")
    world.start()
    (build,) = world.built()  # the daily one, which was due again since
    assert build.requested_by == "schedule nightly"
    monthly = world.ledger.now(schedules.get, "hello", "monthly")
    assert monthly is not None
    assert "too late" in monthly.reason
    assert monthly.due == at("2026-03-01 03:00")


def test_it_is_built_once_though_the_answer_was_lost(world: World) -> None:
    world.put()
    world.ledger.unheard = 1
    world.pass_by(HOUR + MINUTE)
    assert len(world.built()) == 1


def test_the_database_is_away_when_something_is_due(world: World) -> None:
    world.put()
    world.ledger.available = False
    world.pass_by(HOUR + MINUTE)
    world.ledger.available = True
    world.pass_by(MINUTE)
    (build,) = world.built()
    assert build.created > at("2026-01-01 01:01")


def test_two_who_have_seen_the_same_build_it_once(world: World) -> None:
    row = world.put()
    now = world.time + HOUR
    assert world.ledger.now(schedules.run, row, now) is not None
    assert world.ledger.now(schedules.run, row, now) is None
    moved = world.row()
    world.put("@daily")
    assert world.ledger.now(schedules.run, moved, now + HOUR) is None  # it was changed since


def test_a_time_zone_that_is_gone(world: World) -> None:
    world.put()
    world.ledger.now(lambda connection: connection.execute(update(schedules_table).values(zone="Europe/Nowhere")))
    world.pass_by(2 * HOUR)
    assert world.built() == []
    row = world.row()
    assert row.due is None
    assert "'Europe/Nowhere' is no time zone that this machine knows" in row.reason
    world.put()  # it is set again
    world.pass_by(HOUR)
    assert len(world.built()) == 1


def test_a_schedule_that_is_removed_or_whose_project_is(world: World) -> None:
    world.put()
    world.put(name="other")
    assert world.ledger.now(schedules.remove, "hello", "other")
    assert not world.ledger.now(schedules.remove, "hello", "other")
    assert [row.name for row in world.ledger.now(schedules.list_all, "hello")] == ["nightly"]
    assert world.ledger.now(projects.delete, "hello", world.time)
    world.pass_by(HOUR)
    assert world.ledger.now(schedules.next_due) is None


def test_there_are_so_many_at_most(world: World) -> None:
    for number in range(schedules.MAX_SCHEDULES):
        world.put(name=f"s{number}")
    with pytest.raises(NotPossible, match="has 20 schedules already"):
        world.put()
    world.put("@daily", name="s3")  # which is there
    with pytest.raises(NotFound, match="no project blog"):
        world.ledger.now(schedules.put, "blog", "x", expression="@daily", zone="UTC", ref="", publish=True, now=0)


def test_after_a_pause_more_are_built_than_one_look_finds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "MOST", 2)
    for number in range(5):
        world.put(name=f"s{number}")
    world.pass_by(HOUR + MINUTE)
    assert len(world.built()) == 5


def test_others_dont_wait_for_one_that_cant_be_built(world: World) -> None:
    world.stop()
    world.put(name="bad")
    world.put(name="good")
    tried: list[str] = []

    async def run(schedule: ScheduleRow) -> None:
        tried.append(schedule.name)
        if schedule.name == "bad":
            raise ValueError("the disk is full of sand")
        world.ledger.now(schedules.run, schedule, world.time)

    ledger = world.ledger.as_ledger()
    scheduling = Scheduling(
        clock=world.clock, now=lambda: world.time, ledger=ledger, workflows=Workflows(world.clock), run=run
    )
    scheduling.start()
    with capturedLogs() as logged:
        world.pass_by(HOUR)
        world.pass_by(MINUTE - 5000, 5000)
    assert tried == ["bad", "good", "bad", "bad", "bad"]  # it is tried again, and not at once
    assert logged
    scheduling.stop()


@pytest.mark.parametrize(
    "zone", ["", "Nowhere", "Europe", "../etc/passwd", "/etc/passwd", "Europe/", "utc\n", "x" * 50, "Europe/\0", "é"]
)
def test_what_is_no_time_zone(zone: str) -> None:
    with pytest.raises(BadValue, match="no time zone"):
        schedules.zone_of(zone)
