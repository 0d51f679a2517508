"""
The push step: ``python -m twistedipc.runner.checkout.pushing FOLDER``, started by ``course``; its output is the log.

It makes a commit of the versions that a build has made, on top of the commit that was built, and pushes it to the ref
that was built: forwards only. It has nothing of the build's but the files in release.json. It makes the commit in a
repository of its own, from what it fetches for that from the host, so that neither the working copy nor a mirror can
put anything into it; and no hook is run.

A commit of one build is always the same, to its time. So if the answer to a push is lost, or a later attempt comes, the
ref says whether it has arrived: a push is repeated only if it hasn't.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from twistedipc.attempts.folder import CREDENTIALS, RELEASE, out_of, step_failed
from twistedipc.builds.access import Access
from twistedipc.builds.attempt import Checkout, Release, Spec
from twistedipc.builds.names import HEAD
from twistedipc.disk.files import read_file
from twistedipc.runner.checkout.credentials import ACCESS, Credentials
from twistedipc.runner.checkout.failures import why_not_fetched, why_not_pushed
from twistedipc.runner.checkout.git import CheckoutFailed, Git, environment_of_git
from twistedipc.runner.checkout.mirror import SHA256_DIGITS

#: How far back the commit is looked for, where the ref has gone on.
DEPTH = 50

#: Seconds between the looks at the ref after a push that may have arrived.
BACKOFF = (0.0, 2.0, 5.0)

_SETTINGS = ("push.gpgSign=false", "commit.gpgSign=false", "push.followTags=false", "core.longPaths=true")
_PLAIN_FILES = ("100644", "100755")


class NotPushed(CheckoutFailed):
    """The commit isn't pushed, so nothing is published. ``str()`` of it is a sentence for people."""


class Pushing:
    """The push of one commit."""

    def __init__(
        self, git: Git, spec: Spec, access: Access | None, place: Path, sleep: Callable[[float], None]
    ) -> None:
        self._git = git
        self._spec = spec
        self._access = access
        self._place = place  # where the repository is made
        self._at = ("-C", str(place))
        self._sleep = sleep

    def push(self, checkout: Checkout, release: Release) -> str:
        """Return the id of the commit, which the ref leads to, or has led to. Raises `NotPushed`."""
        built = checkout.commit
        ref, tip = self._find()
        self._fetch(built, ref, 1 if tip == built else DEPTH)
        if self._git.ask(*self._at, "cat-file", "-e", f"{built}^{{commit}}") is None:
            raise self._moved(ref, tip, built)
        commit = self._commit(built, release)
        if commit == built:
            print("The commit that was built has these versions already.", flush=True)
            return built
        if tip == built:
            print(f"Pushing {commit} to {ref} …", flush=True)
            self._push(commit, ref, built)
        elif self._git.ask(*self._at, "merge-base", "--is-ancestor", commit, tip) is None:
            raise self._moved(ref, tip, built)
        else:
            print(f"{ref} has {commit} already.", flush=True)
        return commit

    def _find(self) -> tuple[str, str]:
        """Return the full name of the branch that was built, and its commit."""
        asked = self._spec.ref
        name = asked if asked == HEAD or asked.startswith("refs/heads/") else f"refs/heads/{asked}"
        if asked.startswith("heads/"):
            name = f"refs/{asked}"
        listed = self._git.ask("ls-remote", "--symref", "--", self._spec.repository, name)
        if listed is None:
            raise NotPushed(why_not_fetched(self._spec.repository, self._git.said, self._access, self._spec.project))
        full = name
        for line in listed.splitlines():
            value, _, found = line.partition("\t")
            if found == HEAD == name and value.startswith("ref: refs/heads/"):
                full = value.removeprefix("ref: ")
            elif found == name and full != HEAD:  # or nobody knows which branch that is
                return full, value
        raise NotPushed(
            f"{asked} isn't a branch of {self._spec.repository}, so the commit with the new versions can't be pushed "
            "to it, and nothing is published: build a branch, or have versions published without a commit "
            f"(`twistedipc project set {self._spec.project} --push-versions false`)"
        )

    def _fetch(self, built: str, ref: str, depth: int) -> None:
        """Have the commit that was built, and what the ref leads to. No more of their files than the host sends."""
        kind = "sha256" if len(built) == SHA256_DIGITS else "sha1"
        if not self._git.run("init", "--quiet", "--template=", f"--object-format={kind}", str(self._place)):
            raise NotPushed("the builder can't make a repository for the commit with the new versions")
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--filter=blob:none")
        fetched = self._git.run(
            *self._at, "fetch", *options, f"--depth={depth}", "--", self._spec.repository, f"+{ref}:refs/heads/tip"
        )
        if not fetched:
            raise NotPushed(why_not_fetched(self._spec.repository, self._git.said, self._access, self._spec.project))

    def _commit(self, built: str, release: Release) -> str:
        """Make the commit. Return its id, or that of the one that was built if nothing of it changes."""
        git, at = self._git, self._at
        self._asked("read-tree", built)
        for number, (path, content) in enumerate(sorted(release.files.items())):
            entry = git.ask(*at, "ls-files", "--stage", "-z", "--", f":(literal){path}") or ""
            mode = entry.partition(" ")[0] or _PLAIN_FILES[0]
            if mode not in _PLAIN_FILES:
                raise NotPushed(f"{path} isn't a plain file in the commit that was built, so it can't be changed there")
            if content is None:
                self._asked("update-index", "--force-remove", "--", path)
                continue
            file = self._place / f"content-{number}"
            file.write_bytes(content)
            blob = self._asked("hash-object", "-w", "--no-filters", "--", str(file))
            file.unlink()
            self._asked("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}")
        tree = self._asked("write-tree", "--missing-ok")
        if tree == self._asked("rev-parse", "--verify", f"{built}^{{tree}}"):
            return built
        name, _, mail = release.author.removesuffix(">").rpartition(" <")
        people = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (
            ("NAME", name), ("EMAIL", mail), ("DATE", f"@{release.time // 1000} +0000"))}  # fmt: skip
        making = git.with_environment(people)
        commit = making.ask(*at, "commit-tree", "-p", built, "-m", release.message, tree, quiet=False)
        if commit is None:
            raise NotPushed("the commit with the new versions can't be made")
        return commit.strip()

    def _asked(self, *arguments: str) -> str:
        """Return what git prints, of what must succeed."""
        said = self._git.ask(*self._at, *arguments, quiet=False)
        if said is None:
            raise NotPushed(f"the commit with the new versions can't be made: git {arguments[0]} failed")
        return said.strip()

    def _push(self, commit: str, ref: str, built: str) -> None:
        """Push. Raises `NotPushed` if the ref doesn't lead to the commit then."""
        options = ("--no-verify", "--no-recurse-submodules", "--no-signed", "--quiet")
        done = self._git.run(*self._at, "push", *options, "--", self._spec.repository, f"{commit}:{ref}")
        said = self._git.said
        if done:
            return
        tip: str | None = None
        for pause in BACKOFF:
            self._sleep(pause)
            tip = self._tip(ref)
            if tip is not None:
                break
        if tip == commit:
            print(f"{ref} has it all the same.", flush=True)
            return
        if tip not in (None, built):
            raise self._moved(ref, tip or "", built)
        why = why_not_pushed(self._spec.repository, said, self._access, self._spec.project)
        unknown = "" if tip == built else " (whether it has arrived can't be asked now: `twistedipc retry` looks)"
        raise NotPushed(f"the commit with the new versions can't be pushed, so nothing is published: {why}{unknown}")

    def _tip(self, ref: str) -> str | None:
        """Return the commit of the ref; "" if there is none, None if it can't be asked."""
        listed = self._git.ask("ls-remote", "--", self._spec.repository, ref)
        if listed is None:
            return None
        return next((v for v, _, n in (line.partition("\t") for line in listed.splitlines()) if n == ref), "")

    def _moved(self, ref: str, tip: str, built: str) -> NotPushed:
        where = f"is at {tip[:12]} now" if tip else "is gone"
        return NotPushed(
            f"{ref.removeprefix('refs/heads/')} has moved since commit {built[:12]} was built: it {where}. The commit "
            "with the new versions would not fit there, so nothing is published: a build of the newer commit does it"
        )


def push(folder: Path, sleep: Callable[[float], None]) -> str:
    """Push what release.json in the attempt's folder says. Return the commit's id. Raises `CheckoutFailed`, OSError."""
    spec = read_file(folder / "spec.json", Spec)
    checkout = read_file(folder / "checkout.json", Checkout)
    release = read_file(folder / RELEASE, Release)
    if spec is None or checkout is None or release is None:
        raise NotPushed(f"the attempt's folder has no spec.json, no checkout.json or no {RELEASE}")
    access = read_file(folder / CREDENTIALS / ACCESS, Access)
    with Credentials(folder / CREDENTIALS, access, spec.repository) as credentials:
        if access is not None and not credentials.are_for(spec.repository):
            raise NotPushed(f"the project's credentials are for {access.host}, not for {spec.repository}")
        nothing = os.open(os.devnull, os.O_RDONLY)
        environment = {**environment_of_git(os.environ), **credentials.environment}
        git = Git(nothing, environment, (*credentials.settings, *_SETTINGS))
        return Pushing(git, spec, access, out_of(folder) / "pushing", sleep).push(checkout, release)


def main(folder: Path) -> int:
    """Run the step. Return its exit code."""
    try:
        commit = push(folder, time.sleep)
    except (CheckoutFailed, OSError, msgspec.DecodeError) as error:
        return step_failed(out_of(folder), error)
    print(f"The commit with the versions is {commit}.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
