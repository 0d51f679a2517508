"""
Packages that are published from what was stored: one row each, from the permit on, written before and after each thing
that is done. Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer.

A file in the artifact store is named by its SHA-256, so two attempts may have the same one: it is deleted when no row
needs it any more (`no_longer_needed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select, update

from twistedipc.builds.attempt import Package
from twistedipc.builds.states import TERMINAL, PublicationState, check_publication
from twistedipc.storage.columns import attempt_name, split_attempt, text
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.rows import PublicationRow
from twistedipc.storage.tables import artifacts, attempts, publications

_S = PublicationState


def add(connection: Connection, attempt: str, target: str, packages: Sequence[Package], now: int) -> None:
    """Note what an attempt has its permit for: its files are to be uploaded."""
    build, number = split_attempt(attempt)
    for position, package in enumerate(packages):
        connection.execute(
            insert(publications).values(
                build_id=build,
                number=number,
                target=target,
                position=position,
                name=text(package.name),
                version=text(package.version),
                integrity=text(package.integrity),
                tag=text(package.tag),
                size=0,
                sha256="",
                state=_S.PACKED,
                reason="",
                created=now,
                updated=now,
            )
        )


def of_attempt(connection: Connection, attempt: str) -> list[PublicationRow]:
    """Return all publications of an attempt, by target, in the order of the permits."""
    query = select(publications).where(_of(attempt)).order_by(publications.c.target, publications.c.position)
    return [_row(row) for row in connection.execute(query)]


def begin_upload(
    connection: Connection, attempt: str, target: str, position: int, size: int, now: int
) -> PublicationRow:
    """
    Note that a package's file of this size will be uploaded; asked again, the same row. Raises `NotFound` if the
    attempt has no permit for it, and `NotPossible` if a file of another size was announced before.
    """
    which = _one(attempt, target, position)
    connection.execute(update(publications).where(which, publications.c.size == 0).values(size=size, updated=now))
    row = _get(connection, which)
    if row is None:
        raise NotFound(f"attempt {attempt} has no permit to store package {position} for {target[:100]}")
    if row.size != size:
        raise NotPossible(f"attempt {attempt} has announced another file of {row.name} before")
    return row


def note_stored(connection: Connection, attempt: str, target: str, position: int, sha256: str, now: int) -> None:
    """packed → stored: its file is in the artifact store under this name, verified. Asked again, nothing changes."""
    _change(connection, _one(attempt, target, position), _S.PACKED, _S.STORED, now, sha256=sha256)


def begin(connection: Connection, attempt: str, target: str, now: int) -> bool:
    """stored → publishing, all of a target. Return whether that is new."""
    return _change(connection, _of_target(attempt, target), _S.STORED, _S.PUBLISHING, now) > 0


def end(connection: Connection, attempt: str, target: str, published: Iterable[str], reason: str, now: int) -> None:
    """publishing → published, those of these names; the others → failed, for a ``reason``."""
    which = _of_target(attempt, target)
    named = publications.c.name.in_(sorted(published))
    _change(connection, and_(which, named), _S.PUBLISHING, _S.PUBLISHED, now)
    _change(connection, which, _S.PUBLISHING, _S.FAILED, now, reason=text(reason))


def drop(connection: Connection, attempt: str, reason: str, now: int) -> None:
    """→ dropped: what hasn't been published of an attempt never will be."""
    for before in (_S.PACKED, _S.STORED):
        _change(connection, _of(attempt), before, _S.DROPPED, now, reason=text(reason))


def stored(connection: Connection, attempt: str) -> bool:
    """Return whether an attempt has stored packages that are still to be published."""
    which = and_(_of(attempt), publications.c.state.in_([_S.STORED, _S.PUBLISHING]))
    return connection.execute(select(publications.c.name).where(which).limit(1)).first() is not None


def no_longer_needed(connection: Connection, limit: int) -> list[str]:
    """
    Return the names of up to ``limit`` files in the artifact store that were stored by attempts that have ended, and by
    no other; nor is one with the same content on its way.
    """
    ended = attempts.c.state.in_(sorted(TERMINAL))
    joined = publications.join(
        attempts, and_(attempts.c.build_id == publications.c.build_id, attempts.c.number == publications.c.number)
    )
    others = select(publications.c.integrity).select_from(joined).where(~ended)
    query = (
        select(publications.c.sha256)
        .select_from(joined)
        .where(ended, publications.c.sha256 != "")
        .where(publications.c.integrity.not_in(others))
        .where(publications.c.sha256.not_in(select(artifacts.c.sha256)))
        .distinct()
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def forget_file(connection: Connection, sha256: str) -> None:
    """Note that this file isn't in the artifact store any more."""
    connection.execute(update(publications).where(publications.c.sha256 == sha256).values(sha256=""))


def _change(
    connection: Connection,
    which: ColumnElement[bool],
    before: PublicationState,
    after: PublicationState,
    now: int,
    **values: Any,
) -> int:
    """Change the state of those that are in ``before``. Return how many these were."""
    check_publication(before, after)
    changed = connection.execute(
        update(publications).where(which, publications.c.state == before).values(state=after, updated=now, **values)
    )
    return changed.rowcount


def _of(attempt: str) -> ColumnElement[bool]:
    build, number = split_attempt(attempt)
    return and_(publications.c.build_id == build, publications.c.number == number)


def _of_target(attempt: str, target: str) -> ColumnElement[bool]:
    return and_(_of(attempt), publications.c.target == target)


def _one(attempt: str, target: str, position: int) -> ColumnElement[bool]:
    return and_(_of_target(attempt, target), publications.c.position == position)


def _get(connection: Connection, which: ColumnElement[bool]) -> PublicationRow | None:
    row = connection.execute(select(publications).where(which)).first()
    return None if row is None else _row(row)


def _row(row: Row[Any]) -> PublicationRow:
    return PublicationRow(
        attempt=attempt_name(row.build_id, row.number),
        target=row.target,
        position=row.position,
        name=row.name,
        version=row.version,
        integrity=row.integrity,
        tag=row.tag,
        size=row.size,
        sha256=row.sha256,
        state=PublicationState(row.state),
        reason=row.reason,
        updated=row.updated,
    )
