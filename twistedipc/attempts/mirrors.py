"""
The mirrors of repositories in a builder's data folder: what they are called, their locks, and the end of those that
nothing has used for long. Used by the builder, which removes them, and by the checkout step.

::

    NAME.git           a bare mirror
    NAME.git.sha256    the mirror of a repository with SHA-256 ids
    NAME.git.lock      flock'ed while one of the two is fetched into; changed whenever one of them is used
    NAME.git.thrown-N  one that wasn't what it should be, until the builds that work with it have ended

They are in ``mirrors/``, or, if they are fetched with a project's credentials, in ``mirrors-private/PROJECT/``.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from twistedipc.attempts.sha256 import sha256
from twistedipc.disk.files import remove_tree

_LOCK = ".lock"
_THROWN = ".thrown-"
_PRIVATE = "-private"

#: Seconds for which a mirror stays that was thrown away: longer than a build takes.
_THROWN_KEPT = 86400.0

#: What is put behind a mirror's name for a repository with SHA-256 ids.
SHA256 = ".sha256"


def mirror_name(repository: str) -> str:
    """Return the name of a repository's mirror: recognisable to people, and unique."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", repository).strip("-")[-48:]
    digest = sha256()
    digest.update(repository.encode())
    key = digest.hexdigest()[:12]
    return f"{words}-{key}.git"


def private_folder(mirrors: Path, project: str) -> Path:
    """
    Return the folder of the mirrors that are fetched with a project's credentials. It is the project's own: another
    one, with other credentials or none, finds nothing that it couldn't have fetched itself.

    :param mirrors: the folder of the mirrors that need no credentials
    """
    return mirrors.with_name(f"{mirrors.name}{_PRIVATE}") / project


def throw_away(mirror: Path) -> Path:
    """
    Put a mirror aside, so that another can be made in its place. It isn't removed yet: the objects in it are those of
    builds that run now. Return where it is. The caller has the lock. Raises OSError.
    """
    target = mirror.with_name(f"{mirror.name}{_THROWN}{os.urandom(4).hex()}")
    os.rename(mirror, target)
    if not target.is_symlink():
        os.utime(target)
    return target


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
    Remove the mirrors that weren't used since ``before`` (seconds since the epoch), those of projects too. Return their
    names. Blocks. Raises OSError if the folder can't be read; a mirror that can't be removed is left.
    """
    removed = []
    for each in (folder, *sorted(folder.with_name(f"{folder.name}{_PRIVATE}").glob("*"))):
        removed += _remove_unused(each, before)
    return removed


def _remove_unused(folder: Path, before: float) -> list[str]:
    _remove_thrown(folder)
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
                remove_tree(each)
            path.unlink()
            removed.append(mirror.name)
        except OSError:  # it is in use, or can't be removed
            continue
        finally:
            os.close(lock)
    return removed


def _remove_thrown(folder: Path) -> None:
    """Remove mirrors that were thrown away long ago."""
    for path in folder.glob(f"*{_THROWN}*"):
        try:
            if path.lstat().st_mtime < time.time() - _THROWN_KEPT:
                remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError:  # the next time, perhaps
            continue


def _is_at(lock: int, path: str | Path) -> bool:
    """Return whether the open file is the one at this path."""
    try:
        there, here = os.stat(path), os.fstat(lock)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
