"""
The mirrors of repositories in a builder's data folder: what they are called, their locks, and the end of those that
nothing has used for long. Used by the builder, which removes them, and by the checkout step.

::

    NAME.git           a bare mirror
    NAME.git.sha256    the mirror of a repository with SHA-256 ids
    NAME.git.lock      flock'ed while one of the two is fetched into; changed whenever one of them is used
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

_LOCK = ".lock"

#: What is put behind a mirror's name for a repository with SHA-256 ids.
SHA256 = ".sha256"


def mirror_name(repository: str, *, private: bool = False) -> str:
    """
    Return the name of a repository's mirror: recognisable to people, and unique.

    :param private: it is fetched with a project's credentials. Then it is another mirror, so that a project without
        them finds nothing in its own that it couldn't have fetched itself.
    """
    words = re.sub(r"[^A-Za-z0-9]+", "-", repository).strip("-")[-48:]
    key = hashlib.sha256(repository.encode()).hexdigest()[:12]
    return f"{words}-{key}{'-private' if private else ''}.git"


def lock_mirror(mirror: Path, waits: Callable[[], None]) -> int:
    """
    Lock a mirror, once nothing else has it locked. Return the descriptor that holds the lock.

    :param waits: is called if something else has it
    """
    mirror.parent.mkdir(parents=True, exist_ok=True)
    path = f"{mirror}{_LOCK}"
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_at(lock, path):
            os.utime(lock)
            return lock
        os.close(lock)  # it was removed meanwhile, with its mirror


def remove_unused(folder: Path, before: float) -> list[str]:
    """
    Remove the mirrors that weren't used since ``before`` (seconds since the epoch). Return their names. Blocks. Raises
    OSError if the folder can't be read; a mirror that can't be removed is left.
    """
    removed = []
    for path in sorted(folder.glob(f"*{_LOCK}")):
        try:
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_mtime >= before or not _is_at(lock, path):
                continue
            mirror = path.with_name(path.name.removesuffix(_LOCK))
            for each in (mirror, mirror.with_name(mirror.name + SHA256)):
                if each.exists():
                    shutil.rmtree(each)
            path.unlink()
            removed.append(mirror.name)
        except OSError:  # it is in use, or can't be removed
            continue
        finally:
            os.close(lock)
    return removed


def _is_at(lock: int, path: str | Path) -> bool:
    """Return whether the open file is the one at this path."""
    try:
        there, here = os.stat(path), os.fstat(lock)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
