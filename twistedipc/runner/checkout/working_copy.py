"""
The checkout of one attempt: the mirror is brought up to date under its lock, the ref is resolved to a full commit id,
and a working copy that borrows the mirror's objects is made of that commit. Used by ``__main__``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from twistedipc.builds.attempt import Checkout, Spec
from twistedipc.disk.files import read_file
from twistedipc.runner.checkout.git import CheckoutFailed, Git, defaults
from twistedipc.runner.checkout.lfs import LFS_NAMED, pointers
from twistedipc.runner.checkout.mirror import lock_mirror
from twistedipc.runner.checkout.refs import fetch


def check_out(folder: Path, now: Callable[[], int]) -> Checkout:
    """Make ``work`` in the attempt's folder. ``now`` is in milliseconds since the epoch. Raises `CheckoutFailed`."""
    spec = read_file(folder / "spec.json", Spec)
    if spec is None:
        raise CheckoutFailed("the attempt's folder has no spec.json")
    folder_of_mirror = Path(spec.mirror).absolute()
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)  # of a try for which the disk had no room
    lock = lock_mirror(folder_of_mirror)
    try:
        git = Git(lock, {**defaults(), **os.environ})
        # Taken while the mirror is locked: so the times of one builder are in the order in which the ref was read.
        resolved = 0 if spec.commit else now()
        mirror, commit = fetch(git, folder_of_mirror, spec)
        # In the working copy the setting is kept, so that the build's own use of git runs no hooks of a template.
        clone = ("clone", "--quiet", "--shared", "--no-checkout", "--template=", "-c", "core.hooksPath=/dev/null")
        if not git.run(*clone, "--", str(mirror.folder), str(work)):
            raise CheckoutFailed("the working copy can't be made")
    finally:
        os.close(lock)
    # The lock isn't needed any more: git never deletes an object that a ref has led to within the last two weeks.
    git = Git(os.open(os.devnull, os.O_RDONLY), {**defaults(), **os.environ})
    at = ("-C", str(work))
    if not git.run(*at, "checkout", "--quiet", "--detach", commit, "--"):
        raise CheckoutFailed(f"commit {commit} can't be checked out")
    git.run(*at, "remote", "set-url", "origin", "--", spec.repository)
    described = git.ask(*at, "log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%an%n%s", commit)
    author, _, subject = (described or "").rstrip("\n").partition("\n")
    found = Checkout(
        commit=commit,
        subject=_cut(subject, 500),
        author=_cut(author, 200),
        mirror=str(mirror.folder),
        resolved=resolved,
    )
    print(f"Commit {commit}: {found.subject}", flush=True)
    if (work / ".gitmodules").exists():
        print("The repository has submodules: they aren't checked out.", flush=True)
    unfetched = pointers(git, work)
    if unfetched:
        named = ", ".join(unfetched[:LFS_NAMED]) + (", …" if len(unfetched) > LFS_NAMED else "")
        print(
            f"Files of the repository are in Git LFS ({named}): the working copy has pointers in their place. A step "
            '"git lfs pull" fetches them, if the builder has git-lfs.',
            flush=True,
        )
    return found


def _cut(text: str, size: int) -> str:
    """Return the text, or its beginning and "…": then the runner also hides a part of a value before that."""
    return text if len(text) <= size else text[: size - 1] + "…"
