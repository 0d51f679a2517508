"""
The builder's end of the link: one connection to an apiserver. Made by ``duties`` for each connection.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

import msgspec

from twistedipc.builds import messages as m
from twistedipc.builds.attempt import StoredTool
from twistedipc.ipc import CreditWindow, NotConnected, Peer, Vocabulary

VOCABULARY = Vocabulary(
    receives=m.FROM_APISERVER,
    answers=m.QUESTIONS,
    calls=m.CALLS,
)

#: Bytes of unacknowledged records under way for all attempts of a link together.
LINK_CREDIT = 8 << 20


class Listener(Protocol):
    """What a link calls when something happens on it: `duties.Duties`."""

    def received(self, link: ApiserverLink, message: msgspec.Struct) -> None:
        """Handle a one-way message. Messages come in the order in which they were sent."""

    async def asked(self, request: msgspec.Struct) -> msgspec.Struct:
        """Answer a call. Raises `CallFailed`. It is cancelled if the link is lost."""

    def lost(self, link: ApiserverLink, reason: str) -> None:
        """Handle the loss of the link."""

    def writable(self) -> None:
        """Write on: the link takes more."""


class ApiserverLink:
    """One connection to an apiserver. The framework's application."""

    def __init__(self, listener: Listener, peer: Peer) -> None:
        self.peer = peer
        self.synced = False  # both sides know what is held
        self.features: frozenset[str] = frozenset()  # what the apiserver takes, as it has said with the sync
        self.tools: list[StoredTool] | None = None  # those that were told on this link
        self._listener = listener

    def send(self, message: msgspec.Struct) -> None:
        """Send a message, unless the link has gone meanwhile: then the next sync tells it."""
        with contextlib.suppress(NotConnected):
            self.peer.send(message)

    def message_received(self, message: msgspec.Struct) -> None:
        """Pass a one-way message on."""
        self._listener.received(self, message)

    async def call_received(self, request: msgspec.Struct) -> msgspec.Struct:
        """Answer a call."""
        return await self._listener.asked(request)

    def connection_lost(self, reason: str) -> None:
        """Pass on that the link is lost."""
        self.synced = False
        self._listener.lost(self, reason)

    def writing_paused(self) -> None:
        """Do nothing: the forwarding asks `Peer.paused`."""

    def writing_resumed(self) -> None:
        """Pass on that the link takes more."""
        self._listener.writable()


class Uplink:
    """The link to the apiserver that is in use, or none; and the credit of all that is under way on it."""

    def __init__(self) -> None:
        self.link: ApiserverLink | None = None
        self.limit = LINK_CREDIT  # bytes of one attempt that may be under way; the apiserver sets it in its `Orders`
        self._credit = CreditWindow(LINK_CREDIT)

    @property
    def synced(self) -> ApiserverLink | None:
        """The link, once both sides know which attempts are held; else None."""
        return self.link if self.link is not None and self.link.synced else None

    def send(self, message: msgspec.Struct) -> None:
        """Send a message, if there is a link: else the next sync tells it."""
        if self.link is not None:
            self.link.send(message)

    def credit(self) -> CreditWindow:
        """Return a window for one attempt, within that of the link."""
        return CreditWindow(self.limit, self._credit)
