"""The ledger's threads, groups and failures, on real SQLite files."""

from __future__ import annotations

import resource
import sqlite3
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import TestCase

from tests import disk
from tests.storage_fixtures import NOW, add_build, add_project
from twistedipc.storage import builds, projects
from twistedipc.storage import ledger as ledger_module
from twistedipc.storage.errors import LedgerFault, NameTaken
from twistedipc.storage.ledger import GROUP_SECONDS, Ledger, LedgerUnavailable, LedgerUnusable, SchemaTooNew


def _note(connection: Connection, what: str, blob: bytes = b"") -> str:
    connection.execute(text("INSERT INTO notes VALUES (:what, :blob)"), {"what": what, "blob": blob})
    return what


def _notes(connection: Connection) -> list[str]:
    return [row[0] for row in connection.execute(text("SELECT what FROM notes ORDER BY rowid"))]


def _make_notes(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE notes (what TEXT UNIQUE, blob BLOB)"))


def outcomes(waiting: Iterable[Deferred[Any]]) -> Deferred[list[Any]]:
    """The outcome of each: its result, or the exception that it fails with."""
    return gatherResults([each.addErrback(lambda failure: failure.value) for each in waiting])


class StoppedClock:
    """A clock on which no time passes by itself."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class LedgerCase(TestCase):
    """A ledger that is open, with a table to try things on."""

    def path_for_it(self) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name) / "it"

    async def open(self, **options: Any) -> Ledger:
        self.now = NOW
        self.path = self.path_for_it()
        ledger = Ledger(IReactorFromThreads(reactor), f"sqlite:///{self.path}", now=lambda: self.now, **options)
        await ledger.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(ledger.close()))
        await ledger.write(_make_notes)
        return ledger

    def count_commits(self) -> list[None]:
        """A list that grows by one for each COMMIT."""
        commits: list[None] = []

        def committed(connection: Connection) -> None:
            commits.append(None)

        event.listen(Engine, "commit", committed)
        self.addCleanup(event.remove, Engine, "commit", committed)
        return commits


class WritingTests(LedgerCase):
    async def test_a_write_is_on_disk_when_it_fires_and_reads_see_it(self) -> None:
        ledger = await self.open()
        self.assertEqual(await ledger.write(_note, "a", blob=b"x"), "a")
        self.assertEqual(await ledger.read(_notes), ["a"])
        other = sqlite3.connect(self.path)
        self.addCleanup(other.close)
        self.assertEqual(other.execute("SELECT what FROM notes").fetchall(), [("a",)])

    async def test_queries_run_off_the_reactors_thread_and_results_come_in_it(self) -> None:
        ledger = await self.open()
        names = [await ledger.write(lambda _: threading.current_thread().name)]
        names.append(await ledger.read(lambda _: threading.current_thread().name))
        self.assertEqual(names[0], "ledger-write")
        self.assertIn("ledger-read-", names[1])
        self.assertIs(threading.current_thread(), threading.main_thread())

    async def test_what_waits_is_committed_in_one_group_in_order(self) -> None:
        ledger = await self.open(clock=StoppedClock())
        commits = self.count_commits()
        go = threading.Event()
        held = ledger.write(lambda _: go.wait(10))
        writes = [ledger.write(_note, f"{n}") for n in range(200)]
        order: list[str] = []
        for write in writes:
            write.addCallback(order.append)
        go.set()
        await outcomes([held, *writes])
        self.assertEqual(order, [f"{n}" for n in range(200)])
        self.assertEqual(await ledger.read(_notes), order)
        self.assertLessEqual(len(commits), 2)  # the write that was held may have gone by itself

    async def test_a_group_takes_no_more_after_its_time(self) -> None:
        clock = StoppedClock()
        ledger = await self.open(clock=clock)
        go = threading.Event()
        held = ledger.write(lambda _: go.wait(10))
        commits = self.count_commits()

        def slow(connection: Connection) -> None:
            clock.time += 0.6 * GROUP_SECONDS

        writes = [ledger.write(slow) for _ in range(10)]
        go.set()
        await outcomes([held, *writes])
        self.assertIn(len(commits), (5, 6))  # two slow writes fill a group

    async def test_the_failure_of_one_write_undoes_no_other(self) -> None:
        ledger = await self.open()

        def spoil(connection: Connection) -> None:
            _note(connection, "undone")
            raise LookupError("mine")

        writes: list[Deferred[Any]] = [
            ledger.write(_note, "a"),
            ledger.write(spoil),
            ledger.write(lambda connection: connection.execute(text("no SQL"))),
            ledger.write(_note, "b"),
        ]
        results = await outcomes(writes)
        self.assertEqual((results[0], results[3]), ("a", "b"))
        self.assertIsInstance(results[1], LookupError)
        self.assertIsInstance(results[2], LedgerFault)
        self.assertEqual(await ledger.read(_notes), ["a", "b"])

    async def test_a_nested_querys_own_error_comes_as_it_is(self) -> None:
        ledger = await self.open()
        await ledger.write(add_project)
        with self.assertRaises(NameTaken):
            await ledger.write(add_project)
        build = await ledger.write(add_build)
        self.assertEqual(await ledger.read(builds.get, build.id), build)

    async def test_cancelling_stops_listening_and_undoes_nothing(self) -> None:
        ledger = await self.open()
        go = threading.Event()
        held = ledger.write(lambda _: go.wait(10))
        write = ledger.write(_note, "a")
        write.cancel()
        go.set()
        await held
        with self.assertRaises(CancelledError):
            await write
        await ledger.write(_note, "b")
        self.assertEqual(await ledger.read(_notes), ["a", "b"])

    async def test_a_delay_gathers_company(self) -> None:
        ledger = await self.open(group_delay=0.05)
        commits = self.count_commits()
        writes = [ledger.write(_note, f"{n}") for n in range(10)]
        await gatherResults(writes)
        self.assertEqual(len(commits), 1)

    async def test_reads_go_on_while_a_write_takes_long(self) -> None:
        ledger = await self.open()
        go = threading.Event()
        held = ledger.write(lambda connection: (_note(connection, "a"), go.wait(10)))
        self.assertEqual(await ledger.read(_notes), [])
        go.set()
        await held
        self.assertEqual(await ledger.read(_notes), ["a"])

    async def test_a_read_cannot_write(self) -> None:
        ledger = await self.open()
        with self.assertRaises(LedgerUnavailable):
            await ledger.read(_note, "a")
        self.assertEqual(await ledger.read(_notes), [])


class ReadingTests(LedgerCase):
    async def hold_readers(self, ledger: Ledger) -> tuple[threading.Event, list[Deferred[Any]]]:
        """Keep all readers busy until the event is set."""
        go, begun = threading.Event(), threading.Semaphore(0)

        def hold(_: Connection, number: int) -> None:
            begun.release()
            go.wait(10)

        held = [ledger.read(hold, number) for number in range(ledger_module._READERS)]
        for _ in held:
            self.assertTrue(begun.acquire(timeout=10))
        return go, held

    async def test_the_same_question_that_waits_many_times_is_asked_once(self) -> None:
        ledger = await self.open()
        asked: list[str] = []

        def ask(connection: Connection, what: str, *, again: int = 0) -> list[str]:
            asked.append(what)
            return [what, *_notes(connection)]

        go, held = await self.hold_readers(ledger)
        same = [ledger.read(ask, "a") for _ in range(50)]
        other = [ledger.read(ask, "b"), ledger.read(ask, "a", again=1)]
        same[7].cancel()
        await ledger.write(_note, "meanwhile")
        same.append(ledger.read(ask, "a"))
        go.set()
        results = await outcomes([*same, *other])
        self.assertIsInstance(results.pop(7), CancelledError)
        self.assertEqual(results, [["a", "meanwhile"]] * 50 + [["b", "meanwhile"], ["a", "meanwhile"]])
        self.assertEqual(sorted(asked), ["a", "a", "b"])
        await outcomes(held)

    async def test_a_question_that_is_being_asked_is_asked_again(self) -> None:
        """The first answer may be older than a write that the next caller has seen done."""
        ledger = await self.open()
        begun, go = threading.Event(), threading.Event()

        def ask(connection: Connection) -> list[str]:
            notes = _notes(connection)
            begun.set()
            go.wait(10)
            return notes

        first = ledger.read(ask)
        self.assertTrue(begun.wait(10))
        await ledger.write(_note, "a")
        second = ledger.read(ask)
        go.set()
        self.assertEqual(await outcomes([first, second]), [[], ["a"]])

    async def test_all_callers_of_one_question_hear_of_its_failure(self) -> None:
        ledger = await self.open()

        def fail(_: Connection) -> None:
            raise LookupError("not there")

        go, held = await self.hold_readers(ledger)
        asked = [ledger.read(fail) for _ in range(3)]
        go.set()
        self.assertEqual([str(result) for result in await outcomes(asked)], ["not there"] * 3)
        await outcomes(held)

    async def test_what_can_not_be_compared_is_asked_each_time(self) -> None:
        ledger = await self.open()
        go, held = await self.hold_readers(ledger)
        asked = [ledger.read(lambda _, names: names, [str(n)]) for n in range(3)]
        go.set()
        self.assertEqual(await outcomes(asked), [["0"], ["1"], ["2"]])
        await outcomes(held)

    async def test_the_callers_that_wait_for_one_answer_are_bounded_too(self) -> None:
        ledger = await self.open()
        self.patch(ledger_module, "MAX_WAITING", 5)
        go, held = await self.hold_readers(ledger)
        asked = [ledger.read(_notes) for _ in range(5)]
        self.failureResultOf(ledger.read(_notes), LedgerUnavailable)
        go.set()
        await outcomes([*asked, *held])
        self.assertEqual(await ledger.read(_notes), [])


class OpeningTests(LedgerCase):
    async def test_the_file_is_private(self) -> None:
        await self.open()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.with_name(self.path.name + "-wal").stat().st_mode & 0o777, 0o600)

    async def test_close_finishes_what_waits_and_what_was_committed_is_there_again(self) -> None:
        ledger = await self.open()
        writes = [ledger.write(_note, f"{n}") for n in range(50)]
        await ledger.close()
        self.assertEqual([self.successResultOf(write) for write in writes], [f"{n}" for n in range(50)])
        await ledger.close()
        for late in (ledger.write(_note, "late"), ledger.read(_notes)):
            self.failureResultOf(late, LedgerUnavailable)
        await ledger.open()
        self.assertEqual(len(await ledger.read(_notes)), 50)

    async def test_settings_that_durability_rests_on(self) -> None:
        def settings(connection: Connection) -> list[Any]:
            names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

        with disk.as_it_is():
            ledger = await self.open()
            self.assertEqual(await ledger.write(settings), ["wal", 2, 1, 5000])

    async def test_a_newer_schema_is_refused(self) -> None:
        ledger = await self.open()
        await ledger.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
        await ledger.close()
        with self.assertRaises(SchemaTooNew) as refused:
            await ledger.open()
        self.assertIn("9999", str(refused.exception))
        self.failureResultOf(ledger.read(_notes), LedgerUnavailable)

    async def test_a_folder_that_is_missing_and_a_file_that_is_no_database(self) -> None:
        folder = self.path_for_it()
        ledger = Ledger(IReactorFromThreads(reactor), f"sqlite:///{folder}/ledger.sqlite", now=lambda: NOW)
        with self.assertRaises(LedgerUnusable) as refused:
            await ledger.open()
        self.assertIn("No such file", str(refused.exception))
        folder.mkdir()
        (folder / "ledger.sqlite").write_bytes(b"what is this? " * 1000)
        with self.assertRaises(LedgerUnusable) as refused:
            await ledger.open()
        self.assertIn("isn't a database", str(refused.exception))

    def test_a_database_in_memory_is_refused(self) -> None:
        for url in ("sqlite://", "sqlite:///:memory:"):
            with self.assertRaises(ValueError):
                Ledger(IReactorFromThreads(reactor), url, now=lambda: NOW)

    async def test_it_opens_once(self) -> None:
        ledger = await self.open()
        with self.assertRaises(RuntimeError):
            await ledger.open()
        self.assertEqual(await ledger.read(_notes), [])


class FailingTests(LedgerCase):
    async def test_locked_by_another_program(self) -> None:
        ledger = await self.open(busy_timeout=0.05)
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.now = NOW + 1
        for result in await outcomes([ledger.write(_note, f"{n}") for n in range(3)]):
            self.assertIs(type(result), LedgerUnavailable)  # it passes
            self.assertIn("locked", str(result))
        self.assertEqual(ledger.failing_since, NOW + 1)
        self.assertEqual(await ledger.read(_notes), [])  # reading needs no lock
        other.execute("ROLLBACK")
        await ledger.write(_note, "a")
        self.assertIsNone(ledger.failing_since)
        self.assertEqual(await ledger.read(_notes), ["a"])

    async def test_a_full_database(self) -> None:
        ledger = await self.open()
        pages = await ledger.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one())

        def limited(connection: Any, record: object) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages + 20}")

        event.listen(Engine, "connect", limited)
        try:
            await ledger.close()
            await ledger.open()
            writes = [ledger.write(_note, f"{n}", bytes(20_000)) for n in range(20)]
            results = await outcomes(writes)
            failures = [result for result in results if isinstance(result, Exception)]
            self.assertTrue(failures)
            for failure in failures:
                self.assertIsInstance(failure, LedgerUnavailable)
                self.assertIn("full", str(failure))
            stored = await ledger.read(_notes)
            self.assertEqual(stored, [result for result in results if isinstance(result, str)])
            with self.assertRaises(LedgerUnavailable):
                await ledger.write(_note, "big", bytes(200_000))
            self.assertIsNotNone(ledger.failing_since)
        finally:
            event.remove(Engine, "connect", limited)
        await ledger.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1000000").scalar())
        await ledger.write(_note, "big", bytes(200_000))
        self.assertEqual(await ledger.read(_notes), [*stored, "big"])

    async def test_a_commit_that_cannot_be_written_fails_its_whole_group(self) -> None:
        ledger = await self.open()
        await ledger.write(_note, "before")
        wal = self.path.with_name(self.path.name + "-wal").stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # No file of this process may grow past the write-ahead log's size, as if the disk were full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal, hard))
        try:
            results = await outcomes([ledger.write(_note, f"{n}") for n in range(3)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        for result in results:
            self.assertIsInstance(result, LedgerUnavailable)
        self.assertEqual(await ledger.read(_notes), ["before"])
        await ledger.write(_note, "after")
        self.assertEqual(await ledger.read(_notes), ["before", "after"])

    async def test_too_much_waiting(self) -> None:
        ledger = await self.open()
        self.patch(ledger_module, "MAX_WAITING", 5)
        go = threading.Event()
        begun = threading.Event()

        def hold(connection: Connection) -> None:
            begun.set()
            go.wait(10)

        held = ledger.write(hold)
        begun.wait(10)
        waiting = [ledger.write(_note, f"{n}") for n in range(5)]
        failure = self.failureResultOf(ledger.write(_note, "too much"), LedgerUnavailable)
        self.assertIn("overloaded", failure.getErrorMessage())
        go.set()
        await outcomes([held, *waiting])
        await ledger.write(_note, "again")

    async def test_a_query_that_ends_the_transaction_itself_fails_its_group_and_no_more(self) -> None:
        ledger = await self.open()

        def vandal(connection: Connection) -> None:
            _note(connection, "undone")
            connection.exec_driver_sql("ROLLBACK")
            raise LookupError("gone")

        with self.assertRaises(LedgerUnavailable):
            await ledger.write(vandal)
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)
        await ledger.write(_note, "a")
        self.assertEqual(await ledger.read(_notes), ["a"])


class ManyTests(LedgerCase):
    async def test_many_writers_and_readers_at_once(self) -> None:
        ledger = await self.open()
        await ledger.write(add_project)
        made = await gatherResults([ledger.write(add_build, now=NOW + n) for n in range(100)])
        pages = await gatherResults(
            [ledger.read(builds.list_page, projects=None, states=None, before=None, limit=n) for n in range(1, 101)]
        )
        newest_first = sorted((build.id for build in made), reverse=True)
        self.assertEqual([[build.id for build in page] for page in pages], [newest_first[:n] for n in range(1, 101)])
        project = await ledger.read(projects.get, "shop")
        self.assertIsNotNone(project)
