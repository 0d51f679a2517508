"""
Logs are kept in sealed chunks, with an outline. What is stored already is sealed afterwards, by the apiserver.

Revision 0043.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "sealed_chunks",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("first_record", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("records", sa.BigInteger(), nullable=False, comment="how many, without holes"),
        sa.Column("plain", sa.BigInteger(), nullable=False, comment="bytes of the messages that are sealed in it"),
        sa.Column("began", sa.BigInteger(), nullable=False, comment="when the first of them was captured; 0: of a gap"),
        sa.Column("ended", sa.BigInteger(), nullable=False, comment="when the last of them was; 0: of a gap"),
        sa.Column(
            "damaged",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="it was found not to be what was sealed",
        ),
        sa.Column("size", sa.Integer(), nullable=False, comment="bytes of the chunk"),
        sa.Column(
            "place",
            sa.BigInteger(),
            comment="where it begins in its attempt's file (storage.log_archive); null: in data",
        ),
        sa.Column("grams", sa.LargeBinary(), nullable=False, comment="sealed.grams.row_of its text"),
        sa.Column("data", sa.LargeBinary(), comment="sealed.chunk; null: in the file"),
        sa.ForeignKeyConstraint(
            ["build_id", "number"],
            ["attempts.build_id", "attempts.number"],
            name=op.f("fk_sealed_chunks_build_id_number"),
        ),
        sa.PrimaryKeyConstraint("build_id", "number", "first_record", name=op.f("pk_sealed_chunks")),
    )
    op.create_table(
        "outlines",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("data", sa.Text(), nullable=False, comment="JSON: sealed.outline.Outline"),
        sa.ForeignKeyConstraint(
            ["build_id", "number"], ["attempts.build_id", "attempts.number"], name=op.f("fk_outlines_build_id_number")
        ),
        sa.PrimaryKeyConstraint("build_id", "number", name=op.f("pk_outlines")),
    )
