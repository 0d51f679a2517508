"""
The addresses for mail of commits' authors, by which people are found.

Revision 0028. They aren't known of the attempts that there are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Add the column."""
    comment = "the commit's, in small letters; null: not known"
    op.add_column("attempts", sa.Column("author_email", sa.Text(), comment=comment))
