"""
Builders' keys that expire.

Revision 0023. Those that there are never do.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Add the column."""
    op.add_column("builder_keys", sa.Column("expires", sa.BigInteger(), comment="null: never"))
