"""
`twistedipc logs --grep`: lines of logs that match, as grep shows them. Used by ``builds``; the server searches.

All hits are shown, however many: each answer says where the next one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
import msgspec

from twistedipc.builds.counts import counted
from twistedipc.cli.client import Client, Query, Unreachable, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import note
from twistedipc.cli.parts import Range
from twistedipc.finding.blocks import Line
from twistedipc.finding.messages import LogHit, SearchedLog, SearchEnd
from twistedipc.terminal import escapes
from twistedipc.web.logs.messages import Closed

#: Hits of one answer.
PAGE = 1000

_decoder: msgspec.json.Decoder[LogHit | SearchedLog | SearchEnd | Closed] = msgspec.json.Decoder(
    LogHit | SearchedLog | SearchEnd | Closed
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to search for, and how to show it. ``newest``: from the end back; ``most``: hits, None for all."""

    pattern: str
    ignore_case: bool = False
    regex: bool = False
    context: int = 0
    count: bool = False
    newest: bool | None = None  # None: as the server does
    most: int | None = None
    colour: bool = False


def grep_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a search to a command, which gets them as ``asked``: an `Asked`, or None without --grep."""

    @click.option("--grep", "pattern", metavar="PATTERN", help="Show only lines that match, with their numbers.")
    @click.option("-i", "--ignore-case", is_flag=True, help="With --grep: capital and small letters are the same.")
    @click.option("-E", "--regexp", "regex", is_flag=True, help="With --grep: PATTERN is a regular expression of RE2.")
    @click.option(
        "-C",
        "--context",
        type=click.IntRange(0, 10),
        default=0,
        metavar="N",
        help="With --grep: also N lines around each.",
    )
    @click.option("--count", is_flag=True, help="With --grep: only how many lines match.")
    @click.option("-m", "--max-count", "most", type=click.IntRange(1), metavar="N", help="With --grep: only N lines.")
    @click.option("--newest/--oldest", default=None, help="With --grep: which lines, or builds, come first.")
    @wraps(command)
    def with_asked(*args: Any, pattern: str | None, **options: Any) -> None:
        chosen = {name: options.pop(name) for name in ("ignore_case", "regex", "context", "count", "most", "newest")}
        if pattern is not None:
            command(*args, asked=Asked(pattern=pattern, **chosen), **options)
        elif any(chosen.values()) or chosen["newest"] is not None:
            raise click.UsageError("without --grep PATTERN there is nothing to search for")
        else:
            command(*args, asked=None, **options)

    return with_asked


def grep_build(client: Client, build: int, attempt: int | None, records: Range, asked: Asked) -> ExitCode:
    """Show the lines of a part of a log that match. Return whether there are any, as grep's exit code says it."""
    newest = bool(asked.newest)
    order = "newest" if newest else "oldest"
    before = None if records.last is None else records.last + 1
    query: Query = {"attempt": attempt, "after": records.after, "before": before, "order": order}
    return _Grep(client, path("builds", build, "log", "search"), query, asked, newest=newest).run()


def grep_project(client: Client, project: str, asked: Asked) -> ExitCode:
    """Show the lines of a project's logs that match, by build, the newest first unless asked otherwise."""
    newest = asked.newest is not False
    query: Query = {"order": "newest" if newest else "oldest", "each": PAGE}
    return _Grep(client, path("projects", project, "logs", "search"), query, asked, newest=newest, named=True).run()


class _Grep:
    """One search, answer after answer."""

    def __init__(
        self, client: Client, where: str, query: Query, asked: Asked, *, newest: bool, named: bool = False
    ) -> None:
        self._client = client
        self._newest = newest
        self._where = where
        self._asked = asked
        self._query: dict[str, str | int | None] = {
            **query,
            "q": asked.pattern,
            "kind": "regex" if asked.regex else "text",
            "case": 0 if asked.ignore_case else 1,
            "context": asked.context,
            "count": int(asked.count),
            "format": "ndjson",
        }
        self._printer = _Printer(asked, named=named, backwards=newest and not named)
        self._named = named
        self._matches = 0
        self._missing = 0
        self._removed = ""  # why there is nothing of the log any more

    def run(self) -> ExitCode:
        """Search, and show what is found."""
        asked = self._asked
        while True:
            left = PAGE if asked.most is None else min(PAGE, asked.most - self._printer.hits)
            self._query["limit"] = 0 if asked.count else left
            end = self._answer()
            self._matches += end.matches
            if end.next is None or (asked.most is not None and self._printer.hits >= asked.most):
                break
            self._query["before" if self._newest else "after"] = end.next
        self._printer.finish()
        if asked.count and not self._named:
            click.echo(str(self._matches))
        if self._removed:
            note(self._removed)
        elif self._missing:
            lines = counted(self._missing, "record")
            note(f"{lines} could not be searched: removed, missing or damaged" if asked.count else _NOT_ALL)
        if self._matches:
            return ExitCode.OK
        return ExitCode.INCOMPLETE if self._missing else ExitCode.NOT_SUCCEEDED

    def _answer(self) -> SearchEnd:
        """Show what one answer has, and return its end. Raises `Failure`."""
        for message in self._messages():
            match message:
                case LogHit():
                    self._printer.show(message)
                case SearchedLog():
                    self._missing += message.missing
                    self._removed = message.removed
                    if self._asked.count and self._named and message.matches:
                        at_least = "" if message.complete else " or more"
                        click.echo(f"{message.build}-{message.attempt}:{message.matches}{at_least}")
                case Closed():
                    raise Failure(ExitCode.NOT_ALLOWED, f"{message.reason}: the search breaks off here")
                case SearchEnd():
                    return message
        raise Unreachable(f"the server at {self._client.url} broke off in the middle of the search")

    def _messages(self) -> Iterator[LogHit | SearchedLog | SearchEnd | Closed]:
        for line in self._client.stream(self._where, self._query):
            try:
                yield _decoder.decode(line)
            except msgspec.DecodeError as error:
                raise Failure(ExitCode.UNAVAILABLE, f"the server's answer isn't understood: {error}") from error


_NOT_ALL = "some records could not be searched: removed, missing or damaged"


class _Printer:
    """
    Prints hits: ``RECORD:LINE``, lines near them as ``RECORD-LINE``, each log's name in front if ``named``. In the
    order of the log, no line is printed twice.
    """

    def __init__(self, asked: Asked, *, named: bool, backwards: bool) -> None:
        self._asked = asked
        self._named = named
        self._backwards = backwards  # hits come from the end of the log
        self._log = ""  # of the hit before
        self._last = 0  # the last record of it that was printed
        self._after: list[Line] = []  # that follow the hit before, unless they are hits or come with one
        self.hits = 0

    def show(self, hit: LogHit) -> None:
        """Print a hit."""
        self.hits += 1
        log = f"{hit.build}-{hit.attempt}" if self._named else ""
        first = hit.before[0].record if hit.before else hit.record
        if log != self._log or self._backwards:
            self.finish()
            self._last = 0
        self._print_near([line for line in self._after if line.record < first])
        apart = self._log != log or not self._last or first > self._last + 1
        if self._asked.context and self.hits > 1 and apart:
            click.echo("--")
        self._log = log
        self._print_near(hit.before)
        if hit.record > self._last or self._backwards:
            self._print(hit.record, ":", self._line(hit))
        self._after = hit.after

    def finish(self) -> None:
        """Print what is left."""
        self._print_near(self._after)
        self._after = []

    def _print_near(self, lines: list[Line]) -> None:
        for line in lines:
            if line.record > self._last:
                self._print(line.record, "-", escapes.plain(line.text))

    def _print(self, record: int, mark: str, text: str) -> None:
        # Else click removes colours from what goes into a pipe.
        click.echo(f"{self._log}{mark if self._log else ''}{record}{mark}{text}", color=self._asked.colour)
        self._last = record

    def _line(self, hit: LogHit) -> str:
        parts = [escapes.plain(part) for part in hit.parts]
        if self._asked.colour:
            parts[1::2] = [f"\x1b[1;31m{part}{escapes.RESET}" for part in parts[1::2]]
        return ("…" if hit.skipped else "") + "".join(parts) + ("…" if hit.cut else "")
