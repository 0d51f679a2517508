"""`twistedipc toolchains`: what a builder has fetched, on the builder's own machine."""

from __future__ import annotations

import time
from pathlib import Path

import click

from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.taps.config import ConfigError, load_builder
from twistedipc.toolchains.store import Entry, Store


@click.command()
@click.option("--config", type=click.Path(path_type=Path), required=True, help="The builder's file, builder.toml.")
@click.option("--clear", is_flag=True, help="Delete what no running build can use.")
def toolchains(config: Path, clear: bool) -> None:
    """Show which versions of Node and of package managers a builder has fetched, on the builder's own machine."""
    try:
        folder = load_builder(config).data / "toolchains"
    except ConfigError as error:
        raise Failure(ExitCode.USAGE, str(error)) from error
    store = Store(folder, now=lambda: time.time_ns() // 1_000_000)
    try:
        entries = store.clean(unused=0.0) if clear else store.entries()
        if not entries:
            click.echo(f"Nothing {'was deleted' if clear else 'is'} in {folder}")
        for entry in entries:
            click.echo(f"{'deleted ' if clear else ''}{_line(store, entry)}")
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{error.filename or folder} can't be used: {error.strerror}") from error


def _line(store: Store, entry: Entry) -> str:
    used = store.used(entry.package, entry.version)
    when = time.strftime("%Y-%m-%d", time.localtime(used)) if used else "-"
    return f"{entry.package:32} {entry.version:14} {entry.size / (1 << 20):8.1f} MiB   used {when}"
