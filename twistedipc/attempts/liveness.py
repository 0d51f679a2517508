"""
The lock of an attempt's folder: it is held as long as the attempt's runner lives. Used by the runner and the builder.

The lock is a `flock`, so it belongs to the open file and not to a process. The builder takes it, lets the runner
inherit the descriptor, and closes its own: there is no moment at which the runner lives without the lock. However the
runner dies, the kernel releases the lock, since the runner passes the descriptor to no other process.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

LOCK = "lock"

# `lock_held` holds the lock, shared, for some microseconds while it looks; `take_lock` tries again that long.
_TRIES = 5
_PAUSE = 0.004


def take_lock(folder: Path) -> int | None:
    """
    Take the folder's lock exclusively and return its descriptor; None if another process has the lock. The descriptor
    isn't inheritable: the caller must pass it to a child explicitly.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    for remaining in range(_TRIES - 1, -1, -1):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if remaining:
                time.sleep(_PAUSE)
        else:
            return descriptor
    os.close(descriptor)
    return None


def adopt_lock(folder: Path, descriptor: int) -> bool:
    """
    Make the inherited ``descriptor`` this process's own, so that its children don't inherit it. Return whether it is
    the folder's lock, and held.
    """
    try:
        os.set_inheritable(descriptor, False)
        mine, wanted = os.fstat(descriptor), os.stat(folder / LOCK)
        if (mine.st_dev, mine.st_ino) != (wanted.st_dev, wanted.st_ino):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def own_lock(descriptor: int) -> None:
    """Write this process's id, which is also its session's, into the lock that it holds, for `lock_owner`."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)


def lock_owner(folder: Path) -> int | None:
    """Return the process id of the runner that holds the folder's lock, or held it last (and may be reused since)."""
    try:
        return int((folder / LOCK).read_text())
    except (OSError, ValueError):
        return None


def lock_held(folder: Path) -> bool:
    """Return whether a process holds the folder's lock, that is, whether its runner lives."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
