"""
The ledger knows which archive has its sealed logs, so that it tells one that isn't mounted from files that are gone.

Revision 0046. A ledger that has chunks in files already takes the archive that it finds with the next chunk.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0045"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "log_archive",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False, comment="1: there is one row at most"),
        sa.Column(
            "mark", sa.Text(), nullable=False, comment="which archive has the chunks in files: storage.log_archive"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_archive")),
    )
