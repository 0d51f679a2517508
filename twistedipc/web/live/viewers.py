"""
Viewers' sockets: Autobahn's protocol as the output of a conversation. ``web.live``; made by ``sockets``.

Autobahn speaks the protocol. The frames of logs are written straight to the transport (see ``followers``): they were
encoded once for all viewers, and need nothing of Autobahn's sending (queue, compression, masking).
"""

from __future__ import annotations

from socket import socket
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from twistedipc.ipc import send_at_once
from twistedipc.web.access.held import Ending, Holding
from twistedipc.web.http.channel import leaving
from twistedipc.web.http.closing import CloseCode
from twistedipc.web.live.conversation import Conversation, Opening
from twistedipc.web.live.deflate import accept_deflate
from twistedipc.web.live.lean import Lean, deflates, forget_inflater
from twistedipc.web.live.limits import FrameBudget, Limits, Pulse, Sign


@implementer(IPushProducer)
class ViewerProtocol(WebSocketServerProtocol):
    """One viewer's socket. Implements `output.Output`."""

    opening: Opening
    holding: Holding
    pulse: Pulse
    budget: FrameBudget
    conversation: Conversation | None = None  # None until the handshake is done
    direct: socket | None = None
    paused = False
    deflates = False
    over = False  # nothing may be written any more
    _settled = False  # what only the handshake needs has been removed
    _resumed = 0  # how often the socket took more again

    def onOpen(self) -> None:
        """
        Begin the conversation: the handshake is done. The transport's producer is still the HTTP channel, which is
        replaced.
        """
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        self.factory.viewers.add(self)
        if deflates(self):
            self.deflates = True
        self.factory.watch()
        opening = self.opening
        del self.opening  # an open socket keeps little
        self.converse(opening(self))
        self.holding.on_end(self._token_over)

    def converse(self, conversation: Conversation) -> None:
        """Begin a conversation on this socket."""
        self.conversation = conversation
        conversation.begin()

    def dataReceived(self, data: bytes) -> None:
        """Twisted calls this with bytes of the client. Any bytes show that the client lives."""
        now = self.factory.reactor.seconds()
        self.pulse.heard = now
        self.budget.refill(now, self.factory.limits)
        super().dataReceived(data)
        if not self._settled and self.state == self.STATE_OPEN:
            self._settled = True
            self.factory.lean.settle(self)

    def look(self, now: float) -> None:
        """Ping the client, or give it up, if it is time to."""
        waiting, queued = leaving(self.transport)
        seen = (self._resumed, waiting, queued)
        match self.pulse.look(now, self.factory.limits, seen, self.paused or queued > 0):
            case Sign.PING:
                self.sendPing()
            case Sign.TOO_SLOW:
                self.say_goodbye(CloseCode.TOO_SLOW, "nothing was read for too long")
            case Sign.DEAD:
                self.transport.abortConnection()
            case Sign.NOTHING:
                pass

    # -- what comes

    def onMessageBegin(self, isBinary: bool) -> None:
        """Autobahn calls this with the first frame of a message."""
        self.budget.message_begins()
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        """Autobahn calls this with each frame of a message."""
        super().onMessageFrameBegin(length)
        self._count_frame(fragment=True)

    def onPong(self, payload: bytes) -> None:
        """Autobahn calls this with a pong; `dataReceived` has noted that the client lives."""
        self._count_frame()

    def onPing(self, payload: bytes) -> None:
        """Answer a ping, unless the client doesn't read: else the answers to a flood of pings would pile up here."""
        self._count_frame()
        if not self.paused:
            super().onPing(payload)

    def _count_frame(self, *, fragment: bool = False) -> None:
        """Stop listening to a client, without waiting for its close, that sends more frames than it can need."""
        if not self.budget.spend(self.factory.limits, fragment=fragment):
            self.say_goodbye(CloseCode.POLICY, "too many frames")
            self.dropConnection()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Autobahn calls this with a whole message."""
        if self.deflates:
            forget_inflater(self)
        if not self.over and self.conversation is not None:
            self.conversation.heard(payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Autobahn calls this when the connection is closed."""
        self._end()

    def connectionLost(self, reason: Any = None) -> None:
        """Twisted calls this when the connection is lost."""
        self._end()
        super().connectionLost(reason)

    # -- IPushProducer

    def pauseProducing(self) -> None:
        """Stop writing: the socket is full. May be called any number of times."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Write on: the socket takes more."""
        self.paused = False
        self._resumed += 1
        if not self.over and self.conversation is not None:
            self.conversation.write_on()

    def stopProducing(self) -> None:
        """Stop: the connection is lost."""
        self.paused = True

    # -- Output

    def write_frames(self, data: bytes) -> None:
        """See `Output`."""
        direct = self.direct
        if direct is not None:
            try:
                sent = direct.send(data)
            except OSError:  # the socket is full; or lost, which the transport will find out by itself
                sent = 0
        elif self.over:
            return
        else:
            sent = send_at_once(self.transport, data)
            if sent == len(data):
                self.direct = self.transport.socket
        if sent < len(data):
            self.keep(data, sent)

    def keep(self, data: bytes, sent: int) -> None:
        """See `Output`."""
        self.direct = None
        self.transport.write(data[sent:] if sent else data)

    def sendData(self, *arguments: Any, **more: Any) -> None:
        """Autobahn writes with this (a ping, a pong, a close), which waits for the reactor's next turn."""
        self.direct = None
        super().sendData(*arguments, **more)

    def say_goodbye(self, code: CloseCode, reason: str) -> None:
        """See `Output`."""
        if not self.over:
            self._end()
            # `sendClose` would refuse all of the protocol's codes but 1000.
            self.sendCloseFrame(int(code), reason.encode()[:123])

    def sendCloseFrame(self, *arguments: Any, **more: Any) -> None:
        """Autobahn closes with this too, when a client breaks the protocol. Nothing may follow (RFC 6455, 5.5.1)."""
        self._end()
        super().sendCloseFrame(*arguments, **more)

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self.direct = None
            self.paused = True
            self.holding.release()
            self.factory.viewers.discard(self)
            self.factory.watch()
            if self.conversation is not None:
                self.conversation.close()

    def _token_over(self, why: Ending) -> None:
        """Close the socket: its token is over, or may see something else now."""
        self.say_goodbye(CloseCode.UNAUTHORISED if why.token_is_over else CloseCode.AGAIN, why.value)


class ViewerFactory(WebSocketServerFactory):
    """Makes viewers' protocols, with options of Autobahn that can face strangers."""

    def __init__(self, reactor: IReactorTime, max_viewers: int, limits: Limits) -> None:
        super().__init__(reactor=reactor, server="twistedipc")
        self._watching: IDelayedCall | None = None
        self.limits = limits
        self.viewers: set[ViewerProtocol] = set()
        self.setProtocolOptions(
            webStatus=False,
            maxFramePayloadSize=4096,
            maxMessagePayloadSize=4096,
            autoPingInterval=0,  # `ViewerProtocol.look` pings, and tells dead clients from slow ones
            openHandshakeTimeout=10,
            closeHandshakeTimeout=limits.close_timeout,
            maxConnections=max_viewers,
            # The API has checked the Origin before the upgrade.
            allowedOrigins=["*"],
            allowNullOrigin=True,
            failByDrop=False,
            tcpNoDelay=True,
        )
        self.lean = Lean()
        self.protocol = self.lean.class_of(ViewerProtocol, self)

    def viewer(self, holding: Holding) -> ViewerProtocol:
        """Return a protocol for one connection. It releases ``holding`` when the connection ends."""
        protocol: ViewerProtocol = self.buildProtocol(None)
        now = self.reactor.seconds()
        protocol.pulse = Pulse(now)
        protocol.budget = FrameBudget(now, self.limits)
        protocol.holding = holding
        return protocol

    def watch(self) -> None:
        """Look at all viewers now and then, as long as there are any: one timer for all."""
        if self.viewers and self._watching is None:
            self._watching = self.reactor.callLater(self.limits.look_interval, self._look)
        elif not self.viewers and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _look(self) -> None:
        self._watching = None
        now = self.reactor.seconds()
        for viewer in list(self.viewers):
            viewer.look(now)
        self.watch()


class ForRequest:
    """Stands for the factory that Autobahn's resource takes: it makes the one protocol of one request."""

    def __init__(self, factory: ViewerFactory, opening: Opening, holding: Holding, compress: bool) -> None:
        """
        :param compress: the client wants long messages deflated, if it also offers the extension.
        """
        self._factory = factory
        self._opening = opening
        self._holding = holding
        self._compress = compress

    def buildProtocol(self, address: object) -> ViewerProtocol:
        """Autobahn calls this when the request is rendered."""
        protocol = self._factory.viewer(self._holding)
        protocol.opening = self._opening
        if self._compress:
            protocol.perMessageCompressionAccept = accept_deflate
        return protocol
