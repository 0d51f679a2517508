"""
Permits to publish: what each attempt was offered to publish, and what it got a permit for.

Revision 0007. What is under way already was offered what its project publishes.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


class _Publish(msgspec.Struct):
    npm: bool = False
    registry: str = ""


def upgrade() -> None:
    """Make the table, and fill it for what is under way."""
    permits = op.create_table(
        "permits",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("lease", sa.Text(), nullable=False, comment="the attempt's, when it was offered"),
        sa.Column("registry", sa.Text(), nullable=False, comment="to which it was offered to publish an npm package"),
        sa.Column("package", sa.Text(), nullable=True, comment="JSON: builds.attempt.Package; null: no permit yet"),
        sa.Column("given", sa.BigInteger(), nullable=True, comment="when it got its permit"),
        sa.ForeignKeyConstraint(
            ["build_id", "number"],
            ["attempts.build_id", "attempts.number"],
            name=op.f("fk_permits_build_id_number"),
        ),
        sa.PrimaryKeyConstraint("build_id", "number", name=op.f("pk_permits")),
    )
    connection = op.get_bind()
    under_way = connection.execute(
        sa.text(
            "SELECT attempts.build_id, attempts.number, attempts.lease, projects.publish FROM attempts"
            " JOIN builds ON builds.id = attempts.build_id JOIN projects ON projects.id = builds.project_id"
            " WHERE builds.publish AND attempts.lease != ''"
            " AND attempts.state IN ('offered', 'accepted', 'running', 'disconnected', 'publishing')"
        )
    ).all()
    for build, number, lease, publish in under_way:
        offered = msgspec.json.decode(publish, type=_Publish)
        if offered.npm:
            connection.execute(
                sa.insert(permits).values(build_id=build, number=number, lease=lease, registry=offered.registry)
            )
