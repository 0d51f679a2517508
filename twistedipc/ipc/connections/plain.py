# Much of Twisted has no annotations.
# mypy: disable-error-code="no-untyped-call"
"""
The plain profile on a Twisted transport: `PlainProtocol`. Made by ``listen_plain``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import msgspec
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedipc.ipc.connections.drains import Drains
from twistedipc.ipc.connections.eager import send_at_once
from twistedipc.ipc.connections.link import LINGER, LinkTransport
from twistedipc.ipc.connections.peer import Application, Peer
from twistedipc.ipc.connections.tap import Tap
from twistedipc.ipc.wire.errors import BadReply, CallFailed, Code, LocalProtocolError, NotConnected
from twistedipc.ipc.wire.plain import Asked, Ended, Event, PlainConversation, Refused
from twistedipc.ipc.wire.session import PeerInfo

#: Requests of one connection that may be at work at a time: for more, it isn't read.
MAX_ASKED = 256

#: Seconds that a line may take from its first byte to its end.
LINE_TIMEOUT = 60.0

#: Seconds that the answers to what was asked may take, after the peer has said that it will ask no more.
LAST_ANSWERS = 30.0

#: Bytes that may wait for a peer that doesn't read what it is sent, before its connection is closed.
OUTBOUND_LIMIT = 64 << 20

#: Bytes collected in one turn that are written without waiting for its end.
_CORK = 128 * 1024


class PlainApplication(Application, Protocol):
    """What a connection of the plain profile needs of its application, beyond `Application`."""

    #: called whenever nothing is at work any longer
    when_idle: Callable[[], None]

    @property
    def is_at_work(self) -> bool:
        """Whether something that was received is still being dealt with."""

    def link_ended(self, reason: str) -> None:
        """Nothing can be sent any more. ``reason`` is for people."""


class PlainOwner(Protocol):
    """What makes the connections of the plain profile, and owns them."""

    clock: IReactorTime
    idle_timeout: float | None

    def made(self, connection: PlainProtocol) -> str | None:
        """There is a connection. A reason to refuse it, or None."""

    def lost(self, connection: PlainProtocol, reason: str) -> None:
        """A connection is gone."""


@implementer(IHalfCloseableProtocol)
class PlainProtocol(StreamProtocol):
    """
    One connection of the plain profile.

    It isn't read while its peer doesn't read what it is sent, while `MAX_ASKED` requests are at work, or while one is
    that has no id: its answer could only be told by its place.
    """

    _log = Logger()

    def __init__(
        self,
        owner: PlainOwner,
        conversation: PlainConversation,
        application_factory: Callable[[Peer], PlainApplication],
        name: str,
    ) -> None:
        self.writing_is_paused = False
        self._owner = owner
        self._clock = owner.clock
        self._conversation = conversation
        self._application_factory = application_factory
        self._name = name
        self._application: PlainApplication | None = None
        self._open = False
        self._reason = ""
        self._backlog: deque[Iterator[Event]] = deque()
        self._delivering = False
        self._wanted = True  # the application reads
        self._reading = True  # so does the transport
        self._no_more = False  # the peer has said all
        self._answering: set[Deferred[Any]] = set()
        self._in_turn: Deferred[Any] | None = None  # the request without an id that is at work
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._turn_end: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._last_line = 0.0
        self._line_began: float | None = None
        self._drains = Drains()

    # -- the transport's

    def connectionMade(self) -> None:
        assert self.transport is not None
        address = self.transport.getPeer()
        where = "local"
        if isinstance(address, IPv4Address | IPv6Address):
            where = f"{address.host}:{address.port}"
            if ITCPTransport.providedBy(self.transport):
                self.transport.setTcpNoDelay(True)
                self.transport.setTcpKeepAlive(True)  # or who is gone without a word stays for ever
        self._open = True
        self._last_line = self._clock.seconds()
        self._wire.registerProducer(Tap(self), True)
        refusal = self._owner.made(self)
        if refusal is not None:
            self.close(Code.REFUSED, refusal)
            return
        info = PeerInfo(name=self._name, role="plain", incarnation="", version=0, address=where)
        self._application = self._application_factory(Peer(info, self))
        self._application.when_idle = self._at_turn_end
        self._set_timer()

    def dataReceived(self, data: bytes) -> None:
        if not self._open:
            return
        now = self._clock.seconds()
        if b"\n" in data:
            self._last_line, self._line_began = now, None
        self._backlog.append(self._conversation.receive(data))
        if self._conversation.pending and self._line_began is None:
            self._line_began = now
        self._deliver()
        self._write()
        self._set_timer()

    def readConnectionLost(self) -> None:
        """The peer asks no more, and may still wait for answers."""
        self._no_more = True
        self._line_began = None
        self._look_for_the_end()
        self._set_timer()

    def writeConnectionLost(self) -> None:
        """Only we end that."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._reason == "":
            done = isinstance(reason.value, ConnectionDone)
            self._reason = "the peer closed the connection" if done else reason.getErrorMessage()
        self._end()
        self._cancel_timer()
        self._owner.lost(self, self._reason)

    # -- for Peer

    def send(self, message: msgspec.Struct) -> None:
        """See `Peer.send`."""
        self._check_open()
        self._queue(self._conversation.message(message))

    def send_many(self, messages: Sequence[msgspec.Struct]) -> None:
        """See `Peer.send_many`."""
        self._check_open()
        lines = [self._conversation.message(message) for message in messages]
        self._queue(b"".join(lines))

    def call(self, request: msgspec.Struct, timeout: float) -> Deferred[Any]:
        """See `Peer.call`."""
        return fail(LocalProtocolError("a peer of the plain profile can't be called"))

    def complain(self, code: str, message: str) -> None:
        """See `Peer.complain`."""
        self._queue(self._conversation.error(msgspec.UNSET, code, message))

    def drain(self) -> Deferred[None]:
        """See `Peer.drain`."""
        if not self._open:
            return fail(NotConnected(self._reason))
        if not self.writing_is_paused:
            return succeed(None)
        return self._drains.wait()

    def close(self, code: str, reason: str, *, abrupt: bool = False) -> None:
        """Say ``bye``, and close. Nothing is received from now on."""
        if not self._open:
            return
        self._reason = f"{reason} [{code}]"
        self._backlog.clear()
        self._out.append(self._conversation.bye(code, reason))
        out = b"".join(self._out)
        self._end()
        self._cancel_timer()
        if abrupt:
            self._wire.abortConnection()
            return
        self._wire.unregisterProducer()
        self._wire.write(out)
        if not (self._reading or self._no_more):
            # Unread bytes would make the kernel reset the connection, and the peer would never see the reason.
            self._reading = True
            self._wire.resumeProducing()
        self._timer = self._clock.callLater(LINGER, self._wire.abortConnection)
        self._wire.loseConnection()

    def pauseProducing(self) -> None:
        """See `Peer.pause_reading`."""
        self._wanted = False
        self._read_or_not()

    def resumeProducing(self) -> None:
        """See `Peer.resume_reading`."""
        self._wanted = True
        self._at_turn_end()

    # -- reading

    @property
    def _may_deliver(self) -> bool:
        return (
            self._open
            and self._wanted
            and not self.writing_is_paused
            and self._in_turn is None
            and len(self._answering) < MAX_ASKED
        )

    def _deliver(self) -> None:
        """Hand events on while that may be."""
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._backlog and self._may_deliver:
                event = next(self._backlog[0], None)
                if event is not None:
                    self._take(event)
                elif self._backlog:
                    self._backlog.popleft()
        except Exception:
            self._log.failure("{peer}: the application failed while a message was received", peer=self._name)
            self.close(Code.INTERNAL, "an error inside; see the log there")
        finally:
            self._delivering = False
        self._read_or_not()
        self._look_for_the_end()

    def _take(self, event: Event) -> None:
        match event:
            case Asked():
                self._answer(event)
            case Refused(line=line):
                self._queue(line)
            case Ended(code=code, reason=reason):
                self.close(code, reason)
            case message:
                assert self._application is not None
                self._application.message_received(message)

    def _read_or_not(self) -> None:
        """Have the transport read if what it reads could be handed on."""
        wanted = self._may_deliver and not self._backlog
        if self._open and not self._no_more and wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._wire.resumeProducing()
            else:
                self._wire.pauseProducing()

    @property
    def _is_at_work(self) -> bool:
        return bool(self._answering) or (self._application is not None and self._application.is_at_work)

    def _look_for_the_end(self) -> None:
        if self._no_more and self._open and not (self._backlog or self._is_at_work):
            self._reason = "the peer closed the connection"
            out = b"".join(self._out)
            self._end()
            self._wire.unregisterProducer()
            self._wire.write(out)
            self._cancel_timer()
            self._timer = self._clock.callLater(LAST_ANSWERS, self._wire.abortConnection)
            self._wire.loseConnection()

    # -- answering

    def _answer(self, asked: Asked) -> None:
        assert self._application is not None
        try:
            answer = self._application.call_received(asked.request)
            if not isinstance(answer, Awaitable):
                self._queue(self._conversation.reply(asked, answer))
                return
        except Exception:
            self._not_answered(Failure(), asked)
            return

        async def reply() -> object:
            return await answer

        answering = Deferred.fromCoroutine(reply())
        self._answering.add(answering)
        if asked.id is msgspec.UNSET:
            self._in_turn = answering
        answering.addCallback(lambda result: self._queue(self._conversation.reply(asked, result)))
        answering.addErrback(self._not_answered, asked)
        answering.addBoth(self._answered, answering)

    def _answered(self, _: object, answering: Deferred[Any]) -> None:
        self._answering.discard(answering)
        if self._in_turn is answering:
            self._in_turn = None
        self._last_line = self._clock.seconds()
        self._at_turn_end()

    def _not_answered(self, failure: Failure, asked: Asked) -> None:
        if not self._open:
            if not failure.check(CancelledError, NotConnected):
                self._log.failure("{peer}: a request wasn't answered", failure, peer=self._name)
            return
        error = failure.value
        code, message, data = str(Code.INTERNAL), "an error inside; see the log there", None
        if isinstance(error, CallFailed):
            code, message, data = error.code, error.message, error.data
        elif isinstance(error, BadReply):
            self._log.failure("{peer}: a reply can't be sent", failure, peer=self._name)
            code, message = error.code, error.message
        elif isinstance(error, CancelledError):
            code, message = str(Code.CLOSED), "the call was cancelled"
        else:
            request = type(asked.request).__qualname__
            self._log.failure("{peer}: {request} wasn't answered", failure, peer=self._name, request=request)
        try:
            line = self._conversation.error(asked.id, code, message, data)
        except LocalProtocolError:
            self._log.failure("{peer}: an error's data was left out", peer=self._name)
            line = self._conversation.error(asked.id, code, message)
        self._queue(line)

    # -- writing

    def pause_writing(self) -> None:
        """The transport has enough. It may say so several times."""
        self.writing_is_paused = True
        self._read_or_not()

    def resume_writing(self) -> None:
        """The transport has room."""
        self.writing_is_paused = False
        self._write()
        if self.writing_is_paused or not self._open:
            return
        self._drains.release()
        self._at_turn_end()

    def _queue(self, line: bytes) -> None:
        if not self._open:
            return
        self._out.append(line)
        self._out_bytes += len(line)
        if self._out_bytes > OUTBOUND_LIMIT and self.writing_is_paused:
            self._out.clear()
            reason = f"more than {OUTBOUND_LIMIT} bytes wait for the peer to read them"
            self.close(Code.OVERFLOW, reason, abrupt=True)
        elif self._out_bytes >= _CORK:
            self._write()
        self._at_turn_end()

    def _write(self) -> None:
        if self._out and self._open and not self.writing_is_paused:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            sent = send_at_once(self.transport, data)
            if sent < len(data):
                self._wire.write(data[sent:] if sent else data)

    def _at_turn_end(self) -> None:
        if self._turn_end is None and self._open:
            self._turn_end = self._clock.callLater(0, self._end_turn)

    def _end_turn(self) -> None:
        self._turn_end = None
        self._deliver()
        self._write()
        self._set_timer()

    # -- time

    def _set_timer(self) -> None:
        """Look at the time when something may be due. A timer that is too early is left: it will look again."""
        due = self._due()
        if not self._open or due is None:
            return
        if self._timer is not None:
            if self._timer.getTime() <= due:
                return
            self._timer.cancel()
        self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._tick)

    def _due(self) -> float | None:
        """When the peer's time is up, if nothing happens until then."""
        times = []
        if self._no_more:
            times.append(self._last_line + LAST_ANSWERS)
        elif self._line_began is not None and self._reading:
            times.append(self._line_began + LINE_TIMEOUT)
        if self._owner.idle_timeout is not None and not self._is_at_work and self._wanted:
            times.append(self._last_line + self._owner.idle_timeout)
        return min(times, default=None)

    def _tick(self) -> None:
        self._timer = None
        due = self._due()
        if due is None or self._clock.seconds() < due:
            self._set_timer()
        elif self._no_more:
            self.close(Code.SILENT, f"the peer has ended, and the answers took {LAST_ANSWERS:g} seconds")
        elif self._line_began is not None and self._clock.seconds() >= self._line_began + LINE_TIMEOUT:
            self.close(Code.SILENT, f"a line wasn't ended within {LINE_TIMEOUT:g} seconds")
        else:
            self.close(Code.SILENT, f"there was no line for {self._owner.idle_timeout:g} seconds")

    def _cancel_timer(self) -> None:
        for call in (self._timer, self._turn_end):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._turn_end = None

    # -- the end

    def _end(self) -> None:
        """The application's part is over. Once."""
        if not self._open:
            return
        self._open = False
        self._backlog.clear()
        self._out.clear()
        self._out_bytes = 0
        if self._application is not None:
            self._application.link_ended(self._reason)
        self._drains.fail(NotConnected(self._reason))
        for answering in list(self._answering):
            answering.cancel()
        if self._application is not None:
            try:
                self._application.connection_lost(self._reason)
            except Exception:
                self._log.failure("{peer}: connection_lost failed", peer=self._name)

    def _check_open(self) -> None:
        if not self._open:
            raise NotConnected(self._reason)

    @property
    def _wire(self) -> LinkTransport:
        return cast(LinkTransport, self.transport)
