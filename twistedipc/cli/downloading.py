"""`twistedipc download`: the files that a build has made."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.naming import build_argument
from twistedipc.cli.output import note
from twistedipc.terminal.amounts import size
from twistedipc.web.api.schemas import BuildDetail


@click.command()
@with_client
@build_argument
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Of this attempt (else of the newest).")
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Where it is written, - for standard output (else PROJECT-BUILD.tar.gz, in this folder).",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def download(client: Client, build_id: int, attempt: int | None, target: Path | None, force: bool) -> None:
    """Download the files that BUILD has made, as a tar.gz."""
    where = path("builds", build_id, "files")
    query = {"attempt": attempt}
    if target == Path("-"):
        client.save(where, query, sys.stdout.buffer)
        return
    if target is None:
        project = client.get(path("builds", build_id)).decode(BuildDetail).project
        target = Path(f"{project}-{build_id}{f'-{attempt}' if attempt else ''}.tar.gz")
    if os.path.lexists(target) and not force:
        raise Failure(ExitCode.USAGE, f"{target} is there already: --force writes over it, --to names another file")
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.absolute().parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                written = client.save(where, query, file)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{target} can't be written: {error.strerror}") from error
    note(f"{target}: {size(written)}")


def _umask() -> int:
    """Return which rights new files of this process don't have."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
