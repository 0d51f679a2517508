"""A step in this process, with a real journal on a disk that is full for a while."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from twistedipc.builds.attempt import Cancel, write_file
from twistedipc.builds.logs import Lines, Notice
from twistedipc.runner.capture import Capture
from twistedipc.runner.control import Control
from twistedipc.runner.journal import Journal, JournalReader, scan
from twistedipc.runner.steps import Command, Limits, NoRoom, Steps


class Disk:
    """`os.write` on a disk that takes ``room`` bytes, then refuses ``refusals`` times, then takes all."""

    def __init__(self, room: int, refusals: int) -> None:
        self.room = room
        self.refusals = refusals
        self._write = os.write

    def __call__(self, descriptor: int, data: bytes) -> int:
        if self.refusals == 0 or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return self._write(descriptor, data)
        if self.room == 0:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(descriptor, data[: self.room])
        self.room -= written
        return written


def steps(folder: Path, *, timeout: float = 30.0, idle_timeout: float = 30.0) -> tuple[Steps, Journal, Control]:
    control = Control(folder)
    journal = Journal(folder, lambda: None)
    limits = Limits(timeout=timeout, idle_timeout=idle_timeout, grace=0.3)
    made = Steps(
        journal=journal,
        capture=Capture(),
        control=control,
        limits=limits,
        now=lambda: time.time_ns() // 1_000_000,
        clock=time.monotonic,
    )
    return made, journal, control


def command(folder: Path, script: str) -> Command:
    return Command(
        name="x",
        command=script,
        argv=["sh", "-c", script],
        environment={"PATH": os.environ["PATH"]},
        folder=folder,
    )


def records(folder: Path) -> list[object]:
    reader = JournalReader(folder)
    found: list[object] = []
    while more := reader.read():
        found += [record for batch, _size in more if isinstance(batch, Lines) for record in batch.lines]
    reader.close()
    return found


@pytest.mark.parametrize("room", [0, 100, 100_001])
def test_the_build_waits_for_room_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    made, journal, control = steps(tmp_path, idle_timeout=0.9)  # shorter than the disk is full
    control.listen_to_signals()
    monkeypatch.setattr(os, "write", Disk(room, refusals=3))
    result = made.run(command(tmp_path, "seq 100000"))
    assert result.outcome == "succeeded"
    found = records(tmp_path)
    assert [record for record in found if isinstance(record, str)] == [str(n) for n in range(1, 100_001)]
    notices = [record.message for record in found if isinstance(record, Notice)]
    assert len(notices) == 1
    assert notices[0].startswith("the builder's disk took no more (No space left on device): the build waited for")
    assert scan(tmp_path) == (journal.count, journal.hexdigest())
    control.close()


def test_a_cancel_is_heard_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _journal, control = steps(tmp_path)
    control.listen_to_signals()
    write_file(tmp_path / "cancel", Cancel(reason="enough"))
    cancel = (tmp_path / "cancel").rename(tmp_path / "later")
    monkeypatch.setattr(os, "write", Disk(20_000, refusals=6))
    script = f"mv '{cancel}' cancel; seq 100000; exec sleep 600"
    result = made.run(command(tmp_path, script))
    assert result.outcome == "cancelled"
    assert made.stopped is not None
    assert made.stopped.reason == "enough"
    control.close()


def test_told_to_stop_while_the_disk_is_full_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _journal, control = steps(tmp_path)
    control.told_to_stop = True
    monkeypatch.setattr(os, "write", Disk(0, refusals=-1))
    made.note("info", "nobody will read this")
    with pytest.raises(NoRoom):
        made.settle()
    control.close()
