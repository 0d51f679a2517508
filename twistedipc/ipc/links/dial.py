# Much of Twisted has no annotations.
# mypy: disable-error-code="no-untyped-call"
"""
The dialling side of a link: a service that keeps one connection to an endpoint. Used by composition roots.

Twisted's `ReconnectingClientFactory` decides when to try again. It was made for the old connectors; an endpoint
doesn't tell its factory that a connection was lost or couldn't be made, so a small connector stands between the two.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError, NotConnectingError
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IDelayedCall,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, ReconnectingClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedipc.ipc.connections.link import JSONLineProtocol
from twistedipc.ipc.connections.peer import ApplicationFactory
from twistedipc.ipc.places.credentials import refuse_strangers
from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles, client_endpoint, parse_dialled
from twistedipc.ipc.places.keys import make_nonce
from twistedipc.ipc.wire.errors import BadEndpoint, Code
from twistedipc.ipc.wire.session import SessionSettings, Side

FIRST_DELAY = 0.5
LONGEST_DELAY = 30
#: On one machine there is no crowd, and whoever restarts the peer waits for it. To find that nobody is there costs
#: nothing, so the row doesn't apply to that.
LONGEST_LOCAL_DELAY = 2
VAIN_LOCAL_DELAY = 0.25

#: Seconds that a link must have been ready for, before the next delay is the first one again: a peer that welcomes
#: and then throws out must not be hammered.
LASTING = 5.0


def dial_links(
    reactor: LinkReactor,
    endpoint: str,
    settings: SessionSettings,
    application_factory: ApplicationFactory,
    *,
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    random: Callable[[], float] = random_module.random,
    failed: Callable[[str], None] | None = None,
    refused: Callable[[str, str], None] | None = None,
) -> DialService:
    """
    A service that dials ``endpoint`` and, whenever the connection is lost, dials again.

    :param tls: for ``tls:`` endpoints
    :param uids: for ``unix:`` endpoints: whose listener may answer; None is this process's own user, and root
    :param random: gives numbers from 0 to 1, by which the delays are scattered
    :param failed: told why, for people, each time that an attempt has failed or a link has ended
    :param refused: told the code and the reason as well if it was one of those that only people can set right: the two
        sides have met, and one has refused the other before there was a link
    :raises BadEndpoint: the endpoint can't be dialled, or only once: for those there is `OneLink`
    """
    address = parse_dialled(endpoint, has_key=settings.key is not None)
    if address.is_inherited:
        raise BadEndpoint(f"{endpoint!r}: it is one connection, which can't be made again when it is lost")
    connecting = client_endpoint(reactor, address, tls)

    def check(link: JSONLineProtocol) -> str | None:
        return refuse_strangers(link.transport, uids) if address.kind == "unix" else None

    factory = _LinkFactory(reactor, endpoint, settings, application_factory, check, random, failed, refused)
    if address.kind == "unix":
        factory.maxDelay = LONGEST_LOCAL_DELAY
        factory.vain_delay = VAIN_LOCAL_DELAY
    factory.connector = _Connector(connecting, factory)
    return DialService(factory)


class DialService(Service):
    """
    Keeps one connection, from `startService` until the Deferred that `stopService` returns has fired. May be started
    again at any time: it dials then as soon as the connection of before is closed, and what waits for that hears of it.
    """

    def __init__(self, factory: _LinkFactory) -> None:
        self._factory = factory

    def startService(self) -> None:
        super().startService()
        self._factory.start()

    def stopService(self) -> Deferred[None]:
        """Say goodbye, and wait until the connection is closed; that takes at most `LINGER` seconds."""
        super().stopService()
        return self._factory.stop()


class _ScatteredClock:
    """
    What the factory schedules its retries with: full jitter, anything from nothing to the whole delay. Its own jitter
    is a few percent, which keeps a herd together.
    """

    def __init__(self, clock: IReactorTime, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random

    def callLater(self, delay: float, function: Callable[[], Any]) -> IDelayedCall:
        return self._clock.callLater(delay * self._random(), function)


class _LinkFactory(ReconnectingClientFactory):
    """Makes the connections of one `DialService`, one after the other, and owns them."""

    _log = Logger()
    noisy = False
    initialDelay = FIRST_DELAY
    maxDelay = LONGEST_DELAY
    delay = FIRST_DELAY
    factor = 2.0
    jitter = 0
    vain_delay: float | None = None  # after a try that reached nobody, if the row of delays isn't for that

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: str,
        settings: SessionSettings,
        application_factory: ApplicationFactory,
        check: Callable[[JSONLineProtocol], str | None],
        random: Callable[[], float],
        failed: Callable[[str], None] | None,
        refused: Callable[[str, str], None] | None,
    ) -> None:
        self.clock = cast(Any, _ScatteredClock(reactor, random))
        self._reactor = reactor
        self._endpoint = endpoint
        self._settings = settings
        self._application_factory = application_factory
        self._check = check
        self._failed = failed
        self._refused = refused
        self._link: JSONLineProtocol | None = None
        self._lasting: IDelayedCall | None = None
        self._stopping: list[Deferred[None]] = []  # to be fired when there is no link any more
        self.connector: _Connector
        self._unreachable = ""  # why nobody was reached, the last time that it was said

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self._link is not None or not self.continueTrying:
            return None  # an attempt that was given up has reached somebody after all
        self._link = JSONLineProtocol(
            Side.DIALLER, self._settings, self._application_factory, self._reactor, self, make_nonce()
        )
        return self._link

    def start(self) -> None:
        """Dial; or, if there is still a link that is being closed, dial when it is."""
        if self._callID is not None:
            self._callID.cancel()
        self.resetDelay()
        if self._link is None and not self.connector.is_connecting:
            self.connector.connect()

    def stop(self) -> Deferred[None]:
        """Dial no more, and close what there is."""
        self.stopTrying()
        if self._link is None:
            return succeed(None)
        stopping: Deferred[None] = Deferred()
        self._stopping.append(stopping)
        self._link.close(Code.CLOSED, "the peer is stopping")
        return stopping

    # -- as the connector's factory

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._link = None
        why = reason.getErrorMessage()
        if self._failed is not None:
            self._failed(why)
        if self.continueTrying and why != self._unreachable:
            self._unreachable = why
            self._log.info("{endpoint} can't be reached: {reason}", endpoint=self._endpoint, reason=why)
        delay = self.delay
        if self.vain_delay is not None:
            self.delay = self.vain_delay
        super().clientConnectionFailed(connector, reason)
        if self.vain_delay is not None:
            self.delay = delay

    # -- as the connection's owner

    def link_made(self, link: JSONLineProtocol) -> str | None:
        return self._check(link)

    def link_ready(self, link: JSONLineProtocol) -> None:
        self._unreachable = ""
        self._log.info("{endpoint}: linked", endpoint=self._endpoint)
        self._lasting = self._reactor.callLater(LASTING, self._lasted)

    def _lasted(self) -> None:
        self._lasting = None
        if self.continueTrying:
            self.resetDelay()

    def link_lost(self, link: JSONLineProtocol, reason: str) -> None:
        if self._link is not link:
            return
        self._link = None
        # What hears of it may start and stop this again: each of these is told of the link that it has closed.
        stopping, self._stopping = self._stopping, []
        if self._lasting is not None:
            self._lasting.cancel()
            self._lasting = None
        self._log.info("{endpoint}: the link was lost: {reason}", endpoint=self._endpoint, reason=reason)
        if self._failed is not None:
            self._failed(reason)
        if link.refusal is not None and self._refused is not None:
            self._refused(link.refusal, reason)
        if stopping and self.continueTrying:
            self.connector.connect()  # it was started again meanwhile
        else:
            self.clientConnectionLost(self.connector, Failure(ConnectError(string=reason)))
        for each in stopping:
            each.callback(None)


@implementer(IConnector)
class _Connector:
    """Drives an endpoint for a `ReconnectingClientFactory`, and tells it what became of that."""

    def __init__(self, endpoint: IStreamClientEndpoint, factory: _LinkFactory) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._connecting: Deferred[Any] | None = None

    @property
    def is_connecting(self) -> bool:
        """Whether an attempt is under way."""
        return self._connecting is not None

    def connect(self) -> None:
        connecting = self._endpoint.connect(self._factory)
        self._connecting = connecting
        connecting.addBoth(self._connected)

    def _connected(self, result: object) -> None:
        self._connecting = None
        if isinstance(result, Failure):
            self._factory.clientConnectionFailed(self, result)

    def stopConnecting(self) -> None:
        if self._connecting is None:
            raise NotConnectingError()
        self._connecting.cancel()

    def disconnect(self) -> None:
        self._factory.stop()

    def getDestination(self) -> Any:
        return self._endpoint
