"""`twistedipc sessions`: which browsers are signed in."""

from __future__ import annotations

import click

from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.output import json_option, local_time, note, print_json, print_table
from twistedipc.web.api.schemas import Sessions


@click.command()
@with_client
@click.option("--end", type=click.IntRange(min=1), metavar="ID", help="Sign the browser with this ID out.")
@click.option("--end-all", is_flag=True, help="Sign all of your browsers out.")
@json_option
def sessions(client: Client, end: int | None, end_all: bool, as_json: bool) -> None:
    """List your browsers that are signed in (for an admin: all), or sign them out."""
    if end is not None:
        client.delete(path("sessions", end))
        note(f"session {end} is over")
        return
    if end_all:
        client.delete(path("sessions"), {"all": 1})
        note("all of your sessions are over")
        return
    answer = client.get(path("sessions"))
    if as_json:
        print_json(answer)
        return
    print_table(
        ("ID", "NAME", "SIGNED IN", "LAST USED", "ENDS", "FROM", "BROWSER"),
        [
            (
                each.id,
                each.name,
                local_time(each.created),
                local_time(each.last_used),
                local_time(each.expires),
                each.address,
                each.agent,
            )
            for each in answer.decode(Sessions).sessions
        ],
        empty="no browser is signed in",
    )
