"""
`twistedipc logs --failed`, `--step`, `--tail` and `--since`: which part of a log is shown. The log's outline has where
steps are, so nothing is read that isn't shown. Used by ``builds``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

import click

from twistedipc.builds.logs import Lines
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.web.api.schemas import LogOutline, LogPage, OutlineStep

#: Outcomes of steps by which a build doesn't go on.
_BAD = ("failed", "timed_out", "cancelled")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, kw_only=True)
class Part:
    """What of a log was asked for; nothing of it: all of the log behind ``after``."""

    after: int = 0
    failed: bool = False
    step: str | None = None
    tail: int | None = None
    since: datetime | None = None

    @property
    def has_end(self) -> bool:
        """Whether it ends before the log does, so that it can't be followed."""
        return self.failed or self.step is not None


@dataclass(frozen=True)
class Range:
    """Records of a log: those behind ``after``, up to ``last`` (None: as many as there are)."""

    after: int
    last: int | None = None


def part_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for a part of a log to a command, which gets them as ``part``."""

    @click.option("--after", type=click.IntRange(min=0), default=0, metavar="N", help="From the line after line N on.")
    @click.option("--failed", is_flag=True, help="Only the step that failed.")
    @click.option("--step", metavar="NAME", help="Only this step.")
    @click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines, of a step too.")
    @click.option("--since", metavar="TIME", callback=_since, help="Only since then: 30s, 5m, 2h ago, or 14:05.")
    @wraps(command)
    def with_part(*args: Any, **options: Any) -> None:
        part = Part(**{name: options.pop(name) for name in ("after", "failed", "step", "tail", "since")})
        if part.failed and part.step is not None:
            raise click.UsageError("--failed and --step contradict one another: each is of one step")
        command(*args, part=part, **options)

    return with_part


def range_of(client: Client, build: int, attempt: int | None, part: Part) -> Range:
    """Return the records that a part of a log has. Raises `Failure` if there is no such step."""
    if not part.has_end and part.tail is None and part.since is None:
        return Range(part.after)
    outline = client.get(path("builds", build, "log", "outline"), {"attempt": attempt}).decode(LogOutline)
    after, last = part.after, None
    if part.has_end:
        step = _step(build, outline, part)
        if step.first is None:
            raise Failure(ExitCode.NOT_FOUND, f"the log of build {build} doesn't say where step {step.name} is")
        after, last = max(after, step.first - 1), step.last
    end = outline.records if last is None else last
    if part.since is not None:
        after = _behind(client, build, attempt, part.since, after, end)
    if part.tail is not None:
        after = max(after, end - part.tail)
    return Range(after, last)


def _step(build: int, outline: LogOutline, part: Part) -> OutlineStep:
    if part.failed:
        found = [step for step in outline.steps if step.outcome in _BAD]
        if not found:
            raise Failure(ExitCode.NOT_SUCCEEDED, f"no step of build {build} has failed")
        return found[0]
    named = [step for step in outline.steps if step.name == part.step]
    # A number in the place of a name is the step's, as people count.
    if not named and (part.step or "").isdecimal():
        named = [step for step in outline.steps if step.index + 1 == int(part.step or "")]
    if not named:
        known = ", ".join(step.name for step in outline.steps) or "none yet"
        raise Failure(ExitCode.NOT_FOUND, f"build {build} has no step {part.step}; there are {known}")
    return named[-1]


def _behind(client: Client, build: int, attempt: int | None, since: datetime, low: int, high: int) -> int:
    """Return the last record before this time, between ``low`` and ``high``; by asking for few of them."""
    wanted = since.timestamp() * 1000
    while low < high:
        middle = (low + high) // 2
        page = client.get(
            path("builds", build, "log"), {"format": "json", "attempt": attempt, "after": middle, "limit": 1}
        ).decode(LogPage)
        times = [batch.time for batch in page.batches if isinstance(batch, Lines)]
        # What is lost has no time: it is shown with what comes after it.
        if times and times[0] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


def _since(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    now = datetime.now(UTC)
    if match := re.fullmatch(r"([0-9]{1,9})([smhd])", value):
        return now - timedelta(seconds=min(int(match[1]) * _UNITS[match[2]], 10**9))
    if match := re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?", value):
        hour, minute, second = (int(each or 0) for each in match.groups())
        today = now.astimezone().replace(hour=hour, minute=minute, second=second, microsecond=0)
        return today if today <= now else today - timedelta(days=1)
    try:
        return datetime.fromisoformat(value).astimezone()
    except ValueError:
        raise click.BadParameter(f"{value!r} isn't 30s, 5m, 2h, 14:05 or 2026-03-04T05:06") from None
