"""
The ledger: the database, off the reactor's thread. Made by ``taps``, used by ``server`` and ``web``; ``storage`` layer.

One thread writes and a few read, all of them the ledger's own: never the reactor's shared pool. What they run are
the functions of the query modules::

    build, created = await ledger.write(builds.create, project="shop", ref="main", …)
    page = await ledger.read(builds.list_page, projects=None, states=None, before=None, limit=50)

**Writes are committed in groups.** While one group is being committed (an fsync, milliseconds), whatever else comes
waits, and is the next group. Each write of a group runs in a SAVEPOINT of its own, so that the failure of one write
undoes no other; then one COMMIT makes all of them durable, and only then do their Deferreds fire. So the busier it
gets, the fewer fsyncs a write costs, and no timer is needed.

**Reads are shared.** The same question that waits for a reader many times (a thousand viewers of one build that come
back at once) is asked once, and all get its answer.

**When the database can't be used** (locked, a full disk, an I/O error, too much waiting; a PostgreSQL that can't be
reached, or doesn't answer for some seconds), Deferreds fail with
`LedgerUnavailable` and nothing of those writes is there. The next group tries again, on a new connection if need
be: there is nothing to restart. No other error of a database's gets out of here either, than as what it means to the
caller: see ``faults``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, RootTransaction, make_url
from sqlalchemy.exc import SQLAlchemyError, StatementError
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from twistedipc.storage import changes
from twistedipc.storage.apiservers import Identity, Incarnation
from twistedipc.storage.clock import ThreadClock
from twistedipc.storage.engines import BUSY_TIMEOUT, check_server, create_file, engine_for
from twistedipc.storage.errors import LedgerTaken, LedgerUnavailable, LedgerUnusable, SchemaTooNew
from twistedipc.storage.faults import gone, translated, unanswered
from twistedipc.storage.guard import WATCH_INTERVAL, Guard, is_free
from twistedipc.storage.migrations import is_behind, upgrade
from twistedipc.storage.prepared import command
from twistedipc.storage.presence import Beside, Presence
from twistedipc.storage.rings import Ringing, Rings, Topic, add, collect

__all__ = ["Ledger", "LedgerTaken", "LedgerUnavailable", "LedgerUnusable", "SchemaTooNew"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: How many writes, and how many reads, may wait. Beyond that the ledger is overloaded, and says so at once.
MAX_WAITING: Final = 10_000

#: The most writes of one group, and the seconds after which it takes no more: bounds on how long the first waits.
MAX_GROUP: Final = 500
GROUP_SECONDS: Final = 0.05

_READERS: Final = 4

#: Seconds for which a program beside an apiserver waits for it to bring the schema up to date.
UPGRADE_PATIENCE: Final = 20.0


class _Call:
    """
    One query to be run, and the Deferreds of its result: one for each caller. ``key``: see `_Queue.put`; ``quiet``: see
    `changes.quiet`.
    """

    __slots__ = ("deferreds", "error", "key", "quiet", "result", "run")

    def __init__(self, run: Callable[[Connection], Any], key: Hashable | None, quiet: bool) -> None:
        self.run = run
        self.key = key
        self.quiet = quiet
        self.deferreds: list[Deferred[Any]] = []
        self.result: Any = None
        self.error: BaseException | None = None  # if set, there is no result

    def fire(self) -> None:
        """Fire all Deferreds. In the reactor's thread."""
        # A Deferred that was cancelled swallows this: cancelling doesn't undo, it only stops listening.
        for deferred in self.deferreds:
            if self.error is None:
                deferred.callback(self.result)
            else:
                deferred.errback(self.error)


class _Queue:
    """What waits for a thread: filled by the reactor's, emptied by the ledger's own."""

    def __init__(self) -> None:
        self._calls: deque[_Call] = deque()
        self._shared: dict[Hashable, _Call] = {}  # those of `_calls` that have a key
        self._waiting = 0  # Deferreds of `_calls`
        self._changed = threading.Condition()
        self._open = False

    def open(self) -> None:
        with self._changed:
            self._open = True

    def close(self) -> None:
        """Accept no more calls. Those that wait will still be run."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def put(self, run: Callable[[Connection], Any], key: Hashable | None, quiet: bool) -> Deferred[Any]:
        """
        Have it run. If the same key waits already, that is the one: one that has begun is not, since it may not see
        what has been written meanwhile. Raises `LedgerUnavailable`.
        """
        with self._changed:
            if not self._open:
                raise LedgerUnavailable("the database isn't open")
            if self._waiting >= MAX_WAITING:
                raise LedgerUnavailable("the database is overloaded: too much is waiting for it")
            call = None if key is None else self._shared.get(key)
            if call is None:
                call = _Call(run, key, quiet)
                self._calls.append(call)
                if key is not None:
                    self._shared[key] = call
                self._changed.notify()
            waiting: Deferred[Any] = Deferred()
            call.deferreds.append(waiting)
            self._waiting += 1
            return waiting

    def take(self) -> _Call | None:
        """Return the next call, once there is one; None when the queue is closed and empty."""
        with self._changed:
            while not self._calls and self._open:
                self._changed.wait()
            return self._pop()

    def take_now(self) -> _Call | None:
        """Return the next call, if there is one now."""
        with self._changed:
            return self._pop()

    def take_all(self) -> list[_Call]:
        """Return all calls that there are now."""
        calls = []
        with self._changed:
            while (call := self._pop()) is not None:
                calls.append(call)
        return calls

    def _pop(self) -> _Call | None:
        if not self._calls:
            return None
        call = self._calls.popleft()
        self._waiting -= len(call.deferreds)
        if call.key is not None:
            del self._shared[call.key]
        return call


class _Place(NamedTuple):
    """What an apiserver says that opens the ledger. See `Ledger`."""

    lost: Callable[[str], None]
    identity: Identity | None


class Ledger:
    """
    The database at ``url`` (SQLAlchemy's, or the text of one: ``sqlite:////DATA/ledger.sqlite``).

    :param now: milliseconds since the epoch.
    :param group_delay: seconds that a write waits for company although the database is idle. 0 is right nearly
        always: the fsync of the group before is wait enough.
    :param busy_timeout: seconds for which SQLite waits for another program's lock, and PostgreSQL for the next
        statement of a transaction: the deadline of every wait here.
    :param lost: given by an apiserver: called in the reactor's thread, once, with the reason, when another goes on with
        what this one had (`guard`, `presence`). Then every write fails. Without it the ledger is opened beside the
        apiservers that there may be, by a program that does one thing and goes.
    :param identity: given by an apiserver on PostgreSQL: what it says of itself.
    :param clock: by which the ledger's threads wait.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorFromThreads,
        url: str | URL,
        *,
        now: Callable[[], int],
        group_delay: float = 0,
        busy_timeout: float = BUSY_TIMEOUT,
        lost: Callable[[str], None] | None = None,
        identity: Identity | None = None,
        clock: ThreadClock = time,
    ) -> None:
        self._reactor = reactor
        self._url = make_url(url)
        if self._url.get_backend_name() == "sqlite" and self._url.database in (None, "", ":memory:"):
            raise ValueError("the ledger needs a database in a file: sqlite:////FOLDER/ledger.sqlite")
        self._now = now
        self._group_delay = group_delay
        self._busy_timeout = busy_timeout
        self._place = None if lost is None else _Place(lost, identity)
        self._clock = clock
        self._guard: Guard | Presence | None = None
        self._watching: threading.Event | None = None  # set: the guard is watched no more
        self._writes = _Queue()
        self._reads = _Queue()
        self._threads: list[tuple[threading.Thread, Deferred[None]]] = []  # each with what fires when it is done
        self._engines: list[Engine] = []
        self._ringing: Ringing | None = None
        #: Since when (milliseconds since the epoch) the database fails; None: the last use of it went well.
        self.failing_since: int | None = None

    def ring_by(self, ringing: Ringing) -> None:
        """Have others told of what is committed from now on. Before `open`."""
        self._ringing = ringing

    async def open(self) -> None:
        """
        Open the database and bring its schema up to date. Raises `LedgerTaken`, `SchemaTooNew`, `LedgerUnavailable`. It
        may be opened again after it has failed or been closed.
        """
        if self._threads:
            raise RuntimeError("the ledger is open already")
        writer = engine_for(self._url, writes=True, busy_timeout=self._busy_timeout, clock=self._clock)
        reader = engine_for(self._url, writes=False, busy_timeout=self._busy_timeout, clock=self._clock)
        self._engines = [writer, reader]
        guard = self._guard = self._make_guard(reader)
        opened: Deferred[None] = Deferred()
        self._start("ledger-open", lambda: self._open_database(writer, guard, opened))
        try:
            await opened
        except BaseException:
            await self.close()
            raise
        self._writes.open()
        self._reads.open()
        brackets = guard or (None if self._is_file else Beside())
        writing = _Writer(
            writer, self._writes, self._done, self._group_delay, brackets, self._clock, ringing=self._ringing
        )
        self._start("ledger-write", writing.run)
        for number in range(_READERS):
            self._start(f"ledger-read-{number}", lambda: self._read_calls(reader))
        if guard is not None:
            self._watch(guard)

    async def close(self) -> None:
        """Finish what waits, and close the database. Idempotent."""
        self._writes.close()
        self._reads.close()
        threads, self._threads = self._threads, []
        for _, stopped in threads:
            await stopped
        for thread, _ in threads:
            thread.join()  # at once: its last act was to say that it is done
        engines, self._engines = self._engines, []
        for engine in engines:
            engine.dispose()
        if self._watching is not None:
            self._watching.set()
            self._watching = None
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.release()  # last: until here no other apiserver may have the database

    def read(
        self, query: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[_T]:
        """
        Run ``query(connection, *args, **kwargs)`` on a reader's thread: it sees one state of the database, which
        includes every write whose Deferred has fired, and can't change it. Callers that ask the same at the same time
        share the result: it is not to be changed.
        """
        key: Hashable | None = (query, args, tuple(sorted(kwargs.items())))
        try:
            hash(key)
        except TypeError:
            key = None  # what can't be compared is asked each time
        return self._put(self._reads, lambda connection: query(connection, *args, **kwargs), key)

    def write(
        self, query: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[_T]:
        """
        Run ``query(connection, *args, **kwargs)`` on the writer's thread, in the order of the calls. Fires with its
        result when that is on disk. If it raises, what it did is undone, and the Deferred fails with what it raised.
        """
        quiet = getattr(query, changes.QUIET, False)
        return self._put(self._writes, lambda connection: query(connection, *args, **kwargs), None, quiet)

    @property
    def incarnation(self) -> Incarnation | None:
        """Which start of which apiserver has opened this; None before, and if no other can be there."""
        return None if self._guard is None else self._guard.incarnation

    def listeners(self) -> frozenset[Topic]:
        """Return to what other apiservers listen: to everything, if there are any. It may be called in any thread."""
        return frozenset(Topic) if self._guard is not None and self._guard.others else frozenset()

    def cut_off(self) -> bool:
        """Return whether other apiservers may have given this one up without its knowing. See `Presence.cut_off`."""
        return self._guard is not None and self._guard.cut_off()

    # -- in the reactor's thread -------------------------------------------------------------------------------------

    @property
    def _is_file(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def _make_guard(self, reader: Engine) -> Guard | Presence | None:
        place = self._place
        if place is None:
            return None
        if self._is_file:
            return Guard(self._url, reader, self._now, self._clock)
        if place.identity is None:
            raise ValueError("an apiserver on PostgreSQL says who it is")
        return Presence(self._url, place.identity, busy_timeout=self._busy_timeout, clock=self._clock)

    def _put(
        self, queue: _Queue, run: Callable[[Connection], _T], key: Hashable | None, quiet: bool = False
    ) -> Deferred[_T]:
        try:
            return queue.put(run, key, quiet)
        except LedgerUnavailable as error:
            return fail(error)

    def _start(self, name: str, run: Callable[[], None]) -> None:
        stopped: Deferred[None] = Deferred()

        def main() -> None:
            try:
                run()
            except BaseException:
                self._log.failure("thread {name} of the ledger broke", name=name)
            finally:
                self._reactor.callFromThread(stopped.callback, None)

        thread = threading.Thread(target=main, name=name, daemon=True)
        self._threads.append((thread, stopped))
        thread.start()

    def _watch(self, guard: Guard | Presence) -> None:
        """
        Look now and then whether the database is still ours. The thread isn't waited for when the ledger is closed: it
        may wait for a database that doesn't answer.
        """
        stop = self._watching = threading.Event()

        def main() -> None:
            while not stop.wait(WATCH_INTERVAL):
                guard.watch()
                if guard.lost:
                    self._reactor.callFromThread(self._has_lost, guard)
                    return

        threading.Thread(target=main, name="ledger-guard", daemon=True).start()

    def _has_lost(self, guard: Guard | Presence) -> None:
        if self._place is not None and self._guard is guard:
            self._place.lost(guard.lost)

    def _fire(self, calls: list[_Call], rings: Rings | None = None) -> None:
        for call in calls:
            if not isinstance(call.error, LedgerUnavailable):
                self.failing_since = None
            elif self.failing_since is None:
                self.failing_since = self._now()
                self._log.error("the database fails: {reason}", reason=call.error)
            call.fire()
        if self._ringing is not None and rings is not None:
            self._ringing.committed(rings)

    # -- in the ledger's threads -------------------------------------------------------------------------------------

    def _done(self, calls: list[_Call], rings: Rings | None = None) -> None:
        self._reactor.callFromThread(self._fire, calls, rings)

    def _open_database(self, writer: Engine, guard: Guard | Presence | None, opened: Deferred[None]) -> None:
        try:
            if self._url.get_backend_name() == "sqlite":
                create_file(Path(str(self._url.database)))
            if guard is None:
                self._upgrade_beside(writer)
            else:
                check_server(self._url)
                guard.start(writer)
        except BaseException as error:
            self._reactor.callFromThread(opened.errback, translated(error))
        else:
            self._reactor.callFromThread(opened.callback, None)

    def _upgrade_beside(self, writer: Engine) -> None:
        """Bring the schema up to date, but not under an apiserver that works with the old one."""
        deadline = self._clock.monotonic() + UPGRADE_PATIENCE
        while True:
            with writer.connect() as connection, connection.begin():
                if not is_behind(connection):
                    return
            writer.dispose()
            if is_free(self._url):
                break
            # It may be just about to do it itself.
            if self._clock.monotonic() > deadline:
                raise LedgerUnavailable(
                    "the database has the schema of an older version of twistedipc, and an apiserver of that version "
                    "is running: restart it with this version first"
                )
            self._clock.sleep(0.1)
        with writer.connect() as connection, connection.begin():
            upgrade(connection)

    def _read_calls(self, engine: Engine) -> None:
        while (call := self._reads.take()) is not None:
            calls = [call]
            try:
                _read(engine, call)
            except BaseException as error:  # whatever it was, its Deferred must be told
                told = translated(error)
                if gone(error):
                    # What waits would wait for the same server as long again, one after the other.
                    calls += self._reads.take_all()
                for each in calls:
                    each.error = told if each is call else type(told)(str(told))
            self._done(calls)


def _read(engine: Engine, call: _Call) -> None:
    """Run what reads; once more, if the connection was one that the server had closed while nobody used it."""
    for again in (False, True):
        try:
            # Leaving the block rolls back: the snapshot is let go, and a write that slipped in is undone.
            with engine.connect() as connection:
                call.result = call.run(connection)
            return
        except StatementError as error:
            if again or not gone(error) or unanswered(error):
                raise


class _Brackets(Protocol):
    """What comes around each transaction that writes: `guard.Guard`, `presence.Presence` or `presence.Beside`."""

    others: bool  # whether apiservers may want to hear of it

    def check(self, connection: Connection) -> None:
        """First. Raises `LedgerLost`."""

    def end(self, connection: Connection) -> None:
        """Last, before the commit."""


class _Writer:
    """What the writer's thread does: it takes what waits, runs it, commits it, and says so. ``done`` gets a group."""

    _log = Logger()

    def __init__(
        self,
        engine: Engine,
        waiting: _Queue,
        done: Callable[[list[_Call], Rings | None], None],
        delay: float,
        brackets: _Brackets | None,
        clock: ThreadClock,
        *,
        ringing: Ringing | None,
    ) -> None:
        self._engine = engine
        self._brackets = brackets
        self._waiting = waiting
        self._done = done
        self._delay = delay
        self._clock = clock
        self._connection: Connection | None = None
        self._ringing = ringing
        self._rings: Rings | None = None  # what the group that is being run changes; None: nobody is told

    def run(self) -> None:
        """Until the queue is closed and empty."""
        while (call := self._waiting.take()) is not None:
            if self._delay:
                self._clock.sleep(self._delay)
            group = self._commit_group(call)
            self._done(group, self._rings)
        self._disconnect()

    def _commit_group(self, first: _Call) -> list[_Call]:
        """Run ``first`` and what else waits, with their outcomes set: each its own, or why there was no commit."""
        group = [first]
        self._rings = None if self._ringing is None else {}
        try:
            connection, transaction = self._begin()
        except BaseException as error:
            # The writes that wait would wait for the same lock as long again, group after group, and fail as well.
            group += self._waiting.take_all()
            self._give_up(group, error)
            return group
        deadline = self._clock.monotonic() + GROUP_SECONDS
        try:
            call = first
            while True:
                self._run(connection, call)
                if len(group) >= MAX_GROUP or self._clock.monotonic() >= deadline:
                    break
                following = self._waiting.take_now()
                if following is None:
                    break
                group.append(call := following)
            if self._ringing is not None and self._rings is not None:
                self._ringing.carry(connection, self._rings)
            if self._brackets is not None:
                self._brackets.end(connection)
            transaction.commit()
        except BaseException as error:  # whatever it was, their Deferreds must be told
            if gone(error):
                group += self._waiting.take_all()
            self._give_up(group, error)
        return group

    def _begin(self) -> tuple[Connection, RootTransaction]:
        """Begin a transaction; on a new connection, if the server had closed the last one while nobody used it."""
        while True:
            connection = self._connection
            is_new = connection is None
            if connection is None:
                connection = self._connection = self._engine.connect()
            try:
                transaction = connection.begin()
                if self._brackets is not None:
                    self._brackets.check(connection)  # (only with its first statement PostgreSQL's driver begins it)
                return connection, transaction
            except StatementError as error:
                if is_new or not gone(error) or unanswered(error):
                    raise
                self._disconnect()

    def _run(self, connection: Connection, call: _Call) -> None:
        # Not `begin_nested`, which makes up a name for each and compiles its statements again, which is slow.
        command(connection, "SAVEPOINT write")
        rings: Rings | None = None if self._rings is None else {}
        if rings is not None:
            collect(connection, rings)
        try:
            call.result = call.run(connection)
            if self._brackets is not None and self._brackets.others and not call.quiet:
                changes.note_write(connection)
            command(connection, "RELEASE SAVEPOINT write")
            if self._rings is not None and rings:
                add(self._rings, rings)
        except BaseException as error:  # whatever it was, its Deferred must be told
            call.error = translated(error)
            try:
                command(connection, "ROLLBACK TO SAVEPOINT write")
                command(connection, "RELEASE SAVEPOINT write")
            except SQLAlchemyError:
                # SQLite may have rolled back everything by itself (the disk was full): the SAVEPOINT is gone, and
                # the group with it, for the reason that this call had.
                raise error from None

    def _give_up(self, group: list[_Call], error: BaseException) -> None:
        self._rings = None
        self._disconnect()
        told = translated(error)
        if not isinstance(told, LedgerUnavailable):
            self._log.failure("a group of {count} writes was not committed", count=len(group))
            told = LedgerUnavailable(f"the database didn't commit: {told}")
        for call in group:
            call.error = type(told)(str(told))

    def _disconnect(self) -> None:
        """Drop the connection, whatever state it is in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


def read_beside(url: URL, query: Callable[[Connection], _T]) -> _T | None:
    """
    Return what a query gives, for a program without a reactor, beside an apiserver that may be running; None if there
    is no database yet, or its schema isn't this version's. Nothing is written. Raises `LedgerUnavailable`.
    """
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return None
    engine = engine_for(url, writes=False, busy_timeout=BUSY_TIMEOUT, clock=time)
    try:
        with engine.connect() as connection:
            return None if is_behind(connection) else query(connection)
    except SchemaTooNew:
        return None
    except Exception as error:
        raise translated(error) from error
    finally:
        engine.dispose()
