"""Logs are sealed in the background: wholly, slowly, and whatever fails meanwhile; their readers don't notice."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import delete, func, select, update
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.instant import InstantLedger
from tests.storage_fixtures import HOLDER, NOW, add_build, add_project, database, run
from tests.test_storage_sealed import append, read_all, seal_one, some_log
from twistedipc.attempts.crashpoints import VARIABLE, CrashPoint
from twistedipc.builds.attempt import Result
from twistedipc.builds.logs import Gap, Lines, batch_decoder, encoder
from twistedipc.sealed.chunk import CHUNK_BYTES
from twistedipc.server.archived import Archived
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.filing import COLLECT_AFTER, InThreads
from twistedipc.server.sealing import COLLECT_EVERY, DEFAULT_SHARE, INTERVAL, Sealing
from twistedipc.server.workflows import Workflows
from twistedipc.storage import attempts, logs, sealed_logs
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.log_archive import Archives, Kind, LogArchive
from twistedipc.storage.logs import ChunkItem
from twistedipc.storage.tables import attempts as attempts_table
from twistedipc.storage.tables import log_chunks, sealed_chunks
from twistedipc.taps.config import Logs

_T = TypeVar("_T")


class World:
    """Some logs in a ledger, and what seals them, on a clock that goes on by what work takes."""

    def __init__(self, folder: Path, files: bool = False, takes: float = 0.0) -> None:
        self.clock = Clock()
        self.ledger = InstantLedger()
        self.ledger.now(add_project)
        self.archive = LogArchive(folder / "logs")
        self.workflows = Workflows(self.clock)
        self.takes = takes  # seconds for which a thread works
        self.worked = 0.0
        self.passed = 0.0  # seconds since `NOW`
        self.fails: BaseException | None = None
        self.sealing = self.new_sealing(files)

    def new_sealing(self, files: bool) -> Sealing:
        return Sealing(
            clock=self.clock,
            now=lambda: NOW + round(1000 * self.passed),
            ledger=self.ledger.as_ledger(),
            workflows=self.workflows,
            in_thread=self.in_thread,
            archived=self.archived(),
            archives={Kind.FILES: InThreads(self.archive, self.in_thread)},
            kind=Kind.FILES if files else None,
        )

    def archived(self) -> Archived:
        return Archived(self.clock, self.ledger.as_ledger(), files=self.archive)

    def in_thread(self, function: Callable[..., _T], /, *args: Any) -> Deferred[_T]:
        if self.fails is not None:
            return fail(self.fails)
        self.clock.rightNow += self.takes
        self.worked += self.takes
        return succeed(function(*args))

    def add_log(self, size: int, over: bool = True) -> str:
        """Store a log of about this many bytes. Return its attempt."""
        name = f"{self.ledger.now(add_build).id}-1"
        self.ledger.now(run, name, HOLDER.lease)
        first = 1
        while size > 0:
            batch = Lines(first=first, time=NOW, step=0, lines=[f"{first + n} src/{n}.ts is built" for n in range(500)])
            data = encoder.encode(batch) + b"\n"
            self.ledger.now(logs.append, [ChunkItem(attempt=name, first=first, count=500, data=data)])
            first, size = batch.end, size - len(data)
        if over:
            self.ledger.now(attempts.lose, name, HOLDER, "gone", NOW)
        return name

    def count(self, table: Any) -> int:
        return self.ledger.now(lambda connection: connection.scalar(select(func.count()).select_from(table))) or 0

    def filed(self) -> list[str]:
        """The attempts that the archive has something of."""
        return sorted(name for part in self.archive.parts() for name in self.archive.attempts(part))

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def rounds(self, count: int) -> None:
        """So many rounds, from one pause to another."""
        for _ in range(count):
            self.advance(INTERVAL)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.sealing.stop()


def test_all_that_has_ended_is_sealed(world: World) -> None:
    names = [world.add_log(size) for size in (100, 3 * CHUNK_BYTES, 100)]
    goes_on = world.add_log(1000, over=False)
    before = {name: world.ledger.now(logs.verify, name) for name in [*names, goes_on]}
    world.sealing.start()
    world.advance(INTERVAL)
    assert world.count(log_chunks) == 1
    assert world.count(sealed_chunks) >= 5
    assert {name: world.ledger.now(logs.verify, name) for name in [*names, goes_on]} == before
    world.ledger.now(attempts.lose, goes_on, HOLDER, "gone", NOW)
    world.advance(INTERVAL)
    assert world.count(log_chunks) == 0


def test_sealing_takes_its_share_of_the_time(tmp_path: Path) -> None:
    assert Logs().share == DEFAULT_SHARE
    world = World(tmp_path, takes=0.05)
    world.add_log(20 * CHUNK_BYTES)
    world.sealing.start()
    world.advance(INTERVAL)
    began, worked = world.clock.seconds(), world.worked
    while world.count(log_chunks):
        world.advance(0.01)
    share = (world.worked - worked) / (world.clock.seconds() - began)
    assert DEFAULT_SHARE * 0.7 < share <= DEFAULT_SHARE
    world.sealing.stop()


def test_a_stop_is_at_once_and_a_start_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path, takes=0.05)
    name = world.add_log(5 * CHUNK_BYTES)
    before = world.ledger.now(logs.verify, name)
    world.sealing.start()
    world.advance(INTERVAL)
    assert world.count(sealed_chunks) == 1
    world.sealing.stop()
    assert len(world.workflows) == 0
    assert not world.clock.getDelayedCalls()
    assert world.ledger.now(logs.verify, name) == before
    world.sealing = world.new_sealing(files=False)
    world.sealing.start()
    world.advance(INTERVAL)
    while world.count(log_chunks):
        world.advance(1)
    assert world.ledger.now(logs.verify, name) == before
    world.sealing.stop()


@pytest.mark.parametrize("what", ["the file's disk", "the database's"])
def test_a_disk_that_is_full_loses_nothing(tmp_path: Path, what: str) -> None:
    world = World(tmp_path, files=True)
    name = world.add_log(2 * CHUNK_BYTES)
    before = world.ledger.now(logs.verify, name)
    if what == "the file's disk":
        world.fails = OSError(errno.ENOSPC, "No space left on device")
    else:
        world.ledger.available = False
    world.sealing.start()
    world.advance(INTERVAL)
    world.advance(INTERVAL)
    world.fails, world.ledger.available = None, True
    assert world.count(sealed_chunks) == 0
    assert world.ledger.now(logs.verify, name) == before
    world.advance(INTERVAL)
    assert world.count(log_chunks) == 0
    assert world.ledger.now(logs.verify, name, Archives(world.archive)) == before
    world.sealing.stop()


class FullDisk:
    """A disk that has room for so many bytes more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = os.write(descriptor, data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


@pytest.mark.parametrize("room", [0, 1, 5000, 12_000])
def test_a_disk_that_fills_in_the_middle_of_a_chunk(tmp_path: Path, room: int) -> None:
    world = World(tmp_path, files=True)
    name = world.add_log(3 * CHUNK_BYTES)
    before = world.ledger.now(logs.verify, name)
    disk: Any = FullDisk(room)
    world.archive = LogArchive(tmp_path / "logs", disk)
    world.sealing = world.new_sealing(files=True)
    world.sealing.start()
    world.advance(INTERVAL)
    assert world.count(log_chunks) > 0
    assert world.ledger.now(logs.verify, name, Archives(world.archive)) == before
    disk.room = 1 << 30
    world.advance(INTERVAL)
    assert world.count(log_chunks) == 0
    assert world.ledger.now(logs.verify, name, Archives(world.archive)) == before
    world.sealing.stop()


@pytest.mark.parametrize("data", [b"[]\n", b'{"type":"lines","first":1,"time":1,"step":0,"lines":[]}\n'])
def test_a_log_that_cannot_be_sealed_stays_and_holds_nobody_up(world: World, data: bytes) -> None:
    bad, good = world.add_log(100), world.add_log(100)
    build = bad.partition("-")[0]
    nonsense = update(log_chunks).where(log_chunks.c.build_id == int(build)).values(data=data)
    world.ledger.now(lambda connection: connection.execute(nonsense).rowcount)
    world.sealing.start()
    for _ in range(3):
        world.advance(INTERVAL)
    assert world.count(log_chunks) == 1
    assert world.ledger.now(sealed_logs.next_unsealed, "") == sealed_logs.Unsealed(attempt=bad, over=True)
    assert world.ledger.now(logs.verify, good)[0] == 500


def test_a_file_that_cannot_be_written_holds_no_other_log_up(tmp_path: Path) -> None:
    world = World(tmp_path, files=True)
    bad, *others = [world.add_log(100) for _ in range(3)]
    world.archive.begin(os.urandom(8).hex())
    in_its_way = tmp_path / "logs" / "000000" / f"{bad}.log"
    in_its_way.mkdir(parents=True)
    world.sealing.start()
    world.advance(INTERVAL)
    assert world.count(log_chunks) == 1
    assert all(world.ledger.now(logs.verify, name, Archives(world.archive))[0] == 500 for name in [bad, *others])
    in_its_way.rmdir()
    world.advance(INTERVAL)
    assert world.count(log_chunks) == 0
    world.sealing.stop()


def test_files_that_nothing_names_are_removed(tmp_path: Path) -> None:
    """A while after the start, slowly, and a day after somebody has put something there."""
    world = World(tmp_path, files=True)
    kept, removed = world.add_log(100), world.add_log(100)
    world.ledger.now(sealed_logs.keep_archive_mark, world.archive.begin(os.urandom(8).hex()), Kind.FILES)
    left = [f"{build}-1" for build in range(1001, 1121)]
    for name in left:
        world.archive.put(name, 0, b"left by a kill before its transaction")
    world.sealing.start()
    world.rounds(1)
    while world.ledger.now(sealed_logs.remove, removed, 1 << 20):
        pass
    all_of_it = sorted([kept, removed, *left])
    assert world.filed() == all_of_it
    world.rounds(COLLECT_EVERY - 2)
    assert world.filed() == all_of_it
    for file in (tmp_path / "logs").glob("*/*.log"):
        os.utime(file, (NOW / 1000, NOW / 1000))
    world.rounds(COLLECT_EVERY)
    assert world.filed() == all_of_it
    world.passed, world.takes = COLLECT_AFTER + 1, 0.01
    world.rounds(1)
    began, worked = world.clock.seconds(), world.worked
    while world.filed() != [kept]:
        assert world.clock.seconds() < began + 1000
        world.advance(0.05)
    assert world.worked - worked <= 2 * DEFAULT_SHARE * (world.clock.seconds() - began)
    world.sealing.stop()


def test_no_file_is_removed_where_another_archive_is(tmp_path: Path) -> None:
    world = World(tmp_path, files=True)
    world.add_log(100)
    world.sealing.start()
    world.rounds(1)
    (tmp_path / "logs").rename(tmp_path / "unmounted")
    world.archive.begin(os.urandom(8).hex())
    world.archive.put("99-1", 0, b"another ledger's")
    world.passed = time.time()
    world.rounds(2 * COLLECT_EVERY)
    assert world.filed() == ["99-1"]
    world.sealing.stop()


def test_an_archive_that_is_not_mounted_is_waited_for(tmp_path: Path) -> None:
    """Nothing is written below the place to mount it at, nothing is called damaged, and it goes on afterwards."""
    world = World(tmp_path, files=True)
    old = world.add_log(100)
    world.sealing.start()
    world.advance(INTERVAL)
    (tmp_path / "logs").rename(tmp_path / "unmounted")
    (tmp_path / "logs").mkdir()
    new = world.add_log(100)
    before = {name: world.ledger.now(logs.next_record, name) for name in (old, new)}
    world.advance(INTERVAL)
    assert list((tmp_path / "logs").iterdir()) == []
    assert world.count(log_chunks) == 1
    store = LogStore(world.clock, world.ledger.as_ledger(), archived=world.archived())
    failures: list[Failure] = []
    Deferred.fromCoroutine(store.read(old, 1)).addErrback(failures.append)
    assert failures[0].check(LedgerUnavailable)
    assert "is it mounted" in str(failures[0].value)
    (tmp_path / "logs").rmdir()
    (tmp_path / "unmounted").rename(tmp_path / "logs")
    world.advance(INTERVAL)
    assert world.count(log_chunks) == 0
    for name in (old, new):
        assert world.ledger.now(logs.verify, name, Archives(world.archive))[0] == before[name] - 1
    assert not any(world.ledger.now(lambda connection: connection.scalars(select(sealed_chunks.c.damaged)).all()))
    world.sealing.stop()


def test_a_reader_of_a_damaged_log_gets_a_gap_and_no_complete_end(world: World) -> None:
    name = world.add_log(3 * CHUNK_BYTES)
    lines, sha256 = world.ledger.now(logs.verify, name)
    whole = update(attempts_table).values(complete=True, sha256=sha256, lines=lines)
    world.ledger.now(lambda connection: connection.execute(whole).rowcount)
    world.sealing.start()
    world.advance(INTERVAL)
    bad = world.ledger.now(
        lambda connection: connection.execute(select(sealed_chunks).order_by(sealed_chunks.c.first_record)).all()[1]
    )
    flipped = bad.data[:99] + bytes([bad.data[99] ^ 1]) + bad.data[100:]
    this = sealed_chunks.c.first_record == bad.first_record
    world.ledger.now(
        lambda connection: connection.execute(update(sealed_chunks).where(this).values(data=flipped)).rowcount
    )
    store = LogStore(world.clock, world.ledger.as_ledger())
    messages = read_with(store, name)
    end = bytes(messages.pop())
    assert b'"complete":false' in end
    batches = [batch_decoder.decode(message) for message in messages]
    (gap,) = [batch for batch in batches if isinstance(batch, Gap)]
    assert (gap.first, gap.end) == (bad.first_record, bad.first_record + bad.records)
    assert sum(batch.end - batch.first for batch in batches) == lines
    row = world.ledger.now(attempts.get, name)
    assert row is not None
    assert not row.complete
    before = world.ledger.writes
    assert bytes(read_with(store, name).pop()) == end
    assert world.ledger.writes == before, "it is written down once"


@pytest.mark.parametrize("sealed", [False, True])
def test_a_reader_gets_a_gap_for_what_is_not_stored(world: World, sealed: bool) -> None:
    """Also at the front of a log, and within it; and no digest is made of the rest."""
    name = world.add_log(4 * CHUNK_BYTES)
    lines, _sha256 = world.ledger.now(logs.verify, name)
    if sealed:
        world.sealing.start()
        world.advance(INTERVAL)
    table = sealed_chunks if sealed else log_chunks
    rows = world.ledger.now(lambda connection: connection.execute(select(table).order_by(table.c.first_record)).all())
    gone = [rows[0], rows[2]]
    which = table.c.first_record.in_([row.first_record for row in gone])
    world.ledger.now(lambda connection: connection.execute(delete(table).where(which)).rowcount)
    store = LogStore(world.clock, world.ledger.as_ledger())
    batches = [batch_decoder.decode(message) for message in read_with(store, name)[:-1]]
    gaps = [batch for batch in batches if isinstance(batch, Gap)]
    assert [(gap.first, gap.end - gap.first) for gap in gaps] == [(row.first_record, row.records) for row in gone]
    assert [batch.first for batch in batches] == [1, *(batch.end for batch in batches[:-1])]
    assert batches[-1].end == lines + 1
    assert world.ledger.now(logs.verify, name) == (lines, "")


def read_with(store: LogStore, attempt: str) -> list[bytes]:
    """Read a log to its end, as a viewer does."""
    cursor = store.cursor(attempt, 0, lambda: None)
    found: list[bytes] = []
    while True:
        run = cursor.take(1 << 16)
        if run is None:
            Deferred.fromCoroutine(cursor.fetch()).addErrback(lambda failure: failure.raiseException())
            continue
        found += [entry.message for entry in run]
        if run.final:
            cursor.close()
            return found


def test_a_log_is_never_called_complete_that_was_damaged_while_it_went_on(world: World) -> None:
    name = world.add_log(8 * CHUNK_BYTES, over=False)
    world.sealing.start()
    world.advance(INTERVAL)
    assert world.count(sealed_chunks) > 0
    assert world.ledger.now(sealed_logs.note_damaged, name, 1)
    lines, sha256 = world.ledger.now(logs.verify, name)
    result = Result(outcome="failed", lines=lines, sha256=sha256, started=NOW, ended=NOW)
    row = world.ledger.now(attempts.finish, name, HOLDER, result, True, NOW)
    assert row is not None
    assert not row.complete


#: Seals all logs of a ledger's file, and dies where the environment says.
SEALS = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twistedipc.server import filing, sealing
from twistedipc.server.workflows import Workflows
from twistedipc.storage import sealed_logs
from twistedipc.storage.ledger import Ledger
from twistedipc.server.archived import Archived
from twistedipc.storage.log_archive import Kind, LogArchive

sealing.INTERVAL = 0
folder = Path(sys.argv[1])
archive = LogArchive(folder / "logs")

async def main():
    ledger = Ledger(reactor, f"sqlite:///{folder / 'ledger.sqlite'}", now=lambda: 1)
    await ledger.open()
    task = sealing.Sealing(
        clock=reactor, now=lambda: 1, ledger=ledger, workflows=Workflows(reactor), in_thread=deferToThread,
        archived=Archived(reactor, ledger), archives={Kind.FILES: filing.InThreads(archive, deferToThread)},
        kind=Kind.FILES if sys.argv[2] == "files" else None, share=1.0,
    )
    task.start()
    while await ledger.read(sealed_logs.next_unsealed, "") is not None:
        await deferLater(reactor, 0.005)
    task.stop()
    await ledger.close()
    reactor.stop()

Deferred.fromCoroutine(main())
reactor.run()
"""


@pytest.mark.parametrize(
    ("where", "point"),
    [
        ("files", CrashPoint.APISERVER_CHUNK_MADE),
        ("files", CrashPoint.APISERVER_CHUNK_FILED),
        ("files", CrashPoint.APISERVER_CHUNK_REPLACED),
        pytest.param("database", CrashPoint.APISERVER_CHUNK_MADE, marks=pytest.mark.long),
        pytest.param("database", CrashPoint.APISERVER_CHUNK_REPLACED, marks=pytest.mark.long),
    ],
)
def test_a_kill_at_every_write(tmp_path: Path, where: str, point: CrashPoint) -> None:
    """It is killed as it seals the second part, and then goes on."""
    batches = some_log(4 * CHUNK_BYTES, random.Random(8))
    with database(tmp_path) as connection:
        add_project(connection)
        add_build(connection)
        run(connection, "1-1")
        append(connection, batches)
        attempts.lose(connection, "1-1", HOLDER, "gone", NOW)
        before = logs.verify(connection, "1-1")
    environment = {**os.environ, VARIABLE: f"{point}#2"}
    process = subprocess.run(
        [sys.executable, "-c", SEALS, str(tmp_path), where], env=environment, timeout=60, check=False
    )
    assert process.returncode == -signal.SIGKILL
    archive = LogArchive(tmp_path / "logs")
    with database(tmp_path) as connection:
        assert connection.scalar(select(func.count()).select_from(sealed_chunks))
        assert connection.scalar(select(func.count()).select_from(log_chunks))
        assert logs.verify(connection, "1-1", Archives(archive)) == before
        while seal_one(connection, "1-1", archive if where == "files" else None):
            pass
        assert read_all(connection, "1-1", 1 << 20, archive) == [encoder.encode(batch) for batch in batches]
