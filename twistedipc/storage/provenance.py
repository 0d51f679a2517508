"""
What the apiserver has signed about releases and packages. Functions for `Ledger.read` and `Ledger.write`; ``storage``
layer.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy import update as update_rows

from twistedipc.builds.provenance import Envelope
from twistedipc.storage.columns import attempt_name, from_json, split_attempt, text, to_json
from twistedipc.storage.rows import StatementRow
from twistedipc.storage.tables import attempts, statements


def add(connection: Connection, attempt: str, kind: str, name: str, signed: Envelope, now: int) -> None:
    """Keep a statement about what an attempt has made: ``kind`` is release or package."""
    build, number = split_attempt(attempt)
    connection.execute(
        insert(statements).values(
            build_id=build, number=number, kind=kind, name=text(name), envelope=to_json(signed), created=now
        )
    )


def of_build(connection: Connection, build: int) -> list[StatementRow]:
    """Return the statements about what a build's attempts have made, oldest first."""
    query = select(statements).where(statements.c.build_id == build).order_by(statements.c.id)
    return [_row(row) for row in connection.execute(query)]


def of_package(connection: Connection, name: str, limit: int) -> list[StatementRow]:
    """Return the newest statements about a package, by its purl, newest first."""
    which = (statements.c.name == name) & (statements.c.kind == "package")
    query = select(statements).where(which).order_by(statements.c.id.desc()).limit(limit)
    return [_row(row) for row in connection.execute(query)]


def note_repository(connection: Connection, attempt: str, repository: str) -> None:
    """Note from which repository an attempt is to be built: its project may get another meanwhile."""
    build, number = split_attempt(attempt)
    which = (attempts.c.build_id == build) & (attempts.c.number == number)
    connection.execute(update_rows(attempts).where(which).values(repository=repository))


def repository_of(connection: Connection, attempt: str) -> str:
    """Return that repository; "" if it isn't known."""
    build, number = split_attempt(attempt)
    which = (attempts.c.build_id == build) & (attempts.c.number == number)
    return connection.execute(select(attempts.c.repository).where(which)).scalar() or ""


def _row(row: Row[Any]) -> StatementRow:
    return StatementRow(
        attempt=attempt_name(row.build_id, row.number),
        kind=row.kind,
        name=row.name,
        envelope=from_json(row.envelope, Envelope),
        created=row.created,
    )
