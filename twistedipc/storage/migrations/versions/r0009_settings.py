"""
What a project says of how it is built.

Revision 0009.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column. Of the projects that there are, everything is recognised, as before."""
    comment = "JSON: builds.settings.BuildSettings; null: none"
    op.add_column("projects", sa.Column("settings", sa.Text(), comment=comment))
