"""
The side that asks: `dial` returns a `Remote`, which stands for a service whether there is a link just now or not.

::

    calculator = dial(reactor, "unix:calculator.sock", CALCULATOR)
    total = await calculator.call(Add(a=2, b=3), timeout=5)      # a Sum
    calculator.send(Note(text="done"))
    await calculator.close()

`Unlinked` says what happens while there is no link. A call that was under way when its link ended always fails with
`NotConnected`: the service may or may not have answered it.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, Unpack

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from twistedipc.ipc.connections.failing import Failing
from twistedipc.ipc.connections.link import JSONLineProtocol
from twistedipc.ipc.connections.peer import Complaint, Peer
from twistedipc.ipc.connections.streamed import AsksForItems, StreamedReply
from twistedipc.ipc.connections.traffic import Queues, Traffic, tell
from twistedipc.ipc.handlers import Service
from twistedipc.ipc.handling import Handling, handling_of
from twistedipc.ipc.links.dial import DialService, dial_links
from twistedipc.ipc.links.next_link import NextLink
from twistedipc.ipc.links.once import OneLink
from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles, parse_dialled
from twistedipc.ipc.places.inherited import inherited_connection
from twistedipc.ipc.places.keys import make_nonce
from twistedipc.ipc.service import Limits, ServiceApplication, check_named, side_settings
from twistedipc.ipc.streams.outbox import MemoryOutbox, Outbox
from twistedipc.ipc.streams.receiver import Receivers
from twistedipc.ipc.streams.sender import Outgoing, Stream
from twistedipc.ipc.streams.unsent import Unsent
from twistedipc.ipc.wire.blob import numbered_for_size
from twistedipc.ipc.wire.errors import CallTimedOut, LocalProtocolError, QueueFull, TooManyCalls
from twistedipc.ipc.wire.interface import Interface, Request, StreamedRequest, StreamOf
from twistedipc.ipc.wire.keyring import Keys
from twistedipc.ipc.wire.messages import to_json
from twistedipc.ipc.wire.settings import FRAME_LIMIT, MAX_CALLS, Side

R = TypeVar("R")
T = TypeVar("T", bound=msgspec.Struct)

#: Bytes of a call that aren't its request, at most.
_AROUND_REQUEST = 64


@dataclass(frozen=True, slots=True)
class Unlinked:
    """
    What happens while there is no link. Calls and messages that wait for the next link are sent on it in the order in
    which they were given.

    :param calls_wait: whether calls wait for a link, within their timeout; else they fail at once with `NotConnected`
    :param queue: bytes of one-way messages, as JSON, that are kept for the next link. A message that doesn't fit is
        refused with `QueueFull`; at 0 all are. A queue outlives links, not processes, and what has been written to a
        link that then breaks is lost. Use a stream for data that mustn't get lost
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
    fail_on_refusal: bool = False,
    key: bytes | None = None,
    keys: Keys | None = None,
    name: str = "",
    tls: TLSFiles | None = None,
    uids: frozenset[int] | None = None,
    random: Callable[[], float] = random_module.random,
    nonce: Callable[[], str] = make_nonce,
    **limits: Unpack[Limits],
) -> Remote:
    """
    Stay linked with the service at ``endpoint`` (``unix:PATH``, ``tcp:HOST:PORT``, ``tls:HOST:PORT``) until
    `Remote.close`. `dial` returns at once; `Remote.linked` fires when there is a link.

    At ``fd:NUMBER`` or ``fd:$VARIABLE``, a connection that this process has inherited, and at ``stdio:``, its standard
    input and output, there is one link only, whose end is final (`Remote.closed`).

    :param reactor: Twisted's
    :param interface: the service's
    :param service: answers the other side, if that side calls as well
    :param unlinked: what happens while there is no link
    :param fail_on_refusal: whether what waits for a link fails, by `LinkRefused`, as soon as the two sides have met and
        one of them has refused the other: the keys differ, the interface, the version or the name isn't the one that is
        wanted, a certificate isn't trusted. Calls then fail at once, and messages aren't kept, until an attempt ends in
        another way; attempts go on. By default calls wait after a refusal too, within their timeouts: an operator may
        be about to correct it
    :param key: the secret of both sides, at least 16 bytes (`make_key`); a UNIX socket and what was inherited
        need none
    :param keys: named keys, as for `listen`: those for the service that is found at ``endpoint`` are used
    :param name: this side's name, which the service sees as ``peer.info.name``; by default its role and process id, as
        ``calculator-client.4711``. Receivers know a stream by it
    :param tls: certificates, for ``tls:``
    :param uids: for ``unix:``, whose process may answer; by default this user's and root's
    :param random: gives numbers from 0 to 1, by which the delays between attempts (0.5 to 30 seconds; at most 2 at
        ``unix:``) are scattered
    :param nonce: gives 64 random hexadecimal digits, others each time: for handshakes, and for what tells one start of
        this side from the next
    :param limits: as for `listen`
    :raises BadEndpoint: the endpoint can't be dialled; ``str()`` says why. An endpoint where no process listens just
        now is no error
    :raises BadKey: the key is too short, or no bytes
    :raises ValueError: the name can't be one: 1 to 64 letters, digits and ``. _ -``
    """
    answered = None if service is None else service.interface
    settings = side_settings(interface.peer_role, interface.role, answered, interface, key, name, limits, nonce, keys)
    remote = Remote(
        reactor,
        interface,
        service,
        unlinked,
        named=bool(name),
        frame_limit=settings.frame_limit,
        max_calls=settings.max_calls,
    )
    address = parse_dialled(endpoint, has_key=settings.has_key)
    if address.is_inherited:
        connect = inherited_connection(reactor, address)

        def make_link(owner: OneLink) -> JSONLineProtocol:
            return JSONLineProtocol(Side.DIALLER, settings, remote.application, reactor, owner, nonce())

        remote.start(OneLink(endpoint, make_link, connect, remote.over))
        return remote
    links = dial_links(
        reactor,
        endpoint,
        settings,
        remote.application,
        tls=tls,
        uids=uids,
        random=random,
        nonce=nonce,
        failed=remote.not_linked,
        refused=remote.refused if fail_on_refusal else None,
    )
    remote.start(links)
    return remote


class Remote:
    """A service, over one link after another. Made by `dial`."""

    #: called with a `Complaint` each time that the service hasn't taken a one-way message; None. It is logged, too
    when_complained: Callable[[Complaint], None] | None = None

    def __init__(
        self,
        clock: IReactorTime,
        interface: Interface | None,
        service: Service | None,
        unlinked: Unlinked,
        *,
        named: bool = True,
        frame_limit: int = FRAME_LIMIT,
        max_calls: int = MAX_CALLS,
    ) -> None:
        self._messages = frozenset(() if interface is None else interface.messages)
        self._asks = Interface("nothing") if interface is None else interface
        #: what has gone over the links: a `Traffic`
        self.traffic = Traffic()
        #: called with the `Peer` when a link was made; None
        self.on_link: Callable[[Peer], object] | None = None
        #: called with the `Peer`, and the reason as a text for logs, when a link has ended; None
        self.on_loss: Callable[[Peer, str], object] | None = None
        self._named = named
        self._frame_limit = frame_limit
        streams = service is not None and service.interface.streams
        handling = handling_of(clock)
        make = None if service is None else handling.receivers(service._receiver)
        receivers = Receivers(make) if make is not None and streams else None
        self._outgoing = Outgoing(clock, {} if interface is None else interface.streams, frame_limit)
        self._application = lambda peer: _RemoteApplication(service, peer, receivers, self._outgoing, handling, self)
        self._unlinked = unlinked
        self._links: DialService | OneLink | None = None
        self._peer: Peer | None = None
        self._next = NextLink(clock)
        self._failing = Failing(clock)
        self._unsent = Unsent(clock, max_calls)

    # -- links

    def application(self, peer: Peer) -> ServiceApplication:
        """Make the application of a new link: the application factory of the links. Internal to the library."""
        peer.count(self.traffic)
        return self._application(peer)

    def linked_with(self, peer: Peer) -> None:
        """Take note of a new link. Internal to the library."""
        self.traffic.links += 1
        tell(self.on_link, peer)
        # A call that fails meanwhile may make its caller send more, which comes after what was there before.
        if not self._unsent.send_all(peer):
            return  # the link has ended already
        self._peer = peer
        self._next.made(peer, lambda: self._peer is peer)

    def start(self, links: DialService | OneLink) -> None:
        """Begin to dial. Internal to the library."""
        self._links = links
        links.startService()

    def lost(self, peer: Peer, reason: str) -> None:
        """Take note that the link with this peer has ended. Internal to the library."""
        self._unsent.stop(peer)
        if self._peer is peer:
            self._peer = None
            self.not_linked(reason)
        if self.traffic.lost < self.traffic.links:  # else this one was closed before it was made, and ``on_link`` told
            self.traffic.lost += 1
            tell(self.on_loss, peer, reason)

    def not_linked(self, reason: str) -> None:
        """Take note why there is no link now, for what waits for one. Internal to the library."""
        if self._peer is None and self._next.delay(reason):
            self._unsent.why = reason

    def refused(self, code: str, reason: str) -> None:
        """
        Fail what waits for a link: the two sides have met, and there won't be a link until an operator corrects
        something. Internal to the library.
        """
        if self._peer is None and self._next.refuse(code, reason):
            self._fail_waiting()

    @property
    def queues(self) -> Queues:
        """What waits just now, for a link or on it."""
        unlinked = Queues(calls=self._unsent.calls, unlinked_bytes=self._unsent.bytes)
        return unlinked if self._peer is None else unlinked + self._peer.queues

    @property
    def peer(self) -> Peer | None:
        """The service on the link of now; None while there is none."""
        return self._peer

    def linked(self, timeout: float | None = None) -> Deferred[Peer]:
        """
        Return a Deferred that fires with the `Peer` when there is a link; at once, if there is one now.

        The Deferred fails with `NotConnected` after `close`, or if there was no link in ``timeout`` seconds: ``str()``
        then says why the last attempt has failed. With ``dial(…, fail_on_refusal=True)`` it fails with `LinkRefused` as
        soon as the two sides have refused each other.
        """
        if self._peer is not None and not self._next.is_closed:
            return succeed(self._peer)
        if self._next.fails_now:
            return self._failing.fail(self._next.error())
        return self._next.wait(timeout)

    def close(self) -> Deferred[None]:
        """
        End the link, and dial no more. The Deferred fires when the link is closed, within 5 seconds. What was sent
        before is written by then, unless the peer doesn't read. Calls that wait, for a link or for a reply, fail with
        `NotConnected`; messages that wait for a link are dropped.
        """
        self._end("it was closed here")
        stopped = succeed(None) if self._links is None else self._links.stopService()
        return stopped.addCallback(lambda _: self.over(self._next.why))

    def closed(self) -> Deferred[str]:
        """
        Return a Deferred that fires when there is no link and won't be another, with the reason as a text: after
        `close`; or, where there is one link only, when that link has ended.
        """
        return self._next.ended()

    def over(self, reason: str) -> None:
        """End: there won't be another link. Internal to the library."""
        self._end(reason)
        self._next.end()

    def _end(self, why: str) -> None:
        """Dial no more: what waits for a link fails, or is dropped."""
        if self._next.close(why):
            self._outgoing.close()
            self._unsent.drop_messages()
            self._fail_waiting()

    def _fail_waiting(self) -> None:
        """Fail the calls that wait for a link, and all else that waits for one."""
        self._unsent.fail_calls(self._next.error)
        self._next.fail_waiting()

    # -- asking

    def call(self, request: Request[R], timeout: float = 30.0) -> Deferred[R]:
        """
        Call the service, and wait for the reply for at most ``timeout`` seconds. Cancelling the Deferred makes the
        service drop the call. A call that has failed by `NotConnected` may be made again at once: the ended link is
        given up before its calls fail, so the second call waits for the next link.

        :returns: a Deferred of the reply. It fails with `CallFailed` (the service answered by an error, with code,
            message and data; or its reply isn't what was declared, code ``bad-reply``), `TooManyCalls` (1024 calls wait
            for a link, or for replies), `CallTimedOut` (no reply, or no link, in time), `LinkRefused` (with
            ``fail_on_refusal``), or `NotConnected` (the link ended; or there is none, and calls don't wait for one)
        :raises LocalProtocolError: the request isn't of the interface, or is over the frame limit, or can't be sent as
            JSON (a number in it is NaN or infinite, a string has a lone surrogate); or this is another thread than the
            one in which there was a link
        """
        if self._peer is not None:
            return self._peer.call(request, timeout)
        self._next.check_thread()
        if type(request) not in self._asks.calls:
            how = ": it is answered by items: use stream_call" if type(request) in self._asks.streamed else ""
            raise LocalProtocolError(f"{type(request).__qualname__} is no request of the interface{how}")
        self._check(request, self._frame_limit - _AROUND_REQUEST)
        if self._next.fails_now or not self._unlinked.calls_wait:
            return self._failing.fail(self._next.error())
        if self._unsent.calls >= self._unsent.most:
            limit = f"{self._unsent.most} calls of this side wait for a link, its own limit (max_calls)"
            return self._failing.fail(TooManyCalls(limit))
        return self._unsent.call(request, timeout)

    def stream_call(self, request: StreamedRequest[R], timeout: float | None = 30.0) -> StreamedReply[R]:
        """
        Call the service for items: ``async for row in remote.stream_call(Query(…))``. The call is made when the first
        item is asked for. At most 256 KiB of items that the program hasn't taken are under way or kept here; then the
        service's handler waits. Leaving the loop cancels the handler.

        :param timeout: seconds that the iteration waits for the next item, and for the link, at most; None: no limit
        :raises LocalProtocolError: the request is no `StreamedRequest` of the interface, or is over the frame limit, or
            can't be sent as JSON
        """
        if type(request) not in self._asks.streamed:
            raise LocalProtocolError(f"{type(request).__qualname__} is no StreamedRequest of the interface")
        self._check(request, self._frame_limit - _AROUND_REQUEST)
        return StreamedReply(self._unsent.clock, self._link_for_items, request, timeout)

    def _link_for_items(self, timeout: float | None) -> Deferred[AsksForItems]:
        if self._peer is None and not self._next.fails_now and not self._unlinked.calls_wait:
            return self._failing.fail(self._next.error())

        def late(*_: object) -> Peer:
            raise CallTimedOut(f"no link within {timeout:g} seconds: {self._next.why}")

        linked = self.linked()
        if timeout is not None:
            linked.addTimeout(timeout, self._unsent.clock, late)
        return linked.addCallback(Peer.asks_for_items)

    def _check(self, said: msgspec.Struct, limit: int) -> int:
        """Return the bytes of ``said`` as JSON. Raises `LocalProtocolError` now, not later when a link is there."""
        if type(said) in self._asks.with_bodies:
            with numbered_for_size(said):
                size = len(to_json(said))
        else:
            size = len(to_json(said))
        if size > limit:
            raise LocalProtocolError(f"a message of {size} bytes is over the limit of {limit}")
        return size

    def send(self, message: msgspec.Struct) -> None:
        """
        Send a one-way message; or keep it for the next link, as `Unlinked` says.

        :raises QueueFull: there is no link, and the queue has no room for the message
        :raises NotConnected: after `close`
        :raises LinkRefused: with ``fail_on_refusal``, after a refusal
        :raises LocalProtocolError: the message isn't of the interface, or is over the frame limit, or can't be sent as
            JSON (a number in it is NaN or infinite, a string has a lone surrogate)
        """
        if type(message) not in self._messages:
            raise LocalProtocolError(f"{type(message).__qualname__} is no message of the interface")
        if self._peer is not None:
            self._peer.send(message)
            return
        self._next.check_thread()
        size = self._check(message, self._frame_limit)
        if self._next.fails_now:
            raise self._next.error()
        if self._unsent.bytes + size + 1 > self._unlinked.queue:
            raise QueueFull(f"there is no link ({self._next.why}), and the queue for the next one is full")
        self._unsent.send(message, size + 1)

    def stream(self, stream: StreamOf[T], outbox: Outbox | None = None) -> Stream[T]:
        """
        Return a reliable stream of the service's interface. What is written to the stream arrives once, in order,
        however often the link breaks; and, with a `FileOutbox`, even if this process is killed.

        :param outbox: where items are kept until they are acknowledged; by default in memory. The outbox is closed with
            the stream.
        :raises LocalProtocolError: the interface has no such stream, this outbox is sent already, or it is a
            `FileOutbox` and `dial` was given no ``name``, by which the receiver knows the stream after a restart
        """
        check_named(outbox, self._named)
        return self._outgoing.stream(stream, MemoryOutbox() if outbox is None else outbox)

    async def drain(self) -> None:
        """
        Wait until the service keeps up with what this side sends. Return at once if it does. Without a link, wait for
        a link, without a limit.

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
        handling: Handling,
        remote: Remote,
    ) -> None:
        super().__init__(service, peer, receivers, outgoing, handling)
        self._remote = remote

    def link_ready(self) -> None:
        self._remote.linked_with(self.peer)

    def complaint_received(self, complaint: Complaint) -> None:
        super().complaint_received(complaint)
        if self._remote.when_complained is not None:
            self._remote.when_complained(complaint)

    def link_ended(self, reason: str) -> None:
        self._remote.lost(self.peer, reason)
        super().link_ended(reason)
