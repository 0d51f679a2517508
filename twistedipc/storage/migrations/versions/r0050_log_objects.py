"""
Chunks of sealed logs may be in S3: their place is below 0, and the archive there has a row of its own.

Revision 0050. Nothing but comments changes; but an older version would take such a place for one in a file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0050"
down_revision = "0049"


def upgrade() -> None:
    """Say what is in these columns now."""
    if op.get_context().dialect.name == "sqlite":
        return  # it keeps no comments
    op.alter_column(
        "sealed_chunks",
        "place",
        existing_type=sa.BigInteger(),
        existing_nullable=True,
        comment="which chunk it is in storage.log_archive.Kind.of(place); null: in data",
    )
    op.alter_column(
        "sealed_chunks",
        "data",
        existing_type=sa.LargeBinary(),
        existing_nullable=True,
        comment="sealed.chunk; null: in an archive",
    )
    op.alter_column(
        "log_archive", "id", existing_type=sa.Integer(), existing_nullable=False, comment="storage.log_archive.Kind"
    )
    op.alter_column(
        "log_archive",
        "mark",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment="which archive of this kind has the chunks: storage.log_archive",
    )
