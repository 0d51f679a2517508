"""
The members of projects, and their roles. Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer. On top of
``people`` and ``projects``.

A person has a role in a project because somebody gave it to them, or by the groups of their last sign-in, or both: the
higher one counts. A project that is deleted has no members, and another of its name doesn't get them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection, and_, delete, insert, select, update

from twistedipc.builds.roles import Role
from twistedipc.storage.columns import columns_of, row_as
from twistedipc.storage.errors import NotFound
from twistedipc.storage.projects import live_id
from twistedipc.storage.rows import MemberRow, PersonRow
from twistedipc.storage.tables import members, people, projects

Source = Literal["added", "groups"]


def list_all(connection: Connection, project: str) -> list[MemberRow]:
    """Return a project's members by name, also those who are disabled."""
    query = (
        select(*columns_of(PersonRow, people), members.c.source, members.c.role.label("given"))
        .join(members, members.c.person_id == people.c.id)
        .join(projects, projects.c.id == members.c.project_id)
        .where(projects.c.name == project, projects.c.deleted.is_(None))
        .order_by(people.c.name)
    )
    found: dict[int, tuple[PersonRow, dict[str, Role]]] = {}
    rows: list[Any] = list(connection.execute(query))
    for row in rows:
        found.setdefault(row.id, (row_as(PersonRow, row), {}))[1][row.source] = row.given
    return [
        MemberRow(person=person, added=given.get("added"), by_groups=given.get("groups"))
        for person, given in found.values()
    ]


def set_role(connection: Connection, project: str, person: int, role: Role, now: int) -> Role | None:
    """Give a person a role in a project; return the one that they were given before, if any. Raises `NotFound`."""
    number = _project(connection, project)
    return _set(connection, number, person, "added", role, now)


def remove(connection: Connection, project: str, person: int) -> Role | None:
    """
    Take the role from a person that somebody gave them in a project; return it, None if there was none. Raises
    `NotFound` (the project).
    """
    number = _project(connection, project)
    gone = connection.execute(delete(members).where(_of(number, person, "added")).returning(members.c.role)).first()
    if gone is None:
        return None
    role: Role = gone.role
    return role


def set_by_groups(connection: Connection, person: int, roles: Mapping[str, Role], now: int) -> dict[str, str]:
    """
    Let a person have these roles by their groups, by project, and no others; projects that there aren't are left out.
    Return what has changed, by project.
    """
    query = (
        select(projects.c.name, members.c.project_id, members.c.role)
        .join(projects, projects.c.id == members.c.project_id)
        .where(members.c.person_id == person, members.c.source == "groups", projects.c.deleted.is_(None))
    )
    before = {row.name: row.role for row in connection.execute(query)}
    changed: dict[str, str] = {}
    for project, role in roles.items():
        number = live_id(connection, project)
        if number is not None and before.get(project) != role:
            _set(connection, number, person, "groups", role, now)
            changed[project] = f"{before.get(project, '—')} → {role}"
    for project in sorted(before.keys() - roles.keys()):
        connection.execute(delete(members).where(_of(_project(connection, project), person, "groups")))
        changed[project] = f"{before[project]} → —"
    return changed


def _set(connection: Connection, project: int, person: int, source: Source, role: Role, now: int) -> Role | None:
    which = _of(project, person, source)
    before: Role | None = connection.execute(select(members.c.role).where(which)).scalar()
    if before is None:
        values = {"project_id": project, "person_id": person, "source": source, "role": role, "created": now}
        connection.execute(insert(members).values(values))
    else:
        connection.execute(update(members).where(which).values(role=role))
    return before


def _of(project: int, person: int, source: Source) -> Any:
    return and_(members.c.project_id == project, members.c.person_id == person, members.c.source == source)


def _project(connection: Connection, name: str) -> int:
    number = live_id(connection, name)
    if number is None:
        raise NotFound(f"there is no project {name}")
    return number
