"""
What decides which release is live: when each attempt's ref led to its commit, which builds may go live though they
are of another ref, and whether a project's releases are held.

Revision 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

#: Of the attempts that there are, the time is known only to have been after this: the first attempt that had this
#: commit resolved the ref, and later ones repeat it.
_RESOLVED = """
    UPDATE attempts SET resolved = (
        SELECT min(coalesce(first.offered, first.created)) FROM attempts AS first
        WHERE first.build_id = attempts.build_id AND first.commit_id = attempts.commit_id
    ) WHERE commit_id <> ''
"""


def upgrade() -> None:
    """Add the columns, and fill in what can be known."""
    op.add_column(
        "projects",
        sa.Column(
            "hold",
            sa.Text(),
            nullable=True,
            comment="null: releases go live by themselves; else JSON: storage.rows.Hold",
        ),
    )
    op.add_column(
        "builds",
        sa.Column(
            "live",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="asked to go live though of another ref",
        ),
    )
    op.add_column(
        "attempts",
        sa.Column(
            "resolved",
            sa.BigInteger(),
            nullable=True,
            comment="when the ref led to the commit, by our clock; null: no commit yet",
        ),
    )
    op.add_column(
        "attempts",
        sa.Column(
            "live", sa.Boolean(), nullable=False, server_default=sa.false(), comment="may go live though of another ref"
        ),
    )
    op.execute(sa.text(_RESOLVED))
