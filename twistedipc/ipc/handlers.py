"""
What you write to answer an interface: a `Service`, with its handlers and receivers. `listen` makes it available at an
endpoint; `dial` takes one too, for what the other side asks.

::

    class Calculator(Service):
        interface = CALCULATOR

        @handles(Add)
        def add(self, request: Add, peer: Peer) -> Sum:
            return Sum(request.a + request.b)

        @handles(Note)
        async def note(self, message: Note, peer: Peer) -> None:
            await self.write_down(message.text)

        @receives(EVENTS)
        def events(self, stream: StreamId) -> Receiver[Event]:
            return EventFile(self.folder / stream.peer)

Whether each message, request and stream of the interface has its method is checked when the class is made, not when the
first of them comes. That the methods fit, by what they are given and return, is for a type checker.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar, Literal, Protocol, TypeVar, overload

import msgspec

from twistedipc.ipc.connections.peer import Complaint, Peer
from twistedipc.ipc.streams.receiver import Receiver, StreamId
from twistedipc.ipc.wire.blob import may_have_blobs
from twistedipc.ipc.wire.errors import BadService
from twistedipc.ipc.wire.interface import Interface, StreamOf

_S = TypeVar("_S")
_M = TypeVar("_M", bound=msgspec.Struct)
_M_co = TypeVar("_M_co", covariant=True)
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)
_T = TypeVar("_T", bound=msgspec.Struct)

_HANDLED = "_twistedipc_handles"
_IN_THREAD = "_twistedipc_in_thread"
_RECEIVED = "_twistedipc_receives"

#: A handler, and what makes a receiver, as type checkers see them.
Handler = Callable[[_S, _M, Peer], _R]
MakesReceiver = Callable[[_S, StreamId], Receiver[_T]]


class _RequestClass(Protocol[_M_co, _R_co]):
    """A class of requests, for type checkers: what it makes, and what the reply to that is."""

    def __call__(self, *args: Any, **kwargs: Any) -> _M_co: ...

    def _reply(self) -> _R_co: ...


class _StreamedClass(Protocol[_M_co, _R_co]):
    """A class of requests that are answered by items, in the same way."""

    def __call__(self, *args: Any, **kwargs: Any) -> _M_co: ...

    def _items(self) -> _R_co: ...


@overload
def handles(
    kind: _RequestClass[_M, _R], *, thread: Literal[False] = False
) -> Callable[[Handler[_S, _M, _R | Awaitable[_R]]], Handler[_S, _M, _R | Awaitable[_R]]]: ...


@overload
def handles(
    kind: _RequestClass[_M, _R], *, thread: Literal[True]
) -> Callable[[Handler[_S, _M, _R]], Handler[_S, _M, _R]]: ...


@overload
def handles(
    kind: _StreamedClass[_M, _R],
) -> Callable[[Handler[_S, _M, AsyncIterator[_R]]], Handler[_S, _M, AsyncIterator[_R]]]: ...


@overload
def handles(
    kind: type[_M], *, thread: Literal[False] = False
) -> Callable[[Handler[_S, _M, Awaitable[None] | None]], Handler[_S, _M, Awaitable[None] | None]]: ...


@overload
def handles(kind: type[_M], *, thread: Literal[True]) -> Callable[[Handler[_S, _M, None]], Handler[_S, _M, None]]: ...


def handles(kind: Any, *, thread: bool = False) -> Callable[[Any], Any]:
    """
    Mark a method of a `Service` as the handler of messages, or requests, of this class. The method is called with the
    message and the `Peer` that sent it. The method may be ``async``, or return a Deferred.

    A handler of a request returns the reply, of the type that the request's class says, or raises `CallFailed` to
    answer by an error. Any other exception is logged, and the peer gets the code ``internal`` and no more. The handler
    is cancelled when the peer doesn't wait any longer or the link ends. 1024 calls of a peer may wait for their
    answers; more are answered by the code ``busy``.

    A handler of a `StreamedRequest` is an async generator (or returns another async iterator), whose items are sent as
    they come. It waits at its ``yield`` while the caller doesn't keep up. When the caller leaves its loop, the
    generator is closed: at a ``yield`` by GeneratorExit, and where it awaits something by a CancelledError.

    A handler of a one-way message returns nothing. If the handler raises, that is logged here and, briefly, at the
    peer; the link goes on. The code and message of a `CallFailed` are logged at the peer. Only a `RemoteProtocolError`
    ends the link, with its code. All this holds for ``async`` handlers too. While 256 ``async`` handlers of messages
    are at work for a peer, its link isn't read.

    A handler that blocks (a database, a file, ``subprocess.run``, a long calculation) keeps its whole process waiting:
    the other calls and links, timers, heartbeats. If it takes longer than a second, the log names it; past the peers'
    ``dead_after`` (24 seconds) they give their links up.

    :param thread: whether the method, an ordinary one, is called in a thread, where it may block: one of the reactor's
        pool (10 of them by default, ``reactor.suggestThreadPoolSize``), or of the loop's executor with
        `twistedipc.ipc.aio`. Such handlers run side by side, so what they share needs locks, and they mustn't use
        ``peer``. A call that is cancelled before there is a thread for it isn't begun. One that is under way can't be
        stopped: its result is dropped
    """

    def marked(method: Any) -> Any:
        setattr(method, _HANDLED, kind)
        setattr(method, _IN_THREAD, thread)
        return method

    return marked


def receives(*streams: StreamOf[_T]) -> Callable[[MakesReceiver[_S, _T]], MakesReceiver[_S, _T]]:
    """
    Mark a method of a `Service` as the one that returns the `Receiver` of these streams, given the `StreamId`. It is
    called when a stream is opened on a link, and not again as long as the stream's sender has a link.

    `RefuseStream`, raised there, refuses the stream at its sender. Any other exception is logged, and the sender tries
    again after 5 seconds. Neither touches anything else on the link.
    """

    def marked(method: MakesReceiver[_S, _T]) -> MakesReceiver[_S, _T]:
        setattr(method, _RECEIVED, streams)
        return method

    return marked


class Service:
    """
    The base of the classes that answer an interface. One instance answers all peers; `listen` makes it available at an
    endpoint. Each message and request of the interface has a method that is marked by `handles`, and each stream one
    that is marked by `receives`. ::

        class Calculator(Service):
            interface = CALCULATOR

            @handles(Add)
            def add(self, request: Add, peer: Peer) -> Sum:
                return Sum(request.a + request.b)

    When the class is made, `BadService` is raised if a method is missing, if two handle one class or receive one
    stream, or if one is for a class or a stream that isn't of the interface. A class without an ``interface`` is a base
    for others.
    """

    interface: ClassVar[Interface]  # what it answers
    _handlers: ClassVar[dict[type[msgspec.Struct], Callable[[Any, Any, Peer], Any]]] = {}
    _in_threads: ClassVar[frozenset[type[msgspec.Struct]]] = frozenset()  # those that are called in threads
    _receivers: ClassVar[dict[StreamOf[Any], Callable[[Any, StreamId], Receiver[Any]]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        handlers = _marked(cls, lambda method: (kind,) if (kind := getattr(method, _HANDLED, None)) else ())
        receivers = _marked(cls, lambda method: getattr(method, _RECEIVED, ()))
        # What a subclass overrides without the decorator is still its method.
        cls._handlers = {kind: getattr(cls, name) for kind, (name, _) in handlers.items()}
        cls._receivers = {stream: getattr(cls, name) for stream, (name, _) in receivers.items()}
        marked = {kind: method for kind, (_, method) in handlers.items()}
        cls._in_threads = frozenset(kind for kind in marked if getattr(marked[kind], _IN_THREAD, False))
        for kind in cls._in_threads:
            if inspect.iscoroutinefunction(method := cls._handlers[kind]) or inspect.isasyncgenfunction(method):
                raise BadService(f"{method.__qualname__} is async: it can't be called in a thread")
            if may_have_blobs(kind):
                raise BadService(f"{method.__qualname__} is given a Blob, which can't be read in a thread")
        interface = getattr(cls, "interface", None)
        if interface is not None:  # else it is a base for others
            _check_whole(cls, interface)

    def _receiver(self, stream: StreamId) -> Receiver[Any]:
        """Return the receiver of a stream of the interface. Internal to the library."""
        return type(self)._receivers[self.interface.streams[stream.stream]](self, stream)

    def peer_ready(self, peer: Peer) -> None:
        """Called when a peer has linked, before anything from the peer arrives. Does nothing unless overridden."""

    def complaint_received(self, peer: Peer, complaint: Complaint) -> None:
        """
        Called when the peer says that it hasn't taken a one-way message, or a reply, that this side has sent. That is
        logged as well, at the level ``warn``. Does nothing unless overridden. What it raises is logged.
        """

    def peer_lost(self, peer: Peer, reason: str) -> None:
        """
        Called when a peer's link has ended: nothing comes from the peer any more. ``reason`` is a text for logs. Does
        nothing unless overridden.
        """


def _check_whole(cls: type[Service], interface: Interface) -> None:
    """Raise `BadService` unless the class has a method for each part of its interface, and for nothing else."""
    name, streams = cls.__qualname__, tuple(interface.streams.values())
    if missing := [_named(each) for each in interface.kinds if each not in cls._handlers]:
        raise BadService(f"{name} has no handler for {', '.join(missing)}: mark one by @handles(…)")
    if missing := [_named(each) for each in streams if each not in cls._receivers]:
        raise BadService(f"{name} has no receiver for {', '.join(missing)}: mark one by @receives(…)")
    foreign = [_named(each) for each in cls._handlers if each not in interface.kinds]
    foreign += [_named(each) for each in cls._receivers if each not in streams]
    if foreign:
        raise BadService(f"{name} handles {', '.join(foreign)}, not of {interface.name}'s interface")


def _marked(cls: type[Service], marks: Callable[[Any], tuple[Any, ...]]) -> dict[Any, tuple[str, Any]]:
    """Return the names of the marked methods and these, by their marks. Raise `BadService` if two have one mark."""
    found: dict[Any, tuple[str, Any]] = {}
    # From the most basic class on, so that a subclass's method replaces its parent's.
    for base in reversed(cls.__mro__):
        for name, method in vars(base).items():
            for mark in marks(method):
                other, before = found.get(mark, (name, None))
                if other != name and getattr(cls, other, None) is before:
                    raise BadService(f"{cls.__qualname__}: {other} and {name} both handle {_named(mark)}")
                found[mark] = (name, method)
    return found


def _named(kind: type[msgspec.Struct] | StreamOf[Any]) -> str:
    return f"the stream {kind.name}" if isinstance(kind, StreamOf) else kind.__qualname__
