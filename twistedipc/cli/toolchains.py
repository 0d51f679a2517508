"""`twistedipc toolchains …`: what a builder has fetched, on the builder's own machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import local_time, note, print_table
from twistedipc.taps.config import ConfigError, load_builder
from twistedipc.terminal.amounts import size
from twistedipc.toolchains.store import Store

_config = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("builder.toml"),
    show_default=True,
    help="The builder's configuration file.",
)


@click.group()
def toolchains() -> None:
    """Show and remove the Node and the package managers that a builder has fetched, on the builder's machine."""


@toolchains.command("list")
@_config
def list_toolchains(config: Path) -> None:
    """List what was fetched."""
    store = _store(config)
    rows = [
        (entry.package, entry.version, size(entry.size), _when(store.used(entry.package, entry.version)))
        for entry in store.entries()
    ]
    print_table(("PACKAGE", "VERSION", "SIZE", "USED"), rows, empty="nothing was fetched")


@toolchains.command("clear")
@_config
def clear_toolchains(config: Path) -> None:
    """Remove what was fetched, but for what a running build may use."""
    try:
        note(f"removed: {len(_store(config).clean(unused=0.0))}")
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{error.filename} can't be removed: {error.strerror}") from error


def _store(config: Path) -> Store:
    try:
        return Store(load_builder(config).data / "toolchains", now=lambda: time.time_ns() // 1_000_000)
    except ConfigError as error:
        raise Failure(ExitCode.USAGE, str(error)) from error


def _when(used: float) -> str:
    return local_time(datetime.fromtimestamp(used, UTC)) if used else "-"
