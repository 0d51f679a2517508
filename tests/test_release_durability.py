"""
What a power cut leaves of a release, when the disk has failed at any of its calls before, or a process was killed: what
a store says is there stays there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from twistedipc.publish.archive import create
from twistedipc.publish.targets.static import pool
from twistedipc.publish.targets.static.pool import Pool
from twistedipc.publish.targets.static.releases import ReleaseStore


class Killed(BaseException):
    """The process is no more."""


class Disk:
    """
    A disk that knows what is durable below ``top``: contents that were synced, and what a folder had when that was
    synced. A call of it can fail, before or after it is done. A file whose sync has failed is never durable, as on
    Linux: it is to be written again.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        self._synced: set[tuple[int, int]] = set()  # files, as `_file` knows them
        self._entries: dict[int, set[tuple[str, int]]] = {}  # a folder's inode -> what it durably has
        self._lost: set[tuple[int, int]] = set()  # those whose sync has failed
        self.calls = 0
        self.fail_at = 0
        self.fail_after = False
        self.read_only = False  # no file may be written
        self.error: Callable[[], BaseException] = lambda: OSError(errno.EIO, "Input/output error")

    def _call(self, act: Callable[[], None], fails: Callable[[], None] = lambda: None) -> None:
        self.calls += 1
        if self.calls != self.fail_at:
            act()
            return
        if self.fail_after:
            act()
        else:
            fails()
        raise self.error()

    def open(self, path: Path, flags: int, mode: int = 0o777, /) -> int:
        assert not (self.read_only and flags & os.O_WRONLY), f"{path} is written"
        return os.open(path, flags, mode)

    def pread(self, descriptor: int, length: int, position: int, /) -> bytes:
        return os.pread(descriptor, length, position)

    def write(self, descriptor: int, data: bytes | memoryview, /) -> int:
        return os.write(descriptor, data)

    def fdatasync(self, descriptor: int, /) -> None:
        self.fsync(descriptor)

    def ftruncate(self, descriptor: int, length: int, /) -> None:
        os.ftruncate(descriptor, length)

    def lseek(self, descriptor: int, position: int, whence: int, /) -> int:
        return os.lseek(descriptor, position, whence)

    def close(self, descriptor: int, /) -> None:
        os.close(descriptor)

    def replace(self, source: Path, target: Path, /) -> None:
        self._call(lambda: os.replace(source, target))

    def fsync(self, descriptor: int, /) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self._call(lambda: self._sync(path), lambda: self._drop(path))

    def sync_all(self, path: Path) -> None:
        """Make all of the file system durable."""
        everything = [self._top, *self._top.rglob("*")]

        def sync() -> None:
            for each in everything:
                self._sync(each)

        def drop() -> None:
            for each in everything:
                self._drop(each)

        self._call(sync, drop)

    def _sync(self, path: Path) -> None:
        if path.is_dir():
            there = {(each.name, os.lstat(each).st_ino) for each in path.iterdir()}
            self._entries[os.lstat(path).st_ino] = there
        elif _file(path) not in self._lost:
            self._synced.add(_file(path))

    def _drop(self, path: Path) -> None:
        if not path.is_dir() and _file(path) not in self._synced:
            self._lost.add(_file(path))

    def stays(self, path: Path) -> bool:
        """Whether a file is still there after a power cut."""
        durable = _file(path) in self._synced
        while durable and path != self._top:
            durable = (path.name, os.lstat(path).st_ino) in self._entries.get(path.parent.stat().st_ino, set())
            path = path.parent
        return durable


def _file(path: Path) -> tuple[int, int]:
    """What a file is under any name; another may come to have its inode."""
    status = os.lstat(path)
    return status.st_ino, status.st_mtime_ns


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    (tmp_path / "store").mkdir()
    return Disk(tmp_path / "store")


@pytest.fixture
def store(disk: Disk, tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "store", disk=disk, sync_all=disk.sync_all)


def packed(folder: Path) -> Path:
    """An archive of a site with three files."""
    site = folder / "site"
    site.mkdir()
    for number in range(3):
        (site / f"{number}.txt").write_text(f"text {number}")
    create(site, folder / "site.tar.gz")
    return folder / "site.tar.gz"


def files_of(store: ReleaseStore) -> list[Path]:
    """All that the release needs."""
    release = store.release("shop", 1)
    assert release is not None
    folder = store.file("shop", "0" * 64).parent.parent.parent
    contents = [store.file("shop", entry.sha256) for entry in release.files.values()]
    return [folder / "releases" / "1.json", *contents]


@pytest.mark.parametrize("few", [pool.FEW, 2], ids=["one by one", "all at once"])
@pytest.mark.parametrize("after", [False, True], ids=["fails", "is done, and fails"])
def test_the_disk_fails_at_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int, after: bool) -> None:
    """The release isn't taken then. The next attempt takes it, and all of it stays."""
    monkeypatch.setattr(pool, "FEW", few)
    archive = packed(tmp_path)
    number = 0
    while True:
        number += 1
        top = tmp_path / str(number)
        top.mkdir()
        disk = Disk(top)
        store = ReleaseStore(top, disk=disk, sync_all=disk.sync_all)
        disk.fail_at, disk.fail_after = number, after
        try:
            store.unpack("shop", 1, archive)
        except OSError:
            assert not store.has("shop", 1)
        else:
            break
        store.unpack("shop", 1, archive)
        assert [path for path in files_of(store) if not disk.stays(path)] == [], f"call {number}"
    assert number > 10
    assert [path for path in files_of(store) if not disk.stays(path)] == []


def _add_and_be_killed(there: Pool, folder: Path) -> None:
    """Add a content, which has its place already, and nothing else."""
    with there.adding() as adding:
        adding.write("a" * 64, [b"text"])
        (folder / "aa").mkdir()
        os.rename(folder / ".new" / ("a" * 64), there.path("a" * 64))
        os.rename(folder / ".new", folder / ".aside")  # as if nothing of this process came after
        raise Killed


def test_a_content_that_a_killed_process_left_is_made_durable(tmp_path: Path, disk: Disk) -> None:
    """Its folder tells that it was at work. What it has left isn't added again."""
    folder = tmp_path / "store" / "pool"
    left = Pool(folder, disk=disk, sync_all=disk.sync_all)
    with pytest.raises(Killed):
        _add_and_be_killed(left, folder)
    os.rename(folder / ".aside", folder / ".new")
    assert left.has("a" * 64)
    assert not disk.stays(left.path("a" * 64))
    with left.adding() as adding:
        adding.write("a" * 64, [b"text"])
    assert adding.added == []
    assert disk.stays(left.path("a" * 64))
    # Later ones have nothing to do for it.
    calls = disk.calls
    with left.adding():
        pass
    assert disk.calls - calls <= 3


def test_what_is_passed_over_may_be_of_one_that_adds_beside_it(tmp_path: Path, disk: Disk) -> None:
    """It has the content in its place already, and its disk failed before that was durable; or it is still at work."""
    there = Pool(tmp_path / "store" / "pool", disk=disk, sync_all=disk.sync_all)
    with there.adding():
        pass  # there is a pool
    disk.fail_at, disk.fail_after = disk.calls + 2, True
    with pytest.raises(OSError, match="Input/output"), there.adding(pool.MADE) as made:
        made.write("a" * 64, [b"text"])
    assert there.has("a" * 64)
    assert not disk.stays(there.path("a" * 64))
    with there.adding() as adding:
        adding.write("a" * 64, [b"text"])
        adding.write("b" * 64, [b"text"])
    assert adding.added == ["b" * 64]
    for content in ("a" * 64, "b" * 64):
        assert disk.stays(there.path(content))


def test_the_index_that_a_killed_process_left_is_made_durable(tmp_path: Path, disk: Disk, store: ReleaseStore) -> None:
    archive = packed(tmp_path)
    store.unpack("shop", 1, archive)
    index = files_of(store)[0]
    again = index.with_name("again")
    again.write_bytes(index.read_bytes())
    disk.fsync(os.open(again, os.O_RDONLY))
    os.replace(again, index)  # with its content durable, and its name not
    assert not disk.stays(index)
    store.unpack("shop", 1, archive)
    assert disk.stays(index)


def compressible(folder: Path) -> Path:
    """An archive of a site with three files that become smaller."""
    site = folder / "site"
    site.mkdir()
    for number in range(3):
        (site / f"{number}.txt").write_text(f"text {number}" * 200)
    create(site, folder / "site.tar.gz")
    return folder / "site.tar.gz"


def variants_of(store: ReleaseStore) -> list[Path]:
    """What is compressed of the release."""
    release = store.release("shop", 1)
    assert release is not None
    found = [each for entry in release.files.values() for each in entry.variants.values()]
    return [store.file("shop", content.sha256) for content in found]


def test_what_is_compressed_is_live_by_one_rename(tmp_path: Path, disk: Disk, store: ReleaseStore) -> None:
    """A rollback waits for it: the index of many files is written before."""
    store.unpack("shop", 1, compressible(tmp_path))
    made = store.compress("shop", 1, 1 << 20)
    assert made is not None
    assert variants_of(store) == []
    disk.read_only = True
    calls = disk.calls
    store.take_compressed("shop", made)
    assert disk.calls - calls == 2, "the rename, and the folder's sync"
    assert len(variants_of(store)) == 6
    assert [path for path in [*files_of(store), *variants_of(store)] if not disk.stays(path)] == []


@pytest.mark.parametrize("after", [False, True], ids=["fails", "is done, and fails"])
def test_the_disk_fails_at_each_call_while_a_release_is_compressed(tmp_path: Path, after: bool) -> None:
    """The release is whole at each moment. The next attempt compresses it, and that stays."""
    archive = compressible(tmp_path)
    number = 0
    failed = True
    while failed:
        number += 1
        top = tmp_path / str(number)
        top.mkdir()
        disk = Disk(top)
        store = ReleaseStore(top, disk=disk, sync_all=disk.sync_all)
        store.unpack("shop", 1, archive)
        disk.fail_at, disk.fail_after = disk.calls + number, after
        try:
            compress(store)
        except OSError:
            again = ReleaseStore(top, disk=disk, sync_all=disk.sync_all)  # also after a new start
            assert [path for path in [*files_of(again), *variants_of(again)] if not path.exists()] == []
            compress(store)
        else:
            failed = False
        fresh = ReleaseStore(top)
        assert len(variants_of(fresh)) == 6
        assert [path for path in [*files_of(fresh), *variants_of(fresh)] if not disk.stays(path)] == []
        assert list((top / "shop/releases").iterdir()) == [top / "shop/releases/1.json"]
    assert number > 5


def compress(store: ReleaseStore) -> None:
    """Compress the release whole, in two parts at least."""
    while (made := store.compress("shop", 1, 2000)) is not None:
        store.take_compressed("shop", made)
