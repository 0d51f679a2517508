"""`SyncRemote` for programs of plain threads, handlers that are called in threads, and handlers that block."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from twistedipc.ipc import (
    BadEndpoint,
    BadService,
    CallFailed,
    CallTimedOut,
    Interface,
    LocalProtocolError,
    Message,
    NotConnected,
    Peer,
    QueueFull,
    Receiver,
    Request,
    Service,
    StreamedRequest,
    StreamId,
    StreamOf,
    SyncRemote,
    Unlinked,
    aio,
    dial,
    handles,
    listen,
    receives,
    trace_context,
)
from twistedipc.ipc.connections.failing import AT_ONCE
from twistedipc.ipc.testing import ServicePair

DEADLINE = 60.0

reactor: Any = global_reactor


class Value(msgspec.Struct):
    value: int


class Double(Request[Value]):
    of: int


class Wait(Request[Value]):
    pass


class Note(Message):
    text: str


class Count(StreamedRequest[Value]):
    upto: int


VALUES = StreamOf("values", Value)
DOUBLER = Interface("doubler", Double, Wait, Note)
COUNTER = Interface("counter", Count)


class Doubler(Service):
    interface = DOUBLER

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.began = threading.Event()
        self.cancelled = threading.Event()

    @handles(Double)
    def double(self, request: Double, peer: Peer) -> Value:
        if request.of < 0:
            raise CallFailed("negative", "below nothing", {"of": request.of})
        return Value(request.of * 2)

    @handles(Wait)
    async def wait(self, request: Wait, peer: Peer) -> Value:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return Value(0)

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        self.notes.append(message.text)


@contextmanager
def listening_at(endpoint: str, service: Service) -> Iterator[None]:
    """A service listens, in a thread of its own."""
    loop = asyncio.new_event_loop()
    listens, ends = threading.Event(), asyncio.Event()

    async def main() -> None:
        async with await aio.listen(endpoint, service):
            listens.set()
            await ends.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[main()])
    thread.start()
    listens.wait(DEADLINE)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join(DEADLINE)
        loop.close()


@pytest.fixture
def doubler(tmp_path: Path) -> Iterator[Doubler]:
    """A doubler that listens at "socket"."""
    service = Doubler()
    with listening_at(f"unix:{tmp_path}/socket", service):
        yield service


def test_a_synchronous_program(tmp_path: Path, doubler: Doubler) -> None:
    with SyncRemote(f"unix:{tmp_path}/socket", DOUBLER, name="plain") as remote:
        assert remote.call(Double(of=4)) == Value(8)
        remote.send(Note(text="hello"))
        remote.drain()
        with pytest.raises(CallFailed) as failed:
            remote.call(Double(of=-1))
        assert failed.value.data == {"of": -1}
        with pytest.raises(CallTimedOut):
            remote.call(Wait(), timeout=0.05)
        assert doubler.cancelled.wait(DEADLINE)
        with pytest.raises(LocalProtocolError):
            remote.send(Double(of=1))
    assert doubler.notes == ["hello"]
    with pytest.raises(NotConnected):
        remote.call(Double(of=1))
    remote.close()  # once more


def test_many_threads(tmp_path: Path, doubler: Doubler) -> None:
    with SyncRemote(f"unix:{tmp_path}/socket", DOUBLER) as remote, ThreadPoolExecutor(16) as threads:
        replies = threads.map(lambda n: remote.call(Double(of=n)), range(400))
        assert [reply.value for reply in replies] == list(range(0, 800, 2))


def test_it_is_closed_while_threads_wait(tmp_path: Path, doubler: Doubler) -> None:
    remote = SyncRemote(f"unix:{tmp_path}/socket", DOUBLER)
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(remote.call, Wait(), 30) for _ in range(2)]
        assert doubler.began.wait(DEADLINE)
        closing = [threads.submit(remote.close) for _ in range(2)]
        for each in waiting:
            assert isinstance(each.exception(DEADLINE), NotConnected)
        for done in closing:
            assert done.result(DEADLINE) is None


def test_a_call_at_the_last_moment_fails_too(tmp_path: Path, doubler: Doubler, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that would fail in the turn of the loop after its last one."""
    remote = SyncRemote(f"unix:{tmp_path}/socket", DOUBLER)
    remote.linked(DEADLINE)
    remote._wait(lambda: remote._remote.close())
    remote._remote._failing._count = AT_ONCE - 1
    begun, held, submitted = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        held.wait(DEADLINE)

    submit = remote._submit

    def submit_and_tell(act: Callable[[], object]) -> None:
        submit(act)
        submitted.set()

    monkeypatch.setattr(remote, "_submit", submit_and_tell)
    remote._loop.call_soon_threadsafe(hold)
    assert begun.wait(DEADLINE)
    with ThreadPoolExecutor(2) as threads:
        call = threads.submit(remote.call, Double(of=1))
        assert submitted.wait(DEADLINE)
        stopping = threads.submit(remote._stop)
        while not remote._is_closed:
            time.sleep(0.001)
        held.set()
        assert isinstance(call.exception(DEADLINE), NotConnected)
        stopping.result(DEADLINE)


class Rows(Service):
    """Counts as far as it is asked to, and keeps what streams bring."""

    interface = Interface("rows", Count, Note, streams=[VALUES])

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.ended = threading.Event()
        self.traces: list[str] = []

    @handles(Count)
    async def count(self, request: Count, peer: Peer) -> AsyncIterator[Value]:
        self.traces.append(trace_context.get())
        try:
            for n in range(request.upto):
                yield Value(n)
        finally:
            self.ended.set()

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        pass

    @receives(VALUES)
    def values(self, stream: StreamId) -> Receiver[Value]:
        return self

    def position(self) -> int:
        return len(self.kept) + 1

    def take(self, first: int, items: Any) -> None:
        self.kept += [item.value for item in items]


def test_items_and_streams(tmp_path: Path) -> None:
    endpoint, rows = f"unix:{tmp_path}/socket", Rows()
    with listening_at(endpoint, rows), SyncRemote(endpoint, Rows.interface) as remote:
        outer = trace_context.set("this")
        assert [row.value for row in remote.stream_call(Count(upto=5000))] == list(range(5000))
        trace_context.reset(outer)
        assert rows.traces == ["this"]
        rows.ended.clear()
        with remote.stream_call(Count(upto=10_000_000)) as many:
            assert next(many) == Value(0)
        assert rows.ended.wait(DEADLINE)
        rows.ended.clear()
        for row in remote.stream_call(Count(upto=10_000_000)):
            if row.value == 3:
                break
        assert rows.ended.wait(DEADLINE), "it is freed"
        stream = remote.stream(VALUES)
        assert [stream.write(Value(n)) for n in range(3)] == [1, 2, 3]
        stream.flushed()
        assert rows.kept == [0, 1, 2]
        stream.close()
        with pytest.raises(NotConnected):
            stream.write(Value(1))
        with pytest.raises(LocalProtocolError):
            remote.stream_call(Double(of=1))  # type: ignore[arg-type]
        left = remote.stream_call(Count(upto=10_000_000))
        next(left)
    left.close()
    stream.close()


def test_its_handlers_end_before_its_loop(tmp_path: Path, doubler: Doubler) -> None:
    began, ended = threading.Event(), threading.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.set()

    kept: list[object] = []  # the loop doesn't hold its tasks: one that nobody holds may be collected
    with SyncRemote(f"unix:{tmp_path}/socket", DOUBLER) as remote:
        remote._loop.call_soon_threadsafe(lambda: kept.append(remote._loop.create_task(work())))
        assert began.wait(DEADLINE)
    assert ended.is_set()


def test_without_a_listener(tmp_path: Path) -> None:
    with pytest.raises(BadEndpoint):
        SyncRemote("nowhere", DOUBLER)
    with SyncRemote(f"unix:{tmp_path}/none", DOUBLER, unlinked=Unlinked(queue=0, calls_wait=False)) as remote:
        with pytest.raises(NotConnected):
            remote.linked(timeout=0.05)
        with pytest.raises(NotConnected):
            remote.call(Double(of=1))
        with pytest.raises(QueueFull):
            remote.send(Note(text="hello"))
    assert not [each for each in threading.enumerate() if "link to" in each.name]


def test_an_interrupted_wait_drops_the_call(tmp_path: Path, doubler: Doubler, monkeypatch: pytest.MonkeyPatch) -> None:
    with SyncRemote(f"unix:{tmp_path}/socket", DOUBLER) as remote:
        remote.linked(DEADLINE)

        def interrupt(*_: object) -> None:
            assert doubler.began.wait(DEADLINE)
            raise KeyboardInterrupt

        monkeypatch.setattr("twistedipc.ipc.threads.Future.result", interrupt)
        with pytest.raises(KeyboardInterrupt):
            remote.call(Wait())
        monkeypatch.undo()
        assert doubler.cancelled.wait(DEADLINE)
        assert remote.call(Double(of=1)) == Value(2)


def test_after_a_fork(tmp_path: Path, doubler: Doubler) -> None:
    """A child has no such thread, and is told so instead of waiting for ever."""
    with SyncRemote(f"unix:{tmp_path}/socket", DOUBLER) as remote:
        remote.linked(DEADLINE)
        if (child := os.fork()) == 0:
            try:
                remote.call(Double(of=1))
            except LocalProtocolError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert remote.call(Double(of=1)) == Value(2)


# -- handlers in threads ---------------------------------------------------------------------------------------------


class Slow(Service):
    """Blocks in threads, until it is told to go on."""

    interface = DOUBLER

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun: list[int] = []

    @handles(Double, thread=True)
    def double(self, request: Double, peer: Peer) -> Value:
        self.begun.append(request.of)
        if request.of == 0:
            raise CallFailed("nothing", "there is nothing to double")
        assert self.go_on.wait(DEADLINE)
        return Value(request.of * 2)

    @handles(Wait)
    def wait(self, request: Wait, peer: Peer) -> Value:
        return Value(threading.get_ident())

    @handles(Note, thread=True)
    def note(self, message: Note, peer: Peer) -> None:
        self.go_on.set()


class InThreads(TestCase):
    async def test_they_block_nothing(self) -> None:
        service = Slow()
        endpoint = f"unix:{self.mktemp()}"
        listening = await listen(reactor, endpoint, service)
        self.addCleanup(listening.close)
        remote = dial(reactor, endpoint, DOUBLER)
        self.addCleanup(remote.close)
        # More than there are threads: the last ones wait for a thread, and are cancelled before they get one.
        calls = [remote.call(Double(of=n + 1), timeout=DEADLINE) for n in range(20)]
        failed = remote.call(Double(of=0))
        assert await remote.call(Wait()) == Value(threading.get_ident())
        for call in calls[10:]:
            call.addErrback(lambda _: None)
            call.cancel()
        await remote.call(Wait())  # the service has heard of it
        service.go_on.set()
        assert [(await call).value for call in calls[:10]] == list(range(2, 22, 2))
        with pytest.raises(CallFailed):
            await failed
        assert set(service.begun) == set(range(11))
        remote.send(Note(text="a message"))
        await remote.drain()

    async def test_a_foreign_thread_is_told(self) -> None:
        endpoint = f"unix:{self.mktemp()}"
        listening = await listen(reactor, endpoint, Slow())
        self.addCleanup(listening.close)
        remote = dial(reactor, endpoint, DOUBLER)
        self.addCleanup(remote.close)
        await remote.linked()
        for act in (lambda: remote.call(Double(of=1)), lambda: remote.send(Note(text="afar"))):
            with pytest.raises(LocalProtocolError, match="another thread"):
                await deferToThread(act)
        for peer in listening.peers:
            with pytest.raises(LocalProtocolError, match="another thread"):
                await deferToThread(peer.send_many, [])


def test_what_cant_be_called_in_a_thread() -> None:
    with pytest.raises(BadService, match="async"):

        class Wrong(Slow):
            @handles(Double, thread=True)  # type: ignore[arg-type]
            async def double(self, request: Double, peer: Peer) -> Value:
                return Value(1)

    with pytest.raises(BadService, match="async"):

        class WrongToo(Slow):
            async def double(self, request: Double, peer: Peer) -> Value:  # type: ignore[override]
                return Value(1)


# -- handlers that block ---------------------------------------------------------------------------------------------


class Blocking(Service):
    """Takes its time: by moving the clock."""

    interface = DOUBLER

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.waiting: Deferred[None] = Deferred()

    @handles(Double)
    def double(self, request: Double, peer: Peer) -> Value:
        self._clock.advance(request.of / 10)
        return Value(0)

    @handles(Wait)
    async def wait(self, request: Wait, peer: Peer) -> Value:
        await self.waiting
        self._clock.advance(3)
        return Value(0)

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        self._clock.advance(2)
        raise CallFailed("so", "and it fails too")


class BlockingHandlers(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Clock()
        self.service = Blocking(clock)
        self.pair = ServicePair(self.service, clock=clock)
        self.logged: list[str] = []

        @implementer(ILogObserver)
        def observe(event: Any) -> None:
            if "blocked" in (text := formatEvent(event)):
                self.logged.append(text.partition(":")[0])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def call(self, request: Request[Value]) -> None:
        reply = self.pair.remote.call(request, timeout=100)
        self.pair.pump()
        self.assertEqual(self.successResultOf(reply), Value(0))

    def test_it_is_named(self) -> None:
        self.call(Double(of=15))
        self.assertEqual(self.logged, ["Blocking.double has blocked this process for 1.5 seconds"])

    def test_less_than_a_second_is_allowed(self) -> None:
        self.call(Double(of=9))
        self.assertEqual(self.logged, [])

    def test_what_a_coroutine_does_after_it_has_waited(self) -> None:
        reply = self.pair.remote.call(Wait(), timeout=100)
        self.pair.pump()
        self.pair.advance(20)  # it waits, and blocks nothing
        self.assertEqual(self.logged, [])
        self.service.waiting.callback(None)
        self.pair.pump()
        self.assertEqual(self.successResultOf(reply), Value(0))
        self.assertEqual(self.logged, ["Blocking.wait has blocked this process for 3.0 seconds"])

    def test_a_generator(self) -> None:
        clock = Clock()
        waiting: Deferred[None] = Deferred()

        class Counter(Service):
            interface = COUNTER

            @handles(Count)
            async def count(self, request: Count, peer: Peer) -> AsyncIterator[Value]:
                yield Value(0)
                await waiting
                clock.advance(3)
                yield Value(1)

        pair = ServicePair(Counter(), clock=clock)

        async def ask() -> list[int]:
            return [row.value async for row in pair.remote.stream_call(Count(upto=2))]

        asked = Deferred.fromCoroutine(ask())
        pair.advance(20)  # it waits, and blocks nothing
        self.assertEqual(self.logged, [])
        waiting.callback(None)
        for _ in range(3):
            pair.advance(0)
            pair.pump()
        self.assertEqual(self.successResultOf(asked), [0, 1])
        self.assertEqual(len(self.logged), 1)
        self.assertIn("Counter.count has blocked this process for 3.0 seconds", self.logged[0])

    def test_one_that_raises_too(self) -> None:
        self.pair.remote.send(Note(text="x"))
        self.pair.pump()
        self.assertEqual(self.logged, ["Blocking.note has blocked this process for 2.0 seconds"])
