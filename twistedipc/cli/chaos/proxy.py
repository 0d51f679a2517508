"""
A proxy between the two services' UNIX sockets, which can cut their link, hold it in one direction or in both, and
shred what goes through.
"""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path

from twisted.internet.interfaces import IReactorTime, IReactorUNIX, ITransport
from twisted.internet.protocol import ClientFactory, Factory, Protocol


class ProxyReactor(IReactorTime, IReactorUNIX):
    """What the proxy needs of a reactor."""


class _End(Protocol):
    """One of the two connections of a link. What it receives goes to the other, unless the proxy holds it."""

    def __init__(self, proxy: LinkProxy, forward: bool) -> None:
        self.proxy = proxy
        self.forward = forward  # towards the builder
        self.other: _End | None = None
        self._waiting: list[bytes] = []

    def connectionMade(self) -> None:
        """Begin with nothing if the link is held."""
        self.proxy.ends.add(self)
        self.hold(self.proxy.holds(self.forward))

    def hold(self, held: bool) -> None:
        """Read nothing, or read again."""
        if held:
            self.transport.pauseProducing()  # type: ignore[union-attr]
        else:
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Pass it on, whole or in pieces."""
        if self.other is None:
            self._waiting.append(data)
        else:
            self.proxy.pass_on(self.other.transport, data)

    def join(self, other: _End) -> None:
        """The other side is there."""
        self.other = other
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.proxy.pass_on(other.transport, data)

    def connectionLost(self, reason: object = None) -> None:
        """One end is gone: so is the other."""
        self.proxy.ends.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class LinkProxy:
    """Listens at ``front`` and connects to ``back``."""

    def __init__(self, reactor: ProxyReactor, front: Path, back: Path, seed: int) -> None:
        self.ends: set[_End] = set()
        self._reactor = reactor
        self._back = str(back)
        self._chance = random.Random(seed)
        self._held: set[bool] = set()
        self._shred = False
        with suppress(FileNotFoundError):
            os.unlink(front)
        self._port = reactor.listenUNIX(str(front), Factory.forProtocol(self._accept), mode=0o600)

    def _accept(self) -> _End:
        front = _End(self, forward=True)
        back = _Back(self, front)
        self._reactor.connectUNIX(self._back, back, timeout=5)
        return front

    def holds(self, forward: bool) -> bool:
        """Whether nothing goes through in this direction now."""
        return forward in self._held

    def hold(self, *directions: bool) -> None:
        """Let nothing through in these directions (True: towards the builder), and end nothing."""
        self._held = set(directions)
        for end in self.ends:
            end.hold(self.holds(end.forward))

    def shred(self, on: bool) -> None:
        """Pass everything on in small pieces, or no longer."""
        self._shred = on

    def reset(self) -> None:
        """End all connections, without a word."""
        for end in list(self.ends):
            if end.transport is not None:
                end.transport.abortConnection()  # type: ignore[attr-defined]

    def pass_on(self, transport: ITransport | None, data: bytes) -> None:
        """Write, whole or in pieces that no message was cut into before."""
        if transport is None:
            return
        if not self._shred:
            transport.write(data)
            return
        while data:
            size = self._chance.randint(1, 200)
            transport.write(data[:size])
            data = data[size:]

    async def stop(self) -> None:
        """Listen no more, and end what there is."""
        stopped = self._port.stopListening()
        if stopped is not None:
            await stopped
        self.reset()


class _Back(ClientFactory):
    """Makes the connection to the builder for one from the apiserver."""

    noisy = False

    def __init__(self, proxy: LinkProxy, front: _End) -> None:
        self._proxy = proxy
        self._front = front

    def buildProtocol(self, addr: object) -> _End:
        back = _End(self._proxy, forward=False)
        back.join(self._front)
        # Once it is connected, both ends know one another.
        self._proxy._reactor.callLater(0, self._front.join, back)
        return back

    def clientConnectionFailed(self, connector: object, reason: object) -> None:
        if self._front.transport is not None:
            self._front.transport.loseConnection()
