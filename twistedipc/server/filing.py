"""
What is sealed of logs goes where it belongs: into archives, from one to another, and out of them when nothing names it.
Used by ``sealing``, round by round, at its pace.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.sealed import chunk
from twistedipc.sealed.chunk import Damaged
from twistedipc.server.archived import Archived
from twistedipc.server.boundaries import InThread
from twistedipc.storage import sealed_logs
from twistedipc.storage.errors import PartUnavailable
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.log_archive import Archive, Kind
from twistedipc.storage.sealed_logs import Elsewhere

#: The longest pause between two parts, in seconds.
MAX_PAUSE = 30.0

#: Seconds for which such a file is kept after something was put into it.
COLLECT_AFTER = 24 * 60 * 60.0

#: How many attempts of the archive are looked up in the ledger at once.
_TOGETHER = 50

#: A build, a number and a record that are before those of all chunks.
_BEFORE_ALL: Final = (0, 0, 0)


@dataclass(frozen=True)
class InThreads:
    """An archive, and the threads in which it is asked."""

    archive: Archive
    in_thread: InThread


class Pace:
    """
    How fast logs are sealed, moved and removed: with a pause after each part.

    :param share: of the time, above 0 and up to 1
    """

    def __init__(self, clock: IReactorTime, share: float) -> None:
        self.clock = clock
        self._share = share
        self._pause: tuple[IDelayedCall, Deferred[None]] | None = None
        self.running = False

    def stop(self) -> None:
        """End a pause, if there is one."""
        self.running = False
        if self._pause is not None:
            call, paused = self._pause
            call.cancel()
            paused.callback(None)

    @property
    def stopped(self) -> bool:
        """Whether all is to end after what is being done now."""
        return not self.running

    async def rest(self, spent: float) -> None:
        """Leave the time to others that sealing may not take."""
        pause = min(MAX_PAUSE, spent * (1 / self._share - 1))
        if not self.running or pause <= 0:
            return
        paused: Deferred[None] = Deferred()
        self._pause = self.clock.callLater(pause, paused.callback, None), paused
        try:
            await paused
        finally:
            self._pause = None


class Filing:
    """
    Puts chunks into archives, and removes what nothing names there.

    :param kind: into which archive new chunks go; None: into the database
    """

    _log = Logger()

    def __init__(
        self,
        ledger: Ledger,
        archives: Mapping[Kind, InThreads],
        kind: Kind | None,
        pace: Pace,
        now: Callable[[], int],
        kept_since: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._archives = archives
        self.kind = kind
        self._pace = pace
        self._now = now
        self._kept_since = kept_since

    async def put(self, attempt: str, chunks: Sequence[bytes]) -> list[int] | list[None]:
        """
        Put chunks of an attempt where they belong, and return their places; None: that is the database. Raises OSError.
        """
        kind = self.kind
        if kind is None:
            return [None] * len(chunks)
        asked = self._archives[kind]
        known = await self._ledger.read(sealed_logs.archive_mark, kind)
        if known is None:
            id = await self._ledger.write(sealed_logs.archive_id, os.urandom(16).hex(), kind)
            mark = await asked.in_thread(asked.archive.begin, id)
            await self._ledger.write(sealed_logs.keep_archive_mark, mark, kind)
        else:
            await asked.in_thread(asked.archive.check, known)
        places: list[int] = []
        end = await self._ledger.read(sealed_logs.next_place, attempt)
        for data in chunks:
            places.append(await asked.in_thread(asked.archive.put, attempt, end, data))
            end += len(data)
        crash_point(CrashPoint.APISERVER_CHUNK_FILED)
        return places

    async def collect(self) -> None:
        """
        Remove from archives what the ledger doesn't name: what a kill has left, what was moved, or whose log was
        removed. Raises OSError.
        """
        for kind, asked in self._archives.items():
            await self._collect(kind, asked)

    async def _collect(self, kind: Kind, asked: InThreads) -> None:
        archive, in_thread = asked.archive, asked.in_thread
        known = await self._ledger.read(sealed_logs.archive_mark, kind)
        if known is None:
            return
        await in_thread(archive.check, known)
        for part in await in_thread(archive.parts):
            before = min(self._now() / 1000 - COLLECT_AFTER, self._kept_since())
            names = await in_thread(archive.attempts, part, before)
            for at in range(0, len(names), _TOGETHER):
                if self._pace.stopped:
                    return
                await self._collect_some(kind, asked, names[at : at + _TOGETHER], before)

    async def _collect_some(self, kind: Kind, asked: InThreads, names: list[str], before: float) -> None:
        began = self._pace.clock.seconds()
        named = await self._ledger.read(sealed_logs.filed, tuple(names), kind)
        for name in names:
            # Meanwhile another apiserver may have put something there, and named it.
            if name not in named and not await self._ledger.write(sealed_logs.is_filed, name, kind):
                await asked.in_thread(asked.archive.remove, name, before)
                self._log.info("removed what was in the archive of {attempt}'s log: nothing names it", attempt=name)
        await self._pace.rest(self._pace.clock.seconds() - began)


class Moving:
    """Moves what was sealed before to where new chunks go, chunk by chunk, once through all of them."""

    _log = Logger()

    def __init__(self, ledger: Ledger, archived: Archived, in_thread: InThread, filing: Filing, pace: Pace) -> None:
        self._ledger = ledger
        self._archived = archived
        self._in_thread = in_thread
        self._filing = filing
        self._pace = pace
        self._after: tuple[int, int, int] | None = _BEFORE_ALL  # up to there all is where it is to be; None: all is
        self._moved = 0
        self._skipped = 0

    def look_again(self) -> None:
        """Begin again, if all was looked at: there may be chunks that other apiservers have sealed."""
        self._after = self._after or _BEFORE_ALL

    async def move(self) -> None:
        """Move chunks, from where the last look ended. Raises OSError."""
        while self._pace.running and self._after is not None:
            began = self._pace.clock.seconds()
            looked = await self._ledger.read(sealed_logs.elsewhere, self._after, self._filing.kind)
            await self._pace.rest(self._pace.clock.seconds() - began)
            for each in looked.found:
                if self._pace.stopped:
                    return
                began = self._pace.clock.seconds()
                await self._move_one(each)
                await self._pace.rest(self._pace.clock.seconds() - began)
            self._after = looked.after
        moved, self._moved = self._moved, 0
        skipped, self._skipped = self._skipped, 0
        if skipped:
            text = "{count} sealed parts of logs can't be read now, and stay where they are: they are tried again"
            self._log.error(text, count=skipped)
        if moved:
            self._log.info("moved {count} sealed parts of logs to where new ones go", count=moved)

    async def _move_one(self, each: Elsewhere) -> None:
        """
        Move a chunk. One that can't be read now is left for later, and one that can't be any more stays: its readers
        find that out. Raises OSError.
        """
        try:
            data = await self._archived.read(sealed_logs.sealed_chunk, each)
            if data is None:
                return
            await self._in_thread(chunk.text, data)
        except PartUnavailable:
            self._skipped += 1
            return
        except Damaged as error:
            self._log.error("a part of the log of {attempt} stays: {error}", attempt=each.attempt, error=error)
            return
        (place,) = await self._filing.put(each.attempt, [data])
        self._moved += await self._ledger.write(sealed_logs.move, each, place, data)
        crash_point(CrashPoint.APISERVER_CHUNK_REPLACED)
