"""
How the command shows things: tables, times, durations, the states of builds. Used by the commands.

Results go to standard output, and everything else goes to standard error.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from twistedipc.builds.counts import counted
from twistedipc.builds.scopes import WARNED_DAYS
from twistedipc.builds.states import Tone
from twistedipc.cli.client import Answer
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.fields import NoSuchField, picked, plain
from twistedipc.cli.tables import GAP, fitted
from twistedipc.terminal import escapes
from twistedipc.terminal.amounts import duration

_STYLES: dict[Tone, str] = {
    Tone.WAITING: "",
    Tone.BUSY: "cyan",
    Tone.GOOD: "green",
    Tone.BAD: "red",
    Tone.WARNING: "yellow",
}

color_option = click.option(
    "--color/--no-color", "colour", default=None, help="Keep colours (else: if standard output is a terminal)."
)

#: Where a command's `Selection` is, in the context of click.
_SELECTION = "twistedipc.selection"

#: How `--json` without fields comes to click.
ALL = "*"


@dataclass(frozen=True)
class Selection:
    """What of an answer is printed: ``fields`` as JSON (none: all of it), or the values of ``field`` as text."""

    fields: tuple[str, ...] = ()
    field: str = ""


def json_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --json and --field to a command, which gets ``as_json``: whether it calls `print_json`, and nothing else."""

    @click.option(
        "--json",
        "json_fields",
        is_flag=False,
        flag_value=ALL,
        metavar="[FIELD,…]",
        help="Print the API's JSON, exactly; or only these of its fields: --json id,state (one alone: --json=id).",
    )
    @click.option("--field", metavar="FIELD", help="Print the value of this field of the API's JSON alone.")
    @functools.wraps(command)
    def with_selection(*args: Any, json_fields: str | None, field: str | None, **options: Any) -> None:
        if json_fields is not None and field is not None:
            raise click.UsageError("--json and --field contradict one another")
        fields = () if json_fields in (None, ALL) else tuple(filter(None, (json_fields or "").split(",")))
        click.get_current_context().meta[_SELECTION] = Selection(fields, field or "")
        command(*args, as_json=json_fields is not None or field is not None, **options)

    return with_selection


def _is_whole(_context: click.Context, _parameter: click.Parameter, value: str | None) -> bool:
    if value not in (None, ALL):
        raise click.BadParameter("only all of this command's JSON can be printed")
    return value is not None


#: For a command whose JSON isn't an answer of the API. A flag it can't be: see `with_fields_joined`.
whole_json_option = click.option(
    "--json",
    "as_json",
    is_flag=False,
    flag_value=ALL,
    metavar="",
    callback=_is_whole,
    help="Print the outcome as JSON.",
)


def with_fields_joined(arguments: Sequence[str]) -> list[str]:
    """
    Return a command line on which the fields of `--json` can't be taken for something else: a word behind it is meant
    if it has a comma, since no name and no number has one.
    """
    joined: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            return [*joined, word, *left]
        if word == "--json":
            word = f"--json={left.pop(0) if left and ',' in left[0] and left[0][0] != '-' else ALL}"
        joined.append(word)
    return joined


def wants_colour(option: bool | None = None) -> bool:
    """
    Return whether to use colours: as the option says, else as NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE or CLICOLOR do, in
    this order; else if standard output is a terminal that has them.
    """
    if option is not None:
        return option
    if os.environ.get("NO_COLOR"):
        return False
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        if said := os.environ.get(name):
            return said not in ("0", "false")
    if os.environ.get("CLICOLOR") == "0" or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty()


def note(message: str) -> None:
    """Print a sentence on standard error."""
    click.echo(escapes.plain(message), err=True)


def print_json(answer: Answer) -> None:
    """Print the answer's body as it came, or what of it was asked for. Raises `Failure`."""
    context = click.get_current_context(silent=True)
    selection = context.meta.get(_SELECTION, Selection()) if context is not None else Selection()
    try:
        if selection.field:
            click.echo(plain(answer.body, selection.field), nl=False)
        elif selection.fields:
            click.echo(picked(answer.body, selection.fields))
        else:
            click.echo(answer.body.rstrip(b"\n"))
    except NoSuchField as error:
        raise Failure(ExitCode.USAGE, str(error)) from error


@dataclass(frozen=True)
class Toned:
    """A state, to be shown in the colour of its tone."""

    state: str
    tone: Tone


@dataclass(frozen=True)
class Ago:
    """A time of the past: people are shown how long ago it was, and programs when."""

    time: datetime | None

    def shown(self, now: datetime) -> str:
        """Return it for people: "3 min ago"."""
        return "" if self.time is None else ago((now - self.time).total_seconds()) or local_time(self.time)[:10]


def ago(seconds: float) -> str:
    """Return how long ago something was: "3 min ago"; "" if that is so long that a date says more."""
    if seconds < 5:
        return "just now"
    for unit, length, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 24), ("d", 86400, 30)):
        if seconds < length * most:
            return f"{int(seconds // length)} {unit} ago"
    return ""


def cell(value: object) -> Text:
    """
    Return a value of a table. It may come from a stranger, so it has no controls, and rich's markup in it is text.
    """
    if isinstance(value, Toned):
        return Text(value.state, style=_STYLES[value.tone])
    if isinstance(value, Ago):
        return Text(value.shown(datetime.now(UTC)) if sys.stdout.isatty() else local_time(value.time))
    text = "" if value is None else str(value)
    return Text(escapes.plain(text).replace("\n", " "))


#: Columns of texts that are wrapped rather than cut, at the right end of a table.
_WRAPPED = ("DETAIL", "REPOSITORY", "WHY", "SAYS", "REASON", "WHY IT ISN'T LIVE")


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    empty: str,
    drop: Sequence[str] = (),
    wrap: bool = True,
) -> None:
    """
    Print a table on standard output: in a terminal as many columns as fit, and elsewhere all, with tabs between them.

    :param empty: what is said if it has no rows
    :param drop: the columns that a narrow terminal leaves out first
    :param wrap: whether a long text in the last column may take several lines
    """
    filled = list(rows)
    if not filled:
        note(empty)
    elif sys.stdout.isatty():
        console().print(table_of(columns, filled, drop=drop, wrap=wrap))
    else:
        _print_rows([[Text(column) for column in columns], *([cell(value) for value in row] for row in filled)])


def table_of(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, drop: Sequence[str] = (), wrap: bool = True
) -> Table:
    """Return a table of at least one row, with the columns that fit into the terminal, as `print_table` has it."""
    cells = [[cell(value) for value in row] for row in rows]
    needs = [max(row[index].cell_len for row in cells) for index in range(len(columns))]
    widths = [max(need, len(column)) if need else 0 for need, column in zip(needs, columns, strict=True)]
    last = len(columns) - 1
    wrapped = last if wrap and columns[last] in _WRAPPED else None
    shown = fitted(widths, console().width, drop=[columns.index(name) for name in drop], wrapped=wrapped)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for index, width in shown:
        if index == wrapped:
            table.add_column(columns[index], width=width, overflow="fold")
        else:
            table.add_column(columns[index], width=width, no_wrap=True, overflow="ellipsis")
    for row in cells:
        table.add_row(*(row[index] for index, _width in shown))
    return table


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one on a line, without those that have no value."""
    shown = [(name, cell(value)) for name, value in fields if value not in (None, "", [], {})]
    if not sys.stdout.isatty():
        _print_rows([[Text(name), value] for name, value in shown])
        return
    grid = Table.grid(padding=(0, GAP))
    for name, value in shown:
        grid.add_row(Text(name, style="bold"), value)
    console().print(grid)


def _print_rows(rows: Iterable[Sequence[Text]]) -> None:
    """Print rows for a program: whole, with a tab between two values."""
    colour = wants_colour()
    for row in rows:
        cells = [each.plain.replace("\t", " ") for each in row]
        if colour:
            styles = [Style.parse(str(each.style) or "none") for each in row]
            cells = [style.render(text) for style, text in zip(styles, cells, strict=True)]
        click.echo("\t".join(cells), color=True)


def console() -> Console:
    """Return a console on standard output. A pipe has no width, so nothing is cut or wrapped for it."""
    if sys.stdout.isatty():
        return Console(highlight=False, markup=False, emoji=False, no_color=not wants_colour())
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
    soon = "expired" if left < timedelta() else f"in {counted(left.days, 'day')}"
    return f"{local_time(expires)} ({soon})"


def between(start: datetime | None, end: datetime | None) -> str:
    """Return how long something took, if it has begun and ended."""
    return "" if start is None or end is None else duration((end - start).total_seconds())
