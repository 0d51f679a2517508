"""
Packages that are stored, for the apiserver to publish; the tools of builds, for what is signed after an approval.

Revision 0025. There is no such package yet; of attempts from before the tools aren't known.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Make the table, and the column of the attempts."""
    op.create_table(
        "publications",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="the name of the one to which it is published"),
        sa.Column(
            "position", sa.Integer(), autoincrement=False, nullable=False, comment="in the attempt's permit, from 0"
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="the package's"),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("integrity", sa.Text(), nullable=False, comment='of its file: "sha512-…", as npm has it'),
        sa.Column("tag", sa.Text(), nullable=False, comment="the dist-tag; empty: the target's default"),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="bytes of its file; 0: not announced yet"),
        sa.Column(
            "sha256",
            sa.Text(),
            nullable=False,
            comment="of its file, its name in the artifact store; empty: none there",
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="builds.states.PublicationState"),
        sa.Column("reason", sa.Text(), nullable=False, comment="for people: why it is so; may be empty"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False, comment="when it came into its state"),
        sa.ForeignKeyConstraint(
            ["build_id", "number"],
            ["attempts.build_id", "attempts.number"],
            name=op.f("fk_publications_build_id_number"),
        ),
        sa.PrimaryKeyConstraint("build_id", "number", "target", "position", name=op.f("pk_publications")),
    )
    op.create_index(op.f("ix_publications_name_version"), "publications", ["name", "version"])
    op.create_index(op.f("ix_publications_sha256"), "publications", ["sha256"])
    comment = "from the end on: JSON: list of builds.attempt.Tool; null: not known"
    op.add_column("attempts", sa.Column("tools", sa.Text(), comment=comment))
