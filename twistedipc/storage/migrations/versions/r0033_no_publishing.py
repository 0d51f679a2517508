"""
Publications are in no state "publishing" any more: what a crash has left in it begins again, by asking the registry.

Revision 0033.
"""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    """Have what was under way begin again."""
    op.execute("UPDATE publications SET state = 'stored' WHERE state = 'publishing'")
