"""
What isolated the steps of each attempt.

Revision 0021.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Add the column. Of the attempts that there are, nothing is known."""
    comment = "since its acceptance: builds.isolation.Kind; null: not known"
    op.add_column("attempts", sa.Column("isolation", sa.Text(), comment=comment))
