"""The web's half of the composition: what its routes work with, over a server. Used by ``apiserver`` and by tests."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from twistedipc.builds.places import Place
from twistedipc.server.compose import Server
from twistedipc.web.access.audience import Audience
from twistedipc.web.access.auth import Tickets
from twistedipc.web.access.visits import Visits
from twistedipc.web.api.context import WebContext, WebSocketRoutes
from twistedipc.web.http.clients import Proxies
from twistedipc.web.http.hosts import Hosts


def web_context(
    server: Server,
    *,
    websockets: WebSocketRoutes,
    version: str,
    release_url: Callable[[str], str],
    draining: Callable[[], bool],
    allowed_origins: frozenset[str],
    local_repositories: bool,
    hosts: Hosts,
    api_url: str,
    elsewhere: Callable[[str], bool] = lambda repository: True,
    look_up: Callable[[str], Deferred[list[Place]]] = lambda host: succeed([]),
    secure_cookies: bool = False,
    proxies: Proxies | None = None,
) -> WebContext:
    """Return what the routes of this server work with. The arguments are fields of `WebContext`."""
    outside = server.outside
    return WebContext(
        clock=outside.clock,
        now=outside.now,
        random=outside.random,
        in_thread=outside.in_thread,
        ledger=outside.ledger,
        dispatch=server.dispatch,
        requests=server.lifecycle,
        comparing=server.comparing,
        logs=server.logs,
        secret_box=outside.secret_box,
        public_key=outside.signing_key.public,
        releasing=server.releasing,
        artifact_store=outside.artifact_store,
        uploads=server.grants,
        builders=server.builders,
        websockets=websockets,
        tickets=Tickets(outside.clock, outside.random),
        visits=Visits(outside.now, outside.random),
        audience=Audience(outside.ledger),
        version=version,
        release_url=release_url,
        draining=draining,
        allowed_origins=allowed_origins,
        local_repositories=local_repositories,
        elsewhere=elsewhere,
        look_up=look_up,
        secure_cookies=secure_cookies,
        hosts=hosts,
        api_url=api_url,
        proxies=proxies or Proxies(),
    )
