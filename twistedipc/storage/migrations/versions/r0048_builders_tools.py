"""
A builder tells which tools it has fetched.

Revision 0048.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0048"
down_revision = "0047"


def upgrade() -> None:
    """Add the column."""
    comment = "JSON: list of builds.attempt.StoredTool, as it said last; null: it didn't yet"
    op.add_column("builders", sa.Column("tools", sa.Text(), nullable=True, comment=comment))
