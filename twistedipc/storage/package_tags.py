"""
Which tags of published packages lead to which versions, by the ledger; and those that somebody else has moved, as the
registry shows them. Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, delete, insert, or_, select

from twistedipc.builds.states import PublicationState, RequestState
from twistedipc.publish.record import Outcome, Step
from twistedipc.storage import audit
from twistedipc.storage.columns import text
from twistedipc.storage.rows import APISERVER, MovedTagRow
from twistedipc.storage.tables import (
    builds,
    moved_tags,
    package_locks,
    package_requests,
    projects,
    publication_steps,
    publications,
)

#: How many events of a package are looked at, the newest.
MOST_EVENTS = 300

#: Milliseconds for which a registry may still show a tag as it was before it was moved from here: copies lag.
LAG = 40_000

#: What a package must have been published since, to be watched: milliseconds.
WATCHED = 30 * 86_400_000


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A package whose tags are watched, with the project by whose token they are read."""

    project: str
    target: str
    registry: str
    name: str


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """To which version a tag leads."""

    version: str  # "": to none
    before: str  # to which it led before
    since: int
    by: str  # "publication", "promote", "rollback", or "outside"


def watched(connection: Connection, since: int, limit: int) -> list[Watched]:
    """
    Return the packages that were published since a time and that nobody changes now, those published last first. A
    package of several projects is there once, with the one that has published it last.
    """
    query = (
        select(publications.c.name, publications.c.registry, publications.c.target, projects.c.name.label("project"))
        .join(builds, builds.c.id == publications.c.build_id)
        .join(projects, and_(projects.c.id == builds.c.project_id, projects.c.deleted.is_(None)))
        .outerjoin(package_locks, package_locks.c.name == publications.c.name)
        .where(publications.c.state == PublicationState.PUBLISHED, publications.c.updated >= since)
        .where(publications.c.registry.is_not(None), publications.c.registry != "", package_locks.c.holder.is_(None))
        .order_by(publications.c.updated.desc())
        .limit(limit * 10)
    )
    found: dict[tuple[str, str], Watched] = {}
    for row in connection.execute(query):
        found.setdefault(
            (row.registry, row.name),
            Watched(project=row.project, target=row.target, registry=row.registry, name=row.name),
        )
    return list(found.values())[:limit]


def known(connection: Connection, registry: str, name: str) -> dict[str, Known]:
    """Return to what the tags of a package lead, by what was done from here and what was noticed."""
    newest: dict[str, Known] = {}
    for tag, each in [*_events(connection, registry, name), *_outside(connection, registry, name)]:
        if tag not in newest or each.since >= newest[tag].since:
            newest[tag] = each
    return newest


def came_from(connection: Connection, registry: str, name: str, tag: str, version: str) -> str:
    """
    Return the version to which a tag led before it was moved to this one; "" if the ledger doesn't know. What a
    rollback has moved doesn't count: a second one goes further back, and not forth again.
    """
    found = [
        each
        for moved, each in [*_events(connection, registry, name), *_outside(connection, registry, name)]
        if moved == tag and each.version == version and each.by != "rollback" and each.before not in ("", version)
    ]
    return max(found, key=lambda each: each.since).before if found else ""


def notice(
    connection: Connection, watched: Watched, tags: Mapping[str, str], now: int, *, began: int
) -> list[MovedTagRow]:
    """
    Compare a package's tags, as a registry shows them, with what the ledger knows; note those that somebody else has
    moved, each once, with a line in the audit. Return these.

    :param began: when the registry was asked: what was done from here since isn't in its answer
    """
    if _locked(connection, watched):
        return []
    found: list[MovedTagRow] = []
    for tag, each in known(connection, watched.registry, watched.name).items():
        version = tags.get(tag, "")
        lags = version == each.before and now - each.since < LAG and each.by != "outside"
        if version == each.version or lags or each.since >= began:
            continue
        own = max(
            (event for moved_, event in _events(connection, watched.registry, watched.name) if moved_ == tag),
            key=lambda event: event.since,
            default=None,
        )
        row = MovedTagRow(
            registry=watched.registry,
            package=watched.name,
            tag=tag,
            version=version,
            before=each.version,
            noticed=now,
        )
        _forget(connection, row)
        back = own is not None and own.version == version  # somebody has moved it back to where it belongs
        if not back:
            connection.execute(insert(moved_tags).values(msgspec.structs.asdict(row)))
        detail = {"package": row.package, "tag": tag, "before": row.before, "version": version or "removed",
                  "registry": row.registry}  # fmt: skip
        action = "package.tag_back" if back else "package.tag_moved"
        audit.record(connection, by=APISERVER, action=action, subject=watched.project, project=watched.project,
                     detail=detail, now=now)  # fmt: skip
        if not back:
            found.append(row)
    return found


def moved(connection: Connection, name: str, registries: Iterable[str]) -> list[MovedTagRow]:
    """Return the tags of a package that somebody else has moved, and nobody from here since."""
    found: list[MovedTagRow] = []
    for registry in sorted({each for each in registries if each}):
        newest = known(connection, registry, name)
        query = select(moved_tags).where(moved_tags.c.registry == registry, moved_tags.c.package == text(name))
        for row in connection.execute(query.order_by(moved_tags.c.tag)):
            if newest[row.tag].by == "outside":
                found.append(MovedTagRow(**row._mapping))
    return found


def _forget(connection: Connection, row: MovedTagRow) -> None:
    connection.execute(
        delete(moved_tags).where(
            moved_tags.c.registry == row.registry, moved_tags.c.package == row.package, moved_tags.c.tag == row.tag
        )
    )


def _locked(connection: Connection, watched: Watched) -> bool:
    # Of whichever registry: a lock names it as the project's settings do.
    which = package_locks.c.name == watched.name
    return connection.execute(select(package_locks.c.holder).where(which)).first() is not None


def _events(connection: Connection, registry: str, name: str) -> Iterable[tuple[str, Known]]:
    """Yield each move of a tag that was made from here, in no order."""
    yield from _published(connection, registry, name)
    query = (
        select(package_requests)
        .where(package_requests.c.registry == registry, package_requests.c.package == text(name))
        .where(package_requests.c.state == RequestState.DONE, package_requests.c.tag != "")
        .order_by(package_requests.c.id.desc())
        .limit(MOST_EVENTS)
    )
    for row in connection.execute(query):
        version = "" if row.kind == "untag" else row.version
        yield row.tag, Known(version=version, before=row.before, since=row.ended, by=row.kind)


def _published(connection: Connection, registry: str, name: str) -> Iterable[tuple[str, Known]]:
    steps = publication_steps.c
    moves = and_(
        steps.build_id == publications.c.build_id,
        steps.number == publications.c.number,
        steps.target == publications.c.target,
        steps.position == publications.c.position,
        steps.step == Step.TAG,
        # A step with a reason says that the tag has stayed where it was.
        or_(steps.outcome == Outcome.DONE, and_(steps.outcome == Outcome.ALREADY, steps.reason == "")),
    )
    query = (
        select(publications, steps.ended.label("moved"))
        .join(publication_steps, moves)
        .where(publications.c.name == text(name), publications.c.registry == registry)
        .where(publications.c.state == PublicationState.PUBLISHED)
        .order_by(publications.c.build_id.desc(), publications.c.number.desc())
        .limit(MOST_EVENTS)
    )
    for row in connection.execute(query):
        yield row.tag or "latest", _known(row)


def _known(row: Any) -> Known:
    version = row.version.partition("+")[0]  # a registry knows it without its build metadata
    return Known(version=version, before=row.tag_before or "", since=row.moved, by="publication")


def _outside(connection: Connection, registry: str, name: str) -> Iterable[tuple[str, Known]]:
    query = select(moved_tags).where(moved_tags.c.registry == registry, moved_tags.c.package == text(name))
    for row in connection.execute(query):
        yield row.tag, Known(version=row.version, before=row.before, since=row.noticed, by="outside")
