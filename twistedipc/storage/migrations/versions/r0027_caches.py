"""
How many times what the builds of a project keep was cleared.

Revision 0027. It never was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Add the column."""
    comment = "how many times what its builds keep was cleared: they use nothing that was kept before"
    op.add_column("projects", sa.Column("caches", sa.Integer(), nullable=False, server_default="0", comment=comment))
