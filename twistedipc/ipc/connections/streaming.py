"""
A streamed reply on its way out: `Streaming` takes items out of a handler's async generator and sends them, as far as
the caller's credit and the link allow. Used by ``link``.

Items are sent in frames of about `FRAME_BYTES`, and what there is at the end of a turn of the reactor at the latest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twistedipc.ipc.connections.streamed import Arriving
from twistedipc.ipc.wire.errors import BadReply, CallFailed, Code, LocalProtocolError, NotConnected
from twistedipc.ipc.wire.finite import check_finite, one_line
from twistedipc.ipc.wire.messages import CallReceived, ItemsEnd, Vocabulary, encoder, is_struct, tag_of, unsendable
from twistedipc.ipc.wire.session import CreditReceived, ItemsReceived

#: About how many bytes of items go into one frame.
FRAME_BYTES = 1 << 15

#: Bytes of items that are taken out of a generator in one turn of the reactor, about.
TURN_BYTES = 1 << 16

#: Bytes of a frame that aren't its items, at most.
_AROUND_ITEMS = 64


class SendsItems(Protocol):
    """What `Streaming` needs of its link."""

    writing_is_paused: bool

    @property
    def send_limit(self) -> int: ...

    def answer_items(self, id_: int, items: bytes) -> None: ...

    def drain(self) -> Deferred[None]: ...


class ItemCalls:
    """The calls of one connection that are answered by items: those of this side, and those of the peer."""

    def __init__(self, clock: IReactorTime, link: SendsItems, vocabulary: Vocabulary) -> None:
        self._clock = clock
        self._link = link
        self._vocabulary = vocabulary
        #: by the ids of this side's calls, what comes of them
        self.arriving: dict[int, Arriving] = {}
        #: by the ids of the peer's, what goes out
        self.streaming: dict[int, Streaming] = {}

    def arrived(self, result: Any, id_: int) -> Any:
        """Forget a call of this side's: it was answered, or has failed. For a Deferred."""
        self.arriving.pop(id_, None)
        return result

    def answered(self, result: Any, id_: int) -> Any:
        """Forget a call of the peer's, if it is among these. For a Deferred."""
        self.streaming.pop(id_, None)
        return result

    def came(self, received: ItemsReceived) -> None:
        """Items have come."""
        if (arriving := self.arriving.get(received.id)) is not None:
            arriving.came(received.items, received.size)

    def more(self, received: CreditReceived) -> None:
        """The peer has taken items."""
        if (streaming := self.streaming.get(received.id)) is not None:
            streaming.more(received.credit)

    def stop(self, id_: int) -> None:
        """The peer doesn't wait for the items of a call any longer, if they are items."""
        if (streaming := self.streaming.get(id_)) is not None:
            streaming.stop()

    def stop_all(self) -> None:
        """Nothing can be sent any more."""
        for streaming in self.streaming.values():
            streaming.stop()

    def begin(self, call: CallReceived[msgspec.Struct], items: AsyncIterator[Any]) -> Coroutine[Any, Any, ItemsEnd]:
        """
        Return what sends the items, when it is awaited, and gives the reply that ends them.

        :raises LocalProtocolError: the request isn't answered by items
        :raises CallFailed: the caller doesn't expect them
        """
        request = type(call.request)
        if request not in self._vocabulary.items.answers:
            raise LocalProtocolError(f"{request.__qualname__} is no StreamedRequest, and its handler is a generator")
        if not call.credit:
            raise CallFailed(Code.BAD_REQUEST, f"{tag_of(request)} is answered by items: the call must have a credit")
        streaming = Streaming(self._clock, self._link, call.id, request, self._vocabulary, call.credit)
        self.streaming[call.id] = streaming
        return streaming.send(items)


class Streaming:
    """
    One streamed reply.

    :param id_: the call's
    :param credit: bytes that the caller takes; `more` adds to them
    """

    def __init__(
        self,
        clock: IReactorTime,
        link: SendsItems,
        id_: int,
        request: type[msgspec.Struct],
        vocabulary: Vocabulary,
        credit: int,
    ) -> None:
        self._clock = clock
        self._link = link
        self._id = id_
        self._of = _Items(request, vocabulary)
        self._credit = credit  # bytes; one frame may go over it, or big items could never be sent
        self._items: list[Any] = []  # those of the next frame, and their lines
        self._lines: list[bytes] = []
        self._bytes = 0  # of the lines
        self._turn_bytes = 0
        self._turn: IDelayedCall | None = None
        self._waiting: Deferred[None] | None = None
        self._count = 0
        self._wrong: Exception | None = None  # why nothing more is taken of the handler: the end of a turn has found it

    async def send(self, source: AsyncIterator[Any]) -> ItemsEnd:
        """Send all items, and return the reply that ends them. What there was before an error is sent before it."""
        try:
            async for item in source:
                self._add(item)
                while not self._has_room():
                    await self._room()
            await self._rest()
        except CancelledError:
            raise  # the caller doesn't wait for the rest
        except Exception:
            await self._rest()
            raise
        finally:
            if self._turn is not None:
                self._turn.cancel()
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
        return ItemsEnd(self._count)

    def stop(self) -> None:
        """Take nothing more of the handler, which may go on although it is cancelled: nobody waits for it."""
        self._wrong = CancelledError()

    def more(self, credit: int) -> None:
        """The caller has taken so many bytes."""
        self._credit += credit
        self._go_on()

    def _add(self, item: Any) -> None:
        if self._wrong is not None:
            raise self._wrong
        line = self._of.line(item)
        size, limit = len(line) + 1, self._link.send_limit - _AROUND_ITEMS
        if size >= limit:
            said = f"an item of the reply to {self._of.name} has {len(line)} bytes, over the limit of {limit}"
            raise BadReply(said, Code.TOO_LARGE, said)
        if self._bytes + size > min(FRAME_BYTES, limit) and self._bytes:
            self._flush()
        self._items.append(item)
        self._lines.append(line)
        self._bytes += size
        self._turn_bytes += size
        if self._turn is None:
            self._turn = self._clock.callLater(0, self._turn_ended)

    # -- waiting

    def _has_room(self) -> bool:
        return self._credit > self._bytes and self._turn_bytes < TURN_BYTES and not self._link.writing_is_paused

    async def _room(self) -> None:
        """Send what was collected, if there is credit, and wait for what is missing of credit, time and a free wire."""
        if self._wrong is not None:
            raise self._wrong
        if self._credit > 0:
            self._flush()
        if self._credit <= 0 or self._turn_bytes >= TURN_BYTES:
            self._waiting = Deferred()
            await self._waiting
        elif self._link.writing_is_paused:
            try:
                await self._link.drain()
            except NotConnected:
                raise CancelledError from None  # the link has ended, and nobody waits for the rest

    async def _rest(self) -> None:
        """Send all that was collected. `BadReply` if a turn has ended with an item that isn't what was declared."""
        while self._lines and self._credit <= 0:
            await self._room()
        self._flush()
        if self._wrong is not None:
            raise self._wrong

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _turn_ended(self) -> None:
        self._turn = None
        self._turn_bytes = 0
        if self._credit > 0:
            try:
                self._flush()
            except BadReply as error:
                self._wrong = error
        self._go_on()

    # -- sending

    def _flush(self) -> None:
        """
        Send what was collected.

        :raises BadReply: an item isn't of the type that was declared; those before it were sent
        """
        items, lines = self._items, self._lines
        if not lines:
            return
        self._items, self._lines, self._bytes = [], [], 0
        try:
            array = self._of.array(items, lines)
        except Exception:
            for item, line in zip(items, lines, strict=True):
                self._say(self._of.array_of_one(item, line), 1)
        else:
            self._say(array, len(items))

    def _say(self, array: bytes, count: int) -> None:
        self._credit -= len(array)
        self._count += count
        self._link.answer_items(self._id, array)


class _Items:
    """The items that answer a request, as JSON."""

    def __init__(self, request: type[msgspec.Struct], vocabulary: Vocabulary) -> None:
        self.name = tag_of(request)
        self._kind = vocabulary.items.answers[request]
        self._is_struct = is_struct(self._kind)
        self._decode = vocabulary.items.decoders[request].decode
        self._is_exact = request not in vocabulary.raw_replies

    def line(self, item: Any) -> bytes:
        """Return an item as JSON, not all of which is checked. `BadReply` if it can't be one."""
        try:
            if self._is_struct and not isinstance(item, self._kind):
                raise LocalProtocolError(f"it must be {self._kind.__qualname__}, not {type(item).__qualname__}")
            return encoder.encode(item)
        except Exception as error:
            raise self._bad(error, item) from error

    def array(self, items: list[Any], lines: list[bytes]) -> bytes:
        """Return an array, looked at as the caller will read it: so what would be wrong there is found here."""
        array = b"[" + b",".join(lines) + b"]"
        if self._decode(array) != items:
            check_finite(items)
        return array if self._is_exact else one_line(array)

    def array_of_one(self, item: Any, line: bytes) -> bytes:
        """Return the array of one item. `BadReply` if it isn't what was declared."""
        try:
            return self.array([item], [line])
        except Exception as error:
            raise self._bad(error, item) from error

    def _bad(self, error: Exception, item: Any) -> BadReply:
        return BadReply(
            f"an item of the reply to {self.name}: {unsendable(error, item)}",
            Code.INTERNAL,
            f"an item of the reply to {self.name} isn't what was declared; see the log there",
        )
