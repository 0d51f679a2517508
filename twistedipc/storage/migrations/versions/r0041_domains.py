"""
Domains: host names of projects beside those that the platform gives.

Revision 0041.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    """Make the table."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "domains",
        sa.Column("id", number, nullable=False, comment="in the order in which they were added"),
        sa.Column("project_id", number, nullable=False),
        sa.Column(
            "name", sa.Text(), nullable=False, comment="a host name, as builds.domains has them; unique in all projects"
        ),
        sa.Column("main", sa.Boolean(), nullable=False, comment="it is the one under which people know the site"),
        sa.Column(
            "redirect", sa.Boolean(), nullable=False, comment="it leads to the main one, and serves nothing itself"
        ),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_domains_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domains")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_domains_name", "domains", ["name"], unique=True)
    op.create_index("ix_domains_project_id", "domains", ["project_id"])
