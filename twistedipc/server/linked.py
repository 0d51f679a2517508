"""
The builders that are linked now, by name, and what everyone beside the link itself may ask of one. Written by
``builders``; read by ``lifecycle``, ``dispatch`` and ``waiting``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred

from twistedipc.builds.isolation import Kind
from twistedipc.builds.messages import Offer
from twistedipc.ipc import Peer
from twistedipc.server.boundaries import Program
from twistedipc.server.resting import Resting
from twistedipc.storage.rows import AttemptRow
from twistedipc.storage.tenures import Tenure


class Link(Protocol):
    """One builder's link. Implemented by `builder_link.BuilderLink`."""

    peer: Peer
    since: int  # milliseconds since the epoch
    program: Program  # as it says itself
    superseded: bool  # the same builder has linked again
    tenure: Tenure | None  # under which it writes, if several apiservers share the database

    @property
    def synced(self) -> bool:
        """True if the builder has said which attempts it has, and the link is not lost."""

    @property
    def draining(self) -> bool:
        """True while the builder takes no new attempts."""

    @property
    def features(self) -> frozenset[str]:
        """What the builder can do beside what every builder can: see `builds.messages.FEATURES`."""

    @property
    def isolation(self) -> Kind | None:
        """What isolates builds there; None: nothing does, or it doesn't say."""

    @property
    def slots(self) -> int:
        """How many attempts the builder runs at a time."""

    @property
    def free_slots(self) -> int:
        """How many more attempts the builder may be offered now."""

    def offer(self, offer: Offer) -> None:
        """Send an offer that is committed. Raises `LocalProtocolError` if it is too big for a message."""

    def ask(self, question: msgspec.Struct, seconds: float) -> Deferred[Any]:
        """
        Ask what `builds.messages.QUESTIONS` has. Fires with the answer, or fails with `CallFailed`, `CallTimedOut` or
        `NotConnected`.
        """

    def expire_offer(self, row: AttemptRow, seconds: float) -> Awaitable[None]:
        """``row`` was offered so many seconds ago: unless that is answered, return it to the queue."""

    def moved(self) -> None:
        """The builder has linked at another apiserver: close this link, which may write nothing more."""

    def cancel_attempt(self, row: AttemptRow) -> None:
        """Tell the builder that this attempt is to be cancelled, now or when it has synced."""


class LinkedBuilders:
    """
    The links. A builder has one at most: a newer one supersedes it. ``now``: milliseconds since the epoch;
    ``none_since``: since when there is no link at all, None while there is one.
    """

    def __init__(self, resting: Resting, now: Callable[[], int]) -> None:
        self._resting = resting
        self._now = now
        self._links: dict[str, Link] = {}
        self.none_since: int | None = now()
        self.elsewhere: Sequence[str] = ()  # the builders that are linked at other apiservers, as far as is known

    def add(self, link: Link) -> Link | None:
        """Add a builder's new link. Return the one that it takes the place of."""
        name = link.peer.info.name
        previous = self._links.get(name)
        self._links[name] = link
        self.none_since = None
        return previous

    def remove(self, link: Link) -> None:
        """Remove a link that is lost, unless another has its place already."""
        if self._links.get(link.peer.info.name) is link:
            del self._links[link.peer.info.name]
            if not self._links:
                self.none_since = self._now()

    def link_of(self, builder: str) -> Link | None:
        """Return the link of the builder with this name."""
        return self._links.get(builder)

    def all(self) -> list[Link]:
        """Return all links, also those that haven't synced."""
        return list(self._links.values())

    def ready(self) -> list[Link]:
        """Return the links that have synced."""
        return [link for link in self._links.values() if link.synced]

    def others_could(self, builder: str) -> bool:
        """True if there is another builder that works: it may be asked now, or has its slots full."""
        return any(
            link.slots > 0 and not link.draining and not self._resting.rests(link.peer.info.name)
            for link in self.ready()
            if link.peer.info.name != builder
        )
