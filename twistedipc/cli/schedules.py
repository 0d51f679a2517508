"""`twistedipc project schedule …`: when a project is built without anybody's asking. ``cli``; used by ``projects``."""

from __future__ import annotations

import click
from msgspec import UNSET

from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.output import json_option, local_time, note, print_json, print_table
from twistedipc.web.api.schemas import NewSchedule, Schedule, Schedules


@click.group("schedule")
def schedule() -> None:
    """When a project is built without anybody's asking."""


@schedule.command("add")
@with_client
@click.argument("name")
@click.argument("schedule_name", metavar="SCHEDULE")
@click.argument("cron")
@click.option("--zone", default="UTC", show_default=True, help="Of the times in CRON, such as Europe/Berlin.")
@click.option("--ref", help="What is built; else the project's own ref.")
@click.option("--publish/--no-publish", default=True, help="Whether its builds publish what a push would.")
@json_option
def add(
    client: Client, name: str, schedule_name: str, cron: str, zone: str, ref: str | None, publish: bool, as_json: bool
) -> None:
    """Build the project NAME at the times that CRON means, under the name SCHEDULE; one of this name is replaced.

    CRON is minute, hour, day of the month, month and weekday, quoted as one word: "30 2 * * MON-FRI". Or it is one of
    @hourly, @daily, @weekly, @monthly, @yearly.
    """
    body = NewSchedule(cron=cron, zone=zone, ref=UNSET if ref is None else ref, publish=publish)
    answer = client.put(path("projects", name, "schedules", schedule_name), body)
    if as_json:
        print_json(answer)
        return
    made = answer.decode(Schedule)
    when = local_time(made.due) if made.due else "never"
    note(f"{made.ref} of {name} is built by schedule {made.name}, next at {when}")


@schedule.command("list")
@with_client
@click.argument("name")
@json_option
def list_all(client: Client, name: str, as_json: bool) -> None:
    """List the schedules of the project NAME, and what came of the last time of each."""
    answer = client.get(path("projects", name, "schedules"))
    if as_json:
        print_json(answer)
        return
    print_table(
        ("SCHEDULE", "CRON", "ZONE", "REF", "PUBLISH", "NEXT", "LAST", "BUILD", "DETAIL"),
        [
            (
                each.name,
                each.cron,
                each.zone,
                each.ref,
                "yes" if each.publish else "no",
                local_time(each.due) if each.due else "never",
                local_time(each.ran) if each.ran else "",
                each.build or "",
                each.reason,
            )
            for each in answer.decode(Schedules).schedules
        ],
        empty=f'{name} has no schedule; `twistedipc project schedule add {name} nightly "30 2 * * *"` makes one',
    )


@schedule.command("remove")
@with_client
@click.argument("name")
@click.argument("schedule_name", metavar="SCHEDULE")
def remove(client: Client, name: str, schedule_name: str) -> None:
    """Build nothing of the project NAME by SCHEDULE any more."""
    client.delete(path("projects", name, "schedules", schedule_name))
    note(f"{name} isn't built by schedule {schedule_name} any more")
