"""
What projects have of hooks: the sealed secret, the settings, and the messages that came. Functions for `Ledger.read`
and `Ledger.write`; ``storage`` layer. What is made of a message is in ``taking``.
"""

from __future__ import annotations

from typing import Any, get_args

from sqlalchemy import Connection, insert, select
from sqlalchemy import update as update_rows

from twistedipc.builds.hooks.events import Came, HookEvent
from twistedipc.builds.hooks.settings import HookSettings
from twistedipc.storage.columns import columns_of, from_json, row_as, to_json
from twistedipc.storage.rows import HookDeliveryRow, HookRow
from twistedipc.storage.tables import hook_deliveries, hooks, projects

#: How many messages of a project are listed, and how many are remembered: those that come again are known by them.
#: (What waits for somebody, what looks have seen, and all else: as many of each.)
LISTED = 50
REMEMBERED = 1000


def sealed_secret(connection: Connection, project: str) -> bytes | None:
    """Return the project's sealed secret; None if it has none, or doesn't exist."""
    query = (
        select(hooks.c.secret)
        .join(projects, projects.c.id == hooks.c.project_id)
        .where(projects.c.name == project, projects.c.deleted.is_(None))
    )
    found: bytes | None = connection.execute(query).scalar()
    return None if found is None else bytes(found)


def get(connection: Connection, project_id: int) -> HookRow:
    """Return what a project has of hooks."""
    row = connection.execute(select(hooks).where(hooks.c.project_id == project_id)).first()
    if row is None:
        return HookRow()
    return HookRow(changed=row.changed, settings=from_json(row.settings, HookSettings))


def set_secret(connection: Connection, project_id: int, sealed: bytes | None, now: int) -> None:
    """Set the secret, or erase it: the one before is void at once."""
    _put(connection, project_id, secret=sealed, changed=None if sealed is None else now)


def set_settings(connection: Connection, project_id: int, settings: HookSettings) -> None:
    """Set what the project says of its hooks."""
    _put(connection, project_id, settings=to_json(settings))


def _put(connection: Connection, project_id: int, **values: Any) -> None:
    if not connection.execute(update_rows(hooks).where(hooks.c.project_id == project_id).values(**values)).rowcount:
        connection.execute(insert(hooks).values(**{"project_id": project_id, "settings": "{}", **values}))


# -- messages --------------------------------------------------------------------------------------------------------


def deliveries(connection: Connection, project_id: int) -> list[HookDeliveryRow]:
    """Return the newest messages of a project, newest first, and behind them the newest of those that wait."""
    query = SELECT.where(hook_deliveries.c.project_id == project_id).order_by(hook_deliveries.c.id.desc()).limit(LISTED)
    newest = [delivery_row(row) for row in connection.execute(query)]
    if len(newest) < LISTED:
        return newest
    older = query.where(hook_deliveries.c.outcome == "waits", hook_deliveries.c.id < newest[-1].id)
    return newest + [delivery_row(row) for row in connection.execute(older)]


SELECT = select(
    *columns_of(HookDeliveryRow, hook_deliveries),
    hook_deliveries.c.build_id.label("build"),
    projects.c.name.label("project"),
).join(projects, projects.c.id == hook_deliveries.c.project_id)


def delivery_row(row: Any) -> HookDeliveryRow:
    """Return a row of `SELECT`."""
    assert row.outcome in get_args(Came), "it was written here"
    return row_as(HookDeliveryRow, row, event=from_json(row.event, HookEvent))
