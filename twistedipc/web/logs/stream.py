"""
A log as one long response, which may last as long as the build. ``web.logs``; made by ``web.api.logs``.

The stream is the connection's push producer: it takes from its cursor only while the connection takes more. So a
reader that takes nothing costs a cursor and nothing else. It is cut off when nothing has left for it for
`Pace.stall`; a slow reader isn't. A response that is broken off, by the ledger or by a stop of the service,
ends without its last chunk: an HTTP client sees that it isn't whole, and asks again with ``after``.

While a followed log has nothing new, a sign of life is sent every `Pace.alive`. Proxies cut a response that is
silent for a minute (nginx's default), and a client can tell a quiet build from a dead connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.web.access.held import Ending, Holding
from twistedipc.web.http.channel import BoundedRequest, set_common_headers
from twistedipc.web.http.stall import STALL_SECONDS, StallWatch
from twistedipc.web.logs.forms import Entry, LogForm, message_part

#: How many bytes are taken from a cursor at a time.
TAKE_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The times of a followed log, in seconds."""

    #: Between two signs of life of a log that has nothing new. docs/protocol.md promises one every 15.
    alive: float = 10.0
    #: In which nothing may leave for a reader until it is cut off.
    stall: float = STALL_SECONDS
    #: That a reader has to take the last message when its token is over.
    goodbye: float = 0.5


class Entries(Protocol):
    """Some entries, in order."""

    def __iter__(self) -> Iterator[Entry]: ...

    def __len__(self) -> int: ...


class Source(Protocol):
    """What a stream takes its messages from; see `boundaries.Cursor`, which is one."""

    def take(self, limit: int) -> Entries | None:
        """
        Return the next entries, of about ``limit`` bytes. Nothing: there is nothing now. None: what comes next must be
        fetched first.
        """

    def fetch(self) -> Awaitable[None]:
        """Get what comes next."""

    def close(self) -> None:
        """Nothing more is wanted. Idempotent."""


def fetch(cursor: Source) -> Deferred[None]:
    """
    Return a Deferred of `Cursor.fetch` that can be cancelled while the fetch goes on: other viewers of the log may
    wait for it.
    """

    async def fetching() -> None:
        await cursor.fetch()

    waiting: Deferred[None] = Deferred()
    Deferred.fromCoroutine(fetching()).addBoth(waiting.callback)
    return waiting


class Stoppable(Protocol):
    """A stream that can be ended from outside."""

    def stop(self) -> None:
        """Break the stream off."""


class LogStreams:
    """The streams that go on now, so that they can be ended when the service stops."""

    def __init__(self) -> None:
        self._streams: set[Stoppable] = set()

    def add(self, stream: Stoppable) -> None:
        """Add a stream that has begun."""
        self._streams.add(stream)

    def discard(self, stream: Stoppable) -> None:
        """Forget a stream that has ended."""
        self._streams.discard(stream)

    def stop(self) -> None:
        """Break all streams off."""
        for stream in list(self._streams):
            stream.stop()

    def __len__(self) -> int:
        return len(self._streams)


@implementer(IPushProducer)
class LogStream:
    """
    One response with a log. ``open``: returns the cursor that it takes from, which calls the argument when there is
    something new. ``limit``: at most so many records; not ``follow``: only what there is now. ``file``: the name under
    which a browser is to keep it; None: it is to show it.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        streams: LogStreams,
        open: Callable[[Callable[[], object]], Source],
        form: LogForm,
        *,
        follow: bool,
        limit: int | None,
        pace: Pace,
        file: str | None = None,
    ) -> None:
        self._clock = clock
        self._streams = streams
        self._form = form
        self._follow = follow
        self._left = limit
        self._pace = pace
        self._file = file
        self._cursor = open(self._write_entries)
        self._ready: list[Entry] = []  # taken by `prepare`
        self._request: BoundedRequest | None = None
        self._paused = False
        self._fetching: Deferred[None] | None = None
        self._stall: StallWatch | None = None
        self._quiet: IDelayedCall | None = None  # until the next sign of life
        self._holding: Holding | None = None

    async def prepare(self) -> None:
        """Take the beginning of the log, while an error can still be told by a status. Raises `LedgerUnavailable`."""
        try:
            entries = self._cursor.take(TAKE_BYTES)
            if entries is None:
                await fetch(self._cursor)
        except BaseException:
            self._cursor.close()
            raise
        self._ready.extend(entries or ())

    def take_over(self, request: BoundedRequest, holding: Holding) -> None:
        """See `call.Takeover`."""
        self._request = request
        self._holding = holding
        self._stall = StallWatch(self._clock, request, self._cut_off, self._pace.stall)
        set_common_headers(request)
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"Content-Type", self._form.content_type.encode())
        if self._file is not None:
            request.setHeader(b"Content-Disposition", f'attachment; filename="{self._file}"'.encode())
        request.setHeader(b"X-Accel-Buffering", b"no")  # else nginx would hold lines back
        request.notifyFinish().addErrback(self._lost)
        self._streams.add(self)
        if request.method == b"HEAD":
            self._end()
            return
        request.registerProducer(self, True)
        request.write(b"")  # the head goes out now, however long the first line takes
        holding.on_end(self._token_over)
        if holding.ended is not None:
            return
        if self._follow:
            self._quiet = self._clock.callLater(self._pace.alive, self._say_alive)
        self._write_entries()

    # -- IPushProducer

    def pauseProducing(self) -> None:
        """Stop writing: the connection has enough for now."""
        self._paused = True
        if self._request is not None and self._stall is not None:
            self._stall.begin()

    def resumeProducing(self) -> None:
        """Write on: the connection takes more."""
        self._paused = False
        self._unstall()
        self._write_entries()

    def stopProducing(self) -> None:
        """Do nothing: `notifyFinish` reports the lost connection too."""
        self._paused = True

    def stop(self) -> None:
        """Break the response off in a way that the client notices."""
        request = self._request
        if request is not None:
            self._close()
            request.unregisterProducer()
            request.loseConnection()

    def _token_over(self, why: Ending) -> None:
        """Tell a reader that reads, and break the response off, so that it isn't taken for the whole log."""
        request = self._request
        if request is None:
            return
        if self._paused:
            self._cut_off()
            return
        if why.token_is_over:
            request.write(self._form.closed(why.value))
        self.stop()
        # A reader that doesn't take even these few bytes isn't waited for.
        aborting = self._clock.callLater(self._pace.goodbye, request.abort)
        request.notifyFinish().addBoth(lambda _: aborting.cancel() if aborting.active() else None)

    def _cut_off(self) -> None:
        # The reader takes nothing, so the connection would never close while something waits to be written.
        request = self._request
        if request is not None:
            self._close()
            request.unregisterProducer()
            request.abort()

    # -- from the cursor to the connection

    def _write_entries(self) -> None:
        while self._request is not None and not self._paused and self._fetching is None:
            entries: Entries | None = self._ready or self._cursor.take(TAKE_BYTES)
            self._ready = []
            if entries is None:
                self._fetch()
            elif entries:
                self._write(entries)
            elif self._follow:
                return  # the cursor calls this again
            else:
                self._end()

    def _write(self, entries: Iterable[Entry]) -> None:
        request = self._request
        assert request is not None
        written = []
        ended = False
        for entry in entries:
            message = entry.message
            if self._left is not None and not entry.final:
                if self._left <= 0:
                    ended = True
                    break
                message, after = message_part(entry, self._left)
                self._left -= after - entry.first
            written.append(self._form.render(message))
            ended = ended or entry.final
        request.write(b"".join(written))
        if self._quiet is not None:
            self._quiet.reset(self._pace.alive)
        if ended or (self._left is not None and self._left <= 0):
            self._end()

    def _say_alive(self) -> None:
        request = self._request
        assert request is not None
        self._quiet = self._clock.callLater(self._pace.alive, self._say_alive)
        if not self._paused:  # else the reader has something to read already
            request.write(self._form.alive())

    def _fetch(self) -> None:
        self._fetching = fetching = fetch(self._cursor)
        fetching.addCallbacks(self._fetched, self._failed)

    def _fetched(self, _: None) -> None:
        self._fetching = None
        self._write_entries()

    def _failed(self, failure: Failure) -> None:
        self._fetching = None
        if failure.check(LedgerUnavailable):
            self._log.warn("a log could not be read on: {error}", error=failure.value)
        else:
            self._log.failure("reading a log failed", failure)
        self.stop()

    def _end(self) -> None:
        request = self._request
        assert request is not None
        self._close()
        request.write(self._form.finish())
        request.unregisterProducer()
        request.finish()

    def _lost(self, _: Failure) -> None:
        self._close()

    def _close(self) -> None:
        self._request = None
        if self._holding is not None:
            self._holding.release()
        self._streams.discard(self)
        self._cursor.close()
        self._unstall()
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None

    def _unstall(self) -> None:
        if self._stall is not None:
            self._stall.end()
