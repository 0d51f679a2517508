"""
Publications in steps: each is written down before it is done and after; packages that are being changed are locked.

Revision 0029. Publications from before have no steps.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"

_TEXTS = (
    ("registry", "its address; null: not known yet"),
    ("mode", "direct or staged; null: not known yet"),
    ("stage", "the registry's id of its stage; null: none"),
    ("set_tag", "the tag under which it goes up; null: its own"),
    ("tag_before", "the version that its tag led to before"),
    ("status", "published or already-published, at its end"),
    ("notice", "for people: what isn't as it should be"),
    ("approved_by", "who approved it; null: nobody"),
)


def upgrade() -> None:
    """Add the columns, and make the tables."""
    for name, comment in _TEXTS:
        op.add_column("publications", sa.Column(name, sa.Text(), comment=comment))
    op.add_column("publications", sa.Column("approved", sa.BigInteger(), comment="when; null: not"))
    op.create_table(
        "publication_steps",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column(
            "seq", sa.Integer(), autoincrement=False, nullable=False, comment="of the attempt's for the target, from 0"
        ),
        sa.Column("position", sa.Integer(), nullable=False, comment="the package's"),
        sa.Column("step", sa.Text(), nullable=False, comment="publish.record.Step"),
        sa.Column(
            "detail",
            sa.Text(),
            nullable=False,
            comment="what it is done with: a tag, a version, a stage's id; may be empty",
        ),
        sa.Column("began", sa.BigInteger(), nullable=False, comment="written before it is done"),
        sa.Column(
            "ended",
            sa.BigInteger(),
            nullable=False,
            comment="written after it; 0: it is under way, or was when a crash came",
        ),
        sa.Column("outcome", sa.Text(), nullable=False, comment="publish.record.Outcome; empty: not known"),
        sa.Column("reason", sa.Text(), nullable=False, comment="for people; may be empty"),
        sa.ForeignKeyConstraint(
            ["build_id", "number"],
            ["attempts.build_id", "attempts.number"],
            name=op.f("fk_publication_steps_build_id_number"),
        ),
        sa.PrimaryKeyConstraint("build_id", "number", "target", "seq", name=op.f("pk_publication_steps")),
    )
    op.create_table(
        "package_locks",
        sa.Column("registry", sa.Text(), nullable=False, comment="its address"),
        sa.Column("name", sa.Text(), nullable=False, comment="the package's"),
        sa.Column("holder", sa.Text(), nullable=False, comment="the attempt, or the request, that changes it now"),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("registry", "name", name=op.f("pk_package_locks")),
    )
    op.create_index(op.f("ix_package_locks_holder"), "package_locks", ["holder"])
