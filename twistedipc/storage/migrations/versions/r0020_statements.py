"""
What the apiserver signs about releases and packages; from which repository an attempt is built.

Revision 0020. Of attempts from before neither is known.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Make the table, and the column of the attempts."""
    op.create_table(
        "statements",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="the attempt's"),
        sa.Column("kind", sa.Text(), nullable=False, comment="release or package"),
        sa.Column("name", sa.Text(), nullable=False, comment="of the statement's subject"),
        sa.Column("envelope", sa.Text(), nullable=False, comment="JSON: builds.provenance.Envelope"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["build_id", "number"],
            ["attempts.build_id", "attempts.number"],
            name=op.f("fk_statements_build_id_number"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_statements")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_statements_build_id_number"), "statements", ["build_id", "number"])
    comment = "the address that it was offered with; null: not known"
    op.add_column("attempts", sa.Column("repository", sa.Text(), comment=comment))
