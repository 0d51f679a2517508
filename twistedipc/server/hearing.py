"""
What other apiservers on the same database change, as it is told here: whoever hears of something reads it in the
ledger. Used by ``neighbours``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.logger import Logger

from twistedipc.server.boundaries import GistFeed
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.storage import attempts, changes
from twistedipc.storage.apiservers import Incarnation
from twistedipc.storage.changes import Heard
from twistedipc.storage.ledger import Ledger, LedgerUnavailable


class Hearing:
    """
    Reads what has changed since it was read last.

    :param woken: whom it wakes when others have changed something: each looks at the ledger by itself
    """

    _log = Logger()

    def __init__(
        self, ledger: Ledger, lifecycle: Lifecycle, gists: GistFeed, woken: Sequence[Callable[[], None]]
    ) -> None:
        self._ledger = ledger
        self._lifecycle = lifecycle
        self._gists = gists
        self._woken = woken
        self._caches: list[Callable[[], Awaitable[None]]] = []
        self._last: int | None = None  # the newest change that is known here

    def on_change(self, cache: Callable[[], Awaitable[None]]) -> None:
        """Call this when others have changed something: it reads again what it holds. May raise `LedgerUnavailable`."""
        self._caches.append(cache)

    async def begin(self) -> None:
        """At start, before anything is read that is kept in memory. Raises `LedgerUnavailable`."""
        if self._last is None:
            self._last = await self._ledger.read(changes.newest)

    async def hear(self, here: Incarnation) -> None:
        """Tell here what the others have changed. Raises `LedgerUnavailable`: then the next time tells it."""
        while self._last is not None:
            heard: Heard = await self._ledger.read(changes.after, self._last, here.name)
            if heard.any:
                await self._tell(heard)
            self._last = heard.last
            if not heard.more:
                return

    async def _tell(self, heard: Heard) -> None:
        # First: what is looked at because of the rest goes by them. One that fails keeps nothing else from being heard.
        for cache in self._caches:
            try:
                await cache()
            except LedgerUnavailable:
                raise
            except Exception:
                self._log.failure("what other apiservers have changed can't be read again")
        for attempt in heard.attempts:
            row = await self._ledger.read(attempts.get, attempt)
            if row is not None:
                self._lifecycle.heard(row)
        for build in heard.gists:
            self._gists.changed(build)
        for wake in self._woken:
            wake()
