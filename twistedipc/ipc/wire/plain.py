"""
The plain profile: newline-JSON without a session, for tools that only know ``net.connect`` (or ``net.createServer``)
and ``JSON.stringify(m) + '\\n'``. Sans-IO; used by ``connections/plain.py``.

A line is a message of the interface, as on a link; a request has its fields in the line itself, and beside them an
optional ``id``, which its answer has as well::

    ► {"type":"add","a":2,"b":3,"id":1}
    ◄ {"type":"reply","id":1,"reply":{"value":5}}
    ► {"type":"sing","id":2}
    ◄ {"type":"error","id":2,"code":"unknown-type","message":"'sing' is not received here"}

A listener answers what it doesn't understand by an ``error``. What isn't a line of JSON with a ``type`` comes from who
speaks something else (a browser, say, that was talked into it), and is the end: a ``bye``.

A dialler meets servers that were there before it, and know neither word: it logs what it doesn't understand, and goes
on. To its calls it takes the answer above, and a bare object with the id: ``{"id":1,"value":5}``, or
``{"id":1,"error":"…"}``. `PlainFormat` has what servers do differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from twistedipc.ipc.wire.conversation import (
    BAD,
    FRAME_LIMIT,
    MESSAGE_LIMIT,
    TRACE_LIMIT,
    Asked,
    Conversation,
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
from twistedipc.ipc.wire.errors import BadVocabulary, CallFailed, Code, LocalProtocolError
from twistedipc.ipc.wire.framing import FrameTooLong, LineSplitter
from twistedipc.ipc.wire.interface import Interface
from twistedipc.ipc.wire.messages import encoder, tag_of, to_json, words
from twistedipc.ipc.wire.settings import MAX_CALLS, Side

#: The requests of one connection at work at which it isn't read.
MAX_ASKED = 256

#: The calls that were given up whose late answers are known as such. Older ones, if a server still answers them after
#: so many others, are taken for what a line without a type is.
LATE_LIMIT = 4096

#: An id is an integer that JSON can carry between any two languages, or a string of at most so many characters.
ID_LIMIT = 64
_LARGEST_ID = 2**53 - 1


@dataclass(frozen=True, slots=True)
class PlainFormat:
    """
    How lines are written.

    :param type_field: the member that says a line's type. None: lines have none, and all are of the ``default_type``
    :param default_type: the class of lines without a type
    :param request_id: the member that has a request's id
    :param line_limit: bytes of a line, either way, without its newline
    :param trace: the member that has a request's trace context; None: it isn't sent, nor looked for
    """

    type_field: str | None = "type"
    default_type: type[msgspec.Struct] | None = None
    request_id: str = "id"
    line_limit: int = FRAME_LIMIT
    trace: str | None = None


class _Error(msgspec.Struct):
    """An error, as it is said."""

    code: str
    message: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Bye(msgspec.Struct):
    """The end, as it is said."""

    code: str
    reason: str


class _Said(msgspec.Struct):
    """An error or the end, as it is heard: as much of it as there is."""

    code: Any = ""
    message: Any = ""
    reason: Any = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_said_decoder = msgspec.json.Decoder(_Said)


class PlainConversation(Conversation):
    """
    One connection's conversation.

    :param answered: what this side answers, or None
    :param asked: what this side asks by, or None
    :param side: a dialler answers nothing but requests
    :raises BadVocabulary: an interface has what this profile hasn't: streams, or a request with a field ``id``; or the
        format doesn't fit it
    """

    def __init__(
        self,
        answered: Interface | None,
        asked: Interface | None = None,
        how: PlainFormat = PlainFormat(),
        *,
        side: Side = Side.LISTENER,
        max_calls: int = MAX_CALLS,
    ) -> None:
        super().__init__(answered, asked, limit=how.line_limit, max_calls=max_calls)
        self.max_asked = MAX_ASKED
        self.traces = how.trace is not None
        self._how = how
        self._is_listener = side is Side.LISTENER
        self._lines = LineSplitter(how.line_limit)
        for interface in (answered, asked):
            if interface is not None:
                _check(interface, how)
        kinds = () if answered is None else answered.kinds
        _check_default(kinds, how)
        self._kinds = {tag_of(kind): kind for kind in kinds}
        self._decoders = {kind: msgspec.json.Decoder(kind) for kind in kinds}
        self._envelope: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_envelope(how))
        self._heads: dict[type[msgspec.Struct], tuple[int, bytes]] = {}  # by kind: how much of it is replaced, by what
        self._late: dict[int, None] = {}  # the calls that weren't waited for until they were answered, the oldest first

    @property
    def pending(self) -> int:
        return self._lines.pending

    # -- receiving

    def receive(self, data: bytes) -> Iterator[Event]:
        ended: Ended | None = None
        try:
            block = self._lines.feed(data)
        except FrameTooLong as error:
            block, ended = error.complete, Ended(Code.FRAME_TOO_LONG, str(error))
        self.has_completed = bool(block)
        return self._events(block, ended)

    def _events(self, block: bytes, ended: Ended | None) -> Iterator[Event]:
        for line in block[:-1].split(b"\n") if block else ():
            event = self._event(line)
            if event is None:
                continue
            yield event
            if isinstance(event, Ended):
                return
        if ended is not None:
            yield ended

    def _event(self, line: bytes) -> Event | None:
        """Return what a line says; None: an answer that nobody waits for any longer."""
        try:
            line.decode("utf-8")  # the decoder skips over fields that aren't declared
            envelope = self._envelope.decode(line)
        except BAD as error:
            return self._no_line(quoted(f"not a line of JSON with a type: {in_words(error)}"))
        id_, name = envelope.id, envelope.type
        if name is not msgspec.UNSET and (kind := self._kinds.get(name)) is not None:
            return self._said(kind, id_, line, envelope.trace)
        if self._calls and type(id_) is int and id_ in self.outgoing.waiting:
            return self._answered(id_, envelope, line)
        if name is msgspec.UNSET:
            if type(id_) is int and id_ in self._late:
                del self._late[id_]
                return None
            if self._how.default_type is not None:
                return self._said(self._how.default_type, id_, line, envelope.trace)
            return self._no_line(f"not a line of JSON with a type: it has no {self._how.type_field or 'id of a call'}")
        if self._calls and (own := self._of_the_profile(name, id_, line)) is not None:
            return own[0]
        return self._unknown(name, id_, line)

    def _no_line(self, complaint: str) -> Event:
        return Ended(Code.BAD_MESSAGE, complaint) if self._is_listener else Misunderstood(complaint)

    def _said(self, kind: type[msgspec.Struct], id_: Any, line: bytes, trace: Any) -> Event:
        """Return the message or request that a line of this class is."""
        is_request = kind in self._answers
        if not _is_id(id_):
            if is_request:
                return self._refused(msgspec.UNSET, Code.BAD_REQUEST, "an id is an integer from 0, or a short string")
            id_ = msgspec.UNSET  # a field of a message, which isn't answered
        try:
            message: msgspec.Struct = self._decoders[kind].decode(line)
        except BAD as error:
            code = Code.BAD_REQUEST if is_request else Code.BAD_MESSAGE
            return self._refused(id_, code, f"{tag_of(kind)}: {in_words(error)}")
        return Asked(id_, message, trace=trace_of(trace)) if is_request else message

    def _unknown(self, name: str, id_: Any, line: bytes) -> Event:
        if not self._is_listener and name == "challenge" and _is_challenge(line):
            said = "the other side is a link, which begins with a handshake, and not a plain server: use dial"
            return Ended(Code.BAD_HANDSHAKE, said, refused=True)
        if not _is_id(id_):
            return self._refused(msgspec.UNSET, Code.BAD_REQUEST, "an id is an integer from 0, or a short string")
        return self._refused(id_, Code.UNKNOWN_TYPE, f"{name[:64]!r} is not received here")

    def _refused(self, id_: Any, code: str, message: str) -> Refused | Misunderstood:
        if self._is_listener or id_ is not msgspec.UNSET:
            return Refused(self._error(id_, code, message))
        return Misunderstood(quoted(message))

    # -- answers to calls of this side's

    def _of_the_profile(self, name: str, id_: Any, line: bytes) -> tuple[Event | None] | None:
        """Return what an answer or an end says that isn't one to a call that waits; None: it is neither."""
        if name not in ("reply", "error", "bye"):
            return None
        if name == "bye":
            said = _heard(line) or _Said()
            return (Ended(quoted(str(said.code))[:64], quoted(str(said.reason))),)
        if type(id_) is int and 0 < id_ <= self.outgoing.last_id:
            return (None,)
        if name == "error" and id_ is msgspec.UNSET:
            said = _heard(line) or _Said()
            return (Misunderstood(quoted(f"the peer didn't understand: {said.message} [{said.code}]")),)
        return (Misunderstood("an answer to no call of this side's"),)

    def _answered(self, id_: int, envelope: Any, line: bytes) -> Replied | Failed:
        request, _ = self.outgoing.waiting.pop(id_)
        reply = self._calls[request]
        if envelope.type == "error":
            return Failed(id_, _error_of(line))
        # A reply of the profile is a member of the line; any other server's is the line itself.
        own = _fields_of(reply)
        if envelope.error is not msgspec.UNSET and "error" not in own and bytes(envelope.error) != b"null":
            return Failed(id_, _error_of(envelope.error))
        if envelope.reply is not msgspec.UNSET and (envelope.type == "reply" or "reply" not in own):
            return self._replied(id_, request, envelope.reply)
        return self._replied(id_, request, line)

    # -- sending

    def drop(self, id_: int) -> bytes:
        if id_ in self.outgoing.waiting:
            self._late[id_] = None
            if len(self._late) > LATE_LIMIT:
                del self._late[next(iter(self._late))]
        return super().drop(id_)

    def message(self, message: msgspec.Struct) -> bytes:
        try:
            return self._bounded(self._line(message))
        except BadVocabulary as error:
            raise LocalProtocolError(str(error)) from None

    def request(self, id_: int, request: msgspec.Struct, trace: str) -> bytes:
        content = self._line(request)
        comma = b"," if len(content) > 3 else b""
        own = self._member(self._how.request_id, id_)
        if trace and self._how.trace is not None:
            own += b"," + self._member(self._how.trace, words(trace, TRACE_LIMIT))
        return self._bounded(b"".join((content[:-2], comma, own, b"}\n")))

    def cancellation(self, id_: int) -> bytes:
        return b""

    def reply(self, asked: Asked, reply: object) -> bytes:
        content = self._content(asked, reply)
        line = b"{" + self._head("reply", asked.id) + b'"reply":' + content + b"}\n"
        return self._fitting(asked, line, len(line) - 1)

    def refusal(self, asked: Asked, code: str, message: str, data: Any = None) -> bytes:
        return self._error(asked.id, code, message, data)

    def complaint(self, code: str, message: str) -> bytes:
        return self._error(msgspec.UNSET, code, message) if self._is_listener else b""

    def bye(self, code: str, reason: str) -> bytes:
        if not self._is_listener or self._how.type_field is None:
            return b""
        said = _Bye(words(code, MESSAGE_LIMIT), words(reason, MESSAGE_LIMIT))
        return b"{" + self._head("bye", msgspec.UNSET) + encoder.encode(said)[1:] + b"\n"

    def _error(self, id_: Any, code: str, message: str, data: Any = None) -> bytes:
        raw = msgspec.UNSET if data is None else msgspec.Raw(to_json(data))
        content = encoder.encode(_Error(words(code, MESSAGE_LIMIT), words(message, MESSAGE_LIMIT), raw))
        head = b"{" + self._head("error", id_)
        typed = self._how.type_field is not None
        return self._bounded(head + (content[1:] if typed else b'"error":' + content + b"}") + b"\n")

    def _line(self, message: msgspec.Struct) -> bytes:
        """Return the line of a message, whose type is said as the format has it."""
        content = to_json(message)
        if self._how.type_field == "type":
            tag_of(type(message))
            return content + b"\n"
        kind = type(message)
        if kind not in self._heads:
            tag = tag_of(kind)
            head = b"" if self._how.type_field is None else self._member(self._how.type_field, tag)
            self._heads[kind] = (len(b"{" + self._member("type", tag)), b"{" + head)
        length, head = self._heads[kind]
        rest = content[length:]
        return head + (rest[1:] if head == b"{" and rest.startswith(b",") else rest) + b"\n"

    def _head(self, name: str, id_: Any) -> bytes:
        """Return the first members of a line that this profile itself has, each with its comma."""
        how = self._how
        said = b"" if how.type_field is None else self._member(how.type_field, name) + b","
        return said if id_ is msgspec.UNSET else said + self._member(how.request_id, id_) + b","

    @staticmethod
    def _member(name: str, value: int | str) -> bytes:
        return encoder.encode(name) + b":" + encoder.encode(value)

    def _bounded(self, line: bytes) -> bytes:
        if len(line) > self.limit + 1:
            raise LocalProtocolError(f"a message of {len(line) - 1} bytes is over the limit of {self.limit}")
        return line


def _envelope(how: PlainFormat) -> Any:
    """Return the class of what any line may have: its type, its id, and an answer."""
    unset: Any = msgspec.UNSET
    maybe: Any = msgspec.Raw | msgspec.UnsetType
    fields: list[Any] = [
        ("id", Any, msgspec.field(default=unset, name=how.request_id)),
        ("reply", maybe, unset),
        ("error", maybe, unset),
    ]
    namespace: dict[str, Any] = {}
    if how.trace is None:
        namespace["trace"] = ""
    else:
        fields.append(("trace", Any, msgspec.field(default="", name=how.trace)))
    if how.type_field is None:
        return msgspec.defstruct("Envelope", fields, namespace={**namespace, "type": unset})
    typed = ("type", str | msgspec.UnsetType, msgspec.field(default=unset, name=how.type_field))
    return msgspec.defstruct("Envelope", [typed, *fields], namespace=namespace)


def _check(interface: Interface, how: PlainFormat) -> None:
    """Raise `BadVocabulary` if this profile can't have an interface."""
    if interface.streams:
        raise BadVocabulary(f"{interface.name} has streams, which need a link: the plain profile has none")
    if interface.streamed:
        raise BadVocabulary(f"{interface.name} has streamed replies, which need a link: the plain profile has none")
    if interface.with_bodies:
        raise BadVocabulary(f"{interface.name} has blobs, which need a link: the plain profile has none")
    for kind in interface.kinds:
        if kind.__struct_config__.array_like:
            raise BadVocabulary(
                f"{kind.__qualname__} is sent as an array, and a line of the plain profile is an object"
            )
        names = _fields_of(kind)
        if kind in interface.calls and how.request_id in names:
            raise BadVocabulary(
                f"{kind.__qualname__} has a field {how.request_id}, which in the plain profile is the request's own"
            )
        if kind in interface.calls and how.trace in names:
            raise BadVocabulary(f"{kind.__qualname__} has a field {how.trace}, which has a request's trace context")
        if how.type_field is not None and how.type_field in names:
            raise BadVocabulary(f"{kind.__qualname__} has a field {how.type_field}, which says a line's type")


def _check_default(kinds: tuple[type[msgspec.Struct], ...], how: PlainFormat) -> None:
    default = how.default_type
    if how.trace in ("reply", "error", how.request_id, how.type_field) and how.trace is not None:
        raise BadVocabulary(f"the trace context can't be the member {how.trace}, which has another meaning")
    if how.type_field in ("reply", "error", how.request_id) or how.request_id in ("reply", "error"):
        raise BadVocabulary("the type and the id of a line are members of their own: not reply, error, or one another")
    if default is not None and default not in kinds:
        raise BadVocabulary(f"the default type, {default.__qualname__}, isn't received by this side")
    if default is None and how.type_field is None and kinds:
        raise BadVocabulary("lines without a type need a default_type, to know what they are")


def _fields_of(kind: Any) -> frozenset[str]:
    """Return the names that the fields of a class have on the wire."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return frozenset()
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


def _heard(said: bytes | msgspec.Raw) -> _Said | None:
    """Return what an object says; None if it is no object."""
    try:
        return _said_decoder.decode(said)
    except BAD:
        return None


def _value(said: bytes | msgspec.Raw | msgspec.UnsetType) -> Any:
    """Return the value of JSON text; None if there is none, or it can't be read."""
    try:
        return None if isinstance(said, msgspec.UnsetType) else msgspec.json.decode(said)
    except BAD:
        return None


def _error_of(said: bytes | msgspec.Raw) -> CallFailed:
    """Return the error that a peer has answered by: an object with a code, a message and data, or anything else."""
    heard = _heard(said)
    if heard is None:
        value = _value(said)
        return CallFailed("error", str(value)[:MESSAGE_LIMIT], None if isinstance(value, str) else value)
    code, message = str(heard.code) or "error", str(heard.message)
    return CallFailed(code[:MESSAGE_LIMIT], message[:MESSAGE_LIMIT], _value(heard.data))


def _is_challenge(line: bytes) -> bool:
    """Return whether a line is the first of a link's handshake."""
    members = _value(line)
    return isinstance(members, dict) and "nonce" in members and "versions" in members


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= ID_LIMIT
    if isinstance(value, bool):
        return False
    return value is msgspec.UNSET or (isinstance(value, int) and 0 <= value <= _LARGEST_ID)
