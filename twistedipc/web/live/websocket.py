"""
The WebSockets: one log each, or many subscriptions on one socket. ``docs/protocol.md`` has the messages. Called by
``site`` once it knows who asks and that they may; reads ``server``'s logs and feeds.

Autobahn does the protocol. The frames of logs are written straight to the transport (see `followers`): they were
encoded once, for all viewers, and nothing of Autobahn's sending (queue, compression, masking) applies to them. There is
no queue per viewer: logs wait until the socket takes more, and of builds' states and what they say a conversation keeps
the newest that comes meanwhile.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from socket import socket
from typing import Any, Literal, Protocol

import msgspec
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.web.resource import IResource
from zope.interface import implementer

from twistedipc.ipc.connections.eager import send_at_once
from twistedipc.server.boundaries import GistFeed, GistNews, GistRound, Logs, StateChange, StateFeed
from twistedipc.server.fanout.frames import text_frame
from twistedipc.server.states import change_of
from twistedipc.storage import attempts, builds
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.web.access.held import Ending, Holding
from twistedipc.web.http.channel import leaving
from twistedipc.web.http.closing import CloseCode
from twistedipc.web.live.followers import Crowds, Follower, Output
from twistedipc.web.live.lean import leaner, settle

#: Subscriptions that one socket may have.
MAX_SUBSCRIPTIONS = 100

#: How much is kept for a socket that takes nothing: builds' newest states, and what they say.
MAX_KEPT = 10_000

#: Seconds between two looks at all viewers.
LOOK_INTERVAL = 5.0

#: Seconds without a byte leaving for a client that has not read everything, until it is closed.
PROGRESS_TIMEOUT = 60.0

#: Seconds of silence until a client that has read everything is asked whether it lives, and to answer.
PING_INTERVAL = 25.0
PONG_TIMEOUT = 30.0

#: Messages of a client that wait to be looked at.
MAX_WAITING = 2 * MAX_SUBSCRIPTIONS

#: Frames that a client may send at once, and how many more each second: each costs us far more than the client.
MAX_FRAMES = 1000
FRAMES_PER_SECOND = 20.0

#: In how many frames one message may come. (Of empty ones the largest message could have any number.)
MAX_FRAGMENTS = 64

_encoder = msgspec.json.Encoder()


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe", tag_field="type"):
    """A client's wish: states of builds (of one project) and what they say, or one log."""

    topic: Literal["builds", "log"]
    project: str | None = None
    build: int | None = None
    attempt: int | None = None
    after: int = 0


class Unsubscribe(msgspec.Struct, frozen=True, tag="unsubscribe", tag_field="type"):
    """The same, taken back."""

    topic: Literal["builds", "log"]
    project: str | None = None
    build: int | None = None
    attempt: int | None = None


class StreamError(msgspec.Struct, frozen=True, tag="error", tag_field="type", omit_defaults=True):
    """A wish that can't be granted. ``code`` is "bad_message", "not_found", "limit" or "unavailable"."""

    code: str
    message: str
    build: int | None = None


class Subscribed(msgspec.Struct, frozen=True, tag="subscribed", tag_field="type", omit_defaults=True):
    """A wish that was granted; what it is about follows."""

    topic: str
    project: str | None = None
    build: int | None = None
    attempt: int | None = None


_request_decoder = msgspec.json.Decoder(Subscribe | Unsubscribe)


class Conversation(Protocol):
    """What is said on one socket."""

    def opened(self, output: Output) -> None:
        """The handshake is done."""

    def heard(self, payload: bytes, binary: bool) -> None:
        """The client has sent a message."""

    def pump(self) -> None:
        """The socket takes more."""

    def closed(self) -> None:
        """It is over."""


class _States:
    """
    Builds' states, and what they say, on one socket: at once, or the newest of each build when the socket takes more.
    """

    __slots__ = ("_kept", "_output")

    def __init__(self, output: Output) -> None:
        self._output = output
        self._kept: dict[tuple[type, int], StateChange | GistNews] = {}

    def tell(self, change: StateChange | GistNews) -> None:
        """This has happened."""
        if not self._output.paused:
            self._output.write_frames(_frame(change))
            return
        key = (type(change), change.build)
        self._kept.pop(key, None)
        self._kept[key] = change
        if len(self._kept) > MAX_KEPT:
            self._kept.clear()
            self._output.say_goodbye(CloseCode.TOO_SLOW, "too many changes were not read")

    def tell_all(self, news: Iterable[GistNews], frames: bytes) -> None:
        """All these have happened; ``frames`` are theirs, for one write."""
        if not self._output.paused:
            self._output.write_frames(frames)
            return
        for each in news:
            self.tell(each)

    def pump(self) -> None:
        """Write what was kept."""
        if self._kept and not self._output.paused:
            kept, self._kept = self._kept, {}
            self._output.write_frames(b"".join(map(_frame, kept.values())))


def _frame(change: StateChange | GistNews) -> bytes:
    return text_frame(_encoder.encode(change)) if isinstance(change, StateChange) else change.frame


def _nothing() -> None:
    """Nobody is listened to."""


class LogConversation:
    """One log, from a number on, to its end: `state`, `lines`, `gap`, `end`, and a close with 1000."""

    __slots__ = (
        "_after",
        "_attempt",
        "_build",
        "_closed",
        "_crowds",
        "_deafen",
        "_feed",
        "_follower",
        "_ledger",
        "_now",
        "_output",
        "_states",
        "_told",
    )

    _log = Logger()

    def __init__(
        self,
        ledger: Ledger,
        crowds: Crowds,
        feed: StateFeed,
        now: Callable[[], int],
        build: int,
        attempt: int,
        after: int,
    ) -> None:
        self._ledger = ledger
        self._crowds = crowds
        self._feed = feed
        self._now = now
        self._build = build
        self._attempt = f"{build}-{attempt}"
        self._after = after
        self._output: Output | None = None
        self._follower: Follower | None = None
        self._states: _States | None = None
        self._told = False  # a change of this attempt's state
        self._closed = False
        self._deafen: Callable[[], None] = lambda: None

    def opened(self, output: Output) -> None:
        """See `Conversation`."""
        self._output = output
        self._states = _States(output)
        self._deafen = self._feed.listen(self._changed)
        beginning = Deferred.fromCoroutine(self._begin(output))
        beginning.addErrback(lambda failure: self._log.failure("a log's stream failed", failure))

    async def _begin(self, output: Output) -> None:
        """Tell the state as it is, then follow the log."""
        try:
            row = await self._ledger.read(attempts.get, self._attempt)
        except LedgerUnavailable:
            output.say_goodbye(CloseCode.UNAVAILABLE, "the log can't be read now; try again")
            return
        except Exception:
            output.say_goodbye(CloseCode.INTERNAL, "the log can't be read")
            raise
        if self._closed or self._states is None:
            return
        if row is None:  # it was there when the handshake began
            output.say_goodbye(CloseCode.INTERNAL, "there is no such attempt any more")
            return
        if not self._told:  # else what was told meanwhile is newer
            self._states.tell(change_of(row, self._now()))
        self._follower = self._crowds.follow(output, self._attempt, self._after, self._ended)
        self._follower.pump()

    def _ended(self) -> None:
        if self._output is not None:
            self._output.say_goodbye(CloseCode.NORMAL, "the log has ended")

    def heard(self, payload: bytes, binary: bool) -> None:
        """See `Conversation`."""
        if self._output is not None:
            self._output.say_goodbye(CloseCode.POLICY, "nothing is to be sent on this socket")

    def pump(self) -> None:
        """See `Conversation`."""
        if self._states is not None:
            self._states.pump()
        if self._follower is not None:
            self._follower.pump()

    def closed(self) -> None:
        """See `Conversation`."""
        self._closed = True
        self._deafen()
        if self._follower is not None:
            self._follower.close()

    def _changed(self, change: StateChange) -> None:
        if change.build == self._build and self._states is not None:
            self._told = self._told or f"{change.build}-{change.attempt}" == self._attempt
            self._states.tell(change)


class StreamConversation:
    """Many subscriptions on one socket: builds' states, what they say, and logs, as the client asks for them."""

    _log = Logger()

    def __init__(
        self, ledger: Ledger, crowds: Crowds, feed: StateFeed, gists: GistFeed, projects: frozenset[str] | None
    ) -> None:
        self._ledger = ledger
        self._crowds = crowds
        self._feed = feed
        self._gists = gists
        self._projects = projects  # what the caller may see; None: all
        self._output: Output | None = None
        self._states: _States | None = None
        self._deafen: Callable[[], None] = lambda: None
        self._deafen_gists: Callable[[], None] = _nothing
        self._topics: set[str | None] = set()  # projects whose builds are wanted; None: all
        self._followers: dict[tuple[int, int], Follower] = {}
        self._waiting: deque[bytes] = deque()
        self._busy = False
        self._closed = False

    def opened(self, output: Output) -> None:
        """See `Conversation`."""
        self._output = output
        self._states = _States(output)
        self._deafen = self._feed.listen(self._changed)

    def heard(self, payload: bytes, binary: bool) -> None:
        """See `Conversation`. Wishes are granted one after the other, in their order."""
        output = self._output
        if output is None:
            return
        if binary:
            output.say_goodbye(CloseCode.UNSUPPORTED, "text messages only")
        elif len(self._waiting) >= MAX_WAITING:
            output.say_goodbye(CloseCode.POLICY, "too many messages")
        else:
            self._waiting.append(payload)
            self._grant_on(output)

    def pump(self) -> None:
        """See `Conversation`. In turn, so that one log doesn't starve the others."""
        if self._states is None or self._output is None:
            return
        self._grant_on(self._output)
        self._states.pump()
        active = deque(self._followers.values())
        while active and not self._output.paused:
            follower = active.popleft()
            if follower.pump(once=True):
                active.append(follower)
        # Who was served last is the first to wait next time.
        for key in list(self._followers)[:1]:
            self._followers[key] = self._followers.pop(key)

    def closed(self) -> None:
        """See `Conversation`."""
        self._closed = True
        self._deafen()
        self._deafen_gists()
        self._waiting.clear()
        for follower in self._followers.values():
            follower.close()
        self._followers.clear()

    def _grant_on(self, output: Output) -> None:
        if self._waiting and not (self._busy or self._closed or output.paused):
            self._busy = True
            granting = Deferred.fromCoroutine(self._grant_all(output))
            granting.addErrback(lambda failure: self._log.failure("a subscription failed", failure))

    async def _grant_all(self, output: Output) -> None:
        try:
            # Who doesn't read the answers gets no more of them: their wishes wait, and those are bounded.
            while self._waiting and not (self._closed or output.paused):
                payload = self._waiting.popleft()
                try:
                    request = _request_decoder.decode(payload)
                except (msgspec.DecodeError, RecursionError) as error:
                    self._say(StreamError("bad_message", str(error)))
                    continue
                try:
                    await self._grant(output, request)
                except LedgerUnavailable as error:
                    self._say(StreamError("unavailable", str(error), request.build))
        finally:
            self._busy = False

    async def _grant(self, output: Output, request: Subscribe | Unsubscribe) -> None:
        match request:
            case Unsubscribe(topic="builds"):
                self._topics.discard(request.project)
                if not self._topics:
                    self._deafen_gists()
            case Unsubscribe():
                for key in [k for k in self._followers if k[0] == request.build]:
                    if request.attempt in (None, key[1]):
                        self._followers.pop(key).close()
            case Subscribe() if len(self._topics) + len(self._followers) >= MAX_SUBSCRIPTIONS:
                self._say(StreamError("limit", f"at most {MAX_SUBSCRIPTIONS} subscriptions", request.build))
            case Subscribe(topic="builds"):
                if request.project is not None and not self._may_see(request.project):
                    self._say(StreamError("not_found", "there is no such project"))
                    return
                self._topics.add(request.project)
                # Anew, so that what holds is told for this topic too; first, so that nothing is missed between.
                deafen, self._deafen_gists = self._deafen_gists, self._gists.listen(self._said)
                deafen()
                self._say(Subscribed("builds", request.project))
            case Subscribe():
                await self._follow(output, request)

    async def _follow(self, output: Output, request: Subscribe) -> None:
        number = request.build
        row = None
        if number is not None and 0 < number < 1 << 53 and 0 <= request.after < 1 << 53:
            row = await self._ledger.read(builds.get, number)
        attempt = request.attempt or (row.attempt if row is not None else 0)
        if row is None or number is None or not self._may_see(row.project) or not 1 <= attempt <= row.attempt:
            self._say(StreamError("not_found", "there is no such build, or no such attempt of it", number))
            return
        key = (number, attempt)
        if self._closed:
            return
        if key in self._followers:
            self._followers.pop(key).close()
        self._say(Subscribed("log", row.project, number, attempt))
        follower = self._followers[key] = self._crowds.follow(
            output, f"{number}-{attempt}", request.after, lambda: self._forget(key), tag=key
        )
        follower.pump()

    def _forget(self, key: tuple[int, int]) -> None:
        self._followers.pop(key, None)

    def _may_see(self, project: str) -> bool:
        return self._projects is None or project in self._projects

    def _wants(self, project: str) -> bool:
        return (None in self._topics or project in self._topics) and self._may_see(project)

    def _changed(self, change: StateChange) -> None:
        if self._states is not None and self._wants(change.project):
            self._states.tell(change)

    def _said(self, news: GistRound) -> None:
        if self._states is None:
            return
        if None in self._topics and self._projects is None:
            self._states.tell_all(news, news.frames)
        elif wanted := [each for each in news if self._wants(each.project)]:
            self._states.tell_all(wanted, b"".join([each.frame for each in wanted]))

    def _say(self, message: msgspec.Struct) -> None:
        if self._output is not None and not self._closed:
            self._output.write_frames(text_frame(_encoder.encode(message)))


@implementer(IPushProducer)
class ViewerProtocol(WebSocketServerProtocol):
    """One viewer's socket: Autobahn's protocol, as the output of a conversation."""

    conversation: Conversation
    holding: Holding
    paused = False
    deflates = False
    _over = False
    direct: socket | None = None
    _settled = False  # the handshake's remains are gone
    _resumed = 0  # how often the socket took more again
    _heard = 0.0  # when bytes last came, on the reactor's clock
    _pinged: float | None = None  # since when a pong is awaited
    _moved = 0.0  # when bytes last left
    _frames = float(MAX_FRAMES)  # how many more may come
    _fragments = 0  # of the message that is coming
    _seen_leaving: tuple[int, int, int] = (0, 0, 0)

    def onOpen(self) -> None:
        """The handshake is done. The HTTP channel is still the transport's producer: take its place."""
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        self.factory.viewers.add(self)
        self._heard = self._moved = self.factory.reactor.seconds()
        if self._perMessageCompress is not None:
            self.deflates = True
        self.factory.watch()
        self.conversation.opened(self)
        self.holding.on_end(self._token_over)

    def dataReceived(self, data: bytes) -> None:
        """Whatever comes shows that the client lives."""
        now, before = self.factory.reactor.seconds(), self._heard
        self._heard = now
        self._frames = min(float(MAX_FRAMES), self._frames + (now - before) * FRAMES_PER_SECOND)
        super().dataReceived(data)
        if not self._settled and self.state == self.STATE_OPEN:
            self._settled = True
            settle(self)

    def look(self, now: float) -> None:
        """
        Does it move? A client that takes its time is waited for as long as bytes leave for it; only one to which
        everything has gone is asked for a sign of life.
        """
        seen = (self._resumed, *leaving(self.transport))
        if seen != self._seen_leaving:
            self._seen_leaving, self._moved = seen, now
        if self.paused or seen[2]:
            self._pinged = None
            if now - self._moved > PROGRESS_TIMEOUT:
                self.say_goodbye(CloseCode.TOO_SLOW, "nothing was read for too long")
        elif self._pinged is not None and self._heard < self._pinged:
            if now - self._pinged > PONG_TIMEOUT:
                self.transport.abortConnection()
        elif now - self._heard > PING_INTERVAL:
            self._pinged = now
            self.sendPing()
        else:
            self._pinged = None

    def onMessageBegin(self, isBinary: bool) -> None:
        """The first frame of a message."""
        self._fragments = 0
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        """A frame of a message."""
        self._fragments += 1
        super().onMessageFrameBegin(length)
        self._count_frame()

    def onPong(self, payload: bytes) -> None:
        """A sign of life, which `dataReceived` has noted."""
        self._count_frame()

    def _count_frame(self) -> None:
        """Who sends more frames than anybody needs is not listened to any longer, and not waited for."""
        self._frames -= 1
        if self._frames < 0 or self._fragments > MAX_FRAGMENTS:
            self.say_goodbye(CloseCode.POLICY, "too many frames")
            self.dropConnection()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """The client has sent something."""
        if self.deflates:
            # Its inflater holds a window of 32 KiB, and begins anew with each message anyway.
            self._perMessageCompress._decompressor = None
        if not self._over:
            self.conversation.heard(payload, isBinary)

    def onPing(self, payload: bytes) -> None:
        """A pong, unless the client doesn't read: what it floods us with must not pile up here."""
        self._count_frame()
        if not self.paused:
            super().onPing(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """It is over."""
        self._end()

    def connectionLost(self, reason: Any = None) -> None:
        """It is over, whatever Autobahn makes of it."""
        self._end()
        super().connectionLost(reason)

    # -- IPushProducer

    def pauseProducing(self) -> None:
        """The socket takes no more. Called again and again."""
        self.paused = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self.paused = False
        self._resumed += 1
        if not self._over:
            self.conversation.pump()

    def stopProducing(self) -> None:
        """It takes nothing ever again."""
        self.paused = True

    # -- Output

    def write_frames(self, data: bytes) -> None:
        """See `Output`."""
        direct = self.direct
        if direct is not None:
            try:
                sent = direct.send(data)
            except OSError:  # it is full; or lost, which the transport will find out by itself
                sent = 0
        elif self._over:
            return
        else:
            sent = send_at_once(self.transport, data)
            if sent == len(data):
                self.direct = self.transport.socket
        if sent < len(data):
            self.keep(data, sent)

    def keep(self, data: bytes, sent: int) -> None:
        """See `Output`."""
        self.direct = None
        self.transport.write(data[sent:] if sent else data)

    def sendData(self, *arguments: Any, **more: Any) -> None:
        """What Autobahn writes itself (a ping, a pong, a close) waits for the reactor's next turn."""
        self.direct = None
        super().sendData(*arguments, **more)

    def say_goodbye(self, code: CloseCode, reason: str) -> None:
        """See `Output`."""
        if not self._over:
            self._end()
            # Not `sendClose`, which knows no code of the protocol but 1000.
            self.sendCloseFrame(code, reason.encode()[:123])

    def sendCloseFrame(self, *arguments: Any, **more: Any) -> None:
        """Whoever closes, Autobahn too, when a client breaks the protocol: nothing may follow (RFC 6455, 5.5.1)."""
        self._end()
        super().sendCloseFrame(*arguments, **more)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self.direct = None
            self.paused = True
            self.holding.release()
            self.factory.viewers.discard(self)
            self.factory.watch()
            self.conversation.closed()

    def _token_over(self, why: Ending) -> None:
        """A token ends on an open socket too."""
        self.say_goodbye(CloseCode.UNAUTHORISED if why.token_is_over else CloseCode.AGAIN, why.value)


class ViewerFactory(WebSocketServerFactory):
    """Makes viewers' protocols, with Autobahn's defaults changed to ones that can face the world."""

    def __init__(self, reactor: IReactorTime, max_viewers: int) -> None:
        super().__init__(reactor=reactor, server="twistedipc")
        self._watching: IDelayedCall | None = None
        self.viewers: set[ViewerProtocol] = set()
        self.setProtocolOptions(
            webStatus=False,
            maxFramePayloadSize=4096,
            maxMessagePayloadSize=4096,
            autoPingInterval=0,  # `ViewerProtocol.look` does it better: it knows who is only slow
            openHandshakeTimeout=10,
            closeHandshakeTimeout=5,
            maxConnections=max_viewers,
            # Who may connect from where was checked before the upgrade, with the list that the API has.
            allowedOrigins=["*"],
            allowNullOrigin=True,
            failByDrop=False,
            tcpNoDelay=True,
        )
        self.protocol = leaner(ViewerProtocol, self)

    def watch(self) -> None:
        """Look at all viewers now and then, as long as there are any: one timer for all."""
        if self.viewers and self._watching is None:
            self._watching = self.reactor.callLater(LOOK_INTERVAL, self._look)
        elif not self.viewers and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _look(self) -> None:
        self._watching = None
        now = self.reactor.seconds()
        for viewer in list(self.viewers):
            viewer.look(now)
        self.watch()


def accept_deflate(offers: Sequence[object]) -> PerMessageDeflateOfferAccept | None:
    """
    The first offer of permessage-deflate (RFC 7692) that we can take. Each message, ours and the client's, is
    compressed by itself. Ours were compressed for everybody, so a client that wants a smaller window gets none of it.
    """
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer) and offer.request_max_window_bits in (0, zlib.MAX_WBITS):
            wanted = PerMessageDeflateOffer(
                accept_no_context_takeover=True,
                accept_max_window_bits=offer.accept_max_window_bits,
                request_no_context_takeover=True,  # said in the answer, also to who didn't ask for it (7.1.1.1)
                request_max_window_bits=offer.request_max_window_bits,
            )
            return PerMessageDeflateOfferAccept(wanted, request_no_context_takeover=True)
    return None


class _ForRequest:
    """A factory for one request: its protocol has this conversation, and deflates if the request says ``compress``."""

    def __init__(self, factory: ViewerFactory, conversation: Conversation, holding: Holding, compress: bool) -> None:
        self._factory = factory
        self._conversation = conversation
        self._holding = holding
        self._compress = compress

    def buildProtocol(self, address: object) -> ViewerProtocol:
        protocol: ViewerProtocol = self._factory.buildProtocol(address)
        protocol.conversation = self._conversation
        protocol.holding = self._holding
        if self._compress:
            protocol.perMessageCompressionAccept = accept_deflate
        return protocol


class WebSockets:
    """The WebSockets of an apiserver."""

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
    ) -> None:
        self._factory = ViewerFactory(reactor, max_viewers)
        self._now = now
        self._ledger = ledger
        self._crowds = Crowds(logs)
        self._feed = feed
        self._gists = gists

    def log_resource(
        self, build: int, attempt: int, after: int, holding: Holding, *, compress: bool = False
    ) -> IResource:
        """
        A resource that upgrades one request to the stream of one log, from behind record ``after``. ``compress``: its
        client wants long messages deflated, if it also offers the extension.
        """
        conversation = LogConversation(self._ledger, self._crowds, self._feed, self._now, build, attempt, after)
        return self._resource(conversation, holding, compress)

    def stream_resource(self, holding: Holding, *, compress: bool = False) -> IResource:
        """A resource that upgrades one request to a stream with many subscriptions. ``compress``: as above."""
        conversation = StreamConversation(self._ledger, self._crowds, self._feed, self._gists, holding.token.projects)
        return self._resource(conversation, holding, compress)

    def close_all(self) -> None:
        """The service restarts: viewers come back, and resume by their numbers."""
        for viewer in list(self._factory.viewers):
            viewer.say_goodbye(CloseCode.AGAIN, "the service restarts")

    def _resource(self, conversation: Conversation, holding: Holding, compress: bool) -> IResource:
        resource: IResource = WebSocketResource(_ForRequest(self._factory, conversation, holding, compress))
        return resource
