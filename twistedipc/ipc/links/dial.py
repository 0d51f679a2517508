"""
The dialling side of a link: a service that keeps one connection to an endpoint. Used by composition roots.

``dialling`` has the states as a table; this module does what the table says. Twisted's `ReconnectingClientFactory`
gives the delays.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory, Protocol, ReconnectingClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.ipc.connections.link import JSONLineProtocol
from twistedipc.ipc.connections.peer import ApplicationFactory
from twistedipc.ipc.connections.plain import PlainProtocol
from twistedipc.ipc.links.dialling import STEPS, Act, Input, State
from twistedipc.ipc.places.credentials import refuse_strangers
from twistedipc.ipc.places.endpoints import Address, LinkReactor, TLSFiles, client_endpoint, parse_dialled
from twistedipc.ipc.places.keys import make_nonce
from twistedipc.ipc.wire.errors import BadEndpoint, Code
from twistedipc.ipc.wire.settings import SessionSettings, Side

FIRST_DELAY = 0.5
LONGEST_DELAY = 30
#: UNIX sockets reconnect fast: only processes of this machine do so, and connect() to a socket that isn't there is
#: nearly free. An attempt that fails is made again after `UNREACHED_LOCAL_DELAY`; only links that were made and lost
#: back off.
LONGEST_LOCAL_DELAY = 2
UNREACHED_LOCAL_DELAY = 0.25

#: Seconds that a link must have been ready for, before the next delay is the first one again: a peer that
#: accepts links and drops them at once must not be hammered.
LASTING = 5.0


#: A connection in any format that can be dialled.
AnyLink = JSONLineProtocol | PlainProtocol


def dial_links(
    reactor: LinkReactor,
    endpoint: str,
    settings: SessionSettings,
    application_factory: ApplicationFactory,
    *,
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    random: Callable[[], float] = random_module.random,
    nonce: Callable[[], str] = make_nonce,
    failed: Callable[[str], None] | None = None,
    refused: Callable[[str, str], None] | None = None,
) -> DialService:
    """
    Make a service that dials ``endpoint`` and, whenever the connection is lost, dials again.

    :param tls: for ``tls:`` endpoints
    :param uids: for ``unix:`` endpoints: the users whose listener may answer; None means this process's user and root
    :param random: gives numbers from 0 to 1, by which the delays are scattered
    :param nonce: gives the nonce of a connection's handshake: one that no connection had before
    :param failed: called with the reason, for people, each time that an attempt has failed or a link has ended
    :param refused: called with the code and the reason if only people can change the outcome: the two sides have met,
        and one has refused the other before there was a link
    :raises BadEndpoint: the endpoint can't be dialled, or only once: for those there is `OneLink`
    """
    address = parse_dialled(endpoint, has_key=settings.has_key)

    def make_link(owner: DialService) -> JSONLineProtocol:
        return JSONLineProtocol(Side.DIALLER, settings, application_factory, reactor, owner, nonce())

    return dial_service(
        reactor, endpoint, address, make_link, tls=tls, uids=uids, random=random, failed=failed, refused=refused
    )


def dial_service(
    reactor: LinkReactor,
    endpoint: str,
    address: Address,
    make_link: Callable[[DialService], AnyLink],
    *,
    tls: TLSFiles | None,
    uids: frozenset[int] | None,
    random: Callable[[], float],
    failed: Callable[[str], None] | None,
    refused: Callable[[str, str], None] | None,
) -> DialService:
    """
    Make a service that dials ``address`` for connections of any format; otherwise like `dial_links`.

    :param endpoint: the address, for people
    :param make_link: makes the connection of one attempt
    """
    if address.is_inherited:
        raise BadEndpoint(f"{endpoint!r}: it is one connection, which can't be made again when it is lost")
    is_local = address.kind == "unix"

    def check(link: AnyLink) -> str | None:
        return refuse_strangers(link.transport, uids) if is_local else None

    delays = Delays(
        reactor,
        random,
        longest=LONGEST_LOCAL_DELAY if is_local else LONGEST_DELAY,
        unreached=UNREACHED_LOCAL_DELAY if is_local else None,
    )
    return DialService(
        reactor, endpoint, client_endpoint(reactor, address, tls), make_link, delays, check, failed, refused
    )


class Delays(ReconnectingClientFactory):
    """
    The delays between one service's attempts.

    The base `ReconnectingClientFactory` is what Twisted's users look for where something reconnects, and it has the row
    of delays. It was made for the old connectors: an endpoint doesn't tell a factory that a connection failed or was
    lost, so the states are `DialService`'s.

    :param random: gives numbers from 0 to 1: a delay is anything from nothing to the whole of it. The base's own jitter
        is a few percent, which keeps a herd together.
    :param longest: seconds that the row of delays goes up to
    :param unreached: the delay after an attempt that has made no connection, if it isn't the row's
    """

    noisy = False
    initialDelay = FIRST_DELAY
    factor = 2.0
    jitter = 0

    def __init__(
        self, clock: IReactorTime, random: Callable[[], float], *, longest: float, unreached: float | None
    ) -> None:
        self.clock = cast(Any, clock)
        self.delay = self.initialDelay
        self.maxDelay = cast(Any, longest)
        self._random = random
        self._unreached = unreached

    def wait(self, due: Callable[[], None], *, reached: bool) -> None:
        """Call ``due`` after the next delay. ``reached`` is whether there was a link at all."""
        row = self.delay
        out_of_row = None if reached else self._unreached
        self.delay = (row if out_of_row is None else out_of_row) * self._random()
        self.retry(_Due(due))
        self.delay = row if out_of_row is not None else min(row * self.factor, self.maxDelay)

    def wait_no_longer(self) -> None:
        """Call ``due`` no more."""
        self.stopTrying()
        self.continueTrying = 1


class _Due:
    """What `ReconnectingClientFactory` takes for a connector."""

    def __init__(self, due: Callable[[], None]) -> None:
        self.connect = due

    def stopConnecting(self) -> None:
        """See `IConnector`. It isn't called while an attempt is under way."""
        raise NotConnectingError()


class _Attempt(ClientFactory):
    """One attempt to connect. A connection that it makes after it was given up is refused."""

    noisy = False

    def __init__(self, reached: Callable[[_Attempt], Protocol | None]) -> None:
        self._reached = reached
        self.connecting: Deferred[Any]

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return self._reached(self)


class DialService(Service):
    """
    Keeps one connection, from `startService` until the Deferred that `stopService` returns has fired. May be started
    again at any time: it then dials as soon as the previous connection is closed, when the Deferreds of earlier stops
    fire.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        text: str,
        endpoint: IStreamClientEndpoint,
        make_link: Callable[[DialService], AnyLink],
        delays: Delays,
        check: Callable[[AnyLink], str | None],
        failed: Callable[[str], None] | None,
        refused: Callable[[str, str], None] | None,
    ) -> None:
        self._clock = clock
        self._text = text  # the endpoint, for people
        self._endpoint = endpoint
        self._make_link = make_link
        self._delays = delays
        self._check = check
        self._failed = failed
        self._refused = refused
        self._state = State.IDLE
        self._attempt: _Attempt | None = None
        self._link: AnyLink | None = None
        self._lasting: IDelayedCall | None = None
        self._stopping: list[Deferred[None]] = []  # to be fired when there is no link any more
        self._unreachable = ""  # why the endpoint couldn't be reached, when that was logged last

    @property
    def state(self) -> State:
        """What the service is doing now. Internal to the library."""
        return self._state

    def startService(self) -> None:
        super().startService()
        self._handle(Input.START)

    def stopService(self) -> Deferred[None]:
        """Say goodbye, and wait until the connection is closed; that takes at most `LINGER` seconds."""
        super().stopService()
        stopping: Deferred[None] = Deferred()
        self._stopping.append(stopping)
        self._handle(Input.STOP)
        return stopping

    def _handle(self, what: Input, *tell: Callable[[], None]) -> None:
        """
        Go to the next state, do its acts, and then call ``tell``, from within which the service may be started and
        stopped again. Last, fire the Deferreds of the stops that are over.
        """
        self._state, acts = STEPS[self._state][what]
        ended: list[Deferred[None]] = []
        for act in acts:
            if act is Act.END_STOPS:
                ended, self._stopping = self._stopping, []
            else:
                _ACTS[act](self)
        for each in tell:
            each()
        for stopping in ended:
            stopping.callback(None)

    # -- what is done

    def _connect(self) -> None:
        self._attempt = attempt = _Attempt(self._reached)
        attempt.connecting = self._endpoint.connect(attempt)
        attempt.connecting.addErrback(self._attempt_failed, attempt)

    def _give_up(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.connecting.cancel()

    def _retry(self) -> None:
        self._delays.wait(self._due, reached=True)

    def _retry_unreached(self) -> None:
        self._delays.wait(self._due, reached=False)

    def _wait_no_longer(self) -> None:
        self._delays.wait_no_longer()

    def _start_afresh(self) -> None:
        self._delays.resetDelay()

    def _close(self) -> None:
        assert self._link is not None
        self._link.close(Code.CLOSED, "the peer is stopping")

    # -- what happens

    def _due(self) -> None:
        self._handle(Input.DUE)

    def _reached(self, attempt: _Attempt) -> AnyLink | None:
        if attempt is not self._attempt or self._state is not State.CONNECTING:
            return None  # an attempt that was given up has made a connection after all
        self._link = self._make_link(self)
        self._handle(Input.REACHED)
        return self._link

    def _attempt_failed(self, failure: Failure, attempt: _Attempt) -> None:
        if attempt is not self._attempt:
            return
        self._attempt = self._link = None
        why = failure.getErrorMessage()

        def tell() -> None:
            if why != self._unreachable:
                self._unreachable = why
                self._log.info("{endpoint} can't be reached: {reason}", endpoint=self._text, reason=why)
            if self._failed is not None:
                self._failed(why)

        self._handle(Input.FAILED, tell)

    # -- as the connection's owner

    def link_made(self, link: AnyLink) -> str | None:
        return self._check(link)

    def link_ready(self, link: AnyLink) -> None:
        self._unreachable = ""
        self._log.info("{endpoint}: linked", endpoint=self._text)
        self._lasting = self._clock.callLater(LASTING, self._lasted)

    def _lasted(self) -> None:
        self._lasting = None
        self._delays.resetDelay()

    def link_lost(self, link: AnyLink, reason: str) -> None:
        if self._link is not link:
            return
        self._attempt = self._link = None
        if self._lasting is not None:
            self._lasting.cancel()
            self._lasting = None

        def tell() -> None:
            self._log.info("{endpoint}: the link was lost: {reason}", endpoint=self._text, reason=reason)
            if self._failed is not None:
                self._failed(reason)
            if link.refusal is not None and self._refused is not None:
                self._refused(link.refusal, reason)

        self._handle(Input.LOST, tell)


_ACTS: dict[Act, Callable[[DialService], None]] = {
    Act.CONNECT: DialService._connect,
    Act.GIVE_UP: DialService._give_up,
    Act.RETRY: DialService._retry,
    Act.RETRY_UNREACHED: DialService._retry_unreached,
    Act.WAIT_NO_LONGER: DialService._wait_no_longer,
    Act.START_AFRESH: DialService._start_afresh,
    Act.CLOSE: DialService._close,
}
