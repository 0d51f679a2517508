"""
The sending end of reliable streams: `Stream`, on whatever link there is. ``wire/windows.py`` has the rules, ``outbox``
keeps what isn't acknowledged. Made by ``remote`` and ``service``.

::

    stream = remote.stream(EVENTS, FileOutbox("outbox"))        # sends on whatever link there is
    number = await stream.write(Event(…))                       # kept in the outbox; waits if that is full
    await stream.flushed()                                      # all of it is kept at the other end

On each link a stream is in one of these phases, and in none while there is no link::

    OPENING ──position──► SENDING
       ▲  └────refusal──►   │
       └──── RESTING ◄──refusal

A stream that is refused for good, or closed, leaves its link.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Generic, TypeVar

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.ipc.connections.drains import Drains
from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.streams.outbox import Outbox
from twistedipc.ipc.wire.credit import CreditWindow
from twistedipc.ipc.wire.errors import Code, LinkError, LocalProtocolError, NotConnected
from twistedipc.ipc.wire.finite import check_finite, is_exact, one_line
from twistedipc.ipc.wire.interface import StreamOf
from twistedipc.ipc.wire.messages import encoder, unsendable
from twistedipc.ipc.wire.windows import (
    SendWindow,
    StreamAck,
    StreamClose,
    StreamItems,
    StreamOpen,
    StreamPosition,
    StreamRefused,
)

T = TypeVar("T", bound=msgspec.Struct)

#: About how many bytes of items go into one frame.
FRAME_BYTES = 1 << 16

#: The least seconds after which a sender tries again, whatever the receiver has said.
LEAST_RETRY = 0.1

#: How much of a refusal's words is kept, in characters.
REASON_LIMIT = 512

#: Bytes of items that are written in one turn of the reactor, about.
TURN_BYTES = 1 << 18

#: Bytes of a frame that aren't its items, at most.
_AROUND_ITEMS = 256


class StreamFailed(LinkError):
    """
    The receiver doesn't take the stream; ``code`` and ``str()`` say why. What is in the outbox stays there.

    :param retry_after: in how many seconds it is tried again; None: this is final
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.retry_after = retry_after


class Phase(Enum):
    """Where a stream is on a link. See the module's docstring."""

    OPENING = auto()  # the receiver hasn't said from where on
    SENDING = auto()
    RESTING = auto()  # it was refused for a while


class _OnLink:
    """
    A stream on one link.

    :param opening: the number by which answers are told from those to an opening before, which may have crossed
    """

    def __init__(self, peer: Peer, opening: int) -> None:
        self.peer = peer
        self.opening = opening
        self.phase = Phase.OPENING
        self.retry: IDelayedCall | None = None  # while it rests

    def is_meant(self, opening: int) -> bool:
        """True unless the answer belongs to an earlier opening. 0: the peer doesn't number its answers."""
        return opening in (self.opening, 0)

    def rest(self, retry: IDelayedCall) -> None:
        """Send nothing until the timer has fired."""
        self.phase, self.retry = Phase.RESTING, retry

    def leave(self) -> None:
        """Nothing more is done here."""
        if self.retry is not None and self.retry.active():
            self.retry.cancel()


class _Items:
    """
    What a stream carries, and how it is encoded.

    :param frame_limit: bytes of a message on this side
    """

    def __init__(self, name: str, kind: type[msgspec.Struct], frame_limit: int) -> None:
        self._name = name
        self._kind = kind
        self._decode = msgspec.json.Decoder(kind).decode
        self._is_exact = is_exact(kind)
        self._own_limit = frame_limit
        self.limit = frame_limit - _AROUND_ITEMS  # bytes of an item

    def fit(self, peer: Peer) -> None:
        """Make items no longer than this peer takes them, from now on."""
        self.limit = min(self._own_limit, peer.frame_limit) - _AROUND_ITEMS

    @property
    def frame_bytes(self) -> int:
        """About how many bytes of items go into one frame: commas come on top, and the shortest item has two bytes."""
        return min(FRAME_BYTES, self.limit // 2)

    def encode(self, item: msgspec.Struct) -> bytes:
        """Return the item as JSON. Raises `LocalProtocolError` unless a receiver can take it."""
        if not isinstance(item, self._kind):
            raise LocalProtocolError(f"{self._name} takes {self._kind.__qualname__}, not {type(item).__qualname__}")
        try:
            line = encoder.encode(item)
            # As the receiver will decode it: a wrong one, once in the outbox, would stop the stream for good. If
            # something else comes out, it may be because JSON doesn't have it.
            if self._decode(line) != item:
                check_finite(item)
            if not self._is_exact:
                line = one_line(line)
        except Exception as error:
            raise LocalProtocolError(f"this is no item of {self._name}: {unsendable(error, item)}") from None
        if len(line) > self.limit:
            raise LocalProtocolError(f"an item of {len(line)} bytes is over the limit of {self.limit}")
        return line


class _Turn:
    """What was written in this turn of the reactor, at whose end it is sent."""

    def __init__(self, clock: IReactorTime, at_end: Callable[[], None], synced: int) -> None:
        self.synced = synced  # items below it are safe from the machine's crash: only those are sent
        self._clock = clock
        self._at_end = at_end
        self._end: IDelayedCall | None = None
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether more may be written before something else has its turn."""
        return self._bytes < TURN_BYTES

    def wrote(self, size: int) -> None:
        """Count what was written."""
        self._bytes += size
        if self._end is None:
            self._end = self._clock.callLater(0, self._ended)

    def cancel(self) -> bool:
        """Return whether something was written that waits for the turn's end, which won't come now."""
        if self._end is None:
            return False
        self._end.cancel()
        self._end = None
        return True

    def _ended(self) -> None:
        self._end = None
        self._bytes = 0
        self._at_end()


class _Acknowledged:
    """How far the receiver has got, and what waits for it to get farther."""

    def __init__(self, below: int) -> None:
        self.below = below  # all items below this number are kept there
        self._flushed: dict[Deferred[None], int] = {}  # until which number is reached, in this order

    def __len__(self) -> int:
        return len(self._flushed)

    def wait(self, number: int) -> Deferred[None]:
        """Return a Deferred that fires when all below ``number`` is acknowledged."""
        if self.below >= number:
            return succeed(None)
        flushed: Deferred[None] = Deferred(self._forget)
        self._flushed[flushed] = number
        return flushed

    def _forget(self, cancelled: Deferred[None]) -> None:
        self._flushed.pop(cancelled, None)

    def advance(self, below: int) -> None:
        """Note that all below this number is acknowledged."""
        self.below = max(self.below, below)

    def release(self) -> None:
        """Fire the Deferreds that wait for what is acknowledged now."""
        while self._flushed:
            flushed, number = next(iter(self._flushed.items()))
            if number > self.below:
                return
            del self._flushed[flushed]
            flushed.callback(None)

    def fail(self, error: LinkError) -> None:
        """Fail all that wait: no more is acknowledged."""
        flushed, self._flushed = self._flushed, {}
        for each in flushed:
            if not each.called:  # those before it may cancel it
                each.errback(error)


class Stream(Generic[T]):
    """The sender's end of one stream. Made by `Remote.stream` and `Listening.stream`."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        items: _Items,
        outbox: Outbox,
        closed: Callable[[Stream[Any]], None],
        openings: Iterator[int],
    ) -> None:
        self.name = name
        #: called with a `StreamFailed` each time that the receiver refuses the stream, for a while or for good; None
        self.when_refused: Callable[[StreamFailed], None] | None = None
        self._when_closed = closed
        self._clock = clock
        self._items = items
        self._outbox = outbox
        self._openings = openings
        self._on_link: _OnLink | None = None
        self._window = SendWindow(CreditWindow(1))
        self._acknowledged = _Acknowledged(outbox.first)
        self._turn = _Turn(clock, self._at_turn_end, outbox.next)
        self._failed: LinkError | None = None
        self._refusal: StreamFailed | None = None
        self._closed = False
        self._room = Drains()  # of writes that wait

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
        return self._acknowledged.below

    @property
    def refusal(self) -> StreamFailed | None:
        """
        Why the receiver doesn't take the stream just now; None if the receiver takes it, or wasn't asked. While the
        refusal's ``retry_after`` isn't None, items are kept in the outbox, and the stream is tried again.
        """
        return self._refusal

    async def write(self, item: T) -> int:
        """
        Add an item to the outbox, and return the item's number. The item is sent as soon as that is possible. Wait
        while the outbox is full; and for the reactor's next turn once a lot was written in this one, so that a loop of
        writes leaves time for everything else.

        :raises StreamFailed: the receiver doesn't take the stream
        :raises NotConnected: after `close`
        :raises LocalProtocolError: the item isn't of the stream's type, by its fields too; or can't be sent as JSON; or
            is over the frame limit of one of the two sides (1 MiB, less 256 bytes)
        :raises OSError: the outbox can't be written
        """
        line = self._items.encode(item)
        while not self._turn.has_room or not self._outbox.room:
            self._check()
            await self._room.wait()
        self._check()
        number = self._outbox.append(line)
        self._turn.wrote(len(line))
        return number

    def flushed(self) -> Deferred[None]:
        """
        Return a Deferred that fires when all that was written so far is acknowledged, without a limit of time. The
        Deferred fails with `StreamFailed` if the receiver doesn't take the stream, and with `NotConnected` after
        `close`.
        """
        try:
            self._check()
        except LinkError as error:
            return fail(error)
        return self._acknowledged.wait(self._outbox.next)

    def close(self) -> None:
        """Send no more, and close the outbox: a folder can be opened again. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._turn.cancel():
                self._sync()
            self._outbox.close()
            self._give_up(NotConnected("the stream was closed here"))
            self._when_closed(self)

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _give_up(self, error: LinkError) -> None:
        self._failed = self._failed or error
        on_link = self._leave_link()
        if on_link is not None:
            with suppress(NotConnected):  # the link is just ending, and everything on it with it
                on_link.peer.send(StreamClose(id=self.id))
        self._room.fail(error)
        self._acknowledged.fail(error)

    def _leave_link(self) -> _OnLink | None:
        on_link, self._on_link = self._on_link, None
        self._window.forget()
        if on_link is not None:
            on_link.leave()
        return on_link

    # -- links

    def _link_made(self, peer: Peer) -> None:
        """There is a link: open the stream on it."""
        if self._failed is None:
            self._leave_link()
            self._items.fit(peer)
            self._on_link = on_link = _OnLink(peer, next(self._openings))
            peer.send(StreamOpen(stream=self.name, id=self.id, first=self._outbox.first, opening=on_link.opening))

    def _link_lost(self, peer: Peer) -> None:
        """The link is gone; the next one begins where the receiver says."""
        if self._on_link is not None and self._on_link.peer is peer:
            self._leave_link()
            if self._failed is None:
                self._refusal = None

    def _positioned(self, position: StreamPosition) -> None:
        """The receiver says from where on. Raises `RemoteProtocolError`."""
        on_link = self._on_link
        if on_link is None or not on_link.is_meant(position.opening):
            return
        if position.next < self._outbox.first or position.next > self._outbox.next:
            # What it wants was acknowledged, and is gone; or was never written: it is another stream's position.
            kept = f"{self._outbox.first} to {self._outbox.next - 1} are kept"
            self._give_up(StreamFailed("position", f"the receiver wants item {position.next}; {kept}"))
            return
        credit = CreditWindow(position.credit)
        self._refusal = None
        if on_link.phase is Phase.SENDING:
            # Something is missing there. What came before it may not be kept yet.
            self._window.rewind(position.next, credit)
        else:
            self._window.begin(position.next, credit)
            on_link.phase = Phase.SENDING
            self._arrived(position.next)
        self._pump()

    def _acked(self, ack: StreamAck) -> None:
        """The receiver keeps everything below. Raises `RemoteProtocolError`."""
        if self._on_link is None or self._on_link.phase is not Phase.SENDING:
            return
        self._window.acknowledged(ack.next)
        self._arrived(ack.next)
        self._pump()

    def _refused(self, refusal: StreamRefused) -> None:
        """The receiver doesn't take it, now or ever."""
        on_link, message = self._on_link, refusal.message[:REASON_LIMIT]
        if on_link is None or on_link.phase is Phase.RESTING or not on_link.is_meant(refusal.opening):
            return  # it has said so
        self._log.error("the stream {name} is refused: {message!r}", name=self.name, message=message)
        code = refusal.code[:REASON_LIMIT]
        if refusal.retry_after:
            retry_after = max(LEAST_RETRY, refusal.retry_after)
            self._window.forget()
            on_link.rest(self._clock.callLater(retry_after, self._try_again, on_link))
            self._refusal = StreamFailed(code, message, retry_after)
        else:
            self._refusal = StreamFailed(code, message)
            self._give_up(self._refusal)
        if self.when_refused is not None:
            try:
                self.when_refused(self._refusal)
            except Exception:
                self._log.failure("when_refused of the stream {name} failed", name=self.name)

    def _try_again(self, on_link: _OnLink) -> None:
        if self._on_link is on_link:
            self._link_made(on_link.peer)

    def _arrived(self, below: int) -> None:
        self._acknowledged.advance(below)
        try:
            self._outbox.trim(self._acknowledged.below)
        except OSError as error:
            self._log.error("what is acknowledged of {name} can't be deleted: {error}", name=self.name, error=error)
        self._make_room()
        self._acknowledged.release()

    # -- sending

    def _at_turn_end(self) -> None:
        if self._sync():
            self._pump()
            self._make_room()

    def _make_room(self) -> None:
        """Let writes go on that wait, if they can."""
        if self._outbox.room and self._turn.has_room:
            self._room.release()

    def _sync(self) -> bool:
        try:
            self._outbox.sync()
        except OSError as error:
            self._give_up(StreamFailed("outbox", f"the outbox can't be written: {error.strerror}"))
            return False
        self._turn.synced = self._outbox.next
        return True

    def _pump(self) -> None:
        """Send what there is, as far as credit and the link allow."""
        while (on_link := self._on_link) is not None and on_link.phase is Phase.SENDING:
            peer, window = on_link.peer, self._window
            # An item that the receiver has and a crash took from here would leave its number to another: lost there.
            most = self._turn.synced - window.next
            if peer.paused or window.free <= 0 or most <= 0:
                return
            try:
                items = self._outbox.read(window.next, min(self._items.frame_bytes, window.free))
            except (OSError, LinkError) as error:
                self._give_up(StreamFailed("outbox", f"the outbox can't be read: {error}"))
                return
            if not items:
                return
            items = items[:most]
            array = b"[" + b",".join(items) + b"]"
            first = window.next
            if len(array) > self._items.limit + 2:
                # It was written before there was a link with a side of a lower limit.
                complaint = f"item {first} is over the limit of {self._items.limit} bytes"
                self._give_up(StreamFailed(Code.TOO_LARGE, complaint))
                return
            window.sent(first + len(items), len(array))
            peer.send(StreamItems(id=self.id, first=first, items=msgspec.Raw(array)))


class Outgoing:
    """The streams that are sent to one peer, over whatever links."""

    def __init__(self, clock: IReactorTime, kinds: dict[str, StreamOf[Any]], frame_limit: int) -> None:
        self._clock = clock
        self._kinds = kinds
        self._frame_limit = frame_limit
        self._openings = itertools.count(1)
        self._streams: dict[str, Stream[Any]] = {}
        self._peer: Peer | None = None

    def stream(self, of: StreamOf[T], outbox: Outbox) -> Stream[T]:
        """Return a new stream. Raises `LocalProtocolError`: there is no such stream, or the outbox is sent already."""
        if not isinstance(of, StreamOf):
            raise LocalProtocolError(f"{of!r} is no StreamOf: give the object that the interface was made with")
        if self._kinds.get(of.name) != of:
            raise LocalProtocolError(f"the interface has no stream {of.name} of {of.items.__qualname__}")
        if outbox.id in self._streams:
            raise LocalProtocolError("this outbox is sent already")
        items = _Items(of.name, of.items, self._frame_limit)
        stream: Stream[T] = Stream(self._clock, of.name, items, outbox, self._closed, self._openings)
        self._streams[outbox.id] = stream
        if self._peer is not None:
            stream._link_made(self._peer)
        return stream

    def link_made(self, peer: Peer) -> None:
        """Take note of a link."""
        self._peer = peer
        for stream in self._streams.values():
            stream._link_made(peer)

    def link_lost(self, peer: Peer) -> None:
        """Take note that the link is gone."""
        if self._peer is peer:
            self._peer = None
        for stream in self._streams.values():
            stream._link_lost(peer)

    def received(self, peer: Peer, frame: StreamPosition | StreamAck | StreamRefused) -> None:
        """Take a frame of a stream's receiver. Raises `RemoteProtocolError`."""
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
        """Send more of all streams: the link has room."""
        for stream in list(self._streams.values()):  # the application may close a stream when it hears of its failure
            stream._pump()

    def close(self) -> None:
        """Close all streams."""
        for stream in list(self._streams.values()):
            stream.close()

    def _closed(self, stream: Stream[Any]) -> None:
        self._streams.pop(stream.id, None)
