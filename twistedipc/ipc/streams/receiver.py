"""
The receiving end of reliable streams: a `Receiver` is what you write. ``wire/windows.py`` has the rules. Made by
``remote`` and ``service``.

::

    class Collector(Service):
        interface = Interface("collector", streams=[EVENTS])

        @receives(EVENTS)
        def events(self, stream: StreamId) -> Receiver[Event]:  # a StreamId: which stream, and its sender's name
            return EventFile(self.folder / stream.peer)

The receiver tells how far it has got, so that items arrive once each even if it is the receiver that crashes: it keeps
its position along with the items.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol, TypeVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.ipc.connections.load import Load
from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.wire.credit import CreditWindow
from twistedipc.ipc.wire.errors import Code, LinkError, NotConnected, RemoteProtocolError
from twistedipc.ipc.wire.interface import StreamOf
from twistedipc.ipc.wire.items import read_items
from twistedipc.ipc.wire.messages import words
from twistedipc.ipc.wire.windows import (
    MAX_NUMBER,
    Hole,
    ReceiveWindow,
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

#: Bytes of items that may have come by one link and not be taken: while there are more, it isn't read. So a receiver
#: that takes its time can't count on being told anything by the same link meanwhile.
LINK_ALLOWANCE = 8 * CREDIT

#: Seconds after which a stream whose receiver has failed is tried again.
RETRY_AFTER = 5.0

#: The least and the most seconds after which a sender is told to try again.
LEAST_RETRY = 0.1
MOST_RETRY = 3600.0

#: How much of a refusal's words is said, in characters.
REASON_LIMIT = 512

#: Streams that one peer may have open, those counted whose receivers still take what came before they were closed.
MAX_STREAMS = 256

T_contra = TypeVar("T_contra", bound=msgspec.Struct, contravariant=True)

_log = Logger()


class RefuseStream(LinkError):
    """
    Raised by a method that `receives` marks, `Receiver.position` or `Receiver.take`: this stream isn't taken. Its
    sender hears of it as `StreamFailed`, with the same code. Everything else on the link goes on.

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


class Receiver(Protocol[T_contra]):
    """
    Where a stream's items end up: what you write, and return from the method that `receives` marks. Both methods may be
    ``async``; they are called one at a time, whatever links come and go.
    """

    def position(self) -> int | Awaitable[int]:
        """
        The number of the first item that isn't kept yet: 1 in the beginning. Asked for when a link brings the stream.
        """

    def take(self, first: int, items: Sequence[T_contra]) -> Awaitable[None] | None:
        """
        Keep these items, the first of which has the number ``first``: exactly the one that is next. When this returns
        they are acknowledged, and the sender forgets them; so they are durable then, and so is the position. If it
        raises `RefuseStream`, the sender is told so: of these items none is kept. If it raises anything else, that is
        logged, and the sender tries again after 5 seconds, from the position that is told then.
        """


class Receivers:
    """
    The receivers of one service: one for each stream, whatever link it comes by, so that two links of one sender don't
    write at the same time.
    """

    def __init__(self, make: Callable[[StreamId], Receiver[Any]]) -> None:
        self._make = make
        self._lanes: dict[StreamId, _Lane] = {}

    def enter(self, stream: StreamId, owner: IncomingStream) -> _Lane:
        """The stream's lane, for its newest link. The link before has lost it; what it is just taking, it takes."""
        lane = self._lanes.get(stream)
        if lane is None:
            lane = self._lanes[stream] = _Lane(self._make(stream))
        lane.users += 1  # before the other leaves it, or the lane would have no user
        if lane.owner is not None:
            lane.owner.close()
        lane.owner = owner
        return lane

    def leave(self, stream: StreamId) -> None:
        """Note that there is one user less."""
        lane = self._lanes[stream]
        lane.users -= 1
        if not lane.users:
            del self._lanes[stream]


class _Lane:
    """One stream's receiver, and whose turn it is."""

    def __init__(self, receiver: Receiver[Any]) -> None:
        self.receiver = receiver
        self.owner: IncomingStream | None = None
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

    def __init__(self, peer: Peer, kinds: dict[str, StreamOf[Any]], receivers: Receivers, load: Load) -> None:
        self._peer = peer
        self._load = load
        self._all = CreditWindow(MAX_STREAMS * 2 * ALLOWANCE)  # what waits, of all streams
        self._kinds = kinds
        self._receivers = receivers
        self._streams: dict[str, IncomingStream] = {}

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

    def _open(self, id_: str) -> IncomingStream:
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
            self._streams[opening.id] = IncomingStream(
                self._peer, self._receivers, stream, kind.items, opening, credit, self._weigh, self._over
            )
        except Exception:
            # The service has no receiver for it just now. That is this stream's affair, and not the link's.
            self._streams.pop(opening.id, None)
            self._peer.send(_refusal_of(Failure(), stream, opening.opening))

    def _over(self, stream: IncomingStream) -> None:
        """Free the stream's place: it was closed, and all items that came were taken."""
        if self._streams.get(stream.id) is stream:
            del self._streams[stream.id]

    def close(self) -> None:
        """The link has ended."""
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.close()


class Phase(Enum):
    """Where a stream is on the link that it comes by."""

    OPEN = auto()
    ENDING = auto()  # its sender has closed it; what has come is being taken
    CLOSED = auto()  # it was refused, or a newer link has it, or the link has ended: nothing is taken any more
    OVER = auto()  # both


class IncomingStream:
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
        over: Callable[[IncomingStream], None],
    ) -> None:
        self.phase = Phase.OPEN
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
    def closed(self) -> bool:
        """Whether no item of the stream is taken any more."""
        return self.phase in (Phase.CLOSED, Phase.OVER)

    @property
    def ending(self) -> bool:
        """Whether the sender has closed the stream."""
        return self.phase in (Phase.ENDING, Phase.OVER)

    @property
    def id(self) -> str:
        """The outbox's identity."""
        return self._stream.id

    def end(self) -> None:
        """The sender has closed it: what has come is taken, and more won't come."""
        self.phase = Phase.OVER if self.closed else Phase.ENDING
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
        found, complaint = read_items(self._decoder, items.items)
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
            self.phase = Phase.OVER if self.ending else Phase.CLOSED
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
    """Return the refusal of a stream that the interface of this side doesn't have."""
    message = f"there is no stream {opening.stream}"
    return StreamRefused(id=opening.id, code="stream", message=message, opening=opening.opening)


def _refusal_of(failure: Failure, stream: StreamId, opening: int) -> StreamRefused:
    """Return the refusal for an exception that a stream's receiver has raised, and log the exception."""
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
