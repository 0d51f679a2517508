"""
Secrets are bound to where they may go, attempts know what they were offered with, and the audit has addresses.

The secrets that there are were set for what their projects say now. Revision 0003.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from alembic import op

from twistedipc.builds import names

revision = "0003"
down_revision = "0002"


class _Publish(msgspec.Struct):
    registry: str = ""


def _bound_to(publish: str, repository: str) -> str:
    registry = msgspec.json.decode(publish, type=_Publish).registry
    return f"{names.place(registry)} {names.place(repository)}"


def upgrade() -> None:
    """Add the columns, and fill in what is known."""
    op.add_column(
        "secrets",
        sa.Column(
            "bound_to", sa.Text(), comment="projects.target_of what it was set for: it is given out for nothing else"
        ),
    )
    op.add_column(
        "attempts",
        sa.Column(
            "target",
            sa.Text(),
            comment="projects.target_of what it was offered with; null: not offered, or before r0003",
        ),
    )
    op.add_column(
        "audit",
        sa.Column("address", sa.Text(), comment="from where: an IP address, or unix; null: not by HTTP, or not known"),
    )
    connection = op.get_bind()
    for project, publish, repository in connection.execute(
        sa.text("SELECT id, publish, repository FROM projects WHERE id IN (SELECT project_id FROM secrets)")
    ).all():
        connection.execute(
            sa.text("UPDATE secrets SET bound_to = :target WHERE project_id = :project"),
            {"target": _bound_to(publish, repository), "project": project},
        )
