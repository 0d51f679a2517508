"""
Typed messages <-> lines of JSON. Sans-IO; used by `twistedipc.ipc.wire.session`.

One line is one object with a ``type``. An application's messages are tagged `msgspec.Struct` classes, sent as they
are; the session's own frames, below, wrap its calls and keep the link alive. A `Vocabulary` is declared once and says
what one side of a link understands.

Decoding is validating. Each line is decoded by itself, because `msgspec.json.Decoder.decode_lines` lets two objects on
one line pass, and one object over several; a check of that costs more. The decoders here are for lines one by one, and
for blocks, which ``fastpath`` decodes in C.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar, Union

import msgspec

from twistedipc.ipc.wire.blob import BlobElsewhere
from twistedipc.ipc.wire.errors import BadVocabulary, Code, LocalProtocolError, RemoteProtocolError
from twistedipc.ipc.wire.finite import check_finite, has_raw, is_exact, one_line

# -- the session's own frames ----------------------------------------------------------------------------------------

#: The ids that JSON can carry between any two languages.
CallId = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


#: The characters of a call's trace context, at most.
TRACE_LIMIT = 512

Trace = Annotated[str, msgspec.Meta(max_length=TRACE_LIMIT)]


class Frame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="type"):
    """The base of the session's own frames."""


#: Bytes of items that may be sent and not be taken.
Credit = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


class Call(Frame, frozen=True, kw_only=True, gc=False, tag="call"):
    """
    ``request``, a tagged message, wants a reply. The ids are the caller's; each is used once on a link. With ``credit``
    it wants items, as far as the credit goes, before the reply.
    """

    id: CallId
    request: msgspec.Raw
    credit: Credit | Literal[0] = 0
    trace: Trace = ""


_Content = TypeVar("_Content")


class CallReceived(msgspec.Struct, Generic[_Content], frozen=True, gc=False, tag_field="type", tag="call"):
    """A `Call` whose request was decoded with it. What the session makes of it is the same: an event."""

    id: CallId
    request: _Content
    credit: Credit | Literal[0] = 0
    trace: Trace = ""


class Reply(Frame, frozen=True, kw_only=True, gc=False, tag="reply"):
    """The answer to the call ``id``. Its type follows from the request's, so it needs no tag."""

    id: CallId
    reply: msgspec.Raw


class CallReplied(msgspec.Struct, Generic[_Content], frozen=True, gc=False, tag_field="type", tag="reply"):
    """A `Reply` whose content was decoded with it. What the session makes of a `Reply` is the same: an event."""

    id: CallId
    reply: _Content


class CallItems(Frame, frozen=True, kw_only=True, gc=False, tag="call-items"):
    """The next items, an array, of the streamed reply to the call ``id``."""

    id: CallId
    items: msgspec.Raw


class CallMore(Frame, frozen=True, kw_only=True, gc=False, tag="call-more"):
    """The caller has taken items of the call ``id``: so many more bytes may be sent."""

    id: CallId
    credit: Credit


class ItemsEnd(msgspec.Struct, frozen=True, gc=False):
    """The reply to a call whose items have all been sent."""

    items: int  # how many there were


class Error(Frame, frozen=True, kw_only=True, gc=False, tag="error"):
    """The call ``id`` has failed; or, without an ``id``, a message wasn't understood. The link goes on."""

    code: str
    message: str
    id: CallId | msgspec.UnsetType = msgspec.UNSET
    #: decoded, it may take twenty times the room that it has on the wire: that is for who made the call
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Drop(Frame, frozen=True, kw_only=True, gc=False, tag="drop"):
    """The caller doesn't wait for the call ``id`` any longer."""

    id: CallId


class Ping(Frame, frozen=True, kw_only=True, gc=False, tag="ping"):
    """Are you there? Answered by `Pong`."""


class Pong(Frame, frozen=True, kw_only=True, gc=False, tag="pong"):
    """I am. May come unasked."""


class Bye(Frame, frozen=True, kw_only=True, gc=False, tag="bye"):
    """The last frame before a connection is closed, saying why."""

    code: str
    reason: str


class CallToSend(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="call", omit_defaults=True):
    """A `Call` on its way out, encoded together with its request."""

    id: int
    request: msgspec.Struct
    trace: str = ""


class ItemsCallToSend(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="call", omit_defaults=True):
    """A `Call` for items on its way out."""

    id: int
    request: msgspec.Struct
    credit: int
    trace: str = ""


class ReplyToSend(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="reply"):
    """A `Reply` on its way out, encoded together with what it carries."""

    id: int
    reply: Any


OwnFrame = Call | Reply | CallItems | CallMore | Error | Drop | Ping | Pong | Bye

#: Tags that no application's message can have: the session's own, and the handshake's.
RESERVED = frozenset(
    "call reply call-items call-more error drop ping pong bye challenge hello welcome link-interface".split(),
)

#: How the link's own tags begin that are newer than applications: those of later versions too.
_RESERVED_PREFIX = "link-"

#: Characters of a tag, at most; and types that one side may take, in all.
TAG_LIMIT = 128
MOST_TYPES = 2048


@dataclass(frozen=True, slots=True)
class UnknownType:
    """A well-formed line whose ``type`` this side doesn't receive."""

    name: str


@dataclass(frozen=True, slots=True)
class Misshapen:
    """
    A well-formed line of a known ``type`` with the wrong fields. ``id``: of the call that it makes or answers; None if
    it is a one-way message.
    """

    name: str
    complaint: str
    id: int | None = None


class _Tag(msgspec.Struct):
    """The type of an object."""

    type: str


class _TagAndId(msgspec.Struct):
    """The type and the call of an object."""

    type: str
    id: CallId


#: Encodes everything on a link.
encoder = msgspec.json.Encoder()
_tag_decoder = msgspec.json.Decoder(_Tag)
_id_decoder = msgspec.json.Decoder(_TagAndId)
_error_decoder = msgspec.json.Decoder(Error)

_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[\da-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
#: The members with which an object begins that are no objects or arrays themselves, each with its comma.
_SCALARS = re.compile(
    rb"\s*+\{((?:\s*+" + _STRING + rb"\s*+:\s*+(?:" + _STRING + rb"|-?\d[-+.\deE]*+|true|false|null)\s*+,)++)"
)
#: How much of a line is looked through for them, in bytes.
_BEGINNING = 4096

#: The session's own frames in which a call can be recognised even if something else in them is wrong.
_OF_A_CALL = frozenset({"call", "reply", "call-items", "error"})

#: Whether there is a null in a buffer, from a place on. What isn't a number for JSON would be one.
_NULL = re.compile(b"null").search

#: What decoding raises for what is not JSON, or not of the right shape.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

#: What encoding raises for what JSON can't hold.
_UNSENDABLE = (TypeError, ValueError, OverflowError, RecursionError)


def tag_of(kind: type[msgspec.Struct]) -> str:
    """The tag of a message's class; `BadVocabulary` if it can't be an application's message."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        raise BadVocabulary(f"{kind!r} is not a msgspec.Struct class")
    config = kind.__struct_config__
    if config.tag_field != "type" or not isinstance(config.tag, str):
        raise BadVocabulary(f"{kind.__qualname__} is not tagged by a string in the field `type`")
    if (config.tag in RESERVED or config.tag.startswith(_RESERVED_PREFIX)) and not issubclass(kind, Frame):
        remedy = f'class {kind.__name__}(…, tag="{config.tag}-…")'
        raise BadVocabulary(f"{kind.__qualname__}: the type {config.tag!r} belongs to the link itself. Use {remedy}")
    if len(config.tag) > TAG_LIMIT:
        raise BadVocabulary(f"{kind.__qualname__}: a type has at most {TAG_LIMIT} characters")
    return config.tag


def name_of(kind: type[msgspec.Struct]) -> str:
    """
    The name by which a message's class is known in formats without a session. It is the tag; but a class whose tag is
    in the field ``method``, which only JSON-RPC can have, may have any.
    """
    config = kind.__struct_config__
    return config.tag if config.tag_field == "method" and isinstance(config.tag, str) else tag_of(kind)


def encode(message: msgspec.Struct) -> bytes:
    """Return the line of a message."""
    return encoder.encode(message) + b"\n"


def encode_lines(messages: Sequence[msgspec.Struct]) -> bytes:
    """Return one line for each message."""
    return encoder.encode_lines(messages)


#: ``encode_into(message, buffer, offset)``: the message without its newline, at ``offset``, where the buffer then ends.
encode_into = encoder.encode_into


class _Faults:
    """
    What a line costs that can't be decoded.

    :param messages: the messages that may come one-way
    :param requests: those that are answered
    :param fallbacks: as for `Vocabulary`
    """

    def __init__(
        self,
        messages: Sequence[type[msgspec.Struct]],
        requests: Iterable[type[msgspec.Struct]],
        fallbacks: Mapping[type[msgspec.Struct], type[msgspec.Struct]],
    ) -> None:
        #: the tags of requests that are answered
        self.requests = _distinct(requests)
        self._tags = _distinct(messages) | frozenset(RESERVED)
        #: Of those that cost no more than themselves if their fields are wrong: not the streams' own frames.
        self._losable = frozenset(tag_of(kind) for kind in messages if not issubclass(kind, Frame))
        self._fallbacks = {tag_of(kind): msgspec.json.Decoder(fallback) for kind, fallback in fallbacks.items()}

    def cost_of(self, line: bytes, error: Exception) -> msgspec.Struct | UnknownType | Misshapen:
        """
        Return what a line is of that can't be decoded: the message, the call, the stream's items that it costs. Raises
        `RemoteProtocolError` if that can't be told, or if the fault concerns the whole link. See "Messages and calls"
        in docs/protocol.md.
        """
        complaint, readable = _in_words(error), line
        try:
            name: str = _tag_decoder.decode(line).type
        except msgspec.ValidationError:
            raise RemoteProtocolError(Code.BAD_MESSAGE, complaint) from None
        except UNDECODABLE as worse:
            # It isn't JSON to its end, or is nested too deeply. What comes before that may say enough.
            complaint, readable = _in_words(worse), _beginning(line)
            try:
                name = _tag_decoder.decode(readable).type
            except UNDECODABLE:
                raise RemoteProtocolError(Code.BAD_MESSAGE, complaint) from None
        if name not in self._tags:
            return UnknownType(name[:64])
        if (fallback := self._fallbacks.get(name)) is not None:
            try:
                return msgspec.structs.replace(fallback.decode(readable), complaint=complaint)
            except UNDECODABLE:
                pass  # it isn't even that
        if name in self._losable:
            return Misshapen(name, f"{name}: {complaint}")
        if name == "error" and not isinstance(error, msgspec.ValidationError):
            try:
                return _error_decoder.decode(_beginning(line))  # only its data can't be read
            except UNDECODABLE:
                pass
        if name in _OF_A_CALL:
            try:
                return Misshapen(name, complaint, _id_decoder.decode(readable).id)
            except UNDECODABLE:
                pass  # the call can't be known
        raise RemoteProtocolError(Code.BAD_MESSAGE, f"{name}: {complaint}")


class ItemTypes:
    """The requests that are answered by items, each with the type of these: those of the peer, and this side's."""

    def __init__(self, answers: Mapping[type[msgspec.Struct], Any], calls: Mapping[type[msgspec.Struct], Any]) -> None:
        self.answers = dict(answers)
        self.calls = dict(calls)
        #: of arrays of the items that answer a request
        self.decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[list[Any]]] = {
            request: msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
            for request, kind in (*answers.items(), *calls.items())
        }


class Vocabulary:
    """
    What one side of a link understands.

    :param receives: the messages that may come one-way: a union of tagged structs, or a tuple of them
    :param answers: the requests that it answers, each with the type of its reply
    :param calls: the requests that it makes, each with the type of the reply that it expects
    :param answers_items: the requests that it answers by items, each with the type of the items
    :param calls_items: the requests that it makes for items, each with the type of the items
    :param fallbacks: by message: the class, with the same tag, as which it comes if its fields are wrong, or if only
        the beginning of its line can be read. It asks for less, and has a field ``complaint`` that is told what is
        wrong. A message that isn't here, or isn't even that, is refused

    A type that is in ``receives`` and in ``answers`` is a request, and is taken only as a call. `BadVocabulary` if
    two types have one tag, a type has none, or has one that is the link's own.
    """

    def __init__(
        self,
        receives: object = (),
        *,
        answers: Mapping[type[msgspec.Struct], Any] | None = None,
        calls: Mapping[type[msgspec.Struct], Any] | None = None,
        answers_items: Mapping[type[msgspec.Struct], Any] | None = None,
        calls_items: Mapping[type[msgspec.Struct], Any] | None = None,
        fallbacks: Mapping[type[msgspec.Struct], type[msgspec.Struct]] | None = None,
    ) -> None:
        #: what is answered by items
        self.items = ItemTypes(answers_items or {}, calls_items or {})
        self.answers: dict[type[msgspec.Struct], Any] = dict(answers or {})
        self.answers |= dict.fromkeys(self.items.answers, ItemsEnd)
        self.calls = dict(calls or {})
        asked = [*self.calls, *self.items.calls]
        messages = [kind for kind in _members(receives) if kind not in self.answers]
        #: The types that are the application's when they are received.
        self.messages = frozenset(messages)
        self._faults = _Faults(messages, self.answers, fallbacks or {})
        if len(messages) + len(self.answers) > MOST_TYPES:
            raise BadVocabulary(f"one side of a link takes at most {MOST_TYPES} messages and requests")
        _distinct(asked)
        #: The types that `check_sendable` has found good.
        self.sendable: set[type[msgspec.Struct]] = set()
        #: Those of them, and of the requests that are made, which are JSON once they are encoded.
        self.exact: set[type[msgspec.Struct]] = {kind for kind in asked if is_exact(kind)}
        #: Those in which there may be a `msgspec.Raw`, by what is declared.
        self.raw: set[type[msgspec.Struct]] = {kind for kind in asked if has_raw(kind)}
        #: The requests whose replies, or items, `one_line` is to look at.
        told = {**self.answers, **self.items.answers}
        self.raw_replies = frozenset(request for request, reply in told.items() if not is_exact(reply))
        own = typing.get_args(OwnFrame)
        self._frames: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_union([*messages, *own]))
        # Ping is no request: it makes a union of what may be one type, since a single type may come without its tag.
        requests = _union([*self.answers, Ping])
        self._request: msgspec.json.Decoder[Any] = msgspec.json.Decoder(requests)
        # The same as `_frames`, with the request in a call decoded at once: for calls that are as they should be.
        whole: Any = CallReceived
        self._own = [whole[requests] if kind is Call else kind for kind in own]
        # And again with the reply in a reply, for when all that are awaited are of one type; made as they are needed.
        self.block_decoders: dict[Any, Callable[[bytes], Any]] = {}
        self._replies: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {
            request: msgspec.json.Decoder(reply)
            for request, reply in (*self.calls.items(), *((kind, ItemsEnd) for kind in self.items.calls))
        }
        #: By request: decodes a `Reply`, or raises `msgspec.ValidationError`.
        self.reply_checks: dict[type[msgspec.Struct], Callable[[bytearray], Any]] = {
            request: msgspec.json.Decoder(_replied(reply)).decode for request, reply in self.answers.items()
        }

    # -- receiving ---------------------------------------------------------------------------------------------------

    def block_decoder(self, replies: Any) -> Callable[[bytes], Any]:
        """
        Make the decoder of a line whose requests and replies are decoded with it, and keep it in ``block_decoders``.

        :param replies: the type of all replies that are awaited, if it is one: then they come as `CallReplied`; or None
        """
        own = [_replied(replies) if kind is Reply and replies is not None else kind for kind in self._own]
        decode = self.block_decoders[replies] = msgspec.json.Decoder(_union([*self.messages, *own])).decode
        return decode

    def decode_each(self, block: bytes) -> Iterator[msgspec.Struct | UnknownType | Misshapen]:
        """
        Decode a block of complete lines one by one, in order. To be iterated at once: `RemoteProtocolError` is raised
        when the iteration comes to the first line that isn't JSON, or breaks the rules of the link itself.
        """
        for line in block[:-1].split(b"\n"):
            yield self._decode_line(line)

    def _decode_line(self, line: bytes) -> msgspec.Struct | UnknownType | Misshapen:
        if not line.strip():
            raise RemoteProtocolError(Code.BAD_MESSAGE, "an empty line is not a message")
        try:
            line.decode("utf-8")
            frame: msgspec.Struct = self._frames.decode(line)
            return frame
        except UNDECODABLE as error:
            return self._faults.cost_of(line, error)

    def request_of(self, call: Call | CallReceived[msgspec.Struct]) -> msgspec.Struct | UnknownType:
        """Return the request of a call. Raises `RemoteProtocolError` if the request has the wrong fields."""
        request = call.request
        if isinstance(request, msgspec.Raw):
            return self.decode_request(request)
        return UnknownType("ping") if type(request) is Ping else request

    def decode_request(self, raw: msgspec.Raw) -> msgspec.Struct | UnknownType:
        """Decode a request. Raises `RemoteProtocolError` if the request has the wrong fields."""
        try:
            request: msgspec.Struct = self._request.decode(raw)
        except msgspec.ValidationError as error:
            try:
                name = _tag_decoder.decode(raw).type
            except UNDECODABLE:
                raise RemoteProtocolError(Code.BAD_REQUEST, str(error)) from None
            if name in self._faults.requests:
                raise RemoteProtocolError(Code.BAD_REQUEST, f"{name}: {error}") from None
            return UnknownType(name[:64])
        except UNDECODABLE as error:
            raise RemoteProtocolError(Code.BAD_REQUEST, _in_words(error)) from None
        return UnknownType("ping") if isinstance(request, Ping) else request

    def decode_reply(self, request: type[msgspec.Struct], raw: msgspec.Raw) -> Any:
        """The reply to a call of ours; `RemoteProtocolError`, for this call alone, if it isn't of the declared type."""
        try:
            reply = self._replies[request].decode(raw)
        except UNDECODABLE as error:
            raise RemoteProtocolError(Code.BAD_REPLY, f"the reply to {tag_of(request)}: {_in_words(error)}") from None
        return reply

    # -- sending -----------------------------------------------------------------------------------------------------

    def check_sendable(self, message: msgspec.Struct) -> None:
        """Raise `LocalProtocolError` unless the message has a tag by which a peer can know it."""
        kind = type(message)
        if kind not in self.sendable:
            try:
                tag_of(kind)
            except BadVocabulary as error:
                raise LocalProtocolError(str(error)) from None
            self.sendable.add(kind)
            if is_exact(kind) or issubclass(kind, Frame):  # a frame's raw content was made here
                self.exact.add(kind)
            elif has_raw(kind):
                self.raw.add(kind)

    def check_all_sendable(self, messages: Iterable[msgspec.Struct]) -> None:
        """Do `check_sendable` for each message."""
        if not self.sendable.issuperset(map(type, messages)):
            for message in messages:
                self.check_sendable(message)

    def check_encoded(self, message: msgspec.Struct, out: bytearray, start: int) -> None:
        """
        Check a message that isn't `exact` and was just encoded, without a newline, from ``start`` to the end of
        ``out``. Raises what `unsendable` makes words of.
        """
        if _NULL(out, start):
            check_finite(message)
        if type(message) in self.raw or out.find(b"\n", start) >= 0:
            out[start:] = one_line(out[start:])

    def may_be_spoilt(self, messages: Sequence[msgspec.Struct], lines: bytes) -> bool:
        """Return whether one of these messages, encoded as ``lines``, has to be looked at by itself."""
        return (
            lines.find(b"null") >= 0
            or lines.count(b"\n") != len(messages)
            or not self.raw.isdisjoint(map(type, messages))
        )

    def check_reply(self, request: type[msgspec.Struct], reply: object) -> None:
        """
        Raise `LocalProtocolError` unless the reply is of the class that was declared for this request. Other types than
        classes are checked as JSON, with the fields.
        """
        expected = self.answers[request]
        if expected is ItemsEnd and not isinstance(reply, ItemsEnd):
            raise LocalProtocolError(f"its handler must be an async generator (async def, yield), not {reply!r:.100}")
        if is_struct(expected) and not isinstance(reply, expected):
            raise LocalProtocolError(f"it must be {expected.__qualname__}, not {type(reply).__qualname__}")


def to_json(data: Any) -> bytes:
    """Return any value as JSON. Raises `LocalProtocolError` if JSON can't hold the value."""
    try:
        encoded = encoder.encode(data)
    except _UNSENDABLE as error:
        raise unsendable(error) from None
    if encoded.find(b"null") >= 0:
        check_finite(data)
    try:
        return one_line(encoded)
    except UNDECODABLE as error:
        raise unsendable(error) from None


def from_raw(raw: msgspec.Raw) -> Any:
    """Return the value of JSON text. Raises ValueError, which says what is wrong, if it isn't JSON."""
    try:
        return msgspec.json.decode(raw)
    except UNDECODABLE as error:
        raise ValueError(_in_words(error)) from None


def unsendable(error: Exception, value: Any = None) -> LocalProtocolError:
    """Return what encoding ``value``, or a check of the result, has raised, as an error for the author of ``value``."""
    if isinstance(error, LocalProtocolError):
        return error
    if isinstance(error, msgspec.ValidationError):
        try:
            check_finite(value)  # then that is what is wrong, and not that there is a null
        except LocalProtocolError as better:
            return better
        return LocalProtocolError(str(error))
    if isinstance(error, msgspec.DecodeError | UnicodeDecodeError):
        return LocalProtocolError(f"this can't be sent as JSON: a msgspec.Raw in it is none: {error}")
    if isinstance(error, UnicodeEncodeError):
        return LocalProtocolError(f"this can't be sent as JSON: {_surrogate(error)}")
    if isinstance(error, TypeError) and BlobElsewhere.__name__ in str(error):
        return LocalProtocolError(
            "a Blob in this can't be sent: only a field of a Request, or of the reply to it, can have one, and only a "
            "field that is declared as a Blob, not as Any, say"
        )
    return LocalProtocolError(f"this can't be sent as JSON: {_in_words(error)}")


def too_long(size: int, limit: int) -> LocalProtocolError:
    """Return the error for the author of a message of ``size`` bytes."""
    return LocalProtocolError(f"a message of {size} bytes is over the limit of {limit}")


def _surrogate(error: UnicodeEncodeError) -> str:
    start = max(0, error.start - 20)
    return (
        f"a string has a lone surrogate, {error.object[error.start]!a} in {error.object[start : error.end + 20]!a}; "
        "a file name that isn't UTF-8 is sent as bytes (os.fsencode)"
    )


def words(text: object, limit: int) -> str:
    """Return an application's text or code as a string that JSON can hold, cut to ``limit`` characters."""
    return str(text)[:limit].encode("utf-8", "backslashreplace").decode("utf-8")[:limit]


def is_struct(kind: Any) -> bool:
    """Return whether a type is a struct's class, by which a value is known before it is JSON."""
    return isinstance(kind, type) and not typing.get_args(kind) and issubclass(kind, msgspec.Struct)


def _replied(reply: Any) -> Any:
    """Return the type of a `Reply` that carries this."""
    whole: Any = CallReplied
    return whole[reply]


def _members(receives: object) -> list[type[msgspec.Struct]]:
    if isinstance(receives, tuple):
        return list(receives)
    if isinstance(receives, types.UnionType) or typing.get_origin(receives) is Union:
        return list(typing.get_args(receives))
    return [typing.cast("type[msgspec.Struct]", receives)]


def _distinct(kinds: Iterable[type[msgspec.Struct]]) -> frozenset[str]:
    seen: dict[str, type[msgspec.Struct]] = {}
    for kind in kinds:
        other = seen.setdefault(tag_of(kind), kind)
        if other is not kind:
            raise BadVocabulary(f"{other.__qualname__} and {kind.__qualname__} have the same type {tag_of(kind)!r}")
    return frozenset(seen)


def _union(kinds: Sequence[Any]) -> Any:
    return Union[tuple(kinds)]  # noqa: UP007  (made at run time)


def _beginning(line: bytes) -> bytes:
    """
    As an object, the strings, numbers and words with which a line begins that can't be read as a whole: malformed, or
    nested too deeply. ``{}`` if it begins otherwise.
    """
    try:
        line.decode("utf-8")
        end = _BEGINNING
    except UnicodeDecodeError as error:
        end = min(error.start, _BEGINNING)
    found = _SCALARS.match(line, 0, end)
    members = found[1] if found is not None else b","
    # Of two types none is the right one.
    return b"{%b}" % members[:-1] if members.count(b'"type"') == 1 else b"{}"


def _in_words(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
