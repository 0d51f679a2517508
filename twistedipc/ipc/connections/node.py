"""
Node's own channel on a Twisted transport: `NodeConnection`, and the seam to what is built on it. Made by ``node``, the
face's; ``wire/node_channel.py`` has the format.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IFileDescriptorReceiver, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedipc.ipc.connections.connection import Connection, Life
from twistedipc.ipc.wire.errors import LocalProtocolError
from twistedipc.ipc.wire.node_channel import BadLine, NodeChannel, Overlong, Received

#: Bytes that may wait for a peer that doesn't read, before `NodePeer.send` refuses more.
OUTBOUND_LIMIT = 64 << 20


# To look a member up in its enumeration costs as much as an encoding.
_OPEN = Life.OPEN


class NodeApplication(Protocol):
    """
    The application of one channel, made by a `NodeApplicationFactory`. All methods are called in the reactor's thread,
    in the order of arrival. An exception that gets out of `message_received` is logged and closes the channel.
    """

    def message_received(self, message: Any) -> None:
        """Take a message: what JSON can hold, as `json.loads` returns it. Strings may have lone surrogates."""

    def channel_closed(self, reason: str) -> None:
        """Take note that the channel is closed. ``reason`` is a text for logs. The process may live on."""


class NodePeer:
    """The peer at the other end of a channel."""

    def __init__(self, channel: NodeConnection) -> None:
        self._channel = channel

    @property
    def connected(self) -> bool:
        """Whether messages can be sent."""
        return self._channel.life is _OPEN

    @property
    def paused(self) -> bool:
        """Whether the peer doesn't keep up: `drain` waits until it does."""
        return self._channel.writing_is_paused

    def send(self, message: Any) -> None:
        """
        Send a message: what `json.dumps` takes, and msgspec's structs and dataclasses. It leaves at the end of this
        turn of the reactor at the latest, with all others.

        :raises NotConnected: the channel is closed
        :raises LocalProtocolError: the message can't be JSON, is too long, is an object that Node keeps for itself (its
            ``cmd`` begins with ``NODE_``), or too much waits already because the caller ignored `paused`
        """
        self._channel.send(message)

    def drain(self) -> Deferred[None]:
        """Return a Deferred that fires when the peer keeps up. It fails with `NotConnected` if there is no channel."""
        return self._channel.drain()

    def pause_reading(self) -> None:
        """Receive nothing more for now: in time, the peer's `process.send` returns false."""
        self._channel.pauseProducing()

    def resume_reading(self) -> None:
        """Receive again."""
        self._channel.resumeProducing()

    def disconnect(self) -> Deferred[None]:
        """
        Close the channel, once everything is written: Node's ``'disconnect'`` event. The Deferred fires when the
        channel is closed, within `LINGER` seconds. A program that ends after this has lost nothing of what it sent.
        What the peer still sends until then is received, also if reading was paused.
        """
        return self._channel.disconnect()


NodeApplicationFactory = Callable[[NodePeer], NodeApplication]


@implementer(IFileDescriptorReceiver)
class NodeConnection(Connection):
    """
    A `NodeChannel` on a transport.

    :param who: the other end, for people
    :param message_limit: bytes of a message, either way
    :param outbound_limit: bytes that may wait for a peer that doesn't read, before `send` refuses more
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        application_factory: NodeApplicationFactory,
        who: str,
        message_limit: int,
        *,
        outbound_limit: int = OUTBOUND_LIMIT,
    ) -> None:
        # Beyond what `send` lets wait there can be one message, and acknowledgements of what Node sends along.
        super().__init__(clock, outbound_limit + 2 * message_limit)
        self._outbound_limit = outbound_limit
        self.peer = NodePeer(self)
        self._application_factory = application_factory
        self._application: NodeApplication | None = None
        self._who = who
        self._channel = NodeChannel(message_limit=message_limit)
        self._closing: list[Deferred[None]] = []

    # -- the transport's

    def _made(self, address: str) -> None:
        self._application = self._application_factory(self.peer)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Close a handle that Node has sent along: it can't be used here, and mustn't leak."""
        os.close(descriptor)
        self._channel.handle_received()

    def dataReceived(self, data: bytes) -> None:
        self._cork.begin_chunk()
        self._backlog.append(iter(self._channel.receive(data)))
        answers = self._channel.answers()
        if answers and self.life is _OPEN:
            self._cork.add(answers)
        self._hand_on()
        self._flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.life is _OPEN:
            self.reason = f"{self._who} has closed the channel"
            self.life = Life.LEAVING
        self.paused = False
        self._hand_on()  # what has arrived was sent before the end
        super().connectionLost(reason)

    def _gone(self) -> None:
        closing, self._closing = self._closing, []
        for each in closing:
            each.callback(None)

    # -- reading

    @property
    def reading_is_paused(self) -> bool:
        """Whether this side has paused reading."""
        return self.paused

    def _hand_on_events(self) -> None:
        backlog = self._backlog
        while backlog and not self.paused:
            for event in backlog[0]:
                self._take(event)
                if self.paused or not backlog:
                    return
            backlog.popleft()

    def _take(self, event: Received | BadLine | Overlong) -> None:
        match event:
            case Received(message=message, handle_refused=refused):
                if refused:
                    self._log.warn("{who} sent a socket or a server along, which was refused", who=self._who)
                assert self._application is not None
                self._application.message_received(message)
            case BadLine(reason=reason):
                self._log.warn("{who} sent a line that is no message: {reason}", who=self._who, reason=reason)
            case Overlong(reason=reason):
                self.abort(reason)

    def _application_failed(self, error: Exception) -> None:
        self._log.failure("{who}: the application failed while a message was received", who=self._who)
        self._backlog.clear()
        self.abort("an error inside")

    # -- writing

    def send(self, message: Any) -> None:
        """See `NodePeer.send`."""
        if self.life is not _OPEN:
            self._check_open()
        if self.writing_is_paused and self.waiting > self._outbound_limit:
            raise LocalProtocolError(f"{self.waiting} bytes wait for {self._who} to read them: mind `paused`")
        self._cork.add(self._channel.encode(message))

    def _overflowed(self) -> None:
        self.abort("more waits than the other end reads")

    # -- the end

    def disconnect(self) -> Deferred[None]:
        """See `NodePeer.disconnect`."""
        if self.life is _OPEN:
            self.life = Life.LEAVING
            self.reason = "the channel was closed here"
            self._close_transport()
        return self.closed()

    def abort(self, reason: str) -> None:
        """Close the channel at once, whatever waits."""
        if self.life in (Life.OPEN, Life.LEAVING):
            if self.life is _OPEN:
                self.reason = reason
            self.life = Life.LEAVING
            self._close_transport(abrupt=True)

    def closed(self) -> Deferred[None]:
        """Return a Deferred that fires when the channel is closed and all that came was delivered."""
        if self.is_over:
            return succeed(None)
        closing: Deferred[None] = Deferred()
        self._closing.append(closing)
        return closing

    @property
    def is_over(self) -> bool:
        """Whether the channel is closed and all that came was delivered."""
        return self.life is Life.LOST

    def _detach(self) -> None:
        """Do nothing: the application of a channel is called at its end only."""

    def _tell_the_end(self) -> None:
        if self._application is not None:
            self._guard(self._application.channel_closed, "channel_closed", self._who, self.reason)
