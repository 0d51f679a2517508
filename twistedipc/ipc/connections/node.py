# Much of Twisted has no annotations.
# mypy: disable-error-code="no-untyped-call"
"""
Node's own channel on a Twisted transport: `NodeConnection`, and the seam to what is built on it. Made by ``node``, the
face's; ``wire/node_channel.py`` has the format.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IFileDescriptorReceiver, IReactorTime, ITransport
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedipc.ipc.connections.drains import Drains
from twistedipc.ipc.connections.eager import send_at_once
from twistedipc.ipc.connections.link import LinkTransport
from twistedipc.ipc.connections.tap import Tap
from twistedipc.ipc.wire.errors import LocalProtocolError, NotConnected
from twistedipc.ipc.wire.node_channel import BadLine, NodeChannel, Overlong, Received

#: Bytes that may wait for a peer that doesn't read, before `NodePeer.send` refuses more.
OUTBOUND_LIMIT = 64 << 20

#: Seconds to write what is left when the channel is closed, to a peer that doesn't read it.
LINGER = 5.0


class NodeApplication(Protocol):
    """
    What you write: one for each channel, made by a `NodeApplicationFactory`. All is called in the reactor's thread, in
    the order in which it arrived. An exception that gets out of `message_received` is logged and closes the channel.
    """

    def message_received(self, message: Any) -> None:
        """A message: what JSON can hold, as `json.loads` would give it (a string may have lone surrogates)."""

    def channel_closed(self, reason: str) -> None:
        """Nothing comes any more, and nothing can be sent. ``reason`` is for people. The process may live on."""


class NodePeer:
    """The other end of a channel."""

    def __init__(self, channel: NodeConnection) -> None:
        self._channel = channel

    @property
    def connected(self) -> bool:
        """Whether messages can be sent."""
        return self._channel.open

    @property
    def paused(self) -> bool:
        """Whether the peer doesn't keep up: `drain` waits until it does."""
        return self._channel.full

    def send(self, message: Any) -> None:
        """
        Send a message: what `json.dumps` takes, and msgspec's structs and dataclasses. It leaves at the end of this
        turn of the reactor, with all others.

        :raises NotConnected: the channel is closed
        :raises LocalProtocolError: it can't be JSON, is too long, is an object that Node keeps for itself (its ``cmd``
            begins with ``NODE_``), or too much waits already because `paused` wasn't minded
        """
        self._channel.send(message)

    def drain(self) -> Deferred[None]:
        """Fires when the peer keeps up; at once, if it does now. Fails with `NotConnected` if the channel is closed."""
        return self._channel.drain()

    def pause_reading(self) -> None:
        """Receive nothing more for now: in time, the peer's `process.send` returns false."""
        self._channel.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        self._channel.resume_reading()

    def disconnect(self) -> Deferred[None]:
        """
        Close the channel, once everything is written: Node's ``'disconnect'`` event. Fires when it is closed, within
        `LINGER` seconds. A program that ends after this has lost nothing of what it sent.
        """
        return self._channel.disconnect()


NodeApplicationFactory = Callable[[NodePeer], NodeApplication]


@implementer(IFileDescriptorReceiver)
class NodeConnection(StreamProtocol):
    """A `NodeChannel` on a transport."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, application_factory: NodeApplicationFactory, who: str, channel: NodeChannel
    ) -> None:
        self.peer = NodePeer(self)
        self.open = False
        self.full = False  # the transport takes no more for now
        self.is_over = False
        self._clock = clock
        self._application_factory = application_factory
        self._application: NodeApplication | None = None
        self._who = who
        self._channel = channel
        self._reason = f"{who} has closed the channel"
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._turn_end: IDelayedCall | None = None
        self._linger: IDelayedCall | None = None
        self._events: deque[Received | BadLine | Overlong] = deque()
        self._reading = True
        self._drains = Drains()
        self._closing: list[Deferred[None]] = []

    # -- the transport's

    def connectionMade(self) -> None:
        self.open = True
        self._wire.registerProducer(Tap(self), True)
        self._application = self._application_factory(self.peer)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """A handle of Node's came along: it can't be used here, and mustn't leak."""
        os.close(descriptor)
        self._channel.handle_received()

    def dataReceived(self, data: bytes) -> None:
        self._events.extend(self._channel.receive(data))
        answers = self._channel.answers()
        if answers and self.open:
            self._queue(answers)
        self._deliver()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open = False
        self._reading = True
        self._deliver()  # what has arrived was sent before the end
        self.is_over = True
        for call in (self._turn_end, self._linger):
            if call is not None and call.active():
                call.cancel()
        self._out.clear()
        self._drains.fail(NotConnected(self._reason))
        if self._application is not None:
            try:
                self._application.channel_closed(self._reason)
            except Exception:
                self._log.failure("{who}: channel_closed failed", who=self._who)
        closing, self._closing = self._closing, []
        for each in closing:
            each.callback(None)

    # -- reading

    @property
    def reading_is_paused(self) -> bool:
        return not self._reading

    def pause_reading(self) -> None:
        if self.open and self._reading:
            self._reading = False
            self._wire.pauseProducing()

    def resume_reading(self) -> None:
        if self.open and not self._reading:
            self._reading = True
            self._wire.resumeProducing()
            self._at_turn_end()

    def _deliver(self) -> None:
        while self._events and self._reading and not self.is_over:
            match self._events.popleft():
                case Received(message=message, handle_refused=refused):
                    if refused:
                        self._log.warn("{who} sent a socket or a server along, which was refused", who=self._who)
                    self._tell(message)
                case BadLine(reason=reason):
                    self._log.warn("{who} sent a line that is no message: {reason}", who=self._who, reason=reason)
                case Overlong(reason=reason):
                    self.abort(reason)

    def _tell(self, message: Any) -> None:
        assert self._application is not None
        try:
            self._application.message_received(message)
        except Exception:
            self._log.failure("{who}: the application failed while a message was received", who=self._who)
            self._events.clear()
            self.abort("an error inside")

    # -- writing

    def send(self, message: Any) -> None:
        if not self.open:
            raise NotConnected(self._reason)
        if self._out_bytes > OUTBOUND_LIMIT:
            raise LocalProtocolError(f"{self._out_bytes} bytes wait for {self._who} to read them: mind `paused`")
        self._queue(self._channel.encode(message))

    def drain(self) -> Deferred[None]:
        if not self.open:
            return fail(NotConnected(self._reason))
        if not self.full:
            return succeed(None)
        return self._drains.wait()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._write()
        if not self.full:
            self._drains.release()

    def _queue(self, line: bytes) -> None:
        self._out.append(line)
        self._out_bytes += len(line)
        self._at_turn_end()

    def _at_turn_end(self) -> None:
        if self._turn_end is None:
            self._turn_end = self._clock.callLater(0, self._end_turn)

    def _end_turn(self) -> None:
        self._turn_end = None
        self._deliver()
        self._write()

    def _write(self) -> None:
        if self._out and not self.full:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            sent = send_at_once(self.transport, data)
            if sent < len(data):
                self._wire.write(data[sent:] if sent else data)

    # -- the end

    def disconnect(self) -> Deferred[None]:
        if self.open:
            self.open = False
            self._reason = "the channel was closed here"
            self._wire.unregisterProducer()  # it would keep the transport from closing
            self.full = False
            self._write()
            self._wire.loseConnection()
            self._linger = self._clock.callLater(LINGER, self._wire.abortConnection)
        return self.closed()

    def abort(self, reason: str) -> None:
        """Close it at once, whatever waits."""
        if not self.is_over and self._wire is not None:
            if self.open:
                self._reason = reason
            self.open = False
            self._wire.abortConnection()

    def closed(self) -> Deferred[None]:
        """Fires when nothing comes any more."""
        if self.is_over:
            return succeed(None)
        closing: Deferred[None] = Deferred()
        self._closing.append(closing)
        return closing

    @property
    def _wire(self) -> LinkTransport:
        return cast(LinkTransport, cast(ITransport, self.transport))
