"""
Who may publish: the scope ``publish``, and projects' protected refs.

Revision 0015. Tokens with the scope build could publish, and so get the scope that says so. Of the attempts that there
are it isn't known whether their commits were on protected refs.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the columns, and the scope."""
    op.add_column(
        "projects",
        sa.Column(
            "protected", sa.Text(), comment="null: default_ref alone; else JSON: list of patterns of builds.protection"
        ),
    )
    op.add_column(
        "attempts",
        sa.Column(
            "may_publish",
            sa.Boolean(),
            nullable=False,
            server_default=sa.true(),
            comment="who asked has the scope publish",
        ),
    )
    comment = "since its offer: why it publishes nothing for users; empty: it may; null: old"
    op.add_column("attempts", sa.Column("preview", sa.Text(), comment=comment))
    comment = "the protected ref that has its commit; empty: none; null: not known"
    op.add_column("attempts", sa.Column("protected", sa.Text(), comment=comment))
    _give_scope(op.get_bind())


def _give_scope(connection: sa.Connection) -> None:
    tokens = sa.table("tokens", sa.column("id", sa.BigInteger()), sa.column("scopes", sa.Text()))
    for token_id, written in connection.execute(sa.select(tokens.c.id, tokens.c.scopes)).all():
        scopes = set(json.loads(written))
        if "build" in scopes:
            given = json.dumps(sorted(scopes | {"publish"}))
            connection.execute(sa.update(tokens).where(tokens.c.id == token_id).values(scopes=given))
