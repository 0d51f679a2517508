"""
Schedules: when projects are built without anybody's asking.

Revision 0040.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    """Make the table."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "schedules",
        sa.Column("id", number, nullable=False),
        sa.Column("project_id", number, nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="as people call it; unique in its project"),
        sa.Column("cron", sa.Text(), nullable=False, comment="an expression: builds.cron"),
        sa.Column("zone", sa.Text(), nullable=False, comment="the name of a time zone"),
        sa.Column("ref", sa.Text(), nullable=False, comment="what is built; empty: the project's own ref"),
        sa.Column("publish", sa.Boolean(), nullable=False, comment="its builds publish what a push would"),
        sa.Column("due", sa.BigInteger(), comment="when it is due next; null: its time zone isn't known any more"),
        sa.Column("ran", sa.BigInteger(), comment="when it was due last, and was looked at; null: never yet"),
        sa.Column("build_id", number, comment="its last; null: none yet"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why nothing was built the last time; empty: it was"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_schedules_project_id")),
        sa.ForeignKeyConstraint(["build_id"], ["builds.id"], name=op.f("fk_schedules_build_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_schedules_project_id_name", "schedules", ["project_id", "name"], unique=True)
    op.create_index("ix_schedules_due", "schedules", ["due"])
