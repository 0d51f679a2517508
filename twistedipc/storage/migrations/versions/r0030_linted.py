"""
What publint says of the packages of each attempt.

Revision 0030.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Add the column. Of the attempts that there are, nothing is known."""
    comment = "from the end on: JSON: builds.lint.Linted; null: not known"
    op.add_column("attempts", sa.Column("linted", sa.Text(), comment=comment))
