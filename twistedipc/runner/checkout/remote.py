"""
Ask a repository's host without a checkout: ``python -m twistedipc.runner.checkout.remote FOLDER``, started by
``runner.remote``. In the folder are question.json (`builds.remotes.RemoteJob`, without what is secret), and what the
host is shown, as a checkout has it; the answer is in ``out``.

No mirror is touched. For the message of a commit, and for what it changes, no more is fetched than that: commits, and
trees where the project watches paths, as far as the host leaves out what isn't wanted.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from twistedipc.attempts.addresses import look_up
from twistedipc.attempts.folder import CREDENTIALS, out_of, step_failed
from twistedipc.builds.access import Access
from twistedipc.builds.attempt import Contact
from twistedipc.builds.hooks.events import MAX_CHANGED, MAX_MESSAGE, says_skip
from twistedipc.builds.origin import shown_text
from twistedipc.builds.places import ALLOW, place_of, problem_of
from twistedipc.builds.recognition.paths import touches
from twistedipc.builds.remotes import (
    MAX_SAID,
    CommitList,
    CommitsQuestion,
    DescribedCommit,
    Moved,
    RefList,
    RefsQuestion,
    RemoteJob,
    listed,
)
from twistedipc.disk.files import read_file, write_file
from twistedipc.runner.checkout.credentials import ACCESS, Credentials
from twistedipc.runner.checkout.git import CheckoutFailed, Git, TooMuch, environment_of_git
from twistedipc.runner.checkout.mirror import SHA256_DIGITS
from twistedipc.runner.checkout.refs import Source, ask_head

#: The name of the file with the question.
QUESTION = "question.json"

#: What is listed where pull requests are looked for.
PATTERNS = ["refs/heads/*", "refs/tags/*", "refs/pull/*/head", "refs/merge-requests/*/head"]

#: The most bytes of memory that git, or what it starts, may have for itself, and the most that a file may have: git
#: keeps all that a host lists in memory, and writes down all that it sends.
MEMORY = 1 << 30
FILE = 512 << 20

#: The most bytes of the list of a commit's paths.
_MAX_PATHS = 8 << 20


class Asking:
    """One question. ``place``: where a repository can be made."""

    def __init__(self, git: Git, source: Source, place: Path) -> None:
        self._git = git
        self._source = source
        self._place = place
        #: for what works on what was fetched
        self._held = git.writing_below(place.parent)

    def refs(self, question: RefsQuestion) -> RefList:
        """Return the branches and tags, and the pull requests if these are asked for. Raises `CheckoutFailed`."""
        try:
            # With patterns in the place of the options the host may list all that it has, and git leaves out the rest.
            kinds, patterns = ([], PATTERNS) if question.pulls else (["--heads", "--tags"], [])
            repository = self._source.repository
            said = self._git.ask_bytes("ls-remote", *kinds, "--", repository, *patterns, most=MAX_SAID)
        except TooMuch as error:
            raise CheckoutFailed(f"the host of {self._source.repository} lists branches without an end") from error
        if said is None:
            raise self._source.failed(self._git)
        head = ask_head(self._git, self._source, quiet=True) if question.head else None
        return listed(bytes(said).split(b"\n"), question, head.branch if head is not None else "")

    def commits(self, question: CommitsQuestion) -> CommitList:
        """Return what is known of the commits."""
        found = [self._commit(number, moved, question.watch) for number, moved in enumerate(question.moved)]
        return CommitList(commits=[each for each in found if each is not None])

    def _commit(self, number: int, moved: Moved, watch: Sequence[str]) -> DescribedCommit | None:
        place = self._place / str(number)
        kind = "sha256" if len(moved.commit) == SHA256_DIGITS else "sha1"
        if not self._git.run("init", "--quiet", "--bare", "--template=", f"--object-format={kind}", str(place)):
            return None
        at = ("-C", str(place))
        # What there is to be fetched is decided by the ref, since not all hosts give a commit by its id.
        if not self._fetch(at, f"+{moved.ref}:refs/asked/new", trees=bool(watch)):
            return None
        tip = self._held.ask(*at, "rev-parse", "--verify", "--quiet", "--end-of-options", "refs/asked/new^{commit}")
        commit = tip.strip() if tip else ""
        options = ("--no-show-signature", "--encoding=UTF-8", "--format=%B")
        message = self._held.ask(*at, "log", "-1", *options, commit, "--") if commit else None
        if message is None:
            return None
        return DescribedCommit(
            ref=moved.ref,
            commit=commit,
            subject=shown_text(message),
            skip=says_skip(message[:MAX_MESSAGE]),
            touches=self._touches(at, moved.before, commit, watch) if watch else None,
        )

    def _touches(self, at: Sequence[str], before: str, commit: str, watch: Sequence[str]) -> bool | None:
        """Return whether something is changed that is watched; None if that can't be known."""
        if not before or not self._fetch(at, f"+{before}:refs/asked/old", trees=True):
            return None  # it is new, or was pushed away
        options = ("--name-only", "-r", "-z", "--no-renames", "--no-ext-diff")
        try:
            said = self._held.ask_bytes(*at, "diff-tree", *options, before, commit, "--", most=_MAX_PATHS)
        except TooMuch:
            return None
        if said is None:
            return None
        paths = [each.decode("utf-8", "replace") for each in said.split(b"\0") if each]
        return None if len(paths) > MAX_CHANGED else touches(watch, paths)

    def _fetch(self, at: Sequence[str], refspec: str, *, trees: bool) -> bool:
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--depth=1")
        least = "--filter=blob:none" if trees else "--filter=tree:0"
        return self._git.run(*at, "fetch", *options, least, "--", self._source.repository, refspec, quiet=True)


def ask(folder: Path) -> RefList | CommitList:
    """Return the answer to the question in this folder. Raises `CheckoutFailed`, OSError."""
    job = read_file(folder / QUESTION, RemoteJob)
    if job is None:
        raise CheckoutFailed(f"the folder has no {QUESTION}")
    spec, access = job.spec, read_file(folder / CREDENTIALS / ACCESS, Access)
    # Where it has a network of its own, the gate looks: in there, every address is this machine's.
    if spec.elsewhere and spec.isolation.kind == "none":
        host, _ = place_of(spec.repository)
        problem = problem_of(host, look_up(host)) if host else ""
        if problem:
            raise CheckoutFailed(f"{spec.repository} isn't asked: {problem}. {ALLOW}")
    with Credentials(folder / CREDENTIALS, access, spec.repository) as credentials:
        if access is not None and not credentials.are_for(spec.repository):
            raise CheckoutFailed(f"the project's credentials are for {access.host}, not for {spec.repository}")
        nothing = os.open(os.devnull, os.O_RDONLY)
        git = Git(nothing, {**environment_of_git(os.environ), **credentials.environment}, credentials.settings)
        source = Source(repository=spec.repository, folder=Path(spec.mirror), project=spec.project, access=access)
        asking = Asking(git, source, out_of(folder) / "fetched")
        try:
            if job.refs is not None:
                return asking.refs(job.refs)
            assert job.commits is not None
            return asking.commits(job.commits)
        finally:
            keys = credentials.contacted()
            if keys:
                write_file(out_of(folder) / "contact.json", Contact(host_keys=keys))


def main(folder: Path) -> int:
    """Answer. Return the exit code."""
    for limit, most in ((resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_FSIZE, FILE)):
        resource.setrlimit(limit, (most, most))
    try:
        answer = ask(folder)
        write_file(out_of(folder) / "answer.json", answer)
    except (CheckoutFailed, OSError, msgspec.DecodeError) as error:
        return step_failed(out_of(folder), error)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
