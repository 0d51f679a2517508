"""Schedules: when a project is built without anybody's asking. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from msgspec import UnsetType
from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.storage import schedules
from twistedipc.storage.rows import ScheduleRow
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.schemas import NewSchedule, Schedule, Schedules
from twistedipc.web.http.problems import not_found


async def list_all(call: Call[None, None]) -> Reply[Schedules]:
    """List the project's schedules, with when each is due next, and what came of the last time."""
    rows = await call.context.ledger.read(schedules.list_all, call.project.name)
    return Reply(body=Schedules(schedules=[_schedule(row) for row in rows]))


async def put(call: Call[None, NewSchedule]) -> Reply[Schedule]:
    """
    Set a schedule, in the place of the one of this name: an expression as cron has them (minute, hour, day of the
    month, month, weekday), or one of @hourly, @daily, @weekly, @monthly and @yearly; and the time zone of its times.
    """
    project, body, name = call.project, call.body, str(call.path["schedule"])
    now = call.context.now()
    schedules.due_after(body.cron, body.zone, now)  # what is wrong with it is said before anything is written
    ref = "" if isinstance(body.ref, UnsetType) else names.ref(body.ref)

    def change(connection: Connection) -> ScheduleRow:
        row = schedules.put(
            connection,
            project.name,
            name,
            expression=body.cron.strip(),
            zone=body.zone,
            ref=ref,
            publish=body.publish,
            now=now,
        )
        detail = {
            "schedule": name,
            "cron": row.cron,
            "zone": row.zone,
            "ref": row.ref or row.default_ref,
            "publish": "yes" if row.publish else "no",
        }
        call.audit(connection, "schedule.set", project.name, detail)
        return row

    return Reply(body=_schedule(await call.context.ledger.write(change)))


async def remove(call: Call[None, None]) -> Reply[None]:
    """Erase a schedule. What it has built goes on."""
    project, name = call.project.name, str(call.path["schedule"])

    def change(connection: Connection) -> bool:
        removed = schedules.remove(connection, project, name)
        if removed:
            call.audit(connection, "schedule.delete", project, {"schedule": name})
        return removed

    if not await call.context.ledger.write(change):
        raise not_found(f"project {project} has no schedule {name}")
    return Reply(body=None)


def _schedule(row: ScheduleRow) -> Schedule:
    return Schedule(
        name=row.name,
        cron=row.cron,
        zone=row.zone,
        ref=row.ref or row.default_ref,
        publish=row.publish,
        due=moment_or_none(row.due),
        ran=moment_or_none(row.ran),
        build=row.build,
        reason=row.reason,
        created=moment(row.created),
        updated=moment(row.updated),
    )
