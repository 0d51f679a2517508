"""The web's half of the composition: what its routes work with, over a server. Used by ``apiserver`` and by tests."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from twistedipc.builds.places import Place
from twistedipc.server.compose import Server
from twistedipc.web.access.audience import Audience
from twistedipc.web.access.auth import Tickets
from twistedipc.web.access.domains import Domains
from twistedipc.web.access.guests import Guests
from twistedipc.web.access.visits import Visits
from twistedipc.web.api.context import WebContext, WebSocketRoutes
from twistedipc.web.http.clients import Proxies


def web_context(
    server: Server,
    *,
    websockets: WebSocketRoutes,
    version: str,
    domains: Domains,
    draining: Callable[[], bool],
    allowed_origins: frozenset[str],
    local_repositories: bool,
    api_url: str,
    elsewhere: Callable[[str], bool] = lambda repository: True,
    look_up: Callable[[str], Deferred[list[Place]]] = lambda host: succeed([]),
    secure_cookies: bool = False,
    proxies: Proxies | None = None,
) -> WebContext:
    """Return what the routes of this server work with. The arguments are fields of `WebContext`."""
    outside = server.outside
    audience = Audience(outside.ledger, outside.now)
    server.feed.listen(lambda change: audience.changed(change.project) if change.ended else None)
    server.polling.listen(audience.changed)
    return WebContext(
        clock=outside.clock,
        now=outside.now,
        random=outside.random,
        in_thread=outside.in_thread,
        ledger=outside.ledger,
        dispatch=server.dispatch,
        requests=server.lifecycle,
        comparing=server.comparing,
        packages=server.requesting,
        retention=server.pruning,
        hooking=server.lifecycle,
        looks=server.polling,
        logs=server.logs,
        searches=server.searching,
        diagnoses=server.diagnosing,
        secret_box=outside.secret_box,
        public_key=outside.signing_key.public,
        issuer=outside.issuer,
        releasing=server.releasing,
        artifact_store=outside.artifact_store,
        uploads=server.grants,
        builders=server.builders,
        tell=server.sender.wake,
        websockets=websockets,
        tickets=Tickets(outside.clock, outside.random),
        visits=Visits(outside.now, outside.random),
        guests=Guests(outside.now, outside.in_thread, outside.secret_box.key_for("guests of previews")),
        audience=audience,
        version=version,
        domains=domains,
        release_url=domains.url_of,
        draining=draining,
        allowed_origins=allowed_origins,
        local_repositories=local_repositories,
        elsewhere=elsewhere,
        look_up=look_up,
        secure_cookies=secure_cookies,
        hosts=domains.hosts,
        api_url=api_url,
        proxies=proxies or Proxies(),
        does_elsewhere=server.duties.elsewhere,
    )
