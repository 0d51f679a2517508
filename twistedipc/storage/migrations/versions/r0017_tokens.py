"""
Tokens have names of their own, and say whether a program has them; sessions say from where they began.

Revision 0017. Of several tokens of one name the oldest keeps it. Another is called by its name and its number from then
on, "ci (7)", and the audit says so.
"""

from __future__ import annotations

import json
import time

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the columns, give each token a name of its own, and keep it so."""
    op.add_column(
        "tokens",
        sa.Column(
            "service", sa.Boolean(), nullable=False, server_default=sa.false(), comment="a program's, no person's"
        ),
    )
    op.add_column("tokens", sa.Column("address", sa.Text(), comment="of a browser's session: from where it began"))
    op.add_column(
        "tokens", sa.Column("agent", sa.Text(), comment="of a browser's session: what the browser calls itself")
    )
    _rename(op.get_bind())
    good = sa.text("revoked IS NULL AND parent IS NULL")
    op.create_index("uq_tokens_name", "tokens", ["name"], unique=True, sqlite_where=good, postgresql_where=good)


def _rename(connection: sa.Connection) -> None:
    names = ("id", "name", "revoked", "parent")
    tokens = sa.table("tokens", *(sa.column(name) for name in names))
    audit = sa.table("audit", *(sa.column(name) for name in ("time", "who", "kind", "action", "subject", "detail")))
    good = sa.select(tokens.c.id, tokens.c.name).where(tokens.c.revoked.is_(None), tokens.c.parent.is_(None))
    taken: set[str] = set()
    twice: list[tuple[int, str]] = []
    for number, name in connection.execute(good.order_by(tokens.c.id)).all():
        if name in taken:
            twice.append((number, name))
        taken.add(name)
    for number, name in twice:
        new = f"{name} ({number})"
        while new in taken:
            new += "'"
        taken.add(new)
        connection.execute(
            sa.update(tokens).where(sa.or_(tokens.c.id == number, tokens.c.parent == number)).values(name=new)
        )
        connection.execute(
            sa.insert(audit).values(
                time=time.time_ns() // 1_000_000,
                who="apiserver",
                kind="apiserver",
                action="token.rename",
                subject=str(number),
                detail=json.dumps({"name": f"{name} → {new}", "why": "another token has this name"}),
            )
        )
