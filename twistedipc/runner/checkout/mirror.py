"""
A repository's bare mirror, which all attempts on this builder share. Used by ``refs``, and locked by ``working_copy``.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from twistedipc.attempts.mirrors import SHA256
from twistedipc.runner.checkout.contents import inspect
from twistedipc.runner.checkout.git import BadMirror, CheckoutFailed, Git

#: Digits of an id in a repository with SHA-256 ids.
SHA256_DIGITS = 64

_SHORT_ID = re.compile(r"[0-9a-f]{7,64}\Z")

# The mirror's whole configuration. It is written each time, as HEAD is: what is there may be somebody else's.
_MIRROR_CONFIG = "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n"
_SHA256_CONFIG = "[extensions]\n\tobjectformat = sha256\n"
_HEAD = "ref: refs/heads/master\n"


#: What git says if it fails since the mirror itself is damaged. (What the other side says begins with "remote:".)
_BROKEN = re.compile(
    r"^(?!remote: ).*(?:is corrupt|hash mismatch|bad object|is empty$|inflate: |unable to unpack|loose object"
    r"|unable to read|COLLISION FOUND|does not point to a valid object|did not send all necessary objects|index file"
    r"|packfile|unresolved deltas|not a git repository: ).*",
    re.M,
)


def raise_if_broken(git: Git) -> None:
    """Raise `BadMirror` if that is why the last git has failed."""
    broken = _BROKEN.search(git.said)
    if broken is not None:
        raise BadMirror(f"git says of it: {broken.group().strip()[:300]}")


class Mirror:
    """One of a repository's two bare mirrors: for SHA-1 ids, or for SHA-256 ids (one mirror holds one kind)."""

    def __init__(self, git: Git, folder: Path, *, sha256: bool) -> None:
        self._git = git
        self.sha256 = sha256
        self.folder = folder.with_name(folder.name + SHA256) if sha256 else folder

    @property
    def exists(self) -> bool:
        """Whether something is where the mirror belongs."""
        return os.path.lexists(self.folder)

    def prepare(self) -> None:
        """
        Make the mirror if it isn't there, and make it safe to use. Raises `BadMirror` if what is there can't be made
        safe, and `CheckoutFailed`.
        """
        kind = "sha256" if self.sha256 else "sha1"
        init = ("init", "--quiet", "--bare", "--template=", f"--object-format={kind}")
        if self.exists:
            inspect(self.folder)
        elif not self._git.run(*init, "--", str(self.folder)):
            raise CheckoutFailed("the builder can't make a mirror of the repository")
        config = _MIRROR_CONFIG.format(version=int(self.sha256)) + (_SHA256_CONFIG if self.sha256 else "")
        self._write("config", config)
        self._write("HEAD", _HEAD)

    def _write(self, name: str, content: str) -> None:
        new = self.folder / "config.new"  # which `inspect` removes, if this is killed
        new.write_text(content)
        os.replace(new, self.folder / name)

    def fetch(self, repository: str, *refs: str, prune: bool = False, quiet: bool = False) -> bool:
        """Fetch these refspecs. Return whether git could."""
        options = ("--quiet", "--force", "--no-write-fetch-head", "--no-recurse-submodules", "--no-tags")
        pruned = ("--prune",) if prune else ()
        at = ("-C", str(self.folder))
        return self._git.run(*at, "fetch", *options, *pruned, "--", repository, *refs, quiet=quiet)

    def commit(self, revision: str) -> str | None:
        """
        Return the full id of the commit that a full ref name or an id stands for; None if there is none. Raises
        `BadMirror` if git can't say since the mirror is damaged.
        """
        verify = ("rev-parse", "--verify", "--quiet", "--end-of-options")
        found = self._git.ask("-C", str(self.folder), *verify, revision + "^{commit}")
        if not found:
            raise_if_broken(self._git)
        return found.strip() if found else None

    def resolve(self, ref: str) -> str | None:
        """Return the full commit id of a branch, a tag or an id, looked for in this order; None if there is none."""
        candidates = [f"refs/heads/{ref}", f"refs/tags/{ref}"]
        if ref.startswith(("refs/heads/", "refs/tags/")):
            candidates = [ref]  # that is a full name, and means nothing else
        elif ref.startswith(("heads/", "tags/")):
            candidates.insert(0, f"refs/{ref}")  # as git has it; `names.spellings` counts on it
        if _SHORT_ID.match(ref.lower()):
            candidates.append(ref.lower())
        return next((found for found in map(self.commit, candidates) if found is not None), None)

    def fetch_other(self, repository: str, name: str) -> str | None:
        """
        Fetch a ref that is neither a branch nor a tag, such as ``refs/pull/7/head`` or the repository's HEAD. Return
        its commit; None if there is no such ref. The mirror keeps the ref under a name that no branch can have.
        """
        kept = f"refs/asked/{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        return self.commit(kept) if self.fetch(repository, f"+{name}:{kept}", quiet=True) else None
