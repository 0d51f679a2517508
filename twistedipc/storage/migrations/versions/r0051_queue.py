"""
The queue of many: its order, which projects have rules of, and several pools that a project's builders must be in.

Revision 0051.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0051"
down_revision = "0050"

_INDEXES = {
    "ix_builds_queue": (["project_id", "due", "id", "state"], "state = 'queued'"),
    "ix_builds_lane": (
        ["project_id", "lane", "id"],
        "state IN ('accepted', 'delivering', 'disconnected', 'offered', 'publishing', 'queued', 'running', "
        "'waiting_approval')",
    ),
}


def upgrade() -> None:
    """Add the columns and indexes. What is queued keeps its order; the pool of a project becomes one of several."""
    comment = "null: no rules; else JSON: builds.priorities.QueueRules"
    op.add_column("projects", sa.Column("queue", sa.Text(), comment=comment))
    comment = "as in builds.priorities.LEVELS"
    op.add_column("builds", sa.Column("priority", sa.Integer(), nullable=False, server_default="0", comment=comment))
    comment = "when it was queued, moved by its priority"
    op.add_column("builds", sa.Column("due", sa.BigInteger(), nullable=False, server_default="0", comment=comment))
    op.execute(
        "UPDATE builds SET due = (SELECT a.created FROM attempts a WHERE a.build_id = builds.id "
        "AND a.number = builds.attempt) WHERE state IN ('queued', 'offered')"
    )
    for name, (columns, condition) in _INDEXES.items():
        op.create_index(name, "builds", columns, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))
    connection = op.get_bind()
    for number, bound in connection.execute(
        sa.text("SELECT id, runs_on FROM projects WHERE runs_on IS NOT NULL")
    ).all():
        said: dict[str, Any] = json.loads(bound)
        pool = said.pop("pool", "")
        values = {"id": number, "runs_on": json.dumps(said | {"pools": [pool] if pool else []})}
        connection.execute(sa.text("UPDATE projects SET runs_on = :runs_on WHERE id = :id"), values)
