"""
Schedules: when a project is built without anybody's asking. Functions for `Ledger.read` and `Ledger.write`; ``storage``
layer.

When a schedule is due next is written down, and moves on in the transaction that makes the build. So a start of the
apiserver makes no build twice. What was due while it was away is made once, if it isn't longer ago than a day.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, func, insert, select
from sqlalchemy import delete as delete_rows
from sqlalchemy import update as update_rows

from twistedipc.builds import cron, names
from twistedipc.builds.names import BadValue
from twistedipc.builds.origin import Origin
from twistedipc.storage import builds
from twistedipc.storage.attempts import DONE_IN_LANE
from twistedipc.storage.columns import columns_of, integer, row_as, text
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.projects import live_id
from twistedipc.storage.rows import Actor, BuildRow, ScheduleRow
from twistedipc.storage.tables import projects, schedules

#: The most schedules of a project.
MAX_SCHEDULES = 20

#: How many that are due are returned at a time.
MOST = 50

#: How long after its time a build is still made, in milliseconds.
LATEST = 86_400_000

#: The name of a time zone, as the system's database has it. It is looked up as a file.
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,2}\Z")


class Ran(msgspec.Struct, frozen=True):
    """What came of a schedule that was due."""

    row: ScheduleRow
    made: BuildRow | None  # None: nothing was to be built; the row says why


def zone_of(name: str) -> tzinfo:
    """Return a time zone. Raises `BadValue`."""
    if name == "UTC":
        return UTC  # needs no database
    if _ZONE.match(name):
        try:
            return ZoneInfo(name)
        except (LookupError, ValueError, OSError):  # none, no such file, a folder
            pass
    raise BadValue(f"{names.shown(name, 60)!r} is no time zone that this machine knows; one is Europe/Berlin, or UTC")


def due_after(expression: str, zone: str, now: int) -> int:
    """Return when an expression is due next, in milliseconds since the epoch. Raises `BadValue`."""
    moment = datetime.fromtimestamp(now / 1000, UTC)
    return int(cron.next_after(cron.parse(expression), moment, zone_of(zone)).timestamp()) * 1000


def list_all(connection: Connection, project: str) -> list[ScheduleRow]:
    """Return a project's schedules, by name."""
    return [_row(row) for row in connection.execute(_SELECT.where(_is(project)).order_by(schedules.c.name))]


def get(connection: Connection, project: str, name: str) -> ScheduleRow | None:
    """Return one of a project's schedules."""
    row = connection.execute(_SELECT.where(_is(project), schedules.c.name == name)).first()
    return None if row is None else _row(row)


def put(
    connection: Connection, project: str, name: str, *, expression: str, zone: str, ref: str, publish: bool, now: int
) -> ScheduleRow:
    """
    Set a schedule, new or in the place of the one of this name. ``ref``: "" is the project's own. Raises `NotFound`,
    `NotPossible`, and `BadValue` for what `due_after` doesn't take.
    """
    project_id = live_id(connection, project)
    if project_id is None:
        raise NotFound(f"there is no project {project}")
    values = {
        "cron": expression,
        "zone": zone,
        "ref": ref,
        "publish": publish,
        "due": due_after(expression, zone, now),
        "reason": "",
        "updated": now,
    }
    which = (schedules.c.project_id == project_id) & (schedules.c.name == name)
    if not connection.execute(update_rows(schedules).where(which).values(**values)).rowcount:
        query = select(func.count()).select_from(schedules).where(schedules.c.project_id == project_id)
        if connection.execute(query).scalar_one() >= MAX_SCHEDULES:
            raise NotPossible(f"project {project} has {MAX_SCHEDULES} schedules already: remove one first")
        connection.execute(insert(schedules).values(project_id=project_id, name=name, created=now, **values))
    row = get(connection, project, name)
    assert row is not None
    return row


def remove(connection: Connection, project: str, name: str) -> bool:
    """Erase a schedule; what it has built goes on. Return False if there was none."""
    row = get(connection, project, name)
    if row is None:
        return False
    connection.execute(delete_rows(schedules).where(schedules.c.id == row.id))
    return True


# -- what is due -----------------------------------------------------------------------------------------------------


def next_due(connection: Connection) -> int | None:
    """Return when the next schedule of any project is due; None if there is none."""
    found: int | None = connection.execute(select(func.min(schedules.c.due))).scalar()
    return found


def due(connection: Connection, now: int) -> list[ScheduleRow]:
    """Return the schedules that are due, the longest first; at most `MOST`."""
    query = _SELECT.where(schedules.c.due <= integer(now)).order_by(schedules.c.due, schedules.c.id)
    return [_row(row) for row in connection.execute(query.limit(MOST))]


def run(connection: Connection, schedule: ScheduleRow, now: int) -> Ran | None:
    """
    Build what is due, and move the schedule on to its next time after now. None: it isn't due any more as it was when
    it was looked up. One build of a schedule goes on at a time.
    """
    found = connection.execute(_SELECT.where(schedules.c.id == schedule.id, schedules.c.due == schedule.due)).first()
    if found is None or schedule.due is None:
        return None
    row = _row(found)
    made, build, following = None, row.build, None
    try:
        following = due_after(row.cron, row.zone, now)
        reason = _why_not(connection, row, schedule.due, now)
    except BadValue as error:
        reason = f"it isn't due any more: {error}"  # the machine has lost its time zones
    if not reason:
        made = _make(connection, row, now)
        build = made.id
    values = {"due": following, "ran": now, "build_id": build, "reason": text(reason)}
    connection.execute(update_rows(schedules).where(schedules.c.id == row.id).values(**values))
    done = get(connection, row.project, row.name)
    assert done is not None
    return Ran(done, made)


def _why_not(connection: Connection, row: ScheduleRow, was_due: int, now: int) -> str:
    """Return why nothing is built; "" if something is."""
    # What was due long ago may have been due again since.
    if was_due < now - LATEST and due_after(row.cron, row.zone, now - LATEST) > now:
        return "the apiserver was away when it was due, and it is too late now"
    before = None if row.build is None else builds.get(connection, row.build)
    if before is not None and before.state not in DONE_IN_LANE:
        return f"build {before.id}, of the time before, still goes on"
    return ""


def _make(connection: Connection, row: ScheduleRow, now: int) -> BuildRow:
    made, _new = builds.create(
        connection,
        project=row.project,
        ref=row.ref or row.default_ref,
        publish=row.publish,
        may_publish=row.publish,
        parameters={},
        by=Actor(who=f"schedule {row.name}", kind="schedule"),  # as people are shown who asked for a build
        now=now,
        idempotency=None,
        origin=Origin(kind="schedule", event="schedule", title=row.name, branch=row.ref or row.default_ref),
    )
    return made


def actor(row: ScheduleRow) -> Actor:
    """Return who it is that asks for a schedule's builds, for the audit, which says the kind beside it."""
    return Actor(who=row.name, kind="schedule")


def _is(project: str) -> Any:
    return projects.c.name == project


_SELECT = (
    select(
        *columns_of(ScheduleRow, schedules),
        schedules.c.build_id.label("build"),
        projects.c.name.label("project"),
        projects.c.default_ref,
    )
    .join(projects, projects.c.id == schedules.c.project_id)
    .where(projects.c.deleted.is_(None))
)


def _row(row: Any) -> ScheduleRow:
    return row_as(ScheduleRow, row)
