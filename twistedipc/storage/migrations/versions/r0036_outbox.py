"""
What is told to others: to whom, and what is still to be told.

Revision 0036.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "receivers",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("project_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="as people call it; unique in its project"),
        sa.Column("kind", sa.Text(), nullable=False, comment="one of outgoing.kinds"),
        sa.Column("events", sa.Text(), nullable=False, comment="JSON: list of outgoing.told.Event that it wants"),
        sa.Column(
            "shown",
            sa.Text(),
            nullable=False,
            comment="its address as people are shown it; empty: the repository's host",
        ),
        sa.Column(
            "sealed",
            sa.LargeBinary(),
            nullable=False,
            comment="JSON: storage.receivers.Secret, encrypted by secrets.SecretBox, whose key isn't here",
        ),
        sa.Column("bound_to", sa.Text(), comment="the repository that it was set for; null: it is the host of none"),
        sa.Column(
            "rests", sa.BigInteger(), comment="until when nothing is told to it; null: it was never away or busy"
        ),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_receivers_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receivers")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_receivers_project_id_name", "receivers", ["project_id", "name"], unique=True)
    op.create_table(
        "outbox",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="in the order in which it happened",
        ),
        sa.Column("receiver_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="what of one subject is told is told in its order"),
        sa.Column("part", sa.Text(), nullable=False, comment="outgoing.told.Part"),
        sa.Column("phase", sa.Text(), nullable=False, comment="builds.states.Phase"),
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="the attempt's"),
        sa.Column("told", sa.Text(), nullable=False, comment="JSON: outgoing.told.Told, as it was then"),
        sa.Column("state", sa.Text(), nullable=False, comment="builds.states.TellingState"),
        sa.Column(
            "reason", sa.Text(), nullable=False, comment="for people: why it wasn't told at the last try; may be empty"
        ),
        sa.Column("tries", sa.Integer(), nullable=False, comment="how often it was begun"),
        sa.Column("due", sa.BigInteger(), nullable=False, comment="when it is tried next"),
        sa.Column("leased", sa.BigInteger(), comment="since when it is being told; null: it isn't"),
        sa.Column(
            "noticed", sa.BigInteger(), comment="when it was first seen by what tells it: its time runs from there"
        ),
        sa.Column("ended", sa.BigInteger(), comment="when it was told, or given up; null: not yet"),
        sa.ForeignKeyConstraint(
            ["receiver_id"], ["receivers.id"], name=op.f("fk_outbox_receiver_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_outbox_receiver_id_subject_id"), "outbox", ["receiver_id", "subject", "id"])
    op.create_index(op.f("ix_outbox_state_due"), "outbox", ["state", "due"])
