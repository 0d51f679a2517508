"""
The builders that have a key of their own, and their keys. Functions for `Ledger.read` and `Ledger.write`; ``storage``
layer.

A key's secret is sealed by `secrets.SecretBox`, and erased when the key ends. A revoked builder's row stays, so that
its name can't be had by the shared key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, func, insert, select
from sqlalchemy import update as update_rows

from twistedipc.builds.attempt import StoredTool
from twistedipc.storage import rings
from twistedipc.storage.columns import from_json, row_as, to_json
from twistedipc.storage.errors import NameTaken, NotFound
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import BuilderKeyRow, BuilderRow
from twistedipc.storage.tables import builder_keys, builders

#: Milliseconds to which the last use of a key is noted.
MINUTE = 60_000


def add(
    connection: Connection,
    *,
    name: str,
    pools: Iterable[str],
    shared: bool,
    id: str,
    sealed: bytes,
    now: int,
    lifetime: int | None = None,
) -> BuilderRow:
    """
    Add a builder with its first key; or give one a new key whose keys have all been revoked. ``shared``: the shared key
    stays good for its name until this key is used. ``lifetime``: the key's, in milliseconds; None: for ever. Raises
    `NameTaken` if it has a key that isn't revoked.
    """
    known = get(connection, name)
    if known is not None and any(key.revoked is None for key in known.keys):
        raise NameTaken(f"builder {name} has a key already: rotate it, or revoke it first")
    values = {"pools": to_json(sorted(set(pools))), "shared": shared}
    if known is None:
        connection.execute(insert(builders).values(name=name, created=now, **values))
    else:
        connection.execute(update_rows(builders).where(builders.c.name == name).values(**values))
    return add_key(connection, name, id=id, sealed=sealed, now=now, lifetime=lifetime)


def add_key(
    connection: Connection, name: str, *, id: str, sealed: bytes, now: int, lifetime: int | UnsetType | None = UNSET
) -> BuilderRow:
    """
    Give a builder one more key. ``lifetime``: as in `add`; if it isn't said, as long as the newest key had that isn't
    revoked. Raises `NotFound`.
    """
    before = [key for key in _existing(connection, name).keys if key.revoked is None]
    if isinstance(lifetime, UnsetType):
        ends = before[-1].expires if before else None
        lifetime = None if ends is None else ends - before[-1].created
    newest = connection.execute(select(func.max(builder_keys.c.created)).where(builder_keys.c.builder == name)).scalar()
    now = max(now, (newest or 0) + 1)  # the newest one is told by its time
    values = {"id": id, "builder": name, "role": "builder", "sealed": sealed, "created": now}
    rings.note(connection, Topic.BUILDER, name)
    connection.execute(insert(builder_keys).values(**values, expires=None if lifetime is None else now + lifetime))
    return _existing(connection, name)


def of_key(connection: Connection, id: str) -> str | None:
    """Return the name of the builder that has, or had, the key with this id; None if none ever had it."""
    return connection.execute(select(builder_keys.c.builder).where(builder_keys.c.id == id)).scalar()


def set_pools(connection: Connection, name: str, pools: Iterable[str]) -> BuilderRow:
    """Say which pools a builder belongs to. Raises `NotFound`."""
    values = {"pools": to_json(sorted(set(pools)))}
    if not connection.execute(update_rows(builders).where(builders.c.name == name).values(**values)).rowcount:
        raise NotFound(f"there is no builder {name}")
    rings.note(connection, Topic.BUILDER, name)
    return _existing(connection, name)


def set_drained(connection: Connection, name: str, drained: bool, now: int) -> BuilderRow:
    """Say whether a builder is offered nothing more. Raises `NotFound`."""
    since = func.coalesce(builders.c.drained, now) if drained else None
    connection.execute(update_rows(builders).where(builders.c.name == name).values(drained=since))
    rings.note(connection, Topic.BUILDER, name)
    return _existing(connection, name)


def note_tools(connection: Connection, name: str, tools: list[StoredTool]) -> BuilderRow | None:
    """Note which tools a builder has fetched, as it says. None if there is no such builder."""
    connection.execute(update_rows(builders).where(builders.c.name == name).values(tools=to_json(tools)))
    return get(connection, name)


def revoke(connection: Connection, name: str, now: int) -> BuilderRow:
    """End all keys of a builder, and erase their secrets. Raises `NotFound`."""
    which = (builder_keys.c.builder == name) & builder_keys.c.revoked.is_(None)
    connection.execute(update_rows(builder_keys).where(which).values(revoked=now, sealed=None))
    connection.execute(update_rows(builders).where(builders.c.name == name).values(shared=False))
    rings.note(connection, Topic.BUILDER, name)
    return _existing(connection, name)


def used(connection: Connection, id: str, now: int) -> list[str]:
    """
    Note that a builder has linked by this key. With the first use of a key those from before it end, and the shared key
    isn't good for the builder any longer. Return the ids of those that have ended now.
    """
    found = connection.execute(select(builder_keys).where(builder_keys.c.id == id)).first()
    if found is None or found.revoked is not None:
        return []
    connection.execute(
        update_rows(builders).where(builders.c.name == found.builder).values(shared=False, last_linked=now)
    )
    connection.execute(update_rows(builder_keys).where(builder_keys.c.id == id).values(last_used=now - now % MINUTE))
    older = (
        (builder_keys.c.builder == found.builder)
        & builder_keys.c.revoked.is_(None)
        & (builder_keys.c.id != id)
        & (builder_keys.c.created < found.created)
    )
    ended = list(connection.execute(select(builder_keys.c.id).where(older)).scalars())
    connection.execute(update_rows(builder_keys).where(older).values(revoked=now, sealed=None))
    return ended


def get(connection: Connection, name: str) -> BuilderRow | None:
    """Return the builder of this name, or None."""
    return next(iter(_rows(connection, select(builders).where(builders.c.name == name))), None)


def list_all(connection: Connection) -> list[BuilderRow]:
    """Return all builders, by name."""
    return _rows(connection, select(builders).order_by(builders.c.name))


def sealed_keys(connection: Connection) -> list[tuple[str, str, bytes]]:
    """Return id, builder and sealed secret of all keys that are good, in the order in which they were made."""
    query = (
        select(builder_keys.c.id, builder_keys.c.builder, builder_keys.c.sealed)
        .where(builder_keys.c.revoked.is_(None))
        .order_by(builder_keys.c.created, builder_keys.c.id)
    )
    return [(row.id, row.builder, row.sealed) for row in connection.execute(query)]


def _existing(connection: Connection, name: str) -> BuilderRow:
    row = get(connection, name)
    if row is None:
        raise NotFound(f"there is no builder {name}")
    return row


def _rows(connection: Connection, query: Any) -> list[BuilderRow]:
    found = connection.execute(query).all()
    keys: dict[str, list[BuilderKeyRow]] = {}
    for row in connection.execute(select(builder_keys).order_by(builder_keys.c.created, builder_keys.c.id)):
        key = row_as(BuilderKeyRow, row)
        keys.setdefault(row.builder, []).append(key)
    return [
        BuilderRow(
            name=row.name,
            pools=from_json(row.pools, list[str]),
            shared=row.shared,
            created=row.created,
            last_linked=row.last_linked,
            drained=row.drained,
            tools=None if row.tools is None else from_json(row.tools, list[StoredTool]),
            keys=keys.get(row.name, []),
        )
        for row in found
    ]
