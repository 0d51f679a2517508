"""
How the key is replaced by which secrets are sealed. Used by `twistedipc secrets rotate`; ``storage`` layer.

::

    secret.key: old ── begin ──► new, old ── all is sealed anew, in one transaction ──► new, old ── end ──► new

Both keys open meanwhile, and the first one seals, in every process: they read the file again when it has changed. So it
may be ended (or killed) at any point, and done again from the beginning: what is done already isn't done twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Column, Connection, LargeBinary, select
from sqlalchemy import update as update_rows

from twistedipc.storage.secrets import SecretBox, SecretUnreadable
from twistedipc.storage.tables import metadata


@dataclass
class Resealed:
    """What was done."""

    changed: int = 0
    unchanged: int = 0  # they were sealed by the new key already
    unreadable: list[str] = field(default_factory=list)  # what no key opens, and was left as it is


def sealed_columns() -> list[Column[bytes]]:
    """Return all columns of the ledger that hold what `SecretBox` has sealed: their comments say so."""
    return [
        column
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary) and "secrets.SecretBox" in (column.comment or "")
    ]


def reseal(connection: Connection, box: SecretBox) -> Resealed:
    """Seal all secrets by the first key of ``box``. For `Ledger.write`."""
    done = Resealed()
    for column in sealed_columns():
        table = column.table
        keys = list(table.primary_key.columns)
        query = select(*keys, column).where(column.is_not(None)).order_by(*keys).with_for_update()
        for *key, sealed in connection.execute(query).all():
            try:
                anew = box.sealed_anew(bytes(sealed))
            except SecretUnreadable:
                done.unreadable.append(f"{column} of {', '.join(map(str, key))}")
                continue
            if anew is None:
                done.unchanged += 1
                continue
            which = [each == value for each, value in zip(keys, key, strict=True)]
            connection.execute(update_rows(table).where(*which).values({column.name: anew}))
            done.changed += 1
    return done
