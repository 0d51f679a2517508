"""
Who may change what a project has on disk: one call at a time, also of several apiservers that share the folder. Used by
``releasing``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twistedipc.storage.file_locks import FileLocks

#: Seconds until it is tried again to get what another apiserver has. No thread waits meanwhile: those that would have
#: to work before the other lets go are few.
PAUSE = 0.05

#: Seconds of waiting after which it is said who has the lock.
PATIENCE = 30.0


class LockedElsewhere(Exception):
    """Another apiserver has the lock."""


class ProjectLocks:
    """Locks by name. ``files``: None: there is no other apiserver."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, files: FileLocks | None) -> None:
        self._clock = clock
        self._files = files
        self._locks: dict[str, DeferredLock] = {}

    @property
    def are_shared(self) -> bool:
        """Whether another apiserver may have changed what is on disk."""
        return self._files is not None

    @asynccontextmanager
    async def hold(self, name: str, give_up: Callable[[], bool] = lambda: False) -> AsyncIterator[None]:
        """
        Hold a lock. ``give_up`` is asked whenever another apiserver has it. Raises `LockedElsewhere` then, and OSError
        if the folder of the locks can't be used.
        """
        lock = self._locks.setdefault(name, DeferredLock())
        await lock.acquire()
        try:
            async with self._held_by_all(name, give_up):
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
    async def _held_by_all(self, name: str, give_up: Callable[[], bool]) -> AsyncIterator[None]:
        if self._files is None or not name:
            yield
            return
        since, said = self._clock.seconds(), False
        while (held := self._files.try_lock(name)) is None:
            if give_up():
                raise LockedElsewhere(name)
            if not said and self._clock.seconds() - since >= PATIENCE:
                said = True
                self._log.warn(
                    "what {name} has on disk has been locked by apiserver {who} for {seconds:.0f} s, and waits for it: "
                    "if that one is stopped, let it go on or end it",
                    name=name,
                    who=self._files.holder(name),
                    seconds=PATIENCE,
                )
            await deferLater(self._clock, PAUSE)
        try:
            yield
        finally:
            self._files.unlock(held)
