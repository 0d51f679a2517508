"""
Environments of projects, and a secret's values for several of them.

Revision 0026. No project has one beside production and previews; each secret has the one value that it had.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Add the columns, and let a secret have a value for each kind of build."""
    comment = "null: none; else JSON: list of builds.environments.Environment, beside production and previews"
    op.add_column("projects", sa.Column("environments", sa.Text(), comment=comment))
    comment = "since its offer: of which environment it is; null: not known"
    op.add_column("attempts", sa.Column("environment", sa.Text(), comment=comment))
    with op.batch_alter_table("build_secrets") as table:
        table.drop_constraint("pk_build_secrets", type_="primary")
        table.create_primary_key("pk_build_secrets", ["project_id", "name", "builds"])
