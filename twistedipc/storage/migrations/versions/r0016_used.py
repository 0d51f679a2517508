"""
What the steps of each attempt have used of their machine.

Revision 0016.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the column. Of the attempts that there are, nothing is known."""
    comment = "from the end on: JSON: builds.attempt.Used; null: not known"
    op.add_column("attempts", sa.Column("used", sa.Text(), comment=comment))
