"""
The ledger of publications as people look at it: what a build publishes, and what a project has published of each
package. Functions for `Ledger.read`; ``storage`` layer.

The publications of a deleted project are not returned: its name may be another project's by now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, Select, and_, or_, select

from twistedipc.publish.record import Outcome, Step
from twistedipc.storage.columns import integer, split_attempt, text
from twistedipc.storage.projects import live_id
from twistedipc.storage.publications import publication_row
from twistedipc.storage.rows import LedgerEntry, PublicationStepRow
from twistedipc.storage.tables import attempts, builds, publication_steps, publications

#: How many publications of each package a list of packages has.
NEWEST = 3

_NEWEST_FIRST = (publications.c.build_id.desc(), publications.c.number.desc(), publications.c.target)


def of_attempt(connection: Connection, attempt: str) -> list[LedgerEntry]:
    """Return what an attempt publishes, with all steps, by target, in the order in which it is published."""
    build, number = split_attempt(attempt)
    found = _entries().where(publications.c.build_id == build, publications.c.number == number)
    rows = connection.execute(found.order_by(publications.c.target, publications.c.position)).all()
    return _with_steps(connection, rows)


def names(connection: Connection, project: str, *, after: str = "", limit: int) -> list[str]:
    """Return the names of up to ``limit`` packages of a project, in the alphabet's order, from behind a name."""
    number = live_id(connection, project)
    if number is None:
        return []
    query = (
        select(publications.c.name)
        .join(builds, builds.c.id == publications.c.build_id)
        .where(builds.c.project_id == number, publications.c.name > text(after))
        .distinct()
        .order_by(publications.c.name)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def newest(connection: Connection, project: str, names: Collection[str]) -> dict[str, list[LedgerEntry]]:
    """Return the newest publications of each of these packages of a project, newest first, without their steps."""
    found: dict[str, list[LedgerEntry]] = {}
    for name in names:
        query = _of_package(connection, project, name).order_by(*_NEWEST_FIRST).limit(NEWEST)
        found[name] = [_entry(row) for row in connection.execute(query).all()]
    return found


def history(
    connection: Connection, project: str, name: str, *, before: tuple[int, int] | None = None, limit: int
) -> tuple[list[LedgerEntry], tuple[int, int] | None]:
    """
    Return the publications of a package by up to ``limit`` attempts, newest first, with their steps, and the last
    attempt of these (a build and a number) if there are older ones.

    :param before: only those of attempts before this one
    """
    query = _of_package(connection, project, name)
    if before is not None:
        build, number = (integer(each) for each in before)
        of_build = publications.c.build_id
        query = query.where(or_(of_build < build, and_(of_build == build, publications.c.number < number)))
    keys = query.with_only_columns(publications.c.build_id, publications.c.number).distinct()
    keys = keys.order_by(publications.c.build_id.desc(), publications.c.number.desc()).limit(limit + 1)
    places = [(row.build_id, row.number) for row in connection.execute(keys).all()]
    if not places:
        return [], None
    last = places[:limit][-1]
    query = query.where(
        or_(
            publications.c.build_id > last[0],
            and_(publications.c.build_id == last[0], publications.c.number >= last[1]),
        )
    )
    found = [_entry(row) for row in connection.execute(query.order_by(*_NEWEST_FIRST)).all()]
    return _filled(connection, found), last if len(places) > limit else None


def _of_package(connection: Connection, project: str, name: str) -> Select[Any]:
    return (
        _entries()
        .join(builds, builds.c.id == publications.c.build_id)
        .where(builds.c.project_id == live_id(connection, project), publications.c.name == text(name))
    )


def _entries() -> Select[Any]:
    return select(publications, attempts.c.requested_by).join(
        attempts, and_(attempts.c.build_id == publications.c.build_id, attempts.c.number == publications.c.number)
    )


def _entry(row: Any) -> LedgerEntry:
    return LedgerEntry(
        publication=publication_row(row),
        build=row.build_id,
        number=row.number,
        asked_by=row.requested_by,
        created=row.created,
    )


def _filled(connection: Connection, found: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """Return them with their steps."""
    filled: list[LedgerEntry] = []
    for each in found:
        of = each.publication
        query = _steps(each.build, each.number).where(
            publication_steps.c.target == of.target, publication_steps.c.position == of.position
        )
        filled.append(replace(each, steps=[_step(row) for row in connection.execute(query).all()]))
    return filled


def _with_steps(connection: Connection, rows: Iterable[Any]) -> list[LedgerEntry]:
    """Return the entries of one attempt, with their steps."""
    entries = [_entry(row) for row in rows]
    if not entries:
        return []
    steps: dict[tuple[str, int], list[PublicationStepRow]] = {}
    for row in connection.execute(_steps(entries[0].build, entries[0].number)).all():
        steps.setdefault((row.target, row.position), []).append(_step(row))
    return [
        replace(each, steps=steps.get((each.publication.target, each.publication.position), [])) for each in entries
    ]


def _steps(build: int, number: int) -> Select[Any]:
    return (
        select(publication_steps)
        .where(publication_steps.c.build_id == build, publication_steps.c.number == number)
        .order_by(publication_steps.c.target, publication_steps.c.seq)
    )


def _step(row: Any) -> PublicationStepRow:
    return PublicationStepRow(
        step=Step(row.step),
        detail=row.detail,
        began=row.began,
        ended=row.ended,
        outcome=Outcome(row.outcome) if row.outcome else None,
        reason=row.reason,
    )
