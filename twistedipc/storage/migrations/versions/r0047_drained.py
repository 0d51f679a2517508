"""
A builder can be told to take nothing new, by somebody who isn't on its machine.

Revision 0047.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0047"
down_revision = "0046"


def upgrade() -> None:
    """Add the column."""
    comment = "since when it is offered nothing, by a person's word; null: it is"
    op.add_column("builders", sa.Column("drained", sa.BigInteger(), nullable=True, comment=comment))
