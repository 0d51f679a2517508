"""
Work that outlives what began it: each is a coroutine that `stop` waits for, and that logs its own failure. Used by
``lifecycle``, ``builders`` and ``dispatch``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.storage.ledger import LedgerUnavailable

_T = TypeVar("_T")

#: How many workflows may be under way while another builder may still link. Each link may add
#: `compose.ServerSettings.max_running`.
MAX_WORKFLOWS = 4096

#: Seconds until the ledger is asked again for what it couldn't do.
RETRY_INTERVAL = 1.0


class Workflows:
    """The workflows that are under way. ``most``: from so many on they are `full`."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, *, most: int = MAX_WORKFLOWS) -> None:
        self._clock = clock
        self._most = most
        self._running: set[Deferred[None]] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._running)

    @property
    def full(self) -> bool:
        """True if so many wait for the ledger that nothing should be added which could come later."""
        return len(self._running) >= self._most

    @property
    def stopping(self) -> bool:
        """True once `end_retries` or `stop` was called."""
        return self._stopping

    def launch(self, work: Coroutine[Deferred[Any], Any, None], about: str) -> Deferred[None]:
        """Run ``work``. The result fires when it has ended, also if it failed: the failure is logged here."""
        running: Deferred[None] = Deferred.fromCoroutine(work)
        self._running.add(running)

        def ended(result: object) -> None:
            self._running.discard(running)

        def failed(failure: Failure) -> None:
            if self._stopping and failure.check(LedgerUnavailable):
                # The ledger has it as it was: whatever it was is done again after the next start.
                self._log.info("{about} was given up: {error}", about=about, error=failure.value)
            else:
                self._log.failure("{about} failed", failure, about=about)

        running.addErrback(failed)
        running.addBoth(ended)
        return running

    async def retry_until_available(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Return what ``ask`` does, called until the ledger can. Raise `LedgerUnavailable` once the service stops."""
        while True:
            try:
                return await ask()
            except LedgerUnavailable:
                if self._stopping:
                    raise
                pause: Deferred[None] = Deferred()
                self._clock.callLater(RETRY_INTERVAL, pause.callback, None)
                await pause

    def end_retries(self) -> None:
        """The service stops: what the ledger can't do now is left for the next start."""
        self._stopping = True

    async def stop(self) -> None:
        """Wait until all workflows have made their last try."""
        self._stopping = True
        for workflow in list(self._running):
            await workflow
