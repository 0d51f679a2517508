"""
A conversation without a session on a Twisted transport: `PlainProtocol`. Made by the face's ``plain``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from threading import get_ident
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedipc.ipc.connections.answering import Answering
from twistedipc.ipc.connections.connection import Connection, Life
from twistedipc.ipc.connections.lateness import LAST_ANSWERS, Lateness
from twistedipc.ipc.connections.misunderstandings import Misunderstandings
from twistedipc.ipc.connections.peer import Application, Peer
from twistedipc.ipc.connections.polling import Polling
from twistedipc.ipc.connections.tracing import trace_context
from twistedipc.ipc.connections.traffic import Queues
from twistedipc.ipc.places.endpoints import is_refused_by_tls
from twistedipc.ipc.wire.conversation import (
    Asked,
    Conversation,
    Dropped,
    Ended,
    Event,
    Failed,
    Misunderstood,
    Refused,
    Replied,
)
from twistedipc.ipc.wire.errors import CallFailed, Code, NotConnected
from twistedipc.ipc.wire.identity import PeerInfo
from twistedipc.ipc.wire.interface import StreamOf

#: Bytes that may wait for a peer that doesn't read what it is sent, before its connection is closed.
OUTBOUND_LIMIT = 64 << 20


_PEER_CLOSED = "the peer closed the connection"

# To look a member up in its enumeration costs as much as an encoding.
_OPEN = Life.OPEN


class PlainApplication(Application, Protocol):
    """An `Application` with what a connection of the plain profile needs in addition."""

    #: called whenever nothing is at work any longer
    when_idle: Callable[[], None]

    @property
    def is_at_work(self) -> bool:
        """Whether something that was received is still being dealt with."""

    def link_ended(self, reason: str) -> None:
        """Nothing can be sent any more. ``reason`` is for people."""


class PlainOwner(Protocol):
    """What has made a connection, and is called as its life goes on: as ``link``'s `LinkOwner`."""

    def link_made(self, link: PlainProtocol) -> str | None:
        """The connection has a transport. Return a reason to refuse it, or None."""

    def link_ready(self, link: PlainProtocol) -> None:
        """The connection is wanted: nothing else is to be proven."""

    def link_lost(self, link: PlainProtocol, reason: str) -> None:
        """The connection is gone: its transport is closed."""


@implementer(IHalfCloseableProtocol)
class PlainProtocol(Connection):
    """
    One connection without a session.

    It isn't read while a request is at work that has no id, where its answer can only be told by its place; while its
    peer doesn't read what it is sent, unless this side makes calls; and while as many requests are at work as may be,
    unless this side makes calls or calls can be cancelled: then more are refused.

    :param name: the peer's, for handlers and logs; it proves nothing
    :param idle_timeout: seconds without a line and without work, after which it is closed; None: never
    :param busy_poll: seconds for which the process looks for what the peer says next instead of sleeping; see `Polling`
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        owner: PlainOwner,
        conversation: Conversation,
        application_factory: Callable[[Peer], PlainApplication],
        name: str,
        *,
        outbound_limit: int = OUTBOUND_LIMIT,
        idle_timeout: float | None = None,
        busy_poll: float = 0.0,
    ) -> None:
        super().__init__(clock, outbound_limit)
        self._polling = Polling(clock, busy_poll) if busy_poll else None
        self._owner = owner
        self._conversation = conversation
        self._application_factory = application_factory
        self._name = name
        self._application: PlainApplication | None = None
        self._link_ended: Callable[[str], None] | None = None  # called once, when nothing can be sent any more
        self._waiting: dict[int, Deferred[Any]] = {}  # calls of this side's
        self._answering: Answering[Asked] = Answering(lambda: name, self._answer, self._refuse, self._is_over)
        self._misunderstood = Misunderstandings(self._log, lambda: name)
        self._in_turn: Asked | None = None  # the one without an id that is at work
        self._lateness = Lateness(idle_timeout)

    # -- the transport's

    def _made(self, address: str) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpKeepAlive(True)  # or a peer that vanishes without a word stays for ever
        self._lateness.active(self._clock.seconds())
        refusal = self._owner.link_made(self)
        if refusal is not None:
            self.close(Code.REFUSED, refusal)
            return
        info = PeerInfo(name=self._name, role="plain", incarnation="", version=0, address=address or "local")
        self._application = application = self._application_factory(Peer(info, self))
        application.when_idle = self._cork.wait_for_turn
        self._link_ended = application.link_ended
        self._owner.link_ready(self)
        if (link_ready := getattr(application, "link_ready", None)) is not None:
            link_ready()
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        if self.life is not _OPEN:
            return
        conversation, cork, polling = self._conversation, self._cork, self._polling
        now = self._clock.seconds()
        if polling is not None:
            polling.arrived(now)
        self._traffic.bytes_received += len(data)
        cork.begin_chunk()
        self._backlog.append(conversation.receive(data))
        self._lateness.heard(now, ended=conversation.has_completed, pending=bool(conversation.pending))
        self._hand_on()
        self._flush()
        if polling is not None and cork.has_written and self.life is _OPEN:
            polling.begin(self._clock.seconds())

    def readConnectionLost(self) -> None:
        """Take note that the peer asks and answers no more. It may still wait for answers."""
        self._lateness.end(self._clock.seconds())
        self._wire_is_paused = False  # there is nothing to be read, so nothing to be paused or resumed
        if self._conversation.makes_calls:
            self.reason = _PEER_CLOSED
            self._detach()  # calls are for the next connection
        self._look_for_the_end()
        self._flush()

    def writeConnectionLost(self) -> None:
        """Do nothing: only this side ends its writing."""

    def _gone(self) -> None:
        self._owner.link_lost(self, self.reason)

    def _why_lost(self, failure: Failure) -> str:
        if is_refused_by_tls(failure):
            self.refusal = Code.UNAUTHORIZED
        return super()._why_lost(failure)

    # -- for Peer

    @property
    def send_limit(self) -> int:
        """See `Peer.frame_limit`."""
        return self._conversation.limit

    def send(self, message: msgspec.Struct) -> None:
        """See `Peer.send`."""
        self._check_open()
        self._cork.add(self._conversation.message(message))

    def send_many(self, messages: Sequence[msgspec.Struct]) -> None:
        """See `Peer.send_many`."""
        self._check_open()
        lines = [self._conversation.message(message) for message in messages]
        self._cork.add(b"".join(lines))

    def call(self, request: msgspec.Struct, timeout: float) -> Deferred[Any]:
        """See `Peer.call`."""
        try:
            if self.life is not _OPEN or get_ident() != self._thread:
                self._check_open()
            if self._lateness.no_more:
                raise NotConnected(self.reason)  # it reads what is sent, but says nothing more
            conversation = self._conversation
            trace = trace_context.get() if conversation.traces else ""
            id_, frame = conversation.call(request, self._clock.seconds() + timeout, trace)
        except (NotConnected, CallFailed) as error:
            return self._failing.fail(error)
        reply: Deferred[Any] = Deferred(self._drop)
        self._waiting[id_] = reply
        self._traffic.calls += 1
        if self._traffic.latencies is not None:
            self._traffic.latencies.measure(reply, self._clock.seconds)
        cork = self._cork  # as `_send` does it
        cork.collected += frame
        if len(cork.collected) >= cork.enough:
            cork.look()
        return reply

    def understands(self, kind: type[msgspec.Struct] | StreamOf[Any], *, exactly: bool) -> bool:
        """See `Peer.understands`. Peers of the plain profile don't say what they take."""
        return False

    @property
    def queues(self) -> Queues:
        """See `Peer.queues`."""
        return Queues(calls=len(self._waiting), answers=len(self._answering.under_way), unread_bytes=self.waiting)

    def complain(self, code: str, message: str) -> None:
        """See `Peer.complain`."""
        self._send(self._conversation.complaint(code, message))

    def close(self, code: str, reason: str, *, abrupt: bool = False) -> None:
        """Say ``bye``, and close. Nothing is received from now on."""
        if self.life is not _OPEN:
            return
        self.reason = f"{reason} [{code}]"
        self._end()
        self._cork.collected += self._conversation.bye(code, reason)
        self._close_transport(abrupt=abrupt)

    # -- reading

    def _may_hand_on(self) -> bool:
        return (
            self.life is _OPEN
            and not self.paused
            and (not self.writing_is_paused or self._conversation.makes_calls)
            and self._in_turn is None
            and (self._conversation.refuses_more or len(self._answering.under_way) < self._conversation.max_asked)
        )

    def _hand_on_events(self) -> None:
        backlog = self._backlog
        while backlog and self._may_hand_on():
            for event in backlog[0]:
                kind = type(event)  # by which most are known faster than by a match
                if kind is Asked:
                    if event.trace:
                        self._traced_call_received(event)
                    else:
                        self._call_received(event)
                elif isinstance(event, Replied):
                    if (waiting := self._waiting.pop(event.id, None)) is not None:
                        waiting.callback(event.reply)
                    if not self.paused and backlog:  # what else holds events back doesn't hold back replies
                        continue
                else:
                    self._take(event)
                if not self._may_hand_on():
                    return
            backlog.popleft()

    def _hand_on(self) -> None:
        super()._hand_on()
        self._read_or_not()
        if self._lateness.no_more:
            self._look_for_the_end()

    def _read_or_not(self) -> None:
        if not self._lateness.no_more:
            super()._read_or_not()

    def _take(self, event: Event) -> None:
        match event:
            case Failed(id=id_, error=error):
                self._call_failed(id_, error)
            case Refused(line=line):
                self._send(line)
            case Dropped(asked=asked):
                self._answering.cancel(id(asked))
            case Misunderstood(what=what):
                self._misunderstood.add("{peer}: {message!r}", what)
            case Ended(code=code, reason=reason, refused=refused):
                self.refusal = code if refused else None
                self.close(code, reason)
            case message:
                assert self._application is not None
                self._application.message_received(message)

    def _application_failed(self, error: Exception) -> None:
        self._log.failure("{peer}: the application failed while a message was received", peer=self._name)
        self.close(Code.INTERNAL, "an error inside; see the log there")

    @property
    def _is_at_work(self) -> bool:
        return bool(self._answering.under_way) or (self._application is not None and self._application.is_at_work)

    def _look_for_the_end(self) -> None:
        if self.life is not _OPEN or self._backlog:
            return
        self.reason = _PEER_CLOSED
        self._fail_calls()  # all answers that the peer has given were handed on
        if self.life is _OPEN and not self._is_at_work:
            self._end()
            self._close_transport(LAST_ANSWERS)

    # -- calls of this side's

    def _call_failed(self, id_: int, error: Exception) -> None:
        if (waiting := self._waiting.pop(id_, None)) is not None:
            self._traffic.calls_failed += 1
            waiting.errback(error)

    def _drop(self, reply: Deferred[Any]) -> None:
        """Drop a cancelled call. Looking for its id costs less than remembering it with each call."""
        id_ = next((id_ for id_, each in self._waiting.items() if each is reply), None)
        if id_ is not None:
            del self._waiting[id_]
            self._send(self._conversation.drop(id_))

    def _fail_calls(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._traffic.calls_failed += len(waiting)
        for each in waiting.values():
            if not each.called:  # a caller that hears of the end of one may cancel another
                each.errback(NotConnected(self.reason))

    # -- answering

    def _call_received(self, asked: Asked) -> None:
        assert self._application is not None
        self._traffic.calls_received += 1
        most = self._conversation.max_asked
        if len(self._answering.under_way) >= most:
            self._refuse(asked, Code.BUSY, f"{most} requests are in flight", None)
            return
        try:
            answer = self._application.call_received(asked.request)
            if isinstance(answer, msgspec.Struct) or not isinstance(answer, Awaitable):
                # Known at once, as most are.
                self._send(self._conversation.reply(asked, answer))
                return
        except Exception:
            self._answering.failed(Failure(), asked)
            return
        if asked.id is msgspec.UNSET and self._conversation.answers_in_turn:
            self._in_turn = asked
        self._answering.wait(id(asked), asked, answer).addCallback(self._answered, asked)

    def _traced_call_received(self, asked: Asked) -> None:
        outer = trace_context.set(asked.trace)
        try:
            self._call_received(asked)
        finally:
            trace_context.reset(outer)

    def _answered(self, _: object, asked: Asked) -> None:
        if self._in_turn is asked:
            self._in_turn = None
        self._lateness.active(self._clock.seconds())
        self._cork.wait_for_turn()

    def _answer(self, asked: Asked, reply: object) -> None:
        self._send(self._conversation.reply(asked, reply))

    def _refuse(self, asked: Asked, code: str, message: str, data: Any) -> None:
        self._send(self._conversation.refusal(asked, code, message, data))

    def _is_over(self) -> bool:
        return self.life is not _OPEN

    # -- writing

    def _send(self, line: bytes) -> None:
        cork = self._cork
        if self.life is _OPEN:
            cork.collected += line
            if len(cork.collected) >= cork.enough:
                cork.look()

    def _overflowed(self) -> None:
        reason = f"more than {self._cork.limit} bytes wait for the peer to read them"
        self.close(Code.OVERFLOW, reason, abrupt=True)

    def _writing_paused(self) -> None:
        self._read_or_not()

    def _writing_resumed(self) -> None:
        self._cork.wait_for_turn()

    def _flush(self) -> None:
        super()._flush()
        if self.life is _OPEN:
            due = None if self._lateness.is_patient else self._due()
            if self._waiting:
                earliest = self._conversation.outgoing.earliest
                due = earliest if due is None else min(due, earliest)
            self._timer.set(due)

    # -- time

    def _due(self) -> float | None:
        is_idle = not (self._is_at_work or self._waiting or self.paused)
        return self._lateness.due(is_read=not self._wire_is_paused, is_idle=is_idle)

    def _time_came(self) -> None:
        now = self._clock.seconds()
        for failed in self._conversation.expired(now):
            self._send(self._conversation.drop(failed.id))
            self._call_failed(failed.id, failed.error)
        if self.life is not _OPEN:
            return  # a caller has closed it
        due = self._due()
        if due is None or now < due:
            self._flush()
        else:
            self.close(Code.SILENT, self._lateness.reason(now))

    # -- the end

    def _detach(self) -> None:
        told, self._link_ended = self._link_ended, None
        if told is not None:
            self._guard(told, "link_ended", self._name, self.reason)

    def _tell_the_end(self) -> None:
        if self._polling is not None:
            self._polling.end()
        self._fail_calls()
        self._answering.end()
        if self._application is not None:
            self._guard(self._application.connection_lost, "connection_lost", self._name, self.reason)
