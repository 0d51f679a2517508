"""
The checkout step: ``python -m twistedipc.runner.checkout FOLDER``, started by ``course``; its output is the log.

The repository's bare mirror, shared by all attempts, is brought up to date under a lock; the ref is resolved to a full
commit id; a working copy that borrows the mirror's objects is made of that commit; checkout.json says what was found.

Nothing in the mirror or in the repository can make git run anything: no hooks, no templates, a configuration that is
written anew each time, and only protocols that ``names.repository`` allows.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from twistedipc.builds.attempt import Checkout, Spec, read_file, step_failed, write_file

_FULL_ID = re.compile(r"[0-9a-f]{40}\Z")
_SHORT_ID = re.compile(r"[0-9a-f]{7,40}\Z")

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
_MIRROR_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"


class CheckoutFailed(Exception):
    """There is no working copy. ``str()`` of it is a sentence for the person who asked for the build."""


class _Git:
    def __init__(self, lock: int, environment: dict[str, str]) -> None:
        self._lock = lock
        self._environment = environment

    def run(self, *arguments: str, quiet: bool = False) -> bool:
        """Run git with its output in the log: whether it succeeded."""
        return self._call(arguments, capture=False, quiet=quiet).returncode == 0

    def ask(self, *arguments: str) -> str | None:
        """What git prints; None if it fails."""
        done = self._call(arguments, capture=True, quiet=True)
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


def _prepare_mirror(git: _Git, mirror: Path) -> None:
    if not (mirror / "HEAD").is_file() and not git.run("init", "--quiet", "--bare", "--template=", "--", str(mirror)):
        raise CheckoutFailed("the builder can't make a mirror of the repository")
    (mirror / "config").write_text(_MIRROR_CONFIG)
    # Of a fetch that was killed; nobody else can be at it, since the mirror is locked.
    for path in [*mirror.glob("*.lock"), *(mirror / "refs").rglob("*.lock")]:
        path.unlink(missing_ok=True)


def _resolve(git: _Git, mirror: Path, ref: str) -> str | None:
    """The full commit id of a branch, a tag, or a commit id, in this order; None if the mirror has none such."""
    candidates = [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    if ref.startswith(("refs/heads/", "refs/tags/")):
        candidates.insert(0, ref)
    if _SHORT_ID.match(ref):
        candidates.append(ref)
    for candidate in candidates:
        found = git.ask(
            "-C", str(mirror), "rev-parse", "--verify", "--quiet", "--end-of-options", candidate + "^{commit}"
        )
        if found:
            return found.strip()
    return None


def _fetch(git: _Git, mirror: Path, spec: Spec) -> str:
    """Bring the mirror up to date, if it must be: the commit that was asked for."""
    wanted = spec.commit or spec.ref
    if _FULL_ID.match(wanted) and (known := _resolve(git, mirror, wanted)) == wanted:
        print(f"Commit {known} is here already.", flush=True)
        return known
    print(f"Fetching {spec.repository} …", flush=True)
    refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    quiet = ("--quiet", "--force", "--no-write-fetch-head", "--no-recurse-submodules")
    if not git.run("-C", str(mirror), "fetch", *quiet, "--prune", "--", spec.repository, *refs):
        raise CheckoutFailed(f"{spec.repository} can't be fetched")
    commit = _resolve(git, mirror, wanted)
    if commit is None and _FULL_ID.match(wanted):
        # A commit that no branch or tag leads to: some servers give it if asked for it by its id.
        git.run("-C", str(mirror), "fetch", *quiet, "--", spec.repository, wanted, quiet=True)
        commit = _resolve(git, mirror, wanted)
    if commit is None:
        raise CheckoutFailed(f"there is no branch, tag or commit {wanted} in {spec.repository}")
    return commit


def check_out(folder: Path) -> Checkout:
    """Make ``work`` in the attempt's folder. Raises `CheckoutFailed`."""
    spec = read_file(folder / "spec.json", Spec)
    if spec is None:
        raise CheckoutFailed("the attempt's folder has no spec.json")
    mirror = Path(spec.mirror).absolute()
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)  # of a try for which the disk had no room
    lock = _lock_mirror(mirror)
    try:
        git = _Git(lock, {**_defaults(), **os.environ})
        _prepare_mirror(git, mirror)
        commit = _fetch(git, mirror, spec)
        # In the working copy the setting is kept, so that the build's own use of git runs no hooks of a template.
        clone = ("clone", "--quiet", "--shared", "--no-checkout", "--template=", "-c", "core.hooksPath=/dev/null")
        if not git.run(*clone, "--", str(mirror), str(work)):
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
    found = Checkout(commit=commit, subject=subject[:500], author=author[:200])
    print(f"Commit {commit}: {found.subject}", flush=True)
    if (work / ".gitmodules").exists():
        print("The repository has submodules: they aren't checked out.", flush=True)
    return found


def _defaults() -> dict[str, str]:
    """What git is told unless the operator's environment says otherwise."""
    return {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }


def main(folder: Path) -> int:
    """The step: its exit code."""
    try:
        found = check_out(folder)
        write_file(folder / "checkout.json", found)
    except (CheckoutFailed, OSError, msgspec.DecodeError) as error:
        return step_failed(folder, error)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
