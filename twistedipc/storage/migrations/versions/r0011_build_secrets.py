"""
Secrets of projects' builds; variables that only some builds have; registries from which builds install.

Revision 0011. Projects from before have none of them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the table, and the columns of the projects."""
    op.create_table(
        "build_secrets",
        sa.Column("project_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="the variable of the steps that are given it"),
        sa.Column(
            "sealed",
            sa.LargeBinary(),
            nullable=False,
            comment="encrypted by secrets.SecretBox, whose key isn't here",
        ),
        sa.Column("characters", sa.Integer(), nullable=False, comment="of the value"),
        sa.Column("steps", sa.Text(), nullable=False, comment="builds.secrets.Steps: which steps are given it"),
        sa.Column("builds", sa.Text(), nullable=False, comment="builds.secrets.Builds: which builds are given it"),
        sa.Column(
            "bound_to",
            sa.Text(),
            nullable=False,
            comment="the repository it was set for: it is given to no other's builds",
        ),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_build_secrets_project_id")),
        sa.PrimaryKeyConstraint("project_id", "name", name=op.f("pk_build_secrets")),
    )
    op.add_column(
        "projects",
        sa.Column(
            "of_contexts",
            sa.Text(),
            comment="null: nothing; else JSON: builds.variables.OfContexts, beside environment",
        ),
    )
    op.add_column(
        "projects",
        sa.Column("registries", sa.Text(), comment="null: none; else JSON: list of builds.registries.Registry"),
    )
