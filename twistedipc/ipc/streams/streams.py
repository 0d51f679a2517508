# Much of Twisted has no annotations.
# mypy: disable-error-code="no-untyped-call"
"""
Reliable streams on links: `Stream` is the sender's end, a `Receiver` is what you write at the other.
``wire/windows.py`` has the rules, ``outbox`` keeps what isn't acknowledged; made by ``remote`` and ``service``.

::

    stream = remote.stream("events", FileOutbox("outbox"))      # sends on whatever link there is
    number = await stream.write(Event(…))                       # kept in the outbox; waits if that is full
    await stream.flushed()                                      # all of it is kept at the other end

    class Collector(Service):
        interface = Interface("collector", streams={"events": Event})

        def receiver(self, stream):                             # a StreamId: who sends, and which stream of his
            return EventFile(self.folder / stream.peer)

The receiver tells how far it has got, so that items arrive once each even if it is the receiver that crashes: it keeps
its position along with the items.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.ipc.connections.drains import Drains
from twistedipc.ipc.connections.load import Load
from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.streams.outbox import Outbox
from twistedipc.ipc.wire.credit import CreditWindow
from twistedipc.ipc.wire.errors import Code, LinkError, LocalProtocolError, NotConnected, RemoteProtocolError
from twistedipc.ipc.wire.finite import check_finite, is_exact, one_line
from twistedipc.ipc.wire.messages import encoder, unsendable, words
from twistedipc.ipc.wire.windows import (
    MAX_NUMBER,
    Hole,
    ReceiveWindow,
    SendWindow,
    StreamAck,
    StreamClose,
    StreamItems,
    StreamOpen,
    StreamPosition,
    StreamRefused,
    UnreadItems,
)

#: Bytes of unacknowledged items that a receiver allows of each stream.
CREDIT = 1 << 20

#: Bytes of items that may have come of a stream and not be taken: those before a hole, and those that follow it.
ALLOWANCE = 2 * CREDIT

#: About how many bytes of items go into one frame.
FRAME_BYTES = 1 << 16

#: Seconds after which a stream whose receiver has failed is tried again.
RETRY_AFTER = 5.0

#: Bytes of items that may have come by one link and not be taken: while there are more, it isn't read. So a receiver
#: that takes its time can't count on being told anything by the same link meanwhile.
LINK_ALLOWANCE = 8 * CREDIT

#: The least and the most seconds after which a sender tries again, whatever the receiver has said.
LEAST_RETRY = 0.1
MOST_RETRY = 3600.0

#: How much of a refusal's words is kept, in characters.
REASON_LIMIT = 512

#: Bytes of items that are written in one turn of the reactor, about.
TURN_BYTES = 1 << 18

#: Streams that one peer may have open, those counted whose receivers still take what came before they were closed.
MAX_STREAMS = 256

#: Bytes of a frame that aren't its items, at most.
_AROUND_ITEMS = 256

#: What decoding raises for what isn't items of a stream.
_BAD_ITEMS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_log = Logger()


class StreamFailed(LinkError):
    """
    The receiver doesn't take the stream; ``code`` and ``str()`` say why. What is in the outbox stays there.

    :param retry_after: in how many seconds it is tried again; None: this is final
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.retry_after = retry_after


class RefuseStream(LinkError):
    """
    Raised by `Service.receiver`, `Receiver.position` or `Receiver.take`: this stream isn't taken. Its sender hears of
    it as `StreamFailed`, with the same code. Everything else on the link goes on.

    :param code: for programs: which reason it is
    :param message: for people
    :param retry_after: seconds (up to an hour) after which the sender is to try again, from the position that it is
        told then; None: never, the stream fails at its sender
    :raises ValueError: ``retry_after`` is negative, or no number
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} [{code}]")
        if retry_after is not None and not retry_after >= 0:
            raise ValueError(f"a stream can't be tried again after {retry_after} seconds")
        self.code = code
        self.message = message
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class StreamId:
    """
    One stream of one sender. Positions are kept under this whole.

    :param peer: the sender's name, as it has authenticated
    :param stream: the stream's name in the interface
    :param id: the outbox's; a sender that lost its outbox begins another stream, at 1
    """

    peer: str
    stream: str
    id: str


class Receiver(Protocol):
    """
    Where a stream's items end up: what you write, and return from `Service.receiver`. Both methods may be ``async``;
    they are called one at a time, whatever links come and go.
    """

    def position(self) -> int | Awaitable[int]:
        """
        The number of the first item that isn't kept yet: 1 in the beginning. Asked for when a link brings the stream.
        """

    def take(self, first: int, items: Sequence[Any]) -> Awaitable[None] | None:
        """
        Keep these items, the first of which has the number ``first``: exactly the one that is next. When this returns
        they are acknowledged, and the sender forgets them; so they are durable then, and so is the position. If it
        raises `RefuseStream`, the sender is told so: of these items none is kept. If it raises anything else, that is
        logged, and the sender tries again after 5 seconds, from the position that is told then.
        """


# -- the sender ------------------------------------------------------------------------------------------------------


class Stream:
    """The sender's end of one stream. Made by `Remote.stream` and `Listening.stream`."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        kind: type[msgspec.Struct],
        outbox: Outbox,
        closed: Callable[[Stream], None],
        frame_limit: int,
        openings: Iterator[int],
    ) -> None:
        self.name = name
        #: called with a `StreamFailed` each time that the receiver refuses the stream, for a while or for good; None
        self.when_refused: Callable[[StreamFailed], None] | None = None
        self._when_closed = closed
        self._kind = kind
        self._check_item = msgspec.json.Decoder(kind).decode
        self._exact = is_exact(kind)
        self._clock = clock
        self._outbox = outbox
        self._item_limit = frame_limit - _AROUND_ITEMS
        # Commas come on top of the items, the shortest of which has two bytes.
        self._frame_bytes = min(FRAME_BYTES, self._item_limit // 2)
        self._peer: Peer | None = None
        self._window = SendWindow(CreditWindow(1))
        self._openings = openings
        self._opening = 0  # the number of the last one
        self._ready = False  # the receiver has said from where on
        self._acknowledged = outbox.first
        self._turn_end: IDelayedCall | None = None
        self._turn_bytes = 0  # written since the last one
        self._retry: IDelayedCall | None = None
        self._failed: LinkError | None = None
        self._refusal: StreamFailed | None = None
        self._closed = False
        self._room = Drains()  # who waits to write
        self._flushed: dict[Deferred[None], int] = {}  # below which number all is to be kept, in this order

    @property
    def id(self) -> str:
        """The outbox's identity."""
        return self._outbox.id

    @property
    def next(self) -> int:
        """The number that the next item gets."""
        return self._outbox.next

    @property
    def acknowledged(self) -> int:
        """All items below this number are kept at the other end."""
        return self._acknowledged

    @property
    def refusal(self) -> StreamFailed | None:
        """
        Why the receiver doesn't take the stream just now; None if it does, or hasn't been asked. While its
        ``retry_after`` isn't None, items are kept in the outbox, and the stream is tried again.
        """
        return self._refusal

    async def write(self, item: msgspec.Struct) -> int:
        """
        Add an item: its number. It is in the outbox then, and will be sent as soon as that is possible. Waits while the
        outbox is full; and for the reactor's next turn once a lot was written in this one, so that a loop of writes
        doesn't keep everything else from happening.

        :raises StreamFailed: the receiver doesn't take the stream
        :raises NotConnected: after `close`
        :raises LocalProtocolError: it isn't of the stream's type, its fields included; or can't be sent as JSON; or is
            over the frame limit (1 MiB, less 256 bytes)
        :raises OSError: the outbox can't be written
        """
        line = self._encoded(item)
        while self._turn_bytes >= TURN_BYTES or not self._outbox.room:
            self._check()
            await self._room.wait()
        self._check()
        number = self._outbox.append(line)
        self._turn_bytes += len(line)
        if self._turn_end is None:
            self._turn_end = self._clock.callLater(0, self._at_turn_end)
        return number

    def flushed(self) -> Deferred[None]:
        """
        Fires when all that was written so far is acknowledged, whenever that is. Fails with `StreamFailed` if the
        receiver doesn't take the stream, and with `NotConnected` after `close`.
        """
        try:
            self._check()
        except LinkError as error:
            return fail(error)
        if self._acknowledged >= self._outbox.next:
            return succeed(None)
        flushed: Deferred[None] = Deferred(self._forget_flushed)
        self._flushed[flushed] = self._outbox.next
        return flushed

    def _forget_flushed(self, flushed: Deferred[None]) -> None:
        self._flushed.pop(flushed, None)

    def close(self) -> None:
        """Send no more, and close the outbox: a folder can be opened again. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._turn_end is not None:
                self._turn_end.cancel()
                self._turn_end = None
                self._sync()
            self._outbox.close()
            self._give_up(NotConnected("the stream was closed here"))
            self._when_closed(self)

    def _encoded(self, item: msgspec.Struct) -> bytes:
        if not isinstance(item, self._kind):
            raise LocalProtocolError(f"{self.name} takes {self._kind.__qualname__}, not {type(item).__qualname__}")
        try:
            line = encoder.encode(item)
            # As the receiver will decode it: a wrong one, once in the outbox, would stop the stream for good. If
            # something else comes out, it may be because JSON doesn't have it.
            if self._check_item(line) != item:
                check_finite(item)
            if not self._exact:
                line = one_line(line)
        except Exception as error:
            raise LocalProtocolError(f"this is no item of {self.name}: {unsendable(error, item)}") from None
        if len(line) > self._item_limit:
            raise LocalProtocolError(f"an item of {len(line)} bytes is over the limit of {self._item_limit}")
        return line

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _give_up(self, error: LinkError) -> None:
        self._failed = self._failed or error
        peer, self._peer = self._peer, None
        if peer is not None:
            with suppress(NotConnected):  # the link is just ending, and everything on it with it
                peer.send(StreamClose(id=self.id))
        self._ready = False
        self._window.forget()
        self._cancel_retry()
        self._room.fail(error)
        flushed, self._flushed = self._flushed, {}
        for each in flushed:
            if not each.called:  # those before it may cancel it
                each.errback(error)

    # -- links

    def _link_made(self, peer: Peer) -> None:
        """There is a link: open the stream on it."""
        if self._failed is None:
            self._window.forget()
            self._ready = False
            self._peer = peer
            self._opening = next(self._openings)
            peer.send(StreamOpen(stream=self.name, id=self.id, first=self._outbox.first, opening=self._opening))

    def _link_lost(self, peer: Peer) -> None:
        """The link is gone; the next one begins where the receiver says."""
        if self._peer is peer:
            self._peer = None
            self._ready = False
            if self._failed is None:
                self._refusal = None
            self._window.forget()
            self._cancel_retry()

    def _positioned(self, position: StreamPosition) -> None:
        """The receiver says from where on. Raises `RemoteProtocolError`."""
        if not self._is_meant(position.opening):
            return
        if position.next < self._outbox.first or position.next > self._outbox.next:
            # What it wants was acknowledged, and is gone; or was never written: it is another stream's position.
            kept = f"{self._outbox.first} to {self._outbox.next - 1} are kept"
            self._give_up(StreamFailed("position", f"the receiver wants item {position.next}; {kept}"))
            return
        credit = CreditWindow(position.credit)
        self._refusal = None
        if self._ready:
            # Something is missing there. What came before it may not be kept yet.
            self._window.rewind(position.next, credit)
        else:
            self._window.begin(position.next, credit)
            self._ready = True
            self._arrived(position.next)
        self._pump()

    def _acked(self, ack: StreamAck) -> None:
        """The receiver keeps everything below. Raises `RemoteProtocolError`."""
        if not self._ready:
            return
        self._window.acknowledged(ack.next)
        self._arrived(ack.next)
        self._pump()

    def _refused(self, refusal: StreamRefused) -> None:
        """The receiver doesn't take it, now or ever."""
        peer, message = self._peer, refusal.message[:REASON_LIMIT]
        if peer is None or self._retry is not None or not self._is_meant(refusal.opening):
            return  # it has said so
        self._log.error("the stream {name} is refused: {message!r}", name=self.name, message=message)
        code = refusal.code[:REASON_LIMIT]
        if refusal.retry_after:
            retry_after = max(LEAST_RETRY, refusal.retry_after)
            self._window.forget()
            self._ready = False
            self._retry = self._clock.callLater(retry_after, self._try_again, peer)
            self._refusal = StreamFailed(code, message, retry_after)
        else:
            self._refusal = StreamFailed(code, message)
            self._give_up(self._refusal)
        if self.when_refused is not None:
            try:
                self.when_refused(self._refusal)
            except Exception:
                self._log.failure("when_refused of the stream {name} failed", name=self.name)

    def _is_meant(self, opening: int) -> bool:
        """Whether an answer isn't one to an opening before, which has crossed with this one."""
        return opening in (self._opening, 0)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _try_again(self, peer: Peer) -> None:
        self._retry = None
        if self._peer is peer:
            self._link_made(peer)

    def _arrived(self, below: int) -> None:
        self._acknowledged = max(self._acknowledged, below)
        try:
            self._outbox.trim(self._acknowledged)
        except OSError as error:
            self._log.error("what is acknowledged of {name} can't be deleted: {error}", name=self.name, error=error)
        self._make_room()
        while self._flushed:
            flushed, number = next(iter(self._flushed.items()))
            if number > self._acknowledged:
                return
            del self._flushed[flushed]
            flushed.callback(None)

    # -- sending

    def _at_turn_end(self) -> None:
        self._turn_end = None
        self._turn_bytes = 0
        if self._sync():
            self._pump()
            self._make_room()

    def _make_room(self) -> None:
        """Let those go on who wait to write, if they can."""
        if self._outbox.room and self._turn_bytes < TURN_BYTES:
            self._room.release()

    def _sync(self) -> bool:
        try:
            self._outbox.sync()
        except OSError as error:
            self._give_up(StreamFailed("outbox", f"the outbox can't be written: {error.strerror}"))
            return False
        return True

    def _pump(self) -> None:
        """Send what there is, as far as credit and the link allow."""
        while self._ready and self._peer is not None and not self._peer.paused and self._window.free > 0:
            try:
                items = self._outbox.read(self._window.next, min(self._frame_bytes, self._window.free))
            except (OSError, LinkError) as error:
                self._give_up(StreamFailed("outbox", f"the outbox can't be read: {error}"))
                return
            if not items:
                return
            array = b"[" + b",".join(items) + b"]"
            first = self._window.next
            if len(array) > self._item_limit + 2:
                # It was written under a higher limit.
                self._give_up(StreamFailed("outbox", f"item {first} is over the limit of {self._item_limit} bytes"))
                return
            self._window.sent(first + len(items), len(array))
            self._peer.send(StreamItems(id=self.id, first=first, items=msgspec.Raw(array)))


class Outgoing:
    """The streams that are sent to one peer, over whatever links."""

    def __init__(self, clock: IReactorTime, kinds: dict[str, type[msgspec.Struct]], frame_limit: int) -> None:
        self._clock = clock
        self._kinds = kinds
        self._frame_limit = frame_limit
        self._openings = itertools.count(1)
        self._streams: dict[str, Stream] = {}
        self._peer: Peer | None = None

    def stream(self, name: str, outbox: Outbox) -> Stream:
        """A new stream. Raises `LocalProtocolError`: the interface has none of this name, or it is sent already."""
        if name not in self._kinds:
            raise LocalProtocolError(f"the interface has no stream {name!r}")
        if outbox.id in self._streams:
            raise LocalProtocolError("this outbox is sent already")
        stream = self._streams[outbox.id] = Stream(
            self._clock, name, self._kinds[name], outbox, self._closed, self._frame_limit, self._openings
        )
        if self._peer is not None:
            stream._link_made(self._peer)
        return stream

    def link_made(self, peer: Peer) -> None:
        """There is a link."""
        self._peer = peer
        for stream in self._streams.values():
            stream._link_made(peer)

    def link_lost(self, peer: Peer) -> None:
        """The link is gone."""
        if self._peer is peer:
            self._peer = None
        for stream in self._streams.values():
            stream._link_lost(peer)

    def received(self, peer: Peer, frame: StreamPosition | StreamAck | StreamRefused) -> None:
        """The receiver says something of a stream. Raises `RemoteProtocolError`."""
        stream = self._streams.get(frame.id)
        if stream is None or self._peer is not peer:
            return  # it was closed meanwhile
        match frame:
            case StreamPosition():
                stream._positioned(frame)
            case StreamAck():
                stream._acked(frame)
            case StreamRefused():
                stream._refused(frame)

    def pump(self) -> None:
        """The link takes more."""
        for stream in list(self._streams.values()):  # one that fails may be closed by whoever hears of it
            stream._pump()

    def close(self) -> None:
        """Close all streams."""
        for stream in list(self._streams.values()):
            stream.close()

    def _closed(self, stream: Stream) -> None:
        self._streams.pop(stream.id, None)


# -- the receiver ----------------------------------------------------------------------------------------------------


class Receivers:
    """
    The receivers of one service: one for each stream, whatever link it comes by, so that two links of one sender don't
    write at the same time.
    """

    def __init__(self, make: Callable[[StreamId], Receiver]) -> None:
        self._make = make
        self._lanes: dict[StreamId, _Lane] = {}

    def enter(self, stream: StreamId, owner: _IncomingStream) -> _Lane:
        """The stream's lane, for its newest link. The link before has lost it; what it is just taking, it takes."""
        lane = self._lanes.get(stream)
        if lane is None:
            lane = self._lanes[stream] = _Lane(self._make(stream))
        lane.users += 1  # before the other leaves it, or it would be nobody's
        if lane.owner is not None:
            lane.owner.close()
        lane.owner = owner
        return lane

    def leave(self, stream: StreamId) -> None:
        """One user less."""
        lane = self._lanes[stream]
        lane.users -= 1
        if not lane.users:
            del self._lanes[stream]


class _Lane:
    """One stream's receiver, and whose turn it is."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.owner: _IncomingStream | None = None
        self.users = 0
        self._busy = False
        self._waiting: list[Deferred[None]] = []

    def turn(self) -> Deferred[None]:
        """Fires when it is one's turn. May be cancelled until then."""
        if not self._busy:
            self._busy = True
            return succeed(None)
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        return turn

    def over(self) -> None:
        """One's turn is over: it is the next one's."""
        if self._waiting:
            self._waiting.pop(0).callback(None)
        else:
            self._busy = False


class Incoming:
    """All streams that come by one link."""

    def __init__(self, peer: Peer, kinds: dict[str, type[msgspec.Struct]], receivers: Receivers, load: Load) -> None:
        self._peer = peer
        self._load = load
        self._all = CreditWindow(MAX_STREAMS * 2 * ALLOWANCE)  # what waits, of all streams
        self._kinds = kinds
        self._receivers = receivers
        self._streams: dict[str, _IncomingStream] = {}

    def received(self, frame: StreamOpen | StreamItems | UnreadItems | StreamClose) -> None:
        """The sender says something of a stream. Raises `RemoteProtocolError`."""
        match frame:
            case StreamOpen():
                self._opened(frame)
            case StreamItems():
                self._open(frame.id).came(frame)
                self._weigh()
            case UnreadItems():
                self._open(frame.id).unread(frame)
            case StreamClose():
                stream = self._streams.get(frame.id)
                if stream is not None:  # else it was refused, since there were too many
                    stream.end()

    def _open(self, id_: str) -> _IncomingStream:
        stream = self._streams.get(id_)
        if stream is None:
            raise RemoteProtocolError(Code.BAD_MESSAGE, f"the stream {id_} isn't open")
        return stream

    def _weigh(self) -> None:
        """More or less waits than before."""
        if self._all.spent > LINK_ALLOWANCE:
            self._load.hold("streams")
        else:
            self._load.release("streams")

    def _opened(self, opening: StreamOpen) -> None:
        kind = self._kinds.get(opening.stream)
        before = self._streams.get(opening.id)
        if before is not None and not before.closed and not before.ending:
            raise RemoteProtocolError(Code.BAD_MESSAGE, f"the stream {opening.id} is open already")
        if kind is None:
            self._peer.send(no_such_stream(opening))
            return
        if before is None and len(self._streams) >= MAX_STREAMS:
            message = f"{MAX_STREAMS} streams are open"
            self._peer.send(StreamRefused(id=opening.id, code="stream", message=message, opening=opening.opening))
            return
        stream = StreamId(self._peer.info.name, opening.stream, opening.id)
        credit = CreditWindow(ALLOWANCE, self._all)
        try:
            self._streams[opening.id] = _IncomingStream(
                self._peer, self._receivers, stream, kind, opening, credit, self._weigh, self._over
            )
        except Exception:
            # The service has no receiver for it just now. That is this stream's affair, and not the link's.
            self._streams.pop(opening.id, None)
            self._peer.send(_refusal_of(Failure(), stream, opening.opening))

    def _over(self, stream: _IncomingStream) -> None:
        """It was closed, and all of it that had come is taken: it has no place any more."""
        if self._streams.get(stream.id) is stream:
            del self._streams[stream.id]

    def close(self) -> None:
        """The link has ended."""
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.close()


class _IncomingStream:
    """One stream on one link."""

    _log = Logger()

    def __init__(
        self,
        peer: Peer,
        receivers: Receivers,
        stream: StreamId,
        kind: type[msgspec.Struct],
        opening: StreamOpen,
        credit: CreditWindow,
        weigh: Callable[[], None],
        over: Callable[[_IncomingStream], None],
    ) -> None:
        self.closed = False
        self.ending = False  # the sender has closed it
        self._over = over
        self._credit = credit
        self._weigh = weigh  # something was taken
        self._peer = peer
        self._receivers = receivers
        self._stream = stream
        self._decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
        self._lane = receivers.enter(stream, self)
        self._window: ReceiveWindow | None = None  # None until the position is known
        self._waiting: list[Any] = []  # items that came and weren't taken
        self._working = False
        self._wrong: StreamRefused | None = None  # what the sender is told when what came before it is taken
        self._opening = opening.opening
        self._work(lambda: self._begin(opening.first))

    @property
    def id(self) -> str:
        """The outbox's identity."""
        return self._stream.id

    def end(self) -> None:
        """The sender has closed it: what has come is taken, and more won't come."""
        self.ending = True
        self._end()

    def _end(self) -> None:
        if self.ending and not self._working:
            self.close()
            self._over(self)

    async def _begin(self, first: int) -> None:
        """Find out how far it has got, and say so."""
        position = self._lane.receiver.position()
        next = position if isinstance(position, int) else await position
        if self.closed:
            return
        if not isinstance(next, int) or not 1 <= next <= MAX_NUMBER:
            raise ValueError(f"a receiver's position is the number of an item, from 1 on, and not {next!r}")
        if next < first:
            message = f"items {next} to {first - 1} aren't here, and the sender hasn't kept them"
            self._refuse(StreamRefused(id=self.id, code="hole", message=message))
            return
        self._window = ReceiveWindow(next, self._credit)
        self._tell_position(next)

    def _tell_position(self, next: int) -> None:
        self._say(StreamPosition(id=self._stream.id, next=next, credit=CREDIT, opening=self._opening))

    def _say(self, frame: StreamPosition | StreamAck | StreamRefused) -> None:
        """Tell the sender. If the link has just ended, so has the stream on it, and there is no one to tell."""
        try:
            self._peer.send(frame)
        except NotConnected:
            self.close()

    def unread(self, items: UnreadItems) -> None:
        """
        Items have come that can't be read: the stream is refused when what came before them is taken. Raises
        `RemoteProtocolError`.
        """
        if self._ignores_items():
            return
        window = self._known_window()
        self._fail(items.first, items.complaint)
        if not self._working:
            self._work(lambda: self._take_all(window))

    def _fail(self, number: int, complaint: str) -> None:
        """The sender's program has another idea of what the stream carries. Trying again wouldn't change that."""
        reason = f"item {number} of {self._stream.stream}: {complaint}"
        self._log.warn("{peer}: {reason}", peer=self._stream.peer, reason=reason)
        self._wrong = StreamRefused(id=self.id, code=Code.BAD_ITEM, message=words(reason, REASON_LIMIT))

    def came(self, items: StreamItems) -> None:
        """Items have come. Raises `RemoteProtocolError`."""
        if self._ignores_items():
            return
        window = self._known_window()
        found, complaint = self._items_of(items.items)
        end = items.first + len(found)
        try:
            skip = window.skip(items.first, end)
        except Hole as hole:
            if not hole.again:
                self._tell_position(hole.next)
            return
        if complaint:
            self._fail(end, complaint)
        elif skip == len(found):
            self._say(StreamAck(id=self._stream.id, next=window.kept))
            return
        window.take(end, memoryview(items.items).nbytes)
        self._waiting += found[skip:]
        if not self._working:
            self._work(lambda: self._take_all(window))

    def _ignores_items(self) -> bool:
        """Whether they were under way when the stream was refused, or has gone to a newer link."""
        return self.closed or self._wrong is not None

    def _known_window(self) -> ReceiveWindow:
        """The window, since items have come. Raises `RemoteProtocolError` if none could."""
        name = self._stream.stream
        if self.ending:
            raise RemoteProtocolError(Code.BAD_MESSAGE, f"items of {name} after its close")
        if self._window is None:
            raise RemoteProtocolError(Code.BAD_MESSAGE, f"items of {name} before their position was told")
        return self._window

    def _items_of(self, line: msgspec.Raw) -> tuple[list[Any], str]:
        """The items, up to the first that isn't of the stream's type, and what is wrong with it ("": nothing)."""
        try:
            return self._decoder.decode(line), ""
        except _BAD_ITEMS as error:
            complaint = str(error)
        found: list[Any] = []
        try:
            for each in msgspec.json.decode(line, type=list[msgspec.Raw]):
                found += self._decoder.decode(b"[%b]" % bytes(each))
        except _BAD_ITEMS as error:
            complaint = str(error).replace("`$[0]", "`$")
        return found, complaint

    async def _take_all(self, window: ReceiveWindow) -> None:
        while self._waiting and not self.closed:
            items, self._waiting = self._waiting, []
            end = window.next
            taken = self._lane.receiver.take(end - len(items), items)
            if taken is not None:
                await taken
            window.keep(end)
            self._weigh()
            if not self.closed:
                self._say(StreamAck(id=self._stream.id, next=end))
        if self._wrong is not None and not self.closed:
            self._refuse(self._wrong)

    def close(self) -> None:
        """
        The link has ended, or a newer one has the stream. What is just being taken is taken; what waits isn't.
        """
        if not self.closed:
            self.closed = True
            self._waiting.clear()
            if self._window is not None:
                self._window.forget()
            self._weigh()
            self._leave()
            self._turn.cancel()  # if it is still waited for: or who opens and closes it would make many wait

    def _leave(self) -> None:
        """Let go of the lane, when nothing goes on any more."""
        if self.closed and not self._working:
            self._receivers.leave(self._stream)

    def _refuse(self, refusal: StreamRefused) -> None:
        self._say(msgspec.structs.replace(refusal, opening=self._opening))
        self.close()

    def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it when it is this link's turn; then the lane is the next one's."""
        self._working = True
        turn = self._turn = self._lane.turn()

        async def in_turn() -> None:
            await turn
            try:
                await work()
            finally:
                self._lane.over()

        def failed(failure: Failure) -> None:
            if failure.check(NotConnected, CancelledError) and self.closed:
                return
            refusal = _refusal_of(failure, self._stream, self._opening)
            if not self.closed:
                self._refuse(refusal)

        def ended(_: object) -> None:
            self._working = False
            if self.closed:
                self._leave()
            self._end()

        Deferred.fromCoroutine(in_turn()).addErrback(failed).addBoth(ended)


def no_such_stream(opening: StreamOpen) -> StreamRefused:
    """What is told the sender of a stream that the interface here hasn't got."""
    message = f"there is no stream {opening.stream}"
    return StreamRefused(id=opening.id, code="stream", message=message, opening=opening.opening)


def _refusal_of(failure: Failure, stream: StreamId, opening: int) -> StreamRefused:
    """What a stream's sender is told of the exception that its receiver has raised, which is logged."""
    error, retry_after = failure.value, RETRY_AFTER
    code, message = str(Code.INTERNAL), "an error inside; see the log there"
    if isinstance(error, RefuseStream):
        code, message = words(error.code, REASON_LIMIT), words(error.message, REASON_LIMIT)
        never = error.retry_after is None
        retry_after = 0.0 if never else min(MOST_RETRY, max(LEAST_RETRY, error.retry_after or 0.0))
        _log.info("the stream {name} of {peer} is refused: {error}", name=stream.stream, peer=stream.peer, error=error)
    else:
        _log.failure("the stream {name} of {peer}", failure, name=stream.stream, peer=stream.peer)
    return StreamRefused(id=stream.id, code=code, message=message, retry_after=retry_after, opening=opening)
