"""
Builders with keys of their own, and projects that are bound to some of them.

Revision 0019. Those that link by the shared key have no rows; all projects are built anywhere.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Make the tables, and the column of the projects."""
    op.create_table(
        "builders",
        sa.Column("name", sa.Text(), nullable=False, comment="of one that has, or had, a key of its own"),
        sa.Column(
            "pools", sa.Text(), nullable=False, comment="JSON: list of names; projects can be bound to one of them"
        ),
        sa.Column(
            "shared", sa.Boolean(), nullable=False, comment="the shared key is good for it, until its own is used"
        ),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("last_linked", sa.BigInteger(), comment="by a key of its own; null: never"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_builders")),
    )
    op.create_table(
        "builder_keys",
        sa.Column("id", sa.Text(), nullable=False, comment="as the handshake of a link says it; not secret"),
        sa.Column("builder", sa.Text(), nullable=False, comment="whose it is"),
        sa.Column("role", sa.Text(), nullable=False, comment="that its holder must have on a link"),
        sa.Column(
            "sealed",
            sa.LargeBinary(),
            comment="the secret, encrypted by secrets.SecretBox; null: the key has ended",
        ),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("last_used", sa.BigInteger(), comment="to the minute; null: never"),
        sa.Column("revoked", sa.BigInteger(), comment="null: it is good"),
        sa.ForeignKeyConstraint(["builder"], ["builders.name"], name=op.f("fk_builder_keys_builder")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_builder_keys")),
    )
    op.create_index(op.f("ix_builder_keys_builder"), "builder_keys", ["builder"])
    comment = "null: any builder; else JSON: storage.rows.RunsOn, those that it is bound to"
    op.add_column("projects", sa.Column("runs_on", sa.Text(), comment=comment))
