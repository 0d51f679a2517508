"""
Two descriptors, one to read from and one to write to, as one transport: what a link on standard input and output stands
on, at both ends. Used by ``inherited`` (the child) and ``spawn`` (the parent).

Unlike a socket's, the two directions end separately. When the peer has stopped reading, what it has written before is
still read to the end: nothing is lost of what a child sent that exits while it is being written to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedipc.ipc.places.endpoints import LinkReactor

#: Seconds to read what is left, once the peer reads no more or has exited. Time in which reading is paused doesn't
#: count. Only something else that has inherited the pipe can keep it open longer.
DRAIN = 1.0

_READ_SIZE = 64 * 1024


@implementer(ITransport, IPushProducer)
class PipeTransport:
    """
    A transport of two descriptors, which belong to it from now on. The protocol is connected at once.

    :param reading: what is read from: a pipe, or a socket
    :param writing: what is written to; another descriptor than ``reading``
    """

    def __init__(self, reactor: LinkReactor, protocol: Protocol, reading: int, writing: int) -> None:
        self._clock = reactor
        self._protocol = protocol
        self._paused = False
        self._over = False
        self._draining: IDelayedCall | None = None
        self._closing = False
        self._producer: IPushProducer | None = None
        self._reader = _Reader(reactor, reading, self._received, self._nothing_comes)
        self._writer = _Writer(reactor, writing, self._nobody_reads)
        protocol.makeConnection(self)
        if not self._over and not self._paused:
            self._reader.startReading()

    # -- writing

    def write(self, data: bytes) -> None:
        """Write what can be written now, and the rest when there is room. Drop it if the peer reads no more."""
        self._writer.write_now(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """See `IConsumer`; for push producers."""
        self._producer = producer
        self._writer.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        self._writer.unregisterProducer()

    # -- reading

    def pauseProducing(self) -> None:
        self._paused = True
        self._reader.stopReading()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._reader.connected:
            self._reader.startReading()

    def stopProducing(self) -> None:
        self.loseConnection()

    # -- the end

    @property
    def disconnecting(self) -> bool:
        return self._closing

    def loseConnection(self) -> None:
        """Close both descriptors once everything is written; if a producer is registered, when it is done."""
        self._closing = True
        if self._writer.connected:
            self._writer.loseConnection()
        else:
            # Not from within this call, as with any transport.
            self._clock.callLater(0, self._finish, Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        """Close both descriptors, whatever waits."""
        self._closing = True
        self._clock.callLater(0, self._finish, Failure(ConnectionLost("it was closed here")))

    def drain(self) -> None:
        """Read what the peer has written last, for at most `DRAIN` seconds, and close."""
        if self._draining is None and not self._over:
            self._draining = self._clock.callLater(DRAIN, self._drained)

    def _drained(self) -> None:
        self._draining = None
        if self._paused:
            self.drain()
        else:
            self._finish(Failure(ConnectionLost("the other end is gone, and something else holds its pipe")))

    def getPeer(self) -> IAddress:
        return UNIXAddress(None)

    def getHost(self) -> IAddress:
        return UNIXAddress(None)

    # -- from the two directions

    def _received(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def _nothing_comes(self, reason: Failure) -> None:
        if self._over:
            return
        if not self._closing and self._writer.connected and IHalfCloseableProtocol.providedBy(self._protocol):
            self._protocol.readConnectionLost()
        else:
            self._finish(reason)

    def _nobody_reads(self, reason: Failure) -> None:
        if self._over:
            return
        if self._closing or not self._reader.connected:
            self._finish(reason)
            return
        self.drain()
        if self._producer is not None:
            # A producer that waits for room would wait for ever, and its application perhaps not read meanwhile.
            self._producer.resumeProducing()

    def _finish(self, reason: Failure) -> None:
        if self._over:
            return
        self._over = True
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        for way in (self._reader, self._writer):
            if way.connected:
                way.connectionLost(reason)
        self._protocol.connectionLost(reason)


class _Way(FileDescriptor):
    """One descriptor, watched by the reactor."""

    def __init__(self, reactor: LinkReactor, descriptor: int, lost: Callable[[Failure], None]) -> None:
        super().__init__(reactor)
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._lost = lost
        self.connected = 1

    def fileno(self) -> int:
        return self._descriptor

    def connectionLost(self, reason: Failure) -> None:
        if self._descriptor < 0:
            return
        super().connectionLost(reason)
        os.close(self._descriptor)
        self._descriptor = -1
        self._lost(reason)


class _Reader(_Way):
    def __init__(
        self, reactor: LinkReactor, descriptor: int, received: Callable[[bytes], None], lost: Callable[[Failure], None]
    ) -> None:
        super().__init__(reactor, descriptor, lost)
        self._received = received

    def doRead(self) -> BaseException | None:
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self._received(data)
        return None


class _Writer(_Way):
    def write_now(self, data: bytes) -> None:
        # Twisted has no public name for what waits: where it has another, all goes the way of `write`.
        waits = self.dataBuffer or getattr(self, "_tempDataBuffer", True)
        if self.connected and not (waits or self.disconnecting):
            sent = self.writeSomeData(data)
            if isinstance(sent, int):
                data = data[sent:]
            # If the peer reads no more, the reactor finds that out when it looks at the descriptor.
        self.write(data)

    def writeSomeData(self, data: bytes) -> int | BaseException:
        try:
            return os.write(self._descriptor, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            return CONNECTION_LOST

    def doRead(self) -> Any:
        raise NotImplementedError("this is written to")
