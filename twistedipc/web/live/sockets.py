"""
The WebSockets of an apiserver: one log each, or many subscriptions on one socket. ``web.live``; the API's routes call
it when the caller is known and allowed. Implements `web.api.context.WebSocketRoutes`.

There is no queue per viewer. Logs wait until the socket takes more (``followers``), and of builds' states and gists
only the newest are kept meanwhile (``changes``).
"""

from __future__ import annotations

from collections.abc import Callable

from autobahn.twisted.resource import WebSocketResource
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from twistedipc.server.boundaries import GistFeed, Logs, StateFeed
from twistedipc.storage.ledger import Ledger
from twistedipc.web.access.held import Holding
from twistedipc.web.http.closing import CloseCode
from twistedipc.web.live.conversation import Opening, Sources
from twistedipc.web.live.followers import Crowds
from twistedipc.web.live.limits import Limits
from twistedipc.web.live.one_log import LogConversation
from twistedipc.web.live.subscriptions import StreamConversation
from twistedipc.web.live.viewers import ForRequest, ViewerFactory, ViewerProtocol


class WebSockets:
    """Makes a resource for each request that is to become a WebSocket."""

    def __init__(
        self,
        reactor: IReactorTime,
        now: Callable[[], int],
        ledger: Ledger,
        logs: Logs,
        feed: StateFeed,
        gists: GistFeed,
        *,
        max_viewers: int = 10_000,
        limits: Limits | None = None,
    ) -> None:
        self._factory = ViewerFactory(reactor, max_viewers, limits or Limits())
        self._sources = Sources(ledger, Crowds(logs), feed, gists, now)

    def log_resource(
        self, build: int, attempt: int, after: int, holding: Holding, *, compress: bool = False
    ) -> IResource:
        """
        Return a resource that upgrades one request to the stream of one log, from behind record ``after``.
        ``compress``: long messages are to be deflated, if the client also offers the extension.
        """
        return self._resource(
            lambda output: LogConversation(self._sources, output, build, attempt, after), holding, compress
        )

    def stream_resource(self, holding: Holding, *, compress: bool = False) -> IResource:
        """
        Return a resource that upgrades one request to a stream with many subscriptions. ``compress``: see
        `log_resource`.
        """
        projects = holding.token.allowance.projects_with("read")
        return self._resource(lambda output: StreamConversation(self._sources, output, projects), holding, compress)

    @property
    def viewers(self) -> frozenset[ViewerProtocol]:
        """The viewers that are connected now."""
        return frozenset(self._factory.viewers)

    def close_all(self) -> None:
        """Close all sockets, since the service restarts: viewers connect again, and resume by their numbers."""
        for viewer in self.viewers:
            viewer.say_goodbye(CloseCode.AGAIN, "the service restarts")

    def _resource(self, opening: Opening, holding: Holding, compress: bool) -> IResource:
        resource: IResource = WebSocketResource(ForRequest(self._factory, opening, holding, compress))
        return resource
