"""
Connections to services outside, whose address somebody has entered: none leads to this machine or to its cloud's
metadata service, unless the operator has allowed the host. ``web.http``.

The addresses that a name leads to are looked at, and one of these is connected to: a name that leads elsewhere a moment
later makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorCore, IStreamClientEndpoint
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from twistedipc.builds.places import ALLOW, Place, problem_of
from twistedipc.web.http.outgoing import SECONDS, Unanswered

#: What the addresses of a host are.
LookUp = Callable[[str], Deferred[list[Place]]]


def agent_for_elsewhere(reactor: IReactorCore, look_up: LookUp, elsewhere: Callable[[str], bool]) -> Agent:
    """
    Return an agent that connects to no address of this machine.

    :param elsewhere: whether what is at this address may be at no address of this machine
    """
    agent: Agent = Agent.usingEndpointFactory(reactor, Elsewhere(reactor, look_up, elsewhere))
    return agent


@implementer(IAgentEndpointFactory)
class Elsewhere:
    """Makes the endpoints."""

    def __init__(self, reactor: Any, look_up: LookUp, elsewhere: Callable[[str], bool]) -> None:
        self._reactor = reactor
        self._look_up = look_up
        self._elsewhere = elsewhere
        self._policy = BrowserLikePolicyForHTTPS()

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Twisted calls this for each new connection."""
        return _Looked(self, uri)

    async def connect(self, factory: IProtocolFactory, uri: URI) -> IProtocol:
        """Connect to one of the addresses of a host. Raises `Unanswered` if none may be connected to."""
        host = uri.host.decode("ascii").strip("[]")
        places = await self._look_up(host)
        if not places:
            raise Unanswered(f"{host} has no address here")
        if self._elsewhere(f"{uri.scheme.decode()}://{uri.netloc.decode()}/"):
            problem = problem_of(host, places)
            if problem:
                raise Unanswered(f"{problem}. {ALLOW}")
        last: Exception | None = None
        for place in places:
            endpoint: Any = HostnameEndpoint(self._reactor, place.address, uri.port, timeout=SECONDS)
            if uri.scheme == b"https":
                endpoint = wrapClientTLS(self._policy.creatorForNetloc(host.encode(), uri.port), endpoint)
            try:
                protocol: IProtocol = await endpoint.connect(factory)
                return protocol
            except Exception as error:  # one address of several: the others may do
                last = error
        assert last is not None
        raise last


@implementer(IStreamClientEndpoint)
class _Looked:
    """The endpoint of one address, which is looked up when it is connected to."""

    def __init__(self, through: Elsewhere, uri: URI) -> None:
        self._through = through
        self._uri = uri

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Twisted calls this."""
        return Deferred.fromCoroutine(self._through.connect(protocolFactory, self._uri))
