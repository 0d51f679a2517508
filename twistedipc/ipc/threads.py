"""
The library for programs without an event loop: `SyncRemote`, whose calls block the thread that makes them.

::

    with SyncRemote("unix:calculator.sock", CALCULATOR) as calculator:
        total = calculator.call(Add(a=2, b=3), timeout=5)      # a Sum
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twistedipc.ipc.places.endpoints import LinkReactor
from twistedipc.ipc.remote import R, Remote, dial
from twistedipc.ipc.wire.errors import LocalProtocolError, NotConnected
from twistedipc.ipc.wire.interface import Interface, Request

T = TypeVar("T")

#: Seconds that handlers have to end, once they were cancelled as the link is closed.
TASKS_END = 5.0


class SyncRemote:
    """
    A service, for a program of plain threads. The link lives in a thread of its own, with a loop of its own; no reactor
    is needed, and one that runs isn't touched. All methods may be called from any thread, many at a time, but not from
    handlers of ``service``, which are called in the link's thread.

    Leaving ``with`` closes it. It doesn't keep the process from ending. After a ``fork`` only the parent can use it:
    in the child its methods raise `LocalProtocolError`, and the child makes its own.

    :param endpoint: as for `dial`
    :param interface: the service's
    :param options: what else `dial` takes: ``key``, ``name``, ``tls``, ``unlinked``, limits …
    :raises BadEndpoint: the endpoint can't be dialled. An endpoint where no process listens just now is no error
    """

    def __init__(self, endpoint: str, interface: Interface, **options: Any) -> None:
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
            self._remote: Remote = self._do(lambda: dial(reactor, endpoint, interface, **options))
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


async def _end_tasks() -> None:
    """Cancel what is at work in the loop, handlers say, and wait until it has ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for each in tasks:
        each.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=TASKS_END)
    await asyncio.get_running_loop().shutdown_asyncgens()
