"""
What a database's error means to the caller. Private to ``storage``: used by ``ledger`` for everything that its
queries raise, so that no error of SQLAlchemy's or of a driver's gets any further.

- `LedgerUnavailable`, `LedgerUnusable`: the database can't do it now, or not before an operator has mended it.
- `LedgerConflict`: it refused the change, since something else is there already, or isn't there any more.
- `LedgerFault`: it can't do what it was asked. That is a mistake of this program.

What a query raises on purpose stays as it is.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as NoConnection

from twistedipc.storage.errors import (
    LedgerConflict,
    LedgerFault,
    LedgerUnavailable,
    LedgerUnreachable,
    LedgerUnusable,
)

_Kind = type[LedgerUnavailable] | type[LedgerConflict] | type[LedgerFault]

_LOCKED = "the database is locked by another program"
_UNOPENED = "the database can't be opened"
_OVERLOADED = "the database is overloaded"

#: SQLite's result codes (their low byte; above it SQLite says more than people need). What isn't here is our mistake.
_SQLITE: dict[int, tuple[_Kind, str]] = {
    sqlite3.SQLITE_BUSY: (LedgerUnavailable, _LOCKED),
    sqlite3.SQLITE_LOCKED: (LedgerUnavailable, _LOCKED),
    sqlite3.SQLITE_PROTOCOL: (LedgerUnavailable, _LOCKED),
    sqlite3.SQLITE_FULL: (LedgerUnavailable, "the disk under the database is full"),
    sqlite3.SQLITE_IOERR: (LedgerUnavailable, "the database can't be read or written (an I/O error)"),
    sqlite3.SQLITE_NOMEM: (LedgerUnavailable, "there is no memory left for the database"),
    sqlite3.SQLITE_INTERRUPT: (LedgerUnavailable, "the database was interrupted"),
    sqlite3.SQLITE_SCHEMA: (LedgerUnavailable, "the database's schema was changed meanwhile"),
    sqlite3.SQLITE_READONLY: (LedgerUnusable, "the database can't be written (it is read-only)"),
    sqlite3.SQLITE_CANTOPEN: (LedgerUnusable, _UNOPENED),
    sqlite3.SQLITE_PERM: (LedgerUnusable, _UNOPENED),
    sqlite3.SQLITE_CORRUPT: (LedgerUnusable, "the database is damaged"),
    sqlite3.SQLITE_NOTADB: (LedgerUnusable, "the file isn't a database"),
    sqlite3.SQLITE_CONSTRAINT: (LedgerConflict, "something else was there first"),
}

#: PostgreSQL's SQLSTATE, of which the longest beginning counts (PostgreSQL's manual, appendix A).
_POSTGRESQL: dict[str, tuple[_Kind, str]] = {
    "08": (LedgerUnavailable, "the database can't be reached"),
    "23": (LedgerConflict, "something else was there first"),
    "25": (LedgerUnavailable, "the database can't be written now"),  # it became a standby, say
    "28": (LedgerUnusable, "the database lets this user not in"),
    "3D": (LedgerUnusable, "there is no such database"),
    "40": (LedgerUnavailable, "something else was written at the same moment"),
    "3F": (LedgerUnusable, "the database has no schema for the ledger"),
    "42501": (LedgerUnusable, "the database doesn't permit that to this user"),
    "53": (LedgerUnavailable, _OVERLOADED),
    "53100": (LedgerUnavailable, "the disk under the database is full"),
    "55": (LedgerUnavailable, _LOCKED),
    "57": (LedgerUnavailable, "the database was stopped, or took too long"),
    "58": (LedgerUnavailable, "the database can't be read or written (an I/O error)"),
    "XX001": (LedgerUnusable, "the database is damaged"),
    "XX002": (LedgerUnusable, "the database is damaged"),
}

#: What a driver raises without a code, by the names that PEP 249 gives to the classes.
_NAMES: dict[str, tuple[_Kind, str]] = {
    "OperationalError": (LedgerUnavailable, "the database can't be used"),
    "InterfaceError": (LedgerUnavailable, "the database can't be used"),
    "IntegrityError": (LedgerConflict, "something else was there first"),
}

_FAULT: tuple[_Kind, str] = LedgerFault, "the database can't do what it was asked"


def translated(error: BaseException) -> BaseException:
    """What is to be raised in the place of ``error``, with it as its cause; itself, unless it is a database's."""
    meaning = _meaning(error)
    if meaning is None:
        return error
    kind, reason = meaning
    original = getattr(error, "orig", None) or error
    said = " ".join(str(original).split())[:500]
    told = _not_let_in(original, said) or kind(f"{reason}: {said}")
    told.__cause__ = error
    return told


def gone(error: BaseException) -> bool:
    """Whether the connection was lost by this, or none could be made: what else waits would fail as well."""
    if isinstance(error, StatementError) and getattr(error, "connection_invalidated", False):
        return True
    original = getattr(error, "orig", None) or error
    return _is_psycopgs(original) and getattr(original, "sqlstate", None) is None and _connecting(original)


def unanswered(error: BaseException) -> bool:
    """Whether the database hasn't answered at all, so that what was asked may still be done."""
    return type(getattr(error, "orig", None) or error).__name__ in ("Unanswered", "ConnectionTimeout")


def _not_let_in(original: BaseException, said: str) -> Exception | None:
    """Return what PostgreSQL means by making no connection, of which its driver gives only the text."""
    state = getattr(original, "sqlstate", None)
    if not _is_psycopgs(original) or not (state in _ANSWERS if state else _connecting(original)):
        return None
    from twistedipc.storage.postgresql import refusal  # here, its driver is installed

    if sentence := refusal(said):
        return LedgerUnusable(f"{sentence} (it says: {said})")
    if state or any(passing in said for passing in _PASSING):
        return None
    return LedgerUnreachable(
        "PostgreSQL can't be reached: start it, or correct the host and the port in database.url (" + said + ")"
    )


#: The codes of what ``refusal`` knows something about.
_ANSWERS = ("08P01", "3F000", "42501")

#: In English, which is what servers speak unless their lc_messages says otherwise.
_PASSING = ("the database system is", "too many clients", "remaining connection slots", "too many connections")


def _connecting(original: BaseException) -> bool:
    """Whether a driver's error without a code is one of making a connection."""
    said = str(original)
    return said.startswith(("connection failed:", "connection is bad:", "connection timeout", "failed to resolve"))


def _is_psycopgs(error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0] == "psycopg" for kind in type(error).__mro__)


def _meaning(error: BaseException) -> tuple[_Kind, str] | None:
    if isinstance(error, NoConnection):
        return LedgerUnavailable, _OVERLOADED
    if isinstance(error, StatementError) and error.orig is not None:
        if getattr(error, "connection_invalidated", False):
            return LedgerUnavailable, "the connection to the database was lost"
        return _of_driver(error.orig) or _FAULT
    if isinstance(error, SQLAlchemyError):
        # With a connection that was lost before this statement, SQLAlchemy doesn't ask the driver any more.
        lost = "PendingRollbackError", "ResourceClosedError"
        return _NAMES["OperationalError"] if type(error).__name__ in lost else _FAULT
    if isinstance(error, (OverflowError, UnicodeEncodeError)):
        return _FAULT  # a value that the driver can't write down
    return _of_driver(error)


def _of_driver(error: BaseException) -> tuple[_Kind, str] | None:
    """Return what a driver's own error means; None if it is no driver's."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return _NAMES["OperationalError"] if "closed" in str(error) else _NAMES.get(type(error).__name__, _FAULT)
        return _SQLITE.get(code & 0xFF, _FAULT)
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == "psycopg"]
    if not names:
        return None
    state = getattr(error, "sqlstate", None) or ""
    for beginning in (state[:5], state[:2]):
        if beginning in _POSTGRESQL:
            return _POSTGRESQL[beginning]
    if state:
        return _FAULT
    return next((_NAMES[name] for name in names if name in _NAMES), _FAULT)
