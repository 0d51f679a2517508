"""
The library for programs without an event loop: `SyncRemote`, whose calls block the thread that makes them.

::

    with SyncRemote("unix:calculator.sock", CALCULATOR) as calculator:
        total = calculator.call(Add(a=2, b=3), timeout=5)      # a Sum
        for row in calculator.stream_call(Query(…)):
            print(row)
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from twistedipc.ipc.connections.streamed import StreamedReply
from twistedipc.ipc.places.endpoints import LinkReactor
from twistedipc.ipc.remote import R, Remote, dial
from twistedipc.ipc.streams.outbox import Outbox
from twistedipc.ipc.streams.sender import Stream
from twistedipc.ipc.wire.errors import LocalProtocolError, NotConnected
from twistedipc.ipc.wire.interface import Request, StreamedRequest, StreamOf

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
P = ParamSpec("P")

#: Seconds that handlers have to end, once they were cancelled as the link is closed.
TASKS_END = 5.0


def _dialling(
    dial: Callable[Concatenate[LinkReactor, str, P], Remote],
) -> Callable[
    [Callable[[SyncRemote, str, Callable[[LinkReactor], Remote]], None]],
    Callable[Concatenate[SyncRemote, str, P], None],
]:
    """Decorate what takes a function that dials: it takes the parameters of ``dial`` after the reactor."""

    def decorated(
        init: Callable[[SyncRemote, str, Callable[[LinkReactor], Remote]], None],
    ) -> Callable[Concatenate[SyncRemote, str, P], None]:
        def made(self: SyncRemote, endpoint: str, /, *args: P.args, **kwargs: P.kwargs) -> None:
            init(self, endpoint, lambda reactor: dial(reactor, endpoint, *args, **kwargs))

        return made

    return decorated


class SyncRemote:
    """
    A service, for a program of plain threads. The link lives in a thread of its own, with a loop of its own; no reactor
    is needed, and one that runs isn't touched. All methods may be called from any thread, many at a time, but not from
    handlers of ``service``, which are called in the link's thread.

    Leaving ``with`` closes it. It doesn't keep the process from ending. After a ``fork`` only the parent can use it:
    in the child its methods raise `LocalProtocolError`, and the child makes its own.

    It takes what `dial` takes after the reactor: the endpoint, the interface, and as options ``key``, ``name``,
    ``tls``, ``unlinked``, limits …

    :raises BadEndpoint: the endpoint can't be dialled. An endpoint where no process listens just now is no error
    """

    @_dialling(dial)
    def __init__(self, endpoint: str, begin: Callable[[LinkReactor], Remote]) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._is_closed = False
        self._waits: set[Future[Any]] = set()  # for what is under way, in the link's thread
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"link to {endpoint}", daemon=True)
        self._thread.start()
        from twistedipc.ipc.places.loop import LoopReactor  # it brings transports, and OpenSSL where there is one

        reactor = cast(LinkReactor, LoopReactor(self._loop))
        try:
            self._remote: Remote = self._do(lambda: begin(reactor))
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, request: Request[R], timeout: float = 30.0) -> R:
        """
        Call the service, and wait for the reply for at most ``timeout`` seconds. If the wait is interrupted, by
        Control-C say, the service drops the call. Raises what the Deferred of `Remote.call` fails with.
        """
        return self._wait(lambda: self._remote.call(request, timeout))

    def stream_call(self, request: StreamedRequest[R], timeout: float | None = 30.0) -> SyncStreamedReply[R]:
        """Call the service for items: ``for row in remote.stream_call(Query(…))``. See `Remote.stream_call`."""
        return SyncStreamedReply(self._do(lambda: self._remote.stream_call(request, timeout)), self._wait)

    def stream(self, stream: StreamOf[S], outbox: Outbox | None = None) -> SyncStream[S]:
        """Return a reliable stream of the service's interface. See `Remote.stream`."""
        return SyncStream(self._do(lambda: self._remote.stream(stream, outbox)), self._wait)

    def send(self, message: msgspec.Struct) -> None:
        """Send a one-way message, or keep it for the next link. Raises as `Remote.send` does."""
        self._do(lambda: self._remote.send(message))

    def drain(self) -> None:
        """Wait until the service keeps up with what this side sends. See `Remote.drain`."""
        self._wait(lambda: Deferred.fromCoroutine(self._remote.drain()))

    def linked(self, timeout: float | None = None) -> None:
        """Wait until there is a link, for at most ``timeout`` seconds. Raises what `Remote.linked` fails with."""
        self._wait(lambda: self._remote.linked(timeout))

    def close(self) -> None:
        """
        End the link, and dial no more. Returns when the link is closed, within 5 seconds. Calls that wait, in other
        threads, fail with `NotConnected`. Idempotent.
        """
        self._check_process()
        try:
            self._wait(lambda: self._remote.close())
        except NotConnected:
            pass  # another thread has closed it
        self._stop()

    # -- the link's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(_end_tasks())
            for each in list(self._waits):  # what was begun last, and would have failed in the loop's next turn
                each.set_exception(NotConnected("it was closed here"))
            self._loop.close()

    def _stop(self) -> None:
        """Stop the thread, after all that it was given to do."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _do(self, act: Callable[[], T]) -> T:
        """Do something in the link's thread, and return the result."""
        done: Future[T] = Future()

        def do() -> None:
            try:
                done.set_result(act())
            except BaseException as error:
                done.set_exception(error)

        self._submit(do)
        return done.result()

    def _wait(self, begin: Callable[[], Deferred[T]]) -> T:
        """Do something in the link's thread, and wait for its outcome."""
        done: Future[T] = Future()
        under_way: list[Deferred[None]] = []

        def failed(failure: Failure) -> None:
            done.set_exception(failure.value)

        def do() -> None:
            self._waits.add(done)
            done.add_done_callback(self._waits.discard)
            try:
                under_way.append(begin().addCallbacks(done.set_result, failed))
            except BaseException as error:
                done.set_exception(error)

        self._submit(do)
        try:
            return done.result()
        except BaseException:
            if not done.done():  # it was interrupted
                self._submit(lambda: under_way[0].cancel())
            raise

    def _submit(self, act: Callable[[], object]) -> None:
        self._check_process()
        if threading.current_thread() is self._thread:
            raise LocalProtocolError("a SyncRemote can't be used in its own thread, where its handlers are called")
        with self._lock:
            if self._is_closed:
                raise NotConnected("it was closed here")
            self._loop.call_soon_threadsafe(act)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise LocalProtocolError("this SyncRemote was made before fork(): make another one in the child")


class _Wait(Protocol):
    """Does something in the link's thread, and waits for its outcome."""

    def __call__(self, begin: Callable[[], Deferred[T]]) -> T: ...


class SyncStreamedReply(Generic[R]):
    """
    The items that answer a call, as they come: `StreamedReply`, to be iterated over by one thread at a time. What
    isn't taken is bounded: the service's handler waits. Leaving ``with`` cancels the handler; so does leaving the loop,
    once Python has freed this object.
    """

    def __init__(self, reply: StreamedReply[R], wait: _Wait) -> None:
        self._reply = reply
        self._wait = wait

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        for item in self._reply.come():
            return item
        try:
            return self._wait(lambda: Deferred.fromCoroutine(self._reply.__anext__()))
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more items: the service's handler is cancelled. Idempotent."""
        with suppress(NotConnected):  # the whole remote is closed
            self._wait(lambda: Deferred.fromCoroutine(self._reply.aclose()))


class SyncStream(Generic[S]):
    """The sender's end of one stream: `Stream`, whose methods block the thread that calls them."""

    def __init__(self, stream: Stream[S], wait: _Wait) -> None:
        #: the stream itself, with its numbers and its `refusal`, to be read only
        self.stream = stream
        self._wait = wait

    def write(self, item: S) -> int:
        """Add an item to the outbox, and return its number. Wait while the outbox is full. See `Stream.write`."""
        return self._wait(lambda: Deferred.fromCoroutine(self.stream.write(item)))

    def flushed(self) -> None:
        """Wait until all that was written so far is acknowledged. See `Stream.flushed`."""
        self._wait(self.stream.flushed)

    def close(self) -> None:
        """Send no more, and close the outbox. Idempotent."""

        def close() -> Deferred[None]:
            self.stream.close()
            return succeed(None)

        with suppress(NotConnected):  # the whole remote is closed, and its streams with it
            self._wait(close)


async def _end_tasks() -> None:
    """Cancel what is at work in the loop, handlers say, and wait until it has ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for each in tasks:
        each.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=TASKS_END)
    await asyncio.get_running_loop().shutdown_asyncgens()
