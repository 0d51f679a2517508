"""`Blob`: bodies of requests and replies, in chunks. Each way in which one can end; over any cuts and interleavings."""

from __future__ import annotations

import asyncio
import errno
import gc
import resource
import shutil
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from threading import Thread, get_ident
from typing import Any, ClassVar

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.properties import examples
from twistedipc.ipc import (
    BadService,
    BadVocabulary,
    Blob,
    CallFailed,
    CallTimedOut,
    Code,
    Interface,
    JsonRpcConversation,
    LocalProtocolError,
    Message,
    NotConnected,
    Peer,
    Request,
    Service,
    StreamedRequest,
    StreamId,
    StreamOf,
    aio,
    handles,
    receives,
)
from twistedipc.ipc.connections.body_sender import IDLE
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire.blob import MOST_BODIES
from twistedipc.ipc.wire.bodies import CHUNK, CREDIT
from twistedipc.ipc.wire.handshake import FEATURES
from twistedipc.ipc.wire.plain import PlainConversation, PlainFormat
from twistedipc.ipc.wire.settings import Side


class Put(Request[int]):
    """Answered by what the service does with the content."""

    content: Blob
    others: list[Blob] = msgspec.field(default_factory=list)


class Page(msgspec.Struct):
    title: str
    content: Blob | None
    others: dict[str, Blob] = msgspec.field(default_factory=dict)


class Get(Request[Page]):
    title: str = ""


class Ask(Request[int]):
    n: int


class News(Message):
    text: str


SHELF = Interface("shelf", Put, Get, Ask, News)

#: What a handler does with a request.
Does = Callable[[Put], Awaitable[int]]


async def counts(request: Put) -> int:
    return len(await request.content.read())


async def next_of(pieces: AsyncIterator[Any]) -> Any:
    return await anext(pieces)


class Shelf(Service):
    interface = SHELF

    def __init__(self) -> None:
        self.does: Does = counts
        self.page: Callable[[], Page] = lambda: Page("none", None)
        self.ended: list[BaseException] = []

    @handles(Put)
    async def put(self, request: Put, peer: Peer) -> int:
        try:
            return await self.does(request)
        except BaseException as error:
            self.ended.append(error)
            raise

    @handles(Get)
    def get(self, request: Get, peer: Peer) -> Page:
        return self.page()

    @handles(Ask)
    def ask(self, request: Ask, peer: Peer) -> int:
        return request.n

    @handles(News)
    def news(self, message: News, peer: Peer) -> None:
        pass


class Own(Blob):
    pass


@attrs.define
class Attrs:
    content: Blob


class Pages(msgspec.Struct):
    own: Own
    of_attrs: Attrs


class List(Request[Pages]):
    pass


class Lists(Service):
    interface = Interface("lists", List)

    @handles(List)
    def list(self, request: List, peer: Peer) -> Pages:
        own = Own.of(b"own")
        assert isinstance(own, Own)
        return Pages(own, Attrs(Blob.of(b"attrs")))


def folder_of(test: SynchronousTestCase) -> Path:
    folder = tempfile.mkdtemp()
    test.addCleanup(shutil.rmtree, folder)
    return Path(folder)


class Chunks:
    """Gives chunks, and notes how many, and that it was closed."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.given = 0
        self.closed = False
        self._chunks = iter(chunks)
        self._error = error

    def __iter__(self) -> Chunks:
        return self

    def __next__(self) -> bytes:
        for chunk in self._chunks:
            self.given += len(chunk)
            return chunk
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        self.closed = True


class ThreadedClock(Clock):
    """A clock that other threads may use, as they may a reactor, but for `callLater`."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_of_threads: list[Callable[[], object]] = []
        self.callFromThread = self.calls_of_threads.append
        self._thread = get_ident()

    def callLater(self, *args: Any, **kw: Any) -> Any:
        assert get_ident() == self._thread
        return super().callLater(*args, **kw)

    def take_over(self) -> None:
        """Do what was called from threads."""
        while self.calls_of_threads:
            self.calls_of_threads.pop(0)()


def endless(size: int = 10_000) -> Chunks:
    return Chunks(*[b"x" * size] * 10_000)


class BlobTests(SynchronousTestCase):
    """A linked pair, whose service does with a body what the test says."""

    pair: ServicePair

    def setUp(self) -> None:
        self.link_pair()

    def link_pair(self, **options: Any) -> None:
        if hasattr(self, "pair"):
            self.pair.cut()
        else:
            self.addCleanup(lambda: self.pair.cut())  # bodies that are open are nobody else's test
        self.service = Shelf()
        self.pair = ServicePair(self.service, **options)
        self.remote = self.pair.remote

    def run_to_end(self, work: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await work

        done = Deferred.fromCoroutine(run())
        self.pair.pump()
        return self.successResultOf(done)

    def fails_with(self, work: Awaitable[Any], code: str) -> CallFailed:
        async def run() -> Any:
            return await work

        done = Deferred.fromCoroutine(run())
        self.pair.pump()
        error = self.failureResultOf(done, CallFailed).value
        assert isinstance(error, CallFailed)
        self.assertEqual(error.code, code)
        return error

    def put(self, content: Blob, **options: Any) -> Deferred[int]:
        reply = self.remote.call(Put(content), **options)
        self.pair.pump()
        return reply

    def got(self, content: Blob) -> Blob:
        """What arrives of a reply's blob."""
        self.service.page = lambda: Page("one", content)
        arrived = self.run_to_end(self.remote.call(Get())).content
        assert isinstance(arrived, Blob)
        return arrived

    def is_free(self) -> None:
        """Neither side has a body open, and the link goes on."""
        self.pair.pump()
        assert self.pair.wire is not None
        for link in (self.pair.wire.dialler, self.pair.wire.listener):
            bodies = link._bodies
            assert bodies is not None
            self.assertEqual((bodies._sending, bodies._arriving, bodies._of_calls), ({}, {}, {}))
        self.assertEqual(self.run_to_end(self.remote.call(Ask(n=7))), 7)
        # Of timers there are those that there are without bodies.
        self.assertLessEqual(len(self.pair.clock.getDelayedCalls()), 3)


class RoundTripTests(BlobTests):
    DATA: ClassVar[bytes] = bytes(range(256)) * 3000

    def test_a_request(self) -> None:
        self.assertEqual(self.successResultOf(self.put(Blob.of(self.DATA))), len(self.DATA))
        self.is_free()

    def test_a_reply(self) -> None:
        arrived = self.got(Blob.of(self.DATA))
        self.assertEqual(arrived.size, len(self.DATA))
        self.assertEqual(self.run_to_end(arrived.read()), self.DATA)
        self.is_free()

    def test_nothing(self) -> None:
        for blob in (Blob.of(b""), Blob.from_chunks([]), Blob.from_chunks([b"", b""], 0)):
            self.assertEqual(self.run_to_end(self.got(blob).read()), b"")
        self.is_free()

    def test_several_in_one_message(self) -> None:
        async def joins(request: Put) -> int:
            parts = [await each.read() for each in (*request.others, request.content)]
            return int(b"".join(parts))

        self.service.does = joins
        reply = self.remote.call(Put(Blob.of(b"3"), [Blob.of(b"1"), Blob.from_chunks([b"2"])]))
        self.assertEqual(self.run_to_end(reply), 123)
        self.service.page = lambda: Page("two", Blob.of(b"a"), {"b": Blob.of(b"b"), "c": Blob.of(b"c")})
        page = self.run_to_end(self.remote.call(Get()))
        self.assertEqual([self.run_to_end(each.read()) for each in page.others.values()], [b"b", b"c"])
        self.assertEqual(self.run_to_end(page.content.read()), b"a")
        self.is_free()

    def test_no_blob_where_there_may_be_one(self) -> None:
        self.assertIsNone(self.run_to_end(self.remote.call(Get())).content)
        self.is_free()

    def test_bytes_and_files_may_be_sent_again(self) -> None:
        path = folder_of(self) / "file"
        path.write_bytes(self.DATA)
        file = Blob.from_file(path)
        path.unlink()  # it is open
        for blob in (
            Blob.of(bytearray(self.DATA)),
            Blob.of(memoryview(self.DATA)),
            file,
            Blob.from_chunks([self.DATA]),
        ):
            for _ in range(2):
                self.assertEqual(self.run_to_end(self.got(blob).read()), self.DATA)
        self.is_free()

    def test_saved(self) -> None:
        folder = folder_of(self)
        path = folder / "saved"
        self.assertEqual(self.run_to_end(self.got(Blob.of(self.DATA)).save(path)), len(self.DATA))
        self.assertEqual(path.read_bytes(), self.DATA)
        self.fails_with(self.got(Blob.of(b"longer")).save(path, limit=5), Code.TOO_LARGE)
        self.assertEqual(path.read_bytes(), self.DATA)
        self.assertEqual(list(folder.iterdir()), [path])
        self.is_free()

    def test_in_chunks(self) -> None:
        async def iterate() -> list[bytes]:
            return [chunk async for chunk in self.got(Blob.from_chunks(chunks))]

        large = b"x" * CHUNK
        for pieces, expected in [
            ([large, b"three"], [large, b"three"]),
            ([b"one", b"two", large], [b"onetwo" + large[:-6], large[-6:]]),
        ]:
            chunks: Any = pieces
            self.assertEqual(self.run_to_end(iterate()), expected)

        async def gives() -> AsyncIterator[bytes]:
            for each in (b"one", b"two"):
                yield each

        chunks = gives()  # which may wait between any two
        self.assertEqual(self.run_to_end(iterate()), [b"one", b"two"])
        self.is_free()

    def test_chunks_in_the_same_memory(self) -> None:
        def gives() -> Iterable[Any]:
            memory = bytearray(size)
            for n in range(4):
                memory[:] = bytes([n]) * size
                yield memoryview(memory)

        for size in (1000, CHUNK + 1):
            arrived = self.got(Blob.from_chunks(gives()))
            self.assertEqual(self.run_to_end(arrived.read()), b"".join(bytes([n]) * size for n in range(4)))
        self.is_free()

    def test_small_frames(self) -> None:
        self.link_pair(frame_limit=4096)
        self.assertEqual(self.run_to_end(self.got(Blob.of(self.DATA)).read()), self.DATA)
        self.is_free()

    def test_a_call_that_waited_for_the_link(self) -> None:
        self.link_pair(linked=False)
        reply = self.remote.call(Put(Blob.of(self.DATA)))
        self.pair.link()
        self.assertEqual(self.run_to_end(reply), len(self.DATA))

    @settings(max_examples=examples(60))
    @given(
        sizes=st.lists(st.integers(0, 40) | st.integers(0, 200_000), max_size=8),
        is_sized=st.booleans(),
        cut=st.integers(1, 100_000),
        high_water=st.integers(1, 200_000),
        down=st.booleans(),
    )
    def test_whatever_the_cuts(self, sizes: list[int], is_sized: bool, cut: int, high_water: int, down: bool) -> None:
        def split(data: bytes) -> Iterable[bytes]:
            return [data[at : at + cut] for at in range(0, len(data), cut)]

        chunks = [self.DATA[n : n + size] for n, size in enumerate(sizes)]
        whole = b"".join(chunks)
        if len(whole) // cut > 2000:
            cut = max(1, len(whole) // 2000)
        self.link_pair(split=split, high_water=high_water)
        blob = Blob.from_chunks(iter(chunks), len(whole) if is_sized else None)
        if down:
            self.assertEqual(self.run_to_end(self.got(blob).read()), whole)
        else:
            got: list[bytes] = []

            async def reads(request: Put) -> int:
                got.append(await request.content.read())
                return 0

            self.service.does = reads
            self.assertEqual(self.successResultOf(self.put(blob)), 0)
            self.assertEqual(got, [whole])
        self.is_free()

    @settings(max_examples=examples(40))
    @given(
        st.lists(st.tuples(st.integers(0, 150_000), st.booleans()), min_size=1, max_size=6),
        st.lists(st.booleans(), min_size=1),
    )
    def test_whatever_the_order(self, bodies: list[tuple[int, bool]], asks: list[bool]) -> None:
        """Bodies both ways at the same time, read by turns, beside calls."""
        self.link_pair()
        asked = cycle(asks)
        expected = {}
        found: dict[int, bytes] = {}

        async def reads(number: int, blob: Blob) -> int:
            parts = []
            async for part in blob:
                parts.append(part)
                if next(asked):
                    await self.remote.call(Ask(n=1))
            found[number] = b"".join(parts)
            return len(found[number])

        work = []
        for number, (size, down) in enumerate(bodies):
            data = expected[number] = self.DATA[number : number + size]
            blob = Blob.from_chunks([data[: len(data) // 3], data[len(data) // 3 :]])
            if down:
                work.append(Deferred.fromCoroutine(reads(number, self.got(blob))))
            else:
                self.service.does = lambda request, number=number: reads(number, request.content)  # type: ignore[misc]
                reply = self.remote.call(Put(blob))
                work.append(reply)
                assert self.pair.wire is not None
                self.pair.wire.carry(Side.DIALLER)
                self.pair.clock.advance(0)
                self.pair.wire.carry(Side.DIALLER)
        self.pair.pump()
        for each in work:
            self.successResultOf(each)
        self.assertEqual(found, expected)
        self.is_free()


class Loose(Request[Any]):
    anything: Any


class Both(Request[None]):
    content: Blob
    anything: Any


class Part(msgspec.Struct):
    name: str = ""


class LargePart(Part):
    more: Blob | None = None


class Parts(Request[Part]):
    content: Blob
    part: Part
    name: str = ""
    other: LargePart | None = None


class Found(msgspec.Struct):
    content: Blob


class FoundMore(Found):
    more: Blob | None = None


class Find(Request[Found]):
    pass


class Said(Message):
    anything: Any


class Row(msgspec.Struct):
    anything: Any


class Rows(StreamedRequest[Any]):
    pass


LOOSE = Interface("loose", Loose, Both, Parts, Find, Said, Rows, streams=[StreamOf("rows", Row)])


class NothingComes:
    def position(self) -> int:
        return 1

    def take(self, first: int, items: Any) -> None:
        raise AssertionError("nothing comes")


class LooseService(Service):
    interface = LOOSE
    errors: ClassVar[list[BaseException]] = []

    @handles(Loose)
    def loose(self, request: Loose, peer: Peer) -> Any:
        return [Blob.of(b"x")] if request.anything == "reply" else request.anything

    @handles(Both)
    async def both(self, request: Both, peer: Peer) -> None:
        await request.content.read()

    @handles(Parts)
    async def parts(self, request: Parts, peer: Peer) -> Part:
        await request.content.read()
        return request.part

    @handles(Find)
    def find(self, request: Find, peer: Peer) -> Found:
        return FoundMore(Blob.of(b"x"), Blob.of(b"y"))

    @handles(Said)
    def said(self, message: Said, peer: Peer) -> None: ...

    @handles(Rows)
    async def rows(self, request: Rows, peer: Peer) -> AsyncIterator[Any]:
        yield Blob.of(b"x")

    @receives(StreamOf("rows", Row))
    def kept(self, stream: StreamId) -> Any:
        return NothingComes()


class ElsewhereTests(SynchronousTestCase):
    """A blob where none is declared: it would leave without its bytes."""

    def setUp(self) -> None:
        self.pair = ServicePair(LooseService())
        self.remote = self.pair.remote

    def refused(self, work: Callable[[], Any]) -> None:
        with pytest.raises(LocalProtocolError, match="a Blob in this"):
            work()

    def test_what_is_sent(self) -> None:
        peer = self.successResultOf(self.remote.linked())
        for anything in (Blob.of(b"x"), [Blob.of(b"x")], {"a": Blob.from_chunks([b"x"])}):
            self.refused(lambda anything=anything: self.remote.call(Loose(anything)))  # type: ignore[misc]
            self.refused(lambda anything=anything: self.remote.send(Said(anything)))  # type: ignore[misc]
            self.refused(lambda anything=anything: peer.send_many([Said(anything)]))  # type: ignore[misc]
            self.refused(lambda anything=anything: self.remote.call(Both(Blob.of(b"y"), anything)))  # type: ignore[misc]
            stream = self.remote.stream(LOOSE.streams["rows"])
            writing = Deferred.fromCoroutine(stream.write(Row(anything)))
            self.failureResultOf(writing, LocalProtocolError)
            stream.close()
        done = self.remote.call(Both(Blob.of(b"y"), ["z"]))
        self.pair.pump()
        self.assertIsNone(self.successResultOf(done))

    def test_a_reply_and_items(self) -> None:
        reply = self.remote.call(Loose("reply"))
        items = Deferred.fromCoroutine(next_of(self.remote.stream_call(Rows())))
        self.pair.pump()
        for each in (reply, items):
            self.assertEqual(self.failureResultOf(each, CallFailed).value.code, "internal")
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_a_field_that_only_a_subclass_has(self) -> None:
        self.refused(lambda: self.remote.call(Parts(Blob.of(b"x"), LargePart("a", Blob.of(b"y")))))
        self.refused(
            lambda: self.remote.call(Parts(Blob.of(b"x"), LargePart("a", Blob.of(b"y")), other=LargePart("b")))
        )
        done = self.remote.call(Parts(Blob.of(b"x"), LargePart("a")))
        found = self.remote.call(Find())
        self.pair.pump()
        self.assertEqual(self.successResultOf(done).name, "a")
        self.assertEqual(self.failureResultOf(found, CallFailed).value.code, "internal")
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_one_that_was_sent_or_received_before(self) -> None:
        content = Blob.of(b"y")
        self.remote.call(Both(content, None))
        self.pair.pump()
        self.refused(lambda: self.remote.call(Loose(content)))
        self.pair.cut()
        waits = self.remote.call(Both(content, None))
        self.refused(lambda: self.remote.call(Loose(content)))
        self.pair.link()
        self.assertIsNone(self.successResultOf(waits))


class PressureTests(BlobTests):
    def test_nothing_is_sent_before_it_is_wanted(self) -> None:
        chunks = endless()
        arrived = self.got(Blob.from_chunks(chunks))
        self.assertEqual(chunks.given, 0)
        arrived.close()
        self.is_free()

    def test_a_slow_reader_makes_the_sender_wait(self) -> None:
        chunks = endless()
        pieces = self.got(Blob.from_chunks(chunks)).chunks()
        taken = 0
        for _ in range(100):
            taken += len(self.run_to_end(anext(pieces)))
            self.assertLessEqual(chunks.given, taken + CREDIT + 2 * CHUNK)
        self.assertGreater(taken, CREDIT)
        self.run_to_end(pieces.aclose())
        self.assertTrue(chunks.closed)
        self.is_free()

    def test_other_calls_get_through(self) -> None:
        pieces = self.got(Blob.from_chunks(endless(1 << 20))).chunks()
        self.run_to_end(anext(pieces))
        work = Deferred.fromCoroutine(next_of(pieces))
        reply = self.remote.call(Ask(n=1))
        self.pair.clock.advance(0)
        assert self.pair.wire is not None
        for _ in range(4):
            self.pair.wire.carry(Side.DIALLER)
            self.pair.wire.carry(Side.LISTENER)
            self.pair.clock.advance(0)
        self.successResultOf(reply)
        self.successResultOf(work)

    def test_a_blocked_wire_makes_the_sender_wait(self) -> None:
        chunks = endless()
        pieces = self.got(Blob.from_chunks(chunks)).chunks()
        assert self.pair.wire is not None
        self.pair.wire.wire(Side.DIALLER).reading = False
        self.addCleanup(setattr, self.pair.wire.wire(Side.DIALLER), "reading", True)
        work = Deferred.fromCoroutine(next_of(pieces))
        self.pair.pump()
        self.assertLessEqual(chunks.given, 3 * CHUNK)
        self.assertNoResult(work)
        self.pair.wire.wire(Side.DIALLER).reading = True
        self.pair.pump()
        self.successResultOf(work)

    def narrow(self, rounds: int = 80, bodies: int = 8) -> tuple[list[int], list[int]]:
        """
        Read bodies at the same time over a wire that is full all the time, and wait once for room beside them. Return
        how many bytes each has got, and after how many rounds there was room.
        """
        got: list[int] = []
        has_room: list[int] = []

        async def reads(request: Put) -> int:
            number = len(got)
            got.append(0)
            async for chunk in request.content:
                got[number] += len(chunk)
            return 0

        self.service.does = reads
        for _ in range(bodies):
            self.remote.call(Put(Blob.from_chunks(endless(50_000)))).addErrback(lambda each: each.trap(NotConnected))
        peer, wire, since = self.remote.peer, self.pair.wire, 0
        waiting: Deferred[None] | None = None
        assert peer is not None
        assert wire is not None
        for now in range(rounds):
            for side in Side:
                self.pair.clock.advance(0)
                wire.carry(side)
            if waiting is None and peer.paused:
                waiting, since = peer.drain(), now
                waiting.addErrback(lambda each: each.trap(NotConnected))
            elif waiting is not None and waiting.called and not has_room:
                has_room.append(now - since)
        return got, has_room

    def test_all_get_the_same_of_a_narrow_wire(self) -> None:
        got, _ = self.narrow()
        self.assertGreater(min(got), 3 * CREDIT)
        self.assertLess(max(got), 1.5 * min(got))

    def test_who_waits_for_room_gets_some_beside_bodies(self) -> None:
        _, has_room = self.narrow(rounds=30)
        self.assertEqual(len(has_room), 1)
        self.assertLess(has_room[0], 5)

    def test_bodies_get_through_beside_one_who_waits_for_room_again_and_again(self) -> None:
        async def floods(peer: Peer) -> None:
            while True:
                peer.send(News("x" * 200_000))
                await peer.drain()

        peer = self.remote.peer
        assert peer is not None
        Deferred.fromCoroutine(floods(peer)).addErrback(lambda failure: failure.trap(NotConnected))
        got, _ = self.narrow()
        self.assertGreater(min(got), CREDIT)

    def test_sixty_four_are_open_at_most(self) -> None:
        pages = [self.got(Blob.of(b"x" * 10)) for _ in range(MOST_BODIES)]
        self.service.page = lambda: Page("one too many", Blob.of(b"y"))
        self.fails_with(self.remote.call(Get()), Code.BUSY)
        self.assertEqual(self.flushLoggedErrors(), [])  # a peer can't fill the log by that
        self.assertEqual(self.run_to_end(pages.pop().read()), b"x" * 10)
        pages.append(self.run_to_end(self.remote.call(Get())).content)
        for each in pages:
            each.close()
        self.is_free()

    def test_sixty_four_of_requests(self) -> None:
        chunks = endless()
        waiting: Deferred[None] = Deferred()

        async def waits(request: Put) -> int:
            await waiting
            return len(await request.content.read())

        self.service.does = waits
        replies = [self.put(Blob.of(b"x" * 10)) for _ in range(MOST_BODIES)]
        self.fails_with(self.put(Blob.from_chunks(chunks)), Code.BUSY)
        self.assertTrue(chunks.closed)
        waiting.callback(None)
        self.pair.pump()
        self.assertEqual({self.successResultOf(each) for each in replies}, {10})
        self.is_free()


class EndTests(BlobTests):
    """Each way in which a body ends before its end."""

    def reading(self, source: Chunks, **options: Any) -> Deferred[int]:
        """A call whose handler reads an endless body slowly."""
        self.paused: Deferred[None] = Deferred()

        async def reads(request: Put) -> int:
            count = 0
            async for chunk in request.content:
                count += len(chunk)
                if not self.paused.called:
                    await self.paused
            return count

        self.service.does = reads
        return self.put(Blob.from_chunks(source), **options)

    def test_the_handler_answers_before_it_has_read_all(self) -> None:
        kept: list[Blob] = []
        chunks = endless()

        async def answers(request: Put) -> int:
            kept.append(request.content)
            return len(await anext(request.content.chunks()))

        self.service.does = answers
        self.assertEqual(self.successResultOf(self.put(Blob.from_chunks(chunks))), CHUNK)
        self.assertTrue(chunks.closed)
        self.assertLess(chunks.given, 2 * CREDIT)
        self.fails_with(kept[0].read(), Code.CLOSED)
        self.is_free()

    def run_to_end_raising(self, work: Awaitable[Any]) -> None:
        async def run() -> Any:
            return await work

        done = Deferred.fromCoroutine(run())
        self.pair.pump()
        self.failureResultOf(done).raiseException()

    def test_it_is_read_after_the_answer(self) -> None:
        kept: list[Blob] = []

        async def answers(request: Put) -> int:
            kept.append(request.content)
            return 1

        self.service.does = answers
        self.assertEqual(self.successResultOf(self.put(Blob.from_chunks(endless()))), 1)
        self.fails_with(kept[0].read(), Code.CLOSED)
        self.is_free()

    def test_the_handler_raises(self) -> None:
        async def raises(request: Put) -> int:
            await anext(request.content.chunks())
            raise CallFailed("full", "the shelf is full")

        self.service.does = raises
        chunks = endless()
        self.fails_with(self.put(Blob.from_chunks(chunks)), "full")
        self.assertTrue(chunks.closed)
        self.is_free()

    def test_the_senders_chunks_fail(self) -> None:
        self.fails_with(self.put(Blob.from_chunks(Chunks(b"x", error=ZeroDivisionError()))), Code.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        failing = Chunks(b"x" * 300_000, error=CallFailed("gone", "the tape has torn"))
        error = self.fails_with(self.got(Blob.from_chunks(failing)).read(), "gone")
        self.assertEqual(error.message, "the tape has torn")
        self.assertTrue(failing.closed)
        text: Any = ["text"]
        self.fails_with(self.got(Blob.from_chunks(text)).read(), Code.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.is_free()

    def test_another_size_than_was_said(self) -> None:
        for said in (2, 4):
            error = self.fails_with(self.got(Blob.from_chunks([b"xxx"], said)).read(), Code.BAD_BODY)
            self.assertIn(f"was said to have {said} bytes, and 3 have come", error.message)
        path = folder_of(self) / "file"
        path.write_bytes(b"x" * 100)
        blob = Blob.from_file(path)
        path.write_bytes(b"x" * 50)
        self.fails_with(self.got(blob).read(), Code.BAD_BODY)
        self.is_free()

    def test_more_than_the_reader_takes(self) -> None:
        chunks = endless()
        self.fails_with(self.got(Blob.from_chunks(chunks, 10**9)).read(), Code.TOO_LARGE)
        self.assertEqual(chunks.given, 0)
        chunks = endless()
        self.fails_with(self.got(Blob.from_chunks(chunks)).read(limit=100_000), Code.TOO_LARGE)
        self.assertTrue(chunks.closed)
        self.fails_with(self.put(Blob.from_chunks(endless(), 10**9)), Code.TOO_LARGE)  # as the handler's own error
        self.is_free()

    def test_the_reader_closes_it(self) -> None:
        chunks = endless()
        blob = self.got(Blob.from_chunks(chunks))
        pieces = blob.chunks()
        self.run_to_end(anext(pieces))
        work = Deferred.fromCoroutine(next_of(pieces))
        for _ in range(100):
            if not work.called:
                break
            work = Deferred.fromCoroutine(next_of(pieces))
        blob.close()
        blob.close()
        self.failureResultOf(work, LocalProtocolError)
        self.pair.pump()
        self.assertTrue(chunks.closed)
        self.is_free()

    def test_the_program_leaves_the_loop(self) -> None:
        chunks = endless()

        async def leaves() -> None:
            async for _ in self.got(Blob.from_chunks(chunks)):
                return

        self.run_to_end(leaves())
        gc.collect()
        self.pair.pump()
        self.assertTrue(chunks.closed)
        self.is_free()

    def test_the_program_lets_go_of_a_reply(self) -> None:
        self.got(Blob.from_chunks(endless()))
        gc.collect()
        self.pair.clock.advance(0)
        self.is_free()

    def in_a_thread(self, does: Callable[[], object]) -> BaseException | None:
        """Do it in another thread. Nothing may be said on the link by that. Return what it has raised."""
        raised: list[BaseException] = []

        def run() -> None:
            try:
                does()
            except BaseException as error:
                raised.append(error)

        assert self.pair.wire is not None
        thread = Thread(target=run)
        thread.start()
        thread.join()
        self.assertEqual(self.pair.wire.dialler._session.out, b"")
        return raised[0] if raised else None

    def test_the_program_closes_it_in_another_thread(self) -> None:
        self.link_pair(clock=(clock := ThreadedClock()))
        blob = self.got(Blob.from_chunks(endless()))
        self.assertIsNone(self.in_a_thread(blob.close))
        clock.take_over()
        self.is_free()

    def test_the_program_lets_go_of_it_in_another_thread(self) -> None:
        self.link_pair(clock=(clock := ThreadedClock()))
        blobs = [self.got(Blob.from_chunks(endless()))]
        self.assertIsNone(self.in_a_thread(blobs.clear))
        self.assertEqual(len(clock.calls_of_threads), 1)
        clock.take_over()
        self.is_free()

    def test_reading_in_another_thread_costs_nothing(self) -> None:
        self.link_pair(clock=ThreadedClock())
        blob = self.got(Blob.of(b"x"))
        self.assertIsInstance(self.in_a_thread(lambda: blob.read().send(None)), LocalProtocolError)
        self.assertEqual(self.run_to_end(blob.read()), b"x")
        self.is_free()

    def test_it_is_read_once(self) -> None:
        blob = self.got(Blob.of(b"x"))
        self.run_to_end(blob.read())
        with self.assertRaises(LocalProtocolError):
            self.run_to_end_raising(blob.read())

    def test_two_readers(self) -> None:
        blob = self.got(Blob.from_chunks(iter([])))
        first, second = Deferred.fromCoroutine(blob.read()), Deferred.fromCoroutine(blob.read())
        self.failureResultOf(second, RuntimeError)
        self.pair.pump()
        self.failureResultOf(first, LocalProtocolError)  # the second one's end has closed it
        self.is_free()

    def test_the_link_breaks(self) -> None:
        chunks, down = endless(), endless()
        pieces = self.got(Blob.from_chunks(down)).chunks()
        self.run_to_end(anext(pieces))
        reply = self.reading(chunks)
        self.pair.cut()
        self.failureResultOf(reply, NotConnected)
        self.assertTrue(chunks.closed and down.closed)
        with self.assertRaises(NotConnected):
            self.run_to_end_raising(anext(pieces))
        self.assertEqual([type(each) for each in self.service.ended], [CancelledError])
        self.pair.link()
        self.is_free()

    def test_what_came_whole_is_read_after_the_link(self) -> None:
        pieces = self.got(Blob.of(b"x" * CHUNK + b"y")).chunks()
        self.assertEqual(self.run_to_end(anext(pieces)), b"x" * CHUNK)
        self.pair.cut()
        self.assertEqual(self.run_to_end(anext(pieces)), b"y")
        self.assertIsNone(self.run_to_end(anext(pieces, None)))

    def test_the_call_is_cancelled(self) -> None:
        chunks = endless()
        reply = self.reading(chunks)
        reply.cancel()
        self.failureResultOf(reply, CancelledError)
        self.pair.pump()
        self.assertTrue(chunks.closed)
        self.assertEqual([type(each) for each in self.service.ended], [CancelledError])
        self.is_free()

    def test_the_call_takes_too_long(self) -> None:
        chunks = endless()
        reply = self.reading(chunks, timeout=5)
        self.pair.advance(6)
        self.failureResultOf(reply, CallTimedOut)
        self.assertTrue(chunks.closed)
        self.is_free()

    def test_a_reply_that_its_caller_no_longer_wants(self) -> None:
        chunks = endless()
        self.service.page = lambda: Page("late", Blob.from_chunks(chunks))
        reply = self.remote.call(Get())
        self.pair.clock.advance(0)
        assert self.pair.wire is not None
        self.pair.wire.carry(Side.DIALLER)
        self.pair.clock.advance(0)
        reply.cancel()
        self.failureResultOf(reply, CancelledError)
        self.is_free()

    def test_a_reply_of_the_same_chunk_cancels_the_call(self) -> None:
        self.service.page = lambda: Page("late", Blob.from_chunks(endless()))
        first, second = self.remote.call(Get()), self.remote.call(Get())
        self.pair.clock.advance(0)

        def cancels(page: Page) -> None:
            assert page.content is not None
            page.content.close()
            second.cancel()

        first.addCallback(cancels)
        self.pair.pump()
        self.failureResultOf(second, CancelledError)
        self.is_free()

    def test_a_reply_that_isnt_what_was_declared(self) -> None:
        for right, wrong in [(b'"title":"x"', b'"title":1  '), (b'"reply":{', b'"other":{')]:
            self.service.page = lambda: Page("x", Blob.from_chunks(endless()))
            reply = self.remote.call(Get())
            wire = self.pair.wire
            assert wire is not None
            self.pair.clock.advance(0)
            wire.carry(Side.DIALLER)
            self.pair.clock.advance(0)
            buffer = wire.wire(Side.LISTENER).buffer
            self.assertIn(right, buffer)
            buffer[:] = buffer.replace(right, wrong)
            self.fails_with(reply, Code.BAD_REPLY)
            self.is_free()

    def test_a_reply_that_nobody_waits_for(self) -> None:
        chunks = endless()
        waiting: Deferred[None] = Deferred()

        class Late(Shelf):
            @handles(Get)
            async def get(self, request: Get, peer: Peer) -> Page:
                try:
                    await waiting
                except CancelledError:
                    return Page("late", Blob.from_chunks(chunks))
                raise AssertionError

        self.pair.cut()
        self.pair = ServicePair(Late())
        self.remote = self.pair.remote
        reply = self.remote.call(Get())
        self.pair.pump()
        reply.cancel()
        self.failureResultOf(reply, CancelledError)
        self.pair.pump()
        self.assertTrue(chunks.closed)
        self.is_free()

    def test_what_was_sent_isnt_kept_for_a_peer_that_doesnt_say_that_it_has_it(self) -> None:
        wire = self.pair.wire
        assert wire is not None
        assert wire.listener._bodies is not None
        sending = wire.listener._bodies._sending
        pieces = self.got(Blob.of(b"x" * CHUNK + b"y")).chunks()
        self.run_to_end(anext(pieces))
        (each,) = sending.values()
        self.assertEqual(each._pieces, ())
        self.pair.advance(IDLE - 2, step=10)
        self.assertEqual(list(sending.values()), [each])
        self.pair.advance(10, step=10)
        self.assertEqual(sending, {})
        self.assertEqual(self.run_to_end(anext(pieces)), b"y")
        self.is_free()

    def test_the_disk_is_full(self) -> None:
        chunks = endless()
        blob = self.got(Blob.from_chunks(chunks))
        path = folder_of(self) / "saved"
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            done = Deferred.fromCoroutine(blob.save(path))
            self.pair.pump()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        error = self.failureResultOf(done, OSError).value
        assert isinstance(error, OSError)
        self.assertEqual(error.errno, errno.EFBIG)
        self.assertTrue(chunks.closed)
        self.is_free()

    def test_the_next_bytes_dont_come(self) -> None:
        never: Deferred[None] = Deferred()

        async def stuck() -> AsyncIterator[bytes]:
            yield b"x"
            try:
                await never
            except CancelledError as error:
                self.service.ended.append(error)

        done = Deferred.fromCoroutine(self.got(Blob.from_chunks(stuck())).read(timeout=3))
        self.pair.advance(2)
        self.assertNoResult(done)
        self.pair.advance(2)
        self.failureResultOf(done, CallTimedOut)
        self.assertEqual([type(each) for each in self.service.ended], [CancelledError])
        self.is_free()

    def test_a_replys_body_of_which_nothing_is_taken(self) -> None:
        chunks = endless()
        blob = self.got(Blob.from_chunks(chunks))
        pieces = blob.chunks()
        self.run_to_end(anext(pieces))
        self.pair.advance(IDLE - 2, step=10)
        self.assertFalse(chunks.closed)
        self.pair.advance(10, step=10)
        self.assertTrue(chunks.closed)
        self.fails_with(anext(pieces), Code.OVERFLOW)
        self.is_free()

    def test_the_reply_cant_be_sent(self) -> None:
        chunks = endless()
        self.service.page = lambda: Page(5, Blob.from_chunks(chunks))  # type: ignore[arg-type]
        self.fails_with(self.remote.call(Get()), Code.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(LocalProtocolError)), 1)
        self.is_free()


class RefusedTests(BlobTests):
    """What can't be sent, or be declared."""

    def test_an_older_peer(self) -> None:
        self.link_pair(linked=False)
        for side in Side:
            self.pair.settings[side] = replace(self.pair.settings[side], features=FEATURES)
            self.pair.link()
            error = self.fails_with(self.remote.call(Put(Blob.of(b"x"))), Code.NO_BODIES)
            self.assertIn("the peer takes no bodies", error.message)
            self.service.page = lambda: Page("one", Blob.of(b"x"))
            self.fails_with(self.remote.call(Get()), Code.NO_BODIES)
            self.assertEqual(self.flushLoggedErrors(), [])
            self.service.page = lambda: Page("none", None)
            self.assertEqual(self.run_to_end(self.remote.call(Get())).title, "none")
            self.pair.cut()
            self.pair.settings[side] = replace(self.pair.settings[side], features=(*FEATURES, "bodies"))

    def test_a_blob_that_cant_be_sent(self) -> None:
        blob, spent = Blob.of(b"x"), Blob.from_chunks(iter([b"x"]))
        self.successResultOf(self.put(spent))
        arrived = self.got(blob)
        for wrong, why in [
            (Put(Blob()), "use Blob.of"),
            (Put(blob, [blob]), "twice"),
            (Put(arrived), "Blob.from_chunks(blob, blob.size)"),
            (Put(spent), "sent already"),
        ]:
            with self.assertRaisesRegex(LocalProtocolError, why.replace("(", r"\(").replace(")", r"\)")):
                self.remote.call(wrong)
        self.assertEqual(self.run_to_end(self.remote.call(Put(Blob.from_chunks(arrived, arrived.size)))), 1)
        self.assertRaises(OSError, Blob.from_file, "/nonexistent")
        self.assertRaises(OSError, Blob.from_file, "/")
        self.failureResultOf(Deferred.fromCoroutine(blob.read()), LocalProtocolError)
        self.is_free()

    def test_wherever_a_blob_is_declared(self) -> None:
        pair = ServicePair(Lists())
        self.addCleanup(pair.cut)
        reply = pair.remote.call(List())
        pair.pump()
        pages = self.successResultOf(reply)
        for blob, expected in [(pages.own, b"own"), (pages.of_attrs.content, b"attrs")]:
            done = Deferred.fromCoroutine(blob.read())
            pair.pump()
            self.assertEqual(self.successResultOf(done), expected)

    def test_what_has_no_bodies(self) -> None:
        class Note(Message):
            content: Blob

        class Rows(StreamedRequest[Page]):
            pass

        class Ask(StreamedRequest[int]):
            content: list[Blob]

        for kind in (Note, Rows, Ask):
            with self.assertRaisesRegex(BadVocabulary, "has a Blob"):
                Interface("shelf", kind)
        with self.assertRaisesRegex(BadVocabulary, "has a Blob"):
            Interface("shelf", streams=[StreamOf("pages", Page)])
        with self.assertRaisesRegex(BadVocabulary, "has blobs, which need a link"):
            PlainConversation(SHELF, None, PlainFormat())
        with self.assertRaisesRegex(BadVocabulary, "has blobs, which need a link"):
            JsonRpcConversation(SHELF)
        with self.assertRaisesRegex(BadService, "can't be read in a thread"):

            class Threaded(Shelf):
                @handles(Put, thread=True)
                def put(self, request: Put, peer: Peer) -> int:
                    return 0

    def test_other_links_are_made_as_before(self) -> None:
        class Asking(Service):
            interface = Interface("asking", Ask)

            @handles(Ask)
            def ask(self, request: Ask, peer: Peer) -> int:
                return request.n

        pair = ServicePair(Asking())
        self.assertEqual({side: pair.settings[side].features for side in Side}, dict.fromkeys(Side, FEATURES))
        assert self.remote.peer is not None
        self.assertEqual(self.remote.peer.info.features, {"interface", "bodies"})


class HostileTests(BlobTests):
    """A peer that breaks the rules: it costs a body, or nothing."""

    def setUp(self) -> None:
        super().setUp()
        for _ in range(3):  # so that the answers to what the peer asks are to calls that were made
            self.run_to_end(self.remote.call(Ask(n=1)))

    def said(self, line: bytes, side: Side = Side.DIALLER) -> None:
        assert self.pair.wire is not None
        self.pair.wire.wire(side).write(line + b"\n")
        self.pair.pump()

    def test_frames_of_unknown_bodies(self) -> None:
        for side in Side:
            for frame in (
                b'{"type":"link-body-wanted","body":9,"credit":1}',
                b'{"type":"link-body-chunk","body":9,"data":"eHg="}',
                b'{"type":"link-body-ended","body":9,"size":2}',
                b'{"type":"link-body-failed","body":9,"code":"c","message":"m"}',
                b'{"type":"link-body-done","body":9}',
            ):
                self.said(frame, side)
        self.is_free()

    def test_wrong_fields_end_the_link(self) -> None:
        for frame in (
            b'{"type":"link-body-chunk","body":9,"data":"?"}',
            b'{"type":"link-body-wanted","body":0,"credit":1}',
        ):
            self.said(frame)
            assert self.pair.wire is not None
            self.assertIn("bad-message", self.pair.wire.reason(Side.DIALLER))
            self.pair.link()

    def test_bytes_that_werent_asked_for(self) -> None:
        reads: list[Blob] = []

        async def keeps(request: Put) -> int:
            reads.append(request.content)
            return len(await request.content.read(limit=1 << 30))

        self.service.does = keeps
        self.said(b'{"type":"call","id":1,"request":{"type":"put","content":{"body":1}}}')
        for _ in range(CREDIT // (3 << 15) + 3):
            self.said(b'{"type":"link-body-chunk","body":1,"data":"%s"}' % (b"AAAA" * (1 << 15)))
        self.said(b'{"type":"link-body-chunk","body":1,"data":"%s"}' % (b"AAAA" * (1 << 17)))
        self.assertEqual([each.code for each in self.service.ended if isinstance(each, CallFailed)], [Code.CREDIT])
        self.is_free()

    def test_small_chunks_take_little_memory(self) -> None:
        waiting: Deferred[None] = Deferred()
        found: list[bytes] = []

        async def keeps(request: Put) -> int:
            pieces = request.content.chunks()
            found.append(await anext(pieces))
            await waiting
            found.append(await anext(pieces))
            return len(await request.content.read())

        self.service.does = keeps
        chunk, count = b'{"type":"link-body-chunk","body":1,"data":"eA=="}', 2000
        self.said(b'{"type":"call","id":1,"request":{"type":"put","content":{"body":1}}}')
        self.said(chunk)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(10):
            self.said(b"\n".join([chunk] * (count // 10)))
        self.assertLess(tracemalloc.get_traced_memory()[0], 10 * count)
        waiting.callback(None)  # it takes what waits, and then the others as they come
        self.assertEqual(found, [b"x", b"x" * count])
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            self.said(b"\n".join([chunk] * (count // 10)))
        self.assertLess(tracemalloc.get_traced_memory()[0] - before, 10 * count)
        self.said(b'{"type":"link-body-ended","body":1,"size":%d}' % (2 * count + 1))
        self.is_free()

    def test_a_blob_without_a_number_of_its_own(self) -> None:
        calls = [
            b'{"content":{}}',
            b'{"content":{"body":1},"others":[{"body":1}]}',
            b'{"content":{"body":5},"others":[%s]}' % b",".join(b'{"body":%d}' % n for n in range(6, 6 + MOST_BODIES)),
        ]
        for id_, fields in enumerate(calls, 1):
            self.said(b'{"type":"call","id":%d,"request":{"type":"put",%s}' % (id_, fields[1:]) + b"}")
        self.assertEqual(self.service.ended, [])
        self.is_free()

    def test_a_wrong_end(self) -> None:
        self.said(b'{"type":"call","id":1,"request":{"type":"put","content":{"body":1,"size":4}}}')
        self.said(b'{"type":"link-body-ended","body":1,"size":4}')
        self.assertEqual([each.code for each in self.service.ended if isinstance(each, CallFailed)], [Code.BAD_BODY])
        self.is_free()

    def test_bytes_after_the_end(self) -> None:
        waiting: Deferred[None] = Deferred()

        async def keeps(request: Put) -> int:
            pieces = request.content.chunks()
            await anext(pieces)
            await waiting
            return len(await anext(pieces))

        self.service.does = keeps
        self.said(b'{"type":"call","id":1,"request":{"type":"put","content":{"body":1}}}')
        for data in (b"eHg=", b"eHg="):
            self.said(b'{"type":"link-body-chunk","body":1,"data":"%s"}' % data)
        self.said(b'{"type":"link-body-ended","body":1,"size":4}')
        self.said(b'{"type":"link-body-chunk","body":1,"data":"eHg="}')
        waiting.callback(None)
        self.assertEqual([each.code for each in self.service.ended if isinstance(each, CallFailed)], [Code.BAD_BODY])
        self.is_free()


class AioTests(SynchronousTestCase):
    """The same on asyncio, over a socket."""

    def test_both_ways(self) -> None:
        path = folder_of(self) / "socket"

        class Slow(Shelf):
            @handles(Put)
            async def put(self, request: Put, peer: Peer) -> int:
                count = 0
                async for chunk in request.content:
                    await asyncio.sleep(0)
                    count += len(chunk)
                return count

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                await asyncio.sleep(0)
                yield b"x" * 50_000

        closed = asyncio.Event()

        async def endless_chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    await asyncio.sleep(0)
                    yield b"y" * 50_000
            finally:
                closed.set()

        async def run() -> None:
            service = Slow()
            service.page = lambda: Page("many", Blob.from_chunks(chunks()))
            async with (
                await aio.listen(f"unix:{path}", service) as listening,
                aio.dial(f"unix:{path}", SHELF) as remote,
            ):
                self.assertEqual(await remote.call(Put(Blob.from_chunks(chunks()))), 1_000_000)
                page = await remote.call(Get())
                assert page.content is not None
                self.assertEqual(await page.content.read(), b"x" * 1_000_000)
                service.page = lambda: Page("endless", Blob.from_chunks(endless_chunks()))
                page = await remote.call(Get())
                assert page.content is not None
                with self.assertRaises(CallFailed):
                    await asyncio.create_task(page.content.read(limit=200_000))
                await closed.wait()
                page = await remote.call(Get())
                assert page.content is not None
                task = asyncio.create_task(page.content.read())
                await asyncio.sleep(0.001)
                await listening.close()
                with self.assertRaises(NotConnected):
                    await task
            await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(run(), 60))
