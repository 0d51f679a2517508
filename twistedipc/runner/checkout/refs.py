"""
What was asked for, a branch, a tag, a full name or an id, becomes a commit of the mirror. Used by ``working_copy``.
"""

from __future__ import annotations

import re
from pathlib import Path

from twistedipc.builds.attempt import Spec
from twistedipc.runner.checkout.git import CheckoutFailed, Git
from twistedipc.runner.checkout.mirror import SHA256_DIGITS, Mirror

_FULL_ID = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")


def _has_sha256_ids(git: Git, repository: str, *patterns: str) -> bool | None:
    """Return whether a repository's ids are SHA-256; None if it has no ref yet. Raises `CheckoutFailed`."""
    listed = git.ask("ls-remote", "--", repository, *patterns, quiet=False)
    if listed is None:
        raise CheckoutFailed(f"{repository} can't be fetched")
    return len(listed.partition("\t")[0]) == SHA256_DIGITS if listed else None


def _fetch_all(git: Git, mirrors: tuple[Mirror, Mirror], repository: str) -> Mirror:
    """Bring the mirror for the repository's kind of ids up to date, and return it. Raises `CheckoutFailed`."""
    sha1, sha256 = mirrors
    if sha1.exists or sha256.exists:
        mirror = sha256 if sha256.exists else sha1
    else:
        mirror = sha256 if _has_sha256_ids(git, repository, "HEAD") else sha1
    refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    mirror.prepare()
    if mirror.fetch(repository, *refs, prune=True):
        return mirror
    # Perhaps the repository is another than the one that the mirror was made for.
    found = _has_sha256_ids(git, repository)
    other = sha256 if found else sha1
    if found is not None and other is not mirror:
        print(f"The repository's ids are {'SHA-256' if found else 'SHA-1'} now: it gets another mirror.", flush=True)
        other.prepare()
        if other.fetch(repository, *refs, prune=True):
            return other
    raise CheckoutFailed(f"{repository} can't be fetched")


def fetch(git: Git, folder: Path, spec: Spec) -> tuple[Mirror, str]:
    """Bring the mirror up to date, if necessary. Return it, and the commit that was asked for."""
    mirrors = Mirror(git, folder, sha256=False), Mirror(git, folder, sha256=True)
    wanted = spec.commit or spec.ref
    full = wanted.lower() if _FULL_ID.match(wanted.lower()) else ""
    if full:
        known = mirrors[len(full) == SHA256_DIGITS]
        if known.exists:
            known.prepare()
            if known.resolve(wanted) == full:
                print(f"Commit {full} is here already.", flush=True)
                return known, full
    print(f"Fetching {spec.repository} …", flush=True)
    mirror = _fetch_all(git, mirrors, spec.repository)
    commit = _find(mirror, spec.repository, wanted, full)
    if commit is None:
        raise CheckoutFailed(f"there is no branch, tag or commit {wanted} in {spec.repository}")
    return mirror, commit


def _find(mirror: Mirror, repository: str, wanted: str, full: str) -> str | None:
    """Return the commit that was asked for, in a mirror that is up to date. ``full`` is its full id, if known."""
    if wanted == "HEAD":
        return mirror.fetch_other(repository, wanted)
    commit = mirror.resolve(wanted)
    if commit is not None:
        return commit
    if full:
        # A commit that no branch or tag leads to: some servers give it if asked for it by its id.
        mirror.fetch(repository, full, quiet=True)
        return mirror.resolve(full)
    if "/" in wanted:
        return mirror.fetch_other(repository, wanted if wanted.startswith("refs/") else f"refs/{wanted}")
    return None
