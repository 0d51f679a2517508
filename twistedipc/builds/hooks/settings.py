"""What a project says of its hooks: which pushes build, and what becomes of the builds before. ``builds.hooks``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from twistedipc.builds import protection
from twistedipc.builds.hooks.events import BRANCHES, TAGS
from twistedipc.builds.names import BadValue

#: What becomes of the builds of a ref when there is a newer push to it. ``cancel-older``: they are cancelled, unless
#: they publish already. ``queue``: what runs goes on to its end, and of what waits only the newest is built.
#: ``skip``: while one goes on, a newer push builds nothing.
Concurrency = Literal["cancel-older", "queue", "skip"]


class HookSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a project says of its hooks."""

    branches: list[str] = []  # patterns of `protection`: pushes to others build nothing; none: all do
    tags: list[str] = []  # patterns: these build, beside those that are protected
    pull_requests: bool = True  # whether pull requests build
    poll_pull_requests: bool = False  # whether polling looks for them, and has each wait for a member's leave
    previews: Concurrency = "cancel-older"
    production: Concurrency = "queue"


def checked(settings: HookSettings) -> HookSettings:
    """Return the settings, with each pattern once. Raises `BadValue`."""
    for pattern in settings.tags:
        if pattern.startswith(BRANCHES):
            raise BadValue(f"{pattern!r} is a branch, not a tag")
    return msgspec.structs.replace(
        settings, branches=protection.check(settings.branches), tags=protection.check(settings.tags)
    )


def builds_branch(settings: HookSettings, full: str, head: str) -> bool:
    """
    Return whether pushes to a branch build.

    :param full: its full name
    :param head: the branch that the repository's HEAD stands for, as far as it is known
    """
    return not settings.branches or protection.is_protected(settings.branches, full, head)


def builds_tag(settings: HookSettings, full: str, protected: Sequence[str], head: str) -> bool:
    """Return whether a tag builds: it is protected, or named."""
    named = [each if each.startswith(("tags/", TAGS)) else f"tags/{each}" for each in settings.tags]
    return protection.is_protected([*named, *protected], full, head)
