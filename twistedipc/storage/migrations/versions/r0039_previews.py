"""
Previews: which release is found at the address of a branch, or of a pull request, and with what it was built.

Revision 0039.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    """Make the table, and the column by which a preview is known to be what production would be."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "previews",
        sa.Column("project_id", number, nullable=False),
        sa.Column("label", sa.Text(), nullable=False, comment="builds.labels: of a ref"),
        sa.Column("ref", sa.Text(), nullable=False, comment="its full name"),
        sa.Column("release_id", number, nullable=False, comment="of the ref's newest build that succeeded"),
        sa.Column("updated", sa.BigInteger(), nullable=False, comment="since when it is of that release"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_previews_project_id")),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], name=op.f("fk_previews_release_id")),
        sa.PrimaryKeyConstraint("project_id", "label", name=op.f("pk_previews")),
    )
    op.add_column(
        "attempts",
        sa.Column(
            "inputs",
            sa.Text(),
            nullable=True,
            comment="since its offer: builds.inputs: its variables and secrets; null: not known",
        ),
    )
