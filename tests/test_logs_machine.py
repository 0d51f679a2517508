"""
Any story of some attempts, from the queue to the viewers, by hypothesis: the real builder on real folders and journals,
the real server on a real database, the link between them in memory, some viewers; each process on a clock of its own,
so that it can be killed and started again while the others live on. The runner is the test, as in the builder's tests.

What must hold at each step: a viewer sees what the runner wrote, from its ``after`` on, each record once and in order;
the database has a prefix of the journal; nothing is acknowledged that isn't there; credit is neither exceeded nor lost;
an attempt starts at most once, ends once, and not before its runner. And once everything is up and has had some time:
everything has arrived, and everybody knows the end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import msgspec
from hypothesis import Phase, event
from hypothesis import settings as run_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from tests.properties import examples
from tests.test_builder_service import Port, Reactor, outside_of
from twistedipc.attempts.journal import Journal, segments
from twistedipc.builder import forwarding
from twistedipc.builder import link as builder_side
from twistedipc.builder.compose import builder as builder_of
from twistedipc.builder.doorbell import Doorbell
from twistedipc.builder.link import VOCABULARY as BUILDER_VOCABULARY
from twistedipc.builder.outgoing import OutgoingLog
from twistedipc.builder.service import BuilderService
from twistedipc.builder.settings import Settings
from twistedipc.builds.attempt import Cancel, Result, Spec
from twistedipc.builds.logs import Lines
from twistedipc.builds.states import TERMINAL, AttemptState
from twistedipc.disk.files import read_file, write_file
from twistedipc.ipc.testing import ConnectedPair, settings
from twistedipc.ipc.wire.settings import Side
from twistedipc.server import builder_link
from twistedipc.server.boundaries import LogEntry
from twistedipc.server.builder_link import VOCABULARY as APISERVER_VOCABULARY
from twistedipc.server.fanout.cursor import LogCursor
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.store import LogStore
from twistedipc.storage import attempts, logs
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.rows import Actor, AttemptRow

SLOTS = 2
MAX_ATTEMPTS = 3

#: What goes on (printing, carrying, taking, waiting) earns a story one each, and what changes the platform, be it a
#: crash or a new viewer, costs so much: else hardly anything would go on between two faults.
CHANGE = 2

#: All small, so that a short story comes to each limit.
CREDIT = 8000
LINK_CREDIT = 10_000
OVERDRAFT = 4 * CREDIT
TURN_BYTES = 3000
LOG_LIMITS = LogLimits(tail=3000, overdraft=OVERDRAFT, fetch=2000)
SEGMENT_BYTES = 6000
HIGH_WATER = 5000

#: What may be read of a journal beyond a limit: a block at least, and a line in any case.
BLOCK = 2 * 4096


class Query:
    """One query that waits for the database."""

    def __init__(self, run: Callable[[], Deferred[Any]], append: bool) -> None:
        self.run = run
        self.append = append
        self.waiting: Deferred[Any] = Deferred()


class Database:
    """The database, which outlives an apiserver, and the faults that it has now."""

    def __init__(self) -> None:
        self.ledger = InstantLedger()
        self.available = True
        self.slow = False  # writes wait
        self.reads = "now"  # or "late": they wait; or "stale": what they have read waits
        self.changes = 0  # how often anything may have changed


class Ledger(InstantLedger):
    """The database as one apiserver sees it, until that dies."""

    def __init__(self, database: Database) -> None:
        self.engine = database.ledger.engine
        self.available = True  # what we say of it is in the database
        self.dead = False
        self._database = database
        self._waiting: list[Query] = []

    @property
    def waits(self) -> bool:
        """Whether any query waits."""
        return bool(self._waiting)

    def read(self, query: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """As `Ledger.read`."""
        database = self._database
        if self.dead:
            return Deferred()
        if not database.available or database.reads == "now":
            return self._do(query, *args, **kwargs)
        if database.reads == "stale":
            found = self._do(query, *args, **kwargs)
            return self._wait(lambda: found)
        return self._wait(lambda: self._do(query, *args, **kwargs))

    def write(self, query: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        """As `Ledger.write`."""
        if self.dead:
            return Deferred()
        if not self._database.available or not self._database.slow:
            return self._do(query, *args, **kwargs)
        return self._wait(lambda: self._do(query, *args, **kwargs), append=query is logs.append)

    def _do(self, query: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        self._database.changes += 1
        if not self._database.available:
            return fail(LedgerUnavailable("the database is locked"))
        return self._run(query, *args, **kwargs)

    def _wait(self, run: Callable[[], Deferred[Any]], *, append: bool = False) -> Deferred[Any]:
        query = Query(run, append)
        self._waiting.append(query)
        return query.waiting

    def answer(self, appends: str = "done") -> None:
        """
        Do what waits. ``appends`` are "done", "failed", or "unheard": committed, and said not to be, as if the answer
        was lost.
        """
        waiting, self._waiting = self._waiting, []
        for query in waiting:
            wrong = query.append and appends != "done"
            done = Deferred[Any]() if wrong and appends == "failed" else query.run()
            if wrong:
                done.addErrback(lambda _: None)
                done = fail(LedgerUnavailable("the connection was lost during the commit"))
            done.chainDeferred(query.waiting)

    def die(self, commit: bool) -> None:
        """The apiserver dies; what waited may be committed before."""
        self.dead = True
        waiting, self._waiting = self._waiting, []
        for query in waiting if commit else ():
            query.run().addErrback(lambda _: None)


class Story:
    """One attempt: what is known of it without asking the platform."""

    def __init__(self) -> None:
        self.records: list[str] = []
        self.runner: Runner | None = None
        self.starts = 0
        self.outcome = ""  # once its runner has ended
        self.sha256 = ""
        self.cancelled = False  # somebody wanted that, and was told that it was noted
        self.maybe_cancelled = False  # somebody wanted that
        self.end: AttemptRow | None = None  # as the database first had it

    def matches(self, first: int, lines: list[str]) -> bool:
        """Whether these are the records from ``first`` on."""
        return lines == self.records[first - 1 : first - 1 + len(lines)]


class Runner:
    """A spawned runner, which holds the lock of its folder and writes the journal."""

    def __init__(self, story: Story, folder: Path, lock: int, exited: Callable[[], None]) -> None:
        self.folder = folder
        self.exited = exited
        self.ring: Callable[[str], None] = lambda name: None
        self._story = story
        self._lock = os.dup(lock)
        self._journal = Journal(folder, lambda: self.ring(folder.name), disk=os, segment_bytes=SEGMENT_BYTES)

    def write(self, *sizes: int) -> None:
        """One batch of output."""
        first = self._journal.count + 1
        lines = [f"{first + index} ".ljust(size, "x") for index, size in enumerate(sizes)]
        self._story.records += lines
        self._journal.append(Lines(first, 10, 0, list(lines)))

    @property
    def cancelling(self) -> bool:
        """Whether it has been told to end."""
        return read_file(self.folder / "cancel", Cancel) is not None

    def finish(self, outcome: Any) -> None:
        """The result, and the exit."""
        lines, sha256 = self._journal.count, self._journal.hexdigest()
        result = Result(outcome=outcome, lines=lines, sha256=sha256, started=5, ended=9)
        write_file(self.folder / "result.json", result)
        self._exit(outcome)

    def die(self, torn: bytes) -> None:
        """The exit, without a word; perhaps in the middle of a line."""
        found = segments(self.folder / "journal")
        if found:
            with found[-1][1].open("ab") as file:
                file.write(torn)
        self._exit("lost")

    def _exit(self, outcome: str) -> None:
        self._story.outcome = outcome
        self._story.sha256 = self._journal.hexdigest()
        self._story.runner = None
        self._journal.close()
        os.close(self._lock)
        self.exited()


class BuilderReactor(Reactor):
    """One builder's clock, threads and doorbell; what it spawns outlives it."""

    def __init__(self, spawned: Callable[[Path, int, ProcessProtocol], None]) -> None:
        super().__init__()
        self.dead = False
        self.doorbell: Doorbell | None = None
        self._spawned = spawned

    def listenUNIXDatagram(self, _path: str, protocol: Doorbell, *_: object) -> Port:  # type: ignore[override]
        """As Twisted's."""
        self.doorbell = protocol
        return Port()

    def spawnProcess(self, protocol: ProcessProtocol, _program: str, argv: list[str], **more: Any) -> None:
        """As Twisted's."""
        self._spawned(Path(argv[-2]), more["childFDs"][3], protocol)


class Viewer:
    """One viewer of one log, across the apiserver's lives."""

    def __init__(self, attempt: str, story: Story, after: int, wrong: list[str]) -> None:
        self.attempt = attempt
        self.next = after + 1
        self.end: dict[str, Any] | None = None
        self.waiting = False  # for its cursor to wake it
        self.busy = False  # something is being fetched for it
        self.fetches = 0
        self._story = story
        self._wrong = wrong
        self._cursor: LogCursor | None = None

    @property
    def attached(self) -> bool:
        """Whether it reads."""
        return self._cursor is not None

    def attach(self, store: LogStore) -> None:
        """Begin behind what it has seen."""
        if self.end is None and self._cursor is None:
            self.waiting = self.busy = False
            self._cursor = store.cursor(self.attempt, self.next - 1, self._wake)

    def leave(self) -> None:
        """Read no more for now."""
        if self._cursor is not None:
            self._cursor.close()
        self.forget()

    def forget(self) -> None:
        """Forget the cursor: its apiserver has died."""
        self._cursor = None
        self.waiting = self.busy = False

    def take(self, limit: int) -> bool:
        """Take what there is, if it isn't waiting; whether there may be more at once."""
        cursor = self._cursor
        if cursor is None or self.waiting or self.busy:
            return False
        taken = cursor.take(limit)
        if taken is None:
            self.busy = True
            self.fetches += 1
            fetching = Deferred.fromCoroutine(cursor.fetch())
            fetching.addCallbacks(self._fetched, self._not_fetched, (cursor,), errbackArgs=(cursor,))
            return not self.busy
        for entry in taken:
            self._see(entry)
        self.waiting = not taken
        if self.end is not None:
            self.leave()
        return bool(taken)

    def take_all(self) -> None:
        """Take until there is nothing now."""
        for _ in range(1000):
            if not self.take(1000):
                return
        self._wrong.append(f"a viewer of {self.attempt} takes and fetches without end, at {self.next}")

    def _wake(self) -> None:
        if not self.waiting:
            self._wrong.append(f"a viewer of {self.attempt} was woken that didn't wait")
        self.waiting = False

    def _fetched(self, _: None, cursor: LogCursor) -> None:
        if cursor is self._cursor:
            self.busy = False

    def _not_fetched(self, failure: Failure, cursor: LogCursor) -> None:
        if not failure.check(LedgerUnavailable):
            self._wrong.append(f"a viewer of {self.attempt} got {failure.getTraceback()}")
        if cursor is self._cursor:
            self.leave()  # as a stream does: it is broken off, and its reader comes again

    def _see(self, entry: LogEntry) -> None:
        message = msgspec.json.decode(entry.message)
        if self.end is not None:
            self._wrong.append(f"a viewer of {self.attempt} saw {message} after the end")
        if entry.final:
            self.end = message
            return
        if message["first"] != self.next or not message["lines"]:
            self._wrong.append(f"a viewer of {self.attempt} saw {message['first']} instead of {self.next}")
        elif not self._story.matches(self.next, message["lines"]):
            self._wrong.append(f"a viewer of {self.attempt} saw from {self.next} on what wasn't written")
        self.next = message["first"] + len(message["lines"])


pick = st.integers(0, 5)
whichever = st.sampled_from(["builder", "apiserver"])


class LogsMachine(RuleBasedStateMachine):
    """A story of some attempts."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        for module, name, value in (
            (builder_link, "CREDIT", CREDIT),
            (builder_side, "LINK_CREDIT", LINK_CREDIT),
            (OutgoingLog, "acknowledged", self._acknowledged(OutgoingLog.acknowledged)),
            (forwarding, "TURN_BYTES", TURN_BYTES),
        ):
            self.stack.enter_context(patch.object(module, name, value))
        self.folder = Path(tempfile.mkdtemp())
        self.stack.callback(shutil.rmtree, self.folder, True)
        self.wrong: list[str] = []
        globalLogPublisher.addObserver(cast(Any, self._logged))
        self.stack.callback(globalLogPublisher.removeObserver, cast(Any, self._logged))
        self.database = Database()
        self.stack.callback(self.database.ledger.engine.dispose)
        self.looked_at = -1
        self.stories: dict[str, Story] = {}
        self.viewers: list[Viewer] = []
        self.pairs: list[ConnectedPair] = []
        self.budget = CHANGE
        self.apiserver: Apiserver | None = None
        self.ledger = Ledger(self.database)
        self.builder: BuilderService | None = None
        self.reactor = BuilderReactor(self._spawned)
        self.lives = 0

    def _logged(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self.wrong.append(failure.getTraceback())

    # -- the processes

    @initialize(builder_dials=st.booleans())
    def begin(self, builder_dials: bool) -> None:
        """Both are up and linked, and an attempt runs."""
        self.sides = {"builder": Side.DIALLER, "apiserver": Side.LISTENER}
        if not builder_dials:
            self.sides = {"builder": Side.LISTENER, "apiserver": Side.DIALLER}
        self.start_apiserver()
        self.start_builder()
        self.link(at_once=True)
        self.queue()
        self.settle()
        assert self.stories["1-1"].starts == 1

    @precondition(lambda self: self.apiserver is None and self.database.available)
    @rule()
    def start_apiserver(self) -> None:
        """An apiserver on what the last one has left."""
        self.database.slow, self.database.reads = False, "now"
        self.ledger = Ledger(self.database)
        self.apiserver = Apiserver(self.folder / "apiserver", self.ledger, Clock(), log_limits=LOG_LIMITS)

    @precondition(lambda self: self.builder is None)
    @rule()
    def start_builder(self) -> None:
        """A builder on what the last one has left."""
        self.lives += 1
        self.reactor = BuilderReactor(self._spawned)
        limits = Settings(
            data=self.folder / "builder",
            path="/bin",
            environment={},
            timeout=60.0,
            idle_timeout=30.0,
            grace=1.0,
            allow_plain_http=True,
        )
        self.outside = outside_of(self.reactor, limits)
        self.builder = builder_of(self.outside, limits, slots=SLOTS)
        self.builder.startService()

    @precondition(lambda self: self.apiserver is not None and self.budget >= CHANGE)
    @rule(commit=st.booleans())
    def crash_apiserver(self, commit: bool) -> None:
        """The apiserver is killed; what waited for the database may still have been committed."""
        self.budget -= CHANGE
        self.apiserver = None
        self.ledger.die(commit)
        for viewer in self.viewers:
            viewer.forget()
        for pair in self.pairs:
            pair.kill(self.sides["apiserver"])

    @precondition(lambda self: self.builder is not None and self.budget >= CHANGE)
    @rule()
    def crash_builder(self) -> None:
        """The builder is killed; its runners live on."""
        self.budget -= CHANGE
        builder, self.builder = self.builder, None
        assert builder is not None
        self.outside.disk.release()  # as the kernel does
        for held in builder.attempts:
            held.log._journal.close()
        self.reactor.dead = True
        self.reactor.threads.held = None
        for pair in self.pairs:
            pair.kill(self.sides["builder"])

    def _spawned(self, folder: Path, lock: int, protocol: ProcessProtocol) -> None:
        spec = read_file(folder / "spec.json", Spec)
        assert spec is not None
        story, reactor = self.stories[spec.attempt], self.reactor
        story.starts += 1

        def exited() -> None:
            if not reactor.dead:
                protocol.processExited(Failure(Exception("exited")))

        story.runner = Runner(story, folder, lock, exited)

    def _acknowledged(self, acknowledged: Callable[[OutgoingLog, int], None]) -> Callable[[OutgoingLog, int], None]:
        """The method of the builder's, but looked at."""

        def look(log: OutgoingLog, next: int) -> None:
            attempt = log._name.rpartition("-")[0]
            stored = self.database.ledger.now(logs.next_record, attempt)
            if next > stored:
                self.wrong.append(f"{next} of {attempt} was acknowledged, and the database has {stored}")
            acknowledged(log, next)

        return look

    # -- the link

    @property
    def connected(self) -> bool:
        """Whether the dialler believes in its connection."""
        dialler = next(name for name, side in self.sides.items() if side is Side.DIALLER)
        return bool(self.pairs) and self.pairs[-1].wire(self.sides[dialler]).connected

    @precondition(lambda self: self.builder is not None and self.apiserver is not None and not self.connected)
    @rule(at_once=st.sampled_from([True, True, True, False]))
    def link(self, at_once: bool) -> None:
        """
        A new connection; the old one may still be there for the side that doesn't dial. The handshake and the sync are
        over at once, or are to be carried.
        """
        assert self.builder is not None
        assert self.apiserver is not None
        ends = {
            self.sides["builder"]: (
                settings(
                    BUILDER_VOCABULARY,
                    "builder",
                    "apiserver",
                    incarnation=f"run-{self.lives}",
                    accept_peer=self.builder.duties.refuse,
                ),
                self.builder.duties.application,
            ),
            self.sides["apiserver"]: (
                settings(APISERVER_VOCABULARY, "apiserver", "builder", accept_peer=self.apiserver.builders.refuse),
                self.apiserver.builders.application,
            ),
        }
        clocks = {self.sides["builder"]: self.reactor, self.sides["apiserver"]: self.apiserver.clock}
        pair = ConnectedPair(
            clocks[Side.DIALLER],
            cast(Any, ends[Side.DIALLER]),
            cast(Any, ends[Side.LISTENER]),
            high_water=HIGH_WATER,
            listener_clock=clocks[Side.LISTENER],
        )
        self.pairs = [pair for pair in self.pairs if not pair.lost]
        self.pairs.append(pair)
        if at_once:
            self.pump()

    @precondition(lambda self: self.pairs)
    @rule(who=whichever, limit=st.sampled_from([None, None, 1, 100, 2000]), turn=st.booleans())
    def carry(self, who: str, limit: int | None, turn: bool) -> None:
        """Some bytes arrive."""
        self.budget += 1
        for pair in self.pairs:
            pair.carry(self.sides[who], limit)
        if turn:
            self.turn()

    @precondition(lambda self: self.connected and self.budget >= CHANGE)
    @rule()
    def cut(self) -> None:
        """The connection breaks, and both sides notice."""
        self.budget -= CHANGE
        pair = self.pairs[-1]
        for side in Side:
            pair.wire(side).buffer.clear()
        for side in Side:
            pair.wire(side).lose(Failure(ConnectionLost()))

    @precondition(lambda self: self.connected and self.budget >= CHANGE)
    @rule(who=st.sampled_from(["builder", "apiserver", "nobody"]))
    def go_dark(self, who: str) -> None:
        """Nothing comes through any more; perhaps one side is told."""
        self.budget -= CHANGE
        pair = self.pairs[-1]
        pair.blackhole(*Side)
        if who != "nobody":
            pair.wire(self.sides[who]).lose(Failure(ConnectionLost()))

    # -- time

    def turn(self) -> None:
        """Each process ends its turn of the reactor."""
        for clock in self.clocks():
            clock.advance(0)

    def clocks(self) -> list[Clock]:
        """The clocks of those that live."""
        found: list[Clock] = [] if self.apiserver is None else [self.apiserver.clock]
        return found if self.builder is None else [*found, self.reactor]

    @rule(seconds=st.sampled_from([0.02, 0.02, 0.5, 1.0, 3.0, 16.0]), carrying=st.booleans())
    def wait(self, seconds: float, carrying: bool) -> None:
        """Time goes by, with or without anything arriving."""
        self.budget += 1
        while seconds > 0:
            for clock in self.clocks():
                clock.advance(min(1.0, seconds))
            if carrying:
                self.pump()
            seconds -= 1.0

    @precondition(lambda self: self.budget >= CHANGE)
    @rule()
    def settle_down(self) -> None:
        """As `settle`, now and then."""
        self.budget -= CHANGE
        self.settle()

    def settle(self) -> None:
        """Everything arrives, and is committed, as far as that can be."""
        self.pump()
        for clock in self.clocks():
            clock.advance(0.02)
        self.pump()

    def pump(self) -> None:
        """Carry everything, until nothing moves."""
        for _ in range(1000):
            self.turn()
            moved = [pair.carry(side) for pair in self.pairs for side in Side]
            due = any(call.getTime() <= clock.seconds() for clock in self.clocks() for call in clock.getDelayedCalls())
            if not any(moved) and not due:
                return
        raise AssertionError("it never becomes quiet")

    # -- the database, and the builder's threads

    @precondition(lambda self: self.budget >= CHANGE and self.database.available)
    @rule(noticed=st.booleans())
    def is_unavailable(self, noticed: bool) -> None:
        """The database can't be used from now on. The next write notices that."""
        self.budget -= CHANGE
        self.database.available = False
        if noticed:
            self.settle()

    @precondition(lambda self: self.budget >= CHANGE and self.apiserver is not None)
    @rule(slow=st.sampled_from([True, True, False]), reads=st.sampled_from(["now", "late", "stale"]))
    def is_slow(self, slow: bool, reads: str) -> None:
        """Make writes or reads wait from now on."""
        self.budget -= CHANGE
        self.database.slow, self.database.reads = slow, reads

    @precondition(lambda self: not self.is_well)
    @rule()
    def get_well(self) -> None:
        """The database is quick, and the builder's threads go on."""
        self.database.available, self.database.slow, self.database.reads = True, False, "now"
        self.ledger.answer()
        self.reactor.threads.let_go()
        self.turn()

    @property
    def is_well(self) -> bool:
        """Whether nothing but the processes and the link can be in the way."""
        database = self.database
        waits = database.slow or database.reads != "now" or self.ledger.waits or self.reactor.threads.held is not None
        return database.available and not waits

    @precondition(lambda self: self.ledger.waits)
    @rule(appends=st.sampled_from(["done", "failed", "unheard"]))
    def answer(self, appends: str) -> None:
        """The database does what waits; a commit of records may fail, or be made and said to have failed."""
        self.budget += 1
        self.ledger.answer(appends)
        self.turn()

    @precondition(lambda self: self.budget >= CHANGE and self.apiserver is not None and self.running())
    @rule(
        which=pick,
        sizes=st.lists(st.sampled_from([5, 1500]), min_size=1, max_size=3),
        appends=st.sampled_from(["failed", "unheard"]),
    )
    def commit_goes_wrong(self, which: int, sizes: list[int], appends: str) -> None:
        """The same for what is printed now."""
        self.budget -= CHANGE
        slow, self.database.slow = self.database.slow, True
        self.append(which=which, batches=[sizes], ring=True, arrives=True)
        self.settle()
        self.ledger.answer(appends)
        self.database.slow = slow
        self.turn()

    @precondition(lambda self: self.budget >= CHANGE and self.builder is not None)
    @rule()
    def threads_stand_still(self) -> None:
        """Hold what the builder does in threads from now on."""
        self.budget -= CHANGE
        if self.reactor.threads.held is None:
            self.reactor.threads.held = []

    # -- attempts

    @precondition(
        lambda self: self.budget >= CHANGE and self.apiserver is not None and len(self.stories) < MAX_ATTEMPTS
    )
    @rule()
    def queue(self) -> None:
        """A build is wanted."""
        self.budget -= CHANGE
        assert self.apiserver is not None
        name = self.database.ledger.queue()
        self.stories[name] = Story()
        self.apiserver.dispatch.wake()

    def running(self) -> list[Story]:
        """The attempts whose runner lives."""
        return [story for story in self.stories.values() if story.runner is not None]

    @precondition(lambda self: self.running())
    @rule(
        which=pick,
        batches=st.lists(st.lists(st.sampled_from([5, 100, 1500]), min_size=1, max_size=4), min_size=1, max_size=4),
        ring=st.booleans(),
        arrives=st.booleans(),
    )
    def append(self, which: int, batches: list[list[int]], ring: bool, arrives: bool) -> None:
        """A build prints something. The ring may be lost; what it leads to arrives at once, or is to be carried."""
        self.budget += 1
        running = self.running()
        runner = running[which % len(running)].runner
        assert runner is not None
        doorbell = self.reactor.doorbell
        runner.ring = lambda name: None
        if ring and self.builder is not None and doorbell is not None:
            runner.ring = lambda name: doorbell.datagramReceived(name.encode(), None)
        for sizes in batches:
            runner.write(*sizes)
        if arrives:
            self.pump()
        else:
            self.turn()

    @precondition(lambda self: self.running() and self.budget >= CHANGE)
    @rule(which=pick, how=st.sampled_from(["succeeded", "failed", "heed", "heed", "die", "die torn"]))
    def end(self, which: int, how: str) -> None:
        """A build ends, whether or not it was told to; or its runner dies."""
        self.budget -= CHANGE
        running = self.running()
        self._end(running[which % len(running)], how)

    def _end(self, story: Story, how: str) -> None:
        runner = story.runner
        assert runner is not None
        if how.startswith("die"):
            runner.die(b'12345678 {"type":"lin' if how == "die torn" else b"")
        elif how == "heed":
            runner.finish("cancelled" if runner.cancelling else "succeeded")
        else:
            runner.finish(how)

    @precondition(lambda self: self.budget >= CHANGE and self.apiserver is not None and self.stories)
    @rule(which=pick)
    def cancel(self, which: int) -> None:
        """Ask for the end of an attempt."""
        self.budget -= CHANGE
        assert self.apiserver is not None
        attempt = sorted(self.stories)[which % len(self.stories)]
        story = self.stories[attempt]
        story.maybe_cancelled = True

        def noted(_: None) -> None:
            story.cancelled = True

        asked = Deferred.fromCoroutine(
            self.apiserver.lifecycle.cancel_build(int(attempt.split("-")[0]), "not wanted", Actor(who="ada"))
        )
        asked.addCallbacks(noted, lambda _: None)  # it has ended, or the database can't be used: the caller is told
        self.turn()

    # -- viewers

    @precondition(
        lambda self: self.budget >= CHANGE and self.apiserver is not None and self.stories and len(self.viewers) < 5
    )
    @rule(which=pick, after=st.one_of(st.just(0), st.integers(0, 30)))
    def view(self, which: int, after: int) -> None:
        """A viewer comes."""
        self.budget -= CHANGE
        assert self.apiserver is not None
        attempt = sorted(self.stories)[which % len(self.stories)]
        viewer = Viewer(attempt, self.stories[attempt], after, self.wrong)
        viewer.attach(self.apiserver.logs)
        self.viewers.append(viewer)

    @precondition(lambda self: self.apiserver is not None and self.viewers)
    @rule(which=pick, limit=st.sampled_from([1, 1000, 1 << 16]), times=st.integers(1, 3))
    def take(self, which: int, limit: int, times: int) -> None:
        """A viewer takes some; one that isn't there comes back first."""
        assert self.apiserver is not None
        self.budget += 1
        viewer = self.viewers[which % len(self.viewers)]
        viewer.attach(self.apiserver.logs)
        for _ in range(times):
            viewer.take(limit)

    @precondition(lambda self: self.budget >= CHANGE and any(viewer.attached for viewer in self.viewers))
    @rule(which=pick)
    def leave(self, which: int) -> None:
        """A viewer goes, for now."""
        self.budget -= CHANGE
        attached = [viewer for viewer in self.viewers if viewer.attached]
        attached[which % len(attached)].leave()

    # -- what must hold

    @invariant()
    def nothing_is_wrong(self) -> None:
        """What was found while things happened."""
        assert not self.wrong, "\n".join(self.wrong)

    @invariant()
    def the_database_has_what_was_written(self) -> None:
        """A prefix of each journal; each attempt starts once, and ends once, after its runner."""
        if self.looked_at == self.database.changes:
            return
        self.looked_at = self.database.changes
        for name, story in self.stories.items():
            row = self.row(name)
            stored: list[Any] = []
            for chunk in self.database.ledger.now(logs.read, name, 1, 1 << 30):
                for line in chunk.data.splitlines():
                    stored += msgspec.json.decode(line)["lines"]
            assert len(stored) == self.database.ledger.now(logs.next_record, name) - 1
            assert story.matches(1, stored), f"{name}: what is stored is not what was written"
            assert story.starts <= 1, f"{name} was started {story.starts} times"
            if row.state in TERMINAL:
                assert story.runner is None, f"{name} is {row.state}, and its runner lives"
                if story.end is None:
                    story.end = row
                assert story.end == row, "an end was changed"
                if story.starts:
                    assert row.state == story.outcome, f"{row.state}: {row.reason}"

    @invariant()
    def credit_is_kept(self) -> None:
        """The bytes under way are those that are counted, and within the granted credit."""
        builder = self.builder
        if builder is None:
            return
        spent = 0
        for held in builder.attempts:
            window = held.log._window
            assert window._credit.spent == sum(size for _next, size in window._under_way._pieces)
            assert window._credit.spent <= CREDIT + BLOCK
            spent += window._credit.spent
        uplink = builder.duties._uplink
        assert uplink._credit.spent == spent
        assert spent <= LINK_CREDIT + BLOCK
        if uplink.link is None:
            assert spent == 0

    @invariant()
    def the_server_keeps_little(self) -> None:
        """The tail of a log, and what a builder may have under way."""
        if self.apiserver is None:
            return
        for live in self.apiserver.logs._live.values():
            assert sum(len(entry.message) for entry in live.tail.entries if not entry.final) == live.tail.bytes
            kept = [
                len(entry.message) for entry in live.tail.entries if entry.end <= live.committed and not entry.final
            ]
            assert sum(kept[1:]) <= LOG_LIMITS.tail, f"{live.attempt}: {kept} are kept"
            assert live.window.waiting <= OVERDRAFT + BLOCK

    def row(self, attempt: str) -> AttemptRow:
        """The attempt's row."""
        row = self.database.ledger.now(attempts.get, attempt)
        assert row is not None
        return row

    # -- the end of the story

    def teardown(self) -> None:
        """Everything is up, and has some time: everything arrives."""
        try:
            if self.stories:
                self._come_to_the_end()
                self._check_the_end()
        finally:
            for story in self.running():
                assert story.runner is not None
                story.runner.exited = lambda: None
                story.runner.die(b"")
            if self.builder is not None:
                self.reactor.dead = True
                self.builder.stopService()
            self.stack.close()

    def _come_to_the_end(self) -> None:
        self.get_well()
        for second in range(200):
            if self.apiserver is None:
                self.start_apiserver()
            if self.builder is None:
                self.start_builder()
            if not self.connected:
                self.link(at_once=True)
            self.wait(1.0, carrying=True)
            assert self.apiserver is not None
            for viewer in self.viewers:
                viewer.attach(self.apiserver.logs)
                viewer.take_all()
            for story in self.running():
                assert story.runner is not None
                if story.runner.cancelling or (second > 60 and not story.cancelled):
                    self._end(story, "heed")
            self.nothing_is_wrong()
            self.the_database_has_what_was_written()
            self.credit_is_kept()
            self.the_server_keeps_little()
            if all(story.end is not None for story in self.stories.values()) and self._is_quiet():
                return

    def _is_quiet(self) -> bool:
        assert self.builder is not None
        return not len(self.builder.attempts) and all(viewer.end is not None for viewer in self.viewers)

    def _check_the_end(self) -> None:
        builder, apiserver = self.builder, self.apiserver
        assert builder is not None
        assert apiserver is not None
        for name, story in self.stories.items():
            row = self.row(name)
            assert story.end is not None, f"{name} is {row.state} for ever"
            assert (row.lines, row.complete) == (len(story.records), True), f"{name}: {row}"
            if story.starts:
                assert row.sha256 == story.sha256
            else:
                assert row.state is AttemptState.CANCELLED
                assert story.maybe_cancelled
            event(f"an attempt ended as {row.state}")
        assert len(builder.attempts) == 0
        assert os.listdir(self.folder / "builder" / "attempts") == []
        assert builder.duties._uplink._credit.spent == 0
        for viewer in self.viewers:
            row = self.row(viewer.attempt)
            assert viewer.end is not None, f"a viewer of {viewer.attempt} has not seen its end"
            expected = {"lines": row.lines, "sha256": row.sha256, "state": row.state, "complete": row.complete}
            assert viewer.end == {"type": "end", **expected}
            if viewer.fetches:
                event("a viewer read from the store")
        assert apiserver.logs._live == {}


TestLogs = LogsMachine.TestCase
TestLogs.settings = run_settings(
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    max_examples=examples(15),
    stateful_step_count=50,
)
