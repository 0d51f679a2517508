"""
Polling: the refs of repositories whose hosts send no hooks.

Revision 0044.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0043"


def upgrade() -> None:
    """Make the tables."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    seen = "of what it has seen, if all that follows is done; else empty"
    where = "where it was when it was looked at, and all followed from it"
    op.create_table(
        "polls",
        sa.Column("project_id", number, nullable=False, autoincrement=False),
        sa.Column("every", sa.Integer(), nullable=False, comment="minutes between two looks at the repository"),
        sa.Column("due", sa.BigInteger(), nullable=False, comment="when it is looked at next"),
        sa.Column("since", sa.BigInteger(), nullable=False, comment="when it was turned on"),
        sa.Column(
            "repository", sa.Text(), nullable=False, comment="whose refs poll_refs has; empty: there was no look yet"
        ),
        sa.Column("scope", sa.Text(), nullable=False, comment="JSON: storage.rows.PollScope, of the last look"),
        sa.Column("digest", sa.Text(), nullable=False, comment=seen),
        sa.Column("refs", sa.Integer(), nullable=False, comment="how many it has seen"),
        sa.Column("looked", sa.BigInteger(), comment="when the repository was seen last; null: never yet"),
        sa.Column("tried", sa.BigInteger(), comment="when it was tried last; null: never yet"),
        sa.Column("failures", sa.Integer(), nullable=False, comment="how many looks in a row have failed"),
        sa.Column(
            "reason", sa.Text(), nullable=False, comment="why the last one has, or has to wait; empty: it hasn't"
        ),
        sa.Column("builder", sa.Text(), nullable=False, comment="which one has looked last; empty: none"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_polls_project_id")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_polls")),
    )
    op.create_index("ix_polls_due", "polls", ["due"])
    op.create_table(
        "poll_refs",
        sa.Column("project_id", number, nullable=False, autoincrement=False),
        sa.Column("name", sa.Text(), nullable=False, comment="the full name of a branch or tag"),
        sa.Column("commit_id", sa.Text(), nullable=False, comment=where),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_poll_refs_project_id")),
        sa.PrimaryKeyConstraint("project_id", "name", name=op.f("pk_poll_refs")),
    )
