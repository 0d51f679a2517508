"""
The files that a repository keeps in Git LFS. Used by ``working_copy``.
"""

from __future__ import annotations

import stat
from pathlib import Path

from twistedipc.builds.lfs import MAX_POINTER, is_pointer
from twistedipc.runner.checkout.git import Git

#: How many files with the attribute of Git LFS are looked into, and how many of the pointers are named.
_LFS_FILES = 1000
LFS_NAMED = 3


def pointers(git: Git, work: Path) -> list[str]:
    """Return the files that the repository gives to Git LFS and that are pointers in the working copy."""
    listed = git.ask("-C", str(work), "ls-files", "-z", "--", ":(top,attr:filter=lfs)") or ""
    names = [name for name in listed.split("\0")[:_LFS_FILES] if name]
    small = (name for name in names if _size(work / name) < MAX_POINTER)
    return [name for name in small if is_pointer((work / name).read_bytes())]


def _size(path: Path) -> int:
    """Return the bytes of a file; for anything else, more than any pointer has."""
    try:
        status = path.lstat()
    except OSError:
        return MAX_POINTER
    return status.st_size if stat.S_ISREG(status.st_mode) else MAX_POINTER
