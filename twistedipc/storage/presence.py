"""
How an apiserver has its place among those that share a PostgreSQL: by its row (``apiservers``), which each transaction
that writes looks at, and which it renews from a thread of its own. Used by ``ledger``; ``storage`` layer.

What other programs do that open the database for one thing and go is `Beside`.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import URL, Connection, Engine, inspect, select, text
from sqlalchemy.exc import DBAPIError

from twistedipc.storage import changes
from twistedipc.storage.apiservers import (
    DEAD_AFTER,
    Identity,
    Incarnation,
    check,
    database_now,
    leave,
    living,
    pen,
    register,
    renew,
)
from twistedipc.storage.clock import ThreadClock
from twistedipc.storage.engines import engine_for
from twistedipc.storage.errors import LedgerLost, LedgerTaken
from twistedipc.storage.migrations import is_behind, upgrade
from twistedipc.storage.tables import owner

#: Seconds for which a start waits for an apiserver that is just ending.
PATIENCE = 3.0
PAUSE = 0.1


class Presence:
    """
    :param me: what this apiserver says of itself. The caller has the lock of its data folder.
    """

    def __init__(
        self,
        url: URL,
        me: Identity,
        *,
        busy_timeout: float,
        clock: ThreadClock = time,
        database_time: Callable[[Connection], int] = database_now,
    ) -> None:
        self._me = me
        self._clock = clock
        self._time = database_time
        # Of the thread that renews: it waits for nobody's write.
        self._engine = engine_for(url, writes=True, busy_timeout=busy_timeout, clock=clock)
        self.incarnation: Incarnation | None = None  # None before `start`
        self.lost = ""  # why this apiserver must end
        self.others = False  # whether others lived when this one wrote last; set by the thread that writes
        self._said = 0.0  # when it said last that it is there, by its own clock
        self._beside_others = False  # whether others lived when it wrote or said so last

    # All of these block, and are for the ledger's threads.

    def start(self, writer: Engine) -> None:
        """Bring the schema up to date, and begin to live. Raises `LedgerTaken`, and what the driver raises."""
        end = self._clock.monotonic() + PATIENCE
        while True:
            try:
                with writer.connect() as connection, connection.begin():
                    pen(connection)
                    self._make_room(connection)
                    upgrade(connection)
                    now = self._clock.monotonic()
                    self.incarnation = register(connection, self._me, self._time(connection))
                    self._note_said(connection, now)
                return
            except LedgerTaken:
                if self._clock.monotonic() >= end:
                    raise
                self._clock.sleep(PAUSE)

    def check(self, connection: Connection) -> None:
        """
        To be called in each transaction that writes, first: from then on no other program writes before that
        transaction has ended. Raises `LedgerLost`.
        """
        if self.lost or self.incarnation is None:
            raise LedgerLost(self.lost)
        pen(connection)
        try:
            self.others = self._beside_others = check(connection, self.incarnation)
        except LedgerLost as error:
            self.lost = str(error)
            raise
        changes.begin(connection, self.others)

    def end(self, connection: Connection) -> None:
        """To be called last in each transaction that writes."""
        changes.end(connection, self._me.name, self._time)

    def watch(self) -> None:
        """To be called every `apiservers.RENEWED` seconds: say that this apiserver is there, or set `lost`."""
        if self.incarnation is None:
            return
        try:
            with self._engine.connect() as connection, connection.begin():
                now = self._clock.monotonic()
                renew(connection, self.incarnation, self._time(connection))
                self._note_said(connection, now)
        except LedgerLost as error:
            self.lost = self.lost or str(error)
        except DBAPIError:
            return  # it can't be asked now; no write can be made either

    def _note_said(self, connection: Connection, now: float) -> None:
        self._said, self._beside_others = now, len(living(connection)) > 1

    def cut_off(self) -> bool:
        """
        Return whether others may have given this apiserver up without its knowing: for as long as that takes it
        couldn't say that it is there. By its own clock, and without asking anybody: it may be called in any thread.
        """
        silent = self._clock.monotonic() - self._said
        return self.incarnation is not None and self._beside_others and silent >= DEAD_AFTER / 1000

    def release(self) -> None:
        """End: what this apiserver had is free. Idempotent."""
        incarnation, self.incarnation = self.incarnation, None
        if incarnation is not None and not self.lost:
            with contextlib.suppress(DBAPIError), self._engine.connect() as connection, connection.begin():
                leave(connection, incarnation, self._time(connection))
        self._engine.dispose()

    def _make_room(self, connection: Connection) -> None:
        """
        Before the schema is changed: no apiserver of an older version goes on. Raises `LedgerTaken` if one has the
        database now; one that was silent is given up, since it would write on a schema that it doesn't know.
        """
        if not _old_lock_is_free(connection):
            raise LedgerTaken(_taken(_old_owner(connection)))
        if not inspect(connection).has_table("apiservers"):
            return
        now = self._time(connection)
        others = [each for each in living(connection) if each.name != self._me.name]
        if not others or not is_behind(connection):
            return
        for each in others:
            if now - each.seen < DEAD_AFTER:
                raise LedgerTaken(
                    f"apiserver {each.name} (process {each.pid} on {each.host}) has this database with the schema of "
                    "an older version: stop all apiservers of that version before the first of this one starts"
                )
            leave(connection, each.itself, now)


class Beside:
    """What a program does that writes beside the apiservers that there may be."""

    others = False

    def check(self, connection: Connection) -> None:
        """As `Presence.check`."""
        pen(connection)
        self.others = bool(living(connection))
        changes.begin(connection, self.others)

    def end(self, connection: Connection) -> None:
        """As `Presence.end`."""
        changes.end(connection, "", database_now)


def is_free_of_apiservers(connection: Connection) -> bool:
    """Return whether no apiserver has the database now."""
    if not _old_lock_is_free(connection):
        return False
    if not inspect(connection).has_table("apiservers"):
        return True
    now = database_now(connection)
    return all(now - each.seen >= DEAD_AFTER for each in living(connection))


def _old_lock_is_free(connection: Connection) -> bool:
    """
    Return whether no apiserver runs here of a version that had a database for itself, by a lock of its connection. The
    lock ends with the transaction, so such a version can't start meanwhile.
    """
    schema = connection.execute(text("SELECT current_schema()")).scalar()
    number = int.from_bytes(hashlib.sha256(f"twistedipc ledger {schema}".encode()).digest()[:8], "big", signed=True)
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:number)"), {"number": number}).scalar())


def _old_owner(connection: Connection) -> str:
    if not inspect(connection).has_table("owner"):
        return ""
    row = connection.execute(select(owner).where(owner.c.id == 1)).first()
    return "" if row is None else f": process {row.pid} on {row.host}, since {_date(row.started)}"


def _taken(who: str) -> str:
    return (
        f"another apiserver has this database{who}. Stop that one first, or give this one a database and a data folder "
        "of its own"
    )


def _date(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
