"""
The checkout step: ``python -m twistedipc.runner.checkout FOLDER``, started by ``course``; its output is the log.

The repository's bare mirror, shared by all attempts, is brought up to date under a lock; the ref is resolved to a full
commit id; a working copy that borrows the mirror's objects is made of that commit; checkout.json says what was found.

Nothing in the repository can make git run anything: no hooks, no templates, a configuration that is written each time,
and only protocols that ``names.repository`` allows. That doesn't hold against other builds on this builder: they run as
the same user, and can write into the mirror (docs/operating.md says what builds can reach).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from twistedipc.attempts.folder import step_failed
from twistedipc.builds.attempt import Checkout, Spec
from twistedipc.builds.lfs import MAX_POINTER, is_pointer
from twistedipc.disk.files import read_file, write_file

_FULL_ID = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_SHORT_ID = re.compile(r"[0-9a-f]{7,64}\Z")

# Digits of an id in a repository with SHA-256 ids, and what is put behind the name of such a one's mirror.
_SHA256_DIGITS = 64
_SHA256_SUFFIX = ".sha256"

#: How many files with the attribute of Git LFS are looked into, and how many of the pointers are named.
_LFS_FILES = 1000
_LFS_NAMED = 3

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "advice.detachedHead=false",
    "gc.autoDetach=false",  # what outlives git would keep the mirror's lock
    "maintenance.autoDetach=false",
    "log.showSignature=false",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.ssh.allow=always",
    "protocol.git.allow=always",
    "protocol.file.allow=always",  # whether a local repository is allowed was decided when it was named
)

# The mirror's whole configuration: builds run as the same user, so what is there may be theirs.
_MIRROR_CONFIG = "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n"
_SHA256_CONFIG = "[extensions]\n\tobjectformat = sha256\n"


class CheckoutFailed(Exception):
    """There is no working copy. ``str()`` of it is a sentence for the person who asked for the build."""


class _Git:
    def __init__(self, lock: int, environment: dict[str, str]) -> None:
        self._lock = lock
        self._environment = environment

    def run(self, *arguments: str, quiet: bool = False) -> bool:
        """Run git with its output in the log. Return whether it succeeded."""
        return self._call(arguments, capture=False, quiet=quiet).returncode == 0

    def ask(self, *arguments: str, quiet: bool = True) -> str | None:
        """Return what git prints; None if it fails. Why is in the log then, unless ``quiet``."""
        done = self._call(arguments, capture=True, quiet=quiet)
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None

    def _call(self, arguments: tuple[str, ...], *, capture: bool, quiet: bool) -> subprocess.CompletedProcess[bytes]:
        sys.stdout.flush()
        try:
            return subprocess.run(
                ["git", *(part for setting in _SETTINGS for part in ("-c", setting)), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if capture else None,
                stderr=subprocess.DEVNULL if quiet else None,
                env=self._environment,
                check=False,
                # While git lives, the mirror is locked, even if this process is killed.
                pass_fds=[self._lock],
            )
        except FileNotFoundError as error:
            raise CheckoutFailed("the builder has no git on its PATH") from error


def _lock_mirror(mirror: Path) -> int:
    mirror.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(f"{mirror}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Waiting: another build is fetching the same repository …", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


class _Mirror:
    """One of a repository's two bare mirrors: for SHA-1 ids, or for SHA-256 ids (one mirror holds one kind)."""

    def __init__(self, git: _Git, folder: Path, *, sha256: bool) -> None:
        self._git = git
        self._sha256 = sha256
        self.folder = folder.with_name(folder.name + _SHA256_SUFFIX) if sha256 else folder

    @property
    def exists(self) -> bool:
        """Whether the mirror has been made."""
        return (self.folder / "HEAD").is_file()

    def prepare(self) -> None:
        """Make the mirror if it isn't there, and make it safe to use. Raises `CheckoutFailed`."""
        kind = "sha256" if self._sha256 else "sha1"
        init = ("init", "--quiet", "--bare", "--template=", f"--object-format={kind}")
        if not self.exists and not self._git.run(*init, "--", str(self.folder)):
            raise CheckoutFailed("the builder can't make a mirror of the repository")
        config = _MIRROR_CONFIG.format(version=int(self._sha256)) + (_SHA256_CONFIG if self._sha256 else "")
        (self.folder / "config").write_text(config)
        # Left by a fetch that was killed: no other fetch is running, since the mirror is locked.
        for path in [*self.folder.glob("*.lock"), *(self.folder / "refs").rglob("*.lock")]:
            path.unlink(missing_ok=True)

    def fetch(self, repository: str, *refs: str, prune: bool = False, quiet: bool = False) -> bool:
        """Fetch these refspecs. Return whether git could."""
        options = ("--quiet", "--force", "--no-write-fetch-head", "--no-recurse-submodules", "--no-tags")
        pruned = ("--prune",) if prune else ()
        at = ("-C", str(self.folder))
        return self._git.run(*at, "fetch", *options, *pruned, "--", repository, *refs, quiet=quiet)

    def commit(self, revision: str) -> str | None:
        """Return the full id of the commit that a full ref name or an id stands for; None if there is none."""
        verify = ("rev-parse", "--verify", "--quiet", "--end-of-options")
        found = self._git.ask("-C", str(self.folder), *verify, revision + "^{commit}")
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


def _has_sha256_ids(git: _Git, repository: str, *patterns: str) -> bool | None:
    """Return whether a repository's ids are SHA-256; None if it has no ref yet. Raises `CheckoutFailed`."""
    listed = git.ask("ls-remote", "--", repository, *patterns, quiet=False)
    if listed is None:
        raise CheckoutFailed(f"{repository} can't be fetched")
    return len(listed.partition("\t")[0]) == _SHA256_DIGITS if listed else None


def _fetch_all(git: _Git, mirrors: tuple[_Mirror, _Mirror], repository: str) -> _Mirror:
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


def _fetch(git: _Git, folder: Path, spec: Spec) -> tuple[_Mirror, str]:
    """Bring the mirror up to date, if necessary. Return it, and the commit that was asked for."""
    mirrors = _Mirror(git, folder, sha256=False), _Mirror(git, folder, sha256=True)
    wanted = spec.commit or spec.ref
    full = wanted.lower() if _FULL_ID.match(wanted.lower()) else ""
    if full:
        known = mirrors[len(full) == _SHA256_DIGITS]
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


def _find(mirror: _Mirror, repository: str, wanted: str, full: str) -> str | None:
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


def check_out(folder: Path, now: Callable[[], int]) -> Checkout:
    """Make ``work`` in the attempt's folder. ``now`` is in milliseconds since the epoch. Raises `CheckoutFailed`."""
    spec = read_file(folder / "spec.json", Spec)
    if spec is None:
        raise CheckoutFailed("the attempt's folder has no spec.json")
    folder_of_mirror = Path(spec.mirror).absolute()
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)  # of a try for which the disk had no room
    lock = _lock_mirror(folder_of_mirror)
    try:
        git = _Git(lock, {**_defaults(), **os.environ})
        # Taken while the mirror is locked: so the times of one builder are in the order in which the ref was read.
        resolved = 0 if spec.commit else now()
        mirror, commit = _fetch(git, folder_of_mirror, spec)
        # In the working copy the setting is kept, so that the build's own use of git runs no hooks of a template.
        clone = ("clone", "--quiet", "--shared", "--no-checkout", "--template=", "-c", "core.hooksPath=/dev/null")
        if not git.run(*clone, "--", str(mirror.folder), str(work)):
            raise CheckoutFailed("the working copy can't be made")
    finally:
        os.close(lock)
    # The lock isn't needed any more: git never deletes an object that a ref has led to within the last two weeks.
    git = _Git(os.open(os.devnull, os.O_RDONLY), {**_defaults(), **os.environ})
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
    pointers = _lfs_pointers(git, work)
    if pointers:
        named = ", ".join(pointers[:_LFS_NAMED]) + (", …" if len(pointers) > _LFS_NAMED else "")
        print(
            f"Files of the repository are in Git LFS ({named}): the working copy has pointers in their place. A step "
            '"git lfs pull" fetches them, if the builder has git-lfs.',
            flush=True,
        )
    return found


def _cut(text: str, size: int) -> str:
    """Return the text, or its beginning and "…": then the runner also hides a part of a value before that."""
    return text if len(text) <= size else text[: size - 1] + "…"


def _lfs_pointers(git: _Git, work: Path) -> list[str]:
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


def _defaults() -> dict[str, str]:
    """Return what git is told unless the operator's environment says otherwise."""
    return {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }


def main(folder: Path) -> int:
    """Run the step. Return its exit code."""
    try:
        found = check_out(folder, now=lambda: time.time_ns() // 1_000_000)
        write_file(folder / "checkout.json", found)
    except (CheckoutFailed, OSError, msgspec.DecodeError) as error:
        return step_failed(folder, error)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
