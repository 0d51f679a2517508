"""
The other apiservers on the same database: what they change is told here (``hearing``), what one that is gone had is
taken over, and work that one apiserver does for all is begun where nobody does it (``shared_duties``). Made by
``compose``; looks at the ledger every second, and when it is woken.

Nothing here is needed for what is written to be right: each transaction that writes looks by itself whether this
apiserver lives, and whether its link still has its builder (``storage.apiservers``, ``storage.tenures``). A round that
doesn't come makes things late, and never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
from sqlalchemy import Connection
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.server.builders import Builders
from twistedipc.server.fanout.following import Following
from twistedipc.server.hearing import Hearing
from twistedipc.server.releasing import Releasing
from twistedipc.server.shared_duties import SharedDuties
from twistedipc.server.workflows import Workflows
from twistedipc.storage import apiservers, changes, tenures
from twistedipc.storage.apiservers import Incarnation
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.tenures import Tenure

#: Seconds from one round to the next, if nothing wakes it.
INTERVAL = 1.0

#: Seconds from the end of a round to the next at least, however often it is woken: each reads what is kept in memory.
LEAST_INTERVAL = 0.05

#: Seconds between two times that what everybody has read is deleted.
FORGET_INTERVAL = 60.0


class _Look(msgspec.Struct, frozen=True, kw_only=True):
    """How the ledger has it, in one moment."""

    living: frozenset[Incarnation]
    silent: bool  # one must be given up
    orphans: bool  # there are builders of one that doesn't live
    lost: Sequence[Tenure]  # of ours: others have these
    strays: Sequence[Tenure]  # of this apiserver by the ledger, and not known here
    free: Sequence[str]  # duties that nobody has, or this apiserver
    mine: Sequence[str]  # duties that this apiserver has
    elsewhere: Sequence[str]  # builders that are linked at others


class Neighbours:
    """
    :param here: which of the apiservers this is
    :param time: the database's clock
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        ledger: Ledger,
        here: Callable[[], Incarnation | None],
        time: Callable[[Connection], int],
        workflows: Workflows,
        builders: Builders,
        releasing: Releasing,
        following: Following,
        hearing: Hearing,
        duties: SharedDuties,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._here = here
        self._time = time
        self._workflows = workflows
        self._builders = builders
        self._releasing = releasing
        self._following = following
        self._hearing = hearing
        self._duties = duties
        self._before: _Look | None = None  # in the last round
        self._forgot = float("-inf")
        self._timer: IDelayedCall | None = None
        self._again = False
        self._stopped = False

    def start(self) -> None:
        """Begin, with a round at once."""
        self._begin()
        self._builders.watch_cut_off()  # not in the rounds: they wait for the ledger, which doesn't answer then

    def stop(self) -> None:
        """End. The duties are others' as soon as this apiserver has left the ledger."""
        self._stopped = True
        self._duties.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def wake(self) -> None:
        """Others may have changed something: look, now or once more after the look that is under way."""
        if self._timer is not None and self._timer.active():
            left = self._timer.getTime() - self._clock.seconds()
            if left > 2 * LEAST_INTERVAL:  # else it was woken before, or comes soon anyway
                self._timer.reset(max(0.0, left - INTERVAL + LEAST_INTERVAL))
        else:
            self._again = True

    def follow(self) -> None:
        """Logs may have grown that are written elsewhere: look at those that have viewers here."""
        if self._here() is not None and not self._stopped:
            self._workflows.launch(self._follow(), "following logs")

    async def _follow(self) -> None:
        with suppress(LedgerUnavailable):
            await self._following.look()

    def _begin(self) -> None:
        self._workflows.launch(self._round(), "looking for what other apiservers do")

    async def _round(self) -> None:
        self._again = False
        try:
            here = self._here()
            if here is not None:
                await self._hearing.hear(here)
                await self._look(here)
                await self._following.look()
        except LedgerUnavailable as error:
            self._log.info("what other apiservers do can't be read now: {error}", error=error)
        finally:
            if not self._stopped:
                self._timer = self._clock.callLater(LEAST_INTERVAL if self._again else INTERVAL, self._begin)

    async def _look(self, here: Incarnation) -> None:
        look: _Look = await self._ledger.read(_look, here, self._builders.held(), self._duties.names, self._time)
        self._builders.are_elsewhere(look.elsewhere)
        for tenure in look.lost:
            self._builders.moved(tenure)
        if look.silent:
            for gone in await self._ledger.write(_bury, here, self._time):
                self._log.warn("apiserver {name} is silent: others go on with what it had", name=gone.name)
        before, self._before = self._before, look
        # What is being taken now isn't known here yet: a stray is one in the next round too. A builder that has linked
        # and hasn't synced is none either, however long that takes.
        known = () if before is None else before.strays
        strays = [each for each in look.strays if each in known and not self._builders.is_linked(each.builder)]
        if look.orphans or look.silent or strays:
            await self._builders.adopt(strays=strays)
        if before is not None and before.living - look.living:
            # It may have ended between the commit of a release and its switch.
            reconciling = self._workflows.retry_until_available(self._releasing.reconcile)
            self._workflows.launch(reconciling, "making live what the ledger says")
        await self._duties.see_to(here, look.free, look.mine)
        if self._clock.seconds() - self._forgot >= FORGET_INTERVAL:
            self._forgot = self._clock.seconds()
            await self._ledger.write(_forget, self._time)


def _look(
    connection: Connection,
    here: Incarnation,
    held: Sequence[Tenure],
    names: Sequence[str],
    time: Callable[[Connection], int],
) -> _Look:
    taken = apiservers.duties_of(connection)
    rows = [(row, Incarnation(row.apiserver, row.incarnation)) for row in tenures.list_all(connection)]
    living = frozenset(row.itself for row in apiservers.living(connection))
    mine = [row for row, owner in rows if owner == here]
    return _Look(
        living=living,
        elsewhere=[row.builder for row, owner in rows if row.linked and owner != here and owner in living],
        silent=apiservers.silent(connection, here, time(connection)),
        orphans=tenures.has_orphans(connection),
        lost=tenures.lost(connection, held),
        strays=[tenure for row in mine if (tenure := Tenure(row.builder, row.epoch)) not in held],
        # One of its own may be, after a write whose answer was lost.
        free=[name for name in names if taken.get(name, here) == here],
        mine=[name for name in names if taken.get(name) == here],
    )


def _bury(connection: Connection, here: Incarnation, time: Callable[[Connection], int]) -> list[Incarnation]:
    return apiservers.bury(connection, here, time(connection))


@changes.quiet
def _forget(connection: Connection, time: Callable[[Connection], int]) -> None:
    changes.forget(connection, time(connection))
