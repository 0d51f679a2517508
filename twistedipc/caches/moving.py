"""
Folders moved and copied, without following a link on the way. Used by ``store`` and ``tidying``.

What is moved out of an attempt was made by a build, which may have put a link in the place of any folder of it. So each
part of a path is opened by itself, and must be a folder.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twistedipc.disk.beneath import descend
from twistedipc.disk.files import remove_tree

#: Seconds after which a copy is given up.
COPYING = 300.0


class CantCopy(Exception):
    """A folder wasn't copied. ``str()`` of the exception says why."""


@contextmanager
def opened(base: Path, folders: tuple[str, ...], *, make: bool = False) -> Iterator[int | None]:
    """
    Give a descriptor of the folder that these names lead to from ``base``; None if one of them is no folder, or a link.
    """
    top = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = descend(top, folders, make=make)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        yield None
        return
    finally:
        os.close(top)
    try:
        yield found
    finally:
        os.close(found)


def move_out(base: Path, path: str, target: Path) -> bool:
    """Move a folder below ``base`` to ``target``. Return whether there was one that no link leads to."""
    *folders, name = path.split("/")
    with opened(base, tuple(folders)) as parent:
        if parent is None or not _is_folder(name, parent):
            return False
        os.rename(name, target, src_dir_fd=parent)
    return True


def set_aside(base: Path, path: str, target: Path) -> None:
    """Move whatever is at a path below ``base`` to ``target``, if no link leads to it."""
    *folders, name = path.split("/")
    with opened(base, tuple(folders)) as parent:
        if parent is not None and _exists(name, parent):
            os.rename(name, target, src_dir_fd=parent)


def move_in(source: Path, base: Path, path: str) -> bool:
    """
    Move the folder ``source`` to a path below ``base``. Return whether it is there: not if something is there already,
    or a link is on the way.
    """
    *folders, name = path.split("/")
    with opened(base, tuple(folders), make=True) as parent:
        if parent is None or _exists(name, parent):
            return False
        os.rename(source, name, dst_dir_fd=parent)
    return True


def copy(source: Path, target: Path, *, seconds: float = COPYING) -> None:
    """
    Copy a folder, links as links; by sharing blocks where the file system can. ``target`` isn't there yet. Raises
    `CantCopy`, and then removes what there is of the copy.
    """
    import subprocess  # not above: a runner that copies nothing does without

    command = ["cp", "--recursive", "--no-dereference", "--preserve=mode,timestamps,links", "--reflink=auto"]
    try:
        done = subprocess.run(
            [*command, "--no-target-directory", "--", str(source), str(target)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        remove_tree(target)
        raise CantCopy(f"the copy took more than {seconds:.0f} s") from error
    if done.returncode != 0:
        remove_tree(target)
        raise CantCopy(os.fsdecode(done.stderr).strip()[-300:])


def size(folder: Path) -> int:
    """Return the bytes that a folder takes on the disk; files that have several names count once."""
    seen: set[int] = set()
    total = 0
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                        if status.st_ino in seen:
                            continue
                        seen.add(status.st_ino)
                    total += status.st_blocks * 512
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(entry.path)
        except OSError:
            continue  # it went meanwhile, or can't be read: then it can't be measured either
    return total


def _is_folder(name: str, parent: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _exists(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
