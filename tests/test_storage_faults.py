"""No error of a driver's gets through the ledger: each becomes what it means to the caller."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as NoConnection

from tests.storage_fixtures import NOW, add_project
from twistedipc.cli.ledger import Turns
from twistedipc.storage import projects, tables
from twistedipc.storage.errors import LedgerConflict, LedgerFault, LedgerUnavailable, LedgerUnusable, NotFound
from twistedipc.storage.faults import translated
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.prepared import Prepared, command

#: A number beyond the integers of databases, and a text that can't be written as UTF-8.
HUGE, LONE = 1 << 70, "\ud800"


def _build(**more: object) -> Callable[[Connection], object]:
    values = {
        "project_id": 1,
        "ref": "main",
        "publish": True,
        "parameters": "{}",
        "requested_by": "ann",
        "created": NOW,
        "attempt": 1,
        "state": "queued",
        **more,
    }
    return lambda connection: connection.execute(insert(tables.builds).values(**values))


def _audit(**more: object) -> Callable[[Connection], object]:
    row = {"time": 1, "who": "x", "action": "x", "subject": "x", "detail": "{}", **more}
    statement = Prepared(insert(tables.audit).values(dict.fromkeys(row)))
    return lambda connection: statement.run(connection, [row])


def _select(value: object) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(text("SELECT :x"), {"x": value}).all()


def _closed(connection: Connection) -> object:
    """The driver's connection goes away in the middle, as when a server is killed."""
    driver: Any = connection.connection.driver_connection
    driver.close()
    command(connection, "SELECT 1")
    return None


def _after(path: Path, *asked: Callable[[Connection], object]) -> list[object]:
    """What a ledger gives for each of these writes: a result, or the exception."""
    turns = Turns()
    ledger = Ledger(turns, f"sqlite:///{path}", now=lambda: NOW, busy_timeout=0.1)

    async def work() -> list[object]:
        await ledger.open()
        given: list[object] = []
        for query in asked:
            try:
                given.append(await ledger.write(query))
            except Exception as error:
                given.append(error)
        await ledger.close()
        return given

    return turns.run(work())


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (lambda connection: connection.execute(text("no SQL")), LedgerFault),
        (lambda connection: connection.execute(text("SELECT * FROM nowhere")), LedgerFault),
        (lambda connection: connection.execute(text("SELECT 1 UNION SELECT 2")).one(), LedgerFault),
        (lambda connection: connection.execute(text("SELECT :x"), {}), LedgerFault),
        (lambda connection: command(connection, "no SQL"), LedgerFault),
        (_select(HUGE), LedgerFault),
        (_select(LONE), LedgerFault),
        (_select(object()), LedgerFault),
        (_audit(time=HUGE), LedgerFault),
        (_audit(who=LONE), LedgerFault),
        (_audit(who=None), LedgerConflict),
        (_build(project_id=999), LedgerConflict),
        (_build(id=HUGE), LedgerFault),
        (_build(ref=None), LedgerConflict),
        (_closed, LedgerUnavailable),
    ],
)
def test_what_a_query_provokes(tmp_path: Path, asked: Callable[[Connection], object], kind: type[Exception]) -> None:
    """Errors of SQLAlchemy, of the driver and of Python came out as they were."""
    error, after = _after(tmp_path / "it", asked, add_project)
    assert type(error) is kind, repr(error)
    assert "\n" not in str(error)
    assert not isinstance(after, Exception), "the ledger goes on"


def test_what_a_query_raises_on_purpose_stays(tmp_path: Path) -> None:
    def missing(connection: Connection) -> None:
        projects.set_secret(connection, "none", "npm_token", b"x", NOW)

    (error,) = _after(tmp_path / "it", missing)
    assert isinstance(error, NotFound)
    for own in (ValueError("x"), LookupError("x"), NotFound("x"), LedgerUnavailable("x"), KeyboardInterrupt()):
        assert translated(own) is own


class _Postgresql(Exception):
    """An error as psycopg raises it."""

    sqlstate: str | None = None


def _of_psycopg(name: str, state: str | None) -> BaseException:
    bases = (type("Error", (_Postgresql,), {"__module__": "psycopg"}),)
    kind = type(name, bases, {"__module__": "psycopg.errors", "sqlstate": state})
    error: BaseException = kind("no\ngood")
    return error


@pytest.mark.parametrize(
    ("name", "state", "kind"),
    [
        ("UniqueViolation", "23505", LedgerConflict),
        ("ForeignKeyViolation", "23503", LedgerConflict),
        ("QueryCanceled", "57014", LedgerUnavailable),  # a statement's timeout
        ("LockNotAvailable", "55P03", LedgerUnavailable),
        ("SerializationFailure", "40001", LedgerUnavailable),
        ("DeadlockDetected", "40P01", LedgerUnavailable),
        ("TooManyConnections", "53300", LedgerUnavailable),
        ("DiskFull", "53100", LedgerUnavailable),
        ("AdminShutdown", "57P01", LedgerUnavailable),
        ("ReadOnlySqlTransaction", "25006", LedgerUnavailable),
        ("OperationalError", None, LedgerUnavailable),  # "the connection is closed"
        ("InterfaceError", None, LedgerUnavailable),
        ("InvalidCatalogName", "3D000", LedgerUnusable),
        ("InvalidPassword", "28P01", LedgerUnusable),
        ("InsufficientPrivilege", "42501", LedgerUnusable),
        ("DataCorrupted", "XX001", LedgerUnusable),
        ("NumericValueOutOfRange", "22003", LedgerFault),
        ("DataError", None, LedgerFault),  # a NUL in a text
        ("UndefinedTable", "42P01", LedgerFault),
        ("ProgrammingError", None, LedgerFault),
        ("InternalError", "XX000", LedgerFault),
    ],
)
def test_what_postgresql_says(name: str, state: str | None, kind: type[Exception]) -> None:
    raw = _of_psycopg(name, state)
    for error in (raw, DBAPIError("SELECT 1", None, raw)):
        told = translated(error)
        assert type(told) is kind
        assert told.__cause__ is error
        assert str(told).endswith(": no good")


def test_what_sqlalchemy_says_of_a_connection_that_is_lost() -> None:
    raw = _of_psycopg("ProgrammingError", None)
    lost = DBAPIError("SELECT 1", None, raw, connection_invalidated=True)
    for error in (lost, PendingRollbackError("roll back first"), NoConnection("the pool is empty")):
        assert type(translated(error)) is LedgerUnavailable


def test_a_start_waits_for_another_program_that_writes(tmp_path: Path) -> None:
    """Of a database that isn't in WAL mode yet, SQLite said "locked" at once, however long one was ready to wait."""
    path = tmp_path / "it"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.executescript("CREATE TABLE other (x); BEGIN; INSERT INTO other VALUES (1)")
    done = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    done.start()
    turns = Turns()
    ledger = Ledger(turns, f"sqlite:///{path}", now=lambda: NOW)

    async def work() -> None:
        await ledger.open()
        await ledger.close()

    turns.run(work())
    done.join()
    other.close()
