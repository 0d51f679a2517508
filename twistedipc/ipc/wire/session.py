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

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn, cast

import msgspec

from twistedipc.ipc.wire.errors import (
    BadKey,
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
from twistedipc.ipc.wire.handshake import (
    VERSIONS,
    Challenge,
    Hello,
    Welcome,
    check_identity,
    hello_mac,
    highest_common,
    same_mac,
    welcome_mac,
)
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
    Vocabulary,
    encode,
    encode_into,
    encode_lines,
    from_raw,
    tag_of,
    to_json,
    unsendable,
    words,
)

#: Bytes of a frame, without its newline, once the peer is authenticated; and before.
FRAME_LIMIT = 1 << 20
HANDSHAKE_FRAME_LIMIT = 4096

#: Calls that may be in flight each way.
MAX_CALLS = 1024

#: Reasons and messages of ours are cut to this length, since they may quote the peer.
_REASON_LIMIT = 512


class Side(StrEnum):
    """Who opened the connection."""

    DIALLER = "dialler"
    LISTENER = "listener"


class State(StrEnum):
    """Where a session is."""

    CONNECTING = "connecting"  # a dialler that hasn't heard the challenge
    AUTHENTICATING = "authenticating"
    READY = "ready"
    CLOSING = "closing"  # a `bye` was said or heard; nothing that comes in counts any more


# To look a member up in its enumeration costs as much as an encoding.
_READY = State.READY
_CLOSING = State.CLOSING

TRANSITIONS: dict[State, frozenset[State]] = {
    State.CONNECTING: frozenset({State.AUTHENTICATING, State.CLOSING}),
    State.AUTHENTICATING: frozenset({State.READY, State.CLOSING}),
    State.READY: frozenset({State.CLOSING}),
    State.CLOSING: frozenset(),
}

_H = msgspec.json.Decoder
#: What may come before the session is ready: one frame in each state, or a `bye`.
_HANDSHAKE: dict[tuple[Side, State], tuple[str, _H[Challenge | Bye] | _H[Hello | Bye] | _H[Welcome | Bye]]] = {
    (Side.DIALLER, State.CONNECTING): ("challenge", msgspec.json.Decoder(Challenge | Bye)),
    (Side.DIALLER, State.AUTHENTICATING): ("welcome", msgspec.json.Decoder(Welcome | Bye)),
    (Side.LISTENER, State.AUTHENTICATING): ("hello", msgspec.json.Decoder(Hello | Bye)),
}


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """Who is at the other end, once that is proven."""

    name: str  # as the peer gave it to `dial` or `listen`
    role: str  # of an interface's two sides: "calculator-server", "calculator-client"
    incarnation: str  # changes each time the peer's process starts
    version: int  # of the protocol
    address: str  # for people; not proven: "127.0.0.1:4711", "unix"


@dataclass(frozen=True)
class SessionSettings:
    """What one side brings to each of its links. Times are in seconds, sizes in bytes."""

    name: str  # who it is: at most 64 characters
    role: str  # what it is: lower-case letters, digits and -
    peer_role: str  # what the peer must be
    incarnation: str  # another one each time that this process starts
    key: bytes | None  # None only on UNIX sockets
    vocabulary: Vocabulary  # what it understands
    heartbeat: float = 8.0  # between signs of life; the listener's counts, on both sides
    dead_after: float = 24.0  # without received bytes, in whole heartbeats; never less than two of them
    handshake_timeout: float = 10.0  # for the peer to prove who it is
    frame_limit: int = FRAME_LIMIT  # of a message that is taken; what is sent is bounded by the peer's as well
    max_calls: int = MAX_CALLS  # in flight, each way
    outbound_limit: int = 64 << 20  # what waits for a peer that doesn't read; over it the link is closed
    accept_peer: Callable[[PeerInfo], str | None] | None = None  # gives a reason to refuse, or None
    #: for how long, at most, the process looks for the next message instead of sleeping, after it has answered one. It
    #: does so only while the peer's words have come that soon several times in a row: to be woken takes most of a round
    #: trip's time. 0 is never, a millisecond the most.
    busy_poll: float = 0.0002

    def __post_init__(self) -> None:
        check_identity(self.name, self.role, self.incarnation)
        key: object = self.key
        if not (key is None or isinstance(key, bytes)):
            raise BadKey(f"a key is bytes, not {type(key).__name__}")
        if key is not None and len(key) < 16:
            raise BadKey("a key has at least 16 bytes")
        if not 0.01 <= self.heartbeat <= 3600:
            raise ValueError("the heartbeat is between 10 milliseconds and one hour")
        if not 0 <= self.busy_poll <= 0.001:
            raise ValueError("busy polling is for one millisecond at most")
        if self.frame_limit < HANDSHAKE_FRAME_LIMIT:
            raise ValueError(f"the frame limit is at least {HANDSHAKE_FRAME_LIMIT} bytes")


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


#: A call of ours: the type of its request, and its deadline.
_Outgoing = tuple[type[msgspec.Struct], float]


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
        self._address = address
        self._nonce = nonce
        self._vocabulary = settings.vocabulary
        self._lines = LineSplitter(HANDSHAKE_FRAME_LIMIT)
        self.out = bytearray()  # what `data_to_send` will give
        #: bytes of a message that may be sent: the smaller one of both sides' limits, as far as they are known
        self.send_limit = settings.frame_limit
        self._challenge: Challenge | None = None
        self._hello: Hello | None = None
        self._version = 0
        self._authenticate_by = now + settings.handshake_timeout
        # Liveness: when it was last quiet-free, and how many heartbeats have gone by since without a byte.
        self._heartbeat = settings.heartbeat
        self._quiet_since = now
        self._missed = 0
        self._reading_paused = False
        self._pong_due = False
        # Calls. `_earliest` is never later than the earliest deadline; it is put right in `tick`.
        self._last_id = 0
        self._outgoing: dict[int, _Outgoing] = {}
        # The type of all replies that are awaited, if it is one.
        self._awaited: type[msgspec.Struct] | None = None
        self._earliest = math.inf
        self._incoming: dict[int, type[msgspec.Struct]] = {}
        self._dropped: set[int] = set()
        if side is Side.LISTENER:
            self._challenge = Challenge(
                versions=list(VERSIONS),
                role=settings.role,
                name=settings.name,
                nonce=self._nonce,
                frame_limit=settings.frame_limit,
            )
            self._queue(encode(self._challenge))
            self._become(State.AUTHENTICATING)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What the peer's bytes amount to. Never raises for anything that a peer can send."""
        if self.state is _CLOSING:
            return []
        self._quiet_since = now
        self._missed = 0
        events: list[Event] = []
        try:
            # One line at a time until the session is ready: the line that makes it so also raises the limit.
            while data and self.state is not _READY and (self.side, self.state) in _HANDSHAKE:
                end = data.find(b"\n") + 1 or len(data)
                line, data = data[:end], data[end:]
                self._handshake(line, events)
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
        return min(self._quiet_since + self._heartbeat, self._earliest)

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
            if now >= self._quiet_since + self._heartbeat:
                self._miss_heartbeat(now)
        if self.closed is not None:
            events.append(self.closed)
        return events

    def pause_reading(self) -> None:
        """This side doesn't read for a while: silence is no news of the peer then."""
        self._reading_paused = True

    def resume_reading(self, now: float) -> None:
        """This side reads again."""
        self._reading_paused = False
        self._quiet_since = now
        self._missed = 0

    def _miss_heartbeat(self, now: float) -> None:
        """
        A heartbeat's time without a byte. What counts is how often that happened, not the time that has passed: a
        process that was stopped for a minute must look at what waits in its socket before it judges the peer.
        """
        self._quiet_since = now
        if self._reading_paused:
            # The peer's pings are unread and unanswered: tell it unasked that this side lives.
            self._queue(encode(Pong()))
            return
        self._missed += 1
        if self._missed >= max(2, math.ceil(self.settings.dead_after / self._heartbeat)):
            silence = self._missed * self._heartbeat
            self._close(Closed(Code.SILENT, f"nothing was received for {silence:g} seconds", abrupt=True))
        else:
            self._queue(encode(Ping()))

    def _expire_calls(self, now: float, events: list[Event]) -> None:
        if now < self._earliest:
            return
        for id_ in [id_ for id_, (_, deadline) in self._outgoing.items() if deadline <= now]:
            request, _ = self._outgoing[id_]
            self.drop(id_)
            events.append(CallEnded(id_, CallTimedOut(f"no reply to {tag_of(request)} in time")))
        self._earliest = min((deadline for _, deadline in self._outgoing.values()), default=math.inf)

    # -- the handshake -----------------------------------------------------------------------------------------------

    def _handshake(self, data: bytes, events: list[Event]) -> None:
        expected, decoder = _HANDSHAKE[self.side, self.state]
        what = f"this is a twistedipc link, and expects {expected}"
        if not self._lines.pending and not data.startswith(b"{"):
            # HTTP, TLS and the like are told at once; they might wait for ever for the end of a line.
            raise RemoteProtocolError(Code.BAD_HANDSHAKE, what)
        try:
            line = self._lines.feed(data)
            if not line:
                return
            line.decode("utf-8")
            frame = decoder.decode(line)
        except FrameTooLong as error:
            raise RemoteProtocolError(Code.FRAME_TOO_LONG, f"{error} before authentication") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(Code.BAD_HANDSHAKE, f"{what}: {error}") from None
        match frame:
            case Challenge():
                self._on_challenge(frame)
            case Hello():
                self._on_hello(frame, events)
            case Welcome():
                self._on_welcome(frame, events)
            case Bye():
                self._on_bye(frame, events)

    def _on_challenge(self, challenge: Challenge) -> None:
        settings = self.settings
        version = highest_common(VERSIONS, challenge.versions)
        if version is None:
            raise RemoteProtocolError(
                Code.VERSION, f"no version in common: {_list(challenge.versions)} there, {_list(VERSIONS)} here"
            )
        self._check_role(challenge.role)
        self._challenge = challenge
        hello = Hello(
            version=version,
            role=settings.role,
            name=settings.name,
            incarnation=settings.incarnation,
            nonce=self._nonce,
            frame_limit=msgspec.UNSET if challenge.frame_limit is msgspec.UNSET else settings.frame_limit,
            mac="",
        )
        self._hello = msgspec.structs.replace(hello, mac=hello_mac(settings.key, challenge, hello))
        self._queue(encode(self._hello))
        self._become(State.AUTHENTICATING)

    def _on_hello(self, hello: Hello, events: list[Event]) -> None:
        settings = self.settings
        challenge = self._challenge
        assert challenge is not None, "a listener has made its challenge before it hears anything"
        if hello.version not in challenge.versions:
            raise RemoteProtocolError(
                Code.VERSION, f"version {hello.version} was chosen, of {_list(challenge.versions)}"
            )
        self._check_mac(hello_mac(settings.key, challenge, hello), hello.mac)
        self._check_role(hello.role)
        peer = PeerInfo(hello.name, hello.role, hello.incarnation, hello.version, self._address)
        self._check_welcome(peer)
        welcome = Welcome(incarnation=settings.incarnation, heartbeat=max(10, round(settings.heartbeat * 1000)), mac="")
        welcome = msgspec.structs.replace(welcome, mac=welcome_mac(settings.key, challenge, hello, welcome))
        self._queue(encode(welcome))
        self._be_ready(peer, hello.frame_limit, events)

    def _on_welcome(self, welcome: Welcome, events: list[Event]) -> None:
        challenge, hello = self._challenge, self._hello
        assert challenge is not None, "a dialler has heard a challenge before it is welcome"
        assert hello is not None, "a dialler has said hello before it is welcome"
        self._check_mac(welcome_mac(self.settings.key, challenge, hello, welcome), welcome.mac)
        peer = PeerInfo(challenge.name, challenge.role, welcome.incarnation, hello.version, self._address)
        self._check_welcome(peer)
        self._heartbeat = welcome.heartbeat / 1000
        self._be_ready(peer, challenge.frame_limit, events)

    def _check_mac(self, expected: str, received: str) -> None:
        if same_mac(expected, received):
            return
        if not expected:
            raise RemoteProtocolError(Code.UNAUTHORIZED, "the peer has a key, and none is set here")
        if not received:
            raise RemoteProtocolError(Code.UNAUTHORIZED, "a key is required here")
        raise RemoteProtocolError(Code.UNAUTHORIZED, "authentication failed: do both sides have the same key?")

    def _check_role(self, role: str) -> None:
        if role != self.settings.peer_role:
            raise RemoteProtocolError(Code.REFUSED, f"the peer is {role}; {self.settings.peer_role} is wanted")

    def _check_welcome(self, peer: PeerInfo) -> None:
        reason = self.settings.accept_peer(peer) if self.settings.accept_peer is not None else None
        if reason is not None:
            raise RemoteProtocolError(Code.REFUSED, reason)

    def _be_ready(self, peer: PeerInfo, frame_limit: int | msgspec.UnsetType, events: list[Event]) -> None:
        self.peer = peer
        if isinstance(frame_limit, int):
            self.send_limit = min(self.send_limit, frame_limit)
        self._lines.limit = self.settings.frame_limit
        self._become(State.READY)
        events.append(Ready(peer))

    # -- what the peer says ------------------------------------------------------------------------------------------

    def _converse(self, data: bytes, events: list[Event]) -> None:
        too_long: FrameTooLong | None = None
        try:
            block = self._lines.feed(data)
        except FrameTooLong as error:
            too_long, block = error, error.complete
        if block:
            frames = self._vocabulary.decode_block(block, self._awaited)
            if isinstance(frames, list) and self._vocabulary.messages.issuperset(map(type, frames)):
                events.extend(frames)  # the way that nearly everything goes
            else:
                self._take_each(frames, events)
        if too_long is not None and self.closed is None:
            raise RemoteProtocolError(Code.FRAME_TOO_LONG, str(too_long))

    def _take_each(self, frames: Iterable[Any], events: list[Event]) -> None:
        """Calls and replies that are as they should be cost no call in Python either."""
        outgoing, incoming, max_calls = self._outgoing, self._incoming, self.settings.max_calls
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
        call = self._end_outgoing(reply.id)
        if call is None:
            return
        try:
            events.append(CallReplied(reply.id, self._vocabulary.decode_reply(call[0], reply.reply)))
        except RemoteProtocolError as error:
            self._end_badly(reply.id, error.reason, events)

    def _end_badly(self, id_: int, complaint: str, events: list[Event]) -> None:
        """A call of ours was answered by something else than was declared. Both sides are told, and the link lives."""
        complaint = complaint[:_REASON_LIMIT]
        events.append(CallEnded(id_, CallFailed(Code.BAD_REPLY, complaint)))
        self.complain(Code.BAD_REPLY, complaint)

    def _on_stray_reply(self, reply: CallReplied[msgspec.Struct], events: list[Event]) -> None:
        self._end_outgoing(reply.id)

    def _on_error(self, error: Error, events: list[Event]) -> None:
        if error.id is msgspec.UNSET:
            code, message = error.code[:_REASON_LIMIT], error.message[:_REASON_LIMIT]
            events.append(ErrorReceived(_printable(code), _printable(message)))
        elif self._end_outgoing(error.id) is not None:
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
        elif (call := self._end_outgoing(wrong.id)) is not None:
            self._end_badly(wrong.id, f"the {wrong.name} to {tag_of(call[0])}: {wrong.complaint}", events)

    def _refuse_message(self, code: str, complaint: str, events: list[Event]) -> None:
        self.complain(code, complaint)
        events.append(MessageRefused(_printable(complaint[:_REASON_LIMIT])))

    def _end_outgoing(self, id_: int) -> _Outgoing | None:
        if id_ > self._last_id:
            raise RemoteProtocolError(Code.BAD_MESSAGE, f"an answer to call {id_}, which was never made")
        # An answer that crossed with our `drop` is nobody's any more.
        return self._outgoing.pop(id_, None)

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
        if len(outgoing) >= settings.max_calls:
            raise TooManyCalls(f"{settings.max_calls} calls of this side are in flight, its own limit (max_calls)")
        id_ = self._last_id + 1
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
        self._last_id = id_
        if reply is not self._awaited:
            self._awaited = None if outgoing else reply
        outgoing[id_] = (kind, deadline)
        if deadline < self._earliest:
            self._earliest = deadline
        return id_

    def drop(self, id_: int) -> None:
        """Forget a call of ours, and tell the peer. Nothing happens if it has been answered."""
        if self._outgoing.pop(id_, None) is not None and self.state is _READY:
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
        self._outgoing.clear()
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


def _list(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions))


def _printable(text: str) -> str:
    """The peer's words, fit for a log: on one line, and without control characters."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
