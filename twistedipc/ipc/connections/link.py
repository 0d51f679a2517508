"""
A session on a Twisted transport: `JSONLineProtocol`. Made by ``dial`` and ``listen``, and by ``testing``.

How bytes move. A chunk read goes through the session as one block. What is sent meanwhile is collected, and written
at the chunk's end, or as soon as it is worth a write, so that the peer has work while this side is busy; what is sent
at any other time is written once at the end of the reactor's turn. A write goes straight to the socket where that is
possible (`send_at_once`), and otherwise to the transport, until the transport says that it has enough: from then on
bytes wait here, where they are counted and bounded.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from enum import Enum, auto
from typing import Any, Protocol, cast

import msgspec
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from twistedipc.ipc.connections.drains import Drains
from twistedipc.ipc.connections.eager import send_at_once
from twistedipc.ipc.connections.failing import Failing
from twistedipc.ipc.connections.peer import Application, ApplicationFactory, Peer
from twistedipc.ipc.connections.polling import Polling
from twistedipc.ipc.connections.tap import Tap
from twistedipc.ipc.places.endpoints import is_refused_by_tls, why_lost
from twistedipc.ipc.wire.errors import BadReply, CallFailed, Code, LocalProtocolError, NotConnected, RemoteProtocolError
from twistedipc.ipc.wire.messages import CallReceived, CallReplied
from twistedipc.ipc.wire.session import (
    CallDropped,
    CallEnded,
    Closed,
    ErrorReceived,
    Event,
    MessageRefused,
    Ready,
    Session,
    SessionSettings,
    Side,
)

#: The ends of a handshake that will come again until somebody changes something.
_REFUSALS = frozenset({Code.VERSION, Code.UNAUTHORIZED, Code.REFUSED, Code.BAD_HANDSHAKE})

#: Seconds between our last word and an abort, for a peer that doesn't read it.
LINGER = 5.0

#: How often it is logged that one side didn't understand the other: a peer that goes on for ever shall not fill the
#: disk.
_ERRORS_LOGGED = 100

#: Bytes collected in one turn that are written without waiting for its end; and in one chunk.
_CORK = 128 * 1024
_CHUNK_CORK = 4096


class LinkTransport(Protocol):
    """What a link needs of its transport: what Twisted's TCP, UNIX and TLS transports all have."""

    def write(self, data: bytes) -> None: ...

    def loseConnection(self) -> None: ...

    def abortConnection(self) -> None: ...

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...


class LinkOwner(Protocol):
    """Who made a connection: told of its life."""

    def link_made(self, link: JSONLineProtocol) -> str | None:
        """It has a transport. A reason to refuse it, or None."""

    def link_ready(self, link: JSONLineProtocol) -> None:
        """The peer is authenticated."""

    def link_lost(self, link: JSONLineProtocol, reason: str) -> None:
        """It is gone: the transport is closed."""


class _Life(Enum):
    """How far a connection has come to its end."""

    OPEN = auto()
    CLOSING = auto()  # the application knows; what is left to write is being written
    LOST = auto()


# To look a member up in its enumeration costs as much as an encoding.
_OPEN = _Life.OPEN


class JSONLineProtocol(LineReceiver):
    """
    One connection of a link.

    :param owner: told of the connection's life; it holds connections, so that services can wait for their end
    """

    _log = Logger()
    delimiter = b"\n"

    def __init__(
        self,
        side: Side,
        settings: SessionSettings,
        application_factory: ApplicationFactory,
        clock: IReactorTime,
        owner: LinkOwner,
    ) -> None:
        self._side = side
        self._settings = settings
        self._application_factory = application_factory
        self._clock = clock
        self._seconds = clock.seconds
        self._owner = owner
        self._session: Session | None = None
        self._application: Application | None = None
        self._life = _Life.OPEN
        self._reason = ""
        #: the code, once the connection is lost, if one side has refused the other before there was a link
        self.refusal: str | None = None
        self._timer: IDelayedCall | None = None
        # Reading.
        self.paused = False  # an instance's own is found faster than the class's
        self._backlog: deque[Iterator[Event]] = deque()  # what each chunk brought and hasn't been delivered
        self._delivering = False
        self._wire_is_paused = False
        self._messages_received: Callable[[list[Any]], None] | None = None
        # Writing.
        self.writing_is_paused = False  # as the application knows it
        self._wire_is_full = False
        self._enough = 0  # bytes collected at which something is done about them, see `_collected`
        self._turn_end: IDelayedCall | None = None
        self._wrote = False  # since the last bytes came
        self._polling = Polling(clock, settings.busy_poll) if settings.busy_poll else None
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._drains = Drains()
        # Calls: ours, and those that the application is answering.
        self._waiting: dict[int, Deferred[Any]] = {}
        self._answering: dict[int, Deferred[Any]] = {}
        self._failing = Failing(clock)
        self._misunderstandings = 0
        self._link_ended: Callable[[str], None] | None = None  # to be told once, when the session is over

    # -- the connection ----------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        assert self.transport is not None
        peer = self.transport.getPeer()
        if isinstance(peer, IPv4Address | IPv6Address):
            address = f"{peer.host}:{peer.port}"
            if ITCPTransport.providedBy(self.transport):
                self.transport.setTcpNoDelay(True)
        else:
            address = "unix"
        self._session = Session(
            self._side,
            self._settings,
            nonce=secrets.token_hex(32),
            now=self._clock.seconds(),
            address=address,
        )
        self._wire.registerProducer(Tap(self), True)
        refusal = self._owner.link_made(self)
        if refusal is not None:
            self._session.close(Code.REFUSED, refusal)
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        session = self._session
        if session is None or self._life is not _OPEN:
            return
        now = self._seconds()
        polling = self._polling
        if polling is not None:
            polling.arrived(now)
            self._wrote = False
        self._enough = _CHUNK_CORK
        self._backlog.append(iter(session.receive(data, now)))
        if session.closed is not None:
            self._detach()
        self._deliver()
        self._flush()
        if polling is not None and self._wrote and self._life is _OPEN:
            polling.begin(self._seconds())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._reason == "":
            if isinstance(reason.value, ConnectionDone):
                self._reason = "the peer closed the connection"
            else:
                self._reason = why_lost(reason)
                if is_refused_by_tls(reason):
                    self.refusal = Code.UNAUTHORIZED
        closed = self._session.closed if self._session is not None else None
        if self._application is None and closed is not None and closed.code in _REFUSALS:
            self.refusal = closed.code
        self._end()
        self._life = _Life.LOST
        for call in (self._timer, self._turn_end):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._turn_end = None
        self._owner.link_lost(self, self._reason)

    # -- for Peer and the services -----------------------------------------------------------------------------------

    def send(self, message: msgspec.Struct) -> None:
        """See `Peer.send`."""
        session = self._session
        if session is None or self._life is not _OPEN:
            session = self._open_session()
        session.send(message)
        if len(session.out) >= self._enough:
            self._collected()

    def send_many(self, messages: Sequence[msgspec.Struct]) -> None:
        """See `Peer.send_many`."""
        self._open_session().send_many(messages)
        self._collected()

    def call(self, request: msgspec.Struct, timeout: float) -> Deferred[Any]:
        """See `Peer.call`."""
        session = self._session
        try:
            if session is None or self._life is not _OPEN:
                session = self._open_session()
            id_ = session.call(request, self._seconds() + timeout)
        except (NotConnected, CallFailed) as error:
            return self._failing.fail(error)
        reply: Deferred[Any] = Deferred(self._drop)
        self._waiting[id_] = reply
        if len(session.out) >= self._enough:
            self._collected()
        return reply

    def complain(self, code: str, message: str) -> None:
        """See `Peer.complain`."""
        if self._session is not None:
            self._session.complain(code, message)
            self._collected()

    def drain(self) -> Deferred[None]:
        """See `Peer.drain`."""
        if self._life is not _Life.OPEN:
            return self._failing.fail(NotConnected(self._reason))
        if not self.writing_is_paused:
            return succeed(None)
        return self._drains.wait()

    def close(self, code: str, reason: str, *, abrupt: bool = False) -> None:
        """End the link. The application hears of it at the end of the turn, not from within this call."""
        if self._session is not None and self._life is _Life.OPEN:
            # Even if the peer's own end has come already, in the same chunk: what lies before it isn't wanted.
            self._backlog.clear()
            self._session.close(code, reason, abrupt=abrupt)
            self._detach()
            self._flush_at_turn_end()

    # -- reading -----------------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Stop reading; what has been read and not been delivered waits. Idempotent."""
        if self.paused or self._session is None or self._life is not _OPEN:
            return
        self.paused = True
        self._session.pause_reading()
        if not self._wire_is_paused:
            self._wire_is_paused = True
            self._wire.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again. What waits is delivered first, and not from within this call. Idempotent."""
        if not self.paused or self._session is None or self._life is not _OPEN:
            return
        self.paused = False
        self._session.resume_reading(self._clock.seconds())
        self._flush_at_turn_end()

    def _resume_wire(self) -> None:
        """
        Read from the transport again: not before what waits is delivered, for what it has may be the connection's end.
        """
        if self._wire_is_paused and not self.paused and self._life is _OPEN:
            self._wire_is_paused = False
            self._wire.resumeProducing()

    def _deliver(self) -> None:
        """Hand events on, until there are none or the application wants no more for now."""
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._backlog and not self.paused:
                if self._messages_received is None or not self._deliver_at_once(self._messages_received):
                    self._deliver_singly()
        except Exception as error:
            if isinstance(error, NotConnected) and self._is_closing():
                # It wanted to send on a link whose end has come with the same bytes: it will hear of that.
                self._backlog.clear()
            elif isinstance(error, RemoteProtocolError):
                self.close(error.code, error.reason)
            else:
                self._broken("while a message was received")
        finally:
            self._delivering = False

    def _deliver_at_once(self, messages_received: Callable[[list[Any]], None]) -> bool:
        """Hand on what a chunk brought as one list, if it is all messages."""
        events = list(self._backlog[0])
        if not self._settings.vocabulary.messages.issuperset(map(type, events)):
            self._backlog[0] = iter(events)
            return False
        self._backlog.popleft()
        if events:
            messages_received(events)
        return True

    def _deliver_singly(self) -> None:
        """Hand on what a chunk brought, until the application pauses, or closes the link and so clears the backlog."""
        backlog = self._backlog
        event: Any
        for event in backlog[0]:
            kind = type(event)
            if kind is CallReplied:
                # If it isn't there, it was cancelled between the session and here.
                if (reply := self._waiting.pop(event.id, None)) is not None:
                    reply.callback(event.reply)
            elif (happened := _HAPPENED.get(kind)) is not None:
                happened(self, event)
            elif self._messages_received is not None:
                self._messages_received([event])
            else:
                assert self._application is not None
                self._application.message_received(event)
            if self.paused or not backlog:
                return
        backlog.popleft()

    def _ready(self, ready: Ready) -> None:
        self._application = application = self._application_factory(Peer(ready.peer, self))
        self._messages_received = getattr(application, "messages_received", None)
        self._link_ended = getattr(application, "link_ended", None)
        self._owner.link_ready(self)
        if self._is_closing():
            self._detach()  # its making has closed the link, or what came with the handshake has
        elif (link_ready := getattr(application, "link_ready", None)) is not None:
            link_ready()

    def _call_ended(self, ended: CallEnded) -> None:
        reply = self._waiting.pop(ended.id, None)
        if reply is not None:
            reply.errback(ended.error)

    def _call_dropped(self, dropped: CallDropped) -> None:
        answering = self._answering.get(dropped.id)
        if answering is not None:
            answering.cancel()

    def _error_received(self, error: ErrorReceived) -> None:
        self._misunderstood("{peer} didn't understand: {message!r} [{code!r}]", error.message, error.code)

    def _message_refused(self, refused: MessageRefused) -> None:
        self._misunderstood("a message of {peer} was refused: {message!r}", refused.message)

    def _misunderstood(self, what: str, message: str, code: str = "") -> None:
        self._misunderstandings += 1
        if self._misunderstandings <= _ERRORS_LOGGED:
            last = "; no more of this is logged" if self._misunderstandings == _ERRORS_LOGGED else ""
            self._log.warn(what + "{last}", peer=self._name(), message=message, code=code, last=last)

    def _session_closed(self, closed: Closed) -> None:
        # The session is closing, which `_flush` acts on: after all that came before has been delivered, unless the
        # application has paused reading.
        self._backlog.clear()

    # -- calls -------------------------------------------------------------------------------------------------------

    def _drop(self, reply: Deferred[Any]) -> None:
        """A call of ours was cancelled. To look for it is cheaper than to remember with each call which one it is."""
        id_ = next((id_ for id_, each in self._waiting.items() if each is reply), None)
        if id_ is not None and self._session is not None:
            del self._waiting[id_]
            self._session.drop(id_)
            self._collected()

    def _answer(self, call: CallReceived[msgspec.Struct]) -> None:
        assert self._application is not None
        try:
            answer = self._application.call_received(call.request)
            if isinstance(answer, msgspec.Struct) or not isinstance(answer, Awaitable):
                # Known at once, as most are: what it takes to wait for it costs more than all the rest.
                session = self._session
                assert session is not None
                session.answer(call.id, answer)
                if len(session.out) >= self._enough:
                    self._collected()
                return
        except Exception:
            self._not_answered(Failure(), call)
            return

        async def reply() -> msgspec.Struct:
            return await answer

        answering = Deferred.fromCoroutine(reply())
        self._answering[call.id] = answering
        answering.addCallback(self._answered, call.id)
        answering.addErrback(self._not_answered, call)
        answering.addBoth(self._forget_answering, call.id)

    def _answered(self, reply: msgspec.Struct, id_: int) -> None:
        assert self._session is not None
        self._session.answer(id_, reply)
        self._collected()

    def _forget_answering(self, _: object, id_: int) -> None:
        del self._answering[id_]

    def _not_answered(self, failure: Failure, call: CallReceived[msgspec.Struct]) -> None:
        assert self._session is not None
        error = failure.value
        data = None
        if isinstance(error, CallFailed):
            code, message, data = error.code, error.message, error.data
        elif isinstance(error, BadReply):
            self._log.failure("{peer}: a reply can't be sent", failure, peer=self._name())
            code, message = error.code, error.message
        elif isinstance(error, CancelledError) or self._is_closing():
            code, message = Code.CLOSED, "the call was cancelled"
        else:
            request = type(call.request).__qualname__
            self._log.failure("{peer}: {request} wasn't answered", failure, peer=self._name(), request=request)
            code, message = Code.INTERNAL, "an error inside; see the log there"
        try:
            self._session.refuse(call.id, code, message, data)
        except LocalProtocolError:
            self._log.failure("{peer}: an error's data was left out", peer=self._name())
            self._session.refuse(call.id, code, message)
        self._collected()

    # -- writing -----------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The transport has enough. It may say so several times."""
        self._wire_is_full = True
        if self.writing_is_paused:
            return
        self.writing_is_paused = True
        if self._application is not None and self._life is _OPEN:
            self._tell(self._application.writing_paused, "writing_paused")

    def resume_writing(self) -> None:
        """The transport has room."""
        self._wire_is_full = False
        self._write_held()
        if self._wire_is_full or not self.writing_is_paused:
            return
        self.writing_is_paused = False
        if self._application is not None and self._life is _OPEN:
            self._tell(self._application.writing_resumed, "writing_resumed")
            self._flush_at_turn_end()
        self._drains.release()

    def _collected(self) -> None:
        """
        Something may be there to be sent: write it if it is enough for that. Until then the end of the chunk, or of
        the turn, is waited for; where none is coming, as ``_enough`` tells by 0, it is made to come.
        """
        session = self._session
        if session is None or self._life is not _OPEN:
            return
        if self._enough == 0:
            self._flush_at_turn_end()
        if len(session.out) >= self._enough:
            self._write(session.data_to_send())

    def _flush_at_turn_end(self) -> None:
        if self._turn_end is None and self._life is _OPEN:
            self._turn_end = self._clock.callLater(0, self._at_turn_end)
            self._enough = self._enough or _CORK

    def _at_turn_end(self) -> None:
        self._turn_end = None
        self._enough = _CHUNK_CORK
        self._deliver()
        self._flush()
        self._resume_wire()

    def _flush(self) -> None:
        """A chunk or a turn ends: write what was collected, and act on the session's end if it has come."""
        self._enough = 0 if self._turn_end is None else _CORK
        session = self._session
        if session is None or self._life is not _OPEN:
            return
        data = session.data_to_send()
        if data:
            self._write(data)
        if session.closed is not None:
            self._close_transport(session.closed)
        else:
            self._set_timer(session)

    def _write(self, data: bytes) -> None:
        self._wrote = True
        if not self._held and not self._wire_is_full:
            sent = send_at_once(self.transport, data)
            if sent < len(data):
                self._wire.write(data[sent:] if sent else data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        limit = self._settings.outbound_limit
        if self._held_bytes > limit:
            self._held.clear()
            self._held_bytes = 0
            self.close(Code.OVERFLOW, f"more than {limit} bytes wait for the peer to read them", abrupt=True)

    def _write_held(self) -> None:
        while self._held and not self._wire_is_full:
            data = self._held.popleft()
            self._held_bytes -= len(data)
            self._wire.write(data)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _detach(self) -> None:
        """
        Nothing can be said any more. The application hears of that before anything fails for it: or who hears of a
        failure, and tries again, would be referred to this link still.
        """
        told, self._link_ended = self._link_ended, None
        if told is None:
            return
        closed = self._session.closed if self._session is not None else None
        try:
            told(self._reason or str(closed))
        except Exception:
            self._log.failure("{peer}: link_ended failed", peer=self._name())

    def _close_transport(self, closed: Closed) -> None:
        self._reason = str(closed)
        self._end()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if closed.abrupt:
            self._wire.abortConnection()
            return
        # Everything goes to the transport, which closes once it is written; a producer would keep it from that.
        self._wire.unregisterProducer()
        self._wire_is_full = False
        self._write_held()
        if self._wire_is_paused:
            # What the peer still sends must be read: unread bytes would make the kernel reset the connection, and
            # the peer would never see the reason.
            self.paused = self._wire_is_paused = False
            self._wire.resumeProducing()
        self._timer = self._clock.callLater(LINGER, self._wire.abortConnection)
        self._wire.loseConnection()

    def _end(self) -> None:
        """The application's part is over. Once."""
        if self._life is not _OPEN:
            return
        self._life = _Life.CLOSING
        self._backlog.clear()
        if self._polling is not None:
            self._polling.end()
        if self._session is not None:
            # Nothing more is said; whoever still answers a call, answers nobody.
            self._session.close(Code.CLOSED, self._reason)
        self._detach()
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            if not each.called:  # whoever hears of the end of one may cancel another
                each.errback(NotConnected(self._reason))
        self._drains.fail(NotConnected(self._reason))
        for answering in list(self._answering.values()):
            answering.cancel()
        if self._application is not None:
            try:
                self._application.connection_lost(self._reason)
            except Exception:
                self._log.failure("{peer}: connection_lost failed", peer=self._name())

    def _broken(self, when: str) -> None:
        """The application raised: its view of the link can't be trusted any longer."""
        self._log.failure("{peer}: the application failed {when}", peer=self._name(), when=when)
        self.close(Code.INTERNAL, "an error inside; see the log there")

    def _tell(self, callback: Callable[[], None], name: str) -> None:
        try:
            callback()
        except Exception:
            self._broken(f"in {name}")

    # -- time --------------------------------------------------------------------------------------------------------

    def _set_timer(self, session: Session) -> None:
        """Be called when the session wants it. A timer that is too early is left: it will look again."""
        due = session.next_deadline()
        if self._timer is not None and self._timer.active():
            if due is None or self._timer.getTime() <= due:
                return
            self._timer.cancel()
        if due is not None:
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._tick)

    def _tick(self) -> None:
        if self._session is None:
            return
        self._enough = _CHUNK_CORK
        later: list[Event] = []
        events = self._session.tick(self._clock.seconds())
        if self._is_closing():
            self._detach()
        for event in events:
            if isinstance(event, CallEnded):
                self._call_ended(event)  # its time is up, whether or not the application reads for now
            else:
                later.append(event)
        self._backlog.append(iter(later))
        self._deliver()
        self._flush()

    # -- small things ------------------------------------------------------------------------------------------------

    @property
    def _wire(self) -> LinkTransport:
        return cast(LinkTransport, self.transport)

    def _is_closing(self) -> bool:
        return self._session is None or self._session.closed is not None

    def _open_session(self) -> Session:
        if self._session is None:
            raise LocalProtocolError("there is no connection yet")
        if self._life is not _OPEN:
            raise NotConnected(self._reason)
        return self._session

    def _name(self) -> str:
        peer = self._session.peer if self._session is not None else None
        return peer.name if peer is not None else "a peer"


#: What is done about each event of the session; all others are the application's messages. By the exact type, which
#: costs less than `isinstance`.
_HAPPENED: dict[type, Callable[[JSONLineProtocol, Any], None]] = {
    Ready: JSONLineProtocol._ready,
    CallReceived: JSONLineProtocol._answer,
    CallDropped: JSONLineProtocol._call_dropped,
    CallEnded: JSONLineProtocol._call_ended,
    ErrorReceived: JSONLineProtocol._error_received,
    MessageRefused: JSONLineProtocol._message_refused,
    Closed: JSONLineProtocol._session_closed,
}
