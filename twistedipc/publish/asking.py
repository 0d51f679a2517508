"""
What a process of the apiserver's is asked that speaks with a target's registry about what is published there already,
and what it answers: which tags lead to which versions, which stages still wait, and a change of a tag or a deprecation.
The process is ``publish.ask``; the apiserver starts it. Types alone.

It is told one `Question` on its standard input, and answers one `Answered` on its standard output, both as JSON.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of a package?"""

    name: str
    versions: list[str] = []  # of which it is to be said whether they are there; none: the tags are all


class StageLook(msgspec.Struct, frozen=True, kw_only=True):
    """Does this stage still wait for a person?"""

    name: str  # the package's
    stage: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be done with a package that is in the registry."""

    kind: Literal["tag", "untag", "deprecate"]
    name: str
    version: str
    tag: str = ""
    expected: str = ""  # the version to which the tag led when that was looked up; "": to none
    back: bool = False  # `latest` may go back to an older version
    message: str = ""  # "" takes a deprecation back


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """All that is asked of one target's registry, with the project's token. Nothing secret is in its ``repr``."""

    target: str
    settings: dict[str, Any]  # the target's, as `publish.targets.registry` writes them
    secrets: dict[str, str]  # all that the target needs, by name
    looks: list[Look] = []
    stages: list[StageLook] = []
    change: Change | None = None
    otp: str = ""  # a person's one-time password, for the change
    environment: dict[str, str] = {}  # variables for that process

    def __repr__(self) -> str:
        return f"Question(target={self.target!r}, looks={self.looks!r}, stages={self.stages!r}, change={self.change!r})"


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What there is of a package."""

    name: str
    registry: str = ""  # the address
    tags: dict[str, str] = {}  # tag -> version; empty if there is no such package
    versions: dict[str, str] = {}  # those of the versions that are there -> the message with which they are deprecated
    unknown: str = ""  # why all of that isn't known; "" if it is


class StageSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a stage waits."""

    stage: str
    waits: bool = True  # also if that isn't known
    unknown: str = ""


class Changed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a change. ``already``: it was so before. ``moved``: the tag isn't where it was expected."""

    outcome: Literal["done", "already", "moved", "password", "refused", "failed"]
    reason: str = ""  # a sentence for people
    page: str = ""  # where a person can confirm it in a browser, with "password"


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer."""

    seen: list[Seen] = []  # one for each look, in their order
    stages: list[StageSeen] = []  # likewise
    changed: Changed | None = None
    after: float = 0.0  # seconds for which a registry wants to be left alone
    reason: str = ""  # why there is no answer; "": there is one


class CantAnswer(Exception):
    """The target can't be asked. ``str()`` of it is a sentence for people."""
