"""Outboxes: what is appended is there until it is acknowledged, whatever becomes of the process."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.properties import examples
from twistedipc.ipc.streams.outbox import BadOutbox, FileOutbox, MemoryOutbox, Outbox, OutboxFull

ITEM = st.integers(0, 60).map(lambda size: b'"' + b"x" * size + b'"')


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Outbox]:
    """Makes an outbox of each kind."""
    if request.param == "memory":
        return lambda **more: MemoryOutbox(**more)
    return lambda **more: FileOutbox(tmp_path / "outbox", durable=False, **more)


def test_items_are_numbered_and_read_from_anywhere(make: Callable[..., Outbox]) -> None:
    outbox = make()
    assert (outbox.first, outbox.next) == (1, 1)
    assert [outbox.append(b"%d" % n) for n in range(10, 30)] == list(range(1, 21))
    assert outbox.read(1, 1 << 20) == [b"%d" % n for n in range(10, 30)]
    assert outbox.read(20, 100) == [b"29"]
    assert outbox.read(21, 100) == []
    assert outbox.read(5, 6) == [b"14", b"15", b"16"]
    assert outbox.read(5, 1) == [b"14"], "one at least"


def test_a_bound(make: Callable[..., Outbox]) -> None:
    outbox = make(limit=100)
    outbox.append(b"x" * 300)
    with pytest.raises(OutboxFull):
        outbox.append(b"y")
    outbox.trim(2)
    assert outbox.room
    assert outbox.append(b"y") == 2
    assert outbox.read(1, 100) == [b"y"]
    outbox.close()


def test_a_folder_outlives_its_outbox(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    for number in range(100):
        outbox.append(b"%d" % number)
    outbox.sync()
    first = outbox.id
    outbox.close()
    outbox.close()
    again = FileOutbox(tmp_path)
    assert (again.id, again.next) == (first, 101)
    assert again.read(100, 100) == [b"99"]
    assert again.append(b"more") == 101


def test_one_process_at_a_time(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    with pytest.raises(BadOutbox, match="another process"):
        FileOutbox(tmp_path)
    outbox.close()
    FileOutbox(tmp_path).close()


def test_each_folder_is_a_stream_of_its_own(tmp_path: Path) -> None:
    assert FileOutbox(tmp_path / "a").id != FileOutbox(tmp_path / "b").id


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_torn_last_line_was_never_there(tmp_path: Path, cut: int) -> None:
    outbox = FileOutbox(tmp_path)
    outbox.append(b'"whole"')
    outbox.append(b'"the last"')
    outbox.close()
    (segment,) = tmp_path.glob("*.log")
    os.truncate(segment, segment.stat().st_size - cut)
    again = FileOutbox(tmp_path)
    assert again.next == 2
    assert again.append(b'"another"') == 2
    assert again.read(1, 1000) == [b'"whole"', b'"another"']


def test_damage_is_said_aloud(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    for number in range(3):
        outbox.append(b'"item %d"' % number)
    outbox.close()
    (segment,) = tmp_path.glob("*.log")
    segment.write_bytes(segment.read_bytes().replace(b"item 1", b"item X"))
    with pytest.raises(BadOutbox, match="item 2 is damaged"):
        FileOutbox(tmp_path)


def test_damage_in_an_older_segment_is_found_when_it_is_read(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path, segment_bytes=50)
    for number in range(9):
        outbox.append(b'"item %d"' % number)
    segment = min(tmp_path.glob("*.log"))
    segment.write_bytes(segment.read_bytes().replace(b"item 1", b"item X"))
    with pytest.raises(BadOutbox, match="item 2 is damaged"):
        outbox.read(1, 1000)
    assert outbox.read(9, 1000) == [b'"item 8"']


def test_a_lost_identity_is_said_aloud(tmp_path: Path) -> None:
    FileOutbox(tmp_path).close()
    (tmp_path / "id").unlink()
    with pytest.raises(BadOutbox, match="missing"):
        FileOutbox(tmp_path)


class Disk:
    """What is on the disk for sure: what was forced there, by the calls that do so, in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: dict[str, int] = {}  # what was forced of a file, in bytes
        self.names: dict[str, set[str]] = {}  # what was forced of a folder
        self.fails = False
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(f"twistedipc.ipc.streams.outbox.os.{name}", self.sync)

    def sync(self, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(path):
            if self.fails:
                raise OSError(errno.EIO, "a disk's error")
            self.names[path] = set(os.listdir(path))
        else:
            self.files[path] = os.fstat(descriptor).st_size

    def has(self, path: Path) -> bool:
        """Whether a file is there after the machine's crash, with all that it has."""
        known = path.name in self.names.get(str(path.parent), ())
        return known and self.files.get(str(path), 0) == path.stat().st_size


def test_what_was_sent_is_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For it may be acknowledged, and then its number must not be given to another item."""
    folder, disk = tmp_path.resolve() / "outbox", Disk(monkeypatch)
    outbox = FileOutbox(folder, segment_bytes=100)
    assert outbox.id in (folder / "id").read_text()
    assert disk.files[str(folder / ".id")] == (folder / "id").stat().st_size, "its content was there before its name"
    assert folder.name in disk.names[str(tmp_path.resolve())]
    for number in range(20):
        outbox.append(b"x" * number)
        for path in sorted(folder.glob("*.log"))[:-1]:
            assert disk.has(path), "a newer segment says that this one is whole"
    outbox.sync()
    assert all(disk.has(path) for path in folder.glob("*.log"))
    outbox.close()


def test_what_the_process_before_did_not_force_is_forced_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path.resolve()
    killed = FileOutbox(folder)
    killed.append(b"1")
    killed.close()
    disk = Disk(monkeypatch)
    FileOutbox(folder).close()
    assert disk.has(folder / f"{1:016d}.log")


def test_a_segment_that_can_not_be_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = FileOutbox(tmp_path, segment_bytes=10)
    outbox.append(b"x" * 20)
    disk = Disk(monkeypatch)
    disk.fails = True
    with pytest.raises(OSError, match="disk's"):
        outbox.append(b"2")
    assert len(list(tmp_path.glob("*.log"))) == 1
    disk.fails = False
    assert outbox.append(b"2") == 2
    outbox.sync()
    assert outbox.read(1, 100) == [b"x" * 20, b"2"]
    outbox.close()
    assert FileOutbox(tmp_path).next == 3


def test_an_item_longer_than_a_block(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    items = [b"a" * 700_000, b"b", b"c" * 300_000]
    for item in items:
        outbox.append(item)
    assert outbox.read(1, 10) == items[:1]
    assert outbox.read(1, 1 << 22) == items
    assert outbox.read(2, 10) == items[1:2]


class OutboxMachine(RuleBasedStateMachine):
    """A folder against a list, through restarts."""

    @initialize(segment=st.sampled_from([30, 100, 1000]))
    def begin(self, segment: int) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.segment = segment
        self.items: list[bytes] = []
        self.trimmed = 1
        self.outbox = self.open()

    def open(self) -> FileOutbox:
        return FileOutbox(self.temporary.name, limit=400, durable=False, segment_bytes=self.segment)

    @rule(items=st.lists(ITEM, min_size=1, max_size=5))
    def append(self, items: list[bytes]) -> None:
        for item in items:
            if not self.outbox.room:
                break
            self.items.append(item)
            assert self.outbox.append(item) == len(self.items)

    @rule(data=st.data(), limit=st.integers(1, 300))
    def read(self, data: st.DataObject, limit: int) -> None:
        number = data.draw(st.integers(self.outbox.first, self.outbox.next))
        found = self.outbox.read(number, limit)
        assert found == self.items[number - 1 : number - 1 + len(found)]
        rest = self.items[number - 1 :]
        assert bool(found) == bool(rest)
        if len(found) > 1:
            assert sum(map(len, found)) <= limit
        if len(found) < len(rest):
            assert sum(map(len, found)) + len(rest[len(found)]) > limit - 9 * (len(found) + 1)

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        next = data.draw(st.integers(self.trimmed, self.outbox.next))
        self.outbox.trim(next)
        self.trimmed = next

    @rule()
    def trim_all(self) -> None:
        self.trimmed = self.outbox.next
        self.outbox.trim(self.trimmed)
        assert self.outbox.room, "nothing waits"

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.outbox = self.open()

    @rule(size=st.integers(1, 8))
    def die_while_writing(self, size: int) -> None:
        self.outbox.close()
        segment = max(Path(self.temporary.name).glob("*.log"))
        with segment.open("ab") as file:
            file.write(b"0" * size)
        self.outbox = self.open()

    @invariant()
    def is_as_it_must_be(self) -> None:
        if hasattr(self, "outbox"):
            assert self.outbox.next == len(self.items) + 1
            assert self.outbox.first <= self.trimmed

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.outbox.close()
            self.temporary.cleanup()


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=examples(60), stateful_step_count=30)
