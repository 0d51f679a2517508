"""
Where builds came from that no person asked for.

Revision 0035. All builds that there are were asked for by people.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    """Add the column."""
    op.add_column("builds", sa.Column("origin", sa.Text(), comment="JSON: builds.origin.Origin; null: a person asked"))
