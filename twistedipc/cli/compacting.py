"""`twistedipc ledger compact`: makes the file of an apiserver's database smaller, while the apiserver doesn't run."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import click

from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import note
from twistedipc.storage.errors import LedgerTaken
from twistedipc.storage.guard import FolderLock, is_free
from twistedipc.taps.config import ConfigError, load_apiserver
from twistedipc.terminal.amounts import size

#: In a process of its own: SQLite reads once where its temporary files are to be. From then on the file can be made
#: smaller bit by bit.
_PROGRAM = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
connection.execute("VACUUM")
connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
"""


@click.group()
def ledger() -> None:
    """Look after the apiserver's database."""


@ledger.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="APISERVER.TOML",
    default=Path("apiserver.toml"),
    show_default=True,
    help="The apiserver's configuration.",
)
def compact(config: Path) -> None:
    """Give the room in the database's file that holds nothing back to the disk.

    Run it on the apiserver's machine, as its user, while the apiserver is stopped. It takes up to twice the room of
    what the file holds, for as long as it runs. A file that was made by an older version gets smaller by itself
    afterwards.
    """
    try:
        loaded = load_apiserver(config)
    except ConfigError as error:
        raise Failure(ExitCode.USAGE, str(error)) from error
    url = loaded.database_url
    if url.get_backend_name() != "sqlite":
        raise Failure(ExitCode.USAGE, "PostgreSQL looks after its files by itself; its VACUUM FULL makes them smaller")
    path = Path(str(url.database))
    if not path.exists():
        raise Failure(ExitCode.NOT_FOUND, f"there is no database {path}")
    lock = FolderLock(loaded.data)
    try:
        lock.acquire()
        if not is_free(url):
            raise LedgerTaken(f"another apiserver has the database {path}. Stop that one first")
        _compact(path)
    except LedgerTaken as error:
        raise Failure(ExitCode.UNAVAILABLE, str(error)) from error
    finally:
        lock.release()


def _compact(path: Path) -> None:
    before = path.stat().st_size
    with closing(sqlite3.connect(path)) as connection:
        used, free, page = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
    needed, there = 2 * (used - free) * page, shutil.disk_usage(path.parent).free
    if there < needed:
        raise Failure(
            ExitCode.UNAVAILABLE,
            f"the disk of {path} has {size(there)} left, and this may need {size(needed)} for a while",
        )
    note(f"{path} has {size(before)}, of which {size(free * page)} hold nothing")
    environment = {**os.environ, "SQLITE_TMPDIR": str(path.parent)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it was ended"])[-1]
        raise Failure(ExitCode.UNAVAILABLE, f"{path} is as it was: {why}")
    note(f"done: it has {size(path.stat().st_size)} now, and gets smaller by itself from now on")
