"""
The plain profile's server: `listen_plain` serves the same `Service` as ``listen``, to tools that have no session. See
``wire/plain.py`` for what goes over the wire.

::

    listening = await listen_plain(reactor, "tcp:8700", Calculator())

Peers don't authenticate: every process that can connect may ask. So the plain profile is for UNIX sockets, whose peers
the kernel knows, for this machine, and for holders of a certificate; and it has a function of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol

from twistedipc.ipc.connections.plain import OUTBOUND_LIMIT, PlainProtocol
from twistedipc.ipc.links.listen import CONNECTIONS, Accepted, Connections, ListenService, place_of
from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles
from twistedipc.ipc.service import Listening, Service
from twistedipc.ipc.wire.errors import BadEndpoint
from twistedipc.ipc.wire.plain import LINE_LIMIT, PlainConversation


async def listen_plain(
    reactor: LinkReactor,
    endpoint: str,
    service: Service,
    *,
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    idle_timeout: float | None = None,
    connections: int = CONNECTIONS,
    line_limit: int = LINE_LIMIT,
    outbound_limit: int = OUTBOUND_LIMIT,
) -> Listening:
    """
    Listen at ``endpoint``, as `listen` does, for tools that speak the plain profile: a line of JSON for each message.

    A handler's ``peer`` can be sent messages, and can't be called. Its name proves nothing.

    :param tls: certificates, for ``tls:``, with an ``authority``: without a key, only the certificate proves a peer
    :param uids: for ``unix:``, the users whose processes may connect; by default this user and root
    :param idle_timeout: seconds without a line, either way, and without a request at work, after which a connection is
        closed; None: never
    :param connections: how many connections there may be
    :param line_limit: bytes of a line, either way
    :param outbound_limit: bytes that may wait for a peer that doesn't read; over it, its connection is closed
    :raises BadEndpoint: it can't be listened there
    :raises BadVocabulary: the service has streams, or a request with a field ``id``
    """
    PlainConversation(service.interface)
    files = tls or TLSFiles()
    if (endpoint.startswith("tls:") or files.certificate is not None) and files.authority is None:
        raise BadEndpoint(f"{endpoint!r}: without a key, the peers need certificates: tls=TLSFiles(authority=…)")
    # Where others require a key this profile has none to offer; what else protects an endpoint stays as it is.
    place = place_of(reactor, endpoint, has_key=not endpoint.startswith("unix:"), tls=tls, uids=uids)
    listening = Listening(reactor, service, None)
    factory = PlainFactory(
        reactor,
        listening,
        service,
        idle_timeout=idle_timeout,
        line_limit=line_limit,
        outbound_limit=outbound_limit,
        connections=connections,
        check=place.check,
    )
    factory.over = listening.over if place.is_single else None
    listening.start(ListenService(place, factory))
    return listening


class PlainFactory(Connections):
    """Makes the connections of one `listen_plain`."""

    def __init__(
        self,
        clock: IReactorTime,
        listening: Listening,
        service: Service,
        *,
        idle_timeout: float | None,
        line_limit: int,
        outbound_limit: int,
        connections: int,
        check: Callable[[Accepted], str | None],
    ) -> None:
        super().__init__(connections, check)
        self.clock = clock
        self.idle_timeout = idle_timeout
        self._listening = listening
        self._service = service
        self._line_limit = line_limit
        self._outbound_limit = outbound_limit
        self._count = 0

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        self._count += 1
        conversation = PlainConversation(self._service.interface, line_limit=self._line_limit)
        name = f"plain-{self._count}"
        application = self._listening.application
        return PlainProtocol(self, conversation, application, name, outbound_limit=self._outbound_limit)
