"""
One connection's conversation, without the connection: bytes in, events out, and the other way round. Sans-IO: no
socket, no clock, no Twisted. Used by `twistedipc.ipc.connections.link`, which gives it bytes and the time.

A session authenticates the peer (``handshake``), then carries an application's messages and calls, watches whether the
peer is alive, and ends with a reason. The table in ``states`` drives it: whatever happens is an `Input`, which
`Session._step` looks up, and which leads to the next state and an act. Frames that need no look-up because they are as
nearly all are take the fast path (``fastpath``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, assert_never

import msgspec

from twistedipc.ipc.wire.catalogue import Catalogue
from twistedipc.ipc.wire.errors import (
    BadReply,
    CallFailed,
    CallTimedOut,
    Code,
    LocalProtocolError,
    NotConnected,
    RemoteProtocolError,
    TooManyCalls,
)
from twistedipc.ipc.wire.fastpath import FastPath, encode_all
from twistedipc.ipc.wire.finite import check_finite, one_line
from twistedipc.ipc.wire.framing import FrameTooLong, LineSplitter
from twistedipc.ipc.wire.greeting import Agreement, Greeted, Greeting
from twistedipc.ipc.wire.identity import Origin, PeerInfo
from twistedipc.ipc.wire.incoming import IncomingCalls
from twistedipc.ipc.wire.items import read_items
from twistedipc.ipc.wire.messages import (
    TRACE_LIMIT,
    Bye,
    Call,
    CallItems,
    CallMore,
    CallReceived,
    CallReplied,
    CallToSend,
    Drop,
    Error,
    ItemsCallToSend,
    ItemsEnd,
    Misshapen,
    Ping,
    Pong,
    Reply,
    ReplyToSend,
    UnknownType,
    encode,
    encode_into,
    from_raw,
    tag_of,
    to_json,
    too_long,
    unsendable,
    words,
)
from twistedipc.ipc.wire.outgoing import OutgoingCalls
from twistedipc.ipc.wire.settings import HANDSHAKE_FRAME_LIMIT, SessionSettings, Side
from twistedipc.ipc.wire.silence import Sign, Silence
from twistedipc.ipc.wire.states import MAY_SEND, STEPS, Act, Input, State

#: Reasons and messages of ours are cut to this length, since they may quote the peer.
_REASON_LIMIT = 512

#: Bytes that a transport may bring although it isn't read any more.
_CHUNK = 1 << 16


# To look a member up in its enumeration costs as much as an encoding.
_READY = State.READY
_CLOSING = State.CLOSING
_BYTES = Input.BYTES
_MESSAGE = Input.MESSAGE


# -- events ----------------------------------------------------------------------------------------------------------
# What an application gets is an event itself, and comes out as it was decoded: one-way messages; calls, as
# `CallReceived`, which want `Session.answer` or `Session.refuse` for their id; and replies to calls of ours, as
# `CallReplied`.


class Proven(msgspec.Struct, frozen=True, gc=False):
    """
    The peer is authenticated. Decide whether this side takes it: call `Session.accept`, or `Session.close`. Comes only
    if the settings have something to decide by, and is followed by nothing until then.
    """

    peer: PeerInfo


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The peer is authenticated; messages and calls may go both ways."""

    peer: PeerInfo


class CallDropped(msgspec.Struct, frozen=True, gc=False):
    """
    The peer doesn't wait for a call's answer any longer. Answer or refuse the call all the same: nothing is sent. Where
    replies may have bodies, this comes of calls that were answered too: the peer doesn't want the bodies.
    """

    id: int


class ItemsReceived(msgspec.Struct, frozen=True, gc=False):
    """Items that answer a call of this side's. ``size``: their bytes."""

    id: int
    items: list[Any]
    size: int


class CreditReceived(msgspec.Struct, frozen=True, gc=False):
    """The peer takes so many more bytes of items that answer a call of its."""

    id: int
    credit: int


class CallEnded(msgspec.Struct, frozen=True, gc=False):
    """A call of this side has failed, or wasn't answered in time."""

    id: int
    error: CallFailed | CallTimedOut


class ErrorReceived(msgspec.Struct, frozen=True, gc=False):
    """The peer didn't understand a message of this side. To be logged."""

    code: str
    message: str


class PongReceived(msgspec.Struct, frozen=True, gc=False):
    """The peer has given a sign of life that was asked for by `Session.ping`."""


class MessageRefused(msgspec.Struct, frozen=True, gc=False):
    """A message of the peer wasn't understood, and the peer knows. To be logged."""

    message: str


class Closed(msgspec.Struct, frozen=True, gc=False):
    """
    The session is over: flush what there is to send, then close the connection.

    :param remote: whether the code and reason are the peer's
    :param abrupt: whether waiting for the peer to read is pointless
    """

    code: str
    reason: str
    remote: bool = False
    abrupt: bool = False

    def __str__(self) -> str:
        return f"{'the peer said: ' if self.remote else ''}{self.reason} [{self.code}]"


#: `Proven`, `Ready`, `PongReceived`, `CallReceived`, `CallDropped`, `CallReplied`, `ItemsReceived`, `CreditReceived`,
#: `CallEnded`, `ErrorReceived`, `MessageRefused`, `Closed`; or a message.
Event = msgspec.Struct


class Session:
    """
    One side of one connection.

    :param nonce: 64 random hexadecimal digits, new for each session
    :param now: the time, in seconds, on the clock that all later times are on
    :param origin: tells, when the handshake is over, what the transport knows of the peer
    """

    def __init__(
        self,
        side: Side,
        settings: SessionSettings,
        *,
        nonce: str,
        now: float,
        origin: Callable[[], Origin] = Origin,
    ) -> None:
        self.side = side
        self.state = State.CONNECTING
        self._agreement: Agreement | None = None  # once the handshake is over
        self.closed: Closed | None = None
        self.out = bytearray()  # what `data_to_send` will give
        self._lines = LineSplitter(HANDSHAKE_FRAME_LIMIT)
        self._greeting = Greeting(side, settings, nonce, origin, now + settings.handshake_timeout)
        self._silence = Silence(settings.heartbeat, settings.dead_after, now)
        self._pong_due = False
        self._outgoing = OutgoingCalls()
        self._bind(settings)
        if side is Side.LISTENER:
            self._step(Input.LISTEN, self._greeting.opening, [])

    def _bind(self, settings: SessionSettings) -> None:
        """
        Go by these settings: those that the session was made with, until the peer is proven; then those that the
        handshake has come to.
        """
        self.settings = settings
        #: bytes of a message that may be sent: the smaller one of both sides' limits, as far as they are known
        self.send_limit = settings.frame_limit
        self._vocabulary = settings.vocabulary
        self._silence.dead_after = settings.dead_after
        self._incoming = IncomingCalls(settings.max_calls)
        self._fast = FastPath(settings.vocabulary, self._outgoing, self._incoming)

    @property
    def peer(self) -> PeerInfo | None:
        """Who the peer is; None until the session is ready."""
        return None if self._agreement is None else self._agreement.peer

    @property
    def takes(self) -> Catalogue | None:
        """What the peer takes, as it says; None if it doesn't say, and until the session is ready."""
        return None if self._agreement is None else self._agreement.takes

    def _step(self, happened: Input, what: Any, events: list[Event]) -> None:
        """
        Do what the table says: the one place that looks a step up, and that changes the state.

        :param what: what the act of this step needs
        :param events: where the events that come of it are put
        """
        self.state, act = STEPS[self.state][happened]
        _ACTS[act](self, what, events)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Return the events of the peer's bytes. Never raises for anything that a peer can send."""
        silence = self._silence  # as its `broken` does it, without a call for each chunk
        silence.since = now
        silence.heartbeats = 0
        events: list[Event] = []
        self._take(data, events)
        return events

    def _take(self, data: bytes, events: list[Event]) -> None:
        try:
            self._step(_BYTES, data, events)
        except RemoteProtocolError as error:
            self._step(Input.BROKEN, Closed(error.code, error.reason[:_REASON_LIMIT]), events)
        if self._pong_due:
            # One for all the pings of a chunk: a flood of them isn't worth more.
            self._pong_due = False
            self._queue(encode(Pong()))

    def data_to_send(self) -> bytes:
        """Return what is to be written to the connection, and forget it."""
        data = bytes(self.out)
        self.out.clear()
        return data

    # -- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when `tick` is to be called at the latest, or None."""
        if self.state is _READY:
            return min(self._silence.due, self._outgoing.earliest)
        return None if self.state is _CLOSING else self._greeting.deadline

    def tick(self, now: float) -> list[Event]:
        """Do what is due, and return what comes of it. May be called at any time."""
        events: list[Event] = []
        self._step(Input.TIME, now, events)
        return events

    def pause_reading(self) -> None:
        """Note that this side doesn't read for a while. The peer's silence means nothing then."""
        self._silence.reading = False

    def resume_reading(self, now: float) -> None:
        """Note that this side reads again."""
        self._silence.reading = True
        self._silence.broken(now)

    def _watch_greeting(self, now: float, events: list[Event]) -> None:
        if now >= self._greeting.deadline:
            waited = self.settings.handshake_timeout
            reason = f"no authentication within {waited:g} seconds{self._greeting.hint}"
            late = Closed(Code.HANDSHAKE_TIMEOUT, reason)
            self._step(Input.LATE, late, events)

    def _watch_peer(self, now: float, events: list[Event]) -> None:
        for id_, request in self._outgoing.expired(now):
            self.drop(id_)
            events.append(CallEnded(id_, CallTimedOut(f"no reply to {tag_of(request)} in time")))
        if now < self._silence.due:
            return
        match self._silence.heartbeat_passed(now):
            case Sign.PONG:
                self._queue(encode(Pong()))
            case Sign.PING:
                self._queue(encode(Ping()))
            case Sign.NONE:
                reason = f"nothing was received for {self._silence.lasted:g} seconds"
                self._step(Input.SILENT, Closed(Code.SILENT, reason, abrupt=True), events)
            case never:
                assert_never(never)

    # -- the handshake -----------------------------------------------------------------------------------------------

    def _greet(self, data: bytes, events: list[Event]) -> None:
        """Take lines of the handshake, or parts of them. See "Handshake" in docs/protocol.md."""
        while data:
            if STEPS[self.state][_BYTES][1] is not Act.GREET:
                # The rest is a step of its own: the line that makes the session ready also raises the limit.
                self._step(_BYTES, data, events)
                return
            end = data.find(b"\n") + 1 or len(data)
            self._greet_line(data[:end], events)
            data = data[end:]

    def _greet_line(self, data: bytes, events: list[Event]) -> None:
        """Take one line, or a part of one."""
        if not self._lines.pending and not data.startswith(b"{"):
            # HTTP, TLS and the like are answered at once: their clients might never end a line.
            raise RemoteProtocolError(Code.BAD_HANDSHAKE, self._greeting.expectation + self._greeting.hint)
        try:
            line = self._lines.feed(data)
        except FrameTooLong as error:
            raise RemoteProtocolError(Code.FRAME_TOO_LONG, f"{error} before authentication") from None
        if not line:
            return
        greeted = self._greeting.take(line)
        if greeted.agreement is not None and greeted.agreement.settings is not self.settings:
            self._bind(greeted.agreement.settings)
        match greeted.happened:
            case None:
                pass  # it goes on
            case Input.BYE:
                self._step(Input.BYE, greeted.bye, events)
            case Input.PROVEN | Input.AGREED if self.settings.decides and self.state is State.AUTHENTICATING:
                self._step(Input.MET, greeted, events)
            case Input.AGREED:
                self._step(Input.AGREED, greeted, events)
            case happened:
                self._step(happened, greeted.answer, events)

    def _say(self, frame: bytes, events: list[Event]) -> None:
        self._queue(frame)

    def _ask(self, greeted: Greeted, events: list[Event]) -> None:
        assert greeted.agreement is not None, "who is met is proven"
        self._greeting.end = greeted
        events.append(Proven(greeted.agreement.peer))

    def _keep(self, data: bytes, events: list[Event]) -> None:
        kept = self._greeting.kept
        if len(kept) + len(data) > self.settings.frame_limit + _CHUNK:
            raise RemoteProtocolError(Code.OVERFLOW, "too much was sent before the link was accepted")
        kept += data

    def accept(self, now: float) -> list[Event]:
        """
        Take the peer that is `Proven`. Return what comes of that, and of what the peer has sent meanwhile. Nothing
        happens if the session has ended.
        """
        events: list[Event] = []
        self._silence.broken(now)
        kept = bytes(self._greeting.kept)
        self._greeting.kept.clear()
        end = self._greeting.end
        assert end is not None, "nothing is accepted that isn't proven"
        if end.happened is Input.AGREED:
            self._step(Input.AGREED, end, events)
        else:
            self._step(Input.PROVEN, end.answer, events)
        if kept:
            self._take(kept, events)
        return events

    def _begin(self, greeted: Greeted, events: list[Event]) -> None:
        agreement = self._agreement = greeted.agreement
        assert agreement is not None, "a handshake ends with an agreement"
        self._queue(greeted.answer)
        self.send_limit = agreement.send_limit
        self._silence.heartbeat = agreement.heartbeat
        self._lines.limit = self.settings.frame_limit
        events.append(Ready(agreement.peer))

    # -- what the peer says ------------------------------------------------------------------------------------------

    def _converse(self, data: bytes, events: list[Event]) -> None:
        too_long_line: FrameTooLong | None = None
        try:
            block = self._lines.feed(data)
        except FrameTooLong as error:
            too_long_line, block = error, error.complete
        if block:
            for frame in self._fast.take(block, events):
                self._step(_INPUTS.get(type(frame), _MESSAGE), frame, events)
                if self.state is _CLOSING:
                    return
        if too_long_line is not None:
            raise RemoteProtocolError(Code.FRAME_TOO_LONG, str(too_long_line))

    def _hand_on(self, message: Event, events: list[Event]) -> None:
        events.append(message)

    def _on_call(self, call: Call | CallReceived[msgspec.Struct], events: list[Event]) -> None:
        if call.id in self._incoming.open:
            raise RemoteProtocolError(Code.BAD_MESSAGE, f"call {call.id} is in flight already")
        if len(self._incoming.open) >= self._incoming.most:
            self._refuse(call.id, Code.BUSY, f"{self.settings.max_calls} calls are in flight")
            return
        try:
            request = self._vocabulary.request_of(call)
        except RemoteProtocolError as error:
            # Unlike a message, a call has an answer: the caller learns of the fault, and nothing else is in doubt.
            self._refuse(call.id, error.code, error.reason)
            return
        if isinstance(request, UnknownType):
            self._refuse(call.id, Code.UNKNOWN_TYPE, f"{request.name!r} is not a call that is answered here")
            return
        self._incoming.open[call.id] = type(request)
        events.append(CallReceived(call.id, request, call.credit, call.trace))

    def _on_reply(self, reply: Reply, events: list[Event]) -> None:
        request = self._outgoing.end(reply.id)
        if request is None:
            return
        try:
            events.append(CallReplied(reply.id, self._vocabulary.decode_reply(request, reply.reply)))
        except RemoteProtocolError as error:
            self._drop_bodies(reply.id, request)
            self._end_badly(reply.id, error.reason, events)

    def _drop_bodies(self, id_: int, request: type[msgspec.Struct]) -> None:
        """Tell the peer that the bodies of a reply aren't wanted, whose numbers aren't known."""
        if request in self.settings.with_bodies:
            self._queue(encode(Drop(id=id_)))

    def _end_badly(self, id_: int, complaint: str, events: list[Event]) -> None:
        """End a call of this side's whose reply isn't what was declared. Tell both sides; the link goes on."""
        complaint = complaint[:_REASON_LIMIT]
        events.append(CallEnded(id_, CallFailed(Code.BAD_REPLY, complaint)))
        self.complain(Code.BAD_REPLY, complaint)

    def _on_stray_reply(self, reply: CallReplied[Any], events: list[Event]) -> None:
        if self._outgoing.end(reply.id) is not None:
            # It was decoded as the replies to the calls are that were made beside this one, for items.
            events.append(CallReplied(reply.id, reply.reply if isinstance(reply.reply, ItemsEnd) else None))

    def _on_items(self, items: CallItems, events: list[Event]) -> None:
        request = self._outgoing.for_items.get(items.id)
        if request is None:
            request = self._outgoing.end(items.id)
            if request is not None:  # else it was dropped
                self._queue(encode(Drop(id=items.id)))
                self._end_badly(items.id, f"the reply to {tag_of(request)} came as items", events)
            return
        found, complaint = read_items(self._vocabulary.items.decoders[request], items.items)
        events.append(ItemsReceived(items.id, found, memoryview(items.items).nbytes))
        if complaint:
            self.drop(items.id)
            self._end_badly(items.id, f"an item of the reply to {tag_of(request)}: {complaint}", events)

    def _on_more(self, more: CallMore, events: list[Event]) -> None:
        if more.id in self._incoming.open:
            events.append(CreditReceived(more.id, more.credit))

    def _on_error(self, error: Error, events: list[Event]) -> None:
        if error.id is msgspec.UNSET:
            code, message = error.code[:_REASON_LIMIT], error.message[:_REASON_LIMIT]
            events.append(ErrorReceived(_printable(code), _printable(message)))
        elif self._outgoing.end(error.id) is not None:
            data, message = None, error.message
            if not isinstance(error.data, msgspec.UnsetType):
                try:
                    data = from_raw(error.data)
                except ValueError as wrong:
                    message = f"{message} (its data can't be read: {wrong})"
            events.append(CallEnded(error.id, CallFailed(error.code, message, data)))

    def _on_drop(self, drop: Drop, events: list[Event]) -> None:
        if self._incoming.drop(drop.id) or self.settings.with_bodies:
            events.append(CallDropped(drop.id))

    def _on_ping(self, ping: Ping, events: list[Event]) -> None:
        self._pong_due = True

    def _on_pong(self, pong: Pong, events: list[Event]) -> None:
        # Its bytes have broken the silence, which is all that counts for the heartbeat.
        if self._silence.is_sign_wanted:
            self._silence.is_sign_wanted = False
            events.append(PongReceived())

    def _on_unknown(self, unknown: UnknownType, events: list[Event]) -> None:
        self._refuse_message(Code.UNKNOWN_TYPE, f"{unknown.name!r} is not received here", events)

    def _on_misshapen(self, wrong: Misshapen, events: list[Event]) -> None:
        if wrong.id is None:
            self._refuse_message(Code.BAD_MESSAGE, wrong.complaint, events)
        elif wrong.name == "call":
            if wrong.id in self._incoming.open:
                raise RemoteProtocolError(Code.BAD_MESSAGE, f"call {wrong.id} is in flight already")
            self._refuse(wrong.id, Code.BAD_REQUEST, wrong.complaint)
        elif (request := self._outgoing.end(wrong.id)) is not None:
            if wrong.name == "call-items":
                self._queue(encode(Drop(id=wrong.id)))
            else:
                self._drop_bodies(wrong.id, request)
            self._end_badly(wrong.id, f"the {wrong.name} to {tag_of(request)}: {wrong.complaint}", events)

    def _refuse_message(self, code: str, complaint: str, events: list[Event]) -> None:
        self.complain(code, complaint)
        events.append(MessageRefused(_printable(complaint[:_REASON_LIMIT])))

    # -- what this side says -----------------------------------------------------------------------------------------

    def send(self, message: msgspec.Struct) -> None:
        """
        Send a one-way message.

        :raises NotConnected: the session is over
        :raises LocalProtocolError: the session isn't ready, or the message can't be sent
        """
        if self.state not in MAY_SEND:
            self._step(Input.SEND, None, [])
        if type(message) not in self._vocabulary.exact:
            self._vocabulary.check_sendable(message)
        self._encode(message)

    def line_of(self, message: msgspec.Struct) -> bytes:
        """Return the line that `send` would send, and send nothing. Raises what `send` does."""
        before = len(self.out)
        self.send(message)
        line = bytes(self.out[before:])
        del self.out[before:]
        return line

    def send_many(self, messages: Sequence[msgspec.Struct]) -> None:
        """Send all of these messages, or none if one of them can't be sent. Raises what `send` does."""
        if self.state not in MAY_SEND:
            self._step(Input.SEND, None, [])
        lines = encode_all(self._vocabulary, messages, self.send_limit)
        if lines is None:
            self._send_each(messages)
        else:
            self._queue(lines)

    def _send_each(self, messages: Sequence[msgspec.Struct]) -> None:
        """Encode messages one by one: all, or none."""
        before = len(self.out)
        try:
            for message in messages:
                self._encode(message)
        except Exception:
            del self.out[before:]
            raise

    def complain(self, code: str, message: str) -> None:
        """Tell the peer that something was not taken which has no other answer. The link goes on."""
        self._step(Input.COMPLAIN, (code, message), [])

    def _say_error(self, complaint: tuple[str, str], events: list[Event]) -> None:
        code, message = complaint
        self._queue(encode(Error(code=words(code, _REASON_LIMIT), message=words(message, _REASON_LIMIT))))

    def ping(self) -> None:
        """
        Ask the peer for a sign of life, which comes as `PongReceived`.

        :raises NotConnected: the session is over
        """
        if self.state not in MAY_SEND:
            self._step(Input.SEND, None, [])
        self._silence.is_sign_wanted = True
        self._queue(encode(Ping()))

    def has_heard(self, since: float) -> bool:
        """Return whether anything was received after this time."""
        return self._silence.since > since and self._silence.heartbeats == 0

    def call(self, request: msgspec.Struct, deadline: float, trace: str = "") -> int:
        """
        Send a call, and return its id, which comes back in one `CallReplied` or `CallEnded`, unless the session ends
        before.

        :param deadline: when the call is ended by `CallTimedOut`
        :param trace: what the peer is told of what this call is a part of: any text; "" is nothing
        :raises TooManyCalls: too many calls are in flight
        """
        if self.state not in MAY_SEND:
            self._step(Input.SEND, None, [])
        kind = type(request)
        reply = self._vocabulary.calls.get(kind)
        if reply is None:
            how = ": it is answered by items: use stream_call" if kind in self._vocabulary.items.calls else ""
            raise LocalProtocolError(f"{kind.__qualname__} is not declared as a call of this side{how}")
        outgoing = self._outgoing
        settings = self.settings
        if len(outgoing.waiting) >= settings.max_calls:
            raise TooManyCalls(f"{settings.max_calls} calls of this side are in flight, its own limit (max_calls)")
        id_ = outgoing.last_id + 1
        # As `_encode` does it.
        out = self.out
        before = len(out)
        try:
            encode_into(CallToSend(id_, request, trace[:TRACE_LIMIT]), out, before)
            if len(out) - before > self.send_limit:
                raise too_long(len(out) - before, self.send_limit)
            if kind not in self._vocabulary.exact:
                self._vocabulary.check_encoded(request, out, before)
        except Exception as error:
            del out[before:]
            raise unsendable(error) from None
        out += b"\n"
        # Here, and not in a method: a call in Python is a fiftieth of what a call over the link costs.
        outgoing.last_id = id_
        if reply is not outgoing.awaited:
            outgoing.awaited = None if outgoing.waiting else reply
        outgoing.waiting[id_] = (kind, deadline)
        if deadline < outgoing.earliest:
            outgoing.earliest = deadline
        return id_

    def call_for_items(self, request: msgspec.Struct, credit: int, trace: str = "") -> int:
        """
        Send a call for items, and return its id, as `call` does. The items come in `ItemsReceived`; then comes a
        `CallReplied`, of an `ItemsEnd` or None, or a `CallEnded`. There is no deadline.

        :param credit: bytes of items that the peer may send. `more` gives more
        :raises TooManyCalls: too many calls are in flight
        """
        if self.state not in MAY_SEND:
            self._step(Input.SEND, None, [])
        kind, outgoing = type(request), self._outgoing
        if kind not in self._vocabulary.items.calls:
            raise LocalProtocolError(f"{kind.__qualname__} is not declared as a call for items of this side")
        if len(outgoing.waiting) + len(outgoing.for_items) >= self.settings.max_calls:
            limit = self.settings.max_calls
            raise TooManyCalls(f"{limit} calls of this side are in flight, its own limit (max_calls)")
        id_ = outgoing.last_id + 1
        self._encode(request, ItemsCallToSend(id_, request, credit, trace[:TRACE_LIMIT]))
        outgoing.last_id = id_
        outgoing.for_items[id_] = kind
        return id_

    def more(self, id_: int, credit: int) -> None:
        """Let the peer send so many more bytes of items. Nothing happens if the call has ended."""
        if id_ in self._outgoing.for_items:
            self._queue(encode(CallMore(id=id_, credit=credit)))

    def drop(self, id_: int) -> None:
        """Forget a call of this side's, and tell the peer. Nothing happens if the call has ended."""
        outgoing = self._outgoing
        if outgoing.waiting.pop(id_, None) is not None or outgoing.for_items.pop(id_, None) is not None:
            self._queue(encode(Drop(id=id_)))

    def answer_items(self, id_: int, items: bytes) -> None:
        """Send items, a JSON array, that answer a call. Nothing happens if the peer doesn't wait for them any more."""
        incoming = self._incoming
        if id_ in incoming.open and id_ not in incoming.dropped:
            self._queue(encode(CallItems(id=id_, items=msgspec.Raw(items))))

    def is_waited_for(self, id_: int) -> bool:
        """Return whether the peer waits for the answer to this call."""
        return id_ in self._incoming.open and id_ not in self._incoming.dropped

    def answer(self, id_: int, reply: Any) -> None:
        """
        Reply to a call. Nothing happens if the call isn't open.

        :raises BadReply: the reply isn't what was declared, by its fields too, or is over the frame limit; the call is
            still open
        """
        incoming = self._incoming
        request = incoming.open.get(id_)
        if request is None:
            return
        vocabulary, out = self._vocabulary, self.out
        before = len(out)
        try:
            if type(reply) is not vocabulary.answers[request]:
                vocabulary.check_reply(request, reply)
            encode_into(ReplyToSend(id_, reply), out, before)
            if len(out) - before > self.send_limit:
                raise _ReplyTooLarge(len(out) - before, self.send_limit, request)
            # As the caller will decode it: so what it would find wrong is found here, where it was made. If something
            # else comes out, it may be because JSON doesn't have it.
            if vocabulary.reply_checks[request](out[before:]).reply != reply:
                check_finite(reply)
            if request in vocabulary.raw_replies:
                out[before:] = one_line(out[before:])
        except Exception as error:
            del out[before:]
            raise _bad_reply(error, request, reply) from error
        out += b"\n"
        # As `IncomingCalls.end` does it.
        del incoming.open[id_]
        if id_ in incoming.dropped:
            incoming.dropped.discard(id_)
            del out[before:]

    def refuse(self, id_: int, code: str, message: str, data: Any = None) -> None:
        """
        Answer a call by an error. Nothing happens if the call isn't open.

        :raises LocalProtocolError: the ``data`` can't be sent; the call is still open
        """
        if id_ not in self._incoming.open:
            return
        error = self._error(id_, code, message, data)
        if self._incoming.end(id_):
            self._queue(error)

    def close(self, code: str, reason: str, *, abrupt: bool = False) -> None:
        """End the session. Nothing happens if it has ended."""
        self._step(Input.CLOSE, Closed(code, reason[:_REASON_LIMIT], abrupt=abrupt), [])

    def _refuse(self, id_: int, code: str, message: str) -> None:
        self._queue(self._error(id_, code, message, None))

    def _error(self, id_: int, code: str, message: str, data: Any) -> bytes:
        raw = msgspec.UNSET if data is None else msgspec.Raw(to_json(data))
        line = encode(Error(code=words(code, _REASON_LIMIT), message=words(message, _REASON_LIMIT), id=id_, data=raw))
        if len(line) > self.send_limit + 1:
            raise too_long(len(line) - 1, self.send_limit)
        return line

    def _refuse_early(self, _: object, events: list[Event]) -> None:
        raise LocalProtocolError("nothing can be sent before the peer is authenticated")

    def _refuse_late(self, _: object, events: list[Event]) -> None:
        raise NotConnected(str(self.closed))

    def _encode(self, message: msgspec.Struct, frame: msgspec.Struct | None = None) -> None:
        """Put a message of the application, in its frame if it has one, behind what waits; or raise, and leave that."""
        out = self.out
        before = len(out)
        limit = self.send_limit
        try:
            encode_into(message if frame is None else frame, out, before)
            if len(out) - before > limit:
                raise too_long(len(out) - before, limit)
            if type(message) not in self._vocabulary.exact:
                self._vocabulary.check_encoded(message, out, before)
        except Exception as error:
            del out[before:]
            raise unsendable(error) from None
        out += b"\n"

    def _queue(self, data: bytes) -> None:
        self.out += data

    # -- the end -----------------------------------------------------------------------------------------------------

    def _say_bye(self, closed: Closed, events: list[Event]) -> None:
        self._queue(encode(Bye(code=words(closed.code, 64), reason=words(closed.reason, _REASON_LIMIT))))
        self._end(closed, events)

    def _take_bye(self, bye: Bye, events: list[Event]) -> None:
        self._end(Closed(_printable(bye.code[:64]), _printable(bye.reason[:_REASON_LIMIT]), remote=True), events)

    def _end(self, closed: Closed, events: list[Event]) -> None:
        self.closed = closed
        self._pong_due = False  # the bye is the last frame
        self._outgoing.clear()
        self._incoming.clear()
        events.append(closed)

    # -- what needs no act of its own --------------------------------------------------------------------------------

    def _ignore(self, _: object, events: list[Event]) -> None:
        """Do nothing: the input doesn't matter in this state, or its method does all by itself."""

    def _forbid(self, _: object, events: list[Event]) -> None:
        raise AssertionError(f"a session that is {self.state} was given what can't come in this state")


#: The input that each of the session's own frames is; all others are the application's messages. By the exact type,
#: which costs less than `isinstance`.
_INPUTS: dict[type, Input] = {
    Call: Input.CALL,
    CallReceived: Input.CALL,
    Reply: Input.REPLY,
    CallReplied: Input.REPLIED,
    CallItems: Input.ITEMS,
    CallMore: Input.MORE,
    Error: Input.ERROR,
    Drop: Input.DROP,
    Ping: Input.PING,
    Pong: Input.PONG,
    Bye: Input.BYE,
    UnknownType: Input.UNKNOWN,
    Misshapen: Input.MISSHAPEN,
}

#: What does each act.
_ACTS: dict[Act, Callable[[Session, Any, list[Event]], None]] = {
    Act.SAY_CHALLENGE: Session._say,
    Act.GREET: Session._greet,
    Act.SAY_HELLO: Session._say,
    Act.INTRODUCE: Session._say,
    Act.ASK: Session._ask,
    Act.KEEP: Session._keep,
    Act.BEGIN: Session._begin,
    Act.CONVERSE: Session._converse,
    Act.HAND_ON: Session._hand_on,
    Act.TAKE_CALL: Session._on_call,
    Act.TAKE_REPLY: Session._on_reply,
    Act.FORGET_CALL: Session._on_stray_reply,
    Act.TAKE_ITEMS: Session._on_items,
    Act.TAKE_CREDIT: Session._on_more,
    Act.TAKE_ERROR: Session._on_error,
    Act.DROP_CALL: Session._on_drop,
    Act.OWE_PONG: Session._on_ping,
    Act.NOTE_PONG: Session._on_pong,
    Act.REFUSE_MESSAGE: Session._on_unknown,
    Act.REFUSE_MISSHAPEN: Session._on_misshapen,
    Act.SAY_ERROR: Session._say_error,
    Act.WATCH_GREETING: Session._watch_greeting,
    Act.WATCH_PEER: Session._watch_peer,
    Act.SAY_BYE: Session._say_bye,
    Act.END: Session._take_bye,
    Act.ALLOW: Session._ignore,
    Act.REFUSE_EARLY: Session._refuse_early,
    Act.REFUSE_LATE: Session._refuse_late,
    Act.IGNORE: Session._ignore,
    Act.FORBID: Session._forbid,
}


class _ReplyTooLarge(BadReply):
    """A reply over the frame limit, which is said to its caller as well."""

    def __init__(self, size: int, limit: int, request: type[msgspec.Struct]) -> None:
        said = f"the reply to {tag_of(request)} has {size} bytes, over the limit of {limit} (frame_limit)"
        super().__init__(said, Code.TOO_LARGE, said)


def _bad_reply(error: Exception, request: type[msgspec.Struct], reply: object) -> BadReply:
    """Return the error for a reply that can't be sent: for the author's log, and for the caller."""
    if isinstance(error, BadReply):
        return error
    return BadReply(
        f"the reply to {tag_of(request)}: {unsendable(error, reply)}",
        Code.INTERNAL,
        f"the reply to {tag_of(request)} isn't what was declared; see the log there",
    )


def _printable(text: str) -> str:
    """The peer's words, fit for a log: on one line, and without control characters."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
