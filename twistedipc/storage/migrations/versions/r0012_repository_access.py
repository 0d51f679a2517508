"""
Credentials for private repositories, and the branch that a repository's HEAD stands for.

Revision 0012. Projects from before have no credentials of their own, and keep their default refs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make the table, and the column of the projects."""
    op.create_table(
        "repository_access",
        sa.Column("project_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "host",
            sa.Text(),
            nullable=False,
            comment="builds.names.host of the repository: it is given out for no other",
        ),
        sa.Column(
            "deploy_key",
            sa.LargeBinary(),
            nullable=True,
            comment="the private half, encrypted by secrets.SecretBox; null: none",
        ),
        sa.Column("public_key", sa.Text(), nullable=False, comment="the public half, in OpenSSH's form; empty: none"),
        sa.Column("git_token", sa.LargeBinary(), nullable=True, comment="encrypted by secrets.SecretBox; null: none"),
        sa.Column(
            "known_hosts",
            sa.Text(),
            nullable=False,
            comment="JSON: list of lines, the host's keys; none: not pinned yet",
        ),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_repository_access_project_id")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_repository_access")),
    )
    op.add_column(
        "projects",
        sa.Column("head", sa.Text(), comment="the branch that the repository's HEAD stood for last; null: not known"),
    )
