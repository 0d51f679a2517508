"""
Connections to a database, as the ledger and its guard need them. ``storage`` layer.

Nothing here waits for ever: neither for a lock of another program's, nor for a server that doesn't answer. And nobody
waits for ever for us: on PostgreSQL a program that stops in the middle of a transaction (its machine was cut off or
suspended) loses that transaction's locks after a few seconds, since its successor would wait for them.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine, event

from twistedipc.disk.files import PASSING_ERRORS
from twistedipc.storage.clock import ThreadClock
from twistedipc.storage.errors import LedgerUnavailable, LedgerUnusable
from twistedipc.storage.prepared import command

#: Seconds that SQLite waits for another program's lock, and that PostgreSQL waits for the next statement of a
#: transaction.
BUSY_TIMEOUT: Final = 5.0

#: Seconds between two tries to set up a connection to a database that another program is setting up.
_PRAGMA_INTERVAL: Final = 0.02

#: KiB of pages that each reader keeps. Of logs, which are read once, the default (2 MiB) is only memory; the system has
#: the file in its own cache anyway.
_READER_CACHE: Final = 256

#: To how many bytes the write-ahead log is cut back after a long reader had made it grow.
_WAL_BYTES: Final = 64 << 20


def engine_for(url: URL, *, writes: bool, busy_timeout: float, clock: ThreadClock) -> Engine:
    """
    Return what connects to the database, for reading or for the one thread that writes.

    :param busy_timeout: seconds; see `BUSY_TIMEOUT`.
    :param clock: by which a thread waits that sets a new database up.
    """
    if url.get_backend_name() != "sqlite":
        made: Engine = _postgresql().engine(url, writes=writes, idle_timeout=busy_timeout)
        return made
    engine = create_engine(url, connect_args={"timeout": busy_timeout})

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, record: object) -> None:
        # Python's own idea of when a transaction begins (before some statements) breaks SAVEPOINTs: with None it
        # stays out of it, and `begun` says BEGIN.
        connection.isolation_level = None
        pragmas = ["foreign_keys = ON"]
        if writes:
            # FULL: in WAL mode, NORMAL would lose commits when the machine crashes.
            # First: whether a database can be made smaller is decided before it has anything.
            pragmas.insert(0, "auto_vacuum = INCREMENTAL")
            pragmas += ["journal_mode = WAL", "synchronous = FULL", f"journal_size_limit = {_WAL_BYTES}"]
        else:
            pragmas += ["query_only = ON", f"cache_size = -{_READER_CACHE}"]
        for pragma in pragmas:
            _set(connection, pragma, busy_timeout, clock)

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # The writer takes the lock at once: waiting for it is possible only before the transaction has read.
        command(connection, "BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def check_server(url: URL) -> None:
    """
    Look whether an apiserver's ledger can be where PostgreSQL's address leads. Raises `LedgerUnusable`, and what the
    driver raises.
    """
    if url.get_backend_name() != "sqlite":
        _postgresql().check_sessions(url)


def _postgresql() -> ModuleType:
    try:
        from twistedipc.storage import postgresql
    except ModuleNotFoundError as error:
        raise LedgerUnusable(
            "for PostgreSQL its driver is needed, which isn't installed: pip install 'twistedipc[postgresql]'"
        ) from error
    return postgresql


def _set(connection: sqlite3.Connection, pragma: str, patience: float, clock: ThreadClock) -> None:
    """
    Set a pragma. Of several processes that open a new database at once, each must have it for itself to make its mode
    WAL, and SQLite doesn't wait for that: of two that hold one another up, it tells one at once that it is locked.
    """
    deadline = clock.monotonic() + patience
    while True:
        try:
            connection.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or clock.monotonic() >= deadline:
                raise
            clock.sleep(_PRAGMA_INTERVAL)
        else:
            return


def create_file(path: Path) -> None:
    """SQLite would make the file readable for everyone. (Its other files get the mode of this one.)"""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        kind = LedgerUnavailable if error.errno in PASSING_ERRORS else LedgerUnusable
        raise kind(f"the database {path} can't be made: {error.strerror}") from error
