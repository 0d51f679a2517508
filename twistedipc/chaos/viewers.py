"""
Viewers on real WebSockets: each follows one attempt's log to its end, comes back by ``after`` whenever it is broken
off, and counts what is wrong.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.interfaces import IReactorTCP, IReactorTime

from twistedipc.chaos.oracle import LogCheck


class ViewerReactor(IReactorTime, IReactorTCP):
    """What viewers need of a reactor."""


class _Socket(WebSocketClientProtocol):
    """One connection of a viewer."""

    viewer: Viewer

    def onOpen(self) -> None:
        self.viewer.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.viewer.heard(self, json.loads(payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.viewer.closed(self)


class _Factory(WebSocketClientFactory):
    """Makes the next connection of a viewer."""

    protocol = _Socket
    noisy = False
    viewer: Viewer

    def buildProtocol(self, addr: object) -> _Socket:
        made: _Socket = super().buildProtocol(addr)
        made.viewer = self.viewer
        return made

    def clientConnectionFailed(self, connector: object, reason: object) -> None:
        self.viewer.closed(None)


class Viewer:
    """One viewer of one attempt."""

    def __init__(
        self,
        reactor: ViewerReactor,
        port: int,
        token: str,
        attempt: int,
        check: LogCheck,
        chance: random.Random,
        ended: Callable[[Viewer], None],
    ) -> None:
        self.check = check
        self.current = False  # it has heard something on its present connection
        self.connections = 0
        self._reactor = reactor
        self._port = port
        self._token = token
        self._attempt = attempt
        self._chance = chance
        self._ended = ended
        self._socket: _Socket | None = None
        self._over = False
        self._connect()

    def cut(self) -> None:
        """Abort the connection, as a network would."""
        if self._socket is not None:
            self._socket.transport.abortConnection()

    def stick(self, stuck: bool) -> None:
        """Stop reading from the connection, or read again."""
        if self._socket is not None and self._socket.transport is not None:
            if stuck:
                self._socket.transport.pauseProducing()
            else:
                self._socket.transport.resumeProducing()

    def stop(self) -> None:
        """End the viewer and its connection."""
        self._over = True
        self.cut()

    def _connect(self) -> None:
        if self._over:
            return
        self.connections += 1
        where = f"ws://127.0.0.1:{self._port}/api/v1/builds/{self.check.build}/log/stream"
        factory = _Factory(
            f"{where}?attempt={self._attempt}&after={self.check.next - 1}",
            headers={"Authorization": f"Bearer {self._token}"},
            reactor=self._reactor,
        )
        factory.viewer = self
        factory.setProtocolOptions(openHandshakeTimeout=5, closeHandshakeTimeout=1)
        self._reactor.connectTCP("127.0.0.1", self._port, factory, timeout=5)

    def opened(self, socket: _Socket) -> None:
        """Note that the connection is open."""
        self._socket = socket

    def heard(self, socket: _Socket, message: dict[str, Any]) -> None:
        """Check the next message."""
        if socket is not self._socket or self._over:
            return
        self.current = True
        self.check.take(message)
        if self.check.end is not None:
            self._over = True
            self._ended(self)

    def closed(self, socket: _Socket | None) -> None:
        """Connect again soon: the connection is lost, or could not be made."""
        if socket is not None and socket is not self._socket and self._socket is not None:
            return
        self._socket = None
        self.current = False
        if not self._over:
            self._reactor.callLater(self._chance.uniform(0.02, 0.3), self._connect)
