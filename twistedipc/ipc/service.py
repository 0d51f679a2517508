"""
The side that answers: `listen` makes a `Service` (``handlers``) available at an endpoint.

::

    listening = await listen(reactor, "unix:calculator.sock", Calculator())

There may be several services at one endpoint: ``[Calculator(), Offer(Warehouse(), same_name="refuse")]``.

See `twistedipc.ipc.remote` for the side that asks.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypedDict, TypeVar, Unpack

import msgspec
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.ipc.connections.load import Load
from twistedipc.ipc.connections.peer import Complaint, Peer
from twistedipc.ipc.connections.traffic import Queues, Traffic, tell
from twistedipc.ipc.handlers import Service
from twistedipc.ipc.handling import LONG, Handling, handling_of
from twistedipc.ipc.links.listen import ListenService, listen_for_links
from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles
from twistedipc.ipc.places.keys import make_nonce
from twistedipc.ipc.streams.outbox import FileOutbox, MemoryOutbox, Outbox
from twistedipc.ipc.streams.receiver import Incoming, Receivers, no_such_stream
from twistedipc.ipc.streams.sender import Outgoing, Stream
from twistedipc.ipc.wire.bodies import BODIES
from twistedipc.ipc.wire.errors import (
    CallFailed,
    Code,
    LocalProtocolError,
    NotConnected,
    RemoteProtocolError,
)
from twistedipc.ipc.wire.handshake import FEATURES
from twistedipc.ipc.wire.identity import Accept
from twistedipc.ipc.wire.interface import Interface, StreamOf, vocabulary, with_bodies
from twistedipc.ipc.wire.keyring import Keys
from twistedipc.ipc.wire.messages import name_of
from twistedipc.ipc.wire.names import Names, SameName
from twistedipc.ipc.wire.settings import FRAME_LIMIT, SessionSettings
from twistedipc.ipc.wire.windows import OF_SENDER, StreamOpen

T = TypeVar("T", bound=msgspec.Struct)


class Limits(TypedDict, total=False):
    """The limits of `SessionSettings`, whose documentation has their meaning and defaults."""

    heartbeat: float
    dead_after: float
    handshake_timeout: float
    frame_limit: int
    max_calls: int
    outbound_limit: int
    busy_poll: float


def side_settings(
    role: str,
    peer_role: str,
    answered: Interface | None,
    asked: Interface | None,
    key: bytes | None,
    name: str,
    limits: Limits,
    nonce: Callable[[], str] = make_nonce,
    keys: Keys | None = None,
    accept: Accept | None = None,
    same_name: SameName = "allow",
) -> SessionSettings:
    """Return the settings of one side's links."""
    bodies = with_bodies(answered, asked)
    return SessionSettings(
        name=name or f"{role}.{os.getpid()}",
        role=role,
        peer_role=peer_role,
        incarnation=nonce()[:16],
        key=key,
        vocabulary=vocabulary(answered, asked),
        with_bodies=bodies,
        # Said where it is of use only: other links are made word for word as before there were bodies.
        features=(*FEATURES, BODIES) if bodies else FEATURES,
        keys=keys,
        streams={} if answered is None else {each.name: each.items for each in answered.streams.values()},
        accept_peer=accept,
        names=None if same_name == "allow" else Names(same_name),
        **limits,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """
    One of several services at one endpoint, for `listen`, with what isn't the same for all of them. What is None is as
    it was given to `listen`; but an offer with a ``key`` or with ``keys`` has neither of `listen`'s.

    :param service: the service
    :param calls: the interface that this service's peers answer
    :param key: the secret of both sides of this service's links
    :param keys: the named keys for this service
    :param accept: decides which peers this service takes
    :param same_name: what becomes of a second peer of one name. A name is of one service: a peer of another one may
        have it, too
    """

    service: Service
    calls: Interface | None = None
    key: bytes | None = None
    keys: Keys | None = None
    accept: Accept | None = None
    same_name: SameName | None = None

    def filled_from(self, given: Offer) -> Offer:
        """
        Return the offer with what is None from that one; but with nothing of its secrets where this one has its own,
        which the shared key would open otherwise. Internal to the library.
        """
        secrets = given if self.key is None and self.keys is None else self
        return Offer(
            service=self.service,
            calls=given.calls if self.calls is None else self.calls,
            key=secrets.key,
            keys=secrets.keys,
            accept=given.accept if self.accept is None else self.accept,
            same_name=given.same_name if self.same_name is None else self.same_name,
        )

    def settings(self, name: str, limits: Limits, nonce: Callable[[], str]) -> SessionSettings:
        """Return the settings of this service's links. Internal to the library."""
        interface, same_name = self.service.interface, self.same_name or "allow"
        roles = interface.role, interface.peer_role
        return side_settings(
            *roles, interface, self.calls, self.key, name, limits, nonce, self.keys, self.accept, same_name
        )


def _offer(given: Service | Offer) -> Offer:
    return given if isinstance(given, Offer) else Offer(service=given)


def check_named(outbox: Outbox | None, named: bool) -> None:
    """
    Check that a side whose stream outlives the process has a name that does. The receiver knows a stream by the
    sender's name too, and a side without a ``name`` gets another one at each start.

    :raises LocalProtocolError: the outbox is a `FileOutbox`, and the side has no name
    """
    if isinstance(outbox, FileOutbox) and not named:
        raise LocalProtocolError(
            "a FileOutbox outlives this process, so this side needs a name of its own that does: name=…"
        )


class ServiceApplication:
    """A `Service` on one link: the framework's `Application`."""

    _log = Logger()

    def __init__(
        self,
        service: Service | None,
        peer: Peer,
        receivers: Receivers | None,
        outgoing: Outgoing | None,
        handling: Handling,
    ) -> None:
        self.peer = peer
        #: the peer, as the service is given it
        self.given = handling.peer(peer)
        self._service = service
        self._handling = handling
        self._seconds = handling.seconds
        self._handlers = (
            {} if service is None else handling.handlers(type(service)._handlers, type(service)._in_threads)
        )
        self._incoming: Incoming | None = None
        self._outgoing = outgoing
        self._running: set[Deferred[Any]] = set()
        self._load = Load(peer)
        self._ended = False
        #: called when no handler of a message is at work any more
        self.when_idle: Callable[[], None] = lambda: None
        if service is not None:
            if receivers is not None:
                self._incoming = Incoming(peer, service.interface.streams, receivers, self._load)
            service.peer_ready(self.given)
        if outgoing is not None:
            outgoing.link_made(peer)

    def send_streams(self, outgoing: Outgoing) -> None:
        """Send the streams to this peer on its link, which was there before them."""
        self._outgoing = outgoing
        outgoing.link_made(self.peer)

    def message_received(self, message: Any) -> None:
        """See `Application`."""
        handler = self._handlers.get(type(message))
        if handler is None:
            self._of_a_stream(message)
            return
        began = self._seconds()
        try:
            result = handler(self._service, message, self.given)
        except Exception:
            self._not_handled(Failure(), message)
            return
        finally:
            if (took := self._seconds() - began) > LONG:
                self._blocked(message, took)
        if isinstance(result, Awaitable):
            self._run(result, message)

    @property
    def is_at_work(self) -> bool:
        """Whether handlers of messages are at work."""
        return bool(self._running)

    def call_received(self, request: Any) -> Any:
        """See `Application`."""
        began = self._seconds()
        try:
            return self._handlers[type(request)](self._service, request, self.given)
        finally:
            if (took := self._seconds() - began) > LONG:
                self._blocked(request, took)

    def measured(self, request: Any, work: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        """Return ``work``, which sends the items that a handler gives, so that what the handler does is measured."""
        assert self._service is not None
        return self._handling.sending(work, type(self._service)._handlers[type(request)].__qualname__)

    def _blocked(self, message: msgspec.Struct, seconds: float) -> None:
        assert self._service is not None
        self._handling.blocked(self._service._handlers[type(message)].__qualname__, seconds)

    def link_ended(self, reason: str) -> None:
        """See `Application`."""
        self._ended = True
        if self._outgoing is not None:
            self._outgoing.link_lost(self.peer)

    def complaint_received(self, complaint: Complaint) -> None:
        """See `Application`."""
        if self._service is not None:
            self._service.complaint_received(self.peer, complaint)

    def connection_lost(self, reason: str) -> None:
        """See `Application`."""
        for running in list(self._running):
            running.cancel()
        if self._incoming is not None:
            self._incoming.close()
        if self._service is not None:
            self._service.peer_lost(self.given, reason)

    def writing_paused(self) -> None:
        """See `Application`. `Peer.drain` is what there is for it."""

    def writing_resumed(self) -> None:
        """See `Application`."""
        if self._outgoing is not None:
            self._outgoing.pump()

    def _of_a_stream(self, frame: Any) -> None:
        # The vocabulary has refused everything else without a handler: it is made of the same interfaces.
        if isinstance(frame, OF_SENDER):
            if self._incoming is not None:
                self._incoming.received(frame)
            elif isinstance(frame, StreamOpen):
                self.peer.send(no_such_stream(frame))
        elif self._outgoing is not None:
            self._outgoing.received(self.peer, frame)

    def _run(self, work: Awaitable[Any], message: msgspec.Struct) -> None:
        async def wait() -> None:
            await work

        def ended(_: object) -> None:
            self._running.discard(running)
            if not self._running:
                self.when_idle()

        running = Deferred.fromCoroutine(wait())
        self._running.add(running)
        running.addErrback(self._not_handled, message)
        running.addBoth(ended)
        self._load.add(running)

    def _not_handled(self, failure: Failure, message: msgspec.Struct) -> None:
        """Log that a handler of a one-way message has raised, and tell the peer. The link goes on."""
        if self._ended and failure.check(CancelledError, NotConnected):
            return
        error, tag = failure.value, name_of(type(message))
        if isinstance(error, RemoteProtocolError):
            self.peer.close(error.code, error.reason)
            return
        code, words = str(Code.INTERNAL), "an error inside; see the log there"
        if isinstance(error, CallFailed):
            code, words = error.code, error.message
            self._log.info("{peer}: {tag} is refused: {error}", peer=self.peer.info.name, tag=tag, error=error)
        else:
            self._log.failure("{peer}: handling {tag} failed", failure, peer=self.peer.info.name, tag=tag)
        self.peer.complain(code, f"{tag}: {words}")


class Served:
    """One of the services that listen at an endpoint: `Listening.services` has them."""

    def __init__(
        self,
        listening: Listening,
        clock: IReactorTime,
        service: Service,
        calls: Interface | None,
        *,
        named: bool,
        frame_limit: int,
    ) -> None:
        #: the peers that are linked now
        self.peers: set[Peer] = set()
        #: what has gone over the links: a `Traffic`
        self.traffic = Traffic()
        #: called with the `Peer` when a link was made; None
        self.on_link: Callable[[Peer], object] | None = None
        #: called with the `Peer`, and the reason as a text for logs, when a link has ended; None
        self.on_loss: Callable[[Peer, str], object] | None = None
        #: the service's
        self.interface = service.interface
        self._listening = listening
        self._named = named
        self._frame_limit = frame_limit
        self._clock = clock
        self._kinds = {} if calls is None else calls.streams
        handling = handling_of(clock)
        receivers = Receivers(handling.receivers(service._receiver)) if service.interface.streams else None
        self._application = lambda peer, outgoing: _ListeningApplication(
            service, peer, receivers, outgoing, handling, self
        )
        self._outgoing: dict[str, Outgoing] = {}
        self._applications: dict[Peer, ServiceApplication] = {}  # of the linked peers, the newest last

    def application(self, peer: Peer) -> ServiceApplication:
        """Make the application of a new link: the application factory of the links. Internal to the library."""
        outgoing = self._outgoing.get(peer.info.name)
        peer.count(self.traffic)
        application: ServiceApplication = self._application(peer, outgoing)
        self.peers.add(application.given)
        self._applications[peer] = application
        begun = self._outgoing.get(peer.info.name)
        if outgoing is None and begun is not None:
            application.send_streams(begun)  # by the service itself, in `peer_ready`
        self.traffic.links += 1
        tell(self.on_link, application.given)
        tell(self._listening.on_link, application.given)
        return application

    def lost(self, peer: Peer, reason: str) -> None:
        """Forget a peer whose link has ended. Internal to the library."""
        if (application := self._applications.pop(peer, None)) is not None:
            self.peers.discard(application.given)
            self.traffic.lost += 1
            tell(self.on_loss, application.given, reason)
            tell(self._listening.on_loss, application.given, reason)

    @property
    def queues(self) -> Queues:
        """What waits just now on all links."""
        return sum((peer.queues for peer in self._applications), Queues())

    def stream(self, peer: str, stream: StreamOf[T], outbox: Outbox | None = None) -> Stream[T]:
        """
        Return a reliable stream to the peer of this name, which sends whenever the peer is linked. The stream is of the
        interface that `listen` was given as ``calls``; the peer receives it by the ``service`` that the peer's `dial`
        was given. Otherwise like `Remote.stream`.
        """
        check_named(outbox, self._named)
        outgoing = self._outgoing.get(peer)
        if outgoing is None:
            outgoing = self._outgoing[peer] = Outgoing(self._clock, self._kinds, self._frame_limit)
            for linked, application in self._applications.items():
                if linked.info.name == peer:
                    application.send_streams(outgoing)
        return outgoing.stream(stream, MemoryOutbox() if outbox is None else outbox)

    def close_streams(self) -> None:
        """Close the streams to all peers. Internal to the library."""
        for outgoing in list(self._outgoing.values()):  # the application may begin a stream to another peer meanwhile
            outgoing.close()


class Listening:
    """
    What listens at an endpoint: a service, or several. Made by `listen`.

    What is said of peers and links here is about those of all services; ``services`` has each by itself.
    """

    def __init__(
        self,
        clock: IReactorTime,
        service: Service,
        calls: Interface | None,
        *others: tuple[Service, Interface | None],
        named: bool = True,
        frame_limit: int = FRAME_LIMIT,
    ) -> None:
        #: called with the `Peer` when a link was made; None
        self.on_link: Callable[[Peer], object] | None = None
        #: called with the `Peer`, and the reason as a text for logs, when a link has ended; None
        self.on_loss: Callable[[Peer, str], object] | None = None
        all_ = [
            Served(self, clock, each, asked, named=named, frame_limit=frame_limit)
            for each, asked in ((service, calls), *others)
        ]
        #: the services, each a `Served`, by the names of their interfaces
        self.services = {served.interface.name: served for served in all_}
        self._first = all_[0]
        self._by_role = {served.interface.peer_role: served for served in all_}
        self._links: ListenService | None = None
        self._why = ""  # why no peer can link any more; "" while peers can
        self._closing: list[Deferred[str]] = []

    def application(self, peer: Peer) -> ServiceApplication:
        """Make the application of a new link: the application factory of the links. Internal to the library."""
        return self._by_role.get(peer.info.role, self._first).application(peer)

    @property
    def peers(self) -> set[Peer]:
        """The peers that are linked now."""
        if len(self.services) == 1:
            return self._first.peers
        return set().union(*(each.peers for each in self.services.values()))

    @property
    def traffic(self) -> Traffic:
        """
        What has gone over the links: a `Traffic`. Of several services it is the sum of their counters as they are now,
        without latencies.
        """
        if len(self.services) == 1:
            return self._first.traffic
        return sum((each.traffic for each in self.services.values()), Traffic())

    @property
    def queues(self) -> Queues:
        """What waits just now on all links."""
        return sum((each.queues for each in self.services.values()), Queues())

    def stream(self, peer: str, stream: StreamOf[T], outbox: Outbox | None = None) -> Stream[T]:
        """
        Return a reliable stream to the peer of this name, which sends whenever the peer is linked. The stream is of the
        interface that `listen` was given as ``calls``; the peer receives it by the ``service`` that the peer's `dial`
        was given. Otherwise like `Remote.stream`.

        :raises LocalProtocolError: also where there are several services: a peer's name is of one of them. Their own
            `Served.stream` is what to call there
        """
        if len(self.services) > 1:
            names = ", ".join(self.services)
            raise LocalProtocolError(f"say whose peer {peer} is: services[…].stream(…), of one of {names}")
        return self._first.stream(peer, stream, outbox)

    def start(self, links: ListenService) -> None:
        """Begin to listen. Raise `BadEndpoint` if it fails. Internal to the library."""
        links.startService()
        self._links = links

    @property
    def port(self) -> int:
        """The TCP port, which the system has chosen if the endpoint's was 0. TypeError if the endpoint isn't TCP."""
        if self._links is None:
            raise RuntimeError("it isn't listening")
        host = self._links.host
        if not isinstance(host, IPv4Address | IPv6Address):
            raise TypeError("it isn't TCP, and has no port")
        return host.port

    def close(self) -> Deferred[None]:
        """End all links, and close the streams to their peers. The Deferred fires when all links are closed."""
        if self._links is None:
            raise RuntimeError("it isn't listening")
        for served in self.services.values():
            served.close_streams()
        return self._links.stopService().addCallback(lambda _: self.over("it was closed here"))

    def closed(self) -> Deferred[str]:
        """
        Return a Deferred that fires when no peer can link any more, with the reason as a text: after `close`; or, at
        ``stdio:`` and ``fd:``, when the only link has ended.
        """
        if self._why:
            return succeed(self._why)
        closing: Deferred[str] = Deferred()
        self._closing.append(closing)
        return closing

    def over(self, reason: str) -> None:
        """End: no other peer will come. Internal to the library."""
        if not self._why:
            self._why = reason
            closing, self._closing = self._closing, []
            for each in closing:
                each.callback(reason)


class _ListeningApplication(ServiceApplication):
    def __init__(
        self,
        service: Service,
        peer: Peer,
        receivers: Receivers | None,
        outgoing: Outgoing | None,
        handling: Handling,
        served: Served,
    ) -> None:
        super().__init__(service, peer, receivers, outgoing, handling)
        self._served = served

    def link_ended(self, reason: str) -> None:
        self._served.lost(self.peer, reason)
        super().link_ended(reason)


async def listen(
    reactor: LinkReactor,
    endpoint: str,
    service: Service | Iterable[Service | Offer],
    *,
    calls: Interface | None = None,
    key: bytes | None = None,
    keys: Keys | None = None,
    name: str = "",
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    accept: Accept | None = None,
    same_name: SameName = "allow",
    nonce: Callable[[], str] = make_nonce,
    **limits: Unpack[Limits],
) -> Listening:
    """
    Listen at ``endpoint`` (``unix:PATH``, ``tcp:PORT``, ``tls:PORT:interface=ADDRESS``) for peers of ``service``.

    At ``stdio:``, its standard input and output, a child process links with its parent. At ``fd:NUMBER`` or
    ``fd:$VARIABLE`` a process links with the other end of a connection that the process has inherited. Then there is
    one link only, and `Listening.closed` fires at its end. A listening socket may be inherited as well: ``fd:`` again,
    or ``systemd:`` (``systemd:NAME``).

    Of several services the dialler gets the one whose interface it was given. A dialler of a version from before there
    could be several finds the first one only. Which services there are doesn't change while they listen, and whoever
    connects is told their interfaces' names.

    :param reactor: Twisted's
    :param service: what is offered; or several services, the first of them first, each by itself or as an `Offer`
    :param calls: the interface that the peers answer, if this side calls them as well: by `Peer.call`
    :param key: the secret of both sides, at least 16 bytes (`make_key`); a UNIX socket and an inherited
        connection need none
    :param keys: named keys of single peers (`NamedKey`), instead of the shared one or beside it. They can be added and
        revoked while this side listens. ``peer.info.key`` says which one has proven a peer
    :param name: this side's name, which peers see; by default its role and process id, as ``calculator-server.4711``.
        Receivers know a stream by it
    :param tls: certificates, for ``tls:``
    :param uids: for ``unix:``, whose processes may connect; by default this user's and root's
    :param accept: called with the `PeerInfo` of each peer that is proven: returns None to take the peer, or a reason to
        refuse it; or something to await for that, within the ``handshake_timeout``. The peer hears the reason, with the
        code ``not-accepted``. If ``accept`` raises, that is logged, and the peer is refused with the code ``internal``
    :param same_name: what becomes of a peer whose name another linked peer has: ``refuse``, ``supersede`` or ``allow``,
        as `Names` has them. With ``refuse``, a peer whose old link is dead has its place within 2 seconds
    :param nonce: gives 64 random hexadecimal digits, others each time: for handshakes, and for what tells one start of
        this side from the next
    :param limits: any of ``heartbeat``, ``dead_after``, ``handshake_timeout`` (seconds), ``frame_limit``,
        ``outbound_limit`` (bytes), ``max_calls`` and ``busy_poll``; `SessionSettings` has them, with their defaults
    :raises BadEndpoint: this side can't listen there; ``str()`` says why
    :raises BadKey: the key is too short, or no bytes
    :raises ValueError: the name can't be one: 1 to 64 letters, digits and ``. _ -``; or there is no service, are more
        than 17, or two with interfaces of one name
    """
    offers = [Offer(service=service)] if isinstance(service, Service) else list(map(_offer, service))
    if not offers:
        raise ValueError("there is no service to listen with")
    as_given = Offer(service=offers[0].service, calls=calls, key=key, keys=keys, accept=accept, same_name=same_name)
    offers = [each.filled_from(as_given) for each in offers]
    incarnation = nonce()
    first, *others = [
        each.settings(name or f"{offers[0].service.interface.role}.{os.getpid()}", limits, lambda: incarnation)
        for each in offers
    ]
    settings = replace(first, others=tuple(others))
    listening = Listening(
        reactor,
        offers[0].service,
        offers[0].calls,
        *((each.service, each.calls) for each in offers[1:]),
        named=bool(name),
        frame_limit=settings.frame_limit,
    )
    listening.start(
        listen_for_links(
            reactor,
            endpoint,
            settings,
            listening.application,
            tls=tls,
            uids=uids,
            over=listening.over,
            nonce=nonce,
        )
    )
    return listening
