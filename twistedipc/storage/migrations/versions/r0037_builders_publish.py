"""
Projects that said nothing of who publishes their npm packages have said that the builder does, which is what it meant.

Revision 0037. A new project that says nothing has the apiserver publish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    """Write it down in the projects, and in what attempts were offered to publish."""
    connection = op.get_bind()
    projects = sa.table("projects", sa.column("targets", sa.Text()))
    _write(connection, projects, projects.c.targets, lambda targets: [_said(each) for each in targets])
    deliveries = sa.table("deliveries", sa.column("settings", sa.Text()))
    _write(connection, deliveries, deliveries.c.settings, _said)


def _write(
    connection: sa.Connection, table: sa.TableClause, column: sa.ColumnElement[str], said: Callable[[Any], object]
) -> None:
    """Replace each value of a column, all rows of one value at once: many attempts were offered the same."""
    for (written,) in connection.execute(sa.select(column).distinct()).all():
        before = msgspec.json.decode(written)
        after = said(before)
        if after != before:
            values = {column: msgspec.json.encode(after).decode()}
            connection.execute(sa.update(table).where(column == written).values(values))


def _said(settings: Any) -> Any:
    """One target's settings, with the builder as the one who publishes, unless they say who does."""
    if not isinstance(settings, dict) or settings.get("type") != "npm" or settings.get("publish_at"):
        return settings
    return {**settings, "publish_at": "builder"}
