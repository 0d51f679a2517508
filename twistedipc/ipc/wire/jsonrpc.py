"""
JSON-RPC 2.0 (https://www.jsonrpc.org/specification), both sides. Sans-IO; used by ``connections/plain.py``.

A class of the interface is a method: its tag is the method's name, its fields are the parameters. A `Request` is called
with an id, a `Message` is a notification::

    ► {"jsonrpc":"2.0","id":1,"method":"add","params":{"a":2,"b":3}}
    ◄ {"jsonrpc":"2.0","id":1,"result":{"value":5}}
    ► {"jsonrpc":"2.0","method":"note","params":{"text":"done"}}

What comes costs what the specification says: the call that it is, or an answer with the id null; never another call,
and never the connection. Only where the next message begins must be known: see ``content_length``.

Batches are answered as such. This side sends none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import msgspec

from twistedipc.ipc.wire.answers import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REQUEST_CANCELLED,
    SERVER_ERROR,
    Batch,
    Id,
    error_body,
    error_of,
    number_of,
    own_code,
)
from twistedipc.ipc.wire.content_length import BadFraming, Framing, HeaderFraming, LineFraming
from twistedipc.ipc.wire.conversation import (
    BAD,
    FRAME_LIMIT,
    TRACE_LIMIT,
    Asked,
    Conversation,
    Dropped,
    Ended,
    Event,
    Failed,
    Misunderstood,
    Refused,
    Replied,
    in_words,
    quoted,
    trace_of,
)
from twistedipc.ipc.wire.errors import BadVocabulary, Code, LocalProtocolError
from twistedipc.ipc.wire.interface import Interface
from twistedipc.ipc.wire.messages import encoder, name_of, to_json, too_long, unsendable, words
from twistedipc.ipc.wire.methods import Received, Sent
from twistedipc.ipc.wire.settings import MAX_CALLS

#: Messages of one batch.
BATCH_LIMIT: Final = 256

#: Characters of an id that is a string.
ID_LIMIT: Final = 256


#: How a side says that it doesn't wait for an answer any longer. Language servers answer all the same; the Model
#: Context Protocol's servers don't.
Cancel = Literal["$/cancelRequest", "notifications/cancelled"]
_CANCELLED_ID: Final = {"$/cancelRequest": "id", "notifications/cancelled": "requestId"}
_ANSWERED_IF_CANCELLED: Final = "$/cancelRequest"


@dataclass(frozen=True, slots=True)
class JsonRpcFormat:
    """
    How JSON-RPC is spoken.

    :param framing: what is around a message: ``lines``, one on each; ``content-length``, a header before each
    :param cancel: the notification by which a call is cancelled; None: there is none
    :param batch_limit: messages of a batch; a longer one is refused as a whole. 0: all are
    :param frame_limit: bytes of a message, or of a batch, either way
    :param trace: the member of a call, beside its method, that has its trace context; None: it isn't sent, nor looked
        for
    """

    framing: Literal["lines", "content-length"] = "lines"
    cancel: Cancel | None = "$/cancelRequest"
    batch_limit: int = BATCH_LIMIT
    frame_limit: int = FRAME_LIMIT
    trace: str | None = None


class _Frame(msgspec.Struct, gc=False):
    """Any message that is as it should be."""

    jsonrpc: Literal["2.0"]
    id: Id | msgspec.UnsetType = msgspec.UNSET
    method: str | msgspec.UnsetType = msgspec.UNSET
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    trace: ClassVar[Any] = ""


class _LooseFrame(_Frame, gc=False):
    """A message with whatever id."""

    id: Any = msgspec.UNSET


_decode_batch = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode


_UNSET: Final = msgspec.UNSET


_Content = TypeVar("_Content")


class _Answer(Replied, Generic[_Content], forbid_unknown_fields=True, rename={"reply": "result"}):
    """An answer whose result was decoded with it, and which has nothing else."""

    reply: _Content
    jsonrpc: Literal["2.0"]


class JsonRpcConversation(Conversation):
    """
    One connection's conversation.

    :param answered: what this side answers, or None
    :param asked: what this side asks by, or None
    :param max_calls: calls in flight, each way. More that come are refused
    :raises BadVocabulary: an interface has streams
    """

    answers_in_turn = False

    def __init__(
        self,
        answered: Interface | None,
        asked: Interface | None = None,
        how: JsonRpcFormat = JsonRpcFormat(),
        *,
        max_calls: int = MAX_CALLS,
    ) -> None:
        super().__init__(answered, asked, limit=how.frame_limit, max_calls=max_calls)
        for interface in (answered, asked):
            if interface is not None and (interface.streams or interface.streamed):
                kind = "streams" if interface.streams else "streamed replies"
                raise BadVocabulary(f"{interface.name} has {kind}, which need a link: JSON-RPC has none")
            if interface is not None and interface.with_bodies:
                raise BadVocabulary(f"{interface.name} has blobs, which need a link: JSON-RPC has none")
        if how.trace in _Frame.__struct_fields__:
            raise BadVocabulary(f"the trace context can't be the member {how.trace}, which has another meaning")
        self._how = how
        self.traces = how.trace is not None
        self._decode_frame, self._decode_loose = _decoders(how.trace)
        self._framing: Framing = (LineFraming if how.framing == "lines" else HeaderFraming)(how.frame_limit)
        self._wrap = self._framing.wrap
        kinds = () if answered is None else answered.kinds
        self._methods = {name_of(kind): Received(kind, kind in self._answers) for kind in kinds}
        self._sent: dict[type[msgspec.Struct], Sent] = {}
        self._decoders: dict[Any, Callable[[bytes], Any]] = {}  # of usual answers, by the type of the reply
        self._open: dict[int | str, Asked] = {}  # the peer's calls
        self._cancelled: set[int | str] = set()  # of those
        self.refuses_more = True
        self._nulls = 0  # the peer's calls with the id null

    @property
    def pending(self) -> int:
        return self._framing.pending

    # -- receiving

    def receive(self, data: bytes) -> Iterator[Event]:
        ended: Ended | None = None
        try:
            bodies = self._framing.feed(data)
        except BadFraming as error:
            bodies, ended = error.complete, Ended(error.code, str(error))
        self.has_completed = bool(bodies)
        return self._events(bodies, ended)

    def _events(self, bodies: list[bytes], ended: Ended | None) -> Iterator[Event]:
        if self.outgoing.waiting and (answers := self._answers_in(bodies)) is not None:
            yield from answers
            bodies = []
        for body in bodies:
            try:
                if not body.isascii():
                    body.decode("utf-8")  # the decoder doesn't look at all of it
                frame = self._decode_frame(body)
            except BAD:
                if body.lstrip(b" \t\r\n").startswith(b"["):
                    yield from self._of_a_batch(body)
                    continue
                event = self._of_no_frame(body)
            else:
                event = self._usual(frame) or self._event(frame, None)
            if event is not None:
                yield event
        if ended is not None:
            yield ended

    def _usual(self, frame: _Frame) -> Asked | Replied | None:
        """
        Return the call or the answer that a message is, if it is as most are. It is what `_event` would return; where
        something is amiss, `_event` finds it.
        """
        id_, params, result = frame.id, frame.params, frame.result
        if type(id_) is not int:
            return None
        try:
            if not isinstance(frame.method, str):
                waiting = self.outgoing.waiting
                if id_ in waiting and isinstance(result, msgspec.Raw) and frame.error is _UNSET:
                    replied = Replied(id_, self._reply_decoders[waiting[id_][0]](result))
                    del waiting[id_]
                    return replied
                return None
            method, in_flight = self._methods.get(frame.method), self._open
            if method is None or not method.is_usual or not isinstance(params, msgspec.Raw):
                return None
            if id_ in in_flight or len(in_flight) + self._nulls >= self.max_calls:
                return None
            asked = Asked(id_, method.decode(params))
            if frame.trace:
                asked = Asked(id_, asked.request, trace=trace_of(frame.trace))
            in_flight[id_] = asked
            return asked
        except BAD:
            return None

    def _answers_in(self, bodies: list[bytes]) -> Iterator[Event] | None:
        """Return what messages say that are all usual answers to calls of this side's; None if they aren't."""
        awaited = self.outgoing.awaited
        if awaited is None or not all(map(bytes.isascii, bodies)):
            return None
        try:
            answers = list(map(self._decoders.get(awaited) or self._learn_answer(awaited), bodies))
        except BAD:
            return None
        return (answer for answer in answers if self.outgoing.waiting.pop(answer.id, None) is not None)

    def _learn_answer(self, reply: Any) -> Callable[[bytes], Any]:
        whole: Any = _Answer
        decode = self._decoders[reply] = msgspec.json.Decoder(whole[reply]).decode
        return decode

    def _of_a_batch(self, body: bytes) -> Iterator[Event]:
        try:
            body.decode("utf-8")
            parts = _decode_batch(body)
        except BAD as error:
            yield self._refused(None, None, PARSE_ERROR, f"this isn't JSON: {in_words(error)}")
            return
        if not 0 < len(parts) <= self._how.batch_limit:
            said = f"a batch has 1 to {self._how.batch_limit} messages"
            yield self._refused(None, None, INVALID_REQUEST, said if self._how.batch_limit else "there are no batches")
            return
        batch = Batch(len(parts), self.limit)
        for part in parts:
            try:
                event = self._event(self._decode_frame(part), batch)
            except BAD:
                event = self._of_no_frame(bytes(part), batch)
            if event is not None:
                yield event
            if not isinstance(event, Asked | Refused) and (line := batch.put(None, b"")):
                yield Refused(self._wrap(line))  # the last part of it needs no answer

    def _of_no_frame(self, body: bytes, batch: Batch | None = None) -> Event | None:
        """Return what is to be done about something that isn't a message as it is usually written."""
        try:
            value = _decode_any(body)
        except BAD as error:
            return self._refused(batch, None, PARSE_ERROR, f"this isn't JSON: {in_words(error)}")
        if not isinstance(value, dict):
            return self._refused(batch, None, INVALID_REQUEST, "a message is an object")
        if value.get("type") == "challenge" and "nonce" in value:
            said = "the other side is a link, which begins with a handshake, and not a server of JSON-RPC: use dial"
            return Ended(Code.BAD_HANDSHAKE, said, refused=True)
        given = value.get("id")
        id_ = given if _is_id(given) else None
        if isinstance(id_, float):
            id_ = int(id_)
            with suppress(msgspec.ValidationError):
                frame = self._decode_loose(body)
                frame.id = id_
                return self._event(frame, batch)
        if "method" not in value and ("result" in value or "error" in value):
            # Never answered: the two sides would go on answering one another.
            return Misunderstood("an answer that isn't as JSON-RPC has it")
        return self._refused(
            batch,
            id_,
            INVALID_REQUEST,
            'a message has "jsonrpc": "2.0", a method, and an id (a number, a string) or none',
        )

    def _event(self, frame: _Frame, batch: Batch | None) -> Event | None:
        """Return what a message says; None: nothing is to be done about it."""
        if frame.method is _UNSET:
            return self._answer(frame, batch)
        id_, method = frame.id, self._methods.get(frame.method)
        if method is None:
            return self._of_no_method(frame, batch)
        is_call = id_ is not _UNSET
        if is_call and not method.is_request:
            said = f"{quoted(frame.method)} is a notification: it is sent without an id"
            return self._refused(batch, id_, METHOD_NOT_FOUND, said)
        if is_call and (refused := self._not_now(id_, batch)) is not None:
            return refused
        try:
            message = method.message_of(frame.params)
        except BAD as error:
            said = f"{frame.method}: {in_words(error)}"
            return self._refused(batch, id_, INVALID_PARAMS, said) if is_call else Misunderstood(quoted(said))
        if not method.is_request:
            return message
        asked = Asked(id_, message, batch, trace_of(frame.trace))
        if isinstance(id_, int | str):
            self._open[id_] = asked
        elif is_call:
            self._nulls += 1
        return asked

    def _not_now(self, id_: Any, batch: Batch | None) -> Refused | None:
        """Refuse a call whose id is in use, or for which there is no room."""
        if isinstance(id_, str) and len(id_) > ID_LIMIT:
            return self._refused(batch, None, INVALID_REQUEST, f"an id has at most {ID_LIMIT} characters")
        if id_ in self._open:
            # With the id, it would be taken for the answer to the other one.
            return self._refused(batch, None, INVALID_REQUEST, f"a call with the id {id_!r} is in flight")
        if len(self._open) + self._nulls >= self.max_calls:
            body = error_body(id_, SERVER_ERROR, f"{self.max_calls} calls are in flight", own_code(Code.BUSY, None))
            return Refused(self._wrapped(batch, id_, body))
        return None

    def _of_no_method(self, frame: _Frame, batch: Batch | None) -> Event | None:
        assert isinstance(frame.method, str)
        if frame.method == self._how.cancel and isinstance(frame.id, msgspec.UnsetType):
            return self._cancellation_of(frame.params)
        said = f"there is no method {quoted(frame.method[:100])!r}"
        if isinstance(frame.id, msgspec.UnsetType):
            return Misunderstood(said)  # a notification has no answer
        return self._refused(batch, frame.id, METHOD_NOT_FOUND, said)

    def _cancellation_of(self, params: msgspec.Raw | msgspec.UnsetType) -> Dropped | None:
        """Return which call is cancelled; None: it is over, or never was."""
        assert self._how.cancel is not None
        try:
            given = None if isinstance(params, msgspec.UnsetType) else _decode_any(params)
        except BAD:
            return None
        id_ = given.get(_CANCELLED_ID[self._how.cancel]) if isinstance(given, dict) else None
        asked = self._open.get(id_) if _is_id(id_) and id_ is not None else None
        if asked is None or asked.id in self._cancelled:
            return None
        self._cancelled.add(asked.id)
        return Dropped(asked)

    def _refused(self, batch: Batch | None, id_: Any, number: int, message: str) -> Refused:
        said = None if isinstance(id_, msgspec.UnsetType) else id_
        return Refused(self._wrapped(batch, said, error_body(said, number, message)))

    def _wrapped(self, batch: Batch | None, id_: Id, body: bytes) -> bytes:
        """Return an answer as it is sent: nothing for now, if it belongs to a batch with others."""
        if batch is not None:
            body = batch.put(id_, body)
        return self._wrap(body) if body else b""

    # -- answers to calls of this side's

    def _answer(self, frame: _Frame, batch: Batch | None) -> Event | None:
        id_, error, result = frame.id, frame.error, frame.result
        if isinstance(error, msgspec.UnsetType) and isinstance(result, msgspec.UnsetType):
            return self._refused(batch, id_, INVALID_REQUEST, "a message has a method, a result or an error")
        if type(id_) is not int or not 0 < id_ <= self.outgoing.last_id:
            if id_ is None and not isinstance(error, msgspec.UnsetType):
                return Misunderstood(quoted(f"the peer didn't understand: {error_of(error)}"))
            return Misunderstood("an answer to no call of this side's")
        waiting = self.outgoing.waiting.pop(id_, None)
        if waiting is None:
            return None  # it comes too late
        # Some answer by an error that is null.
        if not isinstance(error, msgspec.UnsetType) and (
            bytes(error) != b"null" or isinstance(result, msgspec.UnsetType)
        ):
            return Failed(id_, error_of(error))
        assert isinstance(result, msgspec.Raw)
        return self._replied(id_, waiting[0], result)

    # -- sending

    def message(self, message: msgspec.Struct) -> bytes:
        return self._framed(b'{"jsonrpc":"2.0",', message)

    def call(self, request: msgspec.Struct, deadline: float, trace: str = "") -> tuple[int, bytes]:
        sent, outgoing = self._sent.get(type(request)), self.outgoing
        if trace or sent is None or not sent.is_called or len(outgoing.waiting) >= self.max_calls:
            outgoing.awaited = None
            return super().call(request, deadline, trace)
        # The same for most calls, with half as many calls in Python.
        try:
            content = encoder.encode(request)
        except Exception as error:
            raise unsendable(error) from None
        id_, at = outgoing.last_id + 1, sent.tagged
        body = sent.call % (id_, content[at + 1 :] if content[at] == _COMMA else content[at:])
        if len(body) > self.limit:
            raise too_long(len(body), self.limit)
        if sent.reply is not outgoing.awaited:
            outgoing.awaited = None if outgoing.waiting else sent.reply
        outgoing.last_id = id_
        outgoing.waiting[id_] = (sent.kind, deadline)
        if deadline < outgoing.earliest:
            outgoing.earliest = deadline
        return id_, self._wrap(body)

    def request(self, id_: int, request: msgspec.Struct, trace: str) -> bytes:
        opening = b'{"jsonrpc":"2.0","id":%d,' % id_
        if trace and self._how.trace is not None:
            opening += encoder.encode(self._how.trace) + b":" + encoder.encode(words(trace, TRACE_LIMIT)) + b","
        return self._framed(opening, request)

    def _framed(self, opening: bytes, message: msgspec.Struct) -> bytes:
        try:
            sent = self._sent.get(type(message)) or self._learn(type(message))
            content = encoder.encode(message) if sent.is_exact else to_json(message)
        except Exception as error:
            raise LocalProtocolError(str(error)) if isinstance(error, BadVocabulary) else unsendable(error) from None
        # What follows the type is a comma and the first field, or the end.
        at = sent.tagged
        body = b"%b%b%b}" % (opening, sent.head, content[at + 1 :] if content[at] == _COMMA else content[at:])
        if len(body) > self.limit:
            raise too_long(len(body), self.limit)
        return self._wrap(body)

    def _learn(self, kind: type[msgspec.Struct]) -> Sent:
        sent = self._sent[kind] = Sent(kind, self._calls.get(kind, _UNSET))
        return sent

    def cancellation(self, id_: int) -> bytes:
        cancel = self._how.cancel
        if cancel is None:
            return b""
        body = {"jsonrpc": "2.0", "method": cancel, "params": {_CANCELLED_ID[cancel]: id_}}
        return self._wrap(encoder.encode(body))

    def reply(self, asked: Asked, reply: object) -> bytes:
        content = self._content(asked, reply)
        id_ = asked.id
        if id_ is _UNSET:
            return self._ended(asked, b"")
        body = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (
            b"%d" % id_ if type(id_) is int else encoder.encode(id_),
            content,
        )
        if len(body) > self.limit:
            self._fitting(asked, body, len(body))
        if id_ is None or asked.batch is not None or self._cancelled:
            return self._ended(asked, body)
        del self._open[id_]
        return self._wrap(body)

    def refusal(self, asked: Asked, code: str, message: str, data: Any = None) -> bytes:
        id_ = asked.id
        if id_ is _UNSET:
            return self._ended(asked, b"")
        if id_ in self._cancelled and code == Code.CLOSED:
            body = error_body(id_, REQUEST_CANCELLED, message)
        elif (number := number_of(code)) is not None:
            body = error_body(id_, number, message, None if data is None else to_json(data))
        else:
            body = error_body(id_, SERVER_ERROR, message, own_code(code, data))
        if len(body) > self.limit:
            raise too_long(len(body), self.limit)
        return self._ended(asked, body)

    def _ended(self, asked: Asked, body: bytes) -> bytes:
        """Return the answer to a call as it is sent, and forget the call."""
        id_ = asked.id
        if id_ is None:
            self._nulls -= 1
        elif id_ is not _UNSET:
            del self._open[id_]
            if id_ in self._cancelled:
                self._cancelled.discard(id_)
                if self._how.cancel != _ANSWERED_IF_CANCELLED:
                    body = b""
        if asked.batch is None:
            return self._wrap(body) if body else b""
        return self._wrapped(asked.batch, None if id_ is _UNSET else id_, body)

    def complaint(self, code: str, message: str) -> bytes:
        return b""  # a notification has no answer

    def bye(self, code: str, reason: str) -> bytes:
        if code == Code.CLOSED:
            return b""
        number = PARSE_ERROR if code in (Code.FRAME_TOO_LONG, Code.BAD_MESSAGE) else SERVER_ERROR
        return self._wrap(error_body(None, number, reason))


def _decoders(trace: str | None) -> tuple[Callable[[Any], _Frame], Callable[[Any], _LooseFrame]]:
    """Return what decodes messages, of which this member has the trace context."""
    if trace is None:
        return msgspec.json.Decoder(_Frame).decode, msgspec.json.Decoder(_LooseFrame).decode

    class Frame(_Frame, rename={"trace": trace}, gc=False):
        trace: Any = ""  # type: ignore[misc]

    class LooseFrame(_LooseFrame, rename={"trace": trace}, gc=False):
        trace: Any = ""  # type: ignore[misc]

    return msgspec.json.Decoder(Frame).decode, msgspec.json.Decoder(LooseFrame).decode


_COMMA = ord(",")
_LARGEST_FLOAT = 2**53


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= ID_LIMIT
    if isinstance(value, float):  # 1.0 is 1, as languages write it that have no integers
        return value.is_integer() and abs(value) <= _LARGEST_FLOAT
    return value is None or (isinstance(value, int) and not isinstance(value, bool))
