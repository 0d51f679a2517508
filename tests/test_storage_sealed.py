"""Logs that are sealed, wholly or in part, are read as if they weren't; what is damaged of them is a gap."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, make_url, select, update

from tests.postgres import running_postgresql
from tests.properties import seed
from tests.storage_fixtures import HOLDER, NOW, add_build, add_project, database, run
from twistedipc.builds.logs import (
    Annotation,
    Batch,
    Gap,
    Group,
    Lines,
    LogDigest,
    Record,
    StepEnded,
    StepStarted,
    batch_decoder,
    encoder,
)
from twistedipc.sealed.chunk import CHUNK_BYTES
from twistedipc.sealed.making import make
from twistedipc.storage import attempts, logs, outlines, sealed_logs
from twistedipc.storage.engines import engine_for
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.log_archive import Archives, Kind, LogArchive, NotHere
from twistedipc.storage.logs import ChunkItem
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.sealed_logs import Placed, Unsealed, read_sealed
from twistedipc.storage.tables import log_chunks, sealed_chunks


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        add_build(connection)
        run(connection, "1-1")
        yield connection


def append(connection: Connection, batches: list[Batch], attempt: str = "1-1") -> None:
    """Append each batch as a chunk, as a commit does it."""
    for batch in batches:
        data = encoder.encode(batch) + b"\n"
        logs.append(
            connection, [ChunkItem(attempt=attempt, first=batch.first, count=batch.end - batch.first, data=data)]
        )


def some_log(size: int, chance: random.Random, gaps: bool = True) -> list[Batch]:
    """A log of about this many bytes, with events and gaps in it."""
    batches: list[Batch] = []
    first = 1
    while size > 0:
        if gaps and batches and chance.random() < 0.02:
            batches.append(Gap(first, first + chance.randrange(500), "the journal is damaged"))
        else:
            records: list[Record] = [
                f"src/{chance.randrange(999)}.ts({number},1): error TS{chance.randrange(2000)}: it isn't assignable"
                for number in range(chance.randrange(1, 300))
            ]
            if chance.random() < 0.2:
                records.insert(chance.randrange(len(records)), Group(f"part {first}"))
            batches.append(Lines(first=first, time=NOW + first, step=0, lines=records))
        first = batches[-1].end
        size -= len(encoder.encode(batches[-1]))
    return batches


def seal_one(connection: Connection, attempt: str, archive: LogArchive | None = None, over: bool = True) -> bool:
    """Seal the next part of a log; whether there was one."""
    rows = sealed_logs.unsealed(connection, Unsealed(attempt=attempt, over=over))
    if not rows:
        return False
    made, marks = make([message for row in rows for message in row.data.splitlines()])
    place = sealed_logs.next_place(connection, attempt)
    placed = []
    if archive is not None and sealed_logs.archive_mark(connection, Kind.FILES) is None:
        sealed_logs.keep_archive_mark(connection, archive.begin(os.urandom(8).hex()), Kind.FILES)
    for each in made:
        if archive is not None:
            archive.put(attempt, place, each.chunk.data)
        placed.append(Placed(each, None if archive is None else place))
        place += len(each.chunk.data)
    plain = [(row.first, row.count) for row in rows]
    assert sealed_logs.replace(connection, attempt, plain, placed, marks)
    return True


def read_all(connection: Connection, attempt: str, limit: int, archive: LogArchive | None = None) -> list[bytes]:
    found: list[bytes] = []
    first = 1
    while chunks := logs.read(connection, attempt, first, limit, Archives(archive)):
        for chunk in chunks:
            assert chunk.first == first
            found += chunk.data.splitlines()
            first += chunk.count
    return found


@pytest.mark.parametrize("kept", ["database", "files", "both"])
def test_a_log_is_read_the_same_at_every_moment_of_its_sealing(ledger: Connection, tmp_path: Path, kept: str) -> None:
    """Also where the setting was changed in its middle, and back (``both``)."""
    archive = LogArchive(tmp_path / "logs") if kept != "database" else None
    where = cycle([None, archive] if kept == "both" else [archive])
    chance = random.Random(seed(1))
    batches = some_log(4 * CHUNK_BYTES, chance)
    append(ledger, batches)
    wanted = [encoder.encode(batch) for batch in batches]
    digest = LogDigest()
    for batch in batches:
        digest.add(batch)
    bounds = logs.bounds(ledger, "1-1")
    sealing = True
    while sealing:
        assert read_all(ledger, "1-1", 1 << 16, archive) == wanted
        assert read_all(ledger, "1-1", 1 << 20, archive) == wanted
        assert logs.verify(ledger, "1-1", Archives(archive)) == (digest.count, digest.hexdigest())
        assert logs.bounds(ledger, "1-1") == bounds
        for _ in range(20):
            first = chance.randrange(1, digest.count + 1)
            (row, *_rest) = logs.read(ledger, "1-1", first, 1, Archives(archive))
            assert row.first <= first < row.first + row.count
            assert not row.damaged
        assert logs.read(ledger, "1-1", digest.count + 1, 1 << 16, Archives(archive)) == []
        sealing = seal_one(ledger, "1-1", next(where))
    assert ledger.execute(select(func.count()).select_from(log_chunks)).scalar_one() == 0
    stored, plain = ledger.execute(select(func.sum(sealed_chunks.c.size), func.sum(sealed_chunks.c.plain))).one()
    assert plain == bounds[1]
    assert stored < plain / 5
    of = {
        place: ledger.execute(select(func.count()).where(column.is_not(None))).scalar_one()
        for place, column in (("database", sealed_chunks.c.data), ("files", sealed_chunks.c.place))
    }
    assert {place for place, count in of.items() if count} == ({"database", "files"} if kept == "both" else {kept})


def test_on_postgresql() -> None:
    with running_postgresql() as server:
        engine = engine_for(make_url(server.url), writes=True, busy_timeout=10, clock=time)
        with engine.begin() as connection:
            upgrade(connection)
            add_project(connection)
            add_build(connection)
            run(connection, "1-1")
            batches = some_log(3 * CHUNK_BYTES, random.Random(9))
            append(connection, batches)
            before = logs.verify(connection, "1-1")
            assert sealed_logs.next_unsealed(connection, "") == Unsealed(attempt="1-1", over=False)
        reader = engine_for(make_url(server.url), writes=False, busy_timeout=10, clock=time)
        plain = select(func.sum(log_chunks.c.size))
        with reader.connect() as reading:
            unsealed = reading.scalar(plain)
            with engine.begin() as connection:
                while seal_one(connection, "1-1"):
                    assert logs.verify(connection, "1-1") == before
            # A reader that has begun sees one state, so that nothing moves from what it reads next to what it has read.
            assert reading.scalar(plain) == unsealed
            assert read_sealed(reading, "1-1", 1, 1, None) is None
            assert logs.verify(reading, "1-1") == before
        with reader.connect() as reading:
            assert reading.scalar(plain) is None
            assert logs.verify(reading, "1-1") == before
        reader.dispose()
        with engine.begin() as connection:
            assert sealed_logs.next_unsealed(connection, "") is None
            assert read_all(connection, "1-1", 1 << 16) == [encoder.encode(batch) for batch in batches]
            assert sealed_logs.note_damaged(connection, "1-1", 1)
            assert sealed_logs.filed(connection, ["1-1"], Kind.FILES) == set()
            while sealed_logs.remove(connection, "1-1", 20_000):
                pass
            assert logs.read(connection, "1-1", 1, 1 << 16) == []
        engine.dispose()


def test_many_small_commits_are_one_chunk(ledger: Connection) -> None:
    batches: list[Batch] = [Lines(first=n, time=NOW + n, step=0, lines=[f"line {n}"]) for n in range(1, 2000)]
    append(ledger, batches)
    assert not seal_one(ledger, "1-1", over=False)
    assert seal_one(ledger, "1-1")
    assert not seal_one(ledger, "1-1")
    assert ledger.execute(select(func.count()).select_from(sealed_chunks)).scalar_one() == 1
    assert read_all(ledger, "1-1", 1 << 16) == [encoder.encode(batch) for batch in batches]


def test_what_waits_to_be_sealed_is_found(ledger: Connection) -> None:
    other = f"{add_build(ledger).id}-1"
    run(ledger, other, "b" * 16)
    assert sealed_logs.next_unsealed(ledger, "") is None
    append(ledger, [Lines(first=1, time=NOW, step=0, lines=["x"])])
    append(ledger, [Lines(first=1, time=NOW, step=0, lines=["y"])], other)
    attempts.lose(ledger, "1-1", HOLDER, "gone", NOW)
    first = sealed_logs.next_unsealed(ledger, "")
    assert first == Unsealed(attempt="1-1", over=True)
    second = sealed_logs.next_unsealed(ledger, "1-1")
    assert second == Unsealed(attempt=other, over=False)
    assert sealed_logs.next_unsealed(ledger, other) is None
    assert seal_one(ledger, "1-1")
    assert not seal_one(ledger, "1-1")
    assert sealed_logs.next_unsealed(ledger, "") == second
    assert not seal_one(ledger, other, over=False)  # it is short, and goes on


def test_a_long_log_is_sealed_while_it_goes_on(ledger: Connection) -> None:
    batches = some_log(sealed_logs.RUNNING_BYTES + CHUNK_BYTES, random.Random(2))
    append(ledger, batches)
    times = 0
    while seal_one(ledger, "1-1", over=False):
        times += 1
    assert times >= 1
    assert ledger.execute(select(func.sum(log_chunks.c.size))).scalar_one() < sealed_logs.RUNNING_BYTES
    following = Lines(first=batches[-1].end, time=NOW, step=0, lines=["it goes on"])
    append(ledger, [following])
    assert read_all(ledger, "1-1", 1 << 16) == [encoder.encode(batch) for batch in [*batches, following]]


def test_nothing_is_replaced_that_has_changed_meanwhile(ledger: Connection) -> None:
    append(ledger, some_log(1000, random.Random(3), gaps=False))
    rows = sealed_logs.unsealed(ledger, Unsealed(attempt="1-1", over=True))
    made, marks = make([message for row in rows for message in row.data.splitlines()])
    plain = [(row.first, row.count) for row in rows]
    assert sealed_logs.remove(ledger, "1-1", 1 << 30) > 0
    assert not sealed_logs.replace(ledger, "1-1", plain, [Placed(each) for each in made], marks)
    assert logs.read(ledger, "1-1", 1, 1 << 20) == []


@pytest.mark.parametrize("what", ["flipped", "short", "empty", "another"])
def test_a_damaged_chunk_is_a_gap_of_exactly_its_records(ledger: Connection, what: str) -> None:
    batches = some_log(3 * CHUNK_BYTES, random.Random(4), gaps=False)
    append(ledger, batches)
    while seal_one(ledger, "1-1"):
        pass
    rows = ledger.execute(select(sealed_chunks).order_by(sealed_chunks.c.first_record)).all()
    assert len(rows) >= 3
    bad = rows[1]
    data = {
        "flipped": bad.data[:900] + bytes([bad.data[900] ^ 4]) + bad.data[901:],
        "short": bad.data[:-1],
        "empty": b"",
        "another": rows[2].data,
    }[what]
    this = sealed_chunks.c.first_record == bad.first_record
    ledger.execute(update(sealed_chunks).where(this).values(data=data))
    found = [batch_decoder.decode(message) for message in read_all(ledger, "1-1", 1 << 20)]
    end = bad.first_record + bad.records
    (gap,) = [batch for batch in found if isinstance(batch, Gap)]
    assert (gap.first, gap.end) == (bad.first_record, end)
    assert gap.reason.startswith("the stored log is damaged: ")
    assert [batch for batch in found if batch != gap] == [
        batch for batch in batches if batch.end <= bad.first_record or batch.first >= end
    ]
    assert logs.verify(ledger, "1-1") == (batches[-1].end - 1, "")
    assert sealed_logs.note_damaged(ledger, "1-1", bad.first_record)
    assert not sealed_logs.note_damaged(ledger, "1-1", bad.first_record)


def test_a_file_that_is_gone_is_a_gap_and_an_archive_that_is_gone_is_waited_for(
    ledger: Connection, tmp_path: Path
) -> None:
    archive = LogArchive(tmp_path / "logs")
    append(ledger, some_log(1000, random.Random(5), gaps=False))
    assert seal_one(ledger, "1-1", archive)
    (file,) = (tmp_path / "logs").glob("*/*.log")
    file.rename(tmp_path / "elsewhere")
    (row,) = logs.read(ledger, "1-1", 1, 1 << 20, Archives(archive))
    assert row.damaged
    assert b"its file is gone" in row.data
    (tmp_path / "logs").rename(tmp_path / "unmounted")
    with pytest.raises(LedgerUnavailable, match="is it mounted"):
        logs.read(ledger, "1-1", 1, 1 << 20, Archives(archive))
    other = LogArchive(tmp_path / "logs")
    other.begin(os.urandom(8).hex())
    with pytest.raises(LedgerUnavailable, match="another one than the ledger's"):
        logs.read(ledger, "1-1", 1, 1 << 20, Archives(archive))
    other.put("1-1", 0, bytes(100_000))
    with pytest.raises(LedgerUnavailable, match="another one than the ledger's"):
        logs.read(ledger, "1-1", 1, 1 << 20, Archives(archive))
    (tmp_path / "logs").rename(tmp_path / "another")
    (tmp_path / "unmounted").rename(tmp_path / "logs")
    (tmp_path / "elsewhere").rename(file)
    (row, *_rest) = logs.read(ledger, "1-1", 1, 1 << 20, Archives(archive))
    assert not row.damaged
    with pytest.raises(LedgerUnavailable, match="nobody says where"):
        logs.read(ledger, "1-1", 1, 1 << 20)


def test_nothing_is_put_where_no_archive_is(tmp_path: Path) -> None:
    archive = LogArchive(tmp_path / "logs")
    with pytest.raises(NotHere, match="is it mounted"):
        archive.put("12-1", 0, b"first")
    assert not (tmp_path / "logs").exists()
    mark = archive.begin(os.urandom(8).hex())
    assert archive.begin(os.urandom(8).hex()) == mark
    archive.check(mark)
    archive.put("12-1", 0, b"first")
    (tmp_path / "logs").rename(tmp_path / "unmounted")
    (tmp_path / "logs").mkdir()  # where it is to be mounted
    for attempt in ("12-1", "5000-1"):
        with pytest.raises(NotHere, match="is it mounted"):
            archive.put(attempt, 5, b"second")
    with pytest.raises(NotHere, match="is it mounted"):
        archive.check(mark)
    assert list((tmp_path / "logs").iterdir()) == []
    # It is lost for good: docs/operating.md says how to go on without it.
    (tmp_path / "logs" / "archive").write_text(f"{mark}\n")
    (tmp_path / "logs" / "lost+found").mkdir(0o000)
    archive.check(mark)
    archive.put("5000-1", 0, b"second")
    assert archive.parts() == ["000005"]


def test_what_a_kill_left_in_a_file_is_written_over(tmp_path: Path) -> None:
    archive = LogArchive(tmp_path / "logs")
    archive.begin(os.urandom(8).hex())
    archive.put("12-1", 0, b"first")
    archive.put("12-1", 5, b"left behind by a kill")
    archive.put("12-1", 5, b"second")
    assert archive.get("12-1", 0, 5) == b"first"
    assert archive.get("12-1", 5, 6) == b"second"
    (file,) = (tmp_path / "logs").glob("*/*.log")
    assert file.read_bytes() == b"firstsecond"
    assert archive.parts() == ["000000"]
    assert archive.attempts("000000") == ["12-1"]
    assert archive.attempts("000000", file.stat().st_mtime) == []
    file.write_bytes(b"fir")  # a disk has lost its end
    archive.put("12-1", 11, b"third")
    assert archive.get("12-1", 11, 5) == b"third"
    assert archive.get("12-1", 5, 6) == bytes(6)
    archive.remove("12-1")
    archive.remove("12-1")
    assert archive.attempts("000000") == []


class GivesLittle:
    """A disk that gives three bytes at a time."""

    def pread(self, descriptor: int, length: int, position: int) -> bytes:
        return os.pread(descriptor, min(3, length), position)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def test_what_a_disk_gives_in_pieces_is_read_whole(tmp_path: Path) -> None:
    disk: Any = GivesLittle()
    archive = LogArchive(tmp_path / "logs", disk)
    archive.begin(os.urandom(8).hex())
    archive.put("12-1", 0, b"first")
    archive.put("12-1", 5, b"second")
    assert archive.get("12-1", 0, 5) == b"first"
    assert archive.get("12-1", 5, 6) == b"second"
    assert archive.get("12-1", 5, 99) == b"second"


def test_a_log_is_removed_a_bit_at_a_time(ledger: Connection) -> None:
    batches = some_log(3 * CHUNK_BYTES, random.Random(7))
    append(ledger, batches)
    assert seal_one(ledger, "1-1")
    sealed, plain = (
        ledger.execute(select(func.sum(table.c.size))).scalar_one() for table in (sealed_chunks, log_chunks)
    )
    outlines.keep_outline(ledger, "1-1", make([encoder.encode(batch) for batch in batches])[1])
    freed = []
    while some := sealed_logs.remove(ledger, "1-1", 10_000):
        assert some <= 10_000 + 70_000
        freed.append(some)
    assert sum(freed) == sealed + plain
    assert len(freed) > 3
    assert logs.read(ledger, "1-1", 1, 1 << 20) == []
    assert outlines.outline_of(ledger, "1-1").groups == []


def test_an_outline_is_the_same_made_at_commits_and_at_sealing(ledger: Connection) -> None:
    batches: list[Batch] = [
        Lines(first=1, time=NOW, step=-1, lines=[StepStarted(0, "install", "npm ci"), "x"]),
        Lines(
            first=3, time=NOW + 1, step=0, lines=["y", StepEnded(0, "succeeded", 9, 0), StepStarted(1, "build", "b")]
        ),
        Lines(first=6, time=NOW + 2, step=1, lines=[Group("Tests"), Annotation("error", "no\nway", "a.ts", 3)]),
        Lines(first=8, time=NOW + 3, step=1, lines=[StepEnded(1, "failed", 9, 1)]),
    ]
    _made, marks = make([encoder.encode(batch) for batch in batches])
    for mark in marks:  # as they came
        outlines.keep_outline(ledger, "1-1", [mark])
    known = outlines.outline_of(ledger, "1-1")
    assert [(span.index, span.first, span.last) for span in known.steps] == [(0, 1, 4), (1, 5, 8)]
    assert [(group.record, group.name) for group in known.groups] == [(6, "Tests")]
    assert [(each.record, each.file, each.line) for each in known.remarks] == [(7, "a.ts", 3)]
    assert [(each.record, each.what) for each in known.errors] == [(7, "annotation"), (8, "step")]
    append(ledger, batches)
    while seal_one(ledger, "1-1"):
        pass
    assert outlines.outline_of(ledger, "1-1") == known
    assert sealed_logs.remove(ledger, "1-1", 1 << 30)
    assert not sealed_logs.remove(ledger, "1-1", 1 << 30)
    assert outlines.outline_of(ledger, "1-1").steps == []
    outlines.keep_outline(ledger, "1-1", marks[::-1])  # of an older log, in whatever order
    assert [span.index for span in outlines.outline_of(ledger, "1-1").steps] == [0, 1]
