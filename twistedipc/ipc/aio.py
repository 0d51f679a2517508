"""
The library for programs on asyncio: the same calls, streams and services, awaited in tasks.

::

    async def main():
        async with aio.dial("unix:calculator.sock", CALCULATOR) as calculator:
            total = await calculator.call(Add(a=2, b=3), timeout=5)      # a Sum

    asyncio.run(main())

All of it runs on the loop that runs when `dial` or `listen` is called: one of asyncio's own, without a reactor; or the
one of Twisted's asyncio reactor, where Deferreds and tasks go side by side. It is the same link as in
`twistedipc.ipc`, with the same TLS (not asyncio's), so either side may be a program of either kind.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar

import msgspec

from twistedipc.ipc import broadcast, jsonrpc, plain
from twistedipc.ipc import remote as remotes
from twistedipc.ipc import service as services
from twistedipc.ipc.connections.peer import Complaint, Peer
from twistedipc.ipc.connections.streamed import StreamedReply
from twistedipc.ipc.connections.traffic import Queues, Traffic, tell
from twistedipc.ipc.futures import TaskPeer, TaskStreamedReply, in_task, outcome
from twistedipc.ipc.places.child import ChildExit
from twistedipc.ipc.places.loop import LoopReactor
from twistedipc.ipc.remote import R, T
from twistedipc.ipc.spawn import Spawned as Child
from twistedipc.ipc.spawn import spawn as start
from twistedipc.ipc.streams import sender
from twistedipc.ipc.streams.outbox import Outbox
from twistedipc.ipc.wire.interface import Request, StreamedRequest, StreamOf

P = ParamSpec("P")
F = TypeVar("F")
G = TypeVar("G")


def _on_the_loop(
    make: Callable[Concatenate[Any, P], F],
) -> Callable[[Callable[[F], G]], Callable[P, G]]:
    """Decorate what makes the face here of what ``make`` returns there: it takes the parameters after the reactor."""

    def decorated(face: Callable[[F], G]) -> Callable[P, G]:
        @functools.wraps(face)
        def made(*args: P.args, **kwargs: P.kwargs) -> G:
            return face(make(LoopReactor(asyncio.get_running_loop()), *args, **kwargs))

        return made

    return decorated


class Remote:
    """
    A service, over one link after another. Made by `dial`. Leaving ``async with`` closes it. The methods are those of
    `twistedipc.ipc.Remote`, and raise what its Deferreds fail with.
    """

    #: called with a `Complaint` each time that the service hasn't taken a one-way message; None. It is logged, too
    when_complained: Callable[[Complaint], None] | None = None

    def __init__(self, remote: remotes.Remote) -> None:
        self._remote = remote
        #: called with the `Peer` when a link was made; None
        self.on_link: Callable[[Peer], object] | None = None
        #: called with the `Peer`, and the reason as a text for logs, when a link has ended; None
        self.on_loss: Callable[[Peer, str], object] | None = None
        remote.on_link = lambda peer: tell(self.on_link, TaskPeer.of(peer))
        remote.on_loss = lambda peer, reason: tell(self.on_loss, TaskPeer.of(peer), reason)
        remote.when_complained = lambda complaint: tell(self.when_complained, complaint)

    @property
    def traffic(self) -> Traffic:
        """What has gone over the links."""
        return self._remote.traffic

    @property
    def queues(self) -> Queues:
        """What waits just now, for a link or on it."""
        return self._remote.queues

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def call(self, request: Request[R], timeout: float = 30.0) -> R:  # noqa: ASYNC109  (it goes to the peer's side too)
        """
        Call the service, and wait for the reply for at most ``timeout`` seconds. If the task is cancelled, the service
        drops the call. Raises as `Remote.call` says.
        """
        return await outcome(self._remote.call(request, timeout))

    def stream_call(self, request: StreamedRequest[R], timeout: float | None = 30.0) -> StreamedReply[R]:
        """Call the service for items: ``async for row in remote.stream_call(Query(…))``. See `Remote.stream_call`."""
        return TaskStreamedReply.of(self._remote.stream_call(request, timeout))

    def send(self, message: msgspec.Struct) -> None:
        """Send a one-way message, or keep it for the next link. Never waits. See `Remote.send`."""
        self._remote.send(message)

    def stream(self, stream: StreamOf[T], outbox: Outbox | None = None) -> Stream[T]:
        """Return a reliable stream of the service's interface. See `Remote.stream`."""
        return Stream(self._remote.stream(stream, outbox))

    async def drain(self) -> None:
        """Wait until the service keeps up with what this side sends. See `Remote.drain`."""
        await in_task(self._remote.drain())

    async def linked(self, timeout: float | None = None) -> Peer:  # noqa: ASYNC109
        """
        Wait until there is a link, for at most ``timeout`` seconds, and return the peer, whose `Peer.call` and
        `Peer.drain` are to be awaited in a task. See `Remote.linked`.
        """
        return TaskPeer.of(await outcome(self._remote.linked(timeout)))

    @property
    def peer(self) -> Peer | None:
        """The service on the link of now; None while there is none."""
        return None if self._remote.peer is None else TaskPeer.of(self._remote.peer)

    async def close(self) -> None:
        """End the link, and dial no more. See `Remote.close`."""
        await outcome(self._remote.close())

    async def closed(self) -> str:
        """Wait until there is no link and won't be another, and return the reason."""
        return await outcome(self._remote.closed())


class Spawned(Remote):
    """A child that is linked with: a `Remote` over one link. Made by `spawn`. Leaving ``async with`` closes it."""

    def __init__(self, child: Child) -> None:
        super().__init__(child)
        self._child = child

    @property
    def pid(self) -> int | None:
        """The child's process id, while it lives."""
        return self._child.pid

    def signal(self, number: int) -> None:
        """Send the child a signal. Nothing happens if it has exited."""
        self._child.signal(number)

    async def ended(self) -> ChildExit:
        """Wait until the child has exited and all its messages and output were delivered."""
        return await outcome(self._child.ended())


class Stream(Generic[T]):
    """The sender's end of one stream: `twistedipc.ipc.Stream`, to be awaited in tasks."""

    def __init__(self, stream: sender.Stream[T]) -> None:
        #: the stream itself, with its numbers and its `refusal`
        self.stream = stream

    async def write(self, item: T) -> int:
        """Add an item to the outbox, and return its number. Wait while the outbox is full."""
        return await in_task(self.stream.write(item))

    async def flushed(self) -> None:
        """Wait until all that was written so far is acknowledged."""
        await outcome(self.stream.flushed())

    def close(self) -> None:
        """Send no more, and close the outbox. Idempotent."""
        self.stream.close()


class Served:
    """One of the services that listen at an endpoint. The methods are those of `twistedipc.ipc.Served`."""

    def __init__(self, served: services.Served) -> None:
        self._served = served
        #: called with the `Peer` when a link was made; None
        self.on_link: Callable[[Peer], object] | None = None
        #: called with the `Peer`, and the reason as a text for logs, when a link has ended; None
        self.on_loss: Callable[[Peer, str], object] | None = None
        served.on_link = lambda peer: tell(self.on_link, peer)
        served.on_loss = lambda peer, reason: tell(self.on_loss, peer, reason)

    @property
    def traffic(self) -> Traffic:
        """What has gone over the links."""
        return self._served.traffic

    @property
    def queues(self) -> Queues:
        """What waits just now on all links."""
        return self._served.queues

    @property
    def peers(self) -> set[Peer]:
        """The peers that are linked now, whose `Peer.call` and `Peer.drain` are to be awaited in a task."""
        return self._served.peers

    def stream(self, peer: str, stream: StreamOf[T], outbox: Outbox | None = None) -> Stream[T]:
        """Return a reliable stream to the peer of this name. See `Served.stream`."""
        return Stream(self._served.stream(peer, stream, outbox))


class Listening:
    """
    A service that listens at an endpoint. Made by `listen`. Leaving ``async with`` closes it. The methods are those of
    `twistedipc.ipc.Listening`.
    """

    def __init__(self, listening: services.Listening) -> None:
        self._listening = listening
        #: called with the `Peer` when a link was made; None
        self.on_link: Callable[[Peer], object] | None = None
        #: called with the `Peer`, and the reason as a text for logs, when a link has ended; None
        self.on_loss: Callable[[Peer, str], object] | None = None
        listening.on_link = lambda peer: tell(self.on_link, peer)
        listening.on_loss = lambda peer, reason: tell(self.on_loss, peer, reason)
        #: the services, each a `Served`, by the names of their interfaces
        self.services = {name: Served(served) for name, served in listening.services.items()}

    @property
    def traffic(self) -> Traffic:
        """What has gone over the links."""
        return self._listening.traffic

    @property
    def queues(self) -> Queues:
        """What waits just now on all links."""
        return self._listening.queues

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def peers(self) -> set[Peer]:
        """The peers that are linked now, whose `Peer.call` and `Peer.drain` are to be awaited in a task."""
        return self._listening.peers

    def stream(self, peer: str, stream: StreamOf[T], outbox: Outbox | None = None) -> Stream[T]:
        """Return a reliable stream to the peer of this name. See `Listening.stream`."""
        return Stream(self._listening.stream(peer, stream, outbox))

    @property
    def port(self) -> int:
        """The TCP port, which the system has chosen if the endpoint's was 0."""
        return self._listening.port

    async def close(self) -> None:
        """End all links, and wait until they are closed."""
        await outcome(self._listening.close())

    async def closed(self) -> str:
        """Wait until no peer can link any more, and return the reason."""
        return await outcome(self._listening.closed())


@_on_the_loop(remotes.dial)
def dial(remote: remotes.Remote) -> Remote:
    """
    Stay linked with the service at ``endpoint`` until `Remote.close`. Takes what `twistedipc.ipc.dial` takes after the
    reactor, and raises what it raises. RuntimeError if no loop runs.
    """
    return Remote(remote)


@_on_the_loop(services.listen)
async def listen(listening: Coroutine[Any, Any, services.Listening]) -> Listening:
    """
    Listen at ``endpoint`` for peers of ``service``, or of several services. Takes what `twistedipc.ipc.listen` takes
    after the reactor, and raises what it raises. Handlers, and receivers of streams, that are ``async`` run in tasks of
    the loop: they may await what is asyncio's, and Deferreds too.
    """
    return Listening(await listening)


@_on_the_loop(plain.dial_plain)
def dial_plain(remote: remotes.Remote) -> Remote:
    """
    Stay connected with a server of lines of JSON at ``endpoint``. Takes what `twistedipc.ipc.dial_plain` takes after
    the reactor, and raises what it raises.
    """
    return Remote(remote)


@_on_the_loop(plain.listen_plain)
async def listen_plain(listening: Coroutine[Any, Any, services.Listening]) -> Listening:
    """
    Listen at ``endpoint`` for tools that speak the plain profile. Takes what `twistedipc.ipc.listen_plain` takes after
    the reactor, and raises what it raises.
    """
    return Listening(await listening)


@_on_the_loop(jsonrpc.dial_jsonrpc)
def dial_jsonrpc(remote: remotes.Remote) -> Remote:
    """
    Stay connected with a server of JSON-RPC 2.0 at ``endpoint``. Takes what `twistedipc.ipc.dial_jsonrpc` takes after
    the reactor, and raises what it raises.
    """
    return Remote(remote)


@_on_the_loop(jsonrpc.listen_jsonrpc)
async def listen_jsonrpc(listening: Coroutine[Any, Any, services.Listening]) -> Listening:
    """
    Listen at ``endpoint`` for peers that speak JSON-RPC 2.0. Takes what `twistedipc.ipc.listen_jsonrpc` takes after the
    reactor, and raises what it raises.
    """
    return Listening(await listening)


@_on_the_loop(start)
def spawn(child: Child) -> Spawned:
    """
    Start a program, and link with it by its standard input and output. Takes what `twistedipc.ipc.spawn` takes after
    the reactor, and raises what it raises.
    """
    return Spawned(child)


@_on_the_loop(jsonrpc.spawn_jsonrpc)
def spawn_jsonrpc(child: Child) -> Spawned:
    """
    Start a program, and speak JSON-RPC 2.0 with it by its standard input and output. Takes what
    `twistedipc.ipc.spawn_jsonrpc` takes after the reactor, and raises what it raises.
    """
    return Spawned(child)


async def send_to(
    peers: Iterable[Peer], message: msgspec.Struct, slow: Literal["drop", "wait", "close"] = "drop"
) -> int:
    """Send a one-way message to many peers. Return to how many it was sent. See `send_to` of `twistedipc.ipc`."""
    return await outcome(broadcast.send_to(peers, message, slow))
