"""
By which name an apiserver is known to its builders: two that live have two.

Revision 0052.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0052"
down_revision = "0051"


def upgrade() -> None:
    """Add the column."""
    comment = "its name for its builders (link.name); null: an older version's"
    op.add_column("apiservers", sa.Column("link", sa.Text(), comment=comment))
