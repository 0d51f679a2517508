"""
What two processes say to one another, declared once and imported by both: messages, requests with the type of their
reply, and the `Interface` that holds them together. Used by ``service``, ``remote`` and ``plain``.

::

    class Sum(msgspec.Struct):
        value: int

    class Add(Request[Sum]):          # a call: its reply is a Sum
        a: int
        b: int

    class Note(Message):              # one-way
        text: str

    CALCULATOR = Interface("calculator", Add, Note)

On the wire an `Add` is ``{"type":"add","a":2,"b":3}``: a class is known by its name in lower case, unless it has
another ``tag``. Fields may be added later with defaults; unknown ones are ignored.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from twistedipc.ipc.wire.errors import BadVocabulary
from twistedipc.ipc.wire.messages import Vocabulary, name_of
from twistedipc.ipc.wire.windows import FROM_RECEIVER, FROM_SENDER, StreamItems, UnreadItems

R = TypeVar("R", bound=msgspec.Struct)

#: What a session takes for a role; ours have a suffix.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")


class Message(msgspec.Struct, tag_field="type", tag=str.lower):
    """
    The base of one-way messages: a `msgspec.Struct`, whose fields are checked when it arrives. On the wire it is
    known by its class's name in lower case, or by another ``tag``: ``class Note(Message, tag="remark")``. Fields that
    are added later need defaults; unknown ones are ignored.
    """


class Request(Message, Generic[R]):
    """
    The base of calls, and otherwise like a `Message`: ``class Add(Request[Sum])`` wants a ``Sum`` as its reply. A reply
    is a ``msgspec.Struct`` too; it needs no special base and no tag.
    """


class Interface:
    """
    The messages, calls and streams of a service. Both sides have it: the service answers, the other side asks.

    :param name: of the service, for the handshake: a side that wants another is refused. Lower-case letters, digits and
        ``-``, at most 24.
    :param kinds: the classes of its messages (`Message`) and requests (`Request`)
    :param streams: the names of the reliable streams that it receives, each with the class of its items, a
        ``msgspec.Struct``
    :raises BadVocabulary: two have one tag, one has none or one of the link's own, or a request doesn't say what its
        reply is: a ``msgspec.Struct``
    """

    def __init__(
        self, name: str, *kinds: type[msgspec.Struct], streams: Mapping[str, type[msgspec.Struct]] | None = None
    ) -> None:
        if not _NAME.fullmatch(name):
            raise BadVocabulary(f"{name!r} is no name for an interface: lower-case letters, digits and - are")
        self.name = name
        #: the requests, each with the class of its reply
        self.calls: dict[type[msgspec.Struct], type[msgspec.Struct]] = {}
        messages: list[type[msgspec.Struct]] = []
        for kind in kinds:
            if name_of(kind).startswith("stream-"):
                raise BadVocabulary(f"{kind.__qualname__}: types that begin with stream- belong to the streams")
            if issubclass(kind, Request):
                self.calls[kind] = reply_of(kind)
            else:
                messages.append(kind)
        #: the classes of one-way messages
        self.messages = tuple(messages)
        #: the streams, each with the class of its items
        self.streams = dict(streams or {})
        for stream, kind in self.streams.items():
            if not _NAME.fullmatch(stream) or not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
                raise BadVocabulary(f"{stream!r} can't be a stream of {_named(kind)}")
        if len({name_of(kind) for kind in kinds}) < len(kinds) or not any(map(_is_for_jsonrpc, kinds)):
            Vocabulary(self.messages, answers=self.calls)  # whatever else is wrong is found now

    @property
    def kinds(self) -> tuple[type[msgspec.Struct], ...]:
        """The classes of all messages and requests."""
        return (*self.messages, *self.calls)

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
    return Vocabulary(
        tuple(receives),
        answers={} if answered is None else answered.calls,
        calls={} if asked is None else asked.calls,
        fallbacks={StreamItems: UnreadItems},
    )


def _is_for_jsonrpc(kind: type[msgspec.Struct]) -> bool:
    """Return whether a class is for JSON-RPC alone, and can't be of a link."""
    return kind.__struct_config__.tag_field == "method"


def reply_of(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return the type of the reply to a request's class. Raise `BadVocabulary` if it doesn't say."""
    for base in kind.__mro__:
        for generic in getattr(base, "__orig_bases__", ()):
            if typing.get_origin(generic) is Request:
                (reply,) = typing.get_args(generic)
                if isinstance(reply, type) and issubclass(reply, msgspec.Struct):
                    return reply
                raise BadVocabulary(
                    f"{kind.__qualname__}: {_named(reply)} is no msgspec.Struct, so it can't be a reply"
                )
    raise BadVocabulary(f"{kind.__qualname__} doesn't say what its reply is: class {kind.__name__}(Request[Reply])")


def _named(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else repr(kind)
