"""
``python -m bench.fanout.builder LINK FEED_PORT``: a builder on the real link, whose one attempt's lines come by TCP.

It stands for a build, its runner and its journal, which would need a core of their own: the apiserver can't tell the
difference. It accepts one offer, reads lines from the program that connects to the port once it may start, and sends
them as batches of what one read brought, within the link's credit. Prints ``{"ready": true}`` when the attempt runs.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections import deque
from typing import Any

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Server

from bench.common.processes import say
from twistedipc.builder.link import VOCABULARY
from twistedipc.builds import messages as m
from twistedipc.builds.logs import Lines
from twistedipc.ipc import Peer, SessionSettings, listen_for_links
from twistedipc.runner.capture import BLOCK_BYTES

reactor: Any = global_reactor


class Attempt(Protocol):
    """The lines of the attempt, as they come, onto the link."""

    transport: Server

    def __init__(self, builder: Builder, attempt: str, lease: str) -> None:
        self._builder = builder
        self._attempt = attempt
        self._lease = lease
        self._rest = ""
        self._next = 1
        self._under_way: deque[tuple[int, int]] = deque()  # the number after a batch, and its bytes
        self._bytes = 0

    def connectionMade(self) -> None:
        """Its blocks are as large as those that a runner reads."""
        self.transport.bufferSize = BLOCK_BYTES

    def dataReceived(self, data: bytes) -> None:
        """A chunk."""
        *lines, self._rest = (self._rest + data.decode()).split("\n")
        if not lines:
            return
        batch = Lines(first=self._next, time=time.time_ns() // 1_000_000, step=0, lines=[*lines])
        self._next = batch.end
        self._under_way.append((batch.end, len(data)))
        self._bytes += len(data)
        if self._bytes > self._builder.credit - 3 * 65536:
            self.transport.pauseProducing()
        self._builder.peer.send(m.Log(attempt=self._attempt, lease=self._lease, batches=[batch]))

    def acknowledged(self, next: int) -> None:
        """Records below ``next`` are committed."""
        while self._under_way and self._under_way[0][0] <= next:
            self._bytes -= self._under_way.popleft()[1]
        if self._bytes <= self._builder.credit - 3 * 65536:
            self.transport.resumeProducing()


class Feed(Factory):
    """Gives the one attempt to the builder that brings its lines."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def buildProtocol(self, addr: object) -> Any:
        return self._attempt


class Builder:
    """The builder's end of the link. The framework's application."""

    def __init__(self, peer: Peer, port: int) -> None:
        self.peer = peer
        self.credit = 0
        self._port = port
        self._attempt: Attempt | None = None
        Deferred.fromCoroutine(self._sync()).addErrback(lambda failure: failure.printTraceback())

    async def _sync(self) -> None:
        orders: m.Orders = await self.peer.call(m.Sync(slots=1, attempts=[]), timeout=10)
        self.credit = orders.credit

    def message_received(self, message: msgspec.Struct) -> None:
        """Act on a message of the apiserver."""
        match message:
            case m.Offer(attempt=attempt, lease=lease):
                self.peer.send(m.Accept(attempt=attempt, lease=lease))
            case m.Go(attempt=attempt, lease=lease):
                self.peer.send(m.Started(attempt=attempt, lease=lease, time=time.time_ns() // 1_000_000))
                self._attempt = Attempt(self, attempt, lease)
                reactor.listenTCP(self._port, Feed(self._attempt), interface="127.0.0.1")
                say(ready=True)
            case m.Ack(next=next) if self._attempt is not None:
                self._attempt.acknowledged(next)

    def call_received(self, request: msgspec.Struct) -> msgspec.Struct:
        """No calls are answered."""
        raise AssertionError(request)

    def connection_lost(self, reason: str) -> None:
        """The apiserver has ended."""
        reactor.stop()

    def writing_paused(self) -> None:
        """The credit bounds it."""

    def writing_resumed(self) -> None:
        """The credit bounds it."""


def main() -> None:
    """Serve until the apiserver ends."""
    endpoint, port = sys.argv[1], int(sys.argv[2])
    settings = SessionSettings(
        name="builder",
        role="builder",
        peer_role="apiserver",
        incarnation=secrets.token_hex(8),
        key=None,
        vocabulary=VOCABULARY,
    )
    listen_for_links(reactor, endpoint, settings, lambda peer: Builder(peer, port)).startService()
    reactor.run()


if __name__ == "__main__":
    main()
