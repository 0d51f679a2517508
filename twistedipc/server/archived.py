"""
Reads of stored logs, some of which are in S3: what is needed of them is fetched first, in threads of its own. Used by
all in ``server`` that reads logs.

The ledger's readers never wait for S3. They find out what they need that isn't here (`log_archive.NotFetched`), it is
fetched, once for all who wait for it, and they read again. What was fetched last is kept in memory, up to a bound.

When S3 doesn't answer, readers get `LedgerUnavailable`, as when the database doesn't: they are told to ask again, and
no log is called damaged. Then nothing is asked of it for a few seconds, so that not everybody waits for it in turn. If
it refuses one object, that is so for its readers alone. Why is in the service's log only: it names the bucket.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.sealed.chunk import Damaged
from twistedipc.server.boundaries import InThread
from twistedipc.storage.errors import LedgerUnavailable, PartUnavailable
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.log_archive import Archives, Check, Chunk, NotFetched, NotHere, Reads, Wanted

_T = TypeVar("_T")

#: Bytes of chunks that are kept: some 1,000 of them, of the text of 250 MiB.
KEPT_BYTES: Final = 32 << 20

#: How many chunks are fetched or wait for it at most. Beyond that readers are told to come again. One reader may want
#: more than that, and has so many fetched at once.
MOST: Final = 512
AT_ONCE: Final = 128

#: Seconds for which nothing is asked after S3 hasn't answered.
PAUSE: Final = 5.0

#: Seconds between two lines of the service's log about why S3 doesn't give something.
SAY_AFTER: Final = 60.0

#: What readers are told.
_DOWN: Final = "logs can't be read now: S3 doesn't answer, or not as it should; ask again soon"
_REFUSED: Final = "a part of this log can't be read now: S3 refuses it"

#: What was fetched: a chunk; why there is none; or that the archive is there.
_Found = bytes | Damaged | None


class Archived:
    """
    Reads logs from the ledger and from archives.

    :param objects: the archive in S3; None: there is none
    :param in_thread: where it is asked
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ledger: Ledger,
        *,
        files: Reads | None = None,
        objects: Reads | None = None,
        in_thread: InThread | None = None,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._files = files
        self._objects = objects
        self._in_thread = in_thread
        self._kept = _Kept(kept_bytes)
        self._archives = self._with({})
        self._flights: dict[Wanted, list[Deferred[_Found]]] = {}
        self._down = False  # S3 doesn't answer; read in threads too
        self._again = 0.0  # when it is asked again
        self._stopped = False  # read in threads too
        self._say_again = -math.inf  # when it may be said again why

    async def read(self, query: Callable[..., _T], *args: Any, **more: Any) -> _T:
        """
        Return what ``query(connection, *args, archives=…, **more)`` does, as `Ledger.read` does. Raises
        `LedgerUnavailable`, also if something of it is in S3 and can't be had now.
        """
        got: dict[Wanted, _Found] = {}
        archives = self._archives
        while True:
            try:
                return await self._ledger.read(query, *args, archives=archives, **more)
            except NotFetched as error:
                wanted = error.wanted
            new = [each for each in dict.fromkeys(wanted) if each not in got]
            for at in range(0, len(new), AT_ONCE):
                await self._fetch(new[at : at + AT_ONCE], got)
            archives = self._with(got)

    def stop(self) -> None:
        """
        Ask for nothing more: what waits for a thread fails, so that a stop waits only for what is being asked.
        """
        self._stopped = True

    def _with(self, got: dict[Wanted, _Found]) -> Archives:
        return Archives(self._files, None if self._objects is None else _Fetched(got, self._kept))

    async def _fetch(self, new: list[Wanted], got: dict[Wanted, _Found]) -> None:
        """Add what is wanted to ``got``."""
        if self._down and self._clock.seconds() >= self._again:
            self._down = False
        if self._down:
            raise LedgerUnavailable(_DOWN)
        if len(self._flights) + sum(each not in self._flights for each in new) > MOST:
            raise LedgerUnavailable("too much of logs is being fetched from S3; ask again soon")
        try:
            found = await gatherResults([self._flight(each) for each in new], consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        else:
            got.update(zip(new, found, strict=True))

    def _flight(self, wanted: Wanted) -> Deferred[_Found]:
        """Fetch something, or wait for it with those who asked before: each by itself, so that one may give up."""
        assert self._in_thread is not None, "there is no archive that is fetched from"
        waiting: Deferred[_Found] = Deferred()
        if wanted in self._flights:
            self._flights[wanted].append(waiting)
        else:
            self._flights[wanted] = [waiting]
            self._in_thread(self._ask, wanted).addBoth(self._landed, wanted)
        return waiting

    def _ask(self, wanted: Wanted) -> _Found:
        """Ask S3, in a thread. Raises OSError."""
        assert self._objects is not None
        if self._stopped or self._down:  # by what one of those before has found
            raise NotHere(_DOWN)
        if isinstance(wanted, Check):
            self._objects.check(wanted.mark)
            return None
        try:
            return self._objects.get(wanted.attempt, wanted.place, wanted.size)
        except Damaged as error:
            return error

    def _landed(self, result: _Found | Failure, wanted: Wanted) -> None:
        if isinstance(result, bytes):
            self._kept.add(wanted, result)
        outcome: Any = result
        if isinstance(result, Failure) and result.check(OSError):
            if not self._down and not self._stopped:
                self._say(wanted, result.value)
            if result.check(NotHere):
                if not self._down:
                    self._down, self._again = True, self._clock.seconds() + PAUSE
                outcome = Failure(LedgerUnavailable(_DOWN))
            else:
                outcome = Failure(PartUnavailable(_REFUSED))
        for waiting in self._flights.pop(wanted):
            waiting.callback(outcome)

    def _say(self, wanted: Wanted, error: BaseException | None) -> None:
        if self._clock.seconds() >= self._say_again:
            self._say_again = self._clock.seconds() + SAY_AFTER
            self._log.error("S3 doesn't give {wanted}: {error}", wanted=wanted, error=error)


class _Kept:
    """The chunks that were fetched or read last, up to so many bytes. For several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._chunks: OrderedDict[Wanted, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, wanted: Wanted) -> bytes | None:
        with self._lock:
            found = self._chunks.get(wanted)
            if found is not None:
                self._chunks.move_to_end(wanted)
            return found

    def add(self, wanted: Wanted, data: bytes) -> None:
        with self._lock:
            self._size += len(data) - len(self._chunks.get(wanted, b""))
            self._chunks[wanted] = data
            self._chunks.move_to_end(wanted)
            while self._size > self._most:
                self._size -= len(self._chunks.popitem(last=False)[1])


class _Fetched:
    """What was fetched for one read, and what is kept. Implements `log_archive.Reads`."""

    def __init__(self, got: dict[Wanted, _Found], kept: _Kept) -> None:
        self._got = got
        self._kept = kept

    def check(self, mark: str) -> None:
        if Check(mark) not in self._got:
            raise NotFetched(Check(mark))

    def get(self, attempt: str, place: int, size: int) -> bytes:
        wanted = Chunk(attempt, place, size)
        found = self._got.get(wanted)
        if isinstance(found, Damaged):
            raise Damaged(str(found))
        found = found or self._kept.get(wanted)
        if found is None:
            raise NotFetched(wanted)
        return found
