"""
PostgreSQL's connections: none waits for ever for a server that doesn't answer. Private to ``storage``: imported by
``engines`` when the ledger is on PostgreSQL, since its driver is an extra.

A server whose processes are stopped, or behind a network that has stopped carrying anything, keeps its connections
open: the kernel at its end still acknowledges bytes, so neither keepalives nor TCP's own timeout find out. So each
statement has a deadline of its own here, beside the server's.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.pool import NullPool

from twistedipc.storage.errors import LedgerUnusable

#: Seconds for a connection to be made. (libpq takes less than 2 for 2.)
CONNECT_TIMEOUT: Final = 3

#: Seconds that the server may take for a statement before it gives it up.
STATEMENT_TIMEOUT: Final = 3.0

#: Seconds that the server waits for a lock of another connection's.
LOCK_TIMEOUT: Final = 2.5

#: Seconds after which a server that hasn't answered a statement is taken for gone. More than `STATEMENT_TIMEOUT`: a
#: server that is only slow says so itself, and keeps its connection.
ANSWER_TIMEOUT: Final = 3.5

#: Seconds for a notification to be heard.
_HEARD: Final = 3.0

#: Seconds for a statement of a revision of the schema, and for the lock that another program has on it.
_REVISION_TIMEOUT: Final = 600
_REVISION_LOCK_TIMEOUT: Final = 60

#: Seconds until a connection is taken for dead when its other end doesn't acknowledge anything any more.
_KEEPALIVE: Final = 20

#: How libpq finds out that the server's machine is gone.
_KEEPALIVE_OPTIONS: Final[Mapping[str, int]] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 1000 * _KEEPALIVE,
}

#: How the server finds out that ours is gone: else what a connection holds there stays for hours.
_WATCH_CLIENT: Final[Mapping[str, object]] = {
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 1000 * _KEEPALIVE,
}

#: The oldest version of PostgreSQL that the ledger is tested with, as the server gives it.
OLDEST = 140000

_RV = TypeVar("_RV")


class Unanswered(psycopg.OperationalError):
    """The server hasn't answered in time. Its connection is closed: what was asked may still be done there."""


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server doesn't answer a statement in time."""

    answer_timeout = ANSWER_TIMEOUT

    def wait(self, gen: PQGen[_RV], interval: float = 0.1, timeout: float | None = None) -> _RV:
        """Wait for what psycopg is about to do on this connection. Raises `Unanswered`."""
        if timeout is not None:  # psycopg has a deadline itself: it waits for notifications
            return super().wait(gen, interval, timeout)
        patience = self.answer_timeout
        deadline = monotonic() + patience
        try:
            return super().wait(gen, interval, patience)
        except psycopg.OperationalError as error:
            if monotonic() < deadline or self.pgconn.status != psycopg.pq.ConnStatus.OK or error.sqlstate:
                raise
            self.pgconn.finish()
            raise Unanswered(f"PostgreSQL hasn't answered for {patience:g} s") from None


def engine(url: URL, *, writes: bool, idle_timeout: float) -> Engine:
    """
    Return what connects to the ledger's database, for reading or for the one thread that writes.

    :param idle_timeout: seconds that the server waits for the next statement of a transaction.
    """
    # A reader sees one state of the database, as on SQLite: by itself PostgreSQL shows each statement the newest one,
    # and what moves from one table to another between two of them would be in neither.
    level: IsolationLevel = "READ COMMITTED" if writes else "REPEATABLE READ"
    made = create_engine(_by_psycopg(url), connect_args=dict(_KEEPALIVE_OPTIONS), isolation_level=level)
    _be_patient(made)

    @event.listens_for(made, "connect")
    def connected(connection: psycopg.Connection[Any], record: object) -> None:
        _check(connection)
        if not writes:
            connection.read_only = True  # psycopg says so in each BEGIN
        _set(
            connection,
            {
                **_WATCH_CLIENT,
                "statement_timeout": round(1000 * STATEMENT_TIMEOUT),
                "lock_timeout": round(1000 * LOCK_TIMEOUT),
                "idle_in_transaction_session_timeout": round(1000 * idle_timeout),
            },
        )

    return made


def session_engine(url: URL, *, patient: bool = True) -> Engine:
    """
    Return what makes connections that stay, outside of transactions. ``patient``: false for one whose end would mean
    more than that it has to be made again, so that it waits for the server for as long as that takes.
    """
    made = create_engine(
        _by_psycopg(url), poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=dict(_KEEPALIVE_OPTIONS)
    )
    if patient:
        _be_patient(made)
    event.listen(made, "connect", lambda connection, record: _set(connection, _WATCH_CLIENT))
    return made


def check_sessions(url: URL) -> None:
    """
    Ring the bell and hear it, by two connections. Raises `LedgerUnusable` where that fails: a pooler that gives the
    server's connection to another client after each transaction takes LISTEN, and nothing is ever heard; nor would a
    lock or a setting stay with whom it belongs to.
    """
    made = session_engine(url)
    said = secrets.token_hex(8)
    with made.connect() as listening, made.connect() as ringing:
        hearing = listening.connection.driver_connection
        assert isinstance(hearing, psycopg.Connection)
        hearing.execute("LISTEN twistedipc_check")
        ringing.exec_driver_sql(f"NOTIFY twistedipc_check, '{said}'")
        if not any(each.payload == said for each in hearing.notifies(timeout=_HEARD, stop_after=1)):
            raise LedgerUnusable(_POOLER)


@contextlib.contextmanager
def without_hurry(connection: Connection) -> Iterator[None]:
    """Give the statements of this transaction minutes: a revision of the schema may rewrite a table."""
    driver = connection.connection.driver_connection
    for setting, seconds in (
        ("statement_timeout", _REVISION_TIMEOUT),
        # Of another program that makes its changes to the schema. On a busy machine a revision computes for longer
        # between two statements than a transaction may otherwise idle.
        ("lock_timeout", _REVISION_LOCK_TIMEOUT),
        ("idle_in_transaction_session_timeout", _REVISION_LOCK_TIMEOUT),
    ):
        connection.exec_driver_sql(f"SET LOCAL {setting} = {1000 * seconds}")
    if isinstance(driver, PatientConnection):
        driver.answer_timeout = _REVISION_TIMEOUT + 1
    try:
        yield
    finally:
        if isinstance(driver, PatientConnection):
            driver.answer_timeout = ANSWER_TIMEOUT


def _by_psycopg(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg")


def _be_patient(made: Engine) -> None:
    @event.listens_for(made, "do_connect")
    def connect(dialect: object, record: object, arguments: Any, named: Any) -> PatientConnection:
        return PatientConnection.connect(*arguments, **named)


def _check(connection: psycopg.Connection[Any]) -> None:
    """Raises `LedgerUnusable` if the ledger can't be in this database, whatever is done with it."""
    if connection.info.server_version < OLDEST:
        found = connection.info.parameter_status("server_version")
        raise LedgerUnusable(
            f"the server is PostgreSQL {found}, and the ledger needs {OLDEST // 10000} or newer: upgrade it, or put "
            "the address of a newer one into database.url"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = connection.info.dbname
        raise LedgerUnusable(
            f'the database "{name}" keeps text as {encoding}, and the ledger needs UTF8: make it again by '
            f"CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0"
        )


def _set(connection: psycopg.Connection[Any], settings: Mapping[str, object]) -> None:
    """Change settings of the session, in one statement."""
    named = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    connection.execute(f"SELECT {named}")
    if not connection.autocommit:
        connection.commit()  # else a rollback would undo the settings


_POOLER = (
    "what is notified through database.url isn't heard there: it leads to a pooler in transaction mode, such as "
    "PgBouncer. Put the address of PostgreSQL itself into database.url, or of a pooler in session mode"
)

#: What a server says when it doesn't let this user in, or do something; and what the operator is to do.
_REFUSALS: Final[list[tuple[re.Pattern[str], str]]] = [
    (
        re.compile(r'database "(.*?)" does not exist'),
        'PostgreSQL has no database "{0}": make it (CREATE DATABASE "{0}"), or correct the name in database.url',
    ),
    (
        re.compile(r'role "(.*?)" does not exist'),
        'PostgreSQL has no user "{0}": make it (CREATE ROLE "{0}" LOGIN), or correct the user in database.url',
    ),
    (
        re.compile(r'role "(.*?)" is not permitted to log in'),
        'PostgreSQL doesn\'t let the user "{0}" log in: permit it (ALTER ROLE "{0}" LOGIN)',
    ),
    (
        re.compile(r'(?:password|SCRAM|GSSAPI|LDAP|certificate) authentication failed for user "(.*?)"'),
        'PostgreSQL refuses the password of the user "{0}": correct it in database.url, or in the file that '
        "PGPASSFILE names",
    ),
    (
        re.compile(r'(?:Peer|Ident) authentication failed for user "(.*?)"'),
        "PostgreSQL takes the name of the system's user for the database's, and that isn't \"{0}\": run the apiserver "
        "as that user, or give a host and a password in database.url",
    ),
    (
        re.compile(r"no password supplied"),
        "PostgreSQL asks for a password, and database.url has none: put it there, or into the file that PGPASSFILE "
        "names",
    ),
    (
        re.compile(r"no pg_hba\.conf entry for (.*?)(?:, no encryption|, SSL \w+)?$"),
        "PostgreSQL's pg_hba.conf lets nobody in from here ({0}): add a line for this, and reload PostgreSQL",
    ),
    (
        re.compile(r"pg_hba\.conf rejects connection for (.*?)(?:, no encryption|, SSL \w+)?$"),
        "PostgreSQL's pg_hba.conf rejects whoever comes from here ({0}): change the line that does so, and reload "
        "PostgreSQL",
    ),
    (
        re.compile(r"permission denied for schema|no schema has been selected to create in"),
        "the user of database.url may make no tables: make it the owner of the database (ALTER DATABASE … OWNER TO …)",
    ),
    (
        re.compile(r'permission denied for database "(.*?)"'),
        'PostgreSQL doesn\'t let this user into the database "{0}": permit it (GRANT CONNECT ON DATABASE "{0}" TO the '
        "user of database.url)",
    ),
    (re.compile(r"not allowed in statement pooling mode"), _POOLER),
    (
        re.compile(r"server does not support SSL"),
        "the server has no TLS, and database.url asks for it: switch it on there, or correct sslmode in database.url",
    ),
]


def refusal(text: str) -> str:
    """Return what an operator is to do about what the server said instead of letting us in; "" for anything else."""
    for pattern, sentence in _REFUSALS:
        if found := pattern.search(text):
            return sentence.format(*found.groups())
    return ""
