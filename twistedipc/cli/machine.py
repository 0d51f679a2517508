"""What the commands that work on a builder's own machine have alike: which builder, and where its data are."""

from __future__ import annotations

from pathlib import Path

import click

from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.taps.config import ConfigError, load_builder

builder_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("builder.toml"),
    show_default=True,
    help="The builder's configuration file.",
)


def data_of(config: Path) -> Path:
    """Return the data folder of the builder with this configuration file. Raises `Failure`."""
    try:
        return load_builder(config).data
    except ConfigError as error:
        raise Failure(ExitCode.USAGE, str(error)) from error
