"""
The plain profile: newline-JSON without a session, for tools that only know ``net.connect`` and
``JSON.stringify(m) + '\\n'``. Sans-IO; used by ``connections/plain.py``.

A line is a message of the interface, as on a link; a request has its fields in the line itself, and beside them an
optional ``id``, which its answer has as well::

    ► {"type":"add","a":2,"b":3,"id":1}
    ◄ {"type":"reply","id":1,"reply":{"value":5}}
    ► {"type":"sing","id":2}
    ◄ {"type":"error","id":2,"code":"unknown-type","message":"'sing' is not received here"}

What isn't understood is answered by an ``error``. What isn't a line of JSON with a ``type`` comes from who speaks
something else (a browser, say, that was talked into it), and is the end: a ``bye``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Union

import msgspec

from twistedipc.ipc.wire.errors import BadReply, BadVocabulary, Code, LocalProtocolError
from twistedipc.ipc.wire.framing import FrameTooLong, LineSplitter
from twistedipc.ipc.wire.interface import Interface
from twistedipc.ipc.wire.messages import Bye, encode, tag_of, to_json, unsendable, words

#: Bytes of a line, either way, without its newline.
LINE_LIMIT = 1 << 20

#: An id is an integer that JSON can carry between any two languages, or a string of at most so many characters.
ID_LIMIT = 64
_LARGEST_ID = 2**53 - 1

#: Messages of ours are cut to this length, since they may quote the peer.
_MESSAGE_LIMIT = 512

Id = int | str | msgspec.UnsetType


class PlainReply(msgspec.Struct, frozen=True, tag_field="type", tag="reply"):
    """The answer to a request."""

    id: Id
    reply: msgspec.Raw


class PlainError(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """A line wasn't understood, or a request has failed. The connection goes on."""

    id: Id = msgspec.UNSET
    code: str
    message: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Asked(msgspec.Struct, frozen=True):
    """A request that wants an answer with this id; without one, if it has none."""

    id: Id
    request: msgspec.Struct


class Refused(msgspec.Struct, frozen=True):
    """A line that wasn't understood. ``line`` is the answer to it."""

    line: bytes


class Ended(msgspec.Struct, frozen=True):
    """Nothing that follows can be understood: to be answered by a ``bye`` of this, and the connection closed."""

    code: str
    reason: str


Event = msgspec.Struct  # a message of the interface, or one of the three above


class _Envelope(msgspec.Struct):
    """What any line must have."""

    type: str
    id: Any = msgspec.UNSET


class _Nothing(msgspec.Struct, tag_field="type", tag="ping"):
    """Makes a union of what may be one type, which may come without its tag. No interface can have it."""


_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_envelope = msgspec.json.Decoder(_Envelope)


class PlainConversation:
    """
    One connection's conversation: bytes in, events out; and what goes out, as lines.

    :raises BadVocabulary: the interface has what this profile hasn't: streams, or a request with a field ``id``
    """

    def __init__(self, interface: Interface, *, line_limit: int = LINE_LIMIT) -> None:
        self._interface = interface
        self.limit = line_limit  # bytes of a line, without its newline
        self._lines = LineSplitter(line_limit)
        self._decoder = decoder_of(interface)
        self._replies = {request: msgspec.json.Decoder(reply) for request, reply in interface.calls.items()}
        self._tags = frozenset(tag_of(kind) for kind in interface.kinds)
        self._requests = frozenset(tag_of(kind) for kind in interface.calls)

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished line are kept."""
        return self._lines.pending

    # -- receiving

    def receive(self, data: bytes) -> Iterator[Event]:
        """
        Return the events of the peer's bytes. Each line is decoded when the iteration comes to it, which may be later,
        but in the order of the calls. Nothing comes behind an `Ended`. Never raises for anything that a peer can send.
        """
        ended: Ended | None = None
        try:
            block = self._lines.feed(data)
        except FrameTooLong as error:
            block, ended = error.complete, Ended(Code.FRAME_TOO_LONG, str(error))
        return self._events(block, ended)

    def _events(self, block: bytes, ended: Ended | None) -> Iterator[Event]:
        for line in block[:-1].split(b"\n") if block else ():
            event = self._event(line)
            yield event
            if isinstance(event, Ended):
                return
        if ended is not None:
            yield ended

    def _event(self, line: bytes) -> Event:
        try:
            line.decode("utf-8")  # the decoder skips over fields that aren't declared
            envelope = _envelope.decode(line)
        except _BAD as error:
            return Ended(Code.BAD_MESSAGE, _cut(f"not a line of JSON with a type: {_in_words(error)}"))
        id_ = envelope.id
        if not _is_id(id_):
            is_request = envelope.type in self._requests
            if is_request or envelope.type not in self._tags:
                return self._refused(msgspec.UNSET, Code.BAD_REQUEST, "an id is an integer from 0, or a short string")
            id_ = msgspec.UNSET  # a field of a message, which isn't answered
        if envelope.type not in self._tags:
            return self._refused(id_, Code.UNKNOWN_TYPE, f"{envelope.type[:64]!r} is not received here")
        try:
            message: msgspec.Struct = self._decoder.decode(line)
        except _BAD as error:
            code = Code.BAD_REQUEST if envelope.type in self._requests else Code.BAD_MESSAGE
            return self._refused(id_, code, f"{envelope.type}: {_in_words(error)}")
        return Asked(id_, message) if type(message) in self._interface.calls else message

    def _refused(self, id_: Id, code: str, message: str) -> Refused:
        return Refused(self.error(id_, code, message))

    # -- sending

    def message(self, message: msgspec.Struct) -> bytes:
        """The line of a message of ours. Raises `LocalProtocolError`."""
        try:
            tag_of(type(message))
        except BadVocabulary as error:
            raise LocalProtocolError(str(error)) from None
        return self._bounded(to_json(message) + b"\n")

    def reply(self, asked: Asked, reply: object) -> bytes:
        """The line that answers a request. `BadReply` if it isn't what was declared, or can't be sent."""
        request = type(asked.request)
        name, expected = tag_of(request), self._interface.calls[request]
        try:
            if not isinstance(reply, expected):
                raise LocalProtocolError(f"it must be {expected.__qualname__}, not {type(reply).__qualname__}")
            content = to_json(reply)
            self._replies[request].decode(content)
        except Exception as error:
            said = f"the reply to {name} isn't what was declared; see the log there"
            raise BadReply(f"the reply to {name}: {unsendable(error, reply)}", Code.INTERNAL, said) from error
        line = encode(PlainReply(asked.id, msgspec.Raw(content)))
        if len(line) > self.limit + 1:
            said = f"the reply to {name} has {len(line) - 1} bytes, over the limit of {self.limit}"
            raise BadReply(said, Code.TOO_LARGE, said)
        return line

    def error(self, id_: Id, code: str, message: str, data: Any = None) -> bytes:
        """The line of an error. `LocalProtocolError` if its data can't be sent."""
        raw = msgspec.UNSET if data is None else msgspec.Raw(to_json(data))
        code, message = words(code, _MESSAGE_LIMIT), words(message, _MESSAGE_LIMIT)
        return self._bounded(encode(PlainError(id=id_, code=code, message=message, data=raw)))

    def bye(self, code: str, reason: str) -> bytes:
        """The last line."""
        return encode(Bye(code=words(code, _MESSAGE_LIMIT), reason=words(reason, _MESSAGE_LIMIT)))

    def _bounded(self, line: bytes) -> bytes:
        if len(line) > self.limit + 1:
            raise LocalProtocolError(f"a message of {len(line) - 1} bytes is over the limit of {self.limit}")
        return line


def decoder_of(interface: Interface) -> msgspec.json.Decoder[Any]:
    """The decoder of an interface's messages and requests. `BadVocabulary` if this profile can't have it."""
    if interface.streams:
        raise BadVocabulary(f"{interface.name} has streams, which need a link: the plain profile has none")
    for kind in interface.calls:
        if any(field.encode_name == "id" for field in msgspec.structs.fields(kind)):
            raise BadVocabulary(f"{kind.__qualname__} has a field id, which in the plain profile is the request's own")
    return msgspec.json.Decoder(Union[(*interface.kinds, _Nothing)])


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= ID_LIMIT
    if isinstance(value, bool):
        return False
    return value is msgspec.UNSET or (isinstance(value, int) and 0 <= value <= _LARGEST_ID)


def _cut(text: str) -> str:
    return text[:_MESSAGE_LIMIT]


def _in_words(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
