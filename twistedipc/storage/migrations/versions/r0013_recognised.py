"""
What was recognised of a project, with each attempt.

Revision 0013.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column. Of the attempts that there are, nothing is known."""
    comment = "JSON: list of builds.recognition.recognised.Finding; null: not known"
    op.add_column("attempts", sa.Column("recognised", sa.Text(), comment=comment))
