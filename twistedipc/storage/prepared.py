"""
Statements that go to the database's driver without SQLAlchemy's part in each of them. Used by ``ledger`` and ``logs``
for what a commit of log records does; ``storage`` layer.

What SQLAlchemy does around a statement (events, contexts, results) takes several times what SQLite takes for it, and
the thread that commits shares the interpreter with the one that serves viewers. So SQLAlchemy makes a statement's text,
once for each kind of database, and the driver behind SQLAlchemy's connection runs it. Its errors come as SQLAlchemy's,
as always.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler


class Prepared:
    """
    A statement that changes rows. Its values go to the driver as they are, so they must be what every driver takes:
    `int`, `float`, `str`, `bytes` or None.
    """

    def __init__(self, statement: Insert | Update) -> None:
        self._statement = statement.inline()  # nothing is to come back from it
        self._forms: dict[type[Dialect], _Form] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> int:
        """
        Run it for each of ``rows``, which have its parameters by name, and maybe more; there must be one at least. How
        many rows it changed, all in all. Raises as ``connection.execute`` does.
        """
        kind = type(connection.dialect)
        form = self._forms.get(kind)
        if form is None:
            form = self._forms[kind] = _Form(self._statement, connection.dialect)
        return _execute(connection, form.text, form.parameters(rows))


class _Form:
    """A statement, compiled for one kind of database."""

    def __init__(self, statement: Insert | Update, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        self._order = compiled.positiontup  # None: this driver takes them by name

    def parameters(self, rows: Sequence[Mapping[str, object]]) -> list[Any]:
        """Return the rows' parameters as the driver takes them."""
        named = [{**self._constants, **row} for row in rows] if self._constants else rows
        if self._order is None:
            return list(named)
        return [[row[name] for name in self._order] for row in named]


def command(connection: Connection, text: str) -> None:
    """Run what has no parameters and gives nothing back. Raises as ``connection.exec_driver_sql`` does."""
    _execute(connection, text, None)


def _execute(connection: Connection, text: str, parameters: list[Any] | None) -> int:
    driver, dialect = connection.connection, connection.dialect
    error_of_driver = dialect.loaded_dbapi.Error
    cursor = None
    try:
        # Also of a connection that was lost meanwhile no cursor can be had.
        cursor = driver.cursor()
        if parameters is None:
            cursor.execute(text)
        else:
            cursor.executemany(text, parameters)
        return cursor.rowcount
    except error_of_driver as error:
        lost = dialect.is_disconnect(error, driver, cursor)
        raise DBAPIError.instance(
            text, parameters, error, error_of_driver, connection_invalidated=lost, dialect=dialect
        ) from error
    finally:
        if cursor is not None:
            with contextlib.suppress(error_of_driver):  # of a connection that is lost there is nothing to close
                cursor.close()
