"""
Every few hours, and soon after a start: what is too old of all projects' releases goes, and what a crash has left.
Wired by ``compose``. What a new release makes too old goes with it; see ``releasing``.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.server.releasing import Releasing
from twistedipc.server.workflows import Workflows
from twistedipc.storage import projects
from twistedipc.storage.ledger import Ledger, LedgerUnavailable

#: Seconds from one round to the next, and until the first: a start has more urgent things to do.
INTERVAL = 6 * 3600.0
FIRST = 60.0


class Tidying:
    """Goes through all projects, one after the other."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, ledger: Ledger, workflows: Workflows, releasing: Releasing) -> None:
        self._clock = clock
        self._ledger = ledger
        self._workflows = workflows
        self._releasing = releasing
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin, a little later."""
        self._timer = self._clock.callLater(FIRST, self._begin)

    def stop(self) -> None:
        """End; a round that is under way ends after what it does now."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _begin(self) -> None:
        self._workflows.launch(self._round(), "tidying the releases up")

    async def _round(self) -> None:
        try:
            for project in await self._ledger.read(projects.list_all, None):
                if self._timer is None:
                    return
                await self._releasing.tidy(project.name)
        except LedgerUnavailable as error:
            self._log.info("the releases aren't tidied up now: {error}", error=error)
        finally:
            if self._timer is not None:
                self._timer = self._clock.callLater(INTERVAL, self._begin)
