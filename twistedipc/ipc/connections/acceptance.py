"""
Whether a proven peer is taken: `Acceptance`. Used by ``link``, between the handshake and the link's beginning.

First the application decides (``accept_peer``), then the name is claimed (`Names`). Both may take time, which the
handshake's timeout bounds; meanwhile the connection isn't read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.ipc.wire.errors import Code
from twistedipc.ipc.wire.identity import Accept, PeerInfo
from twistedipc.ipc.wire.names import Claimant, Names

#: Seconds in which a linked peer must give a sign of life when another claims its name.
SIGN_OF_LIFE = 2.0


class Hears(Protocol):
    """What knows whether the peer has said anything."""

    def has_heard(self, since: float) -> bool: ...


class Acceptance:
    """
    What is decided about one connection's peer.

    :param link: is told by `Claimant.take_name` that the peer is taken, or closed
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, link: Claimant) -> None:
        #: whether there is nothing to wait for: the connection may be read
        self.is_over = True
        self._clock = clock
        self._link = link
        self._names: Names | None = None
        self._peer: PeerInfo | None = None
        self._deciding: Deferred[str | None] | None = None
        self._heard: list[Callable[[bool], None]] = []
        self._silent: IDelayedCall | None = None

    def begin(self, peer: PeerInfo, accept: Accept | None, names: Names | None) -> None:
        """
        Decide about the peer, which is proven.

        :param accept: gives a reason to refuse the peer, or None; or something to await for that
        :param names: who has which name
        """
        self._peer = peer
        self._names = names
        self.is_over = False
        try:
            decision = None if accept is None else accept(peer)
        except Exception:
            self._failed(Failure())
            return
        if isinstance(decision, Awaitable):
            self._deciding = deciding = Deferred.fromCoroutine(_awaited(decision))
            deciding.addCallbacks(self._decided, self._failed)
        else:
            self._decided(decision)

    def _decided(self, reason: str | None) -> None:
        self._deciding = None
        assert self._peer is not None
        if self.is_over:
            return  # the connection has ended meanwhile
        if reason is not None:
            self._log.info(
                "{peer} ({address}) isn't accepted: {reason}",
                peer=self._peer.name,
                address=self._peer.address,
                reason=reason,
            )
            self._link.close(Code.NOT_ACCEPTED, str(reason))
        elif self._names is None:
            self._link.take_name()
        else:
            self._names.claim(self._link, self._peer)

    def _failed(self, failure: Failure) -> None:
        """The application has raised: it can't be known whether it wants this peer."""
        self._deciding = None
        assert self._peer is not None
        if not self.is_over:
            self._log.failure("{peer} isn't accepted, as accept has failed", failure, peer=self._peer.name)
            self._link.close(Code.INTERNAL, "an error inside; see the log there")

    # -- a sign of life

    def wait_for_sign(self, heard: Callable[[bool], None], session: Hears) -> None:
        """Tell ``heard`` when there is a sign of life, or that there was none in time."""
        self._heard.append(heard)
        if self._silent is None:
            began = self._clock.seconds()
            self._silent = self._clock.callLater(SIGN_OF_LIFE, self._waited, began, session)

    def _waited(self, began: float, session: Hears) -> None:
        self._silent = None
        self.heard(session.has_heard(began))

    def heard(self, alive: bool) -> None:
        """Tell those who wait for a sign of life whether there is one."""
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None
        waiting, self._heard = self._heard, []
        for each in waiting:
            each(alive)

    def end(self) -> None:
        """The connection has ended: nothing is decided any more."""
        self.is_over = True
        self._heard.clear()
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None
        deciding, self._deciding = self._deciding, None
        if deciding is not None:
            deciding.cancel()


async def _awaited(decision: Awaitable[str | None]) -> str | None:
    return await decision
