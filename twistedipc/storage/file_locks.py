"""
Locks by name of all programs that have the same folder: of apiservers that keep their releases in one. ``storage``
layer; used by ``server``.

The kernel lets a lock go when its holder ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class FileLocks:
    """
    The locks of a folder, which is made. Within a program, nobody may ask for a lock that it has.

    :param who: this program, as the others name it whom it keeps waiting
    """

    def __init__(self, folder: Path, who: str = "") -> None:
        self._folder = folder
        self._who = who
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
        self._sign(descriptor)
        return descriptor

    def holder(self, name: str) -> str:
        """Return who has this lock, or had it last, as it says itself; "" if it can't be read."""
        try:
            return (self._folder / name).read_text("utf-8", "replace")
        except OSError:
            return ""

    def _sign(self, descriptor: int) -> None:
        # For people alone: a full disk keeps nobody from working.
        with contextlib.suppress(OSError):
            who = self._who.encode()
            if os.pread(descriptor, len(who) + 1, 0) != who:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, who, 0)

    def unlock(self, descriptor: int) -> None:
        """Let a lock go."""
        os.close(descriptor)
