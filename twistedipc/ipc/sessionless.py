"""
Listening and dialling in the formats without a session, whatever the format: used by ``plain`` and ``jsonrpc``, which
make the conversations.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol

from twistedipc.ipc.connections.plain import OUTBOUND_LIMIT, PlainOwner, PlainProtocol
from twistedipc.ipc.handlers import Service
from twistedipc.ipc.links.dial import dial_service
from twistedipc.ipc.links.listen import CONNECTIONS, Accepted, Connections, ListenService, place_of
from twistedipc.ipc.links.once import OneLink
from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles, parse_dialled
from twistedipc.ipc.places.inherited import inherited_connection
from twistedipc.ipc.remote import Remote, Unlinked
from twistedipc.ipc.service import Listening
from twistedipc.ipc.wire.conversation import Conversation
from twistedipc.ipc.wire.errors import BadEndpoint
from twistedipc.ipc.wire.interface import Interface
from twistedipc.ipc.wire.settings import SessionSettings, check_busy_poll

#: Makes the conversation of a new connection.
Converse = Callable[[], Conversation]


def listen_without_session(
    reactor: LinkReactor,
    endpoint: str,
    service: Service,
    converse: Converse,
    *,
    calls: Interface | None = None,
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    connections: int = CONNECTIONS,
    idle_timeout: float | None = None,
    outbound_limit: int = OUTBOUND_LIMIT,
    busy_poll: float = SessionSettings.busy_poll,
) -> Listening:
    """Listen at ``endpoint``; the parameters are those of `listen_plain`. Raises `BadEndpoint` and `BadVocabulary`."""
    converse()  # whatever is wrong with the interfaces is found now
    check_busy_poll(busy_poll)
    files = tls or TLSFiles()
    if (endpoint.startswith("tls:") or files.certificate is not None) and files.authority is None:
        raise BadEndpoint(f"{endpoint!r}: without a key, the peers need certificates: tls=TLSFiles(authority=…)")
    # Where others require a key these formats have none to offer; what else protects an endpoint stays as it is.
    place = place_of(reactor, endpoint, has_key=not endpoint.startswith("unix:"), tls=tls, uids=uids)
    listening = Listening(reactor, service, calls)
    factory = PlainFactory(
        reactor,
        listening,
        converse,
        idle_timeout=idle_timeout,
        outbound_limit=outbound_limit,
        busy_poll=busy_poll,
        connections=connections,
        check=place.check,
    )
    factory.over = listening.over if place.is_single else None
    listening.start(ListenService(place, factory))
    return listening


class PlainFactory(Connections):
    """Makes the connections of one listener."""

    def __init__(
        self,
        clock: IReactorTime,
        listening: Listening,
        converse: Converse,
        *,
        check: Callable[[Accepted], str | None],
        connections: int = CONNECTIONS,
        idle_timeout: float | None = None,
        outbound_limit: int = OUTBOUND_LIMIT,
        busy_poll: float = SessionSettings.busy_poll,
    ) -> None:
        super().__init__(connections, check)
        self._clock = clock
        self._idle_timeout = idle_timeout
        self._listening = listening
        self._converse = converse
        self._outbound_limit = outbound_limit
        self._busy_poll = busy_poll
        self._count = 0

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        self._count += 1
        return PlainProtocol(
            self._clock,
            self,
            self._converse(),
            self._listening.application,
            f"plain-{self._count}",
            outbound_limit=self._outbound_limit,
            idle_timeout=self._idle_timeout,
            busy_poll=self._busy_poll,
        )

    # -- as the connections' owner

    def link_made(self, link: PlainProtocol) -> str | None:
        return self.made(link)

    def link_ready(self, link: PlainProtocol) -> None:
        """Do nothing: nobody has to prove anything."""

    def link_lost(self, link: PlainProtocol, reason: str) -> None:
        self.lost(link, reason)


def dial_without_session(
    reactor: LinkReactor,
    endpoint: str,
    interface: Interface,
    service: Service | None,
    converse: Converse,
    *,
    unlinked: Unlinked,
    fail_on_refusal: bool,
    tls: TLSFiles | None,
    uids: frozenset[int] | None,
    random: Callable[[], float],
    idle_timeout: float | None = None,
    outbound_limit: int = OUTBOUND_LIMIT,
    busy_poll: float = SessionSettings.busy_poll,
) -> Remote:
    """Stay connected with ``endpoint``; the parameters are those of `dial_plain`."""
    first = converse()  # whatever is wrong with the interfaces is found now
    check_busy_poll(busy_poll)
    address = parse_dialled(endpoint, has_key=not endpoint.startswith("unix:"))
    remote = Remote(reactor, interface, service, unlinked, frame_limit=first.limit, max_calls=first.max_calls)

    def make_link(owner: PlainOwner) -> PlainProtocol:
        return PlainProtocol(
            reactor,
            owner,
            converse(),
            remote.application,
            endpoint,
            outbound_limit=outbound_limit,
            idle_timeout=idle_timeout,
            busy_poll=busy_poll,
        )

    if address.is_inherited:
        connect = inherited_connection(reactor, address)
        remote.start(OneLink(endpoint, make_link, connect, remote.over))
        return remote
    links = dial_service(
        reactor,
        endpoint,
        address,
        make_link,
        tls=tls,
        uids=uids,
        random=random,
        failed=remote.not_linked,
        refused=remote.refused if fail_on_refusal else None,
    )
    remote.start(links)
    return remote
