"""
The database under the platform's ledger, as faults see it: SQLite in its folder, a PostgreSQL of its own, or one that
is given. Made by ``platform``; blocking, for threads.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from twistedipc.chaos.plan import FaultKind
from twistedipc.chaos.postgresql import PostgreSQL, programs
from twistedipc.cli.failures import ExitCode, Failure

#: What stands for a PostgreSQL of the experiment's own, in the place of an address.
OWN = "own"


class Database(Protocol):
    """What a ledger is in."""

    url: str  # for the configuration; "": where the apiserver has it by itself
    cannot: frozenset[FaultKind]  # kinds of faults that can't be done to it

    def lock(self, seconds: float, exclusive: bool) -> None:
        """Hold the ledger's lock for writing, as another program would."""

    def kill(self, seconds: float) -> None:
        """End it as in a crash, and start it again after so many seconds."""

    def freeze(self, seconds: float) -> None:
        """Stop its processes for so many seconds."""

    def close(self) -> None:
        """End what is the experiment's own."""


def database(wanted: str, folder: Path) -> Database:
    """
    Return the database that is wanted: "" for SQLite, `OWN`, or an address of PostgreSQL's. ``folder``: the apiserver's
    data. Raises `Failure` if it can't be used.
    """
    if not wanted:
        return _SQLite(folder)
    return _OwnPostgreSQL() if wanted == OWN else _PostgreSQL(wanted)


class _SQLite:
    url = ""
    cannot = frozenset({FaultKind.KILL_DATABASE, FaultKind.FREEZE_DATABASE})

    def __init__(self, folder: Path) -> None:
        self._ledger = folder / "ledger.sqlite"

    def lock(self, seconds: float, exclusive: bool) -> None:
        # It may fail: the ledger itself held the lock for all that time.
        with (
            closing(sqlite3.connect(self._ledger, timeout=10.0, isolation_level=None)) as connection,
            suppress(sqlite3.OperationalError),
        ):
            connection.execute(f"BEGIN {'EXCLUSIVE' if exclusive else 'IMMEDIATE'}")
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    def kill(self, seconds: float) -> None:
        raise AssertionError("it is no process")

    def freeze(self, seconds: float) -> None:
        raise AssertionError("it is no process")

    def close(self) -> None:
        pass


class _PostgreSQL:
    cannot = frozenset({FaultKind.KILL_DATABASE, FaultKind.FREEZE_DATABASE, FaultKind.DATABASE_FULL})

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
            with self._engine.connect() as connection:
                tables = connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar()
        except (SQLAlchemyError, ModuleNotFoundError) as error:
            raise Failure(ExitCode.UNAVAILABLE, f"the database can't be used: {error}") from error
        if tables is not None:
            raise Failure(ExitCode.USAGE, "that database has a ledger already: an experiment needs an empty database")

    def lock(self, seconds: float, exclusive: bool) -> None:
        with suppress(SQLAlchemyError), self._engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = 10000")
            mode = "ACCESS EXCLUSIVE" if exclusive else "EXCLUSIVE"
            connection.exec_driver_sql(f"LOCK TABLE builds, attempts, log_chunks IN {mode} MODE")
            time.sleep(seconds)

    def kill(self, seconds: float) -> None:
        raise AssertionError("it is somebody else's")

    def freeze(self, seconds: float) -> None:
        raise AssertionError("it is somebody else's")

    def close(self) -> None:
        pass


class _OwnPostgreSQL(_PostgreSQL):
    cannot = frozenset({FaultKind.DATABASE_FULL})

    def __init__(self) -> None:
        if programs() is None:
            raise Failure(
                ExitCode.UNAVAILABLE, "PostgreSQL isn't installed: install it, or give the address of an empty database"
            )
        # Not in the experiment's folder, which only its owner may enter, while a server of root's is another user's.
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-pg-", dir="/tmp"))
        self._server = PostgreSQL(self._folder)
        self._server.start()
        super().__init__(self._server.url)

    def kill(self, seconds: float) -> None:
        self._server.stop(signal.SIGQUIT)
        time.sleep(seconds)
        self._server.start()

    def freeze(self, seconds: float) -> None:
        with self._server.frozen():
            time.sleep(seconds)

    def close(self) -> None:
        self._server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
