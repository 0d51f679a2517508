"""The body of a received `Blob`, as its program reads it: `Arriving` and `BodyReader`. Used by ``bodies``."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from functools import partial
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from twistedipc.ipc.connections.gate import Gate
from twistedipc.ipc.wire.bodies import CHUNK, CREDIT, BodyChunk, BodyDone, BodyEnded, BodyFailed, BodyWanted
from twistedipc.ipc.wire.errors import CallFailed, CallTimedOut, Code, LinkError, LocalProtocolError

#: Chunks below so many bytes are put together: as an object each of them would need much more memory than it has bytes.
_SMALL = 4096


class TakesBodies(Protocol):
    """What the bodies that arrive need of their link."""

    @property
    def clock(self) -> IReactorTime: ...

    def check_thread(self) -> None: ...

    def say(self, frame: BodyWanted | BodyDone) -> None: ...

    def forget(self, number: int) -> None: ...


class Arriving:
    """
    A body that is received. The link has it as long as the peer may send of it; its program has the `BodyReader`.

    :param number: the peer's for it
    :param size: its bytes, as the peer has said; None if it hasn't
    """

    def __init__(self, link: TakesBodies, number: int, size: int | None) -> None:
        self._link = link
        self.number = number
        self._size = size
        self._pieces: deque[bytes | bytearray] = deque()  # those that may grow are bytearrays
        self._room = 0  # bytes that the peer may send
        self._owed = 0  # bytes that were taken, and that the peer wasn't told of
        self._count = 0  # bytes that have come
        self._error: LinkError | None = None
        self._is_whole = False  # the last byte has come
        self._is_open = True  # the peer may send of it
        self._is_wanted = False
        self._gate = Gate(link.clock)

    # -- for the link

    def came(self, chunk: BodyChunk) -> None:
        """Bytes have come."""
        size = len(chunk.data)
        if self._is_whole:
            self._break(_other_size(self._count, self._count + size))
            return
        if size > self._room:
            self._break(CallFailed(Code.CREDIT, f"more than {CREDIT} bytes of a body were sent unasked"))
            return
        self._room -= size
        self._count += size
        if self._size is not None and self._count > self._size:
            self._break(_other_size(self._size, self._count))
        elif size:
            self._keep(chunk.data)
            self._gate.open()

    def _keep(self, data: bytes) -> None:
        if len(data) >= _SMALL:
            self._pieces.append(data)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray) and len(last) < CHUNK:
            last += data
        else:
            self._pieces.append(bytearray(data))

    def ended(self, ended: BodyEnded) -> None:
        """All has come."""
        if ended.size != self._count or self._size not in (None, self._count):
            self._break(_other_size(ended.size if self._size is None else self._size, self._count))
            return
        self._is_whole = True
        self._look_at_end()
        self._gate.open()

    def failed(self, failed: BodyFailed) -> None:
        """The peer can't send the rest."""
        self._break(CallFailed(failed.code[:64], failed.message))

    def end(self, error: LinkError) -> None:
        """Nothing more will come: the link, or the call, has ended. What has come whole can still be read."""
        self._is_open = False
        if not self._is_whole:
            self._fail(error)

    # -- for the reader

    async def next(self, timeout: float | None) -> bytes | None:  # noqa: ASYNC109
        """See `Reader.next`."""
        self.check_thread()
        if self._gate.is_waited_at:
            raise RuntimeError("a body is read by one after the other: another task waits for its next bytes")
        if self._error is None:
            self._want()
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._is_whole:
                self._error = LocalProtocolError("this body was read already")
                return None
            if not await self._gate.wait(timeout):
                self._fail(CallTimedOut(f"no bytes of a body within {timeout:g} seconds"))
        piece = self._pieces.popleft()
        self._owed += len(piece)
        self._look_at_end()
        return bytes(piece)

    def check_thread(self) -> None:
        """See `Reader.check_thread`."""
        self._link.check_thread()

    def stop(self) -> None:
        """Take nothing more, and make the peer stop."""
        self._fail(LocalProtocolError("this body was closed"))
        self._close()

    @property
    def is_open(self) -> bool:
        """Whether the peer may send of it."""
        return self._is_open

    def _want(self) -> None:
        """Tell the peer how much it may send."""
        if not self._is_wanted:
            self._is_wanted, self._owed = True, CREDIT
        if self._owed >= CREDIT // 2 and self._is_open and not self._is_whole:
            owed, self._owed = self._owed, 0
            self._room += owed
            self._link.say(BodyWanted(body=self.number, credit=owed))

    # -- the end

    def _look_at_end(self) -> None:
        """Tell the peer if all was taken: its place is free."""
        if self._is_whole and not self._pieces:
            self._close()

    def _break(self, error: LinkError) -> None:
        """Take nothing more of a body with which something is wrong."""
        self._fail(error)
        self._close()

    def _fail(self, error: LinkError) -> None:
        if self._error is None:
            self._error = error
            self._pieces.clear()
        self._gate.open()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._link.say(BodyDone(body=self.number))
            self._link.forget(self.number)


class BodyReader:
    """
    What a received `Blob` has: so that the link notices when the program has let go of it.

    :param arriving: the body
    """

    def __init__(self, arriving: Arriving, clock: IReactorTime) -> None:
        self._arriving = arriving
        self._clock = clock

    async def next(self, timeout: float | None) -> bytes | None:  # noqa: ASYNC109
        """See `Reader.next`."""
        return await self._arriving.next(timeout)

    def check_thread(self) -> None:
        """See `Reader.check_thread`."""
        self._arriving.check_thread()

    def stop(self) -> None:
        """See `Reader.stop`."""
        try:
            self._arriving.check_thread()
        except LocalProtocolError:
            self.let_go()
        else:
            self._arriving.stop()

    def let_go(self) -> None:
        """See `Reader.let_go`."""
        # A clock, in a test, has one thread.
        later = getattr(self._clock, "callFromThread", None) or partial(self._clock.callLater, 0)
        with suppress(RuntimeError):  # the loop is closed, and so is the link
            later(self._arriving.stop)

    def __del__(self) -> None:
        if self._arriving.is_open:
            self.let_go()


def _other_size(said: int, came: int) -> CallFailed:
    return CallFailed(Code.BAD_BODY, f"the body was said to have {said} bytes, and {came} have come")
