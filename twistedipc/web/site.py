"""The site of the API: its routes, its WebSockets and the page, on one port. Made by the composition root."""

from __future__ import annotations

from twisted.web.resource import Resource

from twistedipc.web.access.held import HeldOpen
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.resource import Api
from twistedipc.web.http.channel import BodySink, BoundedRequest, BoundedSite
from twistedipc.web.http.hosts import Hosts
from twistedipc.web.http.problems import ProblemError
from twistedipc.web.page.resource import Page


class _Root(Resource):
    """Leads the page's paths to the page, all others to the API."""

    isLeaf = True

    def __init__(self, api: Api, page: Page, hosts: Hosts, api_url: str) -> None:
        super().__init__()
        self._api = api
        self._page = page
        self._hosts = hosts
        self._api_url = api_url

    def render(self, request: BoundedRequest) -> int | bytes:
        """Twisted calls this when the request has arrived."""
        return (self._page if self._page.serves(request.path) else self._api).render(request)

    def head_received(self, request: BoundedRequest) -> BodySink | None:
        """See `channel.Front`."""
        host = request.getHeader("host") or ""
        if not self._hosts.is_api(host):
            where = f": it is at {self._api_url}" if self._api_url else ""
            raise ProblemError(
                421,
                f"this apiserver isn't called {host[:200]}{where}. If it is reached by that name, add it to "
                "http.hosts in the configuration",
                name="unknown-host",
            )
        return self._api.head_received(request)


class ApiSite(BoundedSite):
    """The site on the API's port."""

    def __init__(self, api: Api, page: Page, context: WebContext) -> None:
        root = _Root(api, page, context.hosts, context.api_url)
        super().__init__(root, root, context.clock, context.random, context.proxies)
        self._api = api

    @property
    def held(self) -> HeldOpen:
        """What tokens hold open now."""
        return self._api.held

    async def refresh(self) -> None:
        """Another apiserver may have changed what tokens may: look again. Raises `LedgerUnavailable`."""
        await self._api.refresh()

    async def stop(self) -> None:
        """Break off what streams, and wait for what is being changed. Requests that come meanwhile are refused."""
        await self._api.stop()


def api_site(context: WebContext) -> ApiSite:
    """Return the site of this API."""
    return ApiSite(Api(context), Page(), context)
