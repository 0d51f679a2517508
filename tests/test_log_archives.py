"""Sealed logs outside of the database: what every archive promises, in a folder and in S3; and what faults of S3 do."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from sqlalchemy import Connection, func, select, update
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests import databases
from tests.instant import InstantLedger
from tests.s3_server import Between, new_place
from tests.storage_fixtures import HOLDER, NOW, add_build, add_project, database, run
from tests.test_server_sealing import World, read_with
from tests.test_storage_sealed import append, seal_one, some_log
from twistedipc.attempts.crashpoints import VARIABLE, CrashPoint
from twistedipc.builds.logs import Gap, batch_decoder
from twistedipc.s3.bucket import Bucket, Place
from twistedipc.sealed.chunk import CHUNK_BYTES, Damaged
from twistedipc.server.archived import KEPT_BYTES, MOST, PAUSE, Archived
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.filing import COLLECT_AFTER, InThreads
from twistedipc.server.sealing import COLLECT_EVERY, Sealing
from twistedipc.storage import attempts, log_parts, logs, sealed_logs
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.log_archive import Archive, Archives, Kind, LogArchive, NotFetched, NotHere, Wanted
from twistedipc.storage.log_objects import LogObjects, place_of
from twistedipc.storage.tables import attempts as attempts_table
from twistedipc.storage.tables import log_chunks, sealed_chunks

_T = TypeVar("_T")


@pytest.fixture(scope="module")
def place() -> Place:
    return new_place()


def within(place: Place, folder: Path) -> Place:
    """Return a part of the bucket that is this test's."""
    return Place(place.bucket, place.endpoint, "", f"{folder.name}/", place.access_key, place.secret_key)


@pytest.fixture(params=["files", "s3"])
def archive(request: pytest.FixtureRequest, tmp_path: Path, place: Place) -> Archive:
    return LogArchive(tmp_path / "logs") if request.param == "files" else LogObjects(Bucket(within(place, tmp_path)))


def test_an_archive_is_known_by_its_mark(archive: Archive) -> None:
    with pytest.raises(NotHere):
        archive.check("a mark")
    mark = archive.begin("an id")
    assert archive.begin("an id") == mark
    archive.check(mark)
    with pytest.raises(NotHere, match="another one than the ledger's"):
        archive.check("a mark")


def test_what_is_put_there_is_there(archive: Archive) -> None:
    archive.begin(os.urandom(8).hex())
    first, second = os.urandom(70_000), os.urandom(10)
    at = archive.put("12-1", 0, first)
    next = archive.put("12-1", len(first), second)
    again = archive.put("12-1", len(first), second)
    assert next == again, "a kill before the transaction had it done once more"
    assert archive.get("12-1", at, len(first)) == first
    assert archive.get("12-1", next, len(second)) == second
    other = archive.put("1200-3", 0, b"of another log")
    assert archive.get("1200-3", other, 14) == b"of another log"


def test_what_is_gone_is_damaged_and_nothing_else_is(archive: Archive) -> None:
    archive.begin(os.urandom(8).hex())
    at = archive.put("12-1", 0, b"first")
    other = archive.put("12-2", 0, b"second")
    archive.remove("12-1")
    with pytest.raises(Damaged, match="is gone"):
        archive.get("12-1", at, 5)
    assert archive.get("12-2", other, 6) == b"second"
    archive.remove("12-1")


def test_what_is_there_is_listed(archive: Archive) -> None:
    archive.begin(os.urandom(8).hex())
    assert archive.parts() == []
    for name in ("12-1", "12-10", "1-1", "5000-1"):
        archive.put(name, 0, name.encode())
    assert archive.parts() == ["000000", "000005"]
    assert sorted(archive.attempts("000000")) == ["1-1", "12-1", "12-10"]
    assert archive.attempts("000005") == ["5000-1"]
    assert archive.attempts("000005", 1000.0) == []
    archive.remove("12-1")
    assert sorted(archive.attempts("000000")) == ["1-1", "12-10"]


def test_what_was_put_there_since_is_not_removed(archive: Archive) -> None:
    archive.begin("an id")
    at = archive.put("12-1", 0, b"first")
    archive.remove("12-1", 1000.0)
    assert archive.get("12-1", at, 5) == b"first"


def test_a_place_in_s3_says_what_is_there(tmp_path: Path, place: Place) -> None:
    bucket = Bucket(within(place, tmp_path))
    archive = LogObjects(bucket)
    at = archive.put("12-1", 7, b"first")
    assert -(1 << 63) <= at < 0
    assert at == place_of(b"first")
    assert Kind.of(at) is Kind.OBJECTS
    (object,) = bucket.objects("logs/000000/12-1/")
    bucket.put(object.name, b"worst")
    with pytest.raises(Damaged, match="is another one"):
        archive.get("12-1", at, 5)


# -- sealing ---------------------------------------------------------------------------------------------------------


class S3World(World):
    """The same with S3, a fault between, and any place for what is sealed."""

    def __init__(self, folder: Path, place: Place, kind: Kind | None = Kind.OBJECTS, moves: bool = False) -> None:
        self.between = Between(within(place, folder))
        self.objects = LogObjects(self.between.bucket(tries=1))
        self.kind, self.moves = kind, moves
        self.reads: Archived = cast(Archived, None)
        super().__init__(folder)
        self.reads = Archived(
            self.clock,
            self.ledger.as_ledger(),
            files=self.archive,
            objects=self.objects,
            in_thread=self.in_thread,
        )
        self.sealing = self.new_sealing(False)

    def archived(self) -> Archived:
        return self.reads

    def in_thread(self, function: Callable[..., _T], /, *args: Any) -> Deferred[_T]:
        return maybeDeferred(super().in_thread, function, *args)  # a thread doesn't raise what its function raises

    def new_sealing(self, files: bool) -> Sealing:
        return Sealing(
            clock=self.clock,
            now=lambda: NOW + round(1000 * self.passed),
            ledger=self.ledger.as_ledger(),
            workflows=self.workflows,
            in_thread=self.in_thread,
            archived=self.reads,
            archives={
                Kind.FILES: InThreads(self.archive, self.in_thread),
                Kind.OBJECTS: InThreads(self.objects, self.in_thread),
            },
            kind=self.kind,
            moves=self.moves,
        )

    def seal_to(self, kind: Kind | None, moves: bool = True) -> None:
        """Stop, and go on with another configuration."""
        self.sealing.stop()
        self.kind, self.moves = kind, moves
        self.sealing = self.new_sealing(False)
        self.sealing.start()
        self.rounds(1)

    def places(self) -> list[str]:
        """Where the chunks are."""
        places = self.ledger.now(
            lambda connection: connection.scalars(
                select(sealed_chunks.c.place).order_by(sealed_chunks.c.build_id, sealed_chunks.c.first_record)
            ).all()
        )
        return ["database" if each is None else Kind.of(each).name for each in places]

    def read(self, query: Callable[..., _T], *args: Any, **more: Any) -> _T:
        found: list[_T] = []
        failures: list[Failure] = []
        Deferred.fromCoroutine(self.reads.read(query, *args, **more)).addCallbacks(found.append, failures.append)
        if failures:
            failures[0].raiseException()
        return found[0]

    def store(self) -> LogStore:
        return LogStore(self.clock, self.ledger.as_ledger(), archived=self.reads)


@pytest.fixture
def world(tmp_path: Path, place: Place) -> Iterator[S3World]:
    world = S3World(tmp_path, place)
    yield world
    world.sealing.stop()
    world.between.close()


def test_what_has_ended_goes_to_s3(world: S3World) -> None:
    names = [world.add_log(size) for size in (100, 2 * CHUNK_BYTES)]
    goes_on = world.add_log(6 * CHUNK_BYTES, over=False)
    before = {name: world.ledger.now(logs.verify, name) for name in [*names, goes_on]}
    world.sealing.start()
    world.rounds(1)
    assert set(world.places()) == {"OBJECTS"}
    assert {name: world.read(logs.verify, name) for name in names} == {name: before[name] for name in names}
    assert world.ledger.now(logs.verify, goes_on) == before[goes_on], "none of it is in S3 while it goes on"
    world.ledger.now(attempts.lose, goes_on, HOLDER, "gone", NOW)
    world.rounds(1)
    assert world.count(log_chunks) == 0
    assert world.read(logs.verify, goes_on) == before[goes_on]
    with pytest.raises(LedgerUnavailable, match=r"in S3 \(stores.s3\), and nobody says where"):
        world.ledger.now(logs.verify, goes_on)


def test_a_log_in_s3_is_searched_like_another(world: S3World) -> None:
    """All that a step needs is fetched at once, and what can't match isn't."""
    name = world.add_log(3 * CHUNK_BYTES)
    last = world.ledger.now(logs.next_record, name) - 1
    world.seal_to(None)
    wanted = world.ledger.now(log_parts.some_parts, name, 1, last, 1 << 20, newest=True)
    world.seal_to(Kind.OBJECTS)
    world.between.asked.clear()
    assert world.read(log_parts.some_parts, name, 1, last, 1 << 20, newest=True) == wanted
    assert world.between.asked == ["GET"] * len(wanted.parts)
    world.read(log_parts.some_parts, name, 1, last, 1 << 20, newest=False)
    assert world.between.asked == ["GET"] * len(wanted.parts), "they are kept"


def test_two_ledgers_never_share_a_place(tmp_path: Path, place: Place) -> None:
    """The second one is refused: it would take the first one's objects for its own, and remove what it doesn't name."""
    first, second = S3World(tmp_path, place), S3World(tmp_path, place)
    names = [first.add_log(2 * CHUNK_BYTES) for _ in range(3)]
    before = [first.ledger.now(logs.verify, name) for name in names]
    first.sealing.start()
    first.rounds(1)
    second.add_log(100)
    second.sealing.start()
    second.rounds(1)
    assert second.count(sealed_chunks) == 0, "it stays in its database"
    newest = max(each.modified for each in first.between.bucket().objects(""))
    second.passed = newest - NOW / 1000 + COLLECT_AFTER + 1
    second.rounds(COLLECT_EVERY)
    assert [first.read(logs.verify, name) for name in names] == before
    with pytest.raises(NotHere, match=r"belongs to another ledger: set stores\.s3\.prefix"):
        second.objects.begin("another id")
    for world in (first, second):
        world.sealing.stop()
        world.between.close()


def test_a_ledger_knows_its_own_mark_after_a_kill(world: S3World) -> None:
    name = world.add_log(100)
    id = world.ledger.now(sealed_logs.archive_id, "an id", Kind.OBJECTS)
    assert world.ledger.now(sealed_logs.archive_mark, Kind.OBJECTS) is None
    world.objects.begin(id)  # and a kill, before the ledger notes that it is there
    world.sealing.start()
    world.rounds(1)
    assert world.places() == ["OBJECTS"]
    assert world.ledger.now(sealed_logs.archive_mark, Kind.OBJECTS) == id
    assert world.read(logs.verify, name)[0] == 500


@pytest.mark.parametrize("fault", [500, 403, "half", "other"])
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_an_s3_that_fails_changes_nothing(world: S3World, fault: int | str, method: str) -> None:
    name = world.add_log(2 * CHUNK_BYTES)
    before = world.ledger.now(logs.verify, name)
    world.between.fault = lambda asked, path: fault if asked == method and (method, fault) != ("PUT", "other") else 500
    world.sealing.start()
    world.rounds(2)
    assert world.count(sealed_chunks) == 0
    assert world.ledger.now(logs.verify, name) == before
    world.between.fault = lambda asked, path: None
    world.rounds(1)
    assert world.count(log_chunks) == 0
    assert world.read(logs.verify, name) == before


def test_readers_of_an_s3_that_fails_are_told_to_come_again(world: S3World) -> None:
    name = world.add_log(2 * CHUNK_BYTES)
    before = world.ledger.now(logs.verify, name)
    world.sealing.start()
    world.rounds(1)
    for fault in (500, 404, "half"):
        world.between.fault = lambda method, path, fault=fault: fault  # type: ignore[misc]
        with pytest.raises(LedgerUnavailable, match="logs can't be read now") as error:
            world.read(logs.verify, name)
        place = world.between.place
        assert not any(word in str(error.value) for word in (place.bucket, place.prefix, place.endpoint, "logs/0"))
        asked = len(world.between.asked)
        with pytest.raises(LedgerUnavailable):
            world.read(logs.read, name, 1, 1000)
        assert len(world.between.asked) == asked, "it is left alone for a while"
        world.clock.advance(PAUSE)
    world.between.fault = lambda method, path: None
    assert world.read(logs.verify, name) == before
    assert not any(world.ledger.now(lambda connection: connection.scalars(select(sealed_chunks.c.damaged)).all()))


def test_an_object_that_is_refused_holds_no_other_up(world: S3World) -> None:
    """Neither readers, nor what moves all logs elsewhere."""
    refused, *others = names = [world.add_log(2 * CHUNK_BYTES) for _ in range(3)]
    before = {name: world.ledger.now(logs.verify, name) for name in names}
    world.sealing.start()
    world.rounds(1)
    world.between.fault = lambda method, path: 403 if f"/{refused}/" in path and method == "GET" else None
    with pytest.raises(LedgerUnavailable, match="S3 refuses it") as error:
        world.read(logs.verify, refused)
    assert world.between.place.bucket not in str(error.value)
    assert {name: world.read(logs.verify, name) for name in others} == {name: before[name] for name in others}
    world.seal_to(None)
    assert {name: world.ledger.now(logs.verify, name) for name in others} == {name: before[name] for name in others}
    assert set(world.places()) == {"OBJECTS", "database"}
    world.between.fault = lambda method, path: None
    world.rounds(COLLECT_EVERY)
    assert set(world.places()) == {"database"}
    assert world.ledger.now(logs.verify, refused) == before[refused]


def test_an_object_that_is_gone_is_a_gap_and_a_bucket_that_is_gone_is_waited_for(world: S3World) -> None:
    name = world.add_log(3 * CHUNK_BYTES)
    lines, sha256 = world.ledger.now(logs.verify, name)
    whole = update(attempts_table).values(complete=True, sha256=sha256, lines=lines)
    world.ledger.now(lambda connection: connection.execute(whole).rowcount)
    world.sealing.start()
    world.rounds(1)
    bucket = world.between.bucket()
    objects = {each.name: bucket.get(each.name, 1 << 20) for each in bucket.objects("logs/0")}
    mark = bucket.get("logs/archive", 100)
    for each in objects:
        bucket.remove(each)
    bucket.remove("logs/archive")
    with pytest.raises(NotHere, match="is it the right bucket"):
        world.objects.check(mark.decode())
    with pytest.raises(LedgerUnavailable, match="not as it should"):
        world.read(logs.read, name, 1, 1000)
    bucket.put("logs/archive", b"another")
    world.clock.advance(PAUSE)
    with pytest.raises(LedgerUnavailable, match="not as it should"):
        world.read(logs.read, name, 1, 1000)
    bucket.put("logs/archive", mark)
    gone, *left = objects
    for each in left:
        bucket.put(each, objects[each])
    world.clock.advance(PAUSE)
    batches = [batch_decoder.decode(message) for message in read_with(world.store(), name)[:-1]]
    gaps = [batch for batch in batches if isinstance(batch, Gap)]
    assert len(gaps) == 1
    assert gaps[0].reason == "the stored log is damaged: its object is gone"
    assert sum(batch.end - batch.first for batch in batches) == lines
    row = world.ledger.now(attempts.get, name)
    assert row is not None
    assert not row.complete
    bucket.put(gone, objects[gone])
    assert world.read(logs.verify, name) == (lines, sha256)


def test_sealed_logs_move(world: S3World) -> None:
    """From anywhere to anywhere, if that is wanted; what they leave behind is removed after a day."""
    names = [world.add_log(size) for size in (100, 3 * CHUNK_BYTES)]
    before = {name: world.ledger.now(logs.verify, name) for name in names}
    world.seal_to(None, moves=False)
    assert set(world.places()) == {"database"}
    world.seal_to(Kind.OBJECTS, moves=False)
    assert set(world.places()) == {"database"}, "nobody has asked for it"
    for kind in (Kind.OBJECTS, Kind.FILES, None, Kind.FILES, Kind.OBJECTS, None):
        world.seal_to(kind)
        assert set(world.places()) == {"database" if kind is None else kind.name}
        assert {name: world.read(logs.verify, name) for name in names} == before
    bucket = world.between.bucket()
    assert world.filed() == names
    assert list(bucket.objects("logs/0"))
    for file in (world.archive._folder).glob("*/*.log"):
        os.utime(file, (NOW / 1000, NOW / 1000))
    world.rounds(COLLECT_EVERY)
    assert list(bucket.objects("logs/0")), "somebody may have put it there just now"
    world.passed = max(each.modified for each in bucket.objects("")) - NOW / 1000 + COLLECT_AFTER + 1
    world.rounds(COLLECT_EVERY)
    assert world.filed() == []
    assert [each.name for each in bucket.objects("")] == ["logs/archive"]
    assert {name: world.ledger.now(logs.verify, name) for name in names} == before


def test_what_another_apiserver_names_meanwhile_is_not_removed(world: S3World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves a log back to S3 while the one before it is being removed there."""
    names = [world.add_log(100), world.add_log(100)]
    world.sealing.start()
    world.rounds(1)
    rows = world.ledger.now(lambda connection: connection.execute(select(sealed_chunks)).all())
    world.seal_to(None)
    remove = world.objects.remove

    def remove_slowly(attempt: str, *before: float) -> None:
        remove(attempt, *before)
        again = update(sealed_chunks).where(sealed_chunks.c.build_id == rows[1].build_id).values(place=rows[1].place)
        world.ledger.now(lambda connection: connection.execute(again).rowcount)

    monkeypatch.setattr(world.objects, "remove", remove_slowly)
    bucket = world.between.bucket()
    world.passed = max(each.modified for each in bucket.objects("")) - NOW / 1000 + COLLECT_AFTER + 1
    world.rounds(COLLECT_EVERY)
    assert world.objects.attempts("000000") == names[1:]


def test_a_move_goes_on_when_s3_is_back(world: S3World) -> None:
    name = world.add_log(4 * CHUNK_BYTES)
    before = world.ledger.now(logs.verify, name)
    world.seal_to(None)
    puts = iter(range(100))
    world.between.fault = lambda method, path: 500 if method == "PUT" and next(puts) > 2 else None
    world.seal_to(Kind.OBJECTS)
    assert set(world.places()) == {"database", "OBJECTS"}
    assert world.read(logs.verify, name) == before
    world.between.fault = lambda method, path: None
    world.rounds(1)
    assert set(world.places()) == {"OBJECTS"}
    assert world.read(logs.verify, name) == before


def test_a_part_that_cannot_be_read_does_not_move(world: S3World) -> None:
    names = [world.add_log(100), world.add_log(100)]
    world.seal_to(None)
    row = world.ledger.now(lambda connection: connection.execute(select(sealed_chunks)).all()[0])
    flipped = row.data[:99] + bytes([row.data[99] ^ 1]) + row.data[100:]
    this = sealed_chunks.c.build_id == row.build_id
    world.ledger.now(lambda connection: connection.execute(update(sealed_chunks).where(this).values(data=flipped)))
    world.seal_to(Kind.OBJECTS)
    assert world.places() == ["database", "OBJECTS"]
    assert world.read(logs.verify, names[1])[0] == 500


# -- reading ---------------------------------------------------------------------------------------------------------


class Waiting:
    """Threads that do their work when a test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.done = 0

    def __call__(self, function: Callable[..., Any], /, *args: object) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()

        def run() -> None:
            try:
                result.callback(function(*args))
            except OSError as error:
                result.errback(error)

        self.calls.append(run)
        return result

    def work(self) -> None:
        while self.calls:
            self.done += 1
            self.calls.pop(0)()


class Chunks:
    """Any chunk, as large as is asked; or none, while it isn't here."""

    def __init__(self) -> None:
        self.here = True
        self.asked = 0

    def check(self, mark: str) -> None:
        raise AssertionError("nothing was missing")

    def get(self, attempt: str, place: int, size: int) -> bytes:
        self.asked += 1
        if not self.here:
            raise NotHere("no answer")
        return bytes(size)


def wants(connection: Any, *places: int, archives: Any) -> int:
    """Read chunks of 1,000 bytes as a query does, all that are missing at once."""
    missing: list[Wanted] = []
    size = 0
    for place in places:
        try:
            size += len(archives.objects.get("1-1", place, 1000))
        except NotFetched as error:
            missing += error.wanted
    if missing:
        raise NotFetched(*missing)
    return size


class Reading:
    def __init__(self, kept: int = KEPT_BYTES) -> None:
        self.clock, self.threads, self.chunks = Clock(), Waiting(), Chunks()
        self.archived = Archived(
            self.clock,
            InstantLedger().as_ledger(),
            objects=self.chunks,
            in_thread=self.threads,
            kept_bytes=kept,
        )
        self.found: list[int] = []
        self.failed: list[str] = []

    def ask(self, *places: int) -> Deferred[None]:
        reading = Deferred.fromCoroutine(self.archived.read(wants, *places))
        return reading.addCallbacks(self.found.append, lambda failure: self.failed.append(str(failure.value)))


def test_what_many_wait_for_is_fetched_once() -> None:
    world = Reading()
    impatient, *_ = [world.ask(-1, -2) for _ in range(5)]
    world.ask(-2, -3)
    impatient.cancel()
    world.threads.work()
    assert world.chunks.asked == 3
    assert world.found == [2000] * 5
    assert len(world.failed) == 1
    world.ask(-1)
    assert world.found[-1] == 1000
    assert world.chunks.asked == 3


def test_no_more_is_kept_than_there_is_room_for() -> None:
    world = Reading(kept=2500)
    for _ in range(2):
        world.ask(-1, -2, -3, -4)  # more than there is room for is read all the same
        world.threads.work()
    assert world.found == [4000, 4000]
    asked = world.chunks.asked
    world.ask(-3, -4)
    assert world.chunks.asked == asked
    assert world.found[-1] == 2000


def test_no_more_waits_than_a_bound() -> None:
    world = Reading()
    for number in range(MOST):
        world.ask(-1 - number)
    world.ask(-1)
    world.ask(-1 - MOST)
    assert world.failed == ["too much of logs is being fetched from S3; ask again soon"]
    world.threads.work()
    assert len(world.found) == MOST + 1


def test_one_reader_may_want_more_than_all_others_may() -> None:
    """A search of a log that is compressed very well considers more chunks at once."""
    world = Reading()
    world.ask(*range(-2 * MOST, 0))
    most = 0
    while world.threads.calls:
        most = max(most, len(world.threads.calls))
        world.threads.calls.pop(0)()
    assert (world.failed, world.found) == ([], [2 * MOST * 1000])
    assert most < MOST


def test_what_waits_for_a_thread_is_not_asked_for_after_a_stop() -> None:
    """Else the stop, which waits for the threads, would take as long as all of that."""
    world = Reading()
    for number in range(100):
        world.ask(-1 - number)
    world.archived.stop()
    world.threads.work()
    world.ask(-1000)
    world.threads.work()
    assert world.chunks.asked == 0
    assert len(world.failed) == 101


def test_what_waits_behind_a_failure_is_not_asked_for() -> None:
    world = Reading()
    world.chunks.here = False
    for number in range(100):
        world.ask(-1 - number)
    world.threads.work()
    assert world.chunks.asked == 1
    assert world.failed == ["logs can't be read now: S3 doesn't answer, or not as it should; ask again soon"] * 100
    world.chunks.here = True
    world.ask(-1)
    assert len(world.failed) == 101
    world.clock.advance(PAUSE)
    world.ask(-1)
    world.threads.work()
    assert world.found == [1000]


# -- kills -----------------------------------------------------------------------------------------------------------

#: Seals all logs of a ledger's file to S3, or moves them there, and dies where the environment says.
SEALS = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twistedipc.s3.bucket import Bucket, Place
from twistedipc.server import filing, sealing
from twistedipc.server.archived import Archived
from twistedipc.server.workflows import Workflows
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.log_archive import Kind
from twistedipc.storage.log_objects import LogObjects

sealing.INTERVAL = 0
address, bucket, endpoint, prefix = sys.argv[1:]
objects = LogObjects(Bucket(Place(bucket, endpoint, "", prefix, "tests", "s3cret")))

async def main():
    ledger = Ledger(reactor, address, now=lambda: 1)
    await ledger.open()
    sealing.Sealing(
        clock=reactor, now=lambda: 1, ledger=ledger, workflows=Workflows(reactor), in_thread=deferToThread,
        archived=Archived(reactor, ledger, objects=objects, in_thread=deferToThread),
        archives={Kind.OBJECTS: filing.InThreads(objects, deferToThread)}, kind=Kind.OBJECTS, moves=True, share=1.0,
    ).start()
    await deferLater(reactor, 30)

Deferred.fromCoroutine(main())
reactor.run()
"""


def seal_in_database(connection: Connection) -> None:
    while seal_one(connection, "1-1"):
        pass


def in_s3(connection: Connection) -> int:
    """Return how many chunks are there."""
    count = select(func.count()).select_from(sealed_chunks).where(sealed_chunks.c.place < 0)
    return connection.execute(count).scalar_one()


@pytest.mark.parametrize(
    ("point", "moves"),
    [
        (CrashPoint.APISERVER_CHUNK_FILED, False),
        (CrashPoint.APISERVER_CHUNK_REPLACED, True),
        pytest.param(CrashPoint.APISERVER_CHUNK_FILED, True, marks=pytest.mark.long),
        pytest.param(CrashPoint.APISERVER_CHUNK_REPLACED, False, marks=pytest.mark.long),
    ],
)
def test_a_kill_at_every_write(tmp_path: Path, place: Place, point: CrashPoint, moves: bool) -> None:
    """It is killed at its second part, and then goes on."""
    at = within(place, tmp_path)
    batches = some_log(4 * CHUNK_BYTES, random.Random(8))
    with database(tmp_path) as connection:
        add_project(connection)
        add_build(connection)
        run(connection, "1-1")
        append(connection, batches)
        attempts.lose(connection, "1-1", HOLDER, "gone", NOW)
        before = logs.verify(connection, "1-1")
        if moves:
            seal_in_database(connection)
    address = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    if databases.ON_POSTGRESQL:
        address = databases.database_of(tmp_path).render_as_string(hide_password=False)
    program = [sys.executable, "-c", SEALS, address, at.bucket, at.endpoint, at.prefix]
    process = subprocess.run(program, env={**os.environ, VARIABLE: f"{point}#2"}, timeout=60, check=False)
    assert process.returncode == -signal.SIGKILL
    objects = Archives(objects=LogObjects(Bucket(at)))
    with database(tmp_path) as connection:
        there = in_s3(connection)
        assert there >= 1
        assert logs.verify(connection, "1-1", objects) == before
    environment = {**os.environ, VARIABLE: f"{CrashPoint.APISERVER_CHUNK_REPLACED}#2"}
    process = subprocess.run(program, env=environment, timeout=60, check=False)
    assert process.returncode == -signal.SIGKILL
    with database(tmp_path) as connection:
        assert in_s3(connection) > there
        assert logs.verify(connection, "1-1", objects) == before
