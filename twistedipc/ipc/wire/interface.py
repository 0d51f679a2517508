"""
What two processes say to one another, declared once and imported by both: messages, requests with the type of their
reply, streams with the class of their items, and the `Interface` that holds them together. Used by ``handlers``,
``service``, ``remote`` and ``plain``.

::

    class Sum(msgspec.Struct):
        value: int

    class Add(Request[Sum]):          # a call: its reply is a Sum
        a: int
        b: int

    class Note(Message):              # one-way
        text: str

    class Event(msgspec.Struct):
        what: str

    EVENTS = StreamOf("events", Event)   # a reliable stream

    CALCULATOR = Interface("calculator", Add, Note, streams=[EVENTS])

On the wire an `Add` is ``{"type":"add","a":2,"b":3}``: a class is known by its name in lower case, unless it has
another ``tag``. Fields may be added later with defaults; unknown ones are ignored.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from twistedipc.ipc.wire.blob import may_have_blobs
from twistedipc.ipc.wire.bodies import FRAMES
from twistedipc.ipc.wire.catalogue import catalogue
from twistedipc.ipc.wire.errors import BadVocabulary
from twistedipc.ipc.wire.messages import MOST_TYPES, Vocabulary, name_of
from twistedipc.ipc.wire.schema import mark_left_out, mark_times, schemas
from twistedipc.ipc.wire.windows import FROM_RECEIVER, FROM_SENDER, StreamItems, UnreadItems

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T", bound=msgspec.Struct)

#: What a session takes for a role; ours have a suffix.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")


class Message(msgspec.Struct, tag_field="type", tag=str.lower):
    """
    The base of one-way messages: a `msgspec.Struct`, whose fields are checked when it arrives. On the wire it is
    known by its class's name in lower case, or by another ``tag``: ``class Note(Message, tag="remark")``. Fields that
    are added later need defaults; unknown ones are ignored.
    """


class Request(Message, Generic[R_co]):
    """
    The base of calls, and otherwise like a `Message`: ``class Add(Request[Sum])`` wants a ``Sum`` as its reply. A reply
    is of any type that msgspec decodes: a ``msgspec.Struct``, which needs no special base and no tag; ``None``, where
    there is nothing to say; ``list[Row]``, ``dict[str, int]``, ``Page[int]``, ``datetime``, an ``Enum``. Structs of a
    union (``Found | Missing``) need tags of their own, by which they are told apart.
    """

    if typing.TYPE_CHECKING:

        @classmethod
        def _reply(cls) -> R_co:
            """The type of the reply, for type checkers: `handles` ties the handler to it."""
            raise NotImplementedError


class StreamedRequest(Message, Generic[R_co]):
    """
    The base of calls that are answered by items, one after another: ``class Query(StreamedRequest[Row])``. The caller
    makes them by `Remote.stream_call`, the handler is an async generator. What an item may be is said at `Request`.
    """

    if typing.TYPE_CHECKING:

        @classmethod
        def _items(cls) -> R_co:
            """The type of the items, for type checkers: `handles` ties the handler to it."""
            raise NotImplementedError


@dataclass(frozen=True)
class StreamOf(Generic[T]):
    """
    A reliable stream of an interface, declared: ``EVENTS = StreamOf("events", Event)``. The side that sends gives it to
    `Remote.stream`, the side that receives to `receives`; so both know the class of the items.

    :param name: of the stream, on the wire: lower-case letters, digits and ``-``, at most 24
    :param items: the class of its items, a ``msgspec.Struct``
    :raises BadVocabulary: the name can't be one, or the items are of another type
    """

    name: str
    items: type[T]

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            raise BadVocabulary(f"{self.name!r} is no name for a stream: lower-case letters, digits and - are")
        if not (isinstance(self.items, type) and issubclass(self.items, msgspec.Struct)):
            raise BadVocabulary(
                f"the stream {self.name} can't have items of {_named(self.items)}: they are msgspec.Structs"
            )


class Interface:
    """
    The messages, calls and streams of a service. Both sides have it: the service answers, the other side asks.

    :param name: of the service, for the handshake: a side that wants another is refused. Lower-case letters, digits and
        ``-``, at most 24.
    :param kinds: the classes of its messages (`Message`) and requests (`Request`)
    :param streams: the reliable streams that it receives
    :raises BadVocabulary: two have one tag or one name, one has no tag or one of the link's own, or a request doesn't
        say what its reply is, or says a type that msgspec can't decode
    """

    def __init__(self, name: str, *kinds: type[msgspec.Struct], streams: Iterable[StreamOf[Any]] = ()) -> None:
        if not _NAME.fullmatch(name):
            raise BadVocabulary(f"{name!r} is no name for an interface: lower-case letters, digits and - are")
        self.name = name
        #: the requests, each with the type of its reply
        self.calls: dict[type[msgspec.Struct], Any] = {}
        #: the requests that are answered by items, each with the type of those
        self.streamed: dict[type[msgspec.Struct], Any] = {}
        messages: list[type[msgspec.Struct]] = []
        for kind in kinds:
            if name_of(kind).startswith("stream-"):
                raise BadVocabulary(f"{kind.__qualname__}: types that begin with stream- belong to the streams")
            if issubclass(kind, Request):
                self.calls[kind] = reply_of(kind)
            elif issubclass(kind, StreamedRequest):
                self.streamed[kind] = reply_of(kind)
            else:
                messages.append(kind)
        #: the classes of one-way messages
        self.messages = tuple(messages)
        #: the streams, by their names
        self.streams: dict[str, StreamOf[Any]] = {}
        for stream in streams:
            if not isinstance(stream, StreamOf):
                raise BadVocabulary(f'{name}: {stream!r} is no StreamOf: streams=[StreamOf("events", Event)]')
            if stream.name in self.streams:
                raise BadVocabulary(f"{name} has two streams {stream.name}")
            self.streams[stream.name] = stream
        #: the requests in which there may be a `Blob`, or in whose replies
        self.with_bodies = frozenset(
            kind for kind, reply in self.calls.items() if may_have_blobs(kind) or may_have_blobs(reply)
        )
        self._check_no_other_has_blobs()
        if len(kinds) + len(self.streams) > MOST_TYPES:
            raise BadVocabulary(f"an interface has at most {MOST_TYPES} messages, requests and streams")
        if len({name_of(kind) for kind in kinds}) < len(kinds) or not any(map(_is_for_jsonrpc, kinds)):
            # Whatever else is wrong is found now.
            Vocabulary(self.messages, answers=self.calls, answers_items=self.streamed)

    def _check_no_other_has_blobs(self) -> None:
        of_calls = [each for pair in self.streamed.items() for each in pair]
        for kind in (*self.messages, *of_calls, *(stream.items for stream in self.streams.values())):
            if may_have_blobs(kind):
                raise BadVocabulary(f"{_named(kind)} has a Blob: only a Request, and the reply to it, can have one")

    @property
    def kinds(self) -> tuple[type[msgspec.Struct], ...]:
        """The classes of all messages and requests."""
        return (*self.messages, *self.calls, *self.streamed)

    def schema(self) -> dict[str, Any]:
        """
        Return the JSON Schema of all that goes over a link of this interface: ``messages`` and ``streams`` by name,
        ``requests`` each with its ``request`` and ``reply``, and ``streamed`` requests each with its ``request`` and an
        ``item`` of its answer. ``takes`` has the fingerprints of all of them, as a side that answers says them.
        ``python -m twistedipc.ipc`` prints it (``dump``), and compares it with that of another version (``diff``).

        :raises BadVocabulary: something has no schema: a default in it can't be JSON, say
        """
        items = [stream.items for stream in self.streams.values()]
        kinds = [*self.messages, *self.calls, *self.calls.values(), *items, *self.streamed, *self.streamed.values()]
        try:
            found, definitions = schemas(kinds)
            mark_left_out(kinds, found, definitions)
            mark_times(kinds, found, definitions)
        except Exception as error:
            raise BadVocabulary(f"the interface {self.name} has no JSON Schema: {error}") from error
        parts = iter(found)
        messages = {name_of(kind): next(parts) for kind in self.messages}
        asked = {name_of(kind): next(parts) for kind in self.calls}
        requests = {name: {"request": request, "reply": next(parts)} for name, request in asked.items()}
        streams = {name: next(parts) for name in self.streams}
        received = {name: stream.items for name, stream in self.streams.items()}
        asked = {name_of(kind): next(parts) for kind in self.streamed}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "format": 1,
            "interface": self.name,
            "messages": messages,
            "requests": requests,
            "streamed": {name: {"request": request, "item": next(parts)} for name, request in asked.items()},
            "streams": streams,
            "takes": catalogue(self.messages, self.calls, self.streamed, received).rows,
            "$defs": definitions,
        }

    @property
    def role(self) -> str:
        """The role of the side that answers, in the handshake."""
        return f"{self.name}-server"

    @property
    def peer_role(self) -> str:
        """The role of the side that asks, in the handshake."""
        return f"{self.name}-client"


def vocabulary(answered: Interface | None, asked: Interface | None) -> Vocabulary:
    """Return the vocabulary of a side that answers one interface and asks by another; either may be None."""
    # Streams are understood even where there are none: so that one of another version's is refused, and doesn't wait.
    receives: list[type[msgspec.Struct]] = [*FROM_SENDER]
    if answered is not None:
        receives += answered.messages
    if asked is not None and asked.streams:
        receives += FROM_RECEIVER
    if with_bodies(answered, asked):
        receives += FRAMES
    return Vocabulary(
        tuple(receives),
        answers={} if answered is None else answered.calls,
        calls={} if asked is None else asked.calls,
        answers_items={} if answered is None else answered.streamed,
        calls_items={} if asked is None else asked.streamed,
        fallbacks={StreamItems: UnreadItems},
    )


def with_bodies(*interfaces: Interface | None) -> frozenset[type[msgspec.Struct]]:
    """Return the requests of these interfaces in which there may be a `Blob`, or in whose replies."""
    return frozenset(kind for each in interfaces if each is not None for kind in each.with_bodies)


def _is_for_jsonrpc(kind: type[msgspec.Struct]) -> bool:
    """Return whether a class is for JSON-RPC alone, and can't be of a link."""
    return kind.__struct_config__.tag_field == "method"


def reply_of(kind: type[msgspec.Struct]) -> Any:
    """
    Return the type of the reply to a request's class, or of the items that answer it. Raise `BadVocabulary` if it
    doesn't say, or can't be one.
    """
    for base in kind.__mro__:
        for generic in getattr(base, "__orig_bases__", ()):
            if typing.get_origin(generic) in (Request, StreamedRequest):
                (reply,) = typing.get_args(generic)
                check_type(reply, f"the reply to {kind.__qualname__}")
                return reply
    base_of = "StreamedRequest[Item]" if issubclass(kind, StreamedRequest) else "Request[Reply]"
    raise BadVocabulary(f"{kind.__qualname__} doesn't say what its reply is: class {kind.__name__}({base_of})")


def check_type(kind: Any, what: str) -> None:
    """Raise `BadVocabulary` unless msgspec can decode a type, and whatever a value of it holds."""
    if isinstance(kind, TypeVar):
        raise BadVocabulary(f"{what} has no type yet, only {kind}: a generic request can't be of an interface")
    if isinstance(kind, str | typing.ForwardRef):
        name = kind if isinstance(kind, str) else kind.__forward_arg__
        raise BadVocabulary(f"{what} is only named, {name!r}: define its class before, and give it without quotes")
    try:
        hash(kind)
        msgspec.json.Decoder(kind)
        custom = _custom(inspect.type_info(kind), set())
    except (TypeError, NameError) as error:
        raise BadVocabulary(f"{what} can't be {_named(kind)}: {error}") from None
    if custom is not None:
        raise BadVocabulary(
            f"{what} can't be {_named(kind)}: msgspec can't decode {_named(custom)}. Say it by a msgspec.Struct, a "
            "dataclass, or what JSON has"
        )


def _custom(found: Any, seen: set[Any]) -> Any:
    """Return a type in what msgspec says of a type that it would leave to a hook, of which there is none; or None."""
    if isinstance(found, inspect.CustomType):
        return found.cls
    if isinstance(found, list | tuple):
        return next((custom for each in found if (custom := _custom(each, seen)) is not None), None)
    if isinstance(found, inspect.Type | inspect.Field):
        if (cls := getattr(found, "cls", None)) in seen:
            return None  # it holds itself
        seen.update([] if cls is None else [cls])
        return _custom([getattr(found, name) for name in found.__struct_fields__], seen)
    return None


def _named(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
