"""
The coroutines that a builder has launched: none is an orphan. Made by ``compose``.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure


class Workflows:
    """Runs coroutines, logs their failures, and ends them when the builder stops."""

    _log = Logger()

    def __init__(self) -> None:
        self._running: set[Deferred[None]] = set()
        self._stopping = False

    def launch(self, work: Coroutine[Deferred[Any], Any, None], about: str) -> None:
        """Run ``work``; when it fails, the log says that what it is ``about`` failed."""
        running: Deferred[None] = Deferred.fromCoroutine(work)
        self._running.add(running)

        def failed(failure: Failure) -> None:
            if not (self._stopping and failure.check(CancelledError)):
                self._log.failure("{about} failed", failure, about=about)

        running.addErrback(failed)
        running.addBoth(lambda _: self._running.discard(running))

    async def stop(self) -> None:
        """Cancel all workflows, and wait until they have ended."""
        self._stopping = True
        for running in list(self._running):
            running.cancel()
        for running in list(self._running):
            await running
