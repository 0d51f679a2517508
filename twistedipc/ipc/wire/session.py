"""
One connection's conversation, without the connection: bytes in, events out, and the other way round. Sans-IO: no
socket, no clock, no Twisted. Used by `twistedipc.ipc.connections.link`, which gives it bytes and the time.

A session authenticates the peer (``handshake``), then carries an application's messages and calls, watches whether the
peer is alive, and ends with a reason. Its states, of which `TRANSITIONS` is the table::

    connecting ─► authenticating ─► ready ─► closing
        └───────────────┴───────────────────────▲

(What DESIGN calls *syncing* is the first call of an application on a ready session.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, NoReturn, assert_never, cast

import msgspec

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
from twistedipc.ipc.wire.finite import check_finite, one_line
from twistedipc.ipc.wire.framing import FrameTooLong, LineSplitter, longest_line
from twistedipc.ipc.wire.greeting import Greeting
from twistedipc.ipc.wire.messages import (
    Bye,
    Call,
    CallReceived,
    CallReplied,
    CallToSend,
    Drop,
    Error,
    Misshapen,
    Ping,
    Pong,
    Reply,
    ReplyToSend,
    UnknownType,
    encode,
    encode_into,
    encode_lines,
    from_raw,
    tag_of,
    to_json,
    unsendable,
    words,
)
from twistedipc.ipc.wire.outgoing import OutgoingCalls
from twistedipc.ipc.wire.settings import HANDSHAKE_FRAME_LIMIT, PeerInfo, SessionSettings, Side
from twistedipc.ipc.wire.silence import Sign, Silence

#: Reasons and messages of ours are cut to this length, since they may quote the peer.
_REASON_LIMIT = 512


class State(StrEnum):
    """Where a session is."""

    CONNECTING = "connecting"  # a dialler that hasn't heard the challenge
    AUTHENTICATING = "authenticating"
    READY = "ready"
    CLOSING = "closing"  # a `bye` was said or heard; nothing that comes in counts any more


# To look a member up in its enumeration costs as much as an encoding.
_READY = State.READY
_CLOSING = State.CLOSING
_GREETING = frozenset({State.CONNECTING, State.AUTHENTICATING})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.CONNECTING: frozenset({State.AUTHENTICATING, State.CLOSING}),
    State.AUTHENTICATING: frozenset({State.READY, State.CLOSING}),
    State.READY: frozenset({State.CLOSING}),
    State.CLOSING: frozenset(),
}


# -- events ----------------------------------------------------------------------------------------------------------
# What an application gets is an event itself, and comes out as it was decoded: one-way messages; calls, as
# `CallReceived`, which want `Session.answer` or `Session.refuse` for their id; and replies to calls of ours, as
# `CallReplied`.


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The peer is authenticated; messages and calls may go both ways."""

    peer: PeerInfo


class CallDropped(msgspec.Struct, frozen=True, gc=False):
    """The peer doesn't wait for the answer any longer. Answer or refuse it nevertheless: nothing will be sent."""

    id: int


class CallEnded(msgspec.Struct, frozen=True, gc=False):
    """A call of ours has failed, or wasn't answered in time."""

    id: int
    error: CallFailed | CallTimedOut


class ErrorReceived(msgspec.Struct, frozen=True, gc=False):
    """The peer didn't understand a message of ours. To be logged."""

    code: str
    message: str


class MessageRefused(msgspec.Struct, frozen=True, gc=False):
    """A message of the peer's wasn't understood, which it was told. To be logged."""

    message: str


class Closed(msgspec.Struct, frozen=True, gc=False):
    """
    The session is over: flush what there is to send, then close the connection. ``remote`` tells whose word the
    reason is; ``abrupt`` that waiting for the peer to read is pointless.
    """

    code: str
    reason: str
    remote: bool = False
    abrupt: bool = False

    def __str__(self) -> str:
        return f"{'the peer said: ' if self.remote else ''}{self.reason} [{self.code}]"


#: `Ready`, `CallReceived`, `CallDropped`, `CallReplied`, `CallEnded`, `ErrorReceived`, `MessageRefused`, `Closed`; or
#: a message.
Event = msgspec.Struct


class Session:
    """
    One side of one connection.

    :param nonce: 64 random hexadecimal digits, new for each session
    :param now: the time, in seconds, on the clock that all later times are on
    :param address: the peer's, for people
    """

    def __init__(self, side: Side, settings: SessionSettings, *, nonce: str, now: float, address: str = "") -> None:
        self.side = side
        self.settings = settings
        self.state = State.CONNECTING
        self.peer: PeerInfo | None = None
        self.closed: Closed | None = None
        self._vocabulary = settings.vocabulary
        self._lines = LineSplitter(HANDSHAKE_FRAME_LIMIT)
        self.out = bytearray()  # what `data_to_send` will give
        #: bytes of a message that may be sent: the smaller one of both sides' limits, as far as they are known
        self.send_limit = settings.frame_limit
        self._greeting = Greeting(side, settings, nonce, address)
        self._authenticate_by = now + settings.handshake_timeout
        self._silence = Silence(settings.heartbeat, settings.dead_after, now)
        self._pong_due = False
        self._outgoing = OutgoingCalls()
        self._incoming: dict[int, type[msgspec.Struct]] = {}
        self._dropped: set[int] = set()
        if side is Side.LISTENER:
            self._queue(self._greeting.opening)
            self._become(State.AUTHENTICATING)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What the peer's bytes amount to. Never raises for anything that a peer can send."""
        if self.state is _CLOSING:
            return []
        silence = self._silence  # as its `broken` does it, without a call for each chunk
        silence.since = now
        silence.heartbeats = 0
        events: list[Event] = []
        try:
            # One line at a time until the session is ready: the line that makes it so also raises the limit.
            while data and self.state in _GREETING:
                end = data.find(b"\n") + 1 or len(data)
                line, data = data[:end], data[end:]
                self._greet(line, events)
            if data and self.state is _READY:
                self._converse(data, events)
        except RemoteProtocolError as error:
            self._close(Closed(error.code, error.reason[:_REASON_LIMIT]))
        if self.closed is not None:
            events.append(self.closed)
        elif self._pong_due:
            # One for all the pings of a chunk: a flood of them isn't worth more.
            self._pong_due = False
            self._queue(encode(Pong()))
        return events

    def data_to_send(self) -> bytes:
        """What is to be written to the connection, and forget it."""
        data = bytes(self.out)
        self.out.clear()
        return data

    # -- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `tick` is to be called at the latest, or None."""
        if self.state is _CLOSING:
            return None
        if self.state is not _READY:
            return self._authenticate_by
        return min(self._silence.due, self._outgoing.earliest)

    def tick(self, now: float) -> list[Event]:
        """Do what is due. May be called at any time."""
        events: list[Event] = []
        if self.state is _CLOSING:
            return events
        if self.state is not _READY:
            if now >= self._authenticate_by:
                waited = self.settings.handshake_timeout
                self._close(Closed(Code.HANDSHAKE_TIMEOUT, f"no authentication within {waited:g} seconds"))
        else:
            self._expire_calls(now, events)
            if now >= self._silence.due:
                self._miss_heartbeat(now)
        if self.closed is not None:
            events.append(self.closed)
        return events

    def pause_reading(self) -> None:
        """This side doesn't read for a while: silence is no news of the peer then."""
        self._silence.reading = False

    def resume_reading(self, now: float) -> None:
        """This side reads again."""
        self._silence.reading = True
        self._silence.broken(now)

    def _miss_heartbeat(self, now: float) -> None:
        match self._silence.heartbeat_passed(now):
            case Sign.PONG:
                self._queue(encode(Pong()))
            case Sign.PING:
                self._queue(encode(Ping()))
            case Sign.NONE:
                self._close(
                    Closed(Code.SILENT, f"nothing was received for {self._silence.lasted:g} seconds", abrupt=True)
                )
            case never:
                assert_never(never)

    def _expire_calls(self, now: float, events: list[Event]) -> None:
        for id_, request in self._outgoing.expired(now):
            self.drop(id_)
            events.append(CallEnded(id_, CallTimedOut(f"no reply to {tag_of(request)} in time")))

    # -- the handshake -----------------------------------------------------------------------------------------------

    def _greet(self, data: bytes, events: list[Event]) -> None:
        """Take a line of the handshake, or a part of one. See "Handshake" in docs/protocol.md."""
        if not self._lines.pending and not data.startswith(b"{"):
            # HTTP, TLS and the like are told at once; they might wait for ever for the end of a line.
            raise RemoteProtocolError(Code.BAD_HANDSHAKE, self._greeting.expectation)
        try:
            line = self._lines.feed(data)
        except FrameTooLong as error:
            raise RemoteProtocolError(Code.FRAME_TOO_LONG, f"{error} before authentication") from None
        if not line:
            return
        greeted = self._greeting.take(line)
        self._queue(greeted.answer)
        if greeted.bye is not None:
            self._on_bye(greeted.bye, events)
        elif greeted.agreement is None:
            self._become(State.AUTHENTICATING)
        else:
            self.peer = greeted.agreement.peer
            self.send_limit = greeted.agreement.send_limit
            self._silence.heartbeat = greeted.agreement.heartbeat
            self._lines.limit = self.settings.frame_limit
            self._become(State.READY)
            events.append(Ready(self.peer))

    # -- what the peer says ------------------------------------------------------------------------------------------

    def _converse(self, data: bytes, events: list[Event]) -> None:
        too_long: FrameTooLong | None = None
        try:
            block = self._lines.feed(data)
        except FrameTooLong as error:
            too_long, block = error, error.complete
        if block:
            frames = self._vocabulary.decode_block(block, self._outgoing.awaited)
            if isinstance(frames, list) and self._vocabulary.messages.issuperset(map(type, frames)):
                events.extend(frames)  # the way that nearly everything goes
            else:
                self._take_each(frames, events)
        if too_long is not None and self.closed is None:
            raise RemoteProtocolError(Code.FRAME_TOO_LONG, str(too_long))

    def _take_each(self, frames: Iterable[Any], events: list[Event]) -> None:
        """Calls and replies that are as they should be cost no call in Python either."""
        outgoing, incoming, max_calls = self._outgoing.waiting, self._incoming, self.settings.max_calls
        for frame in frames:
            kind = type(frame)
            if kind is CallReplied and outgoing.pop(frame.id, None) is not None:
                events.append(frame)
            elif (
                kind is CallReceived
                and frame.id not in incoming
                and len(incoming) < max_calls
                and type(frame.request) is not Ping
            ):
                incoming[frame.id] = type(frame.request)
                events.append(frame)
            else:
                self._take(frame, events)
                if self.closed is not None:
                    return

    def _take(self, frame: msgspec.Struct | UnknownType | Misshapen, events: list[Event]) -> None:
        taken = _TAKEN.get(type(frame))
        if taken is None:
            events.append(cast("msgspec.Struct", frame))
        else:
            taken(self, frame, events)

    def _on_call(self, call: Call | CallReceived[msgspec.Struct], events: list[Event]) -> None:
        if call.id in self._incoming:
            raise RemoteProtocolError(Code.BAD_MESSAGE, f"call {call.id} is in flight already")
        if len(self._incoming) >= self.settings.max_calls:
            self._refuse(call.id, Code.BUSY, f"{self.settings.max_calls} calls are in flight")
            return
        try:
            request = self._vocabulary.request_of(call)
        except RemoteProtocolError as error:
            # Unlike a message, a call has an answer: its maker is told, and nothing else is in doubt.
            self._refuse(call.id, error.code, error.reason)
            return
        if isinstance(request, UnknownType):
            self._refuse(call.id, Code.UNKNOWN_TYPE, f"{request.name!r} is not a call that is answered here")
            return
        self._incoming[call.id] = type(request)
        events.append(CallReceived(call.id, request))

    def _on_reply(self, reply: Reply, events: list[Event]) -> None:
        request = self._outgoing.end(reply.id)
        if request is None:
            return
        try:
            events.append(CallReplied(reply.id, self._vocabulary.decode_reply(request, reply.reply)))
        except RemoteProtocolError as error:
            self._end_badly(reply.id, error.reason, events)

    def _end_badly(self, id_: int, complaint: str, events: list[Event]) -> None:
        """A call of ours was answered by something else than was declared. Both sides are told, and the link lives."""
        complaint = complaint[:_REASON_LIMIT]
        events.append(CallEnded(id_, CallFailed(Code.BAD_REPLY, complaint)))
        self.complain(Code.BAD_REPLY, complaint)

    def _on_stray_reply(self, reply: CallReplied[msgspec.Struct], events: list[Event]) -> None:
        self._outgoing.end(reply.id)

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
        if drop.id in self._incoming and drop.id not in self._dropped:
            self._dropped.add(drop.id)
            events.append(CallDropped(drop.id))

    def _on_ping(self, ping: Ping, events: list[Event]) -> None:
        self._pong_due = True

    def _on_pong(self, pong: Pong, events: list[Event]) -> None:
        """It was bytes, which is all that counts."""

    def _on_unknown(self, unknown: UnknownType, events: list[Event]) -> None:
        self._refuse_message(Code.UNKNOWN_TYPE, f"{unknown.name!r} is not received here", events)

    def _on_misshapen(self, wrong: Misshapen, events: list[Event]) -> None:
        if wrong.id is None:
            self._refuse_message(Code.BAD_MESSAGE, wrong.complaint, events)
        elif wrong.name == "call":
            if wrong.id in self._incoming:
                raise RemoteProtocolError(Code.BAD_MESSAGE, f"call {wrong.id} is in flight already")
            self._refuse(wrong.id, Code.BAD_REQUEST, wrong.complaint)
        elif (request := self._outgoing.end(wrong.id)) is not None:
            self._end_badly(wrong.id, f"the {wrong.name} to {tag_of(request)}: {wrong.complaint}", events)

    def _refuse_message(self, code: str, complaint: str, events: list[Event]) -> None:
        self.complain(code, complaint)
        events.append(MessageRefused(_printable(complaint[:_REASON_LIMIT])))

    def _on_bye(self, bye: Bye, events: list[Event]) -> None:
        self._end(Closed(_printable(bye.code[:64]), _printable(bye.reason[:_REASON_LIMIT]), remote=True))

    # -- what this side says -----------------------------------------------------------------------------------------

    def send(self, message: msgspec.Struct) -> None:
        """A one-way message. `NotConnected` if the session is over, `LocalProtocolError` if it can't be sent."""
        if self.state is not _READY:
            self._refuse_to_send()
        if type(message) not in self._vocabulary.exact:
            self._vocabulary.check_sendable(message)
        self._encode(message)

    def send_many(self, messages: Sequence[msgspec.Struct]) -> None:
        """The same as `send` for each; all or none."""
        if self.state is not _READY:
            self._refuse_to_send()
        exact = self._vocabulary.exact.issuperset(map(type, messages))
        if not exact:
            self._vocabulary.check_all_sendable(messages)
        try:
            data = encode_lines(messages)
        except Exception as error:
            raise unsendable(error) from None
        if not exact and self._vocabulary.may_be_spoilt(messages, data):
            self._send_each(messages)
            return
        limit = self.send_limit
        if len(data) > limit + 1 and longest_line(data) > limit:
            raise _too_long(longest_line(data), limit)
        self._queue(data)

    def _send_each(self, messages: Sequence[msgspec.Struct]) -> None:
        """Send them all, or none."""
        before = len(self.out)
        try:
            for message in messages:
                self._encode(message)
        except Exception:
            del self.out[before:]
            raise

    def complain(self, code: str, message: str) -> None:
        """Tell the peer that something that it said wasn't taken, which has no other answer. The link goes on."""
        if self.state is _READY:
            self._queue(encode(Error(code=words(code, _REASON_LIMIT), message=words(message, _REASON_LIMIT))))

    def call(self, request: msgspec.Struct, deadline: float) -> int:
        """
        Ask; the id that is returned comes back in one `CallReplied` or `CallEnded`, unless the session ends before.
        `TooManyCalls` if too many calls are in flight.
        """
        if self.state is not _READY:
            self._refuse_to_send()
        kind = type(request)
        reply = self._vocabulary.calls.get(kind)
        if reply is None:
            raise LocalProtocolError(f"{kind.__qualname__} is not declared as a call of this side")
        outgoing = self._outgoing
        settings = self.settings
        if len(outgoing.waiting) >= settings.max_calls:
            raise TooManyCalls(f"{settings.max_calls} calls of this side are in flight, its own limit (max_calls)")
        id_ = outgoing.last_id + 1
        # As `_encode` does it.
        out = self.out
        before = len(out)
        try:
            encode_into(CallToSend(id_, request), out, before)
            if len(out) - before > self.send_limit:
                raise _too_long(len(out) - before, self.send_limit)
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

    def drop(self, id_: int) -> None:
        """Forget a call of ours, and tell the peer. Nothing happens if it has been answered."""
        if self._outgoing.waiting.pop(id_, None) is not None and self.state is _READY:
            self._queue(encode(Drop(id=id_)))

    def answer(self, id_: int, reply: msgspec.Struct) -> None:
        """
        Reply to a call. `BadReply` if it can't be sent: it isn't what was declared, which its fields are looked at for,
        or is over the frame limit. Then the call is still open.
        """
        request = self._incoming.get(id_)
        if request is None or self.state is not _READY:
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
        del self._incoming[id_]
        if id_ in self._dropped:
            self._dropped.discard(id_)
            del out[before:]

    def refuse(self, id_: int, code: str, message: str, data: Any = None) -> None:
        """
        Answer a call by an error. `LocalProtocolError` if its ``data`` can't be sent: then the call is still open.
        """
        if id_ not in self._incoming:
            return
        error = self._error(id_, code, message, data)
        if self._forget_incoming(id_) and self.state is _READY:
            self._queue(error)

    def close(self, code: str, reason: str, *, abrupt: bool = False) -> None:
        """End the session. Nothing happens if it has ended."""
        if self.state is not _CLOSING:
            self._close(Closed(code, reason[:_REASON_LIMIT], abrupt=abrupt))

    def _forget_incoming(self, id_: int) -> bool:
        """Whether the peer still waits for it."""
        del self._incoming[id_]
        if id_ in self._dropped:
            self._dropped.discard(id_)
            return False
        return True

    def _refuse(self, id_: int, code: str, message: str) -> None:
        self._queue(self._error(id_, code, message, None))

    def _error(self, id_: int, code: str, message: str, data: Any) -> bytes:
        raw = msgspec.UNSET if data is None else msgspec.Raw(to_json(data))
        line = encode(Error(code=words(code, _REASON_LIMIT), message=words(message, _REASON_LIMIT), id=id_, data=raw))
        if len(line) > self.send_limit + 1:
            raise _too_long(len(line) - 1, self.send_limit)
        return line

    def _refuse_to_send(self) -> NoReturn:
        """For a session that isn't ready: raise what its state amounts to."""
        if self.closed is None:
            raise LocalProtocolError("nothing can be sent before the peer is authenticated")
        raise NotConnected(str(self.closed))

    def _encode(self, message: msgspec.Struct) -> None:
        """Put a message of the application behind what waits; or raise, and leave that as it was."""
        out = self.out
        before = len(out)
        limit = self.send_limit
        try:
            encode_into(message, out, before)
            if len(out) - before > limit:
                raise _too_long(len(out) - before, limit)
            if type(message) not in self._vocabulary.exact:
                self._vocabulary.check_encoded(message, out, before)
        except Exception as error:
            del out[before:]
            raise unsendable(error) from None
        out += b"\n"

    def _queue(self, data: bytes) -> None:
        self.out += data

    # -- states ------------------------------------------------------------------------------------------------------

    def _close(self, closed: Closed) -> None:
        self._queue(encode(Bye(code=words(closed.code, 64), reason=words(closed.reason, _REASON_LIMIT))))
        self._end(closed)

    def _end(self, closed: Closed) -> None:
        self.closed = closed
        self._outgoing.waiting.clear()
        self._incoming.clear()
        self._dropped.clear()
        self._become(State.CLOSING)

    def _become(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise LocalProtocolError(f"a session can't go from {self.state} to {state}")
        self.state = state


#: What is done with each frame that is the session's own; by its exact type, which costs less than `isinstance`.
_TAKEN: dict[type, Callable[[Session, Any, list[Event]], None]] = {
    Call: Session._on_call,
    CallReceived: Session._on_call,
    Reply: Session._on_reply,
    CallReplied: Session._on_stray_reply,
    Error: Session._on_error,
    Drop: Session._on_drop,
    Ping: Session._on_ping,
    Pong: Session._on_pong,
    Bye: Session._on_bye,
    UnknownType: Session._on_unknown,
    Misshapen: Session._on_misshapen,
}


class _ReplyTooLarge(BadReply):
    """A reply over the frame limit, which is said to its caller as well."""

    def __init__(self, size: int, limit: int, request: type[msgspec.Struct]) -> None:
        said = f"the reply to {tag_of(request)} has {size} bytes, over the limit of {limit} (frame_limit)"
        super().__init__(said, Code.TOO_LARGE, said)


def _bad_reply(error: Exception, request: type[msgspec.Struct], reply: object) -> BadReply:
    """A reply can't be sent: what its author is told, and what the caller is."""
    if isinstance(error, BadReply):
        return error
    return BadReply(
        f"the reply to {tag_of(request)}: {unsendable(error, reply)}",
        Code.INTERNAL,
        f"the reply to {tag_of(request)} isn't what was declared; see the log there",
    )


def _too_long(size: int, limit: int) -> LocalProtocolError:
    return LocalProtocolError(f"a message of {size} bytes is over the limit of {limit}")


def _printable(text: str) -> str:
    """The peer's words, fit for a log: on one line, and without control characters."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
