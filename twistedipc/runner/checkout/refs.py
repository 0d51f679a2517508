"""
What was asked for, a branch, a tag, a full name or an id, becomes a commit of the mirror. Used by ``working_copy``.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from twistedipc.attempts.mirrors import SHA256
from twistedipc.builds.access import Access
from twistedipc.runner.checkout.failures import why_not_fetched
from twistedipc.runner.checkout.git import CheckoutFailed, Git
from twistedipc.runner.checkout.mirror import SHA256_DIGITS, Mirror, raise_if_broken

_FULL_ID = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")

_ALL = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")

#: What means the commit that the repository itself shows first: of its default branch.
HEAD = "HEAD"
_BRANCH = "refs/heads/"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A repository to be fetched."""

    repository: str
    folder: Path  # of its mirror
    project: str
    access: Access | None = None  # what its host is shown; then it is asked each time, whatever the mirror has

    @property
    def mirrors(self) -> tuple[Path, Path]:
        """The folders of its two mirrors, for SHA-1 ids and for SHA-256 ids."""
        return self.folder, self.folder.with_name(self.folder.name + SHA256)

    def failed(self, git: Git) -> CheckoutFailed:
        """Return why it couldn't be fetched, by what git has said."""
        return CheckoutFailed(why_not_fetched(self.repository, git.said, self.access, self.project))


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a mirror that is up to date."""

    mirror: Mirror
    commit: str
    head: str = ""  # the branch that the repository's HEAD stands for; "": it stands for none, or wasn't asked for
    protected: str = ""  # the protected ref from which the commit can be reached; "": none, or it wasn't asked for
    led: str = ""  # the same of the refs that lead to an environment


class Head(msgspec.Struct, frozen=True):
    """What a repository says of its HEAD."""

    sha256: bool | None = None  # whether its ids are SHA-256; None: it has no commit
    branch: str = ""


def ask_head(git: Git, source: Source, *, quiet: bool = False) -> Head | None:
    """Return what the repository says of its HEAD; None if it can't be asked."""
    listed = git.ask("ls-remote", "--symref", "--", source.repository, HEAD, quiet=quiet)
    if listed is None:
        return None
    sha256, branch = None, ""
    for line in listed.splitlines():
        value, _, name = line.partition("\t")
        if name == HEAD and value.startswith("ref: "):
            branch = value.removeprefix("ref: ").removeprefix(_BRANCH)
        elif name == HEAD:
            sha256 = len(value) == SHA256_DIGITS
    return Head(sha256, branch)


def fetch(git: Git, source: Source, wanted: str, *, head: bool = False, always: bool = False, ref: str = "") -> Found:
    """
    Bring the mirror up to date, if necessary. Return it, and the commit that was asked for. Raises `BadMirror`, or
    `CheckoutFailed`.

    :param head: find out which branch the repository's HEAD stands for, whatever is wanted
    :param always: bring the mirror up to date even if it has the commit
    :param ref: where a commit that is wanted was found before
    """
    mirrors = Mirror(git, source.folder, sha256=False), Mirror(git, source.folder, sha256=True)
    full = wanted.lower() if _FULL_ID.match(wanted.lower()) else ""
    if full and source.access is None and not always:
        known = mirrors[len(full) == SHA256_DIGITS]
        if known.exists:
            known.prepare()
            if known.resolve(wanted) == full:
                print(f"Commit {full} is here already.", flush=True)
                return Found(mirror=known, commit=full)
    print(f"Fetching {source.repository} …", flush=True)
    mirror, about = _bring_up_to_date(git, mirrors, source, head=head or wanted == HEAD)
    branch = about.branch if about is not None else ""
    wanted_now = f"{_BRANCH}{branch}" if wanted == HEAD and branch else wanted
    commit = _find(mirror, source.repository, wanted_now, full, ref)
    if commit is None:
        what = f"branch {branch}, which its HEAD stands for," if wanted == HEAD and branch else wanted
        raise CheckoutFailed(f"there is no branch, tag or commit {what} in {source.repository}")
    _check_is(commit, full, source)
    if wanted == HEAD and branch:
        print(f"HEAD stands for the branch {branch}.", flush=True)
    return Found(mirror=mirror, commit=commit, head=branch)


def _check_is(commit: str, full: str, source: Source) -> None:
    """
    Raise `CheckoutFailed` if a full id leads to another commit. It means one commit and no other: the apiserver would
    not believe the end of such a build. (Of an id of SHA-256 the first digits may look like one of SHA-1.)
    """
    if full and not commit.startswith(full):
        raise CheckoutFailed(
            f"{full} is the id of no commit in {source.repository}: it stands for the commit {commit}, as an "
            "annotated tag's id does. Ask for that commit, or for the tag by its name"
        )


def _bring_up_to_date(
    git: Git, mirrors: tuple[Mirror, Mirror], source: Source, *, head: bool
) -> tuple[Mirror, Head | None]:
    """Fetch, and return the mirror that has it; and, if wanted, what is to be known of HEAD, as far as it can be."""
    sha1, sha256 = mirrors
    if not (sha1.exists or sha256.exists):
        about = ask_head(git, source)
        if about is None:
            raise source.failed(git)
        return _fetch_all(git, mirrors, source, sha256 if about.sha256 else sha1), about
    mirror = sha256 if sha256.exists else sha1
    if not head:
        return _fetch_all(git, mirrors, source, mirror), None
    from concurrent.futures import ThreadPoolExecutor  # with logging behind it, and most checkouts need no thread

    with ThreadPoolExecutor(1) as threads:
        # A connection of its own, while the branches are fetched.
        asked = threads.submit(ask_head, git.another(), source, quiet=True)
        mirror = _fetch_all(git, mirrors, source, mirror)
    return mirror, asked.result()


def _fetch_all(git: Git, mirrors: tuple[Mirror, Mirror], source: Source, mirror: Mirror) -> Mirror:
    """
    Fetch into this mirror, or into the other if the repository has ids of that kind now. Return it. Raises
    `CheckoutFailed`, or `BadMirror`.
    """
    mirror.prepare()
    if mirror.fetch(source.repository, *_ALL, prune=True):
        return mirror
    failed = source.failed(git)
    raise_if_broken(git)
    # Perhaps the repository is another than the one that the mirror was made for.
    listed = git.ask("ls-remote", "--", source.repository, quiet=True)
    if listed:
        found = len(listed.partition("\t")[0]) == SHA256_DIGITS
        other = mirrors[found]
        if other is not mirror:
            kind = "SHA-256" if found else "SHA-1"
            print(f"The repository's ids are {kind} now: it gets another mirror.", flush=True)
            other.prepare()
            if other.fetch(source.repository, *_ALL, prune=True):
                return other
    raise failed


def _find(mirror: Mirror, repository: str, wanted: str, full: str, ref: str) -> str | None:
    """
    Return the commit that was asked for, in a mirror that is up to date. ``full`` is its full id, if known, and ``ref``
    the ref that led to it then.
    """
    if wanted == HEAD:
        return mirror.fetch_other(repository, wanted)
    commit = mirror.resolve(wanted)
    if commit is not None:
        return commit
    if full:
        # A commit that no branch or tag leads to: some servers give it if asked for it by its id.
        mirror.fetch(repository, full, quiet=True)
        found = mirror.resolve(full)
        if found is None and ref.startswith("refs/"):
            mirror.fetch(repository, ref, quiet=True)  # a pull request's: not all servers give a commit by its id
            found = mirror.resolve(full)
        return found
    if "/" in wanted:
        return mirror.fetch_other(repository, wanted if wanted.startswith("refs/") else f"refs/{wanted}")
    return None
