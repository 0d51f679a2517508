# Much of Twisted has no annotations.
# mypy: disable-error-code="no-untyped-call"
"""
The side that asks: `dial` gives a `Remote`, which stands for a service whether it can be reached just now or not.

::

    calculator = dial(reactor, "unix:calculator.sock", CALCULATOR)
    total = await calculator.call(Add(a=2, b=3), timeout=5)      # a Sum
    calculator.send(Note(text="done"))
    await calculator.close()

What happens while there is no link is chosen by `Unlinked`, not accidental. A call that was under way when its link
ended always fails with `NotConnected`: whether it was answered there nobody can know.
"""

from __future__ import annotations

import random as random_module
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, Unpack

import msgspec
from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReactorTime

from twistedipc.ipc.dial import DialService, dial_links
from twistedipc.ipc.endpoints import LinkReactor, TLSFiles, parse_dialled
from twistedipc.ipc.errors import CallFailed, CallTimedOut, Code, LocalProtocolError, NotConnected, QueueFull
from twistedipc.ipc.inherited import inherited_connection
from twistedipc.ipc.interface import Interface, Request
from twistedipc.ipc.messages import encode
from twistedipc.ipc.once import OneLink
from twistedipc.ipc.outbox import MemoryOutbox, Outbox
from twistedipc.ipc.peer import Peer
from twistedipc.ipc.service import Limits, Service, ServiceApplication, check_named, side_settings
from twistedipc.ipc.session import FRAME_LIMIT, Side
from twistedipc.ipc.streams import Outgoing, Receivers, Stream

R = TypeVar("R", bound=msgspec.Struct)

#: Calls that may wait for a link at a time.
MAX_WAITING = 1024


@dataclass(frozen=True, slots=True)
class Unlinked:
    """
    What happens while there is no link.

    :param calls_wait: calls wait for one, within their timeout; else they fail at once with `NotConnected`
    :param queue: bytes of one-way messages, as JSON, that are kept for the next link; what goes over it, and all if it
        is 0, is refused with `QueueFull`. A queue outlives links, not processes, and what has been written to a link
        that then breaks is gone: for what mustn't get lost there are streams
    """

    calls_wait: bool = True
    queue: int = 1 << 20


def dial(
    reactor: LinkReactor,
    endpoint: str,
    interface: Interface,
    *,
    service: Service | None = None,
    unlinked: Unlinked = Unlinked(),
    key: bytes | None = None,
    name: str = "",
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    random: Callable[[], float] = random_module.random,
    **limits: Unpack[Limits],
) -> Remote:
    """
    Stay linked with the service at ``endpoint`` (``unix:PATH``, ``tcp:HOST:PORT``, ``tls:HOST:PORT``) until
    `Remote.close`. Returns at once; whether, and when, it can be reached is told by `Remote.linked`.

    At ``fd:NUMBER`` or ``fd:$VARIABLE``, a connection that this process has inherited, and at ``stdio:``, its standard
    input and output, there is one link and no other: when it has ended, that is final (`Remote.closed`).

    :param reactor: Twisted's
    :param interface: the service's
    :param service: what answers that side, if it calls as well
    :param unlinked: what happens while there is no link
    :param key: the secret of both sides, at least 16 bytes (`make_key`); a UNIX socket and what was inherited
        need none
    :param name: this side's name, which the service sees as ``peer.info.name``; by default its role and process id, as
        ``calculator-client.4711``. Receivers know a stream by it
    :param tls: certificates, for ``tls:``
    :param uids: for ``unix:``, whose process may answer; by default this user's and root's
    :param random: gives numbers from 0 to 1, by which the delays between attempts (0.5 to 30 seconds; at most 2 at
        ``unix:``) are scattered
    :param limits: as for `listen`
    :raises BadEndpoint: it can't be dialled; ``str()`` says why. That nobody is there just now is no error
    :raises BadKey: the key is too short, or no bytes
    :raises ValueError: the name can't be one: 1 to 64 letters, digits and ``. _ -``
    """
    answered = None if service is None else service.interface
    settings = side_settings(interface.peer_role, interface.role, answered, interface, key, name, limits)
    remote = Remote(reactor, interface, service, unlinked, named=bool(name), frame_limit=settings.frame_limit)
    address = parse_dialled(endpoint, has_key=key is not None)
    if address.is_inherited:
        connect = inherited_connection(reactor, address)
        remote.start(OneLink(reactor, endpoint, Side.DIALLER, settings, remote.application, connect, remote.over))
        return remote
    links = dial_links(
        reactor, endpoint, settings, remote.application, tls=tls, uids=uids, random=random, failed=remote.not_linked
    )
    remote.start(links)
    return remote


class Remote:
    """A service, over one link after another. Made by `dial`."""

    def __init__(
        self,
        clock: IReactorTime,
        interface: Interface | None,
        service: Service | None,
        unlinked: Unlinked,
        *,
        named: bool = True,
        frame_limit: int = FRAME_LIMIT,
    ) -> None:
        self._clock = clock
        self._messages = frozenset(() if interface is None else interface.messages)
        self._service = service
        self._named = named
        self._frame_limit = frame_limit
        streams = service is not None and service.interface.streams
        self._receivers = Receivers(service.receiver) if service is not None and streams else None
        self._outgoing = Outgoing(clock, {} if interface is None else interface.streams, frame_limit)
        self._unlinked = unlinked
        self._links: DialService | OneLink | None = None
        self._peer: Peer | None = None
        self._why = "there is no link yet"
        self._closed = False
        self._over = False  # there is no link, and there won't be one
        self._closing: list[Deferred[str]] = []
        self._waiting: list[Deferred[Peer]] = []
        self._queue: deque[msgspec.Struct] = deque()
        self._queued = 0  # bytes

    # -- links

    def application(self, peer: Peer) -> ServiceApplication:
        """The application factory of its links. For who makes the links."""
        application = _RemoteApplication(self._service, peer, self._receivers, self._outgoing, self)
        self._peer = peer
        if self._queue:
            queue, self._queue, self._queued = list(self._queue), deque(), 0
            peer.send_many(queue)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:  # those before it may cancel it
                each.callback(peer)
        return application

    def start(self, links: DialService | OneLink) -> None:
        """Begin to dial. For who makes the links."""
        self._links = links
        links.startService()

    def lost(self, peer: Peer, reason: str) -> None:
        """The link with this peer has ended. For who makes the links."""
        if self._peer is peer:
            self._peer = None
            self.not_linked(reason)

    def not_linked(self, reason: str) -> None:
        """Why there is no link just now, for whoever waits for one in vain. For who makes the links."""
        if self._peer is None and not self._closed:
            self._why = reason

    @property
    def peer(self) -> Peer | None:
        """The service on the link of now; None while there is none."""
        return self._peer

    def linked(self, timeout: float | None = None) -> Deferred[Peer]:
        """
        Fires with the `Peer` when there is a link; at once, if there is one now.

        Fails with `NotConnected` after `close`, or if there was none in ``timeout`` seconds: ``str()`` then tells why
        the last attempt has failed.
        """
        if self._closed:
            return fail(NotConnected(self._why))
        if self._peer is not None:
            return succeed(self._peer)
        waiting: Deferred[Peer] = Deferred(self._forget)
        self._waiting.append(waiting)
        if timeout is not None:
            waiting.addTimeout(timeout, self._clock)
            waiting.addErrback(self._no_link, timeout)
        return waiting

    def _forget(self, waiting: Deferred[Peer]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _no_link(self, failure: Any, timeout: float) -> Any:
        if failure.check(TimeoutError):
            raise NotConnected(f"no link within {timeout:g} seconds: {self._why}")
        return failure

    def close(self) -> Deferred[None]:
        """
        Say goodbye, and dial no more. Fires when the link is closed, within 5 seconds; what was sent before is written
        by then, unless the peer doesn't read. Calls that wait, for a link or for a reply, fail with `NotConnected`;
        messages that wait for a link are dropped.
        """
        self._end("it was closed here")
        stopped = succeed(None) if self._links is None else self._links.stopService()
        return stopped.addCallback(lambda _: self.over(self._why))

    def closed(self) -> Deferred[str]:
        """
        Fires when there is no link and won't be another, with the reason, for people: after `close`; or, where there is
        one link only, when it has ended.
        """
        if self._over:
            return succeed(self._why)
        closing: Deferred[str] = Deferred()
        self._closing.append(closing)
        return closing

    def over(self, reason: str) -> None:
        """There won't be another link. For who makes the links."""
        self._end(reason)
        if not self._over:
            self._over = True
            closing, self._closing = self._closing, []
            for each in closing:
                each.callback(self._why)

    def _end(self, why: str) -> None:
        """What waits for a link waits in vain."""
        if self._closed:
            return
        self._closed = True
        self._why = why
        self._queue.clear()
        self._outgoing.close()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.errback(NotConnected(why))

    # -- asking

    def call(self, request: Request[R], timeout: float = 30.0) -> Deferred[R]:
        """
        Ask, and wait for the reply for at most ``timeout`` seconds. Cancelling the Deferred tells the service to drop
        the call.

        :returns: a Deferred of the reply. It fails with `CallFailed` (the service has said so, by code, message and
            data; or the code is ``busy``: 1024 calls wait for a link, or for replies), `CallTimedOut` (no reply, or no
            link, in time), or `NotConnected` (the link ended; or there is none, and calls don't wait for one)
        :raises LocalProtocolError: the request isn't of the interface, or is over the frame limit
        """
        if self._peer is not None:
            return self._peer.call(request, timeout)
        if self._closed or not self._unlinked.calls_wait:
            return fail(NotConnected(self._why))
        if len(self._waiting) >= MAX_WAITING:
            return fail(CallFailed(Code.BUSY, f"{MAX_WAITING} calls wait for a link"))
        return Deferred.fromCoroutine(self._call_later(request, timeout))

    async def _call_later(self, request: Request[R], seconds: float) -> R:
        deadline = self._clock.seconds() + seconds
        try:
            peer = await self.linked(seconds)
        except NotConnected as error:
            if self._closed:
                raise
            raise CallTimedOut(str(error)) from None
        return await peer.call(request, max(0.0, deadline - self._clock.seconds()))

    def send(self, message: msgspec.Struct) -> None:
        """
        Send a one-way message; or keep it for the next link, as `Unlinked` says.

        :raises QueueFull: there is no link, and no room for it
        :raises NotConnected: after `close`
        :raises LocalProtocolError: it is no message of the interface, or is over the frame limit
        """
        if type(message) not in self._messages:
            raise LocalProtocolError(f"{type(message).__qualname__} is no message of the interface")
        if self._peer is not None:
            self._peer.send(message)
            return
        if self._closed:
            raise NotConnected(self._why)
        size = len(encode(message))
        if size - 1 > self._frame_limit:
            # Were it to wait for a link, it would break it.
            raise LocalProtocolError(f"a message of {size - 1} bytes is over the limit of {self._frame_limit}")
        if self._queued + size > self._unlinked.queue:
            raise QueueFull(f"there is no link ({self._why}), and the queue for the next one is full")
        self._queue.append(message)
        self._queued += size

    def stream(self, name: str, outbox: Outbox | None = None) -> Stream:
        """
        A reliable stream of the service's interface: what is written to it arrives once, in order, whatever links come
        and go; and, with a `FileOutbox`, whatever becomes of this process.

        :param outbox: where items are kept until they are acknowledged; by default in memory. It is closed with the
            stream.
        :raises LocalProtocolError: the interface has no such stream, this outbox is sent already, or it is a
            `FileOutbox` and `dial` was given no ``name``, by which the receiver would know it again
        """
        check_named(outbox, self._named)
        return self._outgoing.stream(name, MemoryOutbox() if outbox is None else outbox)

    async def drain(self) -> None:
        """
        Wait until the service keeps up with what it is sent: not at all, if it does. Without a link, wait for one,
        however long that takes.

        :raises NotConnected: the link ended meanwhile, or after `close`
        """
        peer = self._peer if self._peer is not None else await self.linked()
        await peer.drain()


class _RemoteApplication(ServiceApplication):
    def __init__(
        self,
        service: Service | None,
        peer: Peer,
        receivers: Receivers | None,
        outgoing: Outgoing,
        remote: Remote,
    ) -> None:
        super().__init__(service, peer, receivers, outgoing)
        self._remote = remote

    def connection_lost(self, reason: str) -> None:
        self._remote.lost(self.peer, reason)
        super().connection_lost(reason)
