"""
The ledger's record of who did what. Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer.

This is the only module that knows the table, which the database lets nobody change or delete from, but for lines that
are too old by the rules of retention (``tests/test_layers.py`` holds it to the first, triggers to the second).
`record` is called with the change that it records in one write, so that neither is there without the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from twistedipc.storage.columns import columns_of, from_json, integer, row_as, text, to_json
from twistedipc.storage.rows import Actor, AuditRow
from twistedipc.storage.tables import audit, audit_kept

#: Bounds of one line: characters of a value, and how many values it has. What is beyond is left out, and that is said.
MAX_VALUE = 1000
MAX_VALUES = 100

#: Milliseconds after which a line has its place: no other line of another process gets a smaller id any more.
SETTLED: Final = 2000


def record(
    connection: Connection,
    *,
    by: Actor,
    action: str,
    subject: str,
    project: str | None,
    detail: Mapping[str, str],
    now: int,
) -> None:
    """
    ``by`` did ``action`` (e.g. "project.create") to ``subject``, which is about ``project``, if it is about one.
    ``detail`` never holds a secret.
    """
    said = {text(name, MAX_VALUE): text(value, MAX_VALUE) for name, value in list(detail.items())[:MAX_VALUES]}
    if len(detail) > MAX_VALUES:
        said["…"] = f"{len(detail) - MAX_VALUES} more"
    connection.execute(
        insert(audit).values(
            time=now,
            who=text(by.who),
            kind=by.kind,
            token=by.token,
            person=by.person,
            person_name=None if by.person_name is None else text(by.person_name),
            address=by.address,
            request=by.request,
            action=action,
            subject=text(subject),
            project=None if project is None else text(project),
            detail=to_json(said),
        )
    )


def record_once(
    connection: Connection, *, by: Actor, action: str, project: str, detail: Mapping[str, str], now: int
) -> None:
    """Record what may be told again and again, such as a refusal, unless the project has the same line already."""
    said = to_json({name: text(value, MAX_VALUE) for name, value in detail.items()})
    same = and_(audit.c.project == project, audit.c.action == action, audit.c.detail == said)
    if connection.execute(select(audit.c.id).where(same).limit(1)).first() is None:
        record(connection, by=by, action=action, subject=project, project=project, detail=detail, now=now)


def count_before(connection: Connection, since: int, most: int) -> int:
    """Return how many lines are older than ``since``, in milliseconds since the epoch; ``most`` if there are more."""
    old = select(audit.c.id).where(audit.c.time < integer(since)).limit(most).subquery()
    return connection.execute(select(func.count()).select_from(old)).scalar_one()


def all_before(connection: Connection, since: int) -> bool:
    """Return whether there are lines, and all of them are older than ``since``."""
    newest = connection.execute(select(func.max(audit.c.time))).scalar()
    return newest is not None and newest < integer(since)


def remove_before(connection: Connection, since: int, limit: int) -> int:
    """
    Delete up to ``limit`` of the lines that are older than ``since``, the oldest first. How many these were. From then
    on the database lets lines from before that time be deleted, and no others.
    """
    old = select(audit.c.id).where(audit.c.time < integer(since)).order_by(audit.c.time, audit.c.id).limit(limit)
    ids = list(connection.execute(old).scalars())
    if ids:
        kept = connection.execute(select(audit_kept.c.since)).scalar()
        if kept is None:
            connection.execute(insert(audit_kept).values(id=1, since=since))
        elif kept < since:
            connection.execute(update(audit_kept).values(since=since))
        connection.execute(delete(audit).where(audit.c.id.in_(ids)))
    return len(ids)


def list_page(
    connection: Connection,
    *,
    projects: frozenset[str] | None = None,
    who: str | None = None,
    action: str | None = None,
    since: int | None = None,
    until: int | None = None,
    before: int | None = None,
    after: int | None = None,
    limit: int,
) -> list[AuditRow]:
    """
    Return up to ``limit`` lines, newest first; with ``after``, oldest first.

    :param projects: only of these; None: of all, also those that are about none.
    :param who: only what this one did: a person's name, or that of a token or a builder.
    :param action: only this one ("token.create"), or those of a kind ("token").
    :param since, until: only from the one time on, and before the other, in milliseconds since the epoch.
    :param before: only lines with a smaller id.
    :param after: only lines with a larger id. A line that another process writes at this moment may get a smaller id
        than one that is there: with ``until`` some seconds ago (`SETTLED`), a reader that goes on from id to id misses
        none.
    """
    query = select(*columns_of(AuditRow, audit)).limit(limit)
    query = query.order_by(audit.c.id.desc() if after is None else audit.c.id)
    if projects is not None:
        query = query.where(audit.c.project.in_(sorted(projects)))
    if who is not None:
        query = query.where(or_(audit.c.who == who, audit.c.person_name == who))
    if action is not None:
        query = query.where(or_(audit.c.action == action, audit.c.action.startswith(f"{action}.", autoescape=True)))
    if since is not None:
        query = query.where(audit.c.time >= integer(since))
    if until is not None:
        query = query.where(audit.c.time < integer(until))
    if before is not None:
        query = query.where(audit.c.id < integer(before))
    if after is not None:
        query = query.where(audit.c.id > integer(after))
    return [
        row_as(AuditRow, row, detail=from_json(row.detail, dict[str, str])) for row in connection.execute(query).all()
    ]
