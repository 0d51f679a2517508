"""
The files that a repository keeps in Git LFS: git's own client for them fetches them, with the checkout's credentials.
Used by ``working_copy``.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from twistedipc.builds import names
from twistedipc.builds.lfs import MAX_POINTER, digest_of
from twistedipc.runner.checkout.git import CheckoutFailed, Git

#: How many of the pointers are named in a sentence.
_LFS_NAMED = 3

#: The folder in a mirror in which the files lie that were fetched: each is fetched once.
_STORAGE = "lfs"

_CONFIG = ".lfsconfig"


def fetch_large_files(git: Git, folder: Path, work: Path, mirror: Path, project: str, *, wanted: bool) -> None:
    """
    Put the large files into a working copy where it has pointers to them. Raises `CheckoutFailed` if that isn't
    possible.

    :param folder: the attempt's
    :param wanted: False: the project does without them
    """
    pointers = _pointers(git, work)
    if not pointers:
        return
    named = _some_of(pointers)
    if not wanted:
        print(f"Files of the repository are in Git LFS ({named}): as the project wants, they are left as pointers.")
        return
    storage = mirror / _STORAGE
    storage.mkdir(exist_ok=True)
    git = git.writing_below(folder, storage).another(f"lfs.storage={storage}", "lfs.concurrenttransfers=8")
    if git.ask("lfs", "version") is None:
        raise CheckoutFailed(
            f"files of the repository are in Git LFS ({named}), and the builder has no git-lfs: install it there, or "
            f"build without these files (`twistedipc project set {project} --no-lfs`)"
        )
    _check_addresses(git, work)
    print(f"Fetching files of Git LFS ({named}) …", flush=True)
    # From now on git knows in this working copy what these files are: else it would find them changed.
    if not git.run("-C", str(work), "lfs", "install", "--local", "--skip-repo", quiet=True):
        raise _cant_be_fetched(named, project)
    for last in (False, True):
        if not git.run("-C", str(work), "lfs", "pull"):
            raise _cant_be_fetched(named, project)
        bad = _not_as_promised(work, pointers)
        if not bad:
            break
        if last:
            raise CheckoutFailed(f"files of Git LFS aren't what their pointers say: {_some_of(bad)}")
        print(f"The builder's files of Git LFS are bad: {_some_of(bad)}. They are fetched again.", flush=True)
        for path, digest in bad.items():
            (storage / "objects" / digest[:2] / digest[2:4] / digest).unlink(missing_ok=True)
            (work / path).unlink()
    left = _pointers(git, work)
    if left:
        print(f"Still pointers, as the repository's .lfsconfig wants: {_some_of(left)}", flush=True)


def _cant_be_fetched(named: str, project: str) -> CheckoutFailed:
    return CheckoutFailed(
        f"files of the repository are in Git LFS ({named}), and can't be fetched: the log has git-lfs's own words. "
        f"The project is built without them by `twistedipc project set {project} --no-lfs`"
    )


def _check_addresses(git: Git, work: Path) -> None:
    """
    Raise `CheckoutFailed` if the repository has its large files in a local folder, or anywhere that isn't allowed. They
    may be at another host: it is shown no credentials.
    """
    config = work / _CONFIG
    if config.is_symlink():
        raise CheckoutFailed(f"{_CONFIG} is a link, which isn't allowed")
    listed = git.ask("config", "--file", str(config), "-z", "--list") or ""
    for entry in listed.split("\0"):
        name, _, address = entry.partition("\n")
        if name.rpartition(".")[2] not in ("url", "lfsurl"):
            continue
        try:
            if address.startswith(("/", ".", "file:")):
                raise names.BadValue("it is in a local folder")
            names.repository(address)
        except names.BadValue as error:
            raise CheckoutFailed(
                f"{_CONFIG} says that large files are at {address[:200]!r}, which isn't allowed: {error}"
            ) from error


def _pointers(git: Git, work: Path) -> dict[str, str]:
    """Return the files that the repository gives to Git LFS and that are pointers, each with its file's SHA-256."""
    listed = git.ask("-C", str(work), "ls-files", "-z", "--", ":(top,attr:filter=lfs)") or ""
    found = {}
    for name in filter(None, listed.split("\0")):
        if _size(work / name) < MAX_POINTER:
            digest = digest_of((work / name).read_bytes())
            if digest:
                found[name] = digest
    return found


def _not_as_promised(work: Path, pointers: Mapping[str, str]) -> dict[str, str]:
    """Return those of the pointers in whose place another file is than they stand for."""
    return {path: digest for path, digest in pointers.items() if not _is_as_promised(work / path, digest)}


def _is_as_promised(path: Path, digest: str) -> bool:
    """Return whether a file has this SHA-256, or still is the pointer to it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == digest:
            return True
        file.seek(0)
        return digest_of(file.read(MAX_POINTER)) == digest


def _some_of(paths: Mapping[str, str]) -> str:
    return ", ".join(list(paths)[:_LFS_NAMED]) + (", …" if len(paths) > _LFS_NAMED else "")


def _size(path: Path) -> int:
    """Return the bytes of a file; for anything else, more than any pointer has."""
    try:
        status = path.lstat()
    except OSError:
        return MAX_POINTER
    return status.st_size if stat.S_ISREG(status.st_mode) else MAX_POINTER
