"""
The end of mirrors that nothing uses any more: looked for after attempts have ended, once an hour at most. Made by
``compose``.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twistedipc.attempts.mirrors import remove_unused
from twistedipc.builder.ports import InThread
from twistedipc.builder.settings import Settings

#: Milliseconds between two looks.
INTERVAL = 3_600_000


class UnusedMirrors:
    """
    Removes them.

    :param now: milliseconds since the epoch
    """

    _log = Logger()

    def __init__(self, in_thread: InThread, settings: Settings, now: Callable[[], int]) -> None:
        self._in_thread = in_thread
        self._settings = settings
        self._now = now
        self._next = 0

    def soon(self) -> None:
        """Look for them, unless that was done a short while ago."""
        now = self._now()
        if now < self._next:
            return
        self._next = now + INTERVAL
        Deferred.fromCoroutine(self._remove(now / 1000 - self._settings.mirrors_kept))

    async def _remove(self, before: float) -> None:
        try:
            for name in await self._in_thread(remove_unused, self._settings.data / "mirrors", before):
                self._log.info("the mirror {name} was removed, since nothing has used it for long", name=name)
        except Exception:
            self._log.failure("unused mirrors can't be removed")
