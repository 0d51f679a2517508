"""
The site of the API: its routes, its WebSockets and the page, on one port. ``web`` layer; called by the taps.
"""

from __future__ import annotations

from twisted.web.resource import Resource

from twistedipc.web.access.held import HeldOpen
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.resource import Api
from twistedipc.web.http.channel import BodySink, BoundedRequest, BoundedSite
from twistedipc.web.page.resource import Page


class _Root(Resource):
    """The page's paths to the page, all others to the API."""

    isLeaf = True

    def __init__(self, api: Api, page: Page) -> None:
        super().__init__()
        self._api = api
        self._page = page

    def render(self, request: BoundedRequest) -> int | bytes:
        """Twisted calls this when the request is there."""
        return (self._page if self._page.serves(request.path) else self._api).render(request)

    def head_received(self, request: BoundedRequest) -> BodySink | None:
        """See `channel.Front`."""
        return self._api.head_received(request)


class ApiSite(BoundedSite):
    """What listens on the API's port."""

    def __init__(self, api: Api, page: Page, context: WebContext) -> None:
        root = _Root(api, page)
        super().__init__(root, root, context.clock, context.random, context.proxies)
        self._api = api

    @property
    def held(self) -> HeldOpen:
        """What tokens hold open now."""
        return self._api.held

    async def stop(self) -> None:
        """Break off what streams, and wait for what is being changed. Nothing new begins while it is draining."""
        await self._api.stop()


def api_site(context: WebContext) -> ApiSite:
    """The site of this API."""
    return ApiSite(Api(context), Page(), context)
