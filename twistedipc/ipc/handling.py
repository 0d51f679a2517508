"""
How the code of a service is run: `Handling` on a reactor of Twisted's, `TaskHandling` on a loop of asyncio's. Used by
``service`` and ``remote``.

All of it is measured, since a handler that takes its time keeps its whole process waiting: the other links, their
heartbeats, timers. One that has blocked for more than a second is logged by its name.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextvars import copy_context
from types import CoroutineType
from typing import Any, cast

import msgspec
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.futures import Steps, TaskPeer, TaskSteps, run_in_task
from twistedipc.ipc.streams.receiver import Receiver, StreamId

#: Seconds that a handler may take at a time before it is logged.
LONG = 1.0

Handler = Callable[[Any, Any, Peer], Any]


class Handling:
    """How handlers are called on a reactor of Twisted's."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        #: the time, in seconds
        self.seconds = clock.seconds

    def handlers(
        self, methods: dict[type[msgspec.Struct], Handler], in_threads: Collection[type[msgspec.Struct]]
    ) -> dict[type[msgspec.Struct], Handler]:
        """
        Return how each of a service's handlers is called: with the service, the message and the peer.

        :param in_threads: the messages whose handlers are called in threads
        """
        return {
            kind: self._threaded(method) if kind in in_threads else self._bind(method)
            for kind, method in methods.items()
        }

    def peer(self, peer: Peer) -> Peer:
        """Return what handlers are given for a peer."""
        return peer

    def receivers(self, make: Callable[[StreamId], Receiver[Any]]) -> Callable[[StreamId], Receiver[Any]]:
        """Return how the receivers of streams are made."""
        return lambda stream: _MeasuredReceiver(make(stream), self)

    def run(self, work: Coroutine[Any, Any, Any], name: str) -> Awaitable[Any]:
        """Return what is to be awaited for the result of a coroutine."""
        return Steps(work, self.seconds, LONG, lambda took: self.blocked(name, took))

    def sending(self, work: Coroutine[Any, Any, Any], name: str) -> Awaitable[Any]:
        """Return what is to be awaited to send the items that a handler gives: a generator runs in its sender."""
        return self.run(work, name)

    def blocked(self, name: str, seconds: float) -> None:
        """Log that code of a service has kept the process waiting."""
        self._log.warn(
            "{name} has blocked this process for {seconds:.1f} seconds: everything else in it waited, and links whose "
            "heartbeats don't come are given up. Let it wait by 'await', or in a thread: @handles(…, thread=True)",
            name=name,
            seconds=seconds,
        )

    # -- one handler

    def _bind(self, method: Handler) -> Handler:
        if not inspect.iscoroutinefunction(method):
            return method
        run, name = self.run, method.__qualname__
        return lambda service, message, peer: run(method(service, message, peer), name)

    def _threaded(self, method: Handler) -> Handler:
        return lambda service, message, peer: self._in_thread(method, service, message, peer)

    def _in_thread(self, method: Handler, *arguments: Any) -> Deferred[Any]:
        """Call a handler in a thread of the reactor's, unless it is cancelled before there is a thread for it."""
        threads: Any = getattr(self._clock, "getThreadPool", None)
        if threads is None:  # a clock, in a test: there are no threads
            return execute(method, *arguments)
        from twisted.internet.threads import deferToThreadPool

        result: Deferred[Any] = Deferred()

        context = copy_context()

        def work() -> Any:
            return None if result.called else context.run(method, *arguments)

        deferToThreadPool(cast(Any, self._clock), threads(), work).chainDeferred(result)
        return result


class TaskHandling(Handling):
    """How handlers are called on a loop of asyncio's: coroutines run in tasks, and may await what is asyncio's."""

    def __init__(self, reactor: IReactorTime, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reactor)
        self._loop = loop

    def peer(self, peer: Peer) -> Peer:
        return TaskPeer.of(peer)

    def run(self, work: Coroutine[Any, Any, Any], name: str) -> Awaitable[Any]:
        steps = TaskSteps(work, self.seconds, LONG, lambda took: self.blocked(name, took))
        return run_in_task(steps, self._loop)

    def sending(self, work: Coroutine[Any, Any, Any], name: str) -> Awaitable[Any]:
        return work  # each item is made in a task of its own, and measured there

    def _bind(self, method: Handler) -> Handler:
        bound = super()._bind(method)
        if bound is not method:
            return bound
        name = method.__qualname__

        def handle(service: Any, message: Any, peer: Peer) -> Any:
            return self.awaitable(method(service, message, peer), name)

        return handle

    def awaitable(self, result: Any, name: str) -> Any:
        """Return what a function has returned, so that it can be awaited if that is what is to be done with it."""
        if isinstance(result, CoroutineType):
            return self.run(result, name)
        if isinstance(result, AsyncIterator):
            return _TaskItems(result, self, name)
        return Deferred.fromFuture(result) if isinstance(result, asyncio.Future) else result


def handling_of(clock: IReactorTime) -> Handling:
    """Return how code is run on this reactor."""
    loop = getattr(clock, "loop", None)  # of a `LoopReactor`, which isn't imported without need
    return TaskHandling(clock, loop) if isinstance(loop, asyncio.AbstractEventLoop) else Handling(clock)


class _TaskItems:
    """The items of a streamed reply, each of which is made in a task."""

    def __init__(self, items: AsyncIterator[Any], handling: Handling, name: str) -> None:
        self._items = items
        self._handling = handling
        self._name = name
        # A task that is cancelled ends later, and until then the generator can't be closed.
        self._lock = asyncio.Lock()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        async def step() -> Any:
            async with self._lock:
                return await self._items.__anext__()

        return await self._handling.run(step(), self._name)

    async def aclose(self) -> None:
        close = getattr(self._items, "aclose", None)

        async def step() -> None:
            if close is not None:
                async with self._lock:
                    await close()

        await self._handling.run(step(), self._name)


class _MeasuredReceiver:
    """A receiver whose work is measured."""

    def __init__(self, receiver: Receiver[Any], handling: Handling) -> None:
        self._receiver = receiver
        self._handling = handling
        self._name = type(receiver).__qualname__

    def position(self) -> int | Awaitable[int]:
        position: int | Awaitable[int] = self._measured("position", self._receiver.position)
        return position

    def take(self, first: int, items: Sequence[Any]) -> Awaitable[None] | None:
        taken: Awaitable[None] | None = self._measured("take", self._receiver.take, first, items)
        return taken

    def _measured(self, what: str, method: Callable[..., Any], *arguments: Any) -> Any:
        handling, name = self._handling, f"{self._name}.{what}"
        began = handling.seconds()
        try:
            result = method(*arguments)
        finally:
            if (took := handling.seconds() - began) > LONG:
                handling.blocked(name, took)
        return handling.run(result, name) if isinstance(result, CoroutineType) else result
