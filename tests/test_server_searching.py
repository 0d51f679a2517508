"""Searches in logs as the server does them: against the records, one by one; turns, time, and what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.instant import InstantLedger
from twistedipc.builds.logs import Annotation, Gap, Lines, Notice, Record, StepStarted, encoder
from twistedipc.finding.messages import LogHit, SearchedLog, SearchEnd
from twistedipc.finding.query import BadQuery, Query
from twistedipc.sealed import chunk
from twistedipc.sealed.chunk import Damaged
from twistedipc.sealed.making import make
from twistedipc.server import searching
from twistedipc.server.archived import Archived
from twistedipc.server.boundaries import Asked, LogRange, ProjectRange, Search, TooManySearches
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.searching import (
    MAX_RUNNING,
    MAX_WAITING,
    MAX_WAITING_EACH,
    SEARCH_SECONDS,
    WAIT_SECONDS,
    Searching,
)
from twistedipc.storage import logs, projects, sealed_logs
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.sealed_logs import Placed
from twistedipc.storage.tables import attempts, log_chunks, sealed_chunks
from twistedipc.terminal import escapes


class MemoryArchive:
    """See `log_archive.Archive`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def begin(self) -> str:
        return "here"

    def check(self, mark: str) -> None:
        assert mark == "here"

    def put(self, attempt: str, end: int, data: bytes) -> int:
        self.files[attempt] = self.files.get(attempt, b"")[:end] + data
        return end

    def get(self, attempt: str, place: int, size: int) -> bytes:
        if attempt not in self.files:
            raise Damaged("its file is gone")
        return self.files[attempt][place : place + size]

    def remove(self, attempt: str) -> None:
        del self.files[attempt]

    def parts(self) -> list[str]:
        return ["all"]

    def attempts(self, part: str, before: float = 0.0) -> list[str]:
        return list(self.files)


class World:
    """Searches over an instant ledger; what runs in threads is done at once, or when a test says so."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = InstantLedger()
        self.held: list[Callable[[], None]] | None = None  # a list: work for threads waits in it
        self.archive = MemoryArchive()
        self.archived = Archived(self.clock, self.ledger.as_ledger(), files=self.archive)
        self.store = LogStore(self.clock, self.ledger.as_ledger(), archived=self.archived)
        self.searching = Searching(
            self.clock, self.ledger.as_ledger(), self.archived, self._in_thread, self.store.look_at
        )
        self.plain_from: dict[str, int] = {}  # the first record that isn't sealed
        self.texts: dict[str, list[str | None]] = {}  # what is searched of each record; None: it is in a gap

    def _in_thread(self, function: Callable[..., Any], /, *args: object) -> Deferred[Any]:
        if self.held is None:
            return succeed(function(*args))
        done: Deferred[Any] = Deferred()
        self.held.append(lambda: done.callback(function(*args)))
        return done

    def log(self, batches: list[list[Record] | int], cuts: int = 3, project: str = "hello") -> str:
        """A new attempt with this log, of which so many batches are stored at a time. A number is a gap of so many."""
        attempt = self.ledger.queue(project)
        self.texts[attempt] = []
        self.add(attempt, batches, cuts)
        return attempt

    def add(self, attempt: str, batches: list[list[Record] | int], cuts: int = 3) -> None:
        """The log goes on."""
        texts = self.texts[attempt]
        messages: list[bytes] = []
        begin = first = len(texts) + 1
        for index, batch in enumerate(batches):
            if isinstance(batch, int):
                messages.append(encoder.encode(Gap(first, first + batch - 1, "the disk was damaged")))
                texts += [None] * batch
            else:
                messages.append(encoder.encode(Lines(first, 1, 0, list(batch))))
                texts += map(searched_text, batch)
            first = len(texts) + 1
            if index % cuts == cuts - 1 or index == len(batches) - 1:
                data = b"".join(message + b"\n" for message in messages)
                item = logs.ChunkItem(attempt=attempt, first=begin, count=first - begin, data=data)
                self.ledger.now(logs.append, [item])
                begin, messages = first, []

    def seal(self, attempt: str, chunks: int, *, to_file: bool = False) -> None:
        """So many chunks, or what there is, are sealed, each by itself."""
        for _ in range(chunks):
            rows = self.ledger.now(logs.read_plain, attempt, self.plain_from.get(attempt, 1), 1)
            if not rows:
                return
            self.plain_from[attempt] = rows[0].first + rows[0].count
            made, marks = make(rows[0].data.splitlines())
            placed = []
            place = self.ledger.now(sealed_logs.next_place, attempt)
            for each in made:
                placed.append(Placed(each, place if to_file else None))
                if to_file:
                    self.archive.put(attempt, place, each.chunk.data)
                    place += len(each.chunk.data)
            plain = [(rows[0].first, rows[0].count)]
            assert self.ledger.now(sealed_logs.replace, attempt, plain, placed, marks)

    def search(self, attempt: str, text: str, *, count: bool = True, **options: Any) -> Result:
        """A whole search of one log."""
        return self.result(self.begin(attempt, text, count=count, **options))

    def begin(self, attempt: str, text: str, *, count: bool = True, **options: Any) -> Search:
        """A search of one log."""
        search: Search = now(self.searching.log(asked(text, options, count=count), self.within(attempt, options)))
        return search

    def within(self, attempt: str, options: dict[str, Any]) -> LogRange:
        build, number = map(int, attempt.split("-"))
        last = len(self.texts[attempt])
        return LogRange(build=build, attempt=number, first=options.get("first", 1), last=options.get("last", last))

    def result(self, search: Search) -> Result:
        """All that it finds."""
        found: list[LogHit | SearchedLog] = []
        while search.end is None:
            found += now(search.more())
        hits = [each for each in found if isinstance(each, LogHit)]
        return Result(hits, [each for each in found if isinstance(each, SearchedLog)], search.end)


class Result(msgspec.Struct):
    """What a search has found."""

    hits: list[LogHit]
    logs: list[SearchedLog]
    end: SearchEnd

    @property
    def records(self) -> list[int]:
        return [hit.record for hit in self.hits]


def searched_text(record: Record) -> str:
    """What of a record is searched."""
    match record:
        case StepStarted():
            return f"{record.name} {record.command}"
        case Annotation():
            return f"{record.message} {record.file}:{record.line}"
        case Notice():
            return record.message
        case str():
            return escapes.plain(record).replace("\n", " ")
        case _:
            return ""


def asked(text: str, options: dict[str, Any], *, count: bool = True, who: str = "ada") -> Asked:
    names = ("newest", "most", "context", "room")
    query = Query(text=text, kind=options.get("kind", "text"), case=options.get("case", False))
    return Asked(who=who, query=query, count=count, **{name: options[name] for name in names if name in options})


def now(work: Any) -> Any:
    """What has been done at once."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    assert results, "it waits"
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


LINE = st.text("ab é🚀", max_size=5) | st.sampled_from(
    ["\x1b[31ma\x1b[0mb", "a\x1b[1mé b", "b\ra", "ab" * 40, "", "a\nb", "\x1b]8;;x\x07ab"]
)
EVENT: st.SearchStrategy[Record] = st.sampled_from(
    [
        StepStarted(0, "a step", "npm run b"),
        Annotation("error", "a is not b", "src/é.ts", 3),
        Notice("info", "ab"),
        {"type": "of_tomorrow", "text": "ab"},
    ]
)
BATCH = st.lists(LINE | LINE | EVENT, min_size=1, max_size=6) | st.integers(1, 4)


@given(
    st.lists(BATCH, max_size=12),
    st.integers(1, 4),
    st.sampled_from(["a", "ab", "abab", "B", "é b", "🚀", "^a", "a.*b|é$", "^$", "[^a]b", "a step|src/", "zzz"]),
    st.booleans(),
    st.integers(0, 6),
    st.integers(0, 3),
    st.integers(1, 12),
    st.integers(0, 30),
    st.integers(1, 300),
    st.integers(0, 12),
    st.booleans(),
)
def test_a_search_finds_what_matches_one_by_one(
    batches: list[list[Record] | int],
    cuts: int,
    text: str,
    newest: bool,
    most: int,
    context: int,
    first: int,
    last: int,
    step: int,
    sealed: int,
    to_file: bool,
) -> None:
    world = World()
    attempt = world.log(batches, cuts)
    world.seal(attempt, sealed, to_file=to_file)
    texts = world.texts[attempt]
    last = min(last, len(texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "FIRST_STEP", step)
        patch.setattr(searching, "LARGEST_STEP", 2 * step)
        options: dict[str, Any] = {"kind": "regex", "newest": newest, "most": most, "context": context}
        found = world.search(attempt, text, first=first, last=last, **options)
        paged = _pages(world, attempt, text, first, last, options) if most else []
    pattern = re.compile(text, re.IGNORECASE)
    inside = [record for record in range(first, last + 1) if texts[record - 1] is not None]
    expected = [record for record in inside if pattern.search(texts[record - 1] or "")]
    if newest:
        expected.reverse()
    assert found.end.matches == len(expected)
    assert found.end.complete
    assert found.end.searched == len(inside)
    assert found.end.missing == max(0, last + 1 - first) - len(inside)
    assert found.records == expected[:most]
    for hit in found.hits:
        assert "".join(hit.parts) == texts[hit.record - 1]
        around = range(hit.record - context, hit.record + context + 1)
        near = [record for record in around if 0 < record <= len(texts) and texts[record - 1] is not None]
        assert [line.record for line in [*hit.before, *hit.after]] == [each for each in near if each != hit.record]
        assert all(line.text == texts[line.record - 1] for line in [*hit.before, *hit.after])
    if most:
        assert [record for page in paged for record in page.records] == expected


def _pages(world: World, attempt: str, text: str, first: int, last: int, options: dict[str, Any]) -> list[Result]:
    """Page after page, without counting."""
    pages: list[Result] = []
    while True:
        pages.append(world.search(attempt, text, first=first, last=last, count=False, **options))
        following = pages[-1].end.next
        if following is None:
            return pages
        assert isinstance(following, int)
        first, last = (first, following - 1) if options["newest"] else (following + 1, last)


def test_what_comes_during_a_search_is_not_searched() -> None:
    world = World()
    attempt = world.log([["one", "two"], ["three"]])
    search = world.begin(attempt, "e", kind="regex")
    world.add(attempt, [["more"]])
    found = world.result(search)
    assert (found.records, found.end.searched) == ([1, 3], 3)
    assert world.search(attempt, "more").records == [4]


def test_hits_have_a_bound_and_are_counted_all_the_same() -> None:
    world = World()
    attempt = world.log([["ab" * 100] * 50] * 8)
    found = world.search(attempt, "ab", most=1000, room=2000)
    assert found.end.matches == 400
    assert 10 <= len(found.hits) <= 50
    assert found.end.next == found.records[-1]
    assert found.end.complete


def test_many_at_once() -> None:
    """Some run, others wait for their turn, and the rest is refused at once."""
    world = World()
    attempt = world.log([["one"]])
    running = [world.begin(attempt, "one") for _ in range(MAX_RUNNING)]
    waiting: list[Deferred[Search]] = []
    for number in range(MAX_WAITING):
        work = world.searching.log(asked("one", {}, who=f"p{number // 4}"), world.within(attempt, {}))
        waiting.append(Deferred.fromCoroutine(work))
    with pytest.raises(TooManySearches, match=f"{MAX_RUNNING} searches run and {MAX_WAITING} wait"):
        world.begin(attempt, "one")
    # One that goes away makes room for another one.
    gone = waiting.pop()
    gone.addErrback(lambda _: None)
    gone.cancel()
    late: Deferred[Any] = Deferred.fromCoroutine(world.searching.log(asked("one", {}), world.within(attempt, {})))
    assert not any(each.called for each in [*waiting, late])
    assert world.result(running[0]).records == [1]
    running[1].close()
    running[1].close()
    assert [index for index, each in enumerate(waiting) if each.called] == [0, 4]
    # Those that wait too long are told, and those that run are ended by time.
    refused: list[Any] = []
    late.addErrback(refused.append)
    for each in waiting:
        each.addErrback(lambda _: None)
    world.clock.advance(WAIT_SECONDS)
    assert "took too long" in str(refused[0].value)
    world.clock.advance(SEARCH_SECONDS - WAIT_SECONDS)
    assert world.search(attempt, "one").records == [1]
    assert not world.clock.getDelayedCalls()


def test_a_service_that_stops() -> None:
    """What runs ends with what it has, and what waits is told."""
    world = World()
    attempt = world.log([["ab" * 4000]] * 100, cuts=1)
    running = [world.begin(attempt, "ab") for _ in range(MAX_RUNNING)]
    found = now(running[0].more())
    refused: list[Any] = []
    waiting: Deferred[Any] = Deferred.fromCoroutine(world.searching.log(asked("ab", {}), world.within(attempt, {})))
    waiting.addErrback(lambda failure: refused.append(str(failure.value)))
    world.searching.stop()
    assert refused == ["the service is stopping; ask again"]
    rest = world.result(running[0])  # what was done already
    end = rest.end
    assert (end.complete, end.next) == (False, len(found) + len(rest.hits))
    assert end.next == end.matches < 100
    with pytest.raises(TooManySearches, match="is stopping"):
        world.begin(attempt, "ab")
    assert not world.clock.getDelayedCalls()


def test_one_person_does_not_take_all_searches() -> None:
    world = World()
    attempt = world.log([["one"]])
    running = [world.begin(attempt, "one") for _ in range(MAX_RUNNING)]

    def ask(who: str) -> Deferred[Search]:
        work = world.searching.log(asked("one", {}, who=who), world.within(attempt, {}))
        return Deferred.fromCoroutine(work)

    own = [ask("ada") for _ in range(MAX_WAITING_EACH)]
    with pytest.raises(TooManySearches, match=f"{MAX_WAITING_EACH} of your searches wait already"):
        world.begin(attempt, "one")
    other = ask("bob")
    running[0].close()
    assert other.called
    assert not any(each.called for each in own)
    running[1].close()
    assert [each.called for each in own] == [True, False, False, False]
    for each in [other, *own]:
        assert each.called
        each.addCallback(lambda search: search.close())
    assert not world.clock.getDelayedCalls()


@pytest.mark.parametrize("newest", [False, True])
def test_time_runs_out(newest: bool) -> None:
    world = World()
    attempt = world.log([["ab" * 4000]] * 100, cuts=1)
    search = world.begin(attempt, "ab", most=2, newest=newest)
    found = now(search.more())
    assert len(found) == 2
    world.clock.advance(SEARCH_SECONDS)
    end = world.result(search).end
    assert not end.complete
    assert 0 < end.searched < 100
    assert end.missing == 0
    assert end.next == found[-1].record  # there are more hits, and nobody has seen them
    search = world.begin(attempt, "nothing", newest=newest)
    now(search.more())
    world.clock.advance(SEARCH_SECONDS)
    end = world.result(search).end
    assert end.next == (101 - end.searched if newest else end.searched)


def test_no_more_lines_near_hits_are_looked_up_when_time_is_over() -> None:
    world = World()
    attempt = world.log([["ab"]] * 3, cuts=1)
    world.seal(attempt, 3)
    search = world.begin(attempt, "ab", context=1)
    world.held = []
    more = Deferred.fromCoroutine(search.more())
    world.held[0]()
    assert len(world.held) == 2  # the line behind the first hit, which is in another chunk
    world.clock.advance(SEARCH_SECONDS)
    world.held[1]()
    assert len(world.held) == 2
    found: list[Any] = []
    more.addCallback(found.extend)
    assert [(hit.record, len(hit.before), len(hit.after)) for hit in found] == [(1, 0, 1), (2, 0, 0), (3, 0, 0)]


def test_a_search_that_is_closed_in_the_middle_stops() -> None:
    world = World()
    attempt = world.log([["ab" * 4000]] * 100, cuts=1)
    search = world.begin(attempt, "ab")
    world.held = []
    more: Deferred[Any] = Deferred.fromCoroutine(search.more())
    assert len(world.held) == 2
    more.addErrback(lambda _: None)
    more.cancel()
    search.close()
    for done in world.held:
        done()
    assert len(world.held) == 2
    world.held = None
    assert world.search(attempt, "ab").end.matches == 100
    assert not world.clock.getDelayedCalls()


def test_a_query_is_compiled_in_a_thread_and_after_its_turn_has_come() -> None:
    world = World()
    attempt = world.log([["one"]])
    world.held = []
    begun: list[Deferred[Any]] = []
    for _ in range(MAX_RUNNING + 1):
        work = world.searching.log(asked("on[ae]", {"kind": "regex"}), world.within(attempt, {}))
        begun.append(Deferred.fromCoroutine(work))
        begun[-1].addErrback(lambda _: None)
    assert len(world.held) == MAX_RUNNING
    assert not any(each.called for each in begun)
    # Those that go away meanwhile make room for others, as does one whose query is bad.
    begun[0].cancel()
    assert len(world.held) == MAX_RUNNING + 1
    for each in begun[1:]:
        each.cancel()
    world.held = None
    for _ in range(MAX_RUNNING + 1):
        with pytest.raises(BadQuery, match="isn't one of RE2"):
            world.begin(attempt, "(", kind="regex")
    assert world.search(attempt, "on[ae]", kind="regex").records == [1]
    assert not world.clock.getDelayedCalls()


def test_a_log_that_is_removed_meanwhile_is_missing() -> None:
    world = World()
    attempt = world.log([["ab" * 4000]] * 100, cuts=1)
    search = world.begin(attempt, "ab")
    now(search.more())
    world.ledger.now(lambda connection: connection.execute(log_chunks.delete()))
    end = world.result(search).end
    assert 0 < end.searched < 100
    assert (end.matches, end.missing, end.complete) == (end.searched, 100 - end.searched, True)


def test_a_log_whose_removal_begins_meanwhile_is_not_shown_further() -> None:
    world = World()
    attempt = world.log([["ab" * 4000]] * 100, cuts=1)
    search = world.begin(attempt, "ab", most=2)
    now(search.more())
    world.ledger.now(lambda connection: connection.execute(update(attempts).values(log_removed=1)))
    end = world.result(search).end
    assert 0 < end.searched < 100
    assert (end.matches, end.missing, end.complete) == (end.searched, 100 - end.searched, True)
    found = world.search(attempt, "ab", context=2)
    assert (found.hits, found.end.missing) == ([], 100)


def test_chunks_that_can_not_match_are_not_opened() -> None:
    world = World()
    attempt = world.log([[f"the word{number} of many", "another line"] for number in range(60)], cuts=1)
    world.seal(attempt, 50)
    for text, kind in (("WORD7 of", "text"), ("word(7|8x) of", "regex"), ("(?:the )?word7 [of]+.*y", "regex")):
        with pytest.MonkeyPatch.context() as patch:
            opened: list[bytes] = []
            patch.setattr(chunk, "text", _noted(chunk.text, opened))
            found = world.search(attempt, text, kind=kind)
        assert (found.records, found.end.searched, found.end.missing) == ([15], 120, 0)
        assert len(opened) < 10  # of 50
    assert world.search(attempt, "word55").records == [111]


def _noted(open_text: Callable[[bytes], Any], opened: list[bytes]) -> Callable[[bytes], Any]:
    def noting(data: bytes) -> Any:
        opened.append(data)
        return open_text(data)

    return noting


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("where", ["database", "file", "gone"])
def test_damaged_chunks_are_missing(newest: bool, where: str) -> None:
    world = World()
    attempt = world.log([["error", f"line {number}"] for number in range(20)], cuts=1)
    world.seal(attempt, 10, to_file=where != "database")
    if where == "database":
        which = sealed_chunks.c.first_record.in_([5, 7])
        change = update(sealed_chunks).where(which).values(data=b"nonsense")
        world.ledger.now(lambda connection: connection.execute(change))
        missing = [5, 7]
    elif where == "file":
        data = bytearray(world.archive.files[attempt])
        data[-1] ^= 1
        world.archive.files[attempt] = bytes(data)
        missing = [19]
    else:
        world.archive.remove(attempt)
        missing = list(range(1, 21, 2))
    found = world.search(attempt, "error", newest=newest)
    expected = [record for record in range(1, 41, 2) if record not in missing]
    assert found.records == (expected[::-1] if newest else expected)
    assert (found.end.missing, found.end.searched, found.end.complete) == (
        2 * len(missing),
        40 - 2 * len(missing),
        True,
    )
    # As when somebody reads it, so that nobody calls the log complete any more.
    damaged = select(sealed_chunks.c.first_record).where(sealed_chunks.c.damaged).order_by(sealed_chunks.c.first_record)
    assert world.ledger.now(lambda connection: connection.scalars(damaged).all()) == missing


@pytest.mark.parametrize("newest", [False, True])
def test_a_log_that_is_sealed_meanwhile(newest: bool) -> None:
    world = World()
    attempt = world.log([["ab" * 4000]] * 40, cuts=1)
    search = world.begin(attempt, "ab", most=40, newest=newest)
    hits = [*now(search.more())]
    world.seal(attempt, 30)
    found = world.result(search)
    records = [hit.record for hit in [*hits, *found.hits]]
    assert records == sorted(range(1, 41), reverse=newest)
    assert (found.end.searched, found.end.missing) == (40, 0)


def test_a_database_that_fails() -> None:
    world = World()
    attempt = world.log([["one"]])
    search = world.begin(attempt, "one")
    world.ledger.available = False
    with pytest.raises(LedgerUnavailable):
        now(search.more())
    search.close()
    world.ledger.available = True
    assert world.search(attempt, "one").records == [1]


class TestProjects:
    """All logs of a project."""

    def world(self, builds: int = 6) -> World:
        world = World()
        world.ledger.project("other")
        world.ledger.project("hello")
        row = world.ledger.now(projects.get, "hello")
        assert row is not None
        self.project = row.id
        for number in range(1, builds + 1):
            world.log([[f"build {number}", "old error" if number <= 4 else "fine", "error"] if number != 3 else ["x"]])
        return world

    def search(self, world: World, text: str, *, count: bool = True, **options: Any) -> Result:
        names = ("newest", "before", "after", "logs", "each")
        within = {name: options.pop(name) for name in names if name in options}
        work = world.searching.logs(asked(text, options, count=count), ProjectRange(project=self.project, **within))
        return world.result(now(work))

    def test_newest_first(self) -> None:
        world = self.world()
        world.log([["error of another"]], project="other")
        found = self.search(world, "error", newest=True, most=5, each=1)
        assert [(hit.build, hit.record) for hit in found.hits] == [(6, 3), (5, 3), (4, 2), (2, 2), (1, 2)]
        assert [(log.build, log.matches) for log in found.logs] == [(6, 1), (5, 1), (4, 2), (3, 0), (2, 2), (1, 2)]
        assert (found.end.matches, found.end.searched, found.end.complete) == (8, 16, True)
        assert found.end.next is None

    def test_in_which_build_a_line_came_first(self) -> None:
        found = self.search(self.world(), "fine", newest=False, most=1, count=False)
        assert [(hit.build, hit.record) for hit in found.hits] == [(5, 2)]
        assert (found.end.next, found.end.complete) == ("5-1", False)

    @pytest.mark.parametrize("newest", [False, True])
    @pytest.mark.parametrize("options", [{"logs": 1}, {"logs": 4}, {"most": 1, "count": False}, {"most": 2}])
    def test_it_goes_on_where_it_stopped(self, newest: bool, options: dict[str, Any]) -> None:
        world = self.world()
        whole = self.search(world, "old error", newest=newest)
        hits: list[tuple[int, int]] = []
        following: Any = None
        for _ in range(10):
            where = {} if following is None else {"before" if newest else "after": following}
            found = self.search(world, "old error", newest=newest, **options, **where)
            hits += [(hit.build, hit.record) for hit in found.hits]
            if found.end.next is None:
                break
            assert isinstance(found.end.next, str)
            following = tuple(map(int, found.end.next.split("-")))
        assert hits == [(hit.build, hit.record) for hit in whole.hits] != []

    def test_a_project_without_logs(self) -> None:
        found = self.search(self.world(0), "error")
        assert (found.hits, found.logs) == ([], [])
        assert found.end == SearchEnd(matches=0, searched=0, missing=0, complete=True, next=None)

    def test_more_attempts_than_are_looked_up_at_once(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(searching, "_ATTEMPTS", 2)
            for newest in (False, True):
                found = self.search(self.world(), "build", newest=newest)
                assert [hit.build for hit in found.hits] == sorted([1, 2, 4, 5, 6], reverse=newest)
                assert found.end.complete
