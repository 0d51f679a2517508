"""
The hosts that each attempt contacted.

Revision 0018.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the column. Of the attempts that there are, nothing is known."""
    comment = "from the end on: JSON: builds.egress.Egress; null: not known"
    op.add_column("attempts", sa.Column("egress", sa.Text(), comment=comment))
