"""
How the command shows things: tables, times, durations, the states of builds. Used by the commands.

Results go to standard output, and everything else goes to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twistedipc.builds.scopes import WARNED_DAYS
from twistedipc.builds.states import Tone
from twistedipc.cli.client import Answer
from twistedipc.terminal import escapes
from twistedipc.terminal.amounts import duration

_STYLES: dict[Tone, str] = {
    Tone.WAITING: "",
    Tone.BUSY: "cyan",
    Tone.GOOD: "green",
    Tone.BAD: "red",
    Tone.WARNING: "yellow",
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON, exactly.")
color_option = click.option(
    "--color/--no-color", "colour", default=None, help="Keep colours (else: if standard output is a terminal)."
)


def wants_colour(option: bool | None) -> bool:
    """
    Return whether to use colours: as the option says, else if standard output is a terminal and NO_COLOR isn't set.
    """
    if option is not None:
        return option
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def note(message: str) -> None:
    """Print a sentence on standard error."""
    click.echo(escapes.plain(message), err=True)


def print_json(answer: Answer) -> None:
    """Print the answer's body as it came."""
    click.echo(answer.body.rstrip(b"\n"))


@dataclass(frozen=True)
class Toned:
    """A state, to be shown in the colour of its tone."""

    state: str
    tone: Tone


def cell(value: object) -> Text:
    """
    Return a value of a table. It may come from a stranger, so it has no controls, and rich's markup in it is text.
    """
    if isinstance(value, Toned):
        return Text(value.state, style=_STYLES[value.tone])
    text = "" if value is None else str(value)
    return Text(escapes.plain(text).replace("\n", " "))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print a table on standard output: fitted to a terminal, or in full width for a pipe."""
    filled = [[cell(value) for value in row] for row in rows]
    if not filled:
        note(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold" if column in ("DETAIL", "REPOSITORY") else "ellipsis")
    for row in filled:
        table.add_row(*row)
    console().print(table)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one on a line, without those that have no value."""
    shown = [(name, cell(value)) for name, value in fields if value not in (None, "", [], {})]
    grid = Table.grid(padding=(0, 2))
    for name, value in shown:
        grid.add_row(Text(name, style="bold"), value)
    console().print(grid)


def console() -> Console:
    """Return a console on standard output. A pipe has no width, so nothing is cut or wrapped for it."""
    if sys.stdout.isatty():
        return Console(highlight=False, markup=False, emoji=False)
    return Console(highlight=False, markup=False, emoji=False, width=10_000, soft_wrap=True, no_color=True)


def local_time(value: datetime | None) -> str:
    """Return a time in this machine's zone, to the second."""
    return "" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def expiry(expires: datetime | None, *, over: bool = False) -> str:
    """Return when something expires, and in how many days if that is soon and it isn't ``over`` already."""
    if expires is None:
        return "never"
    left = expires - datetime.now(UTC)
    if over or left > timedelta(days=WARNED_DAYS):
        return local_time(expires)
    return f"{local_time(expires)} ({'expired' if left < timedelta() else f'in {left.days} days'})"


def between(start: datetime | None, end: datetime | None) -> str:
    """Return how long something took, if it has begun and ended."""
    return "" if start is None or end is None else duration((end - start).total_seconds())
