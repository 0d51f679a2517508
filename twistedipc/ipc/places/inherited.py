"""
Endpoints that this process has inherited: descriptors that its parent has handed over, standard input and output,
sockets by systemd. Used by ``remote`` and ``listen``.

- ``fd:3`` is descriptor 3, ``fd:$NAME`` the one whose number is in the environment variable ``NAME``: one end of a
  connection (of a `socket.socketpair`, say), or, to listen, a listening socket. The variable is taken out of the
  environment and the number is closed: what is used isn't passed on to children, and can't be used twice.
- ``stdio:`` is standard input and output, if they are pipes or sockets: see `take_stdio`.
- ``systemd:`` is the one socket that systemd has handed over by its socket activation, ``systemd:NAME`` the one of this
  ``FileDescriptorName=``.

A connection comes from the parent, and is trusted as the parent is: it needs no key. A listening socket is met by
others, and what holds for ``unix:``, ``tcp:`` and ``tls:`` holds for it.
"""

from __future__ import annotations

import io
import ipaddress
import os
import socket
import stat
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedipc.ipc.places.endpoints import Address, LinkReactor, TLSFiles, for_tls
from twistedipc.ipc.places.pipes import PipeTransport
from twistedipc.ipc.wire.errors import BadEndpoint

#: Gives a protocol its connection.
Connect = Callable[[Protocol], None]

#: The first descriptor that systemd hands over.
_SYSTEMD_FIRST = 3

#: No unit hands over more.
_SYSTEMD_MOST = 1024

#: Connections that are accepted in one turn of the reactor.
_ACCEPTED_AT_ONCE = 64

#: Seconds until a connection is accepted again, where there was no descriptor for one.
_ACCEPT_AGAIN = 1.0


def inherited_connection(
    reactor: LinkReactor, address: Address, *, environment: MutableMapping[str, str] = os.environ
) -> Connect:
    """Return what connects a protocol to ``fd:`` or ``stdio:``. Raise `BadEndpoint` if there is no connection."""
    if address.kind == "stdio":
        return _pipes(reactor)
    inherited = _descriptor(address.name, environment)
    if _listens(inherited):
        inherited.close()
        raise BadEndpoint(f"fd:{address.name}: it is a listening socket: there is nobody to be dialled at it")
    return _connection(reactor, inherited)


class InheritedPlace:
    """
    An inherited place to listen at.

    :ivar is_single: it is one connection, and no other will come
    :ivar has_credentials: the socket is a UNIX socket, so that the kernel knows the user of each peer
    :raises BadEndpoint: it can't be listened there, or mustn't be without a key, or without TLS
    """

    def __init__(
        self,
        reactor: LinkReactor,
        address: Address,
        *,
        has_key: bool,
        tls: TLSFiles | None,
        environment: MutableMapping[str, str] = os.environ,
    ) -> None:
        self.has_credentials = False
        self.endpoint: IStreamServerEndpoint
        if address.kind == "stdio":
            self.is_single = True
            self.endpoint = _OneConnection(_pipes(reactor))
            return
        if address.kind == "systemd":
            text, inherited = f"systemd:{address.name}", _of_systemd(reactor, address.name, environment)
        else:
            text, inherited = f"fd:{address.name}", _descriptor(address.name, environment)
        self.is_single = not _listens(inherited)
        if self.is_single:
            self.endpoint = _OneConnection(_connection(reactor, inherited))
            return
        try:
            self.has_credentials = inherited.family == socket.AF_UNIX
            self.endpoint = _Accepted(reactor, inherited, _check_protection(reactor, text, inherited, has_key, tls))
        except BadEndpoint:
            inherited.close()
            raise


# -- standard input and output ---------------------------------------------------------------------------------------


def take_stdio() -> tuple[int, int]:
    """
    Take standard input and output for a link: two descriptors, to read from and to write to, which children don't
    inherit.

    From now on descriptor 0 is empty and descriptor 1 is standard error: whatever in this process, or started by it,
    prints to standard output, prints there, and not into the link.

    :raises BadEndpoint: they are neither pipes nor sockets (a terminal, a file), or were taken before
    """
    for descriptor, name in ((0, "input"), (1, "output")):
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            raise BadEndpoint(f"stdio: standard {name} is closed") from None
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            raise BadEndpoint(
                f"stdio: standard {name} is neither a pipe nor a socket: this is for a program that was started by "
                "another one which talks to it"
            )
    taken = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(nothing, 0)
        try:
            os.dup2(2, 1)
        except OSError:  # there is no standard error
            os.dup2(nothing, 1)
    finally:
        os.close(nothing)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Each line at once, as what is printed to standard error. What lies in its buffer goes there as well.
        sys.stdout.reconfigure(line_buffering=True)
    return taken


def _pipes(reactor: LinkReactor) -> Connect:
    reading, writing = take_stdio()

    def connect(protocol: Protocol) -> None:
        PipeTransport(reactor, protocol, reading, writing)

    return connect


# -- sockets ---------------------------------------------------------------------------------------------------------


def _descriptor(name: str, environment: MutableMapping[str, str]) -> socket.socket:
    """The socket of ``fd:``; its number is closed."""
    text, number = f"fd:{name}", name
    if name.startswith("$"):
        number = environment.pop(name[1:], "")
        if not number:
            raise BadEndpoint(f"{text}: the environment has no {name[1:]}")
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise BadEndpoint(f"{text}: {name[1:]} is {number!r}, which isn't a descriptor")
        text += f" ({number})"
    inherited = _socket(text, int(number))
    os.close(int(number))
    return inherited


def _of_systemd(reactor: LinkReactor, name: str, environment: MutableMapping[str, str]) -> socket.socket:
    """Return the socket of ``systemd:``. Systemd's variables name the process that they are for, so they stay."""
    text, count = f"systemd:{name}", environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") == str(os.getpid()) and count.isascii() and count.isdecimal():
        numbers = range(_SYSTEMD_FIRST, _SYSTEMD_FIRST + min(int(count), _SYSTEMD_MOST))
    elif environment is os.environ:
        numbers = _twisted_has(reactor)
    else:
        numbers = range(0)
    if not numbers:
        raise BadEndpoint(f"{text}: systemd has handed no socket over to this process (LISTEN_PID, LISTEN_FDS)")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found = [number for number, own in zip(numbers, names, strict=False) if own == name] if name else list(numbers)
    if len(found) != 1:
        wanted = f"{name!r}" if name else "one socket"
        raise BadEndpoint(f"{text}: {wanted} is wanted, and systemd has handed {len(numbers)} over: {', '.join(names)}")
    os.set_inheritable(found[0], False) if _is_open(found[0]) else None
    return _socket(text, found[0])


def _twisted_has(reactor: LinkReactor) -> range:
    """
    Return the descriptors of systemd's that Twisted has found in the environment. Twisted looks when its endpoints are
    imported, which is before this module can look, and removes the variables; only its own endpoints still know them.
    """
    from twisted.internet import endpoints

    for count in range(_SYSTEMD_MOST):
        try:
            endpoints.serverFromString(reactor, f"systemd:domain=UNIX:index={count}")
        except IndexError:
            return range(_SYSTEMD_FIRST, _SYSTEMD_FIRST + count)
    return range(_SYSTEMD_FIRST, _SYSTEMD_FIRST + _SYSTEMD_MOST)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _socket(text: str, number: int) -> socket.socket:
    """Duplicate a descriptor as a socket that isn't inherited. Raise `BadEndpoint` unless it is a stream socket."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            raise BadEndpoint(f"{text}: it isn't a socket")
        inherited = socket.socket(fileno=os.dup(number))
    except OSError as error:
        raise BadEndpoint(f"{text}: it can't be used: {error.strerror}") from None
    if inherited.type != socket.SOCK_STREAM or inherited.family not in (
        socket.AF_UNIX,
        socket.AF_INET,
        socket.AF_INET6,
    ):
        inherited.close()
        raise BadEndpoint(f"{text}: it is neither a UNIX nor a TCP stream socket")
    inherited.setblocking(False)
    return inherited


def _listens(inherited: socket.socket) -> bool:
    return bool(inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _check_protection(
    reactor: LinkReactor, text: str, listening: socket.socket, has_key: bool, tls: TLSFiles | None
) -> Callable[[IProtocolFactory], IProtocolFactory]:
    """What a listening socket demands; how the factory of its connections is to be wrapped."""
    if listening.family == socket.AF_UNIX:
        if not has_key and not hasattr(socket, "SO_PEERCRED"):
            raise BadEndpoint(f"{text}: this system doesn't tell who is at a UNIX socket, so a key is required")
        return lambda factory: factory
    if not has_key:
        raise BadEndpoint(f"{text}: a key is required at a TCP socket")
    if tls is not None and (tls.certificate is not None or tls.key is not None):
        wrapped: Callable[[IProtocolFactory], IProtocolFactory] = for_tls().server_factory(tls, reactor)
        return wrapped
    host = listening.getsockname()[0]
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise BadEndpoint(f"{text}: it listens at {host}, beyond this machine: without certificates it mustn't be used")
    return lambda factory: factory


class _ThisProtocol(ServerFactory[Protocol]):
    """`adoptStreamConnection` wants a factory; there is one protocol."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._protocol


def _connection(reactor: LinkReactor, inherited: socket.socket) -> Connect:
    def connect(protocol: Protocol) -> None:
        with inherited:
            try:
                reactor.adoptStreamConnection(inherited.fileno(), inherited.family, cast(Any, _ThisProtocol(protocol)))
            except OSError as error:
                raise BadEndpoint(f"the inherited connection can't be used: {error.strerror}") from None

    return connect


# -- as endpoints ----------------------------------------------------------------------------------------------------


@implementer(IStreamServerEndpoint)
class _OneConnection:
    """An endpoint whose only connection is there already."""

    def __init__(self, connect: Connect) -> None:
        self._connect: Connect | None = connect

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        connect, self._connect = self._connect, None
        if connect is None:
            return fail(BadEndpoint("the connection was used already"))
        protocol = cast(Any, factory).buildProtocol(UNIXAddress(None))
        connect(protocol)
        return succeed(cast(IListeningPort, _NoPort()))


@implementer(IListeningPort)
class _NoPort:
    """The port of a single connection: nothing more is accepted."""

    def startListening(self) -> None:
        """Do nothing: the connection is there already."""

    def stopListening(self) -> None:
        """Do nothing: the connection belongs to its protocol."""

    def getHost(self) -> IAddress:
        return UNIXAddress(None)


@implementer(IStreamServerEndpoint)
class _Accepted:
    """An endpoint at a socket that listens already."""

    def __init__(
        self,
        reactor: LinkReactor,
        listening: socket.socket,
        wrapped: Callable[[IProtocolFactory], IProtocolFactory],
    ) -> None:
        self._reactor = reactor
        self._listening: socket.socket | None = listening
        self._wrapped = wrapped

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        listening, self._listening = self._listening, None
        if listening is None:
            return fail(BadEndpoint("the socket was used already"))
        port = _Port(self._reactor, listening, self._wrapped(factory))
        port.startListening()
        return succeed(cast(IListeningPort, port))


@implementer(IListeningPort)
class _Port(FileDescriptor):
    """
    A port that accepts at an inherited socket. Twisted's own port would let every user connect to a UNIX socket that it
    adopts (by chmod), and would remove the socket at the end.
    """

    _log = Logger()

    def __init__(self, reactor: LinkReactor, listening: socket.socket, factory: IProtocolFactory) -> None:
        super().__init__(reactor)
        self._listening = listening
        self._factory = factory
        self._clock = reactor
        self._again: IDelayedCall | None = None
        self.connected = 1

    def fileno(self) -> int:
        return self._listening.fileno()

    def startListening(self) -> None:
        self._factory.doStart()
        self.startReading()

    def stopListening(self) -> Deferred[None]:
        self.connectionLost()
        return succeed(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.connected:
            super().connectionLost(reason)
            if self._again is not None:
                self._again.cancel()
            self._listening.close()
            self._factory.doStop()

    def _accept_again(self) -> None:
        self._again = None
        self.startReading()

    def getHost(self) -> IAddress:
        name = self._listening.getsockname()
        match self._listening.family:
            case socket.AF_INET:
                return IPv4Address("TCP", *name)
            case socket.AF_INET6:
                return IPv6Address("TCP", *name)
            case _:
                return UNIXAddress(name)

    def doRead(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # the peer was gone before its connection was accepted
            except OSError as error:
                self._log.warn("no connection can be accepted for now: {reason}", reason=error.strerror)
                self.stopReading()
                self._again = self._clock.callLater(_ACCEPT_AGAIN, self._accept_again)
                return
            with accepted:
                accepted.setblocking(False)
                try:
                    self._clock.adoptStreamConnection(accepted.fileno(), accepted.family, cast(Any, self._factory))
                except OSError as error:
                    self._log.info("a connection was lost at once: {reason}", reason=error.strerror)
