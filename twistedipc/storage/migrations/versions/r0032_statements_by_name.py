"""
Statements are looked up by the package that they are about.

Revision 0032.
"""

from __future__ import annotations

from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_statements_name", "statements", ["name"])
