"""
Who may change what a project has on disk: one call at a time, also of several apiservers that share the folder. Used by
``releasing``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from twistedipc.storage.file_locks import FileLocks

#: Seconds until it is tried again to get what another apiserver has. No thread waits meanwhile: those that would have
#: to work before the other lets go are few.
PAUSE = 0.05


class ProjectLocks:
    """Locks by name. ``files``: None: there is no other apiserver."""

    def __init__(self, clock: IReactorTime, files: FileLocks | None) -> None:
        self._clock = clock
        self._files = files
        self._locks: dict[str, DeferredLock] = {}

    @property
    def are_shared(self) -> bool:
        """Whether another apiserver may have changed what is on disk."""
        return self._files is not None

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Hold a lock. Raises OSError if the folder of the locks can't be used."""
        lock = self._locks.setdefault(name, DeferredLock())
        await lock.acquire()
        try:
            async with self._held_by_all(name):
                yield
        finally:
            lock.release()

    @asynccontextmanager
    async def hold_among_all(self, name: str) -> AsyncIterator[None]:
        """Hold a lock that calls of this apiserver have no need of; there it is held by one call after another too."""
        if self._files is None:
            yield
        else:
            async with self.hold(name):
                yield

    @asynccontextmanager
    async def _held_by_all(self, name: str) -> AsyncIterator[None]:
        if self._files is None or not name:
            yield
            return
        while (held := self._files.try_lock(name)) is None:
            await deferLater(self._clock, PAUSE)
        try:
            yield
        finally:
            self._files.unlock(held)
