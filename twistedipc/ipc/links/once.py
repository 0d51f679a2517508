"""
A link that doesn't come back: its connection was inherited, or leads to a child process. Used by ``remote`` in place of
``dial``, and by ``spawn``.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.logger import Logger

from twistedipc.ipc.links.dial import AnyLink
from twistedipc.ipc.wire.errors import Code


class OneLink(Service):
    """
    One link, from `startService` until it ends.

    :param what: the other end, for logs
    :param make_link: makes the link's connection
    :param connect: gives the link its connection
    :param over: called once, with the reason, when the link has ended
    """

    _log = Logger()

    def __init__(
        self,
        what: str,
        make_link: Callable[[OneLink], AnyLink],
        connect: Callable[[Protocol], None],
        over: Callable[[str], None],
    ) -> None:
        self.link = make_link(self)
        self.is_over = False
        self._is_connected = False
        self._what = what
        self._connect = connect
        self._over = over
        self._stopping: list[Deferred[None]] = []

    def startService(self) -> None:
        super().startService()
        if not self._is_connected:
            self._is_connected = True
            self._connect(self.link)

    def stopService(self) -> Deferred[None]:
        """Say goodbye, and wait until the connection is closed; that takes at most `LINGER` seconds."""
        super().stopService()
        if self.is_over or not self._is_connected:
            return succeed(None)
        stopping: Deferred[None] = Deferred()
        self._stopping.append(stopping)
        self.link.close(Code.CLOSED, "the peer is stopping")
        return stopping

    # -- as the link's owner

    def link_made(self, link: AnyLink) -> str | None:
        return None

    def link_ready(self, link: AnyLink) -> None:
        self._log.info("{what}: linked", what=self._what)

    def link_lost(self, link: AnyLink, reason: str) -> None:
        self.is_over = True
        self._log.info("{what}: the link was lost: {reason}", what=self._what, reason=reason)
        self._over(reason)
        stopping, self._stopping = self._stopping, []
        for each in stopping:
            each.callback(None)
