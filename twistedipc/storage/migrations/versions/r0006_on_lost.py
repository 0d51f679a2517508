"""
What becomes of a project's builds whose builder is gone for good.

Revision 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column. Projects that don't set it keep what was before: their builds stay lost."""
    op.add_column(
        "projects", sa.Column("on_lost", sa.Text(), comment='of a lost attempt: "rerun" it; null or "lost": do not')
    )
