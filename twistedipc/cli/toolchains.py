"""`twistedipc toolchains …`: what a builder has fetched, on the builder's own machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.machine import builder_option, data_of
from twistedipc.cli.output import local_time, note, print_table
from twistedipc.terminal.amounts import size
from twistedipc.toolchains.store import Store


@click.group()
def toolchains() -> None:
    """Show and remove the Node and the package managers that a builder has fetched, on the builder's machine."""


@toolchains.command("list")
@builder_option
def list_toolchains(config: Path) -> None:
    """List what was fetched."""
    store = _store(config)
    rows = [
        (entry.package, entry.version, size(entry.size), _when(store.used(entry.package, entry.version)))
        for entry in store.entries()
    ]
    print_table(("PACKAGE", "VERSION", "SIZE", "USED"), rows, empty="nothing was fetched")


@toolchains.command("clear")
@builder_option
def clear_toolchains(config: Path) -> None:
    """Remove what was fetched, but for what a running build may use."""
    try:
        note(f"removed: {len(_store(config).clean(unused=0.0))}")
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{error.filename} can't be removed: {error.strerror}") from error


def _store(config: Path) -> Store:
    return Store(data_of(config) / "toolchains", now=lambda: time.time_ns() // 1_000_000)


def _when(used: float) -> str:
    return local_time(datetime.fromtimestamp(used, UTC)) if used else "-"
