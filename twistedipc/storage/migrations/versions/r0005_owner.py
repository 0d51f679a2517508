"""
Which apiserver has the database.

Revision 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table; the apiserver that does this writes its row."""
    op.create_table(
        "owner",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False, comment="1: there is one row at most"),
        sa.Column(
            "epoch", sa.BigInteger(), nullable=False, comment="how many apiservers have had this database; see guard"
        ),
        sa.Column("host", sa.Text(), nullable=False, comment="where the newest of them runs"),
        sa.Column("pid", sa.BigInteger(), nullable=False, comment="its process there"),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owner")),
    )
