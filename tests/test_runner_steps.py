"""A step in this process, with a real journal on a disk that is full, or nearly, for a while."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from tests.attempt_folder import scan
from twistedipc.attempts import processes
from twistedipc.attempts.journal import Journal, JournalReader
from twistedipc.attempts.room import LOOK_BYTES, LOOK_SECONDS, Room, default_reserve, readable
from twistedipc.builds.attempt import Cancel, ResourceLimits
from twistedipc.builds.logs import Lines, Notice
from twistedipc.disk.files import write_file
from twistedipc.isolation.limits.guard import Guard
from twistedipc.runner.__main__ import OUTSIDE
from twistedipc.runner.attempt_log import AttemptLog
from twistedipc.runner.capture import BLOCK_BYTES, Capture
from twistedipc.runner.control import Control
from twistedipc.runner.ports import Outside
from twistedipc.runner.stepclock import DRAIN, RETRY_EVERY
from twistedipc.runner.steps import Command, NoRoom, Steps, TimeLimits


class Disk:
    """`os.write` of a disk that takes ``room`` bytes, then refuses ``refusals`` times, then takes all."""

    def __init__(self, room: int, refusals: int) -> None:
        self.room = room
        self.refusals = refusals

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.refusals == 0:
            return os.write(descriptor, data)
        if self.room == 0:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, data[: self.room])
        self.room -= written
        return written

    def outside(self) -> Outside:
        """A runner's outside that has this disk."""
        return replace(OUTSIDE, disk=SimpleNamespace(**{**vars(os), "write": self.write}))


class Free:
    """The free bytes of a disk whose reserve is 1000: these amounts in turn, then the last for ever."""

    def __init__(self, *amounts: int) -> None:
        self.amounts = list(amounts)
        self.asked = 0

    def __call__(self, _folder: Path) -> int:
        self.asked += 1
        return self.amounts.pop(0) if len(self.amounts) > 1 else self.amounts[0]


def steps(
    folder: Path,
    *,
    timeout: float = 30.0,
    idle_timeout: float = 30.0,
    free: Free | None = None,
    outside: Outside = OUTSIDE,
) -> tuple[Steps, Journal, Control]:
    made, _log, journal, control = steps_and_log(
        folder, timeout=timeout, idle_timeout=idle_timeout, free=free, outside=outside
    )
    return made, journal, control


def steps_and_log(
    folder: Path,
    *,
    timeout: float = 30.0,
    idle_timeout: float = 30.0,
    free: Free | None = None,
    outside: Outside = OUTSIDE,
) -> tuple[Steps, AttemptLog, Journal, Control]:
    control = Control(folder)
    journal = Journal(folder, lambda: None, disk=outside.disk)
    log = AttemptLog(
        journal=journal,
        capture=Capture(),
        room=Room(folder, 1000 if free else 0, clock=outside.clock, free=free or Free(0)),
        now=outside.now,
        clock=outside.clock,
    )
    limits = TimeLimits(timeout=timeout, idle_timeout=idle_timeout, grace=0.3)
    guard = Guard(folder, ResourceLimits(), build=1, groups=[], clock=outside.clock)
    return Steps(log=log, control=control, limits=limits, guard=guard, outside=outside), log, journal, control


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


def text(folder: Path) -> str:
    """The output, its fragments joined."""
    reader = JournalReader(folder)
    found: list[str] = []
    while more := reader.read():
        for batch, _size in more:
            if isinstance(batch, Lines):
                found += [
                    record + ("" if index in batch.more else "\n")
                    for index, record in enumerate(batch.lines)
                    if isinstance(record, str)
                ]
    reader.close()
    return "".join(found)


@pytest.mark.parametrize("room", [0, 100, 100_001])
def test_the_build_waits_for_room_and_loses_nothing(tmp_path: Path, room: int) -> None:
    outside = Disk(room, refusals=3).outside()
    made, journal, control = steps(tmp_path, idle_timeout=0.9, outside=outside)  # shorter than the disk is full
    control.listen_to_signals()
    result = made.run(command(tmp_path, "seq 100000"))
    assert result.outcome == "succeeded"
    found = records(tmp_path)
    assert [record for record in found if isinstance(record, str)] == [str(n) for n in range(1, 100_001)]
    notices = [record.message for record in found if isinstance(record, Notice)]
    assert len(notices) == 1
    assert notices[0].startswith("the builder's disk took no more (No space left on device): the build waited for")
    assert scan(tmp_path) == (journal.count, journal.hexdigest())
    control.close()


def test_what_is_in_the_pipe_is_read_whatever_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a runner that was stopped, or got no turn, for longer than output may go on after the exit."""
    away = [0.0]
    read = os.read

    def slow(descriptor: int, size: int) -> bytes:
        data = read(descriptor, size)
        if size == BLOCK_BYTES:
            away[0] += 2 * DRAIN
        return data

    def spawn(*arguments: Any, **more: Any) -> processes.Child:
        child = processes.spawn(*arguments, **more)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        return child

    outside = replace(
        OUTSIDE,
        clock=lambda: time.monotonic() + away[0],
        processes=SimpleNamespace(**{**vars(processes), "spawn": spawn}),
    )
    made, _journal, control = steps(tmp_path, timeout=1e6, idle_timeout=1e6, outside=outside)
    control.listen_to_signals()
    monkeypatch.setattr(os, "read", slow)
    # More than is read at a time, and as much as a pipe holds: the process ends before any of it is read.
    result = made.run(command(tmp_path, "seq 12000"))
    assert result.outcome == "succeeded"
    # Time flies, so partial lines are shown as fragments.
    assert text(tmp_path) == "".join(f"{n}\n" for n in range(1, 12_001))
    control.close()


def test_output_is_read_to_its_end_when_the_disk_has_room_again_and_is_nearly_full(tmp_path: Path) -> None:
    made, _journal, control = steps(tmp_path, free=Free(2000, 0), outside=Disk(300, refusals=6).outside())
    control.listen_to_signals()
    made.run(command(tmp_path, f"seq 300; sleep {LOOK_SECONDS * 2}; seq 300"))
    found = [record for record in records(tmp_path) if isinstance(record, str)]
    assert found == [str(n) for n in range(1, 301)] * 2
    control.close()


def test_a_full_disk_is_tried_now_and_then_also_when_the_step_has_ended(tmp_path: Path) -> None:
    disk = Disk(0, refusals=0)
    made, log, _journal, control = steps_and_log(tmp_path, outside=disk.outside())
    control.listen_to_signals()
    log.note("info", "the journal is there")
    disk.room, disk.refusals = 200, 4
    began = time.monotonic()
    made.run(command(tmp_path, "seq 100"))
    assert disk.refusals == 0
    assert time.monotonic() - began >= 2 * RETRY_EVERY, "it was tried again and again without a pause"
    control.close()


def test_a_cancel_is_heard_while_the_disk_is_full(tmp_path: Path) -> None:
    made, _journal, control = steps(tmp_path, outside=Disk(20_000, refusals=6).outside())
    control.listen_to_signals()
    write_file(tmp_path / "cancel", Cancel(reason="enough"))
    cancel = (tmp_path / "cancel").rename(tmp_path / "later")
    script = f"mv '{cancel}' cancel; seq 100000; exec sleep 600"
    result = made.run(command(tmp_path, script))
    assert result.outcome == "cancelled"
    assert made.stopped is not None
    assert made.stopped.reason == "enough"
    control.close()


def test_told_to_stop_while_the_disk_is_full_for_good(tmp_path: Path) -> None:
    made, log, _journal, control = steps_and_log(tmp_path, outside=Disk(0, refusals=-1).outside())
    control.told_to_stop = True
    log.note("info", "nobody will read this")
    with pytest.raises(NoRoom):
        made.settle()
    control.close()


def notices(folder: Path) -> list[str]:
    return [record.message for record in records(folder) if isinstance(record, Notice)]


NEARLY_FULL = "the builder's disk is nearly full: the build waits until more than 1000 bytes are free"


def test_the_build_waits_for_the_reserve_and_is_not_silent_meanwhile(tmp_path: Path) -> None:
    free = Free(5000, 999, 1000, 1062, 1063)  # a sixteenth more than the reserve, before it goes on
    made, journal, control = steps(tmp_path, idle_timeout=1.6, free=free)
    control.listen_to_signals()
    # More than a pipe holds, so the process can't end without a reader; then it is silent, but not for too long.
    result = made.run(command(tmp_path, "echo begun; sleep 0.7; seq 100000; sleep 0.7"))
    assert result.outcome == "succeeded"
    found = records(tmp_path)
    assert [record for record in found if isinstance(record, str)] == ["begun", *map(str, range(1, 100_001))]
    low, again = notices(tmp_path)
    assert low == NEARLY_FULL
    assert again.startswith("the builder's disk was nearly full: the build waited for ")
    assert float(again.split()[-2]) >= 2 * LOOK_SECONDS
    # What was printed before it was seen is there, nothing of what was printed meanwhile.
    place = [record.message if isinstance(record, Notice) else record for record in found]
    assert place.index(again) == place.index(low) + 1
    assert scan(tmp_path) == (journal.count, journal.hexdigest())
    control.close()


def test_no_step_is_begun_while_the_disk_is_nearly_full(tmp_path: Path) -> None:
    free = Free(999, 999, 5000)
    made, _journal, control = steps(tmp_path, free=free)
    control.listen_to_signals()
    result = made.run(command(tmp_path, "date +%s%N"))
    assert result.outcome == "succeeded"
    assert notices(tmp_path)[0] == NEARLY_FULL
    assert result.ended - result.started >= 2 * LOOK_SECONDS * 1000
    (printed,) = [record for record in records(tmp_path) if isinstance(record, str)]
    assert int(printed) // 1_000_000 >= result.started + 2 * LOOK_SECONDS * 1000
    control.close()


def test_a_nearly_full_disk_takes_the_end_of_an_attempt(tmp_path: Path) -> None:
    """A cancellation, the time that is up, a process that has ended: none of them waits for room."""
    (tmp_path / "cancelled").mkdir()
    made, _journal, control = steps(tmp_path / "cancelled", free=Free(5000, 0))
    control.listen_to_signals()
    write_file(tmp_path / "cancelled" / "later", Cancel(reason="enough"))
    script = "trap 'echo told; exit 3' TERM; sleep 0.8; mv later cancel; while :; do sleep 0.05; done"
    result = made.run(command(tmp_path / "cancelled", script))
    assert (result.outcome, result.exit_code) == ("cancelled", 3)
    made.settle()
    assert records(tmp_path / "cancelled")[-2] == "told"
    assert notices(tmp_path / "cancelled") == [NEARLY_FULL, "cancelled: enough"]
    control.close()

    (tmp_path / "ended").mkdir()
    made, _journal, control = steps(tmp_path / "ended", free=Free(5000, 0))
    control.listen_to_signals()
    result = made.run(command(tmp_path / "ended", "sleep 0.8; echo last"))
    assert result.outcome == "succeeded"
    assert "last" in records(tmp_path / "ended")
    made.limits.timeout = 1.5
    result = made.run(command(tmp_path / "ended", "echo never"))
    assert (result.outcome, result.exit_code) == ("timed_out", None)
    made.settle()
    assert "never" not in records(tmp_path / "ended")
    control.close()


def test_the_disk_is_asked_now_and_then(tmp_path: Path) -> None:
    now = 100.0
    free = Free(5000)
    room = Room(tmp_path, 1000, clock=lambda: now, free=free)
    for _ in range(1000):
        assert not room.low()
        room.written(LOOK_BYTES // 100)
    assert free.asked == 10
    now += LOOK_SECONDS
    free.amounts = [999]
    assert room.low()
    assert free.asked == 11

    def broken(_folder: Path) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert not Room(tmp_path, 1000, clock=lambda: now, free=broken).low()
    never = Free(0)
    assert not Room(tmp_path, 0, clock=lambda: now, free=never).low()
    assert never.asked == 0


def test_the_reserve_is_small_on_a_small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    for total, reserve in ((100 << 20, 5 << 20), (20 << 30, 1 << 30), (1 << 40, 1 << 30)):
        fields = (real[0], 4096, total // 4096, *real[3:])
        monkeypatch.setattr(os, "statvfs", lambda _folder, fields=fields: os.statvfs_result(fields))
        assert default_reserve(tmp_path) == reserve


def test_sizes_for_people() -> None:
    assert [readable(size) for size in (0, 1023, 1536, 1 << 30, 5 << 50)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "1.0 GiB",
        "5120.0 TiB",
    ]
