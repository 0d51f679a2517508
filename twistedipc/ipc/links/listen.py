"""
The listening side of a link: a service that accepts connections at an endpoint. Used by composition roots.

Strangers can connect too, so what they can hold is bounded: connections that haven't authenticated are few, each for
a short time, and when there are too many the oldest one goes, so that a flood can't keep an honest dialler out.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol as TypingProtocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.ipc.connections.link import JSONLineProtocol
from twistedipc.ipc.connections.peer import ApplicationFactory
from twistedipc.ipc.places.credentials import refuse_strangers
from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles, parse_listened, server_endpoint
from twistedipc.ipc.places.inherited import InheritedPlace
from twistedipc.ipc.places.keys import make_nonce
from twistedipc.ipc.wire.errors import BadEndpoint, Code
from twistedipc.ipc.wire.settings import SessionSettings, Side

#: The reason given to a connection for which there is no room.
TOO_MANY = "there are too many connections"

#: How many connections may be unauthenticated at a time, and how many there may be at all.
UNAUTHENTICATED = 64
CONNECTIONS = 1024


def listen_for_links(
    reactor: LinkReactor,
    endpoint: str,
    settings: SessionSettings,
    application_factory: ApplicationFactory,
    *,
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    unauthenticated: int = UNAUTHENTICATED,
    connections: int = CONNECTIONS,
    over: Callable[[str], None] | None = None,
    nonce: Callable[[], str] = make_nonce,
) -> ListenService:
    """
    Make a service that accepts links at ``endpoint``.

    :param tls: for ``tls:`` endpoints
    :param uids: for ``unix:`` endpoints: the users that may connect; None means this process's own user and root
    :param unauthenticated: how many connections may not have authenticated yet
    :param connections: how many connections there may be
    :param over: where there is one connection and no other will come (``fd:``, ``stdio:``): called with the
        reason when it has ended
    :param nonce: gives the nonce of a connection's handshake: one that no connection had before
    :raises BadEndpoint: the endpoint can't be listened at
    """
    has_key = all(each.has_key for each in settings.services)
    place = place_of(reactor, endpoint, has_key=has_key, tls=tls, uids=uids)
    factory = _LinkFactory(reactor, settings, application_factory, unauthenticated, connections, place.check, nonce)
    factory.over = over if place.is_single else None
    return ListenService(place, factory)


class Accepted(TypingProtocol):
    """What this module needs of a connection that was accepted."""

    @property
    def transport(self) -> object: ...

    def close(self, code: str, reason: str, *, abrupt: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A place to listen at, and the users that may connect there."""

    text: str
    endpoint: IStreamServerEndpoint
    is_single: bool = False  # it is one connection, and no other will come
    path: str = ""  # of a UNIX socket that is made
    uids: frozenset[int] | None = None
    has_credentials: bool = False  # the kernel knows the user of each peer

    def check(self, connection: Accepted) -> str | None:
        """Return a reason to refuse a connection, or None."""
        return refuse_strangers(connection.transport, self.uids) if self.has_credentials else None


def place_of(
    reactor: LinkReactor, text: str, *, has_key: bool, tls: TLSFiles | None, uids: frozenset[int] | None
) -> Place:
    """Return the place that an endpoint string names. Raise `BadEndpoint` if it can't be listened at."""
    address = parse_listened(text, has_key=has_key)
    if address.is_inherited:
        inherited = InheritedPlace(reactor, address, has_key=has_key, tls=tls)
        return Place(
            text,
            inherited.endpoint,
            is_single=inherited.is_single,
            uids=uids,
            has_credentials=inherited.has_credentials,
        )
    is_unix = address.kind == "unix"
    return Place(text, server_endpoint(reactor, address, tls), path=address.path, uids=uids, has_credentials=is_unix)


class ListenService(Service):
    """Accepts connections, from `startService` until the Deferred that `stopService` returns has fired."""

    def __init__(self, place: Place, factory: Connections) -> None:
        self._place = place
        self._factory = factory
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """
        Listen.

        :raises BadEndpoint: a process listens there already, or the endpoint can't be listened at
        """
        super().startService()
        if self._place.path:
            _remove_stale_socket(self._place.text, self._place.path)
        outcome: list[IListeningPort | Failure] = []
        # All these endpoints listen at once, or fail at once.
        self._place.endpoint.listen(self._factory).addBoth(outcome.append)
        result = outcome[0]
        if isinstance(result, Failure):
            raise BadEndpoint(f"{self._place.text!r}: can't listen there: {result.getErrorMessage()}")
        self._port = result

    @property
    def host(self) -> IAddress:
        """The address that the service listens at: with the port that the system has chosen for port 0."""
        if self._port is None:
            raise RuntimeError("the service isn't listening")
        return self._port.getHost()

    def stopService(self) -> Deferred[None]:
        """Say goodbye to all peers, and wait until all connections are closed: at most `LINGER` seconds."""
        super().stopService()
        port, self._port = self._port, None
        return Deferred.fromCoroutine(self._stop(port))

    async def _stop(self, port: IListeningPort | None) -> None:
        if port is not None:
            await maybeDeferred(port.stopListening)
        await self._factory.close_all()


def _remove_stale_socket(text: str, path: str) -> None:
    """Remove the socket that a killed process has left behind; `BadEndpoint` if it is anything else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BadEndpoint(f"{text!r}: there is something that isn't a socket; it is left alone")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # its queue is full: a process listens
        except OSError as error:
            raise BadEndpoint(f"{text!r}: can't tell whether somebody listens there: {error.strerror}") from None
    raise BadEndpoint(f"{text!r}: somebody listens there already")


class Connections(Factory):
    """
    Owns the connections of one `ListenService`, and bounds their number.

    :param check: gives a reason to refuse a connection, or None
    """

    _log = Logger()
    noisy = False

    def __init__(self, connections: int, check: Callable[[Accepted], str | None]) -> None:
        #: called with the reason when the only connection has ended
        self.over: Callable[[str], None] | None = None
        self._limit = connections
        self._check = check
        self._connections: set[Accepted] = set()
        self._stopping: list[tuple[set[Accepted], Deferred[None]]] = []

    def close_all(self) -> Deferred[None]:
        """Close all connections of now. Fires when these are gone, whatever is accepted later."""
        gone: Deferred[None] = Deferred()
        self._stopping.append((set(self._connections), gone))
        for connection in list(self._connections):
            connection.close(Code.CLOSED, "the peer is stopping")
        self._look_who_is_gone()
        return gone

    def _look_who_is_gone(self) -> None:
        gone = [each for those, each in self._stopping if not those & self._connections]
        self._stopping = [(those, each) for those, each in self._stopping if those & self._connections]
        for each in gone:
            each.callback(None)

    def made(self, connection: Accepted) -> str | None:
        """Count a new connection. Return a reason to refuse it, or None."""
        self._connections.add(connection)
        return TOO_MANY if self.is_full else self._check(connection)

    @property
    def is_full(self) -> bool:
        """Whether there are more connections than there may be."""
        return len(self._connections) > self._limit

    def lost(self, connection: Accepted, reason: str) -> None:
        """Forget a connection that is gone."""
        self._connections.discard(connection)
        self._log.info("a link was lost: {reason}", reason=reason)
        if self.over is not None:
            self.over(reason)
        self._look_who_is_gone()


class _LinkFactory(Connections):
    """Makes the links of one `ListenService`."""

    def __init__(
        self,
        clock: IReactorTime,
        settings: SessionSettings,
        application_factory: ApplicationFactory,
        unauthenticated: int,
        connections: int,
        check: Callable[[Accepted], str | None],
        nonce: Callable[[], str],
    ) -> None:
        super().__init__(connections, check)
        self._nonce = nonce
        self._clock = clock
        self._settings = settings
        self._application_factory = application_factory
        self._unauthenticated_limit = unauthenticated
        # In the order of their arrival.
        self._unauthenticated: dict[JSONLineProtocol, None] = {}

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return JSONLineProtocol(
            Side.LISTENER, self._settings, self._application_factory, self._clock, self, self._nonce()
        )

    # -- as the connections' owner

    def link_made(self, link: JSONLineProtocol) -> str | None:
        refusal = self.made(link)
        if self.is_full:
            link.close(Code.BUSY, TOO_MANY)  # later there may be room: nothing has to be changed for that
            return None
        if refusal is None:
            self._unauthenticated[link] = None
            if len(self._unauthenticated) > self._unauthenticated_limit:
                oldest = next(iter(self._unauthenticated))
                del self._unauthenticated[oldest]
                oldest.close(Code.BUSY, "too many connections haven't authenticated", abrupt=True)
        return refusal

    def link_ready(self, link: JSONLineProtocol) -> None:
        self._unauthenticated.pop(link, None)

    def link_lost(self, link: JSONLineProtocol, reason: str) -> None:
        self._unauthenticated.pop(link, None)
        self.lost(link, reason)
