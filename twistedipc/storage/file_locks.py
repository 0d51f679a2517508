"""
Locks by name of all programs that have the same folder: of apiservers that keep their releases in one. ``storage``
layer; used by ``server``.

The kernel lets a lock go when its holder ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FileLocks:
    """The locks of a folder, which is made. Within a program, nobody may ask for a lock that it has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def try_lock(self, name: str) -> int | None:
        """Return what `unlock` takes; None: another program has this lock. Raises OSError."""
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def unlock(self, descriptor: int) -> None:
        """Let a lock go."""
        os.close(descriptor)
