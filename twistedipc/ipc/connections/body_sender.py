"""The body of a `Blob` on its way out: `Sending`. Used by ``bodies``."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Protocol, cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.ipc.connections.gate import Gate, start
from twistedipc.ipc.wire.blob import Source
from twistedipc.ipc.wire.bodies import AROUND_DATA, CHUNK, BodyChunk, BodyEnded, BodyFailed
from twistedipc.ipc.wire.errors import CallFailed, Code
from twistedipc.ipc.wire.messages import words

_log = Logger()

#: Bytes of a body that are sent in one turn of the reactor, about: so that it doesn't delay what else there is.
TURN_BYTES = 1 << 16

#: Seconds for which a reply's body is kept of which the caller takes nothing.
IDLE = 120.0

#: What a body's source has raised is said in so many characters.
_SAID = 512


class SendsBodies(Protocol):
    """What the bodies that are sent need of their link."""

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def is_full(self) -> bool: ...

    @property
    def send_limit(self) -> int: ...

    def say(self, frame: BodyEnded | BodyFailed) -> None: ...

    def say_chunk(self, chunk: BodyChunk) -> None: ...

    def sent(self, number: int) -> None: ...


class Sending:
    """
    One body.

    :param number: this side's for it
    :param call: the id of the call that it belongs to
    :param is_kept: whether it is kept after the call is answered, as a reply's is
    """

    def __init__(self, link: SendsBodies, number: int, source: Source, call: int, *, is_kept: bool) -> None:
        self.call = call
        self.is_kept = is_kept
        self._link = link
        self._number = number
        self._pieces = source.begin()
        self._size = 0  # bytes that were sent
        self._credit = 0
        self._turn_bytes = 0
        self._turn: IDelayedCall | None = None
        self._is_begun = False
        self._cancel: Callable[[], object] = _nothing
        self._is_over = False  # nothing more is sent of it
        self._gate = Gate(link.clock)
        self._idle: IDelayedCall | None = None
        self._watch()

    # -- for the link

    def wanted(self, credit: int) -> None:
        """The peer takes so many more bytes."""
        self._credit += credit
        self._watch()
        if self._is_begun:
            self._gate.open()
        elif not self._is_over:
            self._is_begun = True
            self._cancel = start(self._link.clock, self._send())

    def go_on(self) -> None:
        """The link has room."""
        self._gate.open()

    def stop(self) -> None:
        """Send nothing more: the peer has it, or doesn't want it, or nothing can be sent any more."""
        if not self._is_over:
            pieces = self._pieces
            self._end()
            if self._is_begun:
                self._cancel()
            else:
                start(self._link.clock, close_pieces(pieces))
        self._stop_idle()

    # -- sending

    async def _send(self) -> None:
        pieces = self._pieces
        try:
            async for piece in _each(pieces):
                await self._send_piece(piece)
                if self._is_over:
                    break
            self._finish(BodyEnded(body=self._number, size=self._size))
        except CallFailed as error:
            self._finish(self._failure(error.code, error.message))
        except GeneratorExit:  # the reactor is gone, and this is freed: in the middle of anything
            raise
        except BaseException as error:
            if not self._is_over:  # else it was cancelled
                _log.failure("the source of a body has failed")
                self._finish(self._failure(Code.INTERNAL, "an error inside; see the log there"))
            if not isinstance(error, Exception):
                raise
        finally:
            await close_pieces(pieces)

    async def _send_piece(self, piece: Any) -> None:
        """Send what may be larger than a frame, or than the credit."""
        view = memoryview(piece).cast("B") if not isinstance(piece, bytes) else memoryview(piece)
        most = min(CHUNK, (self._link.send_limit - AROUND_DATA) // 4 * 3)
        while view and not self._is_over:
            if not self._has_room():
                await self._room()
                continue
            size = min(len(view), most, self._credit)
            self._credit -= size
            self._size += size
            self._turn_bytes += size
            self._link.say_chunk(BodyChunk(body=self._number, data=cast(bytes, view[:size])))
            view = view[size:]
            self._watch()

    def _has_room(self) -> bool:
        return self._credit > 0 and self._turn_bytes < TURN_BYTES and not self._link.is_full

    async def _room(self) -> None:
        if self._turn_bytes >= TURN_BYTES and self._turn is None:
            self._turn = self._link.clock.callLater(0, self._turn_ended)
        await self._gate.wait()

    def _turn_ended(self) -> None:
        self._turn = None
        self._turn_bytes = 0
        self._gate.open()

    # -- the end

    def _watch(self) -> None:
        """Count the time in which the caller takes nothing of a reply's body."""
        if self._credit > 0 and not self._is_over:
            self._stop_idle()
        elif self._idle is None and self.is_kept:
            self._idle = self._link.clock.callLater(IDLE, self._too_idle)

    def _stop_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _too_idle(self) -> None:
        self._idle = None
        if not self._is_over:  # else all was sent, and the caller may take it whenever it likes
            self._link.say(self._failure(Code.OVERFLOW, f"nothing of it was taken for {IDLE:g} seconds"))
        self._link.sent(self._number)
        self.stop()

    def _failure(self, code: str, message: str) -> BodyFailed:
        return BodyFailed(body=self._number, code=words(code, 64), message=words(message, _SAID))

    def _finish(self, frame: BodyEnded | BodyFailed) -> None:
        if not self._is_over:
            self._end()
            self._link.say(frame)
            if isinstance(frame, BodyFailed):
                self._link.sent(self._number)
            else:
                self._watch()  # it counts until the peer has taken it

    def _end(self) -> None:
        self._is_over = True
        self._pieces = ()  # the peer may leave the place taken
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._stop_idle()


async def close_pieces(pieces: Any) -> None:
    """Close what gives the pieces of a body, if it can be closed."""
    try:
        if (aclose := getattr(pieces, "aclose", None)) is not None:
            await aclose()
        elif (close := getattr(pieces, "close", None)) is not None:
            close()
    except Exception:
        _log.failure("the source of a body has failed when it was closed")


async def _each(pieces: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(pieces, AsyncIterable):
        async for piece in pieces:
            yield piece
    else:
        for piece in _joined(pieces):
            yield piece


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in fewer pieces: there is no waiting between them, and a frame for each would cost more."""
    small = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        if not small and view.nbytes >= CHUNK:
            yield piece
            continue
        small += view  # copied, as the next one may lie in the same memory
        if len(small) >= CHUNK:
            yield bytes(small)
            small = bytearray()
    if small:
        yield bytes(small)


def _nothing() -> None:
    pass
