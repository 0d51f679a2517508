"""
The builder's end of the link: what the apiserver says becomes what is done. Made by ``service`` for each connection.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builds import messages as m
from twistedipc.ipc import CallFailed, NotConnected, Peer, Vocabulary

if TYPE_CHECKING:
    from twistedipc.builder.service import BuilderService

VOCABULARY = Vocabulary(
    receives=m.FROM_APISERVER,
    calls=m.CALLS,
)


class ApiserverLink:
    """One connection to an apiserver. The framework's application."""

    def __init__(self, service: BuilderService, peer: Peer) -> None:
        self.peer = peer
        self.synced = False
        self._service = service

    def send(self, message: msgspec.Struct) -> None:
        """Say it, unless the link has gone meanwhile: then the next sync says it."""
        with contextlib.suppress(NotConnected):
            self.peer.send(message)

    def message_received(self, message: msgspec.Struct) -> None:
        """
        One-way messages, in their order. What is about a lease that isn't held is over, and what is about a log that
        this link hasn't synced is about what the link before has sent: nothing to do.
        """
        service = self._service
        match message:
            case m.Offer():
                service.launch(service.offered(self, message), "an offer")
            case m.Ack(attempt=attempt, next=next):
                if (held := service.attempt_held(attempt)) is not None and held.synced:
                    service.acknowledged(held, next)
            case m.Resend(attempt=attempt, next=next):
                if (held := service.attempt_held(attempt)) is not None and held.synced:
                    service.resend(held, next)
            case m.Go(attempt=attempt, lease=lease):
                if (held := service.held(attempt, lease)) is not None:
                    service.start(held)
            case m.CancelAttempt(attempt=attempt, lease=lease, reason=reason):
                if (held := service.held(attempt, lease)) is not None:
                    service.cancel(held, reason)
            case m.Stop(attempt=attempt, lease=lease):
                if (held := service.held(attempt, lease)) is not None:
                    service.forget(held, kill=True)
            case m.FinalAck(attempt=attempt, lease=lease):
                crash_point(CrashPoint.BUILDER_FINAL_ACK_RECEIVED)
                if (held := service.held(attempt, lease)) is not None:
                    service.forget(held, kill=False)
            case _:
                raise AssertionError(f"not in the vocabulary: {message!r}")

    def call_received(self, request: msgspec.Struct) -> msgspec.Struct:
        """An apiserver makes no calls."""
        raise CallFailed("unknown", "a builder answers no calls")

    def connection_lost(self, reason: str) -> None:
        """The link is gone."""
        self.synced = False
        self._service.lost_link(self, reason)

    def writing_paused(self) -> None:
        """The link takes no more: the forwarding asks `Peer.paused`."""

    def writing_resumed(self) -> None:
        """The link takes more."""
        self._service.pump()
