"""
What people ask to be done with packages that are published, and what became of it; tags that somebody else has moved.

Revision 0034.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "package_requests",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("project_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="the name of the one in whose registry it is done"),
        sa.Column("package", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="promote, rollback, deprecate or undeprecate"),
        sa.Column("tag", sa.Text(), nullable=False, comment="that is moved; empty: none"),
        sa.Column(
            "version", sa.Text(), nullable=False, comment="empty: the one to which the tag led before, not known yet"
        ),
        sa.Column("message", sa.Text(), nullable=False, comment="of a deprecation"),
        sa.Column("state", sa.Text(), nullable=False, comment="builds.states.RequestState"),
        sa.Column("reason", sa.Text(), nullable=False, comment="for people: why it is so; may be empty"),
        sa.Column("registry", sa.Text(), nullable=False, comment="its address; empty: not known yet"),
        sa.Column("before", sa.Text(), nullable=False, comment="the version to which the tag led, or the message"),
        sa.Column("requested_by", sa.Text(), nullable=False, comment="the token's name, or the person's"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("began", sa.BigInteger(), comment="written before it is done; null: not yet"),
        sa.Column("ended", sa.BigInteger(), comment="written after it; null: it goes on"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_package_requests_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_package_requests")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_package_requests_project_id_package_id"), "package_requests", ["project_id", "package", "id"]
    )
    op.create_index(op.f("ix_package_requests_state"), "package_requests", ["state"])
    op.create_table(
        "moved_tags",
        sa.Column("registry", sa.Text(), nullable=False, comment="its address"),
        sa.Column("package", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False, comment="to which it leads; empty: it was removed"),
        sa.Column("before", sa.Text(), nullable=False, comment="to which it led, by the ledger"),
        sa.Column("noticed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("registry", "package", "tag", name=op.f("pk_moved_tags")),
    )
