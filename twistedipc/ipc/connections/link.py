"""
A session on a Twisted transport: `JSONLineProtocol`. Made by ``dial`` and ``listen``, and by ``testing``.

A chunk that is read goes through the session as one block, and is handed on as one list where that is possible.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from threading import get_ident
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from twistedipc.ipc.connections.acceptance import Acceptance
from twistedipc.ipc.connections.answering import Answering
from twistedipc.ipc.connections.bodies import Bodies
from twistedipc.ipc.connections.connection import Connection, Life, check_thread
from twistedipc.ipc.connections.misunderstandings import Misunderstandings
from twistedipc.ipc.connections.peer import Application, ApplicationFactory, Complaint, Peer
from twistedipc.ipc.connections.polling import Polling
from twistedipc.ipc.connections.streamed import Arriving
from twistedipc.ipc.connections.streaming import ItemCalls
from twistedipc.ipc.connections.tracing import trace_context
from twistedipc.ipc.connections.traffic import Queues
from twistedipc.ipc.places.credentials import origin_of
from twistedipc.ipc.places.endpoints import is_refused_by_tls
from twistedipc.ipc.places.unread import UnreadPeer
from twistedipc.ipc.wire.bodies import BODIES, BodyChunk, BodyDone, BodyEnded, BodyFailed, BodyWanted
from twistedipc.ipc.wire.catalogue import CALL, ITEMS, MESSAGE, STREAM
from twistedipc.ipc.wire.errors import CallFailed, Code, NotConnected, RemoteProtocolError
from twistedipc.ipc.wire.interface import StreamOf
from twistedipc.ipc.wire.messages import CallReceived, CallReplied, Frame, tag_of
from twistedipc.ipc.wire.schema import fingerprint
from twistedipc.ipc.wire.session import (
    CallDropped,
    CallEnded,
    Closed,
    CreditReceived,
    ErrorReceived,
    Event,
    ItemsReceived,
    MessageRefused,
    PongReceived,
    Proven,
    Ready,
    Session,
)
from twistedipc.ipc.wire.settings import SessionSettings, Side

#: The ends of a handshake that come again until people change something.
_REFUSALS = frozenset(
    {Code.VERSION, Code.UNAUTHORIZED, Code.REFUSED, Code.NOT_ACCEPTED, Code.NAME_TAKEN, Code.BAD_HANDSHAKE}
)

# To look a member up in its enumeration costs as much as an encoding.
_OPEN = Life.OPEN

CallIn = CallReceived[msgspec.Struct]

#: What an application returns that answers later.
_LATER = (Awaitable, AsyncIterator)


class LinkOwner(Protocol):
    """What has made a connection, and is called as its life goes on."""

    def link_made(self, link: JSONLineProtocol) -> str | None:
        """The link has a transport. Return a reason to refuse it, or None."""

    def link_ready(self, link: JSONLineProtocol) -> None:
        """The peer is authenticated."""

    def link_lost(self, link: JSONLineProtocol, reason: str) -> None:
        """The link is gone: its transport is closed."""


class JSONLineProtocol(Connection, LineReceiver):
    """
    One connection of a link.

    The base `LineReceiver` is there because Twisted's code and users know a protocol of lines by it. None of its
    methods is used: finding the lines of a chunk one by one, in Python, would cost more than everything else.

    :param owner: called as the connection's life goes on; it holds connections, so that services can wait for their end
    :param nonce: for the handshake; no other connection may have it: see `make_nonce`
    """

    _log = Logger()
    delimiter = b"\n"
    _session: Session  # from `connectionMade` on

    def __init__(
        self,
        side: Side,
        settings: SessionSettings,
        application_factory: ApplicationFactory,
        clock: IReactorTime,
        owner: LinkOwner,
        nonce: str,
    ) -> None:
        super().__init__(clock, settings.outbound_limit)
        self._begin = partial(Session, side, settings, nonce=nonce)
        self._application_factory = application_factory
        self._owner = owner
        self._application: Application | None = None
        self._messages_received: Callable[[list[Any]], None] | None = None
        self._link_ended: Callable[[str], None] | None = None  # called once, when the session is over
        self._waiting: dict[int, Deferred[Any]] = {}  # calls of this side's
        # These three are made when the link is ready, for the settings that the handshake comes to: `_bind`.
        self._polling: Polling | None = None
        self._items = ItemCalls(clock, self, settings.vocabulary)
        self._bodies: Bodies | None = None
        self._answering: Answering[CallIn] = Answering(self._name, self._answer, self._refuse, self._is_closing)
        self._acceptance = Acceptance(clock, self)
        self._misunderstood = Misunderstandings(self._log, self._name)

    def _bind(self) -> None:
        """
        Go by the session's settings, now that it is ready: a listener that has several services knows by the hello
        which one's they are.
        """
        settings = self._session.settings
        self._cork.limit = settings.outbound_limit
        self._polling = Polling(self._clock, settings.busy_poll) if settings.busy_poll else None
        self._items = ItemCalls(self._clock, self, settings.vocabulary)
        kinds = settings.with_bodies
        self._bodies = Bodies(self, kinds) if kinds else None

    # -- the connection ----------------------------------------------------------------------------------------------

    def _made(self, address: str) -> None:
        self._session = session = self._begin(
            now=self._clock.seconds(), origin=lambda: origin_of(self.transport, address or "unix")
        )
        self._cork.collected = session.out
        refusal = self._owner.link_made(self)
        if refusal is not None:
            session.close(Code.REFUSED, refusal)
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        if self.life is not _OPEN:
            return
        session, cork, polling = self._session, self._cork, self._polling
        now = self._clock.seconds()
        if polling is not None:
            polling.arrived(now)
        cork.begin_chunk()
        self._traffic.bytes_received += len(data)
        self._backlog.append(iter(session.receive(data, now)))
        if session.closed is not None:
            self._detach()
        self._hand_on()
        self._flush()
        if polling is not None and cork.has_written and self.life is _OPEN:
            polling.begin(self._clock.seconds())

    def _why_lost(self, failure: Failure) -> str:
        if is_refused_by_tls(failure):
            self._refused(Code.UNAUTHORIZED)
        return super()._why_lost(failure)

    def _gone(self) -> None:
        self._owner.link_lost(self, self.reason)

    # -- for Peer and the services -----------------------------------------------------------------------------------

    def send(self, message: msgspec.Struct) -> None:
        """See `Peer.send`."""
        if self.life is not _OPEN or get_ident() != self._thread:
            self._check_open()
        session = self._session
        session.send(message)
        if len(session.out) >= self._cork.enough:
            self._cork.look()

    def line_of(self, message: msgspec.Struct) -> bytes:
        """Return a one-way message as the line that `send` would send. Raises what `send` raises."""
        self._check_open()
        return self._session.line_of(message)

    def send_line(self, line: bytes) -> None:
        """Send what ``line_of`` has returned, of this link or of another one of the same side."""
        self._check_open()
        self._session.out += line
        self._cork.look()

    def send_many(self, messages: Sequence[msgspec.Struct]) -> None:
        """See `Peer.send_many`."""
        self._check_open()
        self._session.send_many(messages)
        self._cork.look()

    def call(self, request: msgspec.Struct, timeout: float) -> Deferred[Any]:
        """See `Peer.call`."""
        try:
            if self.life is not _OPEN or get_ident() != self._thread:
                self._check_open()
            session, bodies = self._session, self._bodies
            blobs = None if bodies is None else bodies.open(request)
            id_ = session.call(request, self._clock.seconds() + timeout, trace_context.get())
        except (NotConnected, CallFailed) as error:
            if self._bodies is not None and isinstance(error, CallFailed):
                self._bodies.unsent(request)
            return self._failing.fail(error)
        reply: Deferred[Any] = Deferred(self._drop)
        self._waiting[id_] = reply
        if bodies is not None and blobs is not None:
            bodies.called(id_, blobs, reply)
        traffic = self._traffic
        traffic.calls += 1
        if traffic.latencies is not None:
            traffic.latencies.measure(reply, self._clock.seconds)
        if len(session.out) >= self._cork.enough:
            self._cork.look()
        return reply

    def call_for_items(self, request: msgspec.Struct, credit: int, arriving: Arriving) -> int:
        """See `Peer.stream_call`."""
        self._check_open()
        id_ = self._session.call_for_items(request, credit, trace_context.get())
        self._traffic.calls += 1
        self._items.arriving[id_] = arriving
        end: Deferred[Any] = Deferred()
        self._waiting[id_] = end
        end.addBoth(self._items.arrived, id_)
        end.addCallbacks(arriving.ended, arriving.failed)
        self._look()
        return id_

    def more(self, id_: int, credit: int) -> None:
        """Let the peer send so many more bytes of the items of a call."""
        if self.life is _OPEN:
            self._session.more(id_, credit)
            self._look()

    def drop(self, id_: int) -> None:
        """Drop a call for items."""
        if self._items.arriving.pop(id_, None) is not None:
            self._waiting.pop(id_, None)  # when the link ends, all calls are taken out of it before the first one fails
            self._session.drop(id_)
            self._look()

    def answer_items(self, id_: int, items: bytes) -> None:
        """Send items, a JSON array, that answer a call of the peer."""
        self._session.answer_items(id_, items)
        self._look()

    @property
    def takes_bodies(self) -> bool:
        """Whether the peer takes the bodies of blobs."""
        return self._session.peer is not None and BODIES in self._session.peer.features

    def check_thread(self) -> None:
        """Raise `LocalProtocolError` unless this is the link's thread."""
        check_thread(self._thread)

    def say(self, frame: Frame) -> None:
        """Send a frame of a body; nothing if the link has ended."""
        if self.life is _OPEN and self._session.closed is None:
            self._session.send(frame)
            self._cork.look()

    @property
    def send_limit(self) -> int:
        """See `Peer.frame_limit`."""
        return self._session.send_limit

    def understands(self, kind: type[msgspec.Struct] | StreamOf[Any], *, exactly: bool) -> bool:
        """See `Peer.understands`."""
        takes, vocabulary = self._session.takes, self._session.settings.vocabulary
        if takes is None:
            return False
        if isinstance(kind, StreamOf):
            what, name, parts = STREAM, kind.name, [kind.items]
        elif kind in vocabulary.calls:
            what, name, parts = CALL, tag_of(kind), [kind, vocabulary.calls[kind]]
        elif kind in vocabulary.items.calls:
            what, name, parts = ITEMS, tag_of(kind), [kind, vocabulary.items.calls[kind]]
        else:
            what, name, parts = MESSAGE, tag_of(kind), [kind]
        return takes.has(what, name, list(map(fingerprint, parts)) if exactly else None)

    @property
    def queues(self) -> Queues:
        """See `Peer.queues`."""
        return Queues(calls=len(self._waiting), answers=len(self._answering.under_way), unread_bytes=self.waiting)

    def complain(self, code: str, message: str) -> None:
        """See `Peer.complain`."""
        if self.life is _OPEN:
            self._session.complain(code, message)
            self._cork.look()

    def close(self, code: str, reason: str, *, abrupt: bool = False) -> None:
        """End the link. The application's `connection_lost` is called at the end of the turn."""
        if self.life is _OPEN:
            # Even if the peer's own end has come already, in the same chunk: what lies before it isn't wanted.
            self._backlog.clear()
            self._session.close(code, reason, abrupt=abrupt)
            self._detach()
            self._cork.wait_for_turn()

    # -- reading -----------------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """See `Connection.pauseProducing`. Silence is no sign of a dead peer from now on."""
        if not self.paused and self.life is _OPEN:
            self._session.pause_reading()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """See `Connection.resumeProducing`."""
        if self.paused and self.life is _OPEN:
            self._session.resume_reading(self._clock.seconds())
        super().resumeProducing()

    def _hand_on_events(self) -> None:
        while self._backlog and not self.paused:
            if self._messages_received is None or not self._hand_on_at_once(self._messages_received):
                self._hand_on_singly()

    def _hand_on_at_once(self, messages_received: Callable[[list[Any]], None]) -> bool:
        """Hand on what a chunk brought as one list, if it is all messages."""
        events = list(self._backlog[0])
        if not self._session.settings.vocabulary.messages.issuperset(map(type, events)):
            self._backlog[0] = iter(events)
            return False
        self._backlog.popleft()
        if events:
            messages_received(events)
        return True

    def _hand_on_singly(self) -> None:
        """Hand on what a chunk brought, until the application pauses, or closes the link and so clears the backlog."""
        backlog = self._backlog
        event: Any
        for event in backlog[0]:
            kind = type(event)
            if kind is CallReplied:
                if (reply := self._waiting.pop(event.id, None)) is not None:
                    reply.callback(event.reply)
                elif self._bodies is not None:  # it was cancelled between the session and here
                    self._bodies.unwanted(event.reply)
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

    def _application_failed(self, error: Exception) -> None:
        if isinstance(error, NotConnected) and self._is_closing():
            # The application wanted to send on a link whose end has come with the same bytes: that is no error of it.
            self._backlog.clear()
        elif isinstance(error, RemoteProtocolError):
            self.close(error.code, error.reason)
        else:
            self._broken("while a message was received")

    # -- whether the peer is taken -----------------------------------------------------------------------------------

    def _proven(self, proven: Proven) -> None:
        settings = self._session.settings
        self._acceptance.begin(proven.peer, settings.accept_peer, settings.names)
        if not self._acceptance.is_over:
            self._read_or_not()  # what the peer says now can't be handed on yet

    def _may_hand_on(self) -> bool:
        return not self.paused and self._acceptance.is_over

    def take_name(self) -> None:
        """Make the link: the peer is taken, and its name is this link's."""
        if self.life is _OPEN:
            self._acceptance.is_over = True
            self._backlog.append(iter(self._session.accept(self._clock.seconds())))
            self._hand_on()
            self._cork.wait_for_turn()

    def probe(self, heard: Callable[[bool], None]) -> None:
        """Find out whether the peer is alive. See `Claimant`."""
        if self.life is not _OPEN:
            heard(False)
            return
        # Its words lie unread in the socket while this side doesn't read: then only the system has news of the peer.
        hears = UnreadPeer(self.transport) if self.paused else self._session
        if self._application is not None:  # else its introduction is still to come, which is such a sign
            self._session.ping()
            self._look()
        self._acceptance.wait_for_sign(heard, hears)

    def _pong_received(self, pong: PongReceived) -> None:
        self._acceptance.heard(True)

    # -- what the session tells --------------------------------------------------------------------------------------

    def _ready(self, ready: Ready) -> None:
        self._bind()
        keys = self._session.settings.keys
        if keys is not None and ready.peer.key:
            if ready.peer.key not in keys:
                self._key_revoked()  # after the peer had proven it, and before it was ready
                return
            keys.watch(ready.peer.key, self, self._key_revoked)
        self._application = application = self._application_factory(Peer(ready.peer, self))
        self._messages_received = getattr(application, "messages_received", None)
        self._link_ended = getattr(application, "link_ended", None)
        self._owner.link_ready(self)
        if self._is_closing():
            self._detach()  # its making has closed the link, or what came with the handshake has
        elif (link_ready := getattr(application, "link_ready", None)) is not None:
            link_ready()

    def _key_revoked(self) -> None:
        self.close(Code.UNAUTHORIZED, "the key of this link was revoked")

    def _call_received(self, call: CallIn) -> None:
        self._traffic.calls_received += 1
        if not call.trace:
            self._answer_call(call)
            return
        outer = trace_context.set(call.trace)
        try:
            self._answer_call(call)
        finally:
            trace_context.reset(outer)

    def _answer_call(self, call: CallIn) -> None:
        assert self._application is not None
        try:
            if self._bodies is not None:
                self._bodies.asked(call.id, call.request)
            answer = self._application.call_received(call.request)
            if isinstance(answer, msgspec.Struct) or not isinstance(answer, _LATER):
                # Known at once, as most are: what it takes to wait for it costs more than all the rest.
                session = self._session
                if self._bodies is None:
                    session.answer(call.id, answer)
                else:
                    self._bodies.answer(call.id, call.request, answer, session)
                if len(session.out) >= self._cork.enough:
                    self._look()
                return
            if isinstance(answer, AsyncIterator):
                answer = self._items.begin(call, answer)
                if (measured := getattr(self._application, "measured", None)) is not None:
                    answer = measured(call.request, answer)
        except Exception:
            self._answering.failed(Failure(), call)
            return
        self._answering.wait(call.id, call, answer).addBoth(self._items.answered, call.id)

    def _items_received(self, received: ItemsReceived) -> None:
        self._items.came(received)

    def _credit_received(self, received: CreditReceived) -> None:
        self._items.more(received)

    def _call_ended(self, ended: CallEnded) -> None:
        reply = self._waiting.pop(ended.id, None)
        if reply is not None:
            self._traffic.calls_failed += 1
            reply.errback(ended.error)

    def _call_dropped(self, dropped: CallDropped) -> None:
        self._items.stop(dropped.id)
        self._answering.cancel(dropped.id)
        if self._bodies is not None:
            self._bodies.dropped(dropped.id)

    def _body_received(self, frame: Frame) -> None:
        assert self._bodies is not None, "the vocabulary has no such frames"
        self._bodies.received(frame)

    def _error_received(self, error: ErrorReceived) -> None:
        self._misunderstood.add("{peer} didn't understand: {message!r} [{code!r}]", error.message, error.code)
        if (told := getattr(self._application, "complaint_received", None)) is not None:
            try:
                told(Complaint(error.code, error.message))
            except Exception:
                self._log.failure("{peer}: complaint_received failed", peer=self._name())

    def _message_refused(self, refused: MessageRefused) -> None:
        self._misunderstood.add("a message of {peer} was refused: {message!r}", refused.message)

    def _session_closed(self, closed: Closed) -> None:
        # The session is closing, which `_flush` acts on: after all that came before has been delivered, unless the
        # application has paused reading.
        self._backlog.clear()

    # -- calls -------------------------------------------------------------------------------------------------------

    def _drop(self, reply: Deferred[Any]) -> None:
        """Drop a cancelled call of this side's. Looking for its id costs less than remembering it with each call."""
        id_ = next((id_ for id_, each in self._waiting.items() if each is reply), None)
        if id_ is not None:
            del self._waiting[id_]
            self._session.drop(id_)
            self._look()

    def _answer(self, call: CallIn, reply: Any) -> None:
        if self._bodies is None:
            self._session.answer(call.id, reply)
        else:
            self._bodies.answer(call.id, call.request, reply, self._session)
        self._look()

    def _refuse(self, call: CallIn, code: str, message: str, data: Any) -> None:
        self._session.refuse(call.id, code, message, data)
        if self._bodies is not None:
            self._bodies.answered(call.id)
        self._look()

    def _look(self) -> None:
        """Write what was collected if it is enough, unless the link has ended."""
        if self.life is _OPEN:
            self._cork.look()

    # -- writing -----------------------------------------------------------------------------------------------------

    def _writing_paused(self) -> None:
        if self._application is not None and self.life is _OPEN:
            self._tell(self._application.writing_paused, "writing_paused")

    def _writing_resumed(self) -> None:
        if self._application is not None and self.life is _OPEN:
            self._tell(self._application.writing_resumed, "writing_resumed")
            self._cork.wait_for_turn()

    def _who_waits(self) -> list[Callable[[], None]]:
        waiting = super()._who_waits()
        return waiting if self._bodies is None else [*waiting, self._bodies.go_on]

    def _flush(self) -> None:
        """Write what was collected, at the end of a chunk or a turn, and act on the session's end if it has come."""
        self._cork.end_chunk()
        if self.life is not _OPEN:
            return
        session = self._session
        if session.closed is None:
            self._timer.set(session.next_deadline())
        else:
            self.reason = str(session.closed)
            self._end()
            self._close_transport(abrupt=session.closed.abrupt)

    def _overflowed(self) -> None:
        limit = self._session.settings.outbound_limit
        self.close(Code.OVERFLOW, f"more than {limit} bytes wait for the peer to read them", abrupt=True)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _detach(self) -> None:
        """
        Call the application's ``link_ended``, as nothing can be sent any more. This comes before any call fails: a
        caller that tries again at once must not be given this link.
        """
        told, self._link_ended = self._link_ended, None
        if told is not None:
            self._guard(told, "link_ended", self._name(), self.reason or str(self._session.closed))

    def _tell_the_end(self) -> None:
        if self._polling is not None:
            self._polling.end()
        closed = self._session.closed
        if self._application is None and closed is not None and closed.code in _REFUSALS:
            self._refused(closed.code)
        self._session.close(Code.CLOSED, self.reason)  # answers that are still to come are dropped
        if self._session.settings.keys is not None and self._session.peer is not None:
            self._session.settings.keys.forget(self._session.peer.key, self)
        self._acceptance.end()
        if self._bodies is not None:
            self._bodies.end(self.reason)
        waiting, self._waiting = self._waiting, {}
        self._traffic.calls_failed += len(waiting)
        for each in waiting.values():
            if not each.called:  # a caller that hears of the end of one may cancel another
                each.errback(NotConnected(self.reason))
        self._items.stop_all()
        self._answering.end()
        if self._application is not None:
            self._guard(self._application.connection_lost, "connection_lost", self._name(), self.reason)
        if self._session.settings.names is not None:
            self._session.settings.names.release(self)

    def _broken(self, when: str) -> None:
        """Close the link, as the application raised: its view of the link can't be trusted any longer."""
        self._log.failure("{peer}: the application failed {when}", peer=self._name(), when=when)
        self.close(Code.INTERNAL, "an error inside; see the log there")

    def _tell(self, callback: Callable[[], None], name: str) -> None:
        try:
            callback()
        except Exception:
            self._broken(f"in {name}")

    # -- time --------------------------------------------------------------------------------------------------------

    def _time_came(self) -> None:
        self._cork.begin_chunk()
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
        self._hand_on()
        self._flush()

    # -- small things ------------------------------------------------------------------------------------------------

    def _is_closing(self) -> bool:
        return self._session.closed is not None

    def _name(self) -> str:
        peer = self._session.peer
        return peer.name if peer is not None else "a peer"


#: What is done about each event of the session; all others are the application's messages. By the exact type, which
#: costs less than `isinstance`.
_HAPPENED: dict[type, Callable[[JSONLineProtocol, Any], None]] = {
    Proven: JSONLineProtocol._proven,
    Ready: JSONLineProtocol._ready,
    PongReceived: JSONLineProtocol._pong_received,
    CallReceived: JSONLineProtocol._call_received,
    CallDropped: JSONLineProtocol._call_dropped,
    CallEnded: JSONLineProtocol._call_ended,
    ItemsReceived: JSONLineProtocol._items_received,
    CreditReceived: JSONLineProtocol._credit_received,
    ErrorReceived: JSONLineProtocol._error_received,
    MessageRefused: JSONLineProtocol._message_refused,
    BodyWanted: JSONLineProtocol._body_received,
    BodyChunk: JSONLineProtocol._body_received,
    BodyEnded: JSONLineProtocol._body_received,
    BodyFailed: JSONLineProtocol._body_received,
    BodyDone: JSONLineProtocol._body_received,
    Closed: JSONLineProtocol._session_closed,
}
