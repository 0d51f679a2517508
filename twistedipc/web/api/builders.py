"""The builders: which there are, and their keys. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.ipc import NamedKey, make_named_key
from twistedipc.server.boundaries import LinkedBuilder
from twistedipc.storage import builders
from twistedipc.storage.rows import BuilderRow
from twistedipc.web.access.auth import forbidden
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.schemas import (
    Builder,
    BuilderChange,
    BuilderKey,
    Builders,
    BuilderTool,
    BuilderWithKey,
    LinkOfBuilder,
    NewBuilder,
    NewKey,
)
from twistedipc.web.http.problems import not_found


async def list_all(call: Call[None, None]) -> Reply[Builders]:
    """List the builders: those that have a key of their own, and all that are linked now."""
    _check_unbound(call)
    rows = {row.name: row for row in await call.context.ledger.read(builders.list_all)}
    links = _links(call)
    names_ = sorted({*rows, *links})
    return Reply(body=Builders(builders=[_builder(name, rows.get(name), links.get(name)) for name in names_]))


async def add(call: Call[None, NewBuilder]) -> Reply[BuilderWithKey]:
    """
    Add a builder, or give a new key to one whose keys were all revoked. The key is in this answer and nowhere else. If
    the builder is linked by the shared key now, that stays good for it until it uses its own.
    """
    _check_unbound(call)
    name, context = names.node(call.body.name), call.context
    pools = [names.pool(pool) for pool in call.body.pools]
    key = make_named_key(name, "builder")
    sealed = context.secret_box.seal(key.secret.hex())
    lifetime = None if call.body.expires_in is None else int(call.body.expires_in) * 1000
    link = _links(call).get(name)
    shared = link is not None and not link.key

    def change(connection: Connection, now: int) -> BuilderRow:
        row = builders.add(
            connection, name=name, pools=pools, shared=shared, id=key.id, sealed=sealed, now=now, lifetime=lifetime
        )
        detail = {"key": key.id, "pools": ", ".join(row.pools)}
        call.audit(connection, "builder.add", name, detail | _expiry(row))
        return row

    row = await context.ledger.write(change, context.now())
    return Reply(body=_with_key(call, row, key))


async def rotate(call: Call[None, NewKey]) -> Reply[BuilderWithKey]:
    """
    Give a builder one more key, which is in this answer and nowhere else. Those that it has stay good until it uses
    this one, or until they expire.
    """
    _check_unbound(call)
    name, context = str(call.path["builder"]), call.context
    said = call.body.expires_in
    lifetime = said if said is None or isinstance(said, UnsetType) else int(said) * 1000
    key = make_named_key(name, "builder")
    sealed = context.secret_box.seal(key.secret.hex())

    def change(connection: Connection, now: int) -> BuilderRow:
        row = builders.add_key(connection, name, id=key.id, sealed=sealed, now=now, lifetime=lifetime)
        call.audit(connection, "builder.rotate", name, {"key": key.id} | _expiry(row))
        return row

    return Reply(body=_with_key(call, await context.ledger.write(change, context.now()), key))


async def revoke(call: Call[None, None]) -> Reply[None]:
    """End all keys of a builder, its link, and what it is building, at once."""
    _check_unbound(call)
    name, context = str(call.path["builder"]), call.context

    def change(connection: Connection, now: int) -> BuilderRow:
        row = builders.revoke(connection, name, now)
        call.audit(connection, "builder.revoke", name, {"keys": ", ".join(key.id for key in row.keys)})
        return row

    context.builders.revoked(await context.ledger.write(change, context.now()))
    return Reply(body=None)


async def change(call: Call[None, BuilderChange]) -> Reply[Builder]:
    """Say which pools a builder belongs to, and whether it is offered nothing more: what it builds goes on then."""
    _check_unbound(call)
    name, context, body = str(call.path["builder"]), call.context, call.body
    pools = UNSET if isinstance(body.pools, UnsetType) else [names.pool(pool) for pool in body.pools]

    def change(connection: Connection, now: int) -> BuilderRow:
        row = builders.get(connection, name)
        if row is None:
            raise not_found(
                f"there is no builder {name} with a key of its own: twistedipc builder add {name} makes one"
            )
        detail = {}
        if not isinstance(pools, UnsetType):
            before, row = row, builders.set_pools(connection, name, pools)
            detail["pools"] = f"{', '.join(before.pools) or '—'} → {', '.join(row.pools) or '—'}"
        if not isinstance(body.drained, UnsetType) and body.drained != (row.drained is not None):
            row = builders.set_drained(connection, name, body.drained, now)
            detail["drained"] = "yes" if body.drained else "no"
        if detail:
            call.audit(connection, "builder.change", name, detail)
        return row

    row = await context.ledger.write(change, context.now())
    context.builders.changed(row)
    return Reply(body=_builder(name, row, _links(call).get(name)))


def _expiry(row: BuilderRow) -> dict[str, str]:
    """Return what the audit says of when a builder's newest key expires."""
    ends = row.keys[-1].expires
    return {} if ends is None else {"expires": moment(ends).isoformat()}


def _links(call: Call[Any, Any]) -> dict[str, LinkedBuilder]:
    return {link.name: link for link in call.context.builders.linked()}


def _check_unbound(call: Call[Any, Any]) -> None:
    if not call.token.allowance.allows_everywhere("admin"):
        raise forbidden("builders are all projects': this needs an admin of the platform, and no token for some alone")


def _with_key(call: Call[Any, Any], row: BuilderRow, key: NamedKey) -> BuilderWithKey:
    context = call.context
    context.builders.added(row, key)
    return BuilderWithKey(
        builder=_builder(row.name, row, _links(call).get(row.name)),
        key=f"{key.id}:{key.secret.hex()}",
        dial=list(context.joining.dial),
        listen=list(context.joining.listen),
    )


def _tools(row: BuilderRow | None, link: LinkedBuilder | None) -> list[BuilderTool] | None:
    """Return the tools that a builder has fetched, as its link says, or as it said on one before."""
    tools = None if link is None else link.program.tools
    if tools is None and row is not None:
        tools = row.tools
    return None if tools is None else [BuilderTool(name=each.name, version=each.version) for each in tools]


def _builder(name: str, row: BuilderRow | None, link: LinkedBuilder | None) -> Builder:
    return Builder(
        name=name,
        pools=[] if row is None else row.pools,
        keys=[]
        if row is None
        else [
            BuilderKey(
                id=key.id,
                role=key.role,
                created=moment(key.created),
                last_used=moment_or_none(key.last_used),
                revoked=moment_or_none(key.revoked),
                expires=moment_or_none(key.expires),
            )
            for key in row.keys
        ],
        created=None if row is None else moment(row.created),
        last_linked=None if row is None else moment_or_none(row.last_linked),
        drained=None if row is None else moment_or_none(row.drained),
        tools=_tools(row, link),
        link=None
        if link is None
        else LinkOfBuilder(
            since=moment(link.since),
            address=link.address,
            key=link.key,
            slots=link.slots,
            draining=link.draining,
            version=link.program.version,
            isolation=link.program.isolation,
        ),
    )
