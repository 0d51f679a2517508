"""
Releases: each is of one target, so that a project can have several that roll back.

Revision 0010. The releases that there are belong to ``static``, the one target that made any.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column, and have it in what is unique."""
    op.add_column(
        "releases",
        sa.Column(
            "target", sa.Text(), nullable=False, server_default="static", comment="the name of the one that keeps it"
        ),
    )
    op.drop_index("uq_releases_attempt", "releases")
    op.create_index("uq_releases_attempt", "releases", ["build_id", "number", "target"], unique=True)
    op.drop_index("uq_releases_live", "releases")
    op.create_index(
        "uq_releases_live",
        "releases",
        ["project_id", "target"],
        unique=True,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
