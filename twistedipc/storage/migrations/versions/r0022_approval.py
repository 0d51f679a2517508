"""
Projects whose releases another person approves before they go live.

Revision 0022. No project asks for it that there is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Add the columns."""
    op.add_column(
        "projects",
        sa.Column(
            "approval",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="by how many people a release is approved",
        ),
    )
    comment = "the number of the token with which it was asked for; null: not known"
    op.add_column("attempts", sa.Column("asker", sa.BigInteger(), comment=comment))
    comment = "JSON: storage.rows.Decision, if it had to be approved; null: none"
    op.add_column("attempts", sa.Column("decision", sa.Text(), comment=comment))
