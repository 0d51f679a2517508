"""
Questions to a repository's host without a build: which branches, tags and pull requests are there, and what of a commit
decides whether it builds. Bottom layer, pure. The apiserver asks them, a builder has them answered by git, with what a
checkout of the repository is given; ``messages`` carries both.

A host can say anything, without an end. So an answer has a bound on everything, and what is no branch and no tag that
could be built is left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from twistedipc.builds import protection
from twistedipc.builds.access import Access
from twistedipc.builds.attempt import Spec
from twistedipc.builds.hooks.events import BRANCHES, TAGS
from twistedipc.builds.names import MAX_REF, BadValue, ref, shown

#: Minutes between two looks at a project's repository: as long as nothing is said, and at most.
DEFAULT_EVERY = 5
MAX_EVERY = 1440

#: The most branches and tags of an answer, and the most bytes of their names and ids: it is one frame of the link.
MAX_REFS = 5000
MAX_REFS_BYTES = 640 << 10

#: The most pull requests of an answer beside these: those with the highest numbers, of some hundred bytes each.
MAX_PULLS = 500

#: The most bytes that git may say: more than a million refs. (What it keeps in memory itself has a bound too.)
MAX_SAID = 128 << 20

#: The most commits that are asked about at once.
MAX_MOVED = 20

#: The most characters of a reason.
MAX_FAILED = 1000

_LINE = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64})\t(refs/(?:heads|tags)/[^\n]+)")
_OF_PULL = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64})\t(refs/(?:pull|merge-requests)/([1-9][0-9]{0,17})/head)")
_PEELED = b"^{}"

#: Where hosts have the commit of a pull request: GitHub, Gitea and Forgejo, and GitLab.
_PULL = re.compile(r"refs/(?:pull|merge-requests)/([1-9][0-9]{0,17})/head")

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Remote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A project's repository, and how it is reached: as a checkout of an attempt is told it."""

    project: str
    repository: str
    access: Access | None = None  # what its host is shown
    hosts: list[str] = []  # that the project names beside the repository's own
    elsewhere: bool = False  # it must be at no address of the builder's machine or of its cloud


class ListedRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a branch or a tag is."""

    name: str  # the full name
    commit: str  # of an annotated tag, the commit to which it leads


class RefList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The branches and tags of a repository, by name; or why they couldn't be listed."""

    refs: list[ListedRef] = []
    narrowed: bool = False  # branches that no pattern names are left out: all together are too many
    unusable: int = 0  # refs that were left out since nothing can be built under such a name
    pulls_from: int = 0  # pull requests from this number on are told, as refs after the others; 0: none were looked for
    head: str = ""  # the branch that HEAD stands for; "": it wasn't asked for, or stands for none
    host_keys: list[str] = []  # lines of known_hosts that were seen at the first contact, even if it failed after that
    failed: str = ""  # why there is no list, in a sentence; "": there is one


class Moved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A branch or a tag that has a new commit."""

    ref: str  # the full name
    commit: str
    before: str = ""  # where it was; "": it is new


class DescribedCommit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of a commit decides whether it builds, and what people are shown of it."""

    ref: str  # as in `Moved`
    commit: str  # where the ref is now
    subject: str = ""  # the first line of its message
    skip: bool = False  # its message says that it isn't to be built
    touches: bool | None = None  # whether something is changed that the project watches; None: that isn't known


class CommitList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Those of the commits asked about of which something is known."""

    commits: list[DescribedCommit] = []
    failed: str = ""  # why nothing is known, in a sentence


class RefsQuestion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which branches and tags? All branches, if these aren't too many; else those of the patterns."""

    branches: list[str] = []  # patterns of `protection`; none: all
    tags: list[str] = []  # patterns: only these tags are told
    known_head: str = ""  # the branch that HEAD stands for, as far as it is known
    head: bool = False  # tell it
    pulls: bool = False  # tell the newest pull requests


class CommitsQuestion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of these commits decides whether they build?"""

    moved: list[Moved]
    watch: list[str] = []  # patterns of paths; none: what is changed needn't be known


class RemoteJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the process is told that answers one question."""

    folder: str  # which it makes, and removes
    spec: Spec  # of an attempt that would check the repository out
    timeout: float  # seconds
    access: Access | None = None
    refs: RefsQuestion | None = None
    commits: CommitsQuestion | None = None  # if ``refs`` is None


def listed(lines: Iterable[bytes], question: RefsQuestion, head: str = "") -> RefList:
    """
    Return what git has listed, by name: an annotated tag as the commit to which it leads.

    :param lines: as ``git ls-remote`` prints them, ``ID<tab>NAME``
    :param head: the branch that HEAD stands for, if it was asked for
    """
    found: dict[bytes, bytes] = {}
    pulls: list[tuple[int, ListedRef]] = []
    unusable = 0
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is not None:
            commit, name = match.groups()
            found[name.removesuffix(_PEELED)] = commit  # after the tag itself comes what it leads to
        elif question.pulls and (pull := _OF_PULL.fullmatch(line)) is not None:
            pulls.append((int(pull[3]), ListedRef(pull[2].decode(), pull[1].decode())))
        else:
            unusable += bool(line)
    refs = []
    for name, commit in found.items():
        usable = _usable(name)
        if usable is None:
            unusable += 1
        else:
            refs.append(ListedRef(usable, commit.decode()))
    answer = _within_bounds(sorted(refs, key=lambda each: each.name), question, unusable, head)
    return _with_pulls(answer, pulls) if question.pulls and not answer.failed else answer


def _with_pulls(answer: RefList, pulls: list[tuple[int, ListedRef]]) -> RefList:
    """Return an answer with the newest pull requests: hosts keep the refs of all that there ever were."""
    kept = sorted(pulls, key=lambda each: (each[0], each[1].name))[-MAX_PULLS:]
    since = kept[0][0] if len(kept) < len(pulls) else 1
    return msgspec.structs.replace(answer, refs=[*answer.refs, *(each for _, each in kept)], pulls_from=since)


def pull_number(full: str) -> int:
    """Return the number of the pull request whose commit a ref has; 0: it is none of a pull request."""
    match = _PULL.fullmatch(full)
    return 0 if match is None else int(match[1])


def checked(found: RefList) -> RefList:
    """Return a list of refs, if it is what `listed` may return. Raises `BadValue`: it comes from a builder."""
    pulls = [each for each in found.refs if pull_number(each.name)]
    if len(found.refs) - len(pulls) > MAX_REFS or len(pulls) > MAX_PULLS:
        raise BadValue(f"it has more than {MAX_REFS} refs, or {MAX_PULLS} pull requests")
    if any(not 0 < found.pulls_from <= pull_number(each.name) for each in pulls):
        raise BadValue("it has a pull request that it doesn't look for")
    for each in found.refs:
        ref(each.name)
        is_known = each.name.startswith((BRANCHES, TAGS)) or pull_number(each.name) > 0
        if not is_known or not _COMMIT.fullmatch(each.commit):
            raise BadValue(f"{shown(each.name, 100)} is neither a branch nor a tag with a commit")
    if len({each.name for each in found.refs}) < len(found.refs):
        raise BadValue("it has a ref twice")
    return found


def _usable(name: bytes) -> str | None:
    """Return a ref's name as text; None if nothing can be built under it."""
    if len(name) > MAX_REF:
        return None
    try:
        return ref(name.decode())
    except (BadValue, UnicodeDecodeError):
        return None


def _within_bounds(refs: Sequence[ListedRef], question: RefsQuestion, unusable: int, head: str) -> RefList:
    known = head or question.known_head
    tags = [each for each in refs if each.name.startswith(TAGS) and wants(question, each.name, known)]
    branches = [each for each in refs if each.name.startswith(BRANCHES)]
    narrowed = _are_too_many([*branches, *tags])
    if narrowed:
        branches = [each for each in branches if wants(question, each.name, known)]
    kept = [*branches, *tags]
    if _are_too_many(kept):
        return RefList(
            unusable=unusable,
            head=head,
            failed=f"it has {len(kept)} branches and tags that the project's filters let through, and at most "
            f"{MAX_REFS} can be looked after by polling ({MAX_REFS_BYTES >> 10} KiB with their names): name those that "
            "are to build (--branch, --tag), or use a hook",
        )
    return RefList(refs=kept, narrowed=narrowed, unusable=unusable, head=head)


def _are_too_many(refs: Sequence[ListedRef]) -> bool:
    return len(refs) > MAX_REFS or sum(map(_bytes, refs)) > MAX_REFS_BYTES


def _bytes(each: ListedRef) -> int:
    """Return how many bytes a ref has in JSON. Of what must be escaped there, only quotes can be in its name."""
    return len(each.name.encode()) + each.name.count('"') + len(each.commit) + 8


def wants(question: RefsQuestion, full: str, head: str) -> bool:
    """
    Return whether the patterns name a branch or a tag.

    :param full: its full name
    :param head: the branch that HEAD stands for, as far as it is known
    """
    if full.startswith(TAGS):
        return protection.is_protected(question.tags, full, head)
    return not question.branches or protection.is_protected(question.branches, full, head)
