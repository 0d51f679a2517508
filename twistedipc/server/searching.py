"""
Searches in logs: some at a time, each for a bounded time, and people take turns. ``server``; called by ``web``.

The reader's threads of the ledger only fetch chunks, by short queries. What is done with them is done in threads of the
searches' own, a step at a time: some chunks, of which the first steps are small, so that the first hits come soon. A
step is given up between two of its blocks when the search is closed or out of time.

What came after the search had begun isn't searched. A log that is sealed meanwhile goes on under the same numbers; of
one that is removed meanwhile, the rest is missing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from twistedipc.finding.blocks import Line, near
from twistedipc.finding.messages import LogHit, SearchedLog, SearchEnd
from twistedipc.finding.query import Needle
from twistedipc.finding.scanning import Hit, Scanned, Wanted, scan
from twistedipc.finding.texts import blocks_of
from twistedipc.server.archived import Archived
from twistedipc.server.boundaries import Asked, InThread, LogRange, ProjectRange, TooManySearches
from twistedipc.server.turns import Turns
from twistedipc.storage import log_parts
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.log_parts import AttemptLog, LogPart, LogParts, Needs

#: How many searches run at once, and how many may wait for their turn, of all and of one person (or of one program's
#: token); beyond that they are refused.
MAX_RUNNING: Final = 2
MAX_WAITING: Final = 20
MAX_WAITING_EACH: Final = 4

#: Seconds that a search waits for its turn, and that it takes then.
WAIT_SECONDS: Final = 20.0
SEARCH_SECONDS: Final = 30.0

#: Bytes of stored chunks that the first step of a search takes, and the largest; each takes twice as much as the one
#: before. And how many steps of one search are in the threads at once.
FIRST_STEP: Final = 64 * 1024
LARGEST_STEP: Final = 1024 * 1024
STEPS: Final = 2

#: How many attempts of a project are looked up at a time.
_ATTEMPTS: Final = 50

_STOPPING: Final = "the service is stopping; ask again"


class Searching:
    """
    Begins searches. Implements `boundaries.Searches`. ``damaged`` is called with an attempt and the first record of a
    chunk that can't be read.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ledger: Ledger,
        archived: Archived,
        in_thread: InThread,
        damaged: Callable[[str, int], object],
    ) -> None:
        self._clock = clock
        self.ledger = ledger
        self._archived = archived
        self.in_thread = in_thread
        self._damaged = damaged
        self._turns = Turns(MAX_RUNNING)
        self._running: set[SearchTurn] = set()
        self._stopped = False

    def stop(self) -> None:
        """End all searches, with what they have by now, and begin no more."""
        self._stopped = True
        self._turns.cancel_waiting()
        for turn in list(self._running):
            turn.end()

    async def log(self, asked: Asked, within: LogRange) -> Search:
        """See `boundaries.Searches`."""
        return await self._begin(asked, _OneLog(within, asked.most))

    async def logs(self, asked: Asked, within: ProjectRange) -> Search:
        """See `boundaries.Searches`."""
        return await self._begin(asked, _ProjectLogs(self.ledger, within))

    @property
    def waiting(self) -> int:
        """How many searches wait for their turn."""
        return self._turns.waiting

    async def _begin(self, asked: Asked, logs: _Logs) -> Search:
        turn = await self.turn(asked.who)
        try:
            # Not in the reactor: a large expression takes RE2 a tenth of a second, and the first one loads it.
            needle = await self.in_thread(Needle, asked.query)
        except BaseException:
            turn.end()
            raise
        wanted = Wanted(needle=needle, newest=asked.newest, most=asked.most, context=asked.context, room=asked.room)
        return Search(self, wanted, logs, asked.count, turn)

    async def turn(self, who: str) -> SearchTurn:
        """Wait for a turn, which is to be ended. Raises `TooManySearches`."""
        if self._stopped:
            raise TooManySearches(_STOPPING)
        if self._turns.waiting_of(who) >= MAX_WAITING_EACH:
            raise TooManySearches(f"{MAX_WAITING_EACH} of your searches wait already; ask again when one has ended")
        if self.waiting >= MAX_WAITING:
            raise TooManySearches(f"{MAX_RUNNING} searches run and {MAX_WAITING} wait already; ask again soon")
        try:
            await self._turns.acquire(who).addTimeout(WAIT_SECONDS, self._clock)
        except TimeoutError:
            raise TooManySearches("other searches took too long; ask again soon") from None
        except CancelledError:
            if self._stopped:
                raise TooManySearches(_STOPPING) from None
            raise
        turn = SearchTurn(self._clock, who, self._ended)
        self._running.add(turn)
        return turn

    def _ended(self, turn: SearchTurn) -> None:
        self._running.discard(turn)
        self._turns.release(turn.who)

    # -- for what has a turn

    def scan(
        self, attempt: str, wanted: Wanted, found: LogParts, first: int, last: int, stop: threading.Event
    ) -> Deferred[Scanned]:
        """Search these parts of an attempt's log, in a thread."""
        damaged = [*found.damaged]

        def scanned(result: Scanned) -> Scanned:
            for record in damaged:
                self._damaged(attempt, record)
            return result

        return self.in_thread(_scan, wanted, found.parts, first, last, stop, damaged).addCallback(scanned)

    async def parts(
        self, attempt: str, first: int, last: int, size: int, *, newest: bool, needs: Needs = ()
    ) -> LogParts:
        """See `log_parts.some_parts`."""
        return await self._archived.read(log_parts.some_parts, attempt, first, last, size, newest=newest, needs=needs)

    async def near(self, attempt: str, first: int, last: int) -> list[Line]:
        """Return what there is of these records."""
        if first > last:
            return []
        found = await self.parts(attempt, first, last, FIRST_STEP, newest=False)
        lines: list[Line] = await self.in_thread(_near, found.parts, first, last)
        return lines


def _scan(
    wanted: Wanted, parts: list[LogPart], first: int, last: int, stop: threading.Event, damaged: list[int]
) -> Scanned:
    return scan(wanted, blocks_of(parts, newest=wanted.newest, damaged=damaged.append), first, last, stop.is_set)


def _near(parts: list[LogPart], first: int, last: int) -> list[Line]:
    return [line for block in blocks_of(parts, newest=False) for line in near(block, first, last)]


class SearchTurn:
    """
    The turn of one search, from its begin to `end`, or until its time is over: then it makes room for another one, even
    if its reader takes nothing.
    """

    def __init__(self, clock: IReactorTime, who: str, ended: Callable[[SearchTurn], None]) -> None:
        self.who = who
        self._ended: Callable[[SearchTurn], None] | None = ended
        self.stop = threading.Event()  # what runs in threads is to stop
        self._timer = clock.callLater(SEARCH_SECONDS, self.end)

    def is_over(self) -> bool:
        return self.stop.is_set()

    def end(self) -> None:
        """Let another search begin. Idempotent."""
        ended, self._ended = self._ended, None
        if ended is not None:
            self.stop.set()
            if self._timer.active():
                self._timer.cancel()
            ended(self)


class _Step(msgspec.Struct, frozen=True):
    """Some records that are being searched in a thread: all those that are stored from ``first`` to ``last``."""

    first: int
    last: int
    skipped: list[tuple[int, int]]  # in which nothing can match
    scanning: Deferred[Scanned]


class _Sums(msgspec.Struct):
    """How many records match, were searched, and couldn't be searched."""

    matches: int = 0
    searched: int = 0
    missing: int = 0

    def add(self, other: _Sums) -> None:
        self.matches += other.matches
        self.searched += other.searched
        self.missing += other.missing


class _Course:
    """The search of one log, from one end of a range to the other."""

    def __init__(self, searching: Searching, turn: SearchTurn, wanted: Wanted, within: LogRange, count: bool) -> None:
        self._searching = searching
        self._turn = turn
        self._wanted = wanted
        self.within = within
        self._first, self._last = within.first, within.last  # what isn't in a step yet
        self._count = count  # also what isn't given
        self._size = FIRST_STEP
        self._steps: deque[_Step] = deque()
        self.sums = _Sums()
        self._reached = within.last + 1 if wanted.newest else within.first - 1
        self._shown = 0  # the record of the last hit that was given; 0: none
        self._withheld = False  # there are more hits than were given
        self.given = 0  # how many were
        self.complete = False

    @property
    def next(self) -> int | None:
        """The record behind which there may be more hits."""
        if self._withheld and self._shown:
            return self._shown
        return None if self.complete else self._reached

    @property
    def room(self) -> int:
        """How many characters of hits could still be given."""
        return self._wanted.room

    @property
    def outcome(self) -> SearchedLog:
        return SearchedLog(
            build=self.within.build,
            attempt=self.within.attempt,
            matches=self.sums.matches,
            searched=self.sums.searched,
            missing=self.sums.missing,
            complete=self.complete,
            removed=self.within.removed,
        )

    async def more(self) -> list[LogHit] | None:
        """Return the hits of the next step; None: that was all."""
        if self._wanted.most == 0 and not self._count:
            return None
        await self._read_ahead()
        if not self._steps:
            self.complete = not self._turn.is_over()
            return None
        step = self._steps.popleft()
        scanned = await step.scanning
        if self._turn.is_over() and not scanned.reached:
            return None
        return [await self._hit(hit) for hit in self._take(step, scanned)]

    def close(self) -> None:
        """Forget what is under way."""
        self._first, self._last = 1, 0
        while self._steps:
            self._steps.popleft().scanning.addErrback(lambda _: None)

    async def _read_ahead(self) -> None:
        while len(self._steps) < STEPS and self._first <= self._last and not self._turn.is_over():
            first, last, newest = self._first, self._last, self._wanted.newest
            found = await self._searching.parts(
                self.within.name, first, last, self._size, newest=newest, needs=self._wanted.needle.grams
            )
            if self._turn.is_over():
                return
            self._size = min(2 * self._size, LARGEST_STEP)
            self._first, self._last = found.first, found.last
            begin, end = _between(found, first, last, newest)
            scanning = self._searching.scan(self.within.name, self._wanted, found, begin, end, self._turn.stop)
            self._steps.append(_Step(begin, end, found.skipped, scanning))

    def _take(self, step: _Step, scanned: Scanned) -> list[Hit]:
        """Add up what a step has found, and return the hits that are to be given."""
        first, last = step.first, step.last
        if self._turn.is_over():  # it may have been stopped in its middle: then it is the last one
            first, last = (scanned.reached, last) if self._wanted.newest else (first, scanned.reached)
            self.close()
        searched = scanned.searched + sum(max(0, min(last, to) - max(first, at) + 1) for at, to in step.skipped)
        missing = last - first + 1 - searched
        self.sums.add(_Sums(matches=scanned.matches, searched=searched, missing=missing))
        self._reached = first if self._wanted.newest else last
        given = scanned.hits[: self._wanted.most]
        left = self._wanted.most - len(given)
        room = self._wanted.room - sum(hit.size for hit in given)
        if given:
            self._shown = given[-1].found.record
            self.given += len(given)
        if len(given) < scanned.matches:
            self._withheld, left = True, 0
        self._wanted = msgspec.structs.replace(self._wanted, most=left if room > 0 else 0, room=room)
        return given

    async def _hit(self, hit: Hit) -> LogHit:
        """Return a hit with all that is near it, also in other blocks than its own, as long as it is our turn."""
        found = hit.found
        context = 0 if self._turn.is_over() else self._wanted.context
        before, after = hit.before, hit.after
        if context and len(before) < context:
            first = before[0].record if before else found.record
            before = [*await self._searching.near(self.within.name, max(1, found.record - context), first - 1), *before]
        if context and len(after) < context:
            last = after[-1].record if after else found.record
            after = [*after, *await self._searching.near(self.within.name, last + 1, found.record + context)]
        return LogHit(
            build=self.within.build,
            attempt=self.within.attempt,
            record=found.record,
            parts=found.parts,
            skipped=found.skipped,
            cut=found.cut,
            before=before,
            after=after,
        )


def _between(found: LogParts, first: int, last: int, newest: bool) -> tuple[int, int]:
    """Return the records of a range that are in what was found, or are nowhere."""
    if found.first > found.last:
        return first, last
    return (found.last + 1, last) if newest else (first, found.first - 1)


class _Logs(Protocol):
    """The logs of one search, in its order."""

    #: How many hits of one log are given at most.
    each: int

    async def take(self) -> LogRange | None:
        """Return the next log; None: there is none, or there have been enough."""

    @property
    def exhausted(self) -> bool:
        """Whether there is none any more, after `take` returned None."""

    def next(self, course: _Course, more: bool) -> int | str | None:
        """
        Return where another search goes on, behind the last log of this one whose hits were given. ``more``: logs after
        that weren't searched, or match.
        """


class _OneLog:
    """See `_Logs`."""

    exhausted = True

    def __init__(self, within: LogRange, each: int) -> None:
        self.each = each
        self._within: LogRange | None = within

    async def take(self) -> LogRange | None:
        within, self._within = self._within, None
        return within

    def next(self, course: _Course, more: bool) -> int | str | None:
        return course.next


class _ProjectLogs:
    """See `_Logs`."""

    def __init__(self, ledger: Ledger, within: ProjectRange) -> None:
        self.each = within.each
        self.ledger = ledger
        self._within = within
        self._left = within.logs
        self._found: deque[AttemptLog] = deque()
        self._all = False  # they are all that there is

    async def take(self) -> LogRange | None:
        if not self._found and not self._all:
            await self._look()
        if not self._found or self._left == 0:
            return None
        self._left -= 1
        found = self._found.popleft()
        return LogRange(build=found.build, attempt=found.number, first=1, last=found.records)

    @property
    def exhausted(self) -> bool:
        return self._all and not self._found

    def next(self, course: _Course, more: bool) -> int | str | None:
        return course.within.name if more else None

    async def _look(self) -> None:
        within = self._within
        found = await self.ledger.read(
            log_parts.attempts_of,
            within.project,
            before=within.before,
            after=within.after,
            newest=within.newest,
            limit=_ATTEMPTS,
        )
        self._all = len(found) < _ATTEMPTS
        self._found.extend(found)
        if found:
            last = (found[-1].build, found[-1].number)
            changed = {"before": last} if within.newest else {"after": last}
            self._within = msgspec.structs.replace(within, **changed)


class Search:
    """One search. See `boundaries.Search`."""

    def __init__(self, searching: Searching, wanted: Wanted, logs: _Logs, count: bool, turn: SearchTurn) -> None:
        self._searching = searching
        self._wanted = wanted  # of the logs that are left
        self._logs = logs
        self._count = count
        self._turn = turn
        self._course: _Course | None = None  # of the log that is searched now
        self._last: _Course | None = None  # the last one whose hits could be given
        self._withheld = False  # others match, too
        self._exact = True
        self._sums = _Sums()
        self.end: SearchEnd | None = None

    async def more(self) -> list[LogHit | SearchedLog]:
        """See `boundaries.Search`."""
        course = self._course
        if course is None:
            enough = self._wanted.most == 0 and not self._count
            within = None if enough or self._turn.is_over() else await self._logs.take()
            if within is None:
                self._finish()
                return []
            wanted = msgspec.structs.replace(self._wanted, most=min(self._wanted.most, self._logs.each))
            course = self._course = _Course(self._searching, self._turn, wanted, within, self._count)
        hits = await course.more()
        if hits is None:
            self._course = None
            self._ended(course)
            return [course.outcome]
        return [*hits]

    def close(self) -> None:
        """See `boundaries.Search`."""
        if self._course is not None:
            self._course.close()
        self._turn.end()

    def _ended(self, course: _Course) -> None:
        course.close()
        self._sums.add(course.sums)
        self._exact = self._exact and course.complete
        if self._wanted.most > 0 or self._last is None:
            self._last = course
        else:
            self._withheld = self._withheld or course.sums.matches > 0
        left = self._wanted.most - course.given if course.room > 0 else 0
        self._wanted = msgspec.structs.replace(self._wanted, most=left, room=course.room)

    def _finish(self) -> None:
        whole = self._logs.exhausted and not self._turn.is_over()
        following = None if self._last is None else self._logs.next(self._last, self._withheld or not whole)
        self.end = SearchEnd(
            matches=self._sums.matches,
            searched=self._sums.searched,
            missing=self._sums.missing,
            complete=whole and self._exact,
            next=following,
        )
        self.close()
