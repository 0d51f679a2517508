"""
The lock of an attempt's folder: held = the attempt's runner lives. Used by the runner itself and by ``builder``.

It is a `flock`, so it belongs to the open file and not to a process: the builder takes it, lets the runner inherit
the descriptor, and closes its own; there is no moment without it, and the kernel lets go of it whatever the runner
dies of. The runner passes the descriptor on to nobody.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

LOCK = "lock"

# `lock_held` holds the lock, shared, for some microseconds while it looks. Whoever wants it tries again that long.
_TRIES = 5
_PAUSE = 0.004


def take_lock(folder: Path) -> int | None:
    """
    The descriptor of the folder's lock, taken exclusively; None if someone else has it. It isn't inheritable: who
    passes it to a child says so.
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
    Make the inherited ``descriptor`` this process's own: whether it is the folder's lock, and held. It isn't passed on
    to children.
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
    """Write this process's id, which is its session's too, into the lock that it holds: see `lock_owner`."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)


def lock_owner(folder: Path) -> int | None:
    """The process id of the runner that holds the folder's lock, or held it last. It may be anybody's by now."""
    try:
        return int((folder / LOCK).read_text())
    except (OSError, ValueError):
        return None


def lock_held(folder: Path) -> bool:
    """Whether some process holds the folder's lock: whether its runner lives."""
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
