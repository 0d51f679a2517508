"""The journal at every cut: written, followed, torn, damaged (gaps), repaired; and a disk that is full for a while."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attempt_folder import scan
from twistedipc.attempts.journal import Journal, JournalExists, JournalReader, Repaired, repair, segments
from twistedipc.attempts.journal_format import journal_line, segment_name
from twistedipc.attempts.sha256 import sha256
from twistedipc.builds.logs import MAX_RECORD, Batch, Gap, Lines, LogDigest, Notice, Record, encoder, valid_shape


def batch(first: int, count: int = 3, size: int = 10) -> Lines:
    lines: list[Record] = [f"{first + i:0{size}d}" for i in range(count)]
    return Lines(first=first, time=1, step=0, lines=lines)


def nobody() -> None:
    """A bell without a listener."""


def write(folder: Path, batches: list[Lines], *, segment_bytes: int = 1 << 20) -> Journal:
    journal = Journal(folder, nobody, segment_bytes=segment_bytes, disk=os)
    for one in batches:
        journal.append(one)
    return journal


def read_all(reader: JournalReader, limit: int = 100) -> list[Batch]:
    found: list[Batch] = []
    while (more := reader.read(limit)) or reader.searching:
        found += [one for one, _size in more]
    return found


def told(batches: list[Batch]) -> list[Batch]:
    """The same with the gaps' reasons left out, which are for people, after they were looked at."""
    assert all(map(valid_shape, batches))
    return [Gap(one.first, one.to, "") if isinstance(one, Gap) else one for one in batches]


def gap(first: int, to: int) -> Gap:
    return Gap(first, to, "")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rings: list[int] = []
    journal = Journal(tmp_path, lambda: rings.append(1), disk=os)
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
    journal = Journal(tmp_path, nobody, segment_bytes=200, disk=os)
    for i in range(12):
        one = batch(1 + 3 * i)
        journal.append(one)
        assert [found for found, _size in reader.read()] == [one]
        assert reader.read() == []


def test_a_journal_starts_once(tmp_path: Path) -> None:
    write(tmp_path, [batch(1)])
    with pytest.raises(JournalExists):
        Journal(tmp_path, nobody, disk=os)


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
    records = [record for one in read_all(reader, limit) if isinstance(one, Lines) for record in one.lines]
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


def test_a_flipped_bit_anywhere_is_a_gap_of_its_line(tmp_path: Path) -> None:
    batches = [batch(1), batch(4), batch(7)]
    data = b"".join(map(journal_line, batches))
    length = len(data) // 3
    (tmp_path / "journal").mkdir()
    path = tmp_path / "journal" / segment_name(1)
    for position in range(length, 2 * length):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            with contextlib.closing(JournalReader(tmp_path)) as reader:
                assert told(read_all(reader)) == [batches[0], gap(4, 6), batches[2]]
    assert scan(tmp_path) == (9, "")
    repaired = repair(tmp_path)
    assert (repaired.lines, repaired.sha256, repaired.cut) == (9, "", 0)
    assert path.read_bytes() == bytes(damaged)


def test_a_segment_that_is_cut_short_is_a_gap(tmp_path: Path) -> None:
    batches = [batch(1 + 3 * i) for i in range(20)]
    write(tmp_path, batches, segment_bytes=300)
    all_segments = segments(tmp_path / "journal")
    first, path = all_segments[2]
    path.write_bytes(path.read_bytes()[:-5])
    found = read_all(JournalReader(tmp_path))
    lost = gap(first - 3, first - 1)
    path = all_segments[1][1]
    path.write_bytes(path.read_bytes()[:-5])
    found = read_all(JournalReader(tmp_path))
    assert told(found).count(lost) == 1
    assert "cut short" in next(one.reason for one in found if isinstance(one, Gap))
    assert repair(tmp_path).cut == 0
    assert scan(tmp_path) == (60, "")


def test_missing_records_are_a_gap(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / segment_name(1)).write_bytes(journal_line(batch(1)) + journal_line(batch(7)))
    found = JournalReader(tmp_path).read()
    missing = Gap(4, 6, "the journal is damaged: records are missing")
    assert [one for one, _size in found] == [batch(1), missing, batch(7)]
    assert found[1][1] == len(encoder.encode(missing))


def test_missing_first_segment(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    path = tmp_path / "journal" / segment_name(4)
    path.write_bytes(journal_line(batch(4)))
    assert read_all(JournalReader(tmp_path)) == [Gap(1, 3, "the journal is damaged: a segment is missing"), batch(4)]
    reader = JournalReader(tmp_path)
    reader.seek(2)
    assert told(read_all(reader)) == [gap(2, 3), batch(4)]
    assert repair(tmp_path).lines == 6
    path.write_bytes(journal_line(batch(4))[:-1])
    assert repair(tmp_path).lines == 0
    assert segments(tmp_path / "journal") == []


def test_what_is_damaged_at_the_end_is_waited_for(tmp_path: Path) -> None:
    """As long as more may come, damage is reported only once good lines follow it."""
    lines = [journal_line(batch(first)) for first in (1, 4, 7, 10)]
    (tmp_path / "journal").mkdir()
    path = tmp_path / "journal" / segment_name(1)
    reader = JournalReader(tmp_path)
    path.write_bytes(lines[0] + lines[1].replace(b"4", b"5"))
    assert read_all(reader) == [batch(1)]
    with path.open("ab") as file:
        file.write(b"00000000 neither\n" + lines[2][:-1])
    assert read_all(reader) == []
    with path.open("ab") as file:
        file.write(lines[2][-1:])
    assert told(read_all(reader)) == [gap(4, 6), batch(7)]
    with path.open("ab") as file:
        file.write(lines[3][:-1])
    assert read_all(reader) == []
    reader.ends_at(12)
    assert read_all(reader) == [Gap(10, 12, "the journal is damaged: its last line has no end")]
    assert read_all(reader) == []
    for next in range(1, 14):
        reader.seek(next)
        assert sum(one.end - one.first for one in read_all(reader)) == 13 - next


def test_a_journal_that_is_gone(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path)
    reader.ends_at(0)
    assert read_all(reader) == []
    reader.ends_at(5)
    assert told(read_all(reader)) == [gap(1, 5)]
    assert read_all(reader) == []


def test_lines_that_go_backwards_are_not_shown_again(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    path = tmp_path / "journal" / segment_name(1)
    path.write_bytes(b"".join(map(journal_line, [batch(1), batch(4), batch(1), batch(5), batch(4), batch(8)])))
    records = [record for one in read_all(JournalReader(tmp_path)) if isinstance(one, Lines) for record in one.lines]
    assert records == [f"{n:010d}" for n in range(1, 11)]
    path.write_bytes(b"".join(map(journal_line, [batch(1), batch(MAX_RECORD), batch(4)])))
    assert read_all(JournalReader(tmp_path)) == [batch(1), batch(4)]  # a number that nothing earned


_PRINTED = st.text(max_size=12) | st.sampled_from(["", "deadbeef", journal_line(batch(1)).decode(), "\n", "x" * 300])


@st.composite
def _journals(draw: st.DrawFn) -> tuple[list[Lines], int]:
    """Batches that follow one another, and how long a segment gets."""
    batches: list[Lines] = []
    for lines in draw(st.lists(st.lists(_PRINTED, min_size=1, max_size=4), min_size=1, max_size=12)):
        first = batches[-1].end if batches else 1
        batches.append(Lines(first=first, time=1, step=0, lines=list[Record](lines)))
    return batches, draw(st.sampled_from([1, 150, 400, 1 << 20]))


@given(journal=_journals(), limit=st.integers(1, 3000), data=st.data())
def test_damage_costs_what_it_hit(
    tmp_path_factory: pytest.TempPathFactory, journal: tuple[list[Lines], int], limit: int, data: st.DataObject
) -> None:
    """
    Bytes changed, taken out, put in, segments cut or removed: each batch whose line is whole comes once, in order, as
    it was; gaps, each as long as it can be, are the rest. Wherever one begins to read, the same.
    """
    batches, segment_bytes = journal
    folder = tmp_path_factory.mktemp("journal")
    write(folder, batches, segment_bytes=segment_bytes).close()
    count = batches[-1].end - 1
    kept: set[int] = set()  # the first records of batches whose lines are as they were
    for first, path in segments(folder / "journal"):
        content = path.read_bytes()
        lines = content.splitlines(keepends=True)
        index = next(i for i, one in enumerate(batches) if one.first == first)
        damage = data.draw(st.sampled_from(["no", "no", "flip", "take", "put", "cut", "remove"]), label=path.name)
        begin = data.draw(st.integers(0, len(content) - 1), label="from")
        match damage:
            case "flip":
                mask = data.draw(st.integers(1, 255), label="mask")
                content = content[:begin] + bytes((content[begin] ^ mask,)) + content[begin + 1 :]
            case "take":
                content = content[:begin] + content[data.draw(st.integers(begin + 1, len(content)), label="to") :]
            case "put":
                content = content[:begin] + data.draw(st.binary(min_size=1, max_size=40), label="put") + content[begin:]
            case "cut":
                content = content[:begin]
            case "remove":
                content = b""
        if damage == "remove":
            path.unlink()
        else:
            path.write_bytes(content)
        kept |= {one.first for one, line in zip(batches[index:], lines, strict=False) if line in content}

    expected: list[Batch] = []
    for one in batches:
        before = expected[-1] if expected else None
        if one.first in kept:
            expected.append(one)
        elif isinstance(before, Gap):
            expected[-1] = gap(before.first, one.end - 1)
        else:
            expected.append(gap(one.first, one.end - 1))
    reader = JournalReader(folder)
    following = read_all(reader, limit)
    without_tail = expected[:-1] if isinstance(expected[-1], Gap) else expected
    assert told(following) == without_tail, "while there may be more, what is lost at the end is waited for"
    reader.ends_at(count)
    assert told(following + read_all(reader, limit)) == expected

    again = data.draw(st.integers(1, count + 1), label="again")
    reader.seek(again)
    rest = read_all(reader, limit)
    numbers = [number for one in rest for number in range(one.first, one.end)]
    assert numbers == list(range(again, count + 1))
    lost = {number for one in rest if isinstance(one, Gap) for number in range(one.first, one.end)}
    assert lost == {n for one in expected if isinstance(one, Gap) for n in range(one.first, one.end) if n >= again}

    # As the journal of a runner that died: the tail is cut off, the rest is as it was.
    repaired = repair(folder)
    assert repaired.lines == (without_tail[-1].end - 1 if without_tail else 0)
    assert told(read_all(JournalReader(folder), limit)) == without_tail
    whole = LogDigest()
    for each in without_tail:
        whole.add(each)
    assert scan(folder) == (repaired.lines, repaired.sha256) == (repaired.lines, whole.hexdigest())
    assert repair(folder).cut == 0


class BadDisk:
    """`os.pread` on a disk that has lost some pages: (file's name, page)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lost: set[tuple[str, int]] = set()
        self.asked: list[tuple[str, int]] = []
        self._pread = os.pread

    def __call__(self, descriptor: int, size: int, offset: int) -> bytes:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        end = min(offset + size, os.fstat(descriptor).st_size)
        pages = {(name, page) for page in range(offset // PAGE, (end + PAGE - 1) // PAGE)}
        if pages & self.lost and offset < end:
            self.asked += pages & self.lost
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._pread(descriptor, size, offset)


#: A small one, so that there are many.
PAGE = 64
UNREAD = "the journal is damaged: a part of it can't be read (Input/output error)"


@pytest.fixture
def bad_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BadDisk:
    disk = BadDisk(tmp_path)
    monkeypatch.setattr("twistedipc.attempts.journal.os.pread", disk)
    monkeypatch.setattr("twistedipc.attempts.journal._PAGE", PAGE)
    return disk


def read_giving_up(reader: JournalReader, limit: int = 100) -> list[Batch]:
    """Give up, as a reader without patience does, wherever reading fails."""
    found: list[Batch] = []
    given_up = 0
    while True:
        try:
            more = reader.read(limit)
        except OSError:
            given_up += 1
            assert given_up < 100, "it is never over"
            reader.give_up()
            continue
        found += [one for one, _size in more]
        if not more and not reader.searching:
            return found


def test_what_cannot_be_read_is_a_gap_only_when_it_is_given_up(tmp_path: Path, bad_disk: BadDisk) -> None:
    batches = [batch(1 + 3 * i) for i in range(8)]
    write(tmp_path, batches).close()
    ((_first, path),) = segments(tmp_path / "journal")
    lines = path.read_bytes().splitlines(keepends=True)
    begin = sum(map(len, lines[:4]))
    bad_disk.lost = {(path.name, (begin + 20) // PAGE)}
    reader = JournalReader(tmp_path)
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output error"):
            reader.read()
    assert reader.next == 1
    lost, bad_disk.lost = bad_disk.lost, set()
    assert read_all(reader) == batches, "it was only for a while"
    bad_disk.lost = lost
    reader.seek(1)
    with pytest.raises(OSError, match="Input/output error"):
        reader.read()
    reader.give_up()
    found = read_all(reader)
    (gap,) = [one for one in found if isinstance(one, Gap)]
    assert gap.reason == UNREAD
    assert [one for one in found if isinstance(one, Lines)] == [
        one for one in batches if not gap.first <= one.first <= gap.to
    ]
    assert gap.first <= batches[4].first <= gap.to
    assert scan_raises(tmp_path)
    assert repair(tmp_path, give_up=True) == Repaired(lines=24, sha256="", cut=0)


def scan_raises(folder: Path) -> bool:
    with pytest.raises(OSError, match="Input/output error"):
        scan(folder)
    with pytest.raises(OSError, match="Input/output error"):
        repair(folder)
    return True


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(journal=_journals(), limit=st.integers(1, 3000), data=st.data())
def test_unreadable_pages_cost_what_they_hit(
    tmp_path_factory: pytest.TempPathFactory,
    bad_disk: BadDisk,
    journal: tuple[list[Lines], int],
    limit: int,
    data: st.DataObject,
) -> None:
    """Every batch none of whose bytes is lost comes, once and in order."""
    batches, segment_bytes = journal
    folder = tmp_path_factory.mktemp("journal")
    write(folder, batches, segment_bytes=segment_bytes).close()
    bad_disk.lost = set()
    hit: set[int] = set()
    for first, path in segments(folder / "journal"):
        content = path.read_bytes()
        pages = data.draw(st.sets(st.integers(0, len(content) // PAGE), max_size=4), label=path.name)
        bad_disk.lost |= {(path.name, page) for page in pages}
        index = next(i for i, one in enumerate(batches) if one.first == first)
        begin = 0
        for one, line in zip(batches[index:], content.splitlines(keepends=True), strict=False):
            if any(begin < (page + 1) * PAGE and page * PAGE < begin + len(line) for page in pages):
                hit.add(one.first)
            begin += len(line)
    reader = JournalReader(folder)
    reader.ends_at(batches[-1].end - 1)
    found = read_giving_up(reader, limit)
    assert [one for one in found if isinstance(one, Lines)] == [one for one in batches if one.first not in hit]
    numbers = [number for one in found for number in range(one.first, one.end)]
    assert numbers == list(range(1, batches[-1].end))
    assert {one.reason for one in found if isinstance(one, Gap)} <= {UNREAD}
    repaired = repair(folder, give_up=True)
    assert repaired.lines == max((one.end - 1 for one in batches if one.first not in hit), default=0)
    bad_disk.lost = set()


def test_a_page_that_is_lost_is_asked_for_once(tmp_path: Path, bad_disk: BadDisk) -> None:
    """A disk may take half a minute to say no."""
    batches = [batch(1 + 3 * i, size=100) for i in range(100)]
    write(tmp_path, batches).close()
    ((_first, path),) = segments(tmp_path / "journal")
    bad_disk.lost = {(path.name, page) for page in range(100, 300)}
    reader = JournalReader(tmp_path)
    with pytest.raises(OSError, match="Input/output error"):
        read_all(reader)
    reader.give_up()
    bad_disk.asked.clear()
    assert told(read_all(reader, 4096))[-1] == batches[-1]
    assert max(Counter(bad_disk.asked).values()) <= 4, "once by itself, else with others"


@pytest.mark.parametrize("segment", range(4))
def test_a_folder_in_place_of_a_segment(tmp_path: Path, segment: int) -> None:
    batches = [batch(1 + 3 * i) for i in range(4)]
    write(tmp_path, batches, segment_bytes=1).close()
    path = segments(tmp_path / "journal")[segment][1]
    path.unlink()
    path.mkdir()
    reader = JournalReader(tmp_path)
    reader.ends_at(12)
    first = batches[segment].first
    why = "the journal is damaged: a part of it can't be read (Is a directory)"
    expected: list[Batch] = [*batches[:segment], Gap(first, first + 2, why), *batches[segment + 1 :]]
    assert read_giving_up(reader) == expected


def test_a_segment_that_cannot_be_opened(tmp_path: Path) -> None:
    batches = [batch(1 + 3 * i) for i in range(4)]
    write(tmp_path, batches, segment_bytes=1).close()
    path = segments(tmp_path / "journal")[1][1]
    path.unlink()
    path.symlink_to(path)
    reader = JournalReader(tmp_path)
    reader.ends_at(12)
    why = "the journal is damaged: a part of it can't be read (Too many levels of symbolic links)"
    assert read_giving_up(reader) == [batches[0], Gap(4, 6, why), *batches[2:]]


_MIB = 1 << 20


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\0",
        b"\n",
        b"0123456789abcde\n",
        b"00000000" + journal_line(batch(4))[8:-1],
        b"00000000" + journal_line(batch(4))[8:],
    ],
    ids=["zeros", "newlines", "short lines", "lines without an end", "wrong checksums"],
)
def test_a_big_damage_is_searched_in_small_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rubbish: bytes
) -> None:
    """However it looks: a call looks at little, all calls together at not much more than there is."""
    rubbish *= 16 * _MIB // len(rubbish)
    (tmp_path / "journal").mkdir()
    good = journal_line(batch(400))
    (tmp_path / "journal" / segment_name(1)).write_bytes(journal_line(batch(1)) + rubbish + b"\n" + good)
    looked_at: list[int] = []
    times: list[float] = []
    pread = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        block = pread(descriptor, size, offset)
        looked_at[-1] += len(block)
        return block

    monkeypatch.setattr("twistedipc.attempts.journal.os.pread", counted)
    reader = JournalReader(tmp_path)
    found: list[Batch] = []
    while reader.next < 403:
        looked_at.append(0)
        begun = time.thread_time()
        found += [one for one, _size in reader.read(1 << 16)]
        times.append(time.thread_time() - begun)
    assert told(found) == [batch(1), gap(4, 399), batch(400)]
    assert max(looked_at) < 6 * _MIB
    assert sum(looked_at) < 3 * len(rubbish)
    print(f"{len(times)} calls, the longest {max(times) * 1000:.1f} ms, all {sum(times) * 1000:.0f} ms")
    assert max(times) < 0.25


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
    journal = Journal(tmp_path, nobody, segment_bytes=300, disk=os)
    disk = FullDisk(room, error)
    monkeypatch.setattr("twistedipc.attempts.journal.os.write", disk)
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
    journal = Journal(tmp_path, nobody, disk=os)
    monkeypatch.setattr("twistedipc.attempts.journal.os.write", FullDisk(0, errno.EROFS))
    with pytest.raises(OSError, match="Read-only"):
        journal.append(batch(1))


def test_the_runners_own_sha_256_is_the_same() -> None:
    data = os.urandom(1000)
    own, openssl = sha256(), hashlib.sha256()
    for cut in (0, 1, 63, 64, 65, 1000):
        own.update(data[:cut])
        openssl.update(data[:cut])
        assert own.hexdigest() == openssl.hexdigest()
