"""What is told of a build, and where it belongs in the order of what else is told. Pure."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from twistedipc.builds.states import Phase

#: What of a build is told to whom: a commit's status, a deployment, the comment of a pull request, a tag with its
#: release; and an event, to those who aren't the repository's host.
Part = Literal["status", "deployment", "comment", "tag", "event"]

#: The parts of which only the newest counts: a newer one takes the place of one that could not be told.
ONLY_THE_NEWEST: Final[frozenset[Part]] = frozenset({"status", "deployment", "comment"})

#: What people can ask to be told of.
Event = Literal["failed", "fixed", "live", "waiting"]
EVENTS: Final[tuple[Event, ...]] = get_args(Event)


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A build as it was when something happened to it. Times are milliseconds since the epoch; 0 is not known."""

    project: str
    build: int
    attempt: int
    phase: Phase
    event: Event | None = None
    reason: str = ""  # for people: why it is so; may be a build's own words, so it is nobody's to trust
    ref: str = ""
    commit: str = ""  # full; "": not known yet
    title: str = ""  # the first line of the commit's message
    author: str = ""
    by: str = ""  # who asked for it
    environment: str = ""  # "": not known yet
    created: int = 0
    started: int = 0
    ended: int = 0
    number: int = 0  # of the pull request; 0: it is of none
    release: int = 0  # that went live; 0: none did
    tag: str = ""  # with which the commit is to be tagged
    notes: str = ""  # what its changelog says, as Markdown

    @property
    def time(self) -> int:
        """When it happened, as far as is known."""
        return self.ended or self.started or self.created


class At(msgspec.Struct, frozen=True, kw_only=True):
    """Where people find it."""

    build: str  # the build's page
    site: str = ""  # what it has released, if that is served: live, or as a preview
    live: bool = False  # it is live there


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """To whom something is told. ``secret`` and, of some kinds, ``where`` are shown to nobody."""

    where: str  # the address; of a repository's host, of its API
    repository: str = ""  # the repository's path there: "team/shop"
    secret: str = ""  # the token, or what an event is signed with
    delivery: str = ""  # names this one thing that is told, also when it is told again
    mark: str = ""  # by which this installation knows its own comment
    now: int = 0  # seconds since the epoch


def subject_of(part: Part, told: Told) -> str:
    """Return what is told in its order: two things of the same subject are never told at the same time."""
    match part:
        case "status":
            return f"commit {told.commit}"
        case "comment":
            return f"pull {told.number}"
        case "tag":
            return f"tag {told.tag}"
        case "deployment" | "event":
            return f"build {told.build}"


def can_be_told(part: Part, told: Told, events: frozenset[str]) -> bool:
    """Return whether there is something to tell. ``events``: those that the receiver wants."""
    match part:
        case "status":
            return bool(told.commit) and told.event != "live"
        case "deployment":
            return bool(told.commit) and bool(told.environment) and told.phase is not Phase.QUEUED
        case "comment":
            return told.number > 0 and told.event != "live"
        case "tag":
            return bool(told.tag)
        case "event":
            return told.event is not None and told.event in events
