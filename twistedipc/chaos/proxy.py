"""
A proxy between the two services' UNIX sockets, which can cut their link, hold it in one direction or in both, and
shred what goes through.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from twisted.internet.interfaces import IDelayedCall, IReactorTime, IReactorUNIX
from twisted.internet.protocol import ClientFactory, Factory, Protocol

#: Bytes that wait to be passed on in pieces. Then the end that they come from isn't read.
MOST_WAITING = 1 << 16

#: While everything is shredded: how often a piece is a single byte, and how often there is a pause after a piece,
#: which lasts up to so many seconds. Other pieces have up to so many bytes.
SINGLE = 0.3
PAUSES = 0.05
LONGEST_PAUSE = 0.05
LONGEST_PIECE = 400


class ProxyReactor(IReactorTime, IReactorUNIX):
    """What the proxy needs of a reactor."""


class _End(Protocol):
    """One of the two connections of a link. What it receives goes to the other, unless the proxy holds it."""

    def __init__(self, proxy: LinkProxy, forward: bool) -> None:
        self.proxy = proxy
        self.forward = forward  # towards the builder
        self.other: _End | None = None
        self._waiting = bytearray()
        self._next: IDelayedCall | None = None
        self._held = False
        self._full = False

    def connectionMade(self) -> None:
        """Begin with nothing if the link is held."""
        self.proxy.ends.add(self)
        self.hold(self.proxy.holds(self.forward))

    def hold(self, held: bool) -> None:
        """Stop reading from this connection, or read again."""
        self._held = held
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self._held or self._full:
            self.transport.pauseProducing()  # type: ignore[union-attr]
        else:
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Pass the data on, whole or in pieces."""
        self._waiting += data
        self.pass_on()

    def join(self, other: _End) -> None:
        """Pass everything on to the other connection, which is made now."""
        self.other = other
        self.pass_on()

    def pass_on(self) -> None:
        """Write what waits: all of it, or a piece and soon the next."""
        if self.other is None or self.other.transport is None or self._next is not None:
            return
        if not self.proxy.shreds:
            if self._waiting:
                self.other.transport.write(bytes(self._waiting))
                self._waiting.clear()
        elif self._waiting:
            size, pause = self.proxy.piece()
            self.other.transport.write(bytes(self._waiting[:size]))
            del self._waiting[:size]
            # Not before the reactor's next turn: what is written in one turn leaves, and arrives, in one piece.
            self._next = self.proxy.later(pause, self._pass_on_more)
        full = len(self._waiting) > MOST_WAITING
        if full is not self._full:
            self._full = full
            self._read_or_not()

    def _pass_on_more(self) -> None:
        self._next = None
        self.pass_on()

    def connectionLost(self, reason: object = None) -> None:
        """End the other connection too, after passing on what was received."""
        self.proxy.ends.discard(self)
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(bytes(self._waiting))
            self.other.transport.loseConnection()


class LinkProxy:
    """Listens at ``front`` and connects to ``back``."""

    def __init__(self, reactor: ProxyReactor, front: Path, back: Path, seed: int) -> None:
        self.ends: set[_End] = set()
        self.shreds = False
        self._reactor = reactor
        self._back = str(back)
        self._chance = random.Random(seed)
        self._held: set[bool] = set()
        with suppress(FileNotFoundError):
            os.unlink(front)
        self._port = reactor.listenUNIX(str(front), Factory.forProtocol(self._accept), mode=0o600)

    def _accept(self) -> _End:
        front = _End(self, forward=True)
        back = _Back(self, front)
        self._reactor.connectUNIX(self._back, back, timeout=5)
        return front

    def holds(self, forward: bool) -> bool:
        """Return whether nothing goes through in this direction now."""
        return forward in self._held

    def hold(self, *directions: bool) -> None:
        """Let nothing through in these directions (True: towards the builder), and end nothing."""
        self._held = set(directions)
        for end in list(self.ends):
            end.hold(self.holds(end.forward))

    def shred(self, on: bool) -> None:
        """Pass everything on in small pieces, or no longer."""
        self.shreds = on

    def piece(self) -> tuple[int, float]:
        """Return how many bytes the next piece has, and how many seconds pass after it."""
        chance = self._chance
        size = 1 if chance.random() < SINGLE else chance.randint(1, LONGEST_PIECE)
        return size, chance.uniform(0, LONGEST_PAUSE) if chance.random() < PAUSES else 0.0

    def later(self, seconds: float, act: Callable[[], None]) -> IDelayedCall:
        """Call ``act`` after so many seconds."""
        return self._reactor.callLater(seconds, act)

    def reset(self) -> None:
        """End all connections, without a word."""
        for end in list(self.ends):
            if end.transport is not None:
                end.transport.abortConnection()  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """Stop listening, and end all connections."""
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
        self._proxy.later(0, lambda: self._front.join(back))
        return back

    def clientConnectionFailed(self, connector: object, reason: object) -> None:
        if self._front.transport is not None:
            self._front.transport.loseConnection()
