"""
Deletes files of the artifact store that no row needs any more. They were noted in the transaction that took the last
row that named them (`retention.note_files`). ``pruning`` and ``delivering`` have it done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Connection

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.server.boundaries import InThread
from twistedipc.storage import retention
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.retention import Removed

#: How many files go at a time.
FILES = 50

#: Asks the ledger: `Ledger.read` or `Ledger.write`, maybe at a pace.
Ask = Callable[..., Awaitable[Any]]


class Discarding:
    """Deletes what was noted, from this ``store``."""

    def __init__(self, store: ArtifactStore, in_thread: InThread) -> None:
        self.store = store
        self._in_thread = in_thread
        self._under_way = False

    async def discard(self, read: Ask, write: Ask, discarded: Callable[[Removed], object]) -> None:
        """
        Delete it, unless that is under way; ``discarded`` is told of each part. Raises `LedgerUnavailable`, OSError.
        """
        if self._under_way:
            return
        self._under_way = True
        try:
            await self._discard(read, write, discarded)
        finally:
            self._under_way = False

    async def _discard(self, read: Ask, write: Ask, discarded: Callable[[Removed], object]) -> None:
        after, left = "", await read(retention.any_files)
        while left:

            def remove(connection: Connection, after: str = after) -> tuple[Removed, str]:
                found = retention.remove_files(connection, self.store, FILES, after)
                crash_point(CrashPoint.APISERVER_PRUNED_FILES)
                return found

            removed, after = await write(remove)
            # Not in the transaction: what has gigabytes takes its time, and nothing else could be written meanwhile.
            await self._in_thread(self.store.delete_set_aside)
            discarded(removed)
            left = removed.left
