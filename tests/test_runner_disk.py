"""A whole attempt on a small file system of its own that becomes nearly full. Needs root, for the mount."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attempt_folder import Attempt, alive, repository, scan, toml, until
from tests.conftest import NOT_ON_THIS_MACHINE
from twistedipc.attempts.room import free_bytes
from twistedipc.builds.attempt import Cancel
from twistedipc.builds.logs import Notice, StepStarted
from twistedipc.chaos.disk import SmallDisk
from twistedipc.disk.files import write_file

RESERVE = 16 << 20
LOW = "the builder's disk is nearly full: the build waits until more than 16.0 MiB are free"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    folder = tmp_path / "disk"
    small = SmallDisk(folder, "64m")
    if not small.mount():
        pytest.skip(f"{NOT_ON_THIS_MACHINE}no file system can be mounted (root can)")
    try:
        yield folder
    finally:
        small.unmount(keep=False)


def nearly_fill(disk: Path) -> Path:
    """Leave half of the reserve: the file that takes the rest."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free_bytes(disk) - RESERVE // 2)
    return filler


def running(disk: Path, tmp_path: Path) -> Attempt:
    """An attempt whose build prints on and on, until it finds a file `done`."""
    source = tmp_path / "source"
    script = "i=0; until test -e done; do i=$((i+1)); echo $i; sleep 0.01; done"
    repository(source, {".twistedipc.toml": toml(script)})
    one = Attempt(disk, source, reserve=RESERVE)
    one.start()
    until(lambda: "3" in one.output(1), "it builds")
    return one


def test_the_build_waits_until_there_is_room_again(disk: Path, tmp_path: Path) -> None:
    one = running(disk, tmp_path)
    filler = nearly_fill(disk)
    until(lambda: LOW in one.notices(), "it waits")
    filler.unlink()
    until(lambda: len(one.notices()) == 2, "it goes on")
    (one.folder / "work" / "done").touch()
    result = one.wait()
    assert result.outcome == "succeeded"
    records = [record for batch in one.batches() for record in batch.lines]
    lines = one.output(1)
    assert lines == [str(number) for number in range(1, len(lines) + 1)]
    place = records.index(Notice("warning", LOW))
    again = records[place + 1]  # nothing was read between
    assert isinstance(again, Notice)
    assert again.message.startswith("the builder's disk was nearly full: the build waited for ")
    assert (result.lines, result.sha256) == scan(one.folder)


def test_the_end_is_written_into_the_reserve(disk: Path, tmp_path: Path) -> None:
    one = running(disk, tmp_path)
    nearly_fill(disk)
    until(lambda: LOW in one.notices(), "it waits")
    write_file(one.folder / "cancel", Cancel(reason="no more"))
    one.ring()
    result = one.wait()
    assert free_bytes(disk) < RESERVE
    assert (result.outcome, result.reason) == ("cancelled", "no more")
    assert (result.lines, result.sha256) == scan(one.folder)
    assert one.notices()[-1] == "cancelled: no more"


GIT_THAT_FILLS_THE_DISK = """\
#!{python} -I
import array, fcntl, os, sys, termios, time
path = os.environ["PATH"].partition(":")[2]
if os.path.exists({full!r}):
    os.execvpe("git", ["git", *sys.argv[1:]], {{**os.environ, "PATH": path}})
try:
    with open({filler!r}, "wb", 0) as filler:
        while True:
            filler.write(bytes(4096))
except OSError:
    pass
os.write(1, b"more than fits into what a file has left of its last block\\n" * 700)
unread = array.array("i", [1])
while unread[0]:
    time.sleep(0.01)
    fcntl.ioctl(1, termios.FIONREAD, unread)
with open({full!r} + ".new", "w") as full:
    full.write(str(os.getppid()))
os.rename({full!r} + ".new", {full!r})
sys.exit(1)
"""


def test_a_step_of_ours_that_failed_on_a_full_disk_is_tried_again_though_there_is_room_now(
    disk: Path, tmp_path: Path
) -> None:
    source, filler, full = tmp_path / "source", disk / "filler", tmp_path / "full"
    repository(source, {".twistedipc.toml": toml("echo built")})
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(GIT_THAT_FILLS_THE_DISK.format(python=sys.executable, filler=str(filler), full=str(full)))
    git.chmod(0o755)
    one = Attempt(disk, source, path=f"{git.parent}:{os.environ['PATH']}")
    one.start()
    until(full.exists, "the disk is full, and the journal has found that out")
    checkout = int(full.read_text())
    until(lambda: not alive(checkout), "the checkout has failed")
    filler.unlink()
    assert one.wait().outcome == "succeeded"
    assert [event.name for event in one.events() if isinstance(event, StepStarted)] == ["checkout", "checkout", "s0"]
    assert "the builder's disk was full: checkout is tried again when there is room" in one.notices()
