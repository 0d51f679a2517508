"""
The apiservers that share one database, and the work that one of them does for all. Functions for `Ledger.read` and
`Ledger.write`, and for ``guard``; ``storage`` layer.

An apiserver has a **name**, and each start of it is an **incarnation** of that name. Its row says that it lives until
somebody writes there that it has ended: itself, its successor of the same name, or any other that hasn't seen it for
`DEAD_AFTER`. All that it owns (builders, duties) is its own exactly as long as that row says that it lives, and each
transaction that writes looks there first (`check`). So nothing needs a lock that a lost connection lets go, and no
program's clock counts: times here are the database's.

These functions read before they write. That is right because all writing transactions of a database come one after
another: SQLite has one writer, and on PostgreSQL each takes the `pen` first.
"""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)

from twistedipc.storage.errors import LedgerLost, LedgerTaken
from twistedipc.storage.tables import apiservers, duties

#: Milliseconds without a word after which an apiserver may be given up, and within which one that gives others up must
#: have been heard itself all the time: after a stop of the database all of them have been silent.
DEAD_AFTER: Final = 10_000

#: Seconds between two words.
RENEWED: Final = 2.0

#: Milliseconds between two words that are a pause.
_PAUSE: Final = 5_000

#: Milliseconds for which the row of one that has ended is kept, for people.
_REMEMBERED: Final = 7 * 86_400_000


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What an apiserver says of itself when it starts."""

    name: str
    folder: str  # what its data folder is told by
    files: str  # what its folder of artifacts and releases is told by: the same for all of a database
    url: str
    host: str
    pid: int
    link: str = ""  # its name for its builders, for which two of one name are the same; "": not known


class Incarnation(msgspec.Struct, frozen=True):
    """One start of an apiserver."""

    name: str
    number: int


class ApiserverRow(msgspec.Struct, frozen=True, kw_only=True):
    """An apiserver, as the ledger has it. Times are milliseconds since the epoch, by the database's clock."""

    name: str
    incarnation: int
    folder: str
    files: str
    url: str
    host: str
    pid: int
    started: int
    seen: int
    steady: int
    ended: int | None

    @property
    def itself(self) -> Incarnation:
        """Which start of it this is."""
        return Incarnation(self.name, self.incarnation)


def database_now(connection: Connection) -> int:
    """Return the database's time in milliseconds since the epoch. It goes on within a transaction."""
    if connection.dialect.name == "postgresql":
        query = select(cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger))
    else:
        query = select(cast((func.julianday("now") - literal_column("2440587.5")) * 86_400_000, BigInteger))
    return int(connection.execute(query).scalar_one())


def pen(connection: Connection) -> None:
    """
    Wait for one's turn to write: first in each transaction that writes. On SQLite the transaction's beginning is that.

    On PostgreSQL it is a lock that ends with the transaction, whatever ends that. It decides nothing about who owns
    what; it makes the writes of several programs come one after another, as the functions of this layer expect.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_PEN)


#: Two schemas of one database are two ledgers.
_PEN = text("SELECT pg_advisory_xact_lock(hashtextextended('twistedipc pen ' || current_schema(), 0))")


# -- one that starts, lives and ends ---------------------------------------------------------------------------------


def register(connection: Connection, me: Identity, now: int) -> Incarnation:
    """
    Have the name from now on, as its next incarnation: the one before has ended. Raises `LedgerTaken` if that one lives
    and has another data folder; the caller has the lock of its own.
    """
    for other in living(connection):
        if other.name == me.name:
            if other.folder != me.folder and now - other.seen < DEAD_AFTER:
                raise LedgerTaken(
                    f"another apiserver named {me.name} has this database: process {other.pid} on {other.host}, with "
                    "another data folder. Stop that one first, or give this one a name of its own (cluster.name)"
                )
        elif other.files != me.files:
            if now - other.seen >= DEAD_AFTER:
                leave(connection, other.itself, now)  # it must not come back beside this one
                continue
            raise LedgerTaken(
                f"apiserver {other.name} (process {other.pid} on {other.host}) has this database, and its artifacts "
                "and releases in another folder. All apiservers of a database have one folder for these: say which "
                "(cluster.shared)"
            )
        elif me.link and other.name in _linking_as(connection, me.link):
            if now - other.seen >= DEAD_AFTER:
                leave(connection, other.itself, now)  # as above
                continue
            raise LedgerTaken(
                f"apiserver {other.name} (process {other.pid} on {other.host}) has this database, and has the name "
                f"{me.link} for its builders too: they would take the two for one. Give each a name of its own "
                "(link.name)"
            )
    connection.execute(delete(apiservers).where(apiservers.c.ended < now - _REMEMBERED, apiservers.c.name != me.name))
    before = connection.execute(select(apiservers.c.incarnation).where(apiservers.c.name == me.name)).scalar()
    row = msgspec.structs.asdict(me) | {
        "incarnation": (before or 0) + 1,
        "started": now,
        "seen": now,
        "steady": now,
        "ended": None,
    }
    if before is None:
        connection.execute(insert(apiservers).values(row))
    else:
        connection.execute(update(apiservers).where(apiservers.c.name == me.name).values(row))
    return Incarnation(me.name, row["incarnation"])


def check(connection: Connection, me: Incarnation) -> bool:
    """
    Look whether this apiserver lives: first in each transaction that writes. Return whether others do as well. Raises
    `LedgerLost`.
    """
    alive = connection.execute(_ALIVE).all()
    if (me.name, me.number) not in [(row.name, row.incarnation) for row in alive]:
        raise LedgerLost(_why_lost(connection, me))
    return len(alive) > 1


def renew(connection: Connection, me: Incarnation, now: int) -> None:
    """Say that this apiserver is there. It needs no `pen`. Raises `LedgerLost`."""
    changed = connection.execute(
        update(apiservers)
        .where(_is(me), apiservers.c.ended.is_(None))
        .values(seen=now, steady=case((apiservers.c.seen < now - _PAUSE, now), else_=apiservers.c.steady))
    )
    if not changed.rowcount:
        raise LedgerLost(_why_lost(connection, me))


def leave(connection: Connection, me: Incarnation, now: int) -> None:
    """This apiserver ends: what it had is free at once."""
    connection.execute(update(apiservers).where(_is(me), apiservers.c.ended.is_(None)).values(ended=now))


def bury(connection: Connection, me: Incarnation, now: int) -> list[Incarnation]:
    """
    Give up all that haven't been seen for `DEAD_AFTER`, if this one was all the time: once for each. Return them.
    """
    found = connection.execute(_silent(me, now)).all()
    for row in found:
        which = and_(_is(Incarnation(row.name, row.incarnation)), apiservers.c.seen <= now - DEAD_AFTER)
        connection.execute(update(apiservers).where(which).values(ended=now))
    return [Incarnation(row.name, row.incarnation) for row in found]


def silent(connection: Connection, me: Incarnation, now: int) -> bool:
    """Return whether `bury` would find one: a look that writes nothing."""
    return connection.execute(_silent(me, now)).first() is not None


def living(connection: Connection) -> list[ApiserverRow]:
    """Return the apiservers that live, as far as the ledger knows."""
    query = select(*_ROW).where(apiservers.c.ended.is_(None)).order_by(apiservers.c.name)
    return [ApiserverRow(**row) for row in connection.execute(query).mappings()]


def get(connection: Connection, name: str) -> ApiserverRow | None:
    """Return the apiserver of this name, also one that has ended."""
    row = connection.execute(select(*_ROW).where(apiservers.c.name == name)).mappings().first()
    return None if row is None else ApiserverRow(**row)


def _linking_as(connection: Connection, link: str) -> list[str]:
    query = select(apiservers.c.name).where(apiservers.c.ended.is_(None), apiservers.c.link == link)
    return list(connection.execute(query).scalars())


#: What these tables have had from the first. A start reads who lives before it brings the schema up to date.
_ROW = [apiservers.c[name] for name in ApiserverRow.__struct_fields__]

_ALIVE = select(apiservers.c.name, apiservers.c.incarnation).where(apiservers.c.ended.is_(None))


def _is(me: Incarnation):  # type: ignore[no-untyped-def]  # SQLAlchemy's own
    return and_(apiservers.c.name == me.name, apiservers.c.incarnation == me.number)


def _silent(me: Incarnation, now: int) -> Select[tuple[str, int]]:
    mine = apiservers.alias()
    steady = exists().where(
        mine.c.name == me.name,
        mine.c.incarnation == me.number,
        mine.c.ended.is_(None),
        mine.c.steady <= now - DEAD_AFTER,
        mine.c.seen > now - _PAUSE,
    )
    return _ALIVE.where(apiservers.c.name != me.name, apiservers.c.seen <= now - DEAD_AFTER, steady)


def _why_lost(connection: Connection, me: Incarnation) -> str:
    row = get(connection, me.name)
    if row is None:
        return f"the database doesn't know apiserver {me.name} any more"
    if row.incarnation != me.number:
        return f"another apiserver has the name {me.name} in this database: process {row.pid} on {row.host}"
    return f"apiserver {me.name} was silent for {DEAD_AFTER // 1000} s, and another goes on with what it had"


# -- duties ----------------------------------------------------------------------------------------------------------


def take_duty(connection: Connection, name: str, me: Incarnation, now: int) -> bool:
    """
    Take over work that one apiserver does for all, unless one that lives has it. Return whether ``me`` has it now. It
    stays its own as long as it lives, so each write of that work is checked by `check`.
    """
    row = connection.execute(select(duties).where(duties.c.name == name)).first()
    values = {"apiserver": me.name, "incarnation": me.number, "since": now}
    if row is None:
        connection.execute(insert(duties).values(name=name, epoch=1, **values))
        return True
    holder = Incarnation(row.apiserver, row.incarnation)
    if holder == me:
        return True
    if lives(connection, holder):
        return False
    taken = connection.execute(
        update(duties).where(duties.c.name == name, duties.c.epoch == row.epoch).values(epoch=row.epoch + 1, **values)
    )
    return bool(taken.rowcount)


def leave_duty(connection: Connection, name: str, me: Incarnation) -> None:
    """Let another have the work."""
    mine = (duties.c.name == name) & (duties.c.apiserver == me.name) & (duties.c.incarnation == me.number)
    connection.execute(update(duties).where(mine).values(apiserver="", incarnation=0))


def duties_of(connection: Connection) -> dict[str, Incarnation]:
    """Return who has which duty, if that one lives."""
    alive = {(row.name, row.incarnation) for row in connection.execute(_ALIVE)}
    return {
        row.name: Incarnation(row.apiserver, row.incarnation)
        for row in connection.execute(select(duties))
        if (row.apiserver, row.incarnation) in alive
    }


def lives(connection: Connection, which: Incarnation) -> bool:
    """Return whether this incarnation lives, as far as the ledger knows."""
    return connection.execute(_ALIVE.where(_is(which))).first() is not None
