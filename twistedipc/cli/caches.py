"""`twistedipc caches …`: what a builder's builds keep for the next ones, on the builder's own machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from twistedipc.builds.retention import shown
from twistedipc.caches.tidying import Kept, clear, kept
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.machine import builder_option, data_of
from twistedipc.cli.output import json_option, local_time, note, print_table
from twistedipc.terminal.amounts import size


@click.group()
def caches() -> None:
    """Show and remove what builds keep for the next builds of their project, on the builder's machine."""


@caches.command("list")
@builder_option
@json_option
def list_caches(config: Path, as_json: bool) -> None:
    """List what is kept, by project."""
    found = kept(_folder(config), _now)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    print_table(
        ("PROJECT", "WHAT", "SIZE", "SAVED", "USED", "RULE"),
        [(_project(one), one.name, size(one.size), _when(one.saved), _when(one.used), _rule(one)) for one in found],
        empty="nothing is kept",
    )


@caches.command("clear")
@click.argument("project", required=False, default="")
@builder_option
def clear_caches(project: str, config: Path) -> None:
    """Remove what is kept of PROJECT, or of all projects. Builds that run have a copy of their own."""
    folder = _folder(config)
    names = {one.project for one in kept(folder, _now) if project in ("", _project(one))}
    if project and not names:
        raise Failure(ExitCode.NOT_FOUND, f"nothing is kept of {project}")
    count = sum(clear(folder, name, _now) for name in names)
    note(f"removed: {count}")


def _folder(config: Path) -> Path:
    return data_of(config) / "caches"


def _project(one: Kept) -> str:
    """The project's name: its folder's, less the part that tells its repository."""
    return one.project.rpartition("-")[0]


def _rule(one: Kept) -> str:
    """After how long without use it goes by the project's rule, if it has one."""
    return "" if one.rule is None else shown(one.rule)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _when(at: int) -> str:
    return local_time(datetime.fromtimestamp(at / 1000, UTC))
