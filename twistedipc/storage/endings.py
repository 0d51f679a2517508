"""
What is good now, and won't be for long: tokens and builders' keys. Functions for `Ledger.read`; ``storage`` layer.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from twistedipc.storage.rows import EndingRow
from twistedipc.storage.tables import builder_keys, tokens


def before(connection: Connection, time: int, now: int) -> list[EndingRow]:
    """
    Return what expires before a time, the first one first. Of builders' keys also those that have expired, as long as
    they aren't revoked: their builders can't link, and want to. Tokens that have expired are just over.
    """
    of_people = select(tokens.c.id, tokens.c.name, tokens.c.expires).where(
        ~tokens.c.session, tokens.c.revoked.is_(None), tokens.c.expires > now, tokens.c.expires < time
    )
    of_builders = select(builder_keys.c.id, builder_keys.c.builder, builder_keys.c.expires).where(
        builder_keys.c.revoked.is_(None), builder_keys.c.expires < time
    )
    tokens_, keys = connection.execute(of_people), connection.execute(of_builders)
    found = [
        *(EndingRow(kind="token", id=str(row.id), of=row.name, expires=row.expires) for row in tokens_),
        *(EndingRow(kind="key", id=row.id, of=row.builder, expires=row.expires) for row in keys),
    ]
    return sorted(found, key=lambda each: (each.expires, each.kind, each.id))
