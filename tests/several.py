"""Several apiservers in memory over one ledger, each with a clock of its own, and a clock of the database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from twistedipc.storage import apiservers, changes
from twistedipc.storage.apiservers import DEAD_AFTER, Identity, Incarnation
from twistedipc.storage.errors import LedgerLost


class OneLedger(InstantLedger):
    """The ledger as one apiserver has it: its writes are bracketed as `presence.Presence` does it."""

    def __init__(self, shared: InstantLedger, me: Incarnation, time: Callable[[Connection], int]) -> None:
        self.engine = shared.engine
        self.available = True
        self.held: list[Deferred[None]] | None = None
        self.unheard = 0
        self.read_count = self.writes = 0
        self._me = me
        self._time = time

    def write(self, query: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """As `Ledger.write`."""

        def bracketed(connection: Connection) -> Any:
            changes.begin(connection, apiservers.check(connection, self._me))
            result = query(connection, *args, **kwargs)
            if not getattr(query, changes.QUIET, False):
                changes.note_write(connection)
            changes.end(connection, self._me.name, self._time)
            return result

        return super().write(bracketed)


class One:
    """An apiserver that lives, until it is killed."""

    def __init__(self, world: Several, name: str) -> None:
        self.name = name
        self.clock = Clock()
        me = Identity(name=name, folder=name, files="all", url="", host="here", pid=1)
        self.me = world.ledger.now(lambda connection: apiservers.register(connection, me, world.now))
        self.ledger = OneLedger(world.ledger, self.me, world.time)
        self.server = Apiserver(
            world.folder,
            self.ledger,
            self.clock,
            lost_after=60.0,
            here=self.me,
            database_time=world.time,
        )
        self.lost = ""
        self.said = 0.0  # when it said last that it is there, by its own clock
        self.beside_others = False  # whether others lived then
        self.server.cut_off = lambda: self.beside_others and self.clock.seconds() - self.said >= DEAD_AFTER / 1000

    def cut(self, cut: bool) -> None:
        """It can't reach the database, or can again."""
        self.ledger.available = not cut


class Several:
    """All of them. Time passes by `advance`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = InstantLedger()
        self.now = 1_000_000  # of the database's clock
        self.living: dict[str, One] = {}

    def time(self, connection: Connection) -> int:
        """The database's clock."""
        return self.now

    def start(self, name: str) -> One:
        """Start an apiserver."""
        started = self.living[name] = One(self, name)
        return started

    def kill(self, one: One) -> None:
        """It does nothing more."""
        del self.living[one.name]

    def advance(self, seconds: int, *, paused: tuple[One, ...] = ()) -> None:
        """Time passes, by half seconds; not for those that are paused."""
        for half in range(2 * seconds):
            self.now += 500
            for one in list(self.living.values()):
                if one in paused:
                    continue
                if half % 4 == 0:
                    self.renew(one)
                if not one.lost:
                    one.clock.advance(0.5)

    def renew(self, one: One) -> None:
        """As the thread does that says that it lives."""
        if not one.ledger.available:
            return
        try:
            self.ledger.now(apiservers.renew, one.me, self.now)
            one.said, one.beside_others = one.clock.seconds(), len(self.ledger.now(apiservers.living)) > 1
        except LedgerLost as error:
            one.lost = str(error)
