"""
The ledger's record of who did what. A function for `Ledger.write`; ``storage`` layer.

It is called with the change that it records in one write, so that neither is there without the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, insert

from twistedipc.storage.columns import text, to_json
from twistedipc.storage.tables import audit


def record(
    connection: Connection,
    *,
    who: str,
    action: str,
    subject: str,
    detail: Mapping[str, str],
    now: int,
    address: str | None = None,
) -> None:
    """
    ``who`` did ``action`` (e.g. "project.create") to ``subject``, from ``address``; None where it wasn't by HTTP.
    ``detail`` never holds a secret.
    """
    connection.execute(
        insert(audit).values(
            time=now,
            who=text(who),
            address=address,
            action=action,
            subject=text(subject),
            detail=to_json({name: text(value) for name, value in detail.items()}),
        )
    )
