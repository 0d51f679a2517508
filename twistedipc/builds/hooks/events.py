"""What hosts tell, in one form. ``builds.hooks``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from twistedipc.builds.origin import Event, Kind, Origin, shown_text, shown_url

#: What happened. ``gone``: a branch or tag was deleted, or a pull request was closed. ``other``: nothing that builds.
What = Literal["push", "tag", "pull_request", "gone", "ping", "other"]

#: What came of a host's message: a build (made by it, or there already); nothing; it waits for a member's leave; what
#: it says is gone was put an end to.
Came = Literal["built", "ignored", "waits", "gone"]

#: The most changed paths that are taken from a push. Of a push with more it isn't known what it changes.
MAX_CHANGED = 5000

#: The most characters of a commit's message in which it is looked for `SKIP`.
MAX_MESSAGE = 4096

BRANCHES = "refs/heads/"
TAGS = "refs/tags/"

_NOTHING = re.compile(r"0*\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")

#: What a commit's message says that is not to be built, as hosts and other services know it.
SKIP = re.compile(
    r"\[(?:skip[ -]ci|ci[ -]skip|no[ -]ci|skip[ -]actions|actions[ -]skip|skip[ -]twistedipc|twistedipc[ -]skip)\]"
    r"|^skip-checks:\s*true\s*$",
    re.IGNORECASE | re.MULTILINE,
)


class HookEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What a host tells. ``ref`` is a full name, ``before`` and ``commit`` are full ids; each is "" where there is none.
    Of a pull request, ``ref`` is its branch in the repository that it comes from.
    """

    kind: Kind
    what: What
    delivery: str = ""  # the id that the host gave it; "": it gave none
    ref: str = ""
    before: str = ""  # where the ref was before
    commit: str = ""  # where it is now
    number: int = 0  # of the pull request
    base: str = ""  # the branch into which the pull request is to go
    fork: bool = False  # it comes from another repository
    merged: bool = False  # the pull request that is closed was merged
    default_branch: str = ""  # the repository's; "": it isn't told
    title: str = ""
    sender: str = ""
    url: str = ""
    skip: bool = False  # the commit's message says that it isn't to be built
    changed: list[str] | None = None  # the paths that a push changes; None: not all of them are known
    why: str = ""  # of ``other``: what it is, and why nothing follows from it

    @property
    def branch(self) -> str:
        """The name of the branch or tag."""
        return short(self.ref)

    @property
    def origin(self) -> Origin:
        """Where a build of this comes from."""
        event: Event = self.what if self.what in ("tag", "pull_request") else "push"
        return Origin(
            kind=self.kind,
            event=event,
            delivery=self.delivery,
            number=self.number,
            commit=self.commit,
            branch=self.branch,
            base=self.base,
            title=self.title,
            sender=self.sender,
            url=self.url,
            fork=self.fork,
        )


def event(kind: Kind, what: What, **told: object) -> HookEvent:
    """Return an event, with a host's words brought into bounds."""
    made = HookEvent(kind=kind, what=what, **told)  # type: ignore[arg-type]
    return msgspec.structs.replace(
        made,
        before=commit_of(made.before),
        commit=commit_of(made.commit),
        title=shown_text(made.title),
        sender=shown_text(made.sender),
        url=shown_url(made.url),
        why=shown_text(made.why),
    )


def other(kind: Kind, why: str) -> HookEvent:
    """Return an event from which nothing follows."""
    return event(kind, "other", why=why)


def commit_of(told: str) -> str:
    """Return a commit's full id; "" for what is none, or stands for nothing (zeros)."""
    small = told.lower()
    return small if _COMMIT.match(small) and not _NOTHING.match(small) else ""


def pushed(full: str) -> What | None:
    """Return what a push to this ref is; None if it is neither a branch nor a tag."""
    if full.startswith(BRANCHES):
        return "push"
    return "tag" if full.startswith(TAGS) else None


def short(full: str) -> str:
    """Return a ref's name as people call it."""
    return full.removeprefix(BRANCHES).removeprefix(TAGS)


def says_skip(message: str) -> bool:
    """Return whether a commit's message says that it isn't to be built."""
    return SKIP.search(message[:MAX_MESSAGE]) is not None


def changed_by(commits: Sequence[Iterable[Iterable[str]]], *, complete: bool) -> list[str] | None:
    """
    Return the paths that a push's commits change, each once; None if these aren't known to be all.

    :param commits: of each, the lists of paths that it adds, changes and removes
    :param complete: the commits are all of the push
    """
    if not complete or not commits:
        return None
    paths: dict[str, None] = {}
    for lists in commits:
        for names in lists:
            paths.update(dict.fromkeys(names))
        if len(paths) > MAX_CHANGED:
            return None
    return list(paths)
