"""
The ledger's outlines: where things are in each log (`sealed.outline`). Functions for `Ledger.read` and `Ledger.write`;
``storage`` layer.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from twistedipc.sealed.outline import Marked, Outline
from twistedipc.storage import attempts
from twistedipc.storage.columns import from_json, split_attempt, to_json
from twistedipc.storage.rows import AttemptRow
from twistedipc.storage.tables import attempts as attempts_table
from twistedipc.storage.tables import outlines


def keep_outline(connection: Connection, attempt: str, marks: Sequence[Marked]) -> None:
    """Add events of an attempt's log to its outline. Those that are in it already change nothing."""
    if not marks:
        return
    build, number = split_attempt(attempt)
    which = (outlines.c.build_id == build) & (outlines.c.number == number)
    stored = connection.execute(select(outlines.c.data).where(which)).scalar()
    outline = Outline() if stored is None else from_json(stored, Outline)
    changed = False
    for marked in marks:
        changed |= outline.add(marked)
    if not changed:
        return
    written = to_json(outline)
    if stored is None:
        connection.execute(insert(outlines).values(build_id=build, number=number, data=written))
    else:
        connection.execute(update(outlines).where(which).values(data=written))


def outlined(connection: Connection, attempt: str) -> tuple[AttemptRow, int, int, Outline] | None:
    """
    Return an attempt, how many records and bytes its log has, and its outline, all of one moment; None if there is no
    such attempt.
    """
    row = attempts.get(connection, attempt)
    if row is None:
        return None
    which = (attempts_table.c.build_id == row.build) & (attempts_table.c.number == row.number)
    size = connection.execute(select(attempts_table.c.next_record, attempts_table.c.log_bytes).where(which)).one()
    return row, size.next_record - 1, size.log_bytes, outline_of(connection, attempt)


def outline_of(connection: Connection, attempt: str) -> Outline:
    """Return the outline of an attempt's log as far as it is known; an empty one if nothing is."""
    build, number = split_attempt(attempt)
    which = (outlines.c.build_id == build) & (outlines.c.number == number)
    stored = connection.execute(select(outlines.c.data).where(which)).scalar()
    return Outline() if stored is None else from_json(stored, Outline)
