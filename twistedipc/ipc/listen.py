# Much of Twisted has no annotations.
# mypy: disable-error-code="no-untyped-call"
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

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.ipc.credentials import refuse_strangers
from twistedipc.ipc.endpoints import Address, LinkReactor, TLSFiles, parse_listened, server_endpoint
from twistedipc.ipc.errors import BadEndpoint, Code
from twistedipc.ipc.peer import ApplicationFactory
from twistedipc.ipc.protocol import JSONLineProtocol
from twistedipc.ipc.session import SessionSettings, Side

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
) -> ListenService:
    """
    A service that accepts links at ``endpoint``.

    :param tls: for ``tls:`` endpoints
    :param uids: for ``unix:`` endpoints: who may connect; None is this process's own user, and root
    :param unauthenticated: how many connections may not have authenticated yet
    :param connections: how many connections there may be
    :raises BadEndpoint: the endpoint can't be listened at
    """
    address = parse_listened(endpoint, has_key=settings.key is not None)

    def check(link: JSONLineProtocol) -> str | None:
        return refuse_strangers(link.transport, uids) if address.kind == "unix" else None

    factory = _LinkFactory(reactor, settings, application_factory, check, unauthenticated, connections)
    return ListenService(endpoint, address, server_endpoint(reactor, address, tls), factory)


class ListenService(Service):
    """Accepts connections, from `startService` until the Deferred that `stopService` returns has fired."""

    def __init__(self, text: str, address: Address, endpoint: IStreamServerEndpoint, factory: _LinkFactory) -> None:
        self._text = text
        self._address = address
        self._endpoint = endpoint
        self._factory = factory
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """
        Listen.

        :raises BadEndpoint: somebody listens there already, or it isn't a place to listen at
        """
        super().startService()
        if self._address.kind == "unix":
            _remove_stale_socket(self._text, self._address.path)
        outcome: list[IListeningPort | Failure] = []
        # TCP, UNIX and TLS endpoints all listen at once, or fail at once.
        self._endpoint.listen(self._factory).addBoth(outcome.append)
        result = outcome[0]
        if isinstance(result, Failure):
            raise BadEndpoint(f"{self._text!r}: can't listen there: {result.getErrorMessage()}")
        self._port = result

    @property
    def host(self) -> IAddress:
        """Where it listens: tells the port that the system has chosen for port 0."""
        if self._port is None:
            raise RuntimeError("the service isn't listening")
        return self._port.getHost()

    def stopService(self) -> Deferred[None]:
        """Say goodbye to all, and wait until all connections are closed: at most `protocol.LINGER` seconds."""
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
            pass  # its queue is full: somebody is there
        except OSError as error:
            raise BadEndpoint(f"{text!r}: can't tell whether somebody listens there: {error.strerror}") from None
    raise BadEndpoint(f"{text!r}: somebody listens there already")


class _LinkFactory(Factory):
    """Makes the connections of one `ListenService`, and owns them."""

    _log = Logger()
    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        settings: SessionSettings,
        application_factory: ApplicationFactory,
        check: Callable[[JSONLineProtocol], str | None],
        unauthenticated: int,
        connections: int,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._application_factory = application_factory
        self._check = check
        self._unauthenticated_limit = unauthenticated
        self._limit = connections
        # In the order of their arrival.
        self._unauthenticated: dict[JSONLineProtocol, None] = {}
        self._links: set[JSONLineProtocol] = set()
        self._stopping: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return JSONLineProtocol(Side.LISTENER, self._settings, self._application_factory, self._clock, self)

    def close_all(self) -> Deferred[None]:
        """Fires when there is no connection left."""
        gone: Deferred[None] = Deferred()
        self._stopping = gone
        for link in list(self._links):
            link.close(Code.CLOSED, "the peer is stopping")
        self._all_gone()
        return gone

    def _all_gone(self) -> None:
        if self._stopping is not None and not self._links:
            stopping, self._stopping = self._stopping, None
            stopping.callback(None)

    # -- as the connections' owner

    def link_made(self, link: JSONLineProtocol) -> str | None:
        self._links.add(link)
        if len(self._links) > self._limit:
            return "there are too many connections"
        self._unauthenticated[link] = None
        if len(self._unauthenticated) > self._unauthenticated_limit:
            oldest = next(iter(self._unauthenticated))
            del self._unauthenticated[oldest]
            oldest.close(Code.BUSY, "too many connections haven't authenticated", abrupt=True)
        return self._check(link)

    def link_ready(self, link: JSONLineProtocol) -> None:
        self._unauthenticated.pop(link, None)

    def link_lost(self, link: JSONLineProtocol, reason: str) -> None:
        self._links.discard(link)
        self._unauthenticated.pop(link, None)
        self._log.info("a link was lost: {reason}", reason=reason)
        self._all_gone()
