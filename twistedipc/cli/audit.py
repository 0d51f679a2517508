"""`twistedipc audit`: what people and builders did."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain

import click
import msgspec

from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, Query, Unreachable, path
from twistedipc.cli.output import json_option, local_time, note, print_json, print_table
from twistedipc.terminal import escapes
from twistedipc.web.api.schemas import Audit, AuditLine

#: Seconds between two requests of `--follow`, and after one that failed.
FOLLOW_INTERVAL = 2.0

#: The most lines of one answer.
MAX_PAGE = 1000

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _moment(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return ``2d``, ``12h`` (ago) or a date as the API takes a time."""
    if value is None:
        return None
    if match := re.match(r"([0-9]{1,6})([smhd])\Z", value):
        found = datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    else:
        try:
            found = datetime.fromisoformat(value).astimezone(UTC)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is neither a time such as 2026-01-31 or 12h (ago)") from error
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@click.command()
@with_client
@click.option("--project", help="Only what is about this project.")
@click.option("--who", help="Only what this one did: the name of a person, a token or a builder.")
@click.option("--action", help="Only this action, such as token.create, or all of a kind, such as token.")
@click.option("--since", callback=_moment, metavar="TIME", help="Only from then on: 2026-01-31, or 12h for 12 h ago.")
@click.option("--until", callback=_moment, metavar="TIME", help="Only before then.")
@click.option("--before", type=click.IntRange(min=1), metavar="ID", help="Only lines older than this one.")
@click.option("--limit", type=click.IntRange(1, MAX_PAGE), default=50, show_default=True, help="At most so many lines.")
@click.option("-f", "--follow", is_flag=True, help="Then go on with what happens, until interrupted.")
@json_option
def audit(
    client: Client,
    project: str | None,
    who: str | None,
    action: str | None,
    since: str | None,
    until: str | None,
    before: int | None,
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """
    Show what people and builders did, newest first. With --follow it is oldest first, line by line (with --json one
    JSON object in each), and goes on.
    """
    wanted: dict[str, str | int | None] = {"project": project, "who": who, "action": action, "since": since}
    query = wanted | {"until": until, "before": before, "limit": limit}
    if follow and (until is not None or before is not None):
        raise click.UsageError("--follow goes on without an end: it can't be used with --until or --before")
    answer = client.get(path("audit"), query)
    if follow:
        newest = answer.decode(Audit).lines
        after = max((line.id for line in newest), default=0)
        _print(chain(reversed(newest), following(client, wanted, after)), as_json)
        return
    if as_json:
        print_json(answer)
        return
    found = answer.decode(Audit)
    print_table(
        ("ID", "TIME", "WHO", "FROM", "ACTION", "SUBJECT", "DETAIL"),
        [(line.id, local_time(line.time), _who(line), line.address, *_what(line)) for line in found.lines],
        empty="there is nothing in the audit",
    )
    if found.next is not None:
        note(f"there are older lines: add --before {found.next}")


def following(client: Client, wanted: Query, after: int) -> Iterator[AuditLine]:
    """Yield the lines behind ``after`` as they come, for ever. A server that is away is asked again."""
    while True:
        try:
            lines = client.get(path("audit"), {**wanted, "after": after, "limit": MAX_PAGE}).decode(Audit).lines
        except Unreachable as error:
            note(f"{error.message}; trying again")
            lines = []
        yield from lines
        after = lines[-1].id if lines else after
        if len(lines) < MAX_PAGE:
            client.sleep(FOLLOW_INTERVAL)


def _print(lines: Iterable[AuditLine], as_json: bool) -> None:
    for line in lines:
        if as_json:
            click.echo(msgspec.json.encode(line))
            continue
        action, subject, detail = _what(line)
        shown = [local_time(line.time), _who(line), line.address or "-", action, subject, detail]
        click.echo(escapes.plain("  ".join(shown)).replace("\n", " "))


def _who(line: AuditLine) -> str:
    """Return who it was; what isn't a token says so, since a token may have any name."""
    if line.person is not None:
        return f"{line.person.name} (person {line.person.id}, token {line.token or 'none'})"
    if line.kind in (None, "token"):
        return line.who if line.token is None else f"{line.who} (token {line.token})"
    return f"{line.kind} {line.who}".rstrip() if line.who != line.kind else line.who


def _what(line: AuditLine) -> tuple[str, str, str]:
    detail = ", ".join(f"{name}: {value}" for name, value in line.detail.items())
    return line.action, line.subject, detail
