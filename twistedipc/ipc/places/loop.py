"""
asyncio's loop with the faces of a reactor that links need: `LoopReactor`. Used by ``aio`` and ``threads``.

Links stand on Twisted's transports, which ask little of a reactor: to watch descriptors, and to call something later.
asyncio's loop can do both, so that the same links, with the same TLS, run on it. No reactor is installed or imported,
and where one runs on the same loop (Twisted's asyncio reactor), neither knows of the other.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import (
    AlreadyCalled,
    AlreadyCancelled,
    ConnectError,
    ConnectionDone,
    ConnectionFdescWentAway,
    DNSLookupError,
)
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableDescriptor,
    IReadDescriptor,
    IStreamClientEndpoint,
    IWriteDescriptor,
)
from twisted.internet.protocol import ClientFactory, ServerFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

#: Connections that wait to be accepted.
_BACKLOG = 50

#: Seconds between two looks at whether a child has ended, where the system can't tell.
_CHILD_LOOK = 0.05


@implementer(IDelayedCall)
class _Later:
    """A function that the loop calls at a time."""

    __slots__ = ("_arguments", "_at", "_function", "_handle", "_loop", "_over")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, function: Callable[..., object], arguments: Any
    ) -> None:
        self._loop = loop
        self._function = function
        self._arguments = arguments
        self._over = ""  # why it isn't called any more
        self._set(seconds)

    def _set(self, seconds: float) -> None:
        self._at = monotonic() + seconds
        self._handle: asyncio.Handle
        if seconds <= 0:
            self._handle = self._loop.call_soon(self._call)
        else:
            self._handle = self._loop.call_later(seconds, self._call)

    def _call(self) -> None:
        self._over = "called"
        self._function(*self._arguments)

    def getTime(self) -> float:
        """See `IDelayedCall`."""
        return self._at

    def cancel(self) -> None:
        """See `IDelayedCall`."""
        self._check()
        self._over = "cancelled"
        self._handle.cancel()

    def delay(self, secondsLater: float) -> None:
        """See `IDelayedCall`."""
        self.reset(self._at - monotonic() + secondsLater)

    def reset(self, secondsFromNow: float) -> None:
        """See `IDelayedCall`."""
        self._check()
        self._handle.cancel()
        self._set(secondsFromNow)

    def active(self) -> bool:
        """See `IDelayedCall`."""
        return not self._over

    def _check(self) -> None:
        if self._over:
            raise AlreadyCalled() if self._over == "called" else AlreadyCancelled()


@implementer(IStreamClientEndpoint)
class HostEndpoint:
    """
    A host's port, dialled from a loop. Twisted's `HostnameEndpoint` would import a reactor, and so install one.

    :param timeout: seconds for a connection to each of the host's addresses
    """

    def __init__(self, reactor: LoopReactor, host: str, port: int, timeout: float) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """See `IStreamClientEndpoint`. The host's addresses are tried one after the other."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        reactor: Any = self._reactor
        looking = self._reactor.loop.create_task(self._look_up())
        failure: Exception = DNSLookupError(f"no results for hostname lookup: {self._host}")
        for address in await Deferred.fromFuture(looking):
            endpoint = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            try:
                return await endpoint(reactor, address, self._port, int(self._timeout)).connect(factory)
            except ConnectError as error:
                failure = error
        raise failure

    async def _look_up(self) -> list[str]:
        try:
            found = await self._reactor.loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError:
            return []
        return [str(address[0]) for family, _, _, _, address in found if family in (socket.AF_INET, socket.AF_INET6)]


class _Threads:
    """The threads of the loop's executor, as the pool of a reactor."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], object] | None, func: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        """See `twisted.python.threadpool.ThreadPool`. ``onResult`` is called in the thread."""

        def work() -> None:
            success, result = True, None
            try:
                result = func(*args, **kw)
            except BaseException:
                success, result = False, Failure()
            if onResult is not None:
                onResult(success, result)

        self._loop.run_in_executor(None, work)


class LoopReactor:
    """
    What links need of a reactor, on a loop of asyncio's: `LinkReactor`, threads and processes. To be used in the loop's
    thread.

    It never runs or stops anything, and owns nothing: several on one loop don't get in each other's way. The loop must
    be able to watch descriptors: all but Windows' proactor can.
    """

    _log = Logger()
    seconds = staticmethod(monotonic)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        #: by what is watched: the number of its descriptor, which it may have closed since
        self._readers: dict[IReadDescriptor, int] = {}
        self._writers: dict[IWriteDescriptor, int] = {}
        self.callFromThread = loop.call_soon_threadsafe
        self._threads = _Threads(loop)

    # -- time and threads --------------------------------------------------------------------------------------------

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any) -> IDelayedCall:
        """See `IReactorTime`."""
        return _Later(self.loop, delay, callable, args)

    def getThreadPool(self) -> Any:
        """Return the loop's executor, as a pool for `deferToThreadPool`."""
        return self._threads

    # -- processes ---------------------------------------------------------------------------------------------------

    def spawnProcess(
        self,
        processProtocol: Any,
        executable: str,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        path: str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        usePTY: bool = False,
        childFDs: Mapping[int, int | str] | None = None,
    ) -> Any:
        """See `IReactorProcess`. The loop watches for the child's end; nothing is done about SIGCHLD."""
        from twisted.internet.process import Process

        reactor: Any = self
        child: Any = Process(reactor, executable, args, env, path, processProtocol, uid, gid, childFDs)
        self._watch_for_end(child)
        return child

    def _watch_for_end(self, child: Any) -> None:
        try:
            number = os.pidfd_open(child.pid)
        except (AttributeError, OSError):  # an old kernel, or another system
            self.loop.call_later(_CHILD_LOOK, self._look_for_end, child)
            return

        def ended() -> None:
            self.loop.remove_reader(number)
            os.close(number)
            if child.pid is not None:  # a reactor on the same loop may have noticed it first
                child.reapProcess()

        self.loop.add_reader(number, ended)

    def _look_for_end(self, child: Any) -> None:
        if child.pid is not None:
            child.reapProcess()
        if child.pid is not None:
            self.loop.call_later(_CHILD_LOOK, self._look_for_end, child)

    # -- descriptors -------------------------------------------------------------------------------------------------

    def addReader(self, reader: IReadDescriptor) -> None:
        """See `IReactorFDSet`."""
        if reader not in self._readers:
            number = reader.fileno()
            self.loop.add_reader(number, self._is_ready, reader, reader.doRead, True)
            self._readers[reader] = number

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """See `IReactorFDSet`."""
        if writer not in self._writers:
            number = writer.fileno()
            self.loop.add_writer(number, self._is_ready, writer, writer.doWrite, False)
            self._writers[writer] = number

    def removeReader(self, reader: IReadDescriptor) -> None:
        """See `IReactorFDSet`."""
        if (number := self._readers.pop(reader, None)) is not None and not self.loop.is_closed():
            self.loop.remove_reader(number)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """See `IReactorFDSet`."""
        if (number := self._writers.pop(writer, None)) is not None and not self.loop.is_closed():
            self.loop.remove_writer(number)

    def _is_ready(self, descriptor: Any, act: Callable[[], Any], is_read: bool) -> None:
        """Read, or write, and act on what came of it: the reason if that was the end of the connection."""
        try:
            why = act() if descriptor.fileno() != -1 else ConnectionFdescWentAway("it is closed already")
        except Exception as error:
            self._log.failure("a connection failed inside")
            why = error
        if not why:
            return
        self.removeReader(descriptor)
        reason = Failure(why if isinstance(why, BaseException) else why())
        if is_read and reason.check(ConnectionDone) and IHalfCloseableDescriptor.providedBy(descriptor):
            descriptor.readConnectionLost(reason)
        else:
            self.removeWriter(descriptor)
            descriptor.connectionLost(reason)

    # -- connections -------------------------------------------------------------------------------------------------

    def connectUNIX(self, address: str, factory: ClientFactory[Any], timeout: float = 30, checkPID: int = 0) -> Any:
        """See `IReactorUNIX`."""
        connector = unix.Connector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = _BACKLOG, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        """See `IReactorUNIX`."""
        port = unix.Port(cast(Any, address), factory, backlog, mode, self, wantPID)
        port.startListening()
        return port

    def connectTCP(
        self, host: str, port: int, factory: ClientFactory[Any], timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """See `IReactorTCP`."""
        connector = tcp.Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenTCP(self, port: int, factory: Any, backlog: int = _BACKLOG, interface: str = "") -> Any:
        """See `IReactorTCP`."""
        listening = tcp.Port(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def host_endpoint(self, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
        """Return the endpoint that connects to a host by its name."""
        return HostEndpoint(self, host, port, timeout)

    def connectSSL(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        contextFactory: Any,
        timeout: float = 30,
        bindAddress: Any = None,
    ) -> Any:
        """See `IReactorSSL`."""
        wrapped: Any = TLSMemoryBIOFactory(contextFactory, True, factory, cast(Any, self))
        return self.connectTCP(host, port, wrapped, timeout, bindAddress)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = _BACKLOG, interface: str = ""
    ) -> Any:
        """See `IReactorSSL`."""
        wrapped: Any = TLSMemoryBIOFactory(contextFactory, False, factory, cast(Any, self))
        return self.listenTCP(port, wrapped, backlog, interface)

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: ServerFactory[Any]) -> Any:
        """See `IReactorSocket`."""
        if addressFamily == socket.AF_UNIX:
            return unix.Server._fromConnectedSocket(fileDescriptor, factory, self)
        return tcp.Server._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)
