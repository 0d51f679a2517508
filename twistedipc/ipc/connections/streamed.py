"""
A streamed reply as it comes: `StreamedReply`, which `Peer.stream_call` and `Remote.stream_call` give. ``streaming`` is
the other end.

The link has the `Arriving`, and its user the `StreamedReply`. So the link notices when the user has let go of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twistedipc.ipc.wire.errors import CallFailed, CallTimedOut, Code
from twistedipc.ipc.wire.messages import ItemsEnd, tag_of

R = TypeVar("R")

#: Bytes of items that may have been sent, or have come, and weren't taken by the program.
CREDIT = 1 << 18


class AsksForItems(Protocol):
    """What a streamed reply needs of its link."""

    def call_for_items(self, request: msgspec.Struct, credit: int, arriving: Arriving) -> int: ...

    def more(self, id_: int, credit: int) -> None: ...

    def drop(self, id_: int) -> None: ...


class Arriving:
    """The items of one call that have come and weren't taken."""

    def __init__(self) -> None:
        self.end: Failure | None = None  # what has ended them, if it wasn't the last item
        self.is_over = False
        self._link: AsksForItems | None = None
        self._id = 0
        self._batches: deque[tuple[list[Any], int]] = deque()
        self._room = CREDIT
        self._count = 0
        self._owed = 0  # bytes that were taken, and that the peer wasn't told of
        self._waiting: Deferred[None] | None = None

    def ask(self, link: AsksForItems, request: msgspec.Struct) -> None:
        """Make the call on this link. Raises what `Peer.call` raises, and what it fails with."""
        self._id = link.call_for_items(request, CREDIT, self)
        self._link = link

    # -- for the link

    def came(self, items: list[Any], size: int) -> None:
        """Items have come. What is more than the peer may send is the end."""
        if self.is_over:
            return
        if self._room <= 0:
            self._fail(Failure(CallFailed(Code.BAD_REPLY, f"more than {CREDIT} bytes of items were sent unasked")))
            if self._link is not None:
                self._link.drop(self._id)
            return
        self._room -= size
        self._count += len(items)
        if items:
            self._batches.append((items, size))
        self._go_on()

    def ended(self, reply: ItemsEnd | None) -> None:
        """All items have come. ``reply`` is what the peer has said at the end, if that is known."""
        if reply is not None and reply.items != self._count:
            said = f"{reply.items} items were sent, and {self._count} have come"
            self._fail(Failure(CallFailed(Code.BAD_REPLY, said)))
        else:
            self._over()

    def failed(self, failure: Failure) -> None:
        """No more will come: the call has failed, or the link has ended."""
        self._fail(failure)

    # -- for the user

    def next(self) -> tuple[list[Any], int] | None:
        """Return the next items, and their bytes; or None if there are none just now."""
        return self._batches.popleft() if self._batches else None

    def took(self, size: int) -> None:
        """So many bytes of items were taken: the peer may send as many more."""
        self._room += size
        self._owed += size
        if self._owed >= CREDIT // 2 and self._link is not None and not self.is_over:
            owed, self._owed = self._owed, 0
            self._link.more(self._id, owed)

    def wait(self) -> Deferred[None]:
        """Return a Deferred that fires when there are items, or the end."""
        self._waiting = Deferred()
        return self._waiting

    def stop(self) -> None:
        """Take nothing more, and make the peer stop."""
        link, self._link = self._link, None
        self._batches.clear()
        if link is not None and not self.is_over:
            link.drop(self._id)
        self._over()

    def _fail(self, failure: Failure) -> None:
        if not self.is_over:
            self.end = failure
        self._over()

    def _over(self) -> None:
        self.is_over = True
        self._go_on()

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)


class StreamedReply(Generic[R]):
    """
    The items that answer a call, as they come: ``async for row in remote.stream_call(Query(…))``. The call is made when
    the first item is asked for.

    What the program doesn't take is bounded: the other side's handler waits. Leaving the loop cancels the handler, once
    Python has freed this object: at once, unless the program keeps it in a variable. To be sure, say
    ``async with remote.stream_call(Query(…)) as rows``.

    After the items that came before, the iteration raises `CallFailed` (the handler raised, or an item isn't what was
    declared), `TooManyCalls`, `CallTimedOut` (no item, or no link, in time), `NotConnected` (the link has ended; or
    there is none, and calls don't wait for one), or `LinkRefused`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        link: Callable[[float | None], Deferred[AsksForItems]],
        request: msgspec.Struct,
        timeout: float | None,
    ) -> None:
        self._clock = clock
        self._find_link: Callable[[float | None], Deferred[AsksForItems]] | None = link
        self._request = request
        self._timeout = timeout
        self._arriving = Arriving()
        self._batch: Iterator[R] = iter(())
        self._size = 0  # of the batch, in bytes
        self._is_asked = False  # for the next item, which has not come

    def __aiter__(self) -> StreamedReply[R]:
        return self

    async def __anext__(self) -> R:
        for item in self._batch:
            return item
        return await self._next_batch()

    def come(self) -> Iterator[R]:
        """Return the items that are here and were taken from the link: what asks for more is ``__anext__``."""
        return self._batch

    async def _next_batch(self) -> R:
        if self._is_asked:
            raise RuntimeError("the items are taken by one after the other: another task waits for the next one")
        self._is_asked = True
        arriving = self._arriving
        try:
            if self._find_link is not None:
                find, self._find_link = self._find_link, None
                arriving.ask(await find(self._timeout), self._request)
            if self._size:
                size, self._size = self._size, 0
                arriving.took(size)
            while (batch := arriving.next()) is None:
                if arriving.is_over:
                    raise self._the_end()
                await self._wait()
        except BaseException:
            arriving.stop()
            raise
        finally:
            self._is_asked = False
        items, self._size = batch
        self._batch = iter(items)
        return next(self._batch)

    def _the_end(self) -> BaseException:
        failure, self._arriving.end = self._arriving.end, None
        return StopAsyncIteration() if failure is None else cast(BaseException, failure.value)

    async def _wait(self) -> None:
        """Wait for items; `CallTimedOut` if none come in time."""
        waiting = self._arriving.wait()
        if self._timeout is None:
            await waiting
            return
        said = f"no item of {tag_of(type(self._request))} within {self._timeout:g} seconds"

        def late() -> None:
            if not waiting.called:  # in a task, this may come between the items and the task's next step
                waiting.errback(CallTimedOut(said))

        timer = self._clock.callLater(self._timeout, late)
        try:
            await waiting
        finally:
            if timer.active():
                timer.cancel()

    async def aclose(self) -> None:
        """Take no more items: the other side's handler is cancelled. Idempotent."""
        self._find_link = None
        self._batch = iter(())
        self._arriving.end = None
        self._arriving.stop()

    async def __aenter__(self) -> StreamedReply[R]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._arriving.is_over or self._find_link is not None:
            return
        # In a turn of the reactor's own: this may be called in the middle of anything, and by any thread that collects
        # garbage. A clock, in a test, has one thread.
        later = getattr(self._clock, "callFromThread", None) or partial(self._clock.callLater, 0)
        with suppress(RuntimeError):  # the loop is closed, and so is the link
            later(self._arriving.stop)
