"""The journal at every cut: written, followed, torn, damaged, repaired; and a disk that is full for a while."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds.attempt import journal_line, segment_name
from twistedipc.builds.logs import Lines, LogDigest, Notice, Record
from twistedipc.runner.journal import Journal, JournalDamage, JournalExists, JournalReader, repair, scan, segments
from twistedipc.runner.sha256 import sha256


def batch(first: int, count: int = 3, size: int = 10) -> Lines:
    lines: list[Record] = [f"{first + i:0{size}d}" for i in range(count)]
    return Lines(first=first, time=1, step=0, lines=lines)


def nobody() -> None:
    """A bell that nobody hears."""


def write(folder: Path, batches: list[Lines], *, segment_bytes: int = 1 << 20) -> Journal:
    journal = Journal(folder, nobody, segment_bytes=segment_bytes)
    for one in batches:
        journal.append(one)
    return journal


def read_all(reader: JournalReader, limit: int = 100) -> list[Lines]:
    found: list[Lines] = []
    while more := reader.read(limit):
        found += [one for one, _size in more]
    return found


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rings: list[int] = []
    journal = Journal(tmp_path, lambda: rings.append(1))
    batches = [batch(1), Lines(first=4, time=2, step=1, lines=[Notice("info", "ü\n")]), batch(5)]
    for one in batches:
        journal.append(one)
    assert journal.sync()
    assert len(rings) == 3
    reader = JournalReader(tmp_path)
    found = reader.read()
    assert [one for one, _size in found] == batches
    assert [size for _one, size in found] == [len(journal_line(one)) - 10 for one in batches]
    assert reader.next == 8
    assert reader.read() == []
    digest = LogDigest()
    for one in batches:
        digest.add(one)
    assert scan(tmp_path) == (7, digest.hexdigest()) == (journal.count, journal.hexdigest())


def test_segments_are_named_by_their_first_record(tmp_path: Path) -> None:
    batches = [batch(1 + 3 * i) for i in range(20)]
    write(tmp_path, batches, segment_bytes=300)
    names = [path.name for _first, path in segments(tmp_path / "journal")]
    assert len(names) > 3
    assert names[0] == segment_name(1)
    assert read_all(JournalReader(tmp_path)) == batches


def test_follows_a_journal_that_is_being_written(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path)
    assert reader.read() == []
    journal = Journal(tmp_path, nobody, segment_bytes=200)
    for i in range(12):
        one = batch(1 + 3 * i)
        journal.append(one)
        assert [found for found, _size in reader.read()] == [one]
        assert reader.read() == []


def test_a_journal_starts_once(tmp_path: Path) -> None:
    write(tmp_path, [batch(1)])
    with pytest.raises(JournalExists):
        Journal(tmp_path, nobody)


def test_numbers_have_no_holes(tmp_path: Path) -> None:
    journal = write(tmp_path, [batch(1)])
    with pytest.raises(ValueError, match="can't follow"):
        journal.append(batch(5))


@given(next=st.integers(1, 70), limit=st.integers(1, 2000))
def test_seek(tmp_path_factory: pytest.TempPathFactory, next: int, limit: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    write(folder, [batch(1 + 3 * i) for i in range(20)], segment_bytes=300)
    reader = JournalReader(folder)
    reader.read(limit)
    reader.seek(next)
    records = [record for one in read_all(reader, limit) for record in one.lines]
    assert records == [f"{n:010d}" for n in range(next, 61)]
    assert reader.next == max(next, 61)


def test_limit_is_about_a_limit(tmp_path: Path) -> None:
    write(tmp_path, [batch(1 + 3 * i, size=1000) for i in range(20)])
    reader = JournalReader(tmp_path)
    assert len(reader.read(10_000)) == 3
    assert len(reader.read(1)) == 1  # at least one, if there is one


def test_torn_tail_at_every_byte(tmp_path: Path) -> None:
    batches = [batch(1), batch(4), batch(7)]
    data = b"".join(map(journal_line, batches))
    good = len(data) - len(journal_line(batches[2]))
    for cut in range(good, len(data)):
        folder = tmp_path / str(cut)
        (folder / "journal").mkdir(parents=True)
        path = folder / "journal" / segment_name(1)
        path.write_bytes(data[:cut])
        reader = JournalReader(folder)
        assert read_all(reader) == batches[:2]  # the rest is just not there yet
        path.write_bytes(data)
        assert read_all(reader) == batches[2:]
        path.write_bytes(data[:cut])
        repaired = repair(folder)
        assert (repaired.lines, repaired.cut) == (6, cut - good)
        assert path.read_bytes() == data[:good]
        assert repair(folder).cut == 0
        assert scan(folder) == (repaired.lines, repaired.sha256)


def test_a_flipped_bit_anywhere_is_seen(tmp_path: Path) -> None:
    batches = [batch(1), batch(4), batch(7)]
    data = b"".join(map(journal_line, batches))
    length = len(data) // 3
    (tmp_path / "journal").mkdir()
    path = tmp_path / "journal" / segment_name(1)
    for position in range(length, 2 * length):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        reader = JournalReader(tmp_path)
        assert [one for one, _size in reader.read()] == batches[:1]
        with pytest.raises(JournalDamage) as raised:
            reader.read()
        assert raised.value.first_missing == 4
        assert scan(tmp_path)[0] == 3
        repaired = repair(tmp_path)
        assert repaired.lines == 3
        assert repaired.reason
        assert path.read_bytes() == data[:length]


def test_damage_in_an_earlier_segment_cuts_the_later_ones(tmp_path: Path) -> None:
    write(tmp_path, [batch(1 + 3 * i) for i in range(20)], segment_bytes=300)
    all_segments = segments(tmp_path / "journal")
    path = all_segments[1][1]
    path.write_bytes(path.read_bytes()[:-5])
    reader = JournalReader(tmp_path)
    with pytest.raises(JournalDamage, match="cut short"):
        read_all(reader)
    repaired = repair(tmp_path)
    assert len(segments(tmp_path / "journal")) == 2
    assert repaired.lines == all_segments[2][0] - 1 - 3
    assert scan(tmp_path) == (repaired.lines, repaired.sha256)


def test_missing_records_are_damage(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / segment_name(1)).write_bytes(journal_line(batch(1)) + journal_line(batch(7)))
    reader = JournalReader(tmp_path)
    reader.read()
    with pytest.raises(JournalDamage) as raised:
        reader.read()
    assert raised.value.first_missing == 4


def test_missing_first_segment(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / segment_name(4)).write_bytes(journal_line(batch(4)))
    with pytest.raises(JournalDamage) as raised:
        JournalReader(tmp_path).read()
    assert raised.value.first_missing == 1
    assert repair(tmp_path).lines == 0
    assert segments(tmp_path / "journal") == []


def test_repair_of_nothing(tmp_path: Path) -> None:
    assert repair(tmp_path).lines == 0
    assert scan(tmp_path)[0] == 0


class FullDisk:
    """`os.write` on a disk with so much room."""

    def __init__(self, room: int, error: int = errno.ENOSPC) -> None:
        self.room = room
        self._error = error
        self._write = os.write

    def __call__(self, descriptor: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(self._error, os.strerror(self._error))
        written = self._write(descriptor, data[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 17, 80, 150])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, error: int) -> None:
    batches = [batch(1 + 3 * i) for i in range(10)]
    journal = Journal(tmp_path, nobody, segment_bytes=300)
    disk = FullDisk(room, error)
    monkeypatch.setattr("twistedipc.runner.journal.os.write", disk)
    for one in batches:
        journal.append(one)
    assert journal.blocked == os.strerror(error)
    assert not journal.retry()
    assert not journal.sync()
    # What is there is whole lines: a reader sees no torn one, and no damage.
    before = read_all(JournalReader(tmp_path))
    assert before == batches[: len(before)]
    disk.room = 1 << 20
    assert journal.retry()
    assert journal.blocked == ""
    assert journal.sync()
    assert read_all(JournalReader(tmp_path)) == batches
    assert scan(tmp_path) == (journal.count, journal.hexdigest())


def test_another_error_isn_t_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, nobody)
    monkeypatch.setattr("twistedipc.runner.journal.os.write", FullDisk(0, errno.EROFS))
    with pytest.raises(OSError, match="Read-only"):
        journal.append(batch(1))


def test_the_runners_own_sha_256_is_the_same() -> None:
    data = os.urandom(1000)
    own, openssl = sha256(), hashlib.sha256()
    for cut in (0, 1, 63, 64, 65, 1000):
        own.update(data[:cut])
        openssl.update(data[:cut])
        assert own.hexdigest() == openssl.hexdigest()
