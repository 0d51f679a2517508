"""
Between Deferreds and asyncio: what is awaited in a task. Used by ``aio`` and ``handling``.

A task can wait for asyncio's own futures only. Here a Deferred becomes one, and a coroutine that awaits Deferreds, as
code for Twisted does, runs in a task all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from math import inf
from time import monotonic
from typing import Any, Generic, TypeVar, cast

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.connections.streamed import R, StreamedReply
from twistedipc.ipc.wire.interface import StreamedRequest

T = TypeVar("T")


async def outcome(deferred: Deferred[T]) -> T:
    """Wait for a Deferred in a task. The Deferred is cancelled with the task."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def succeeded(result: T) -> None:
        if not future.done():
            future.set_result(result)

    def failed(failure: Failure) -> None:
        if not future.done():
            future.set_exception(cast(BaseException, failure.value))

    deferred.addCallbacks(succeeded, failed)
    try:
        return await future
    except asyncio.CancelledError:
        deferred.cancel()
        raise


class Steps(Generic[T]):
    """
    A coroutine, each of whose steps is measured: that is what it does until it has to wait.

    :param seconds: the time
    :param measured: called with the seconds that a step has taken, if they were more than ``long``
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        seconds: Callable[[], float],
        long: float,
        measured: Callable[[float], None],
    ) -> None:
        self._work = work
        self._seconds = seconds
        self._long = long
        self._measured = measured

    def __await__(self) -> Generator[Any, Any, T]:
        work, seconds, long = self._work, self._seconds, self._long
        resume: Callable[[Any], Any] = work.send
        value: Any = None
        while True:
            began = seconds()
            try:
                waited = resume(value)
            except StopIteration as stop:
                result: T = stop.value
                return result
            finally:
                if (took := seconds() - began) > long:
                    self._measured(took)
            try:
                value = yield from self._wait(waited)
                resume = work.send
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:
                resume, value = work.throw, error

    def close(self) -> None:
        """Close the coroutine, which may not have begun: its task was cancelled before."""
        self._work.close()

    def _wait(self, waited: Any) -> Generator[Any, Any, Any]:
        """Wait for what the coroutine has to wait for. Return what it is to be resumed with."""
        return (yield waited)


class TaskSteps(Steps[T]):
    """The same in a task, where the coroutine may wait for Deferreds too."""

    def _wait(self, waited: Any) -> Generator[Any, Any, Any]:
        if not isinstance(waited, Deferred):
            return (yield waited)
        fired: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def note(result: Any) -> Any:
            if not fired.done():
                fired.set_result(None)
            return result

        waited.addBoth(note)
        try:
            yield from fired
        except asyncio.CancelledError:
            waited.addErrback(lambda failure: failure.trap(CancelledError) and None)
            waited.cancel()
            raise
        return None  # the Deferred gives its result itself, when it is asked again


def in_task(work: Coroutine[Any, Any, T]) -> Awaitable[T]:
    """Return what is awaited in a task for the result of a coroutine that awaits Deferreds."""
    return TaskSteps(work, monotonic, inf, lambda took: None)


def run_in_task(steps: TaskSteps[T], loop: asyncio.AbstractEventLoop) -> Deferred[T]:
    """Run a coroutine in a task. The task is cancelled with the Deferred of its result."""

    async def run() -> T:
        return await steps

    def ended(task: asyncio.Task[T]) -> None:
        steps.close()
        error = None if task.cancelled() else task.exception()
        if result.called:
            return  # it was cancelled, and what comes of the task isn't wanted
        if task.cancelled():
            result.errback(CancelledError())
        elif error is not None:
            result.errback(Failure(error))
        else:
            result.callback(task.result())

    task = loop.create_task(run())
    result: Deferred[T] = Deferred(lambda _: cast(None, task.cancel()))
    task.add_done_callback(ended)
    return result


class TaskPeer(Peer):
    """A `Peer` whose methods are awaited in tasks."""

    @classmethod
    def of(cls, peer: Peer) -> Peer:
        """Return the one for tasks in place of a peer: always the same, so that it can be found in a set."""
        if peer._for_tasks is None:
            peer._for_tasks = cls(peer.info, peer._link)
        return peer._for_tasks

    async def call(self, request: msgspec.Struct, timeout: float = 30.0) -> Any:  # type: ignore[override]  # noqa: ASYNC109
        """See `Peer.call`. The call is cancelled with the task that awaits it."""
        return await outcome(self._link.call(request, timeout))

    async def drain(self) -> None:  # type: ignore[override]
        """See `Peer.drain`."""
        await outcome(self._link.drain())

    def stream_call(self, request: StreamedRequest[R], timeout: float | None = 30.0) -> StreamedReply[R]:
        """See `Peer.stream_call`. The items are iterated over in a task."""
        return TaskStreamedReply.of(super().stream_call(request, timeout))


class TaskStreamedReply(StreamedReply[R]):
    """A `StreamedReply` that is iterated over in a task."""

    @classmethod
    def of(cls, reply: StreamedReply[R]) -> TaskStreamedReply[R]:
        """Return the one for tasks in place of one that isn't begun."""
        assert reply._find_link is not None, "it is begun"
        return cls(reply._clock, reply._find_link, reply._request, reply._timeout)

    async def _next_batch(self) -> R:
        return await in_task(super()._next_batch())
