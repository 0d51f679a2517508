"""Whether an event builds, as far as the event and the project's settings say it. ``builds.hooks``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from twistedipc.builds import names, protection
from twistedipc.builds.hooks.events import BRANCHES, HookEvent
from twistedipc.builds.hooks.settings import HookSettings, builds_branch, builds_tag
from twistedipc.builds.names import HEAD, BadValue
from twistedipc.builds.recognition.paths import touches

#: What is to be done. ``wait``: it builds once a member of the project says so.
Do = Literal["build", "wait", "gone", "nothing"]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a project says that matters for its hooks."""

    default_ref: str
    head: str  # the branch that the repository's HEAD stands for, as far as it is known
    protected: Sequence[str]  # patterns
    watch: Sequence[str]  # patterns of paths
    settings: HookSettings


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done."""

    do: Do
    ref: str = ""  # of the build, as a project's refs are written
    why: str = ""  # of ``nothing``, and of ``wait``: in a sentence for people


def decide(event: HookEvent, about: About) -> Verdict:
    """Return what an event leads to, apart from what came before it."""
    match event.what:
        case "ping":
            return Verdict(do="nothing", why="it arrives: nothing else was wanted")
        case "other":
            return Verdict(do="nothing", why=event.why)
        case "gone":
            return Verdict(do="gone")
        case _:
            pass
    if why := _why_not(event, about):
        return Verdict(do="nothing", why=why)
    if event.fork and not event.commit:
        return Verdict(do="nothing", why="it comes from a fork, and doesn't say which commit it brings")
    if event.fork:
        whose = "it may come from a fork" if event.kind == "poll" else "it comes from a fork"
        return Verdict(do="wait", ref=pull_ref(event), why=f"{whose}: a member must look at it, and allow this commit")
    try:
        return Verdict(do="build", ref=names.ref(ref_of(event, about)))
    except BadValue:
        return Verdict(do="nothing", why=f"{names.shown(event.ref, 100)} isn't a name that a ref can have")


def _why_not(event: HookEvent, about: About) -> str:
    """Return why an event doesn't build; "" if it does."""
    settings = about.settings
    if event.what == "tag" and not builds_tag(settings, event.ref, about.protected, about.head):
        return f"the tag {event.branch} isn't protected, and isn't among those that build"
    if event.what == "push" and not builds_branch(settings, event.ref, about.head or event.default_branch):
        return f"{event.branch} isn't among the branches that build: {', '.join(settings.branches)}"
    if event.what == "pull_request" and not settings.pull_requests:
        return "the project builds no pull requests"
    if event.what == "pull_request" and not event.fork and not builds_branch(settings, event.ref, about.head):
        return f"{event.branch} isn't among the branches that build: {', '.join(settings.branches)}"
    if event.skip:
        return "the commit's message says so: [skip ci]"
    if event.changed is not None and not touches(about.watch, event.changed):
        return f"it changes nothing that the project watches: {', '.join(about.watch)}"
    return ""


def ref_of(event: HookEvent, about: About) -> str:
    """
    Return the ref that a build of an event is asked for with: a branch by its name alone, as people write it, unless
    that could mean something else. The repository's default branch is HEAD as long as nobody knows which one that is.
    """
    if event.what == "tag":
        return event.ref
    branch = event.ref.removeprefix(BRANCHES)
    if about.default_ref == HEAD and not about.head and branch == event.default_branch:
        return HEAD
    if names.spellings(branch) != names.spellings(event.ref) or branch == HEAD or protection.is_commit(branch):
        return event.ref
    return branch


def lane_of(event: HookEvent) -> str:
    """Return the full name under which an event's builds come one after another."""
    return pull_ref(event) if event.fork else event.ref


def pull_ref(event: HookEvent) -> str:
    """Return the ref at the host that leads to a pull request's head."""
    if event.kind == "poll":
        return event.ref  # where it was seen: of the branch that it comes from nothing is known
    if event.kind == "gitlab":
        return f"refs/merge-requests/{event.number}/head"
    return f"refs/pull/{event.number}/head"
