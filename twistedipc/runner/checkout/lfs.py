"""
The files that a repository keeps in Git LFS: git's own client for them fetches them, with the checkout's credentials.
Used by ``working_copy``.
"""

from __future__ import annotations

import stat
from pathlib import Path

from twistedipc.builds.lfs import MAX_POINTER, is_pointer
from twistedipc.runner.checkout.git import CheckoutFailed, Git

#: How many files with the attribute of Git LFS are looked into, and how many of the pointers are named.
_LFS_FILES = 1000
_LFS_NAMED = 3

#: The folder in a mirror in which the files lie that were fetched: each is fetched once.
_STORAGE = "lfs"


def fetch_large_files(git: Git, work: Path, mirror: Path, project: str, *, wanted: bool) -> None:
    """
    Put the large files into a working copy where it has pointers to them. Raises `CheckoutFailed` if that isn't
    possible.

    :param wanted: False: the project does without them
    """
    pointers = _pointers(git, work)
    if not pointers:
        return
    named = ", ".join(pointers[:_LFS_NAMED]) + (", …" if len(pointers) > _LFS_NAMED else "")
    if not wanted:
        print(f"Files of the repository are in Git LFS ({named}): as the project wants, they are left as pointers.")
        return
    git = git.another(f"lfs.storage={mirror / _STORAGE}", "lfs.concurrenttransfers=8")
    if git.ask("lfs", "version") is None:
        raise CheckoutFailed(
            f"files of the repository are in Git LFS ({named}), and the builder has no git-lfs: install it there, or "
            f"build without these files (`twistedipc project set {project} --no-lfs`)"
        )
    print(f"Fetching files of Git LFS ({named}) …", flush=True)
    at = ("-C", str(work))
    # From now on git knows in this working copy what these files are: else it would find them changed.
    if not git.run(*at, "lfs", "install", "--local", "--skip-repo", quiet=True) or not git.run(*at, "lfs", "pull"):
        raise CheckoutFailed(
            f"files of the repository are in Git LFS ({named}), and can't be fetched: the log has git-lfs's own words. "
            f"The project is built without them by `twistedipc project set {project} --no-lfs`"
        )
    left = _pointers(git, work)
    if left:
        print(f"Still pointers, as the repository's .lfsconfig wants: {', '.join(left[:_LFS_NAMED])}", flush=True)


def _pointers(git: Git, work: Path) -> list[str]:
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
