"""
Passwords for the previews of projects.

Revision 0042.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"


def upgrade() -> None:
    """Make the table."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "preview_passwords",
        sa.Column("project_id", number, autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False, comment="as storage.password_hashes writes it"),
        sa.Column("changed", sa.BigInteger(), nullable=False, comment="since when it holds"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_preview_passwords_project_id")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_preview_passwords")),
    )
