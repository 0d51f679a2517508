"""
How the versions of packages are raised, as a build was asked for; and packages whose version a build hasn't made.

Revision 0031. No build that there is was asked for that.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Add the columns."""
    comment = "how versions are raised: builds.versions.BUMP; null: they aren't"
    op.add_column("builds", sa.Column("bump", sa.Text(), comment=comment))
    comment = "this version's, if it is there already, counts as published whatever is in it"
    settled: sa.Column[bool] = sa.Column(
        "settled", sa.Boolean(), nullable=False, server_default=sa.false(), comment=comment
    )
    op.add_column("publications", settled)
