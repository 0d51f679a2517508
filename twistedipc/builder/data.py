"""
The builder's data folder: its lock, the attempts' folders in it, and how full its disk is. Made by ``compose``.

::

    lock        flock'ed exclusively by the builder: one builder works in a data folder
    doorbell    the socket on which runners ring
    attempts/   the attempts' folders (``attempts.folder``)
    mirrors/    bare mirrors of the repositories; in mirrors-private/PROJECT/ those that need a project's credentials
    remotes/    what is needed while repositories' hosts are asked (``remotes``)
    caches/     what the projects' builds keep for the next ones (``caches``)
    toolchains/ Node and package managers (``toolchains.store``)
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from twistedipc.attempts.folder import AttemptFolder
from twistedipc.attempts.room import default_reserve, free_bytes
from twistedipc.builder.settings import Settings
from twistedipc.builds.attempt import Spec
from twistedipc.disk.calls import DiskCalls


class DataFolderInUse(Exception):
    """Another builder works in this data folder."""


class DataFolder:
    """The real `ports.Disk`."""

    def __init__(self, settings: Settings, *, disk: DiskCalls = os, free: Callable[[Path], int] = free_bytes) -> None:
        self._settings = settings
        self._disk = disk
        self._free = free
        self._lock: int | None = None

    def claim(self) -> None:
        """Make the folder and lock it, if that isn't done yet. Raises `DataFolderInUse` or OSError."""
        if self._lock is not None:
            return
        data = self._settings.data
        for folder in (data, self._settings.attempts, data / "mirrors"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise DataFolderInUse(f"another builder works in {data}") from error
        self._lock = lock

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def folders(self) -> Iterator[AttemptFolder]:
        """Yield all folders that may be attempts'. Raises OSError."""
        for path in sorted(self._settings.attempts.iterdir()):
            yield AttemptFolder(path, disk=self._disk)

    def create(self, spec: Spec) -> AttemptFolder:
        """Write a new attempt down, durably. Blocks. Raises OSError, and nothing is left then."""
        return AttemptFolder.create(self._settings.attempts, spec, disk=self._disk)

    def free(self) -> int:
        """Return how many bytes can still be written. Raises OSError."""
        return self._free(self._settings.data)

    def reserve(self) -> int:
        """Return how many bytes builds leave free. Raises OSError."""
        reserve = self._settings.reserve
        return default_reserve(self._settings.data) if reserve is None else reserve
