"""
Domains: host names of projects, beside those that the platform gives. Functions for `Ledger.read` and `Ledger.write`;
``storage`` layer.

A name belongs to one project at a time. Of a project that has any, one is the main domain, under which people know the
site. The others serve the same, or lead to it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, insert, select
from sqlalchemy import delete as delete_rows
from sqlalchemy import update as update_rows

from twistedipc.builds.domains import MAX_DOMAINS
from twistedipc.storage import rings
from twistedipc.storage.columns import columns_of, row_as, text
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.projects import live_id
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import DomainRow
from twistedipc.storage.tables import domains, projects

#: The most domains of all projects: an apiserver has them in memory.
MOST = 10_000


def everything(connection: Connection) -> list[DomainRow]:
    """Return the domains of all projects, in the order in which they were added."""
    return [row_as(DomainRow, row) for row in connection.execute(_SELECT)]


def list_all(connection: Connection, project: str) -> list[DomainRow]:
    """Return a project's domains: the main one first, the others in the order in which they were added."""
    found = connection.execute(_SELECT.where(projects.c.name == project))
    return sorted((row_as(DomainRow, row) for row in found), key=lambda row: not row.main)


def owner(connection: Connection, name: str) -> DomainRow | None:
    """Return a domain, whichever project has it; None: it is free."""
    row = connection.execute(_SELECT.where(domains.c.name == text(name))).first()
    return None if row is None else row_as(DomainRow, row)


def put(connection: Connection, project: str, name: str, *, main: bool, redirect: bool, now: int) -> None:
    """
    Give a project a domain, or change it. Its first one is its main one. ``main``: make it that in any case.
    ``redirect``: it leads to the main one. Raises `NotFound`, and `NotPossible` if it is another project's, or there
    are too many.
    """
    project_id = live_id(connection, project)
    if project_id is None:
        raise NotFound(f"there is no project {project}")
    rows = list_all(connection, project)
    there = next((row for row in rows if row.name == name), None)
    if there is None:
        _check_room(connection, project, name, len(rows))
    was_main = there is not None and there.main
    if redirect and (main or was_main or not rows):
        raise NotPossible(
            f"{name} can't lead to the main domain of {project}: it is that itself"
            if main or was_main
            else f"{project} has no other domain to which {name} could lead: add that one first"
        )
    becomes_main = main or was_main or not rows
    if becomes_main:
        connection.execute(update_rows(domains).where(domains.c.project_id == project_id).values(main=False))
    rings.note(connection, Topic.PROJECT, project)
    values = {"main": becomes_main, "redirect": redirect}
    if there is None:
        connection.execute(insert(domains).values(project_id=project_id, name=name, created=now, **values))
    else:
        connection.execute(update_rows(domains).where(domains.c.name == name).values(**values))


def remove(connection: Connection, project: str, name: str) -> bool:
    """
    Take a domain from a project. If it was the main one, the one that was added first of those that serve becomes
    that. Return False if it isn't the project's. Raises `NotPossible` if others lead to it and none can take its place.
    """
    rows = list_all(connection, project)
    there = next((row for row in rows if row.name == name), None)
    if there is None:
        return False
    rest = [row for row in rows if row.name != name]
    following = next((row for row in rest if not row.redirect), None)
    if there.main and rest and following is None:
        raise NotPossible(f"{', '.join(row.name for row in rest)} leads to {name}: remove that first, or let it serve")
    rings.note(connection, Topic.PROJECT, project)
    connection.execute(delete_rows(domains).where(domains.c.name == name))
    if there.main and following is not None:
        connection.execute(update_rows(domains).where(domains.c.name == following.name).values(main=True))
    return True


def _check_room(connection: Connection, project: str, name: str, number: int) -> None:
    if owner(connection, name) is not None:
        raise NotPossible(f"{name} is a domain of another project")
    if number >= MAX_DOMAINS:
        raise NotPossible(f"project {project} has {MAX_DOMAINS} domains already: remove one first")
    if connection.execute(select(func.count()).select_from(domains)).scalar_one() >= MOST:
        raise NotPossible(f"all projects together have {MOST} domains already, and can't have more")


_SELECT: Any = (
    select(*columns_of(DomainRow, domains), projects.c.name.label("project"))
    .join(projects, projects.c.id == domains.c.project_id)
    .where(projects.c.deleted.is_(None))
    .order_by(domains.c.id)
)
