"""
What one apiserver has changed, for the others that share the database: they read it here, in the order of the commits.
``storage`` layer; ``guard`` brackets each transaction with `begin` and `end`, and query modules `note` what is worth a
word of its own.

The rows say *where to look*, and nothing else counts: whoever hears of an attempt reads that attempt. Whatever a
transaction has written, the others hear that something was; what caches hold is read again then. Only what is
`quiet` says nothing here, such as a commit of log records: whoever follows a log looks at it.

Nothing is noted while no other apiserver lives, nor on SQLite: one that starts later reads everything at its start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from twistedipc.storage.tables import changes

#: Milliseconds for which what has changed can be read. Who doesn't read for so long was given up before.
KEPT: Final = 120_000

#: The most rows that are read at a time.
MOST: Final = 1000

_KEY: Final = "twistedipc changes"

#: Something, of no kind that has a word of its own.
ANYTHING: Final = ""


#: The attribute of functions that are marked by `quiet`.
QUIET: Final = "twistedipc_quiet"

#: What is noted in a transaction, in this order.
_Noted: TypeAlias = dict[str, None]

_Q = TypeVar("_Q", bound=Callable[..., object])


class Heard(msgspec.Struct, frozen=True):
    """What the others have changed. ``attempts`` and ``gists``: which attempts, and builds of which the gist."""

    last: int  # the number of the newest change, of anybody's
    any: bool = False
    attempts: Sequence[str] = ()
    gists: Sequence[int] = ()
    more: bool = False


def begin(connection: Connection, others: bool) -> None:
    """A transaction begins that writes. ``others``: somebody may want to hear of it."""
    connection.info[_KEY] = {} if others else None


def note_write(connection: Connection) -> None:
    """A write of the transaction has ended that others are to hear of, whatever it was."""
    noted: _Noted | None = connection.info.get(_KEY)
    if noted is not None:
        noted.setdefault(ANYTHING)


def quiet(query: _Q) -> _Q:
    """Mark a query that writes nothing that others need hear of: records of logs, or what is theirs to do as well."""
    setattr(query, QUIET, True)
    return query


def note_attempt(connection: Connection, attempt: str) -> None:
    """An attempt has changed, as those see who look at builds."""
    _note(connection, f"attempt {attempt}")


def note_gist(connection: Connection, build: int) -> None:
    """What a build says in brief has changed."""
    _note(connection, f"gist {build}")


def end(connection: Connection, name: str, clock: Callable[[Connection], int]) -> None:
    """
    The transaction is about to be committed: write down what was noted, as this apiserver's.

    :param clock: the database's
    """
    noted: _Noted | None = connection.info.get(_KEY)
    if not noted:
        return
    now = clock(connection)
    connection.execute(insert(changes), [{"apiserver": name, "what": what, "time": now} for what in noted])


def newest(connection: Connection) -> int:
    """Return the number of the newest change: what is read after this includes it."""
    return connection.execute(select(func.max(changes.c.number))).scalar() or 0


def after(connection: Connection, last: int, name: str) -> Heard:
    """
    Return what others than the apiserver of this name have changed since ``last``; at most `MOST` rows. If some may
    have been forgotten before they were read here, others have changed anything.
    """
    oldest = connection.execute(select(func.min(changes.c.number))).scalar()
    query = select(changes).where(changes.c.number > last).order_by(changes.c.number).limit(MOST)
    rows = connection.execute(query).all()
    theirs = [row.what for row in rows if row.apiserver != name]
    return Heard(
        last=rows[-1].number if rows else last,
        any=bool(theirs) or (oldest is not None and oldest > last + 1),
        attempts=_of("attempt ", theirs),
        gists=[int(build) for build in _of("gist ", theirs)],
        more=len(rows) == MOST,
    )


def forget(connection: Connection, now: int) -> None:
    """Delete what everybody has read by now. The newest one stays: by it `after` sees that there were others."""
    newest = select(func.max(changes.c.number)).scalar_subquery()
    connection.execute(delete(changes).where(changes.c.time < now - KEPT, changes.c.number < newest))


def _note(connection: Connection, what: str) -> None:
    noted: _Noted | None = connection.info.get(_KEY)
    if noted is not None:
        noted[what] = None


def _of(kind: str, theirs: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(what.removeprefix(kind) for what in theirs if what.startswith(kind)))
