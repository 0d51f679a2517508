"""
What a type checker says of programs that use `twistedipc.ipc`: `tests/test_ipc_types.py` has mypy check this file, and
compares. A line that is an error ends in ``# E:`` and a part of what mypy says. The file isn't run.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Generic, TypeVar, assert_type

import msgspec
from twisted.internet.defer import Deferred, succeed

from twistedipc.ipc import (
    ChildExit,
    Interface,
    Listening,
    Message,
    Peer,
    Receiver,
    Remote,
    Request,
    Service,
    Stream,
    StreamedReply,
    StreamedRequest,
    StreamId,
    StreamOf,
    SyncRemote,
    aio,
    handles,
    receives,
)

T = TypeVar("T")


class Colour(Enum):
    RED = "red"


class Sum(msgspec.Struct):
    value: int


class Row(msgspec.Struct, tag=True):
    n: int


class Gap(msgspec.Struct, tag=True):
    width: int


class Page(msgspec.Struct, Generic[T]):
    of: list[T]


class Add(Request[Sum]):
    a: int
    b: int = 0


class More(Add):
    """Its reply is a Sum as well."""


class Delete(Request[None]):
    n: int


class Find(Request[list[Row]]): ...


class Next(Request[Row | Gap]): ...


class Pages(Request[Page[int]]): ...


class Count(Request[int]): ...


class When(Request[datetime]): ...


class Paint(Request[Colour]): ...


class Query(StreamedRequest[Row]): ...


class Note(Message):
    text: str


class Bare(msgspec.Struct, tag="bare", tag_field="type"):
    """A message without the base."""


class Event(msgspec.Struct):
    what: str


class Other(msgspec.Struct):
    what: str


EVENTS = StreamOf("events", Event)
OTHERS = StreamOf("others", Other)
StreamOf("numbers", int)  # E: Value of type variable "T" of "StreamOf" cannot be "int"

INTERFACE = Interface("all", Add, More, Delete, Note, streams=[EVENTS, OTHERS])
Interface("all", streams={"events": Event})  # E: expected "StreamOf[Any]"


class Right(Service):
    """All of this is as it should be."""

    @handles(Add)
    def add(self, request: Add, peer: Peer) -> Sum:
        return Sum(request.a)

    @handles(More)
    async def more(self, request: More, peer: Peer) -> Sum:
        return Sum(request.a)

    @handles(Find)
    def find(self, request: Find, peer: Peer) -> Deferred[list[Row]]:
        return succeed([Row(1)])

    @handles(Delete)
    def delete(self, request: Delete, peer: Peer) -> None: ...

    @handles(Next)
    async def next(self, request: Next, peer: Peer) -> Gap:
        return Gap(1)

    @handles(Next)
    def next_of_both(self, request: Next, peer: Peer) -> Row | Gap:
        return Gap(1)

    @handles(Next)
    def next_now_or_later(self, request: Next, peer: Peer) -> Row | Deferred[Row]:
        return Row(1)

    @handles(Count)
    def count(self, request: Count, peer: Peer) -> int:
        return 1

    @handles(Count, thread=True)
    def count_in_a_thread(self, request: Count, peer: Peer) -> int:
        return 1

    @handles(Note, thread=True)
    def note_in_a_thread(self, message: Note, peer: Peer) -> None: ...

    @handles(Query)
    async def query(self, request: Query, peer: Peer) -> AsyncIterator[Row]:
        yield Row(1)

    @handles(Query)
    async def query_by_a_generator(self, request: Query, peer: Peer) -> AsyncGenerator[Row, None]:
        yield Row(1)

    @handles(Query)
    def passes_on(self, request: Query, peer: Peer) -> StreamedReply[Row]:
        return peer.stream_call(request)

    @handles(Add)
    def of_any(self, request: Request[Any], peer: Peer) -> Any: ...

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None: ...

    @handles(Note)
    async def note_later(self, message: Note, peer: Peer) -> None: ...

    @handles(Bare)
    def bare(self, message: Bare, peer: Peer) -> Deferred[None]:
        return succeed(None)


class Wrong(Service):
    """None of this is."""

    @handles(Add)  # E: expected "Callable[[Wrong, Add, Peer], Sum | Awaitable[Sum]]"
    def text(self, request: Add, peer: Peer) -> str:
        return ""

    @handles(Add)  # E: expected "Callable[[Wrong, Add, Peer], Sum | Awaitable[Sum]]"
    def nothing(self, request: Add, peer: Peer) -> None: ...

    @handles(Add)  # E: expected "Callable[[Wrong, Add, Peer], Sum | Awaitable[Sum]]"
    async def nothing_later(self, request: Add, peer: Peer) -> None: ...

    @handles(More)  # E: expected "Callable[[Wrong, More, Peer], Sum | Awaitable[Sum]]"
    def inherited(self, request: More, peer: Peer) -> int:
        return 1

    @handles(Add)  # E: expected "Callable[[Wrong, Add, Peer], Sum | Awaitable[Sum]]"
    def another_request(self, request: Delete, peer: Peer) -> Sum:
        return Sum(1)

    @handles(Delete)  # E: expected "Callable[[Wrong, Delete, Peer], Awaitable[None] | None]"
    def something(self, request: Delete, peer: Peer) -> int:
        return 1

    @handles(Find)  # E: expected "Callable[[Wrong, Find, Peer], list[Row] | Awaitable[list[Row]]]"
    def one(self, request: Find, peer: Peer) -> Row:
        return Row(1)

    @handles(Note)  # E: expected "Callable[[Wrong, Note, Peer], Awaitable[None] | None]"
    def answers(self, message: Note, peer: Peer) -> str:
        return ""

    @handles(Note)  # E: expected "Callable[[Wrong, Note, Peer], Awaitable[None] | None]"
    async def answers_later(self, message: Note, peer: Peer) -> str:
        return ""

    @handles(Bare)  # E: expected "Callable[[Wrong, Bare, Peer], Awaitable[None] | None]"
    def answers_bare(self, message: Note, peer: Peer) -> None: ...

    @handles(Count, thread=True)  # E: expected "Callable[[Wrong, Count, Peer], int]"
    async def async_in_a_thread(self, request: Count, peer: Peer) -> int:
        return 1

    @handles(Query)  # E: expected "Callable[[Wrong, Query, Peer], AsyncIterator[Row]]"
    async def other_items(self, request: Query, peer: Peer) -> AsyncIterator[Gap]:
        yield Gap(1)

    @handles(Query)  # E: expected "Callable[[Wrong, Query, Peer], AsyncIterator[Row]]"
    async def all_at_once(self, request: Query, peer: Peer) -> list[Row]:
        return []

    @handles(Note)  # E: expected "Callable[[Wrong, Note, Peer], Awaitable[None] | None]"
    def without_a_peer(self, message: Note) -> None: ...


async def asks(remote: Remote, peer: Peer) -> None:
    assert_type(await remote.call(Add(a=1)), Sum)
    assert_type(await remote.call(More(a=1)), Sum)
    assert_type(await remote.call(Delete(n=1)), None)
    assert_type(await remote.call(Find()), list[Row])
    assert_type(await remote.call(Next()), Row | Gap)
    assert_type(await remote.call(Pages()), Page[int])
    assert_type(await remote.call(Count()), int)
    assert_type(await remote.call(When()), datetime)
    assert_type(await remote.call(Paint()), Colour)
    assert_type(await peer.call(Add(a=1)), Sum)
    assert_type(remote.call(Add(a=1)), Deferred[Sum])
    async for row in remote.stream_call(Query()):
        assert_type(row, Row)
    remote.call(Query())  # E: Argument 1 to "call" of "Remote" has incompatible type "Query"
    remote.stream_call(Add(a=1))  # E: Argument 1 to "stream_call" of "Remote" has incompatible type "Add"
    text: str = await remote.call(Add(a=1))  # E: expected "Request[str]"
    print(text, await remote.call(Add(a=1)))
    remote.call(Note("x"))  # E: Argument 1 to "call" of "Remote" has incompatible type "Note"
    remote.call(Add(a="1"))  # E: Argument "a" to "Add" has incompatible type "str"


class EventFile:
    def position(self) -> int:
        return 1

    async def take(self, first: int, items: Sequence[Event]) -> None: ...


class Receives(Service):
    @receives(EVENTS)
    def events(self, stream: StreamId) -> EventFile:
        return EventFile()

    @receives(EVENTS)
    def any_events(self, stream: StreamId) -> Receiver[Event]:
        return EventFile()

    @receives(OTHERS)  # E: expected "Callable[[Receives, StreamId], Receiver[Other]]"
    def others(self, stream: StreamId) -> EventFile:
        return EventFile()

    @receives(EVENTS)  # E: expected "Callable[[Receives, StreamId], Receiver[Event]]"
    def nothing(self, stream: StreamId) -> None: ...


async def writes(remote: Remote, listening: Listening) -> None:
    stream = remote.stream(EVENTS)
    assert_type(stream, Stream[Event])
    await stream.write(Event("x"))
    await stream.write(Other("x"))  # E: Argument 1 to "write" of "Stream" has incompatible type "Other"
    assert_type(listening.stream("shop", OTHERS), Stream[Other])
    remote.stream("events")  # E: Argument 1 to "stream" of "Remote" has incompatible type "str"


def threads() -> None:
    with SyncRemote("unix:all.sock", INTERFACE, name="one", frame_limit=1 << 20) as remote:
        assert_type(remote.call(Add(a=1)), Sum)
        for row in remote.stream_call(Query()):
            assert_type(row, Row)
        assert_type(remote.stream(EVENTS).write(Event("x")), int)
        remote.stream(EVENTS).write(Other("x"))  # E: has incompatible type "Other"
    SyncRemote("unix:all.sock", INTERFACE, nmae="one")  # E: Unexpected keyword argument "nmae" for "SyncRemote"


async def on_asyncio() -> None:
    async with aio.spawn(["program"], INTERFACE, grace=1.0) as child:
        assert_type(await child.call(Add(a=1)), Sum)
        assert_type(await child.ended(), ChildExit)
    assert_type(aio.dial_jsonrpc("unix:all.sock", INTERFACE, framing="lines"), aio.Remote)
    aio.dial_plain("unix:all.sock", INTERFACE, framing="lines")  # E: Unexpected keyword argument "framing"
