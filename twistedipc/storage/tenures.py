"""
Which apiserver has which builder, if several share the database. Functions for `Ledger.read` and `Ledger.write`;
``storage`` layer.

A builder's row says which apiserver answers for it, and its epoch counts how often that was decided. Each link takes
the row, and gets an epoch of its own: its `Tenure`. All that a link drives is written under it (`under`): if the row
has another epoch by then, nothing is changed. So when a builder has moved to another apiserver, what its old link has
still to say comes too late, whatever it is.

An apiserver that has lost the link answers for the builder until another takes it: it waits for the builder, and says
in the end that what it had is lost. After that nobody answers for it until it links. A row whose apiserver doesn't live
any more is adopted by another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Concatenate, ParamSpec, TypeVar

import msgspec
from sqlalchemy import Connection, insert, not_, select, update

from twistedipc.builds.states import LEASED
from twistedipc.storage.apiservers import Incarnation, lives
from twistedipc.storage.errors import TenureLost
from twistedipc.storage.tables import apiservers, attempts, builder_links

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Tenure(msgspec.Struct, frozen=True):
    """One link's, or one absence's, right to write about a builder. ``epoch`` 0 is none."""

    builder: str
    epoch: int


class TenureRow(msgspec.Struct, frozen=True, kw_only=True):
    """Which apiserver answers for a builder."""

    builder: str
    peer: str
    apiserver: str  # "": it was given up
    incarnation: int
    epoch: int
    linked: bool
    since: int


class Taken(msgspec.Struct, frozen=True):
    """The builder's link is elsewhere: at this apiserver, which lives."""

    apiserver: str


def take(connection: Connection, builder: str, peer: str, me: Incarnation, now: int) -> Tenure | Taken:
    """
    A builder has linked here. It is refused while another apiserver that lives has its link, unless it is the same
    process of the builder, which may move.

    :param peer: which process of the builder it is
    """
    row = get(connection, builder)
    values = {"peer": peer, "apiserver": me.name, "incarnation": me.number, "linked": True, "since": now}
    if row is None:
        connection.execute(insert(builder_links).values(builder=builder, epoch=1, **values))
        return Tenure(builder, 1)
    owner = Incarnation(row.apiserver, row.incarnation)
    if owner != me and row.linked and row.peer != peer and lives(connection, owner):
        return Taken(row.apiserver)
    connection.execute(
        update(builder_links).where(builder_links.c.builder == builder).values(epoch=row.epoch + 1, **values)
    )
    return Tenure(builder, row.epoch + 1)


def under(
    connection: Connection,
    tenure: Tenure,
    query: Callable[Concatenate[Connection, _P], _T],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> _T:
    """Run ``query`` if the tenure holds. Raises `TenureLost`, and changes nothing then."""
    require(connection, [tenure])
    return query(connection, *args, **kwargs)


def require(connection: Connection, wanted: Collection[Tenure]) -> None:
    """Raise `TenureLost` unless all these tenures hold."""
    names = sorted({tenure.builder for tenure in wanted})
    query = select(builder_links.c.builder, builder_links.c.epoch).where(builder_links.c.builder.in_(names))
    known = {row.builder: row.epoch for row in connection.execute(query)}
    for tenure in wanted:
        if known.get(tenure.builder) != tenure.epoch:
            raise TenureLost(tenure.builder)


def leave(connection: Connection, tenure: Tenure, now: int) -> None:
    """The link is lost. Raises `TenureLost`."""
    require(connection, [tenure])
    connection.execute(
        update(builder_links).where(builder_links.c.builder == tenure.builder).values(linked=False, since=now)
    )


def give_up(connection: Connection, tenure: Tenure, now: int) -> None:
    """
    What the builder had is lost: nobody answers for it from now on, until it links. Raises `TenureLost`. A builder that
    still has attempts stays as it is.
    """
    require(connection, [tenure])
    has = select(attempts.c.builder).where(attempts.c.builder == tenure.builder, attempts.c.state.in_(sorted(LEASED)))
    if connection.execute(has.limit(1)).first() is None:
        connection.execute(
            update(builder_links)
            .where(builder_links.c.builder == tenure.builder)
            .values(apiserver="", incarnation=0, linked=False, since=now)
        )


def adopt(
    connection: Connection,
    me: Incarnation,
    now: int,
    *,
    strays: Collection[Tenure] = (),
    all_leases: bool = False,
) -> list[Tenure]:
    """
    Answer from now on for the builders whose apiserver doesn't live any more, also for those of this one's earlier
    incarnations. They are away.

    :param strays: tenures that this apiserver got without hearing of it: the answer was lost
    :param all_leases: also for those that nobody has a row of, though they have attempts: they are from before there
        were rows
    """
    found = {row.builder: row.epoch for row in connection.execute(_orphans())}
    for row in list_all(connection) if strays else ():
        if Tenure(row.builder, row.epoch) in strays:
            found[row.builder] = row.epoch
    for builder, epoch in found.items():
        connection.execute(
            update(builder_links)
            .where(builder_links.c.builder == builder, builder_links.c.epoch == epoch)
            .values(apiserver=me.name, incarnation=me.number, epoch=epoch + 1, linked=False, since=now)
        )
    adopted = [Tenure(builder, epoch + 1) for builder, epoch in sorted(found.items())]
    if all_leases:
        holding = (
            select(attempts.c.builder)
            .distinct()
            .where(attempts.c.state.in_(sorted(LEASED)), attempts.c.builder.not_in(select(builder_links.c.builder)))
            .order_by(attempts.c.builder)
        )
        for builder in connection.execute(holding).scalars().all():
            values = {"peer": "", "apiserver": me.name, "incarnation": me.number, "linked": False, "since": now}
            connection.execute(insert(builder_links).values(builder=builder, epoch=1, **values))
            adopted.append(Tenure(builder, 1))
    return adopted


def has_orphans(connection: Connection) -> bool:
    """Return whether `adopt` would find one: a look that writes nothing."""
    return connection.execute(_orphans()).first() is not None


def get(connection: Connection, builder: str) -> TenureRow | None:
    """Return which apiserver answers for a builder."""
    row = connection.execute(select(builder_links).where(builder_links.c.builder == builder)).mappings().first()
    return None if row is None else TenureRow(**row)


def lost(connection: Connection, held: Iterable[Tenure]) -> list[Tenure]:
    """Return those that don't hold any more."""
    wanted = list(held)
    if not wanted:
        return []
    query = select(builder_links.c.builder, builder_links.c.epoch)
    known = {(row.builder, row.epoch) for row in connection.execute(query)}
    return [tenure for tenure in wanted if (tenure.builder, tenure.epoch) not in known]


def list_all(connection: Connection) -> list[TenureRow]:
    """Return all rows, by the builders' names."""
    query = select(builder_links).order_by(builder_links.c.builder)
    return [TenureRow(**row) for row in connection.execute(query).mappings()]


def _orphans():  # type: ignore[no-untyped-def]  # SQLAlchemy's own
    alive = (
        select(apiservers.c.name)
        .where(
            apiservers.c.name == builder_links.c.apiserver,
            apiservers.c.incarnation == builder_links.c.incarnation,
            apiservers.c.ended.is_(None),
        )
        .exists()
    )
    given_up = builder_links.c.apiserver == ""
    return select(builder_links.c.builder, builder_links.c.epoch).where(not_(alive), not_(given_up))
