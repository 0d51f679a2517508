"""
To whom a project's news go: the repository's host, and others whom people have named. Functions for `Ledger.read` and
`Ledger.write`; ``storage`` layer.

Where they go and what they are signed with is sealed as one: an address of a chat's webhook is a secret too. The token
of a repository's host is for the repository that the project had when it was set.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select
from sqlalchemy import delete as delete_rows
from sqlalchemy import update as update_rows

from twistedipc.builds import names
from twistedipc.outgoing.kinds import KindName
from twistedipc.outgoing.told import Event
from twistedipc.storage.columns import columns_of, from_json, row_as, to_json
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.rows import ReceiverRow
from twistedipc.storage.tables import outbox, projects, receivers

#: The most receivers of a project.
MAX_RECEIVERS = 20


class Secret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is sealed of a receiver."""

    where: str = ""  # the address; of a repository's host that of its API, "": it follows from the repository's
    secret: str = ""  # the token, or what events are signed with


def list_all(connection: Connection, project: str) -> list[ReceiverRow]:
    """Return a project's receivers, by name."""
    return [_row(row) for row in connection.execute(_SELECT.where(_is(project)).order_by(receivers.c.name))]


def get(connection: Connection, project: str, name: str) -> ReceiverRow | None:
    """Return one of a project's receivers."""
    row = connection.execute(_SELECT.where(_is(project), receivers.c.name == name)).first()
    return None if row is None else _row(row)


def sealed(connection: Connection, project: str, name: str) -> tuple[str, bytes] | None:
    """
    Return the kind of a receiver, and what is sealed of it. None: there is none, or its token is for another repository
    than the project has now.
    """
    query = select(receivers.c.kind, receivers.c.sealed, receivers.c.bound_to, projects.c.repository)
    joined = query.join(projects, projects.c.id == receivers.c.project_id)
    row = connection.execute(joined.where(_is(project), receivers.c.name == name)).first()
    return None if row is None or _is_void(row) else (row.kind, bytes(row.sealed))


def put(
    connection: Connection,
    project: str,
    name: str,
    *,
    kind: KindName,
    events: Iterable[Event],
    shown: str,
    sealed: bytes,
    bound_to: str | None,
    now: int,
) -> ReceiverRow:
    """
    Set a receiver, new or in the place of the one of this name. ``sealed``: its `Secret`, by `SecretBox.seal`.
    ``bound_to``: the repository that its token is for, as `names.place` has it; it is void if the project has another
    one by now. None: it isn't a repository's host. Raises `NotFound`, `NotPossible`.
    """
    project_id = connection.execute(select(projects.c.id).where(_is(project))).scalar()
    if project_id is None:
        raise NotFound(f"there is no project {project}")
    values = {
        "kind": kind,
        "events": to_json(sorted(set(events))),
        "shown": shown,
        "sealed": sealed,
        "bound_to": bound_to,
        "updated": now,
    }
    which = (receivers.c.project_id == project_id) & (receivers.c.name == name)
    if not connection.execute(update_rows(receivers).where(which).values(**values)).rowcount:
        query = select(func.count()).select_from(receivers).where(receivers.c.project_id == project_id)
        if connection.execute(query).scalar_one() >= MAX_RECEIVERS:
            raise NotPossible(f"project {project} has {MAX_RECEIVERS} receivers already: remove one first")
        connection.execute(insert(receivers).values(project_id=project_id, name=name, created=now, **values))
    row = get(connection, project, name)
    assert row is not None
    return row


def remove(connection: Connection, project: str, name: str) -> bool:
    """Erase a receiver, and what is still to be told to it. Return False if there was none."""
    row = get(connection, project, name)
    if row is None:
        return False
    _remove(connection, [row.id])
    return True


def remove_all(connection: Connection, project: int) -> None:
    """Erase all receivers of a project that is deleted."""
    query = select(receivers.c.id).where(receivers.c.project_id == project)
    _remove(connection, list(connection.execute(query).scalars()))


def _remove(connection: Connection, ids: list[int]) -> None:
    connection.execute(delete_rows(outbox).where(outbox.c.receiver_id.in_(ids)))
    connection.execute(delete_rows(receivers).where(receivers.c.id.in_(ids)))


def _is(project: str) -> Any:
    return (projects.c.name == project) & projects.c.deleted.is_(None)


_SELECT = select(*columns_of(ReceiverRow, receivers), receivers.c.bound_to, projects.c.repository).join(
    projects, projects.c.id == receivers.c.project_id
)


def _row(row: Any) -> ReceiverRow:
    return row_as(
        ReceiverRow,
        row,
        events=from_json(row.events, list[Event]),
        void=_is_void(row),
    )


def _is_void(row: Any) -> bool:
    return row.bound_to is not None and row.bound_to != names.place(row.repository)
