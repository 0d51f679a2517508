"""
Which database the tests' ledgers are in: a SQLite file each, or, with ``TWISTEDIPC_TESTS_DATABASE=postgresql``
(``make test-postgresql``), a database each on one real PostgreSQL of this process.

Where a test asks for a ledger (``storage_fixtures``, ``instant``, ``web_world``) it gets one of that kind, with the
schema as the migrations make it.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
from functools import cache
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.pool import NullPool

from tests.postgres import PostgreSQL, running_postgresql
from twistedipc.storage.migrations import upgrade

KINDS = ("sqlite", "postgresql")

KIND = os.environ.get("TWISTEDIPC_TESTS_DATABASE", "sqlite")
assert KIND in KINDS, f"TWISTEDIPC_TESTS_DATABASE is one of {', '.join(KINDS)}"

ON_POSTGRESQL = KIND == "postgresql"

#: A database with the newest schema and nothing in it, of which the others are copies.
_TEMPLATE = "template_ledger"


@cache
def server() -> PostgreSQL:
    """Return this process' PostgreSQL; it ends with the process."""
    running = contextlib.ExitStack()
    atexit.register(running.close)
    made = running.enter_context(running_postgresql())
    _command(made, f"CREATE DATABASE {_TEMPLATE}")
    engine = create_engine(_address(made, _TEMPLATE), poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection)
    return made


def empty_database(name: str) -> URL:
    """Make a database without any table, if there is none of that name. Return its address."""
    return _made(name, "template0")


def new_database(name: str) -> URL:
    """Make a database with the newest schema, if there is none of that name. Return its address."""
    return _made(name, _TEMPLATE)


def database_of(folder: Path) -> URL:
    """Return the address of the database that belongs to a test's folder; it is made when it is asked for first."""
    return new_database(f"of_{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}")


_databases: set[str] = set()


def _made(name: str, template: str) -> URL:
    running = server()
    if name not in _databases:
        _command(running, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        _databases.add(name)
    return _address(running, name)


def _address(running: PostgreSQL, name: str) -> URL:
    return make_url(running.url).set(database=name)


@cache
def _maintenance(running: PostgreSQL) -> Engine:
    return create_engine(running.url, isolation_level="AUTOCOMMIT")


def _command(running: PostgreSQL, statement: str) -> None:
    with _maintenance(running).connect() as connection:
        connection.exec_driver_sql(statement)
