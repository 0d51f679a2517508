"""
Several apiservers on one database: which there are, which of them has which builder and which duty, and what each has
changed.

Revision 0049.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0049"
down_revision = "0048"


def upgrade() -> None:
    """Make the tables."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "apiservers",
        sa.Column("name", sa.Text(), nullable=False, comment="as its configuration or its data folder has it"),
        sa.Column("incarnation", sa.BigInteger(), nullable=False, comment="how many have had this name"),
        sa.Column("folder", sa.Text(), nullable=False, comment="what its data folder is told by"),
        sa.Column("files", sa.Text(), nullable=False, comment="what its folder of artifacts and releases is told by"),
        sa.Column("url", sa.Text(), nullable=False, comment="where its API is"),
        sa.Column("host", sa.Text(), nullable=False, comment="where it runs"),
        sa.Column("pid", sa.BigInteger(), nullable=False, comment="its process there"),
        sa.Column("started", sa.BigInteger(), nullable=False, comment="by the database's clock, as all times here"),
        sa.Column("seen", sa.BigInteger(), nullable=False, comment="when it last said that it is there"),
        sa.Column("steady", sa.BigInteger(), nullable=False, comment="since when it has said so without a pause"),
        sa.Column(
            "ended", sa.BigInteger(), nullable=True, comment="null: it is alive; else when it ended or was given up"
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_apiservers")),
    )
    op.create_table(
        "builder_links",
        sa.Column("builder", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False, comment="which process of the builder is linked, or was last"),
        sa.Column("apiserver", sa.Text(), nullable=False, comment="which answers for the builder"),
        sa.Column("incarnation", sa.BigInteger(), nullable=False, comment="of the apiserver"),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="how often it was taken; each link has its own"),
        sa.Column("linked", sa.Boolean(), nullable=False, comment="false: the builder is away, and waited for"),
        sa.Column("since", sa.BigInteger(), nullable=False, comment="by the database's clock"),
        sa.PrimaryKeyConstraint("builder", name=op.f("pk_builder_links")),
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.Text(), nullable=False, comment="work that one apiserver does for all"),
        sa.Column("apiserver", sa.Text(), nullable=False, comment="which does it"),
        sa.Column("incarnation", sa.BigInteger(), nullable=False, comment="of the apiserver"),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="how often it was taken"),
        sa.Column("since", sa.BigInteger(), nullable=False, comment="by the database's clock"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_duties")),
    )
    op.create_table(
        "changes",
        sa.Column("number", number, nullable=False, comment="in the order of the commits"),
        sa.Column("apiserver", sa.Text(), nullable=False, comment="which has made it; the others read it here"),
        sa.Column("what", sa.Text(), nullable=False, comment="storage.changes.Change, or empty: anything"),
        sa.Column("time", sa.BigInteger(), nullable=False, comment="by the database's clock"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_changes")),
        sqlite_autoincrement=True,
    )
