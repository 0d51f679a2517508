"""The bell's wire by the publish and subscribe of Valkey or Redis. Made by ``taps``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, quoteStringArgument
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import RedisFactory, SubscriberFactory, SubscriberProtocol

#: Their name of what is listened to.
CHANNEL: Final = "twistedipc"

#: Seconds between two looks whether the server is still there, and for its answer.
PING: Final = 5.0
ANSWER: Final = 3.0


class ValkeyWire:
    """See `bell.Wire`. ``address``: ``valkey://[[USER]:PASSWORD@]HOST[:PORT]``, or ``valkeys://`` by TLS."""

    transactional = False

    _log = Logger()

    def __init__(self, reactor: IReactorTime, address: str) -> None:
        self._reactor = reactor
        parts = urlsplit(address)
        host = quoteStringArgument(parts.hostname or "localhost")
        kind = "tls" if parts.scheme in ("valkeys", "rediss") else "tcp"
        self._endpoint = f"{kind}:{host}:{parts.port or 6379}:timeout=5"
        self._user = unquote(parts.username or "") or None
        self._password = unquote(parts.password) if parts.password else None
        self._services: list[ClientService] = []
        self._sending: Any = None  # a connection that sends, while there is one

    def start(self, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        """See `bell.Wire`."""

        def listening(protocol: Any) -> None:
            protocol.heard = heard
            protocol.subscribe(CHANNEL).addCallbacks(lambda _: missed(), lambda _: protocol.transport.abortConnection())

        def sending(protocol: Any) -> None:
            self._sending = protocol
            protocol.whenDisconnected().addCallback(self._sends_no_more)

        hearing = SubscriberFactory()
        hearing.protocol = _Subscriber
        self._connect(hearing, listening)
        self._connect(RedisFactory(None, None, 1), sending)

    def stop(self) -> None:
        """See `bell.Wire`."""
        services, self._services = self._services, []
        for service in services:
            service.stopService()

    def carry(self, connection: Connection, text: str) -> None:
        """See `bell.Wire`: nothing is sent in transactions."""
        raise AssertionError("this wire is outside of transactions")

    def send(self, text: str) -> None:
        """See `bell.Wire`. What can't be sent now isn't kept: the others look by themselves."""
        if self._sending is not None:
            self._sending.publish(CHANNEL, text).addErrback(lambda failure: None)

    def _connect(self, factory: Any, ready: Callable[[Any], None]) -> None:
        factory.charset, factory.convertNumbers = None, False
        factory.username, factory.password = self._user, self._password
        factory.deferred.addErrback(self._note)

        def made(protocol: Any) -> None:
            protocol.transport.setTcpNoDelay(True)
            protocol.whenConnected().addCallback(ready)
            pinging = LoopingCall(self._ping, protocol)
            pinging.clock = self._reactor
            protocol.whenConnected().addCallback(lambda _: pinging.start(PING, now=False) and None)
            protocol.whenDisconnected().addCallback(lambda _: pinging.stop() if pinging.running else None)

        service = ClientService(
            clientFromString(self._reactor, self._endpoint),
            factory,
            retryPolicy=backoffPolicy(0.1, 5.0),
            clock=self._reactor,
            prepareConnection=made,
        )
        self._services.append(service)
        service.startService()

    def _note(self, failure: Failure) -> None:
        self._log.error("the bell can't be used: {error}", error=failure.getErrorMessage())

    def _ping(self, protocol: Any) -> None:
        """A server that is gone without a word is found out by its silence."""
        answered: Deferred[object] = protocol.execute_command("PING", apply_timeout=False)
        answered.addTimeout(ANSWER, self._reactor).addErrback(lambda _: protocol.transport.abortConnection())

    def _sends_no_more(self, protocol: Any) -> None:
        if self._sending is protocol:
            self._sending = None


class _Subscriber(SubscriberProtocol):  # type: ignore[misc]  # it ships no annotations
    heard: Callable[[str], None]

    def messageReceived(self, pattern: object, channel: bytes, message: bytes) -> None:
        self.heard(message.decode("utf-8", "replace"))
