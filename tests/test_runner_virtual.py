"""A whole attempt inside this process, with a clock, a disk and processes that are the test's: no time passes."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from tests.test_runner_steps import records, text
from twistedipc.attempts.journal import JOURNAL
from twistedipc.attempts.processes import Child, Launch
from twistedipc.builds.attempt import Cancel, Checkout, Result, Spec, Used
from twistedipc.builds.logs import Notice, StepEnded
from twistedipc.disk.files import write_file
from twistedipc.runner.channel import StepChannel
from twistedipc.runner.control import Control
from twistedipc.runner.course import Course
from twistedipc.runner.ports import Outside
from twistedipc.runner.steps import NoRoom

PLAN = """
[build]
steps = [{name = "first", run = "first"}, {name = "second", run = "second"}]
"""

#: How a runner waits.
Poll = Callable[[Sequence[int], float], dict[int, int]]

#: What a step's process does: after so many seconds, write this, or exit with this code.
Script = Sequence[tuple[float, bytes | int]]


class Watched:
    """The limits of an attempt. The test says when one is exceeded."""

    def __init__(self) -> None:
        self.exceeded = ""
        self.kills = 0

    def enter(self) -> None:
        """As a guard's; no process is real here."""

    def within(self, argv: Sequence[str]) -> Sequence[str]:
        return argv

    def pause(self) -> float:
        return 0.25

    def look(self) -> str:
        return self.exceeded

    def verdict(self, *, failed: bool) -> str:
        return ""

    def kill(self) -> None:
        self.kills += 1

    def used(self) -> Used:
        return Used(processes=7)


class Machine:
    """All that a runner takes from outside. Time passes when the runner waits, and not otherwise."""

    def __init__(self, scripts: Mapping[str, Script], *, obeys: bool = True) -> None:
        self.time = 1000.0
        self.killed_at: list[float] = []
        self.told_at: list[float] = []
        self.refuses_until = 0.0  # the disk
        self.limits = Watched()
        self._scripts = scripts
        self._obeys = obeys
        self._events: list[tuple[float, int, bytes | int]] = []
        self._outputs: dict[int, int] = {}
        self._dead: dict[int, int] = {}
        self._last = 100

    def outside(self) -> Outside:
        """Return the machine as a runner takes it."""
        return Outside(
            now=lambda: int(self.time * 1000),
            clock=lambda: self.time,
            random=bytes,
            poll=self._poll,
            channel=StepChannel,
            free=lambda _folder: 1 << 40,
            disk=SimpleNamespace(**{**vars(os), "write": self._write}),
            processes=self,
            guard=lambda _folder, _spec, _clock: self.limits,
        )

    def _write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.time < self.refuses_until:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data)

    def _poll(self, descriptors: Sequence[int], seconds: float) -> dict[int, int]:
        end = self.time + max(seconds, 1e-6)
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        while True:
            if ready := dict(poll.poll(0)):
                return ready
            if not self._events or self._events[0][0] > end:
                self.time = end
                return {}
            at, process, what = self._events.pop(0)
            self.time = max(self.time, at)
            if isinstance(what, bytes):
                os.write(self._outputs[process], what)
            else:
                self._exit(process, what << 8)

    def _exit(self, process: int, status: int) -> None:
        os.close(self._outputs.pop(process))
        self._dead[process] = status
        self._events = [event for event in self._events if event[1] != process]

    # -- `Processes` --

    def spawn(self, launch: Launch, *, output: int) -> Child:
        argv, folder = launch.argv, Path(launch.folder)
        self._last += 1
        self._outputs[self._last] = os.dup(output)
        name = argv[-1] if argv[0] == "sh" else "checkout"
        script: Script = self._scripts.get(name, [(0.0, 0)])
        if name == "checkout":
            (folder / "work").mkdir(exist_ok=True)
            (folder / "work" / ".twistedipc.toml").write_text(PLAN)
            write_file(folder / "out" / "checkout.json", Checkout(commit="c" * 40, subject="s", author="Ada"))
        self._events = sorted([*self._events, *((self.time + at, self._last, what) for at, what in script)])
        return Child(self._last)

    def reap(self) -> dict[int, int]:
        dead, self._dead = self._dead, {}
        return dead

    def tell_to_end(self, child: Child) -> None:
        if child.pid in self._outputs:
            self.told_at.append(self.time)
            if self._obeys:
                self._exit(child.pid, signal.SIGTERM)

    def kill(self, child: Child) -> None:
        self.killed_at.append(self.time)
        self._exit(child.pid, signal.SIGKILL)

    def bury(self, child: Child, deadline: float) -> bool:
        return child.pid in self._outputs

    def kill_descendants(self, deadline: float, spared: Collection[int] = ()) -> tuple[set[int], bool]:
        left = set(self._outputs)
        for process in left:
            self._exit(process, signal.SIGKILL)
        return left, True


def attempt(folder: Path, machine: Machine, *, poll: Poll | None = None, **limits: float) -> tuple[Course, Control]:
    folder.mkdir(parents=True)
    spec = Spec(
        attempt="1-1",
        lease="0123456789abcdef",
        build=1,
        project="demo",
        repository="/nowhere",
        ref="main",
        path=os.environ["PATH"],
        mirror="/nowhere/mirrors/repository.git",
        doorbell="nowhere",
        **limits,  # type: ignore[arg-type]
    )
    control = Control(folder)
    outside = machine.outside()
    if poll is not None:
        outside = replace(outside, poll=poll)
    return Course(folder, spec, control, lambda: None, outside), control


def run(folder: Path, machine: Machine, *, idle_timeout: float = 900.0, **limits: float) -> Result:
    course, _control = attempt(folder, machine, poll=None, idle_timeout=idle_timeout, **limits)
    return course.run()


def in_a_second(act: Callable[[], Result]) -> Result:
    began = time.monotonic()
    found = act()
    assert time.monotonic() - began < 120, "time has passed"
    return found


QUIET: Script = [(0.0, b"begun\n"), (800.0, b"still ")]


def test_hours_of_a_silent_build_take_no_time(tmp_path: Path) -> None:
    machine = Machine({"first": QUIET}, obeys=False)
    result = in_a_second(lambda: run(tmp_path / "a", machine, timeout=7200.0, idle_timeout=900.0, grace=10.0))
    assert (result.outcome, result.reason) == ("timed_out", "nothing was printed for 900 seconds")
    assert machine.told_at == [pytest.approx(1000 + 800 + 900, abs=2)]
    assert machine.killed_at == [pytest.approx(machine.told_at[0] + 10, abs=0.1)]
    assert (result.ended - result.started) / 1000 == pytest.approx(1710, abs=2)
    assert result.steps[-1].exit_code == 137
    assert text(tmp_path / "a") == "begun\nstill \n"


def test_the_same_twice_gives_the_same_journal(tmp_path: Path) -> None:
    script: dict[str, Script] = {
        "first": [(i / 7, f"line {i}\n".encode() * (i % 50)) for i in range(200)] + [(60.0, 0)],
        "second": [(1.0, b"x" * 60_000), (1.5, b"\n"), (2.0, 3)],
    }

    def journal(name: str) -> bytes:
        result = in_a_second(lambda: run(tmp_path / name, Machine(script)))
        assert (result.outcome, result.reason) == ("failed", "step second ended with exit code 3")
        return b"".join(path.read_bytes() for path in sorted((tmp_path / name / JOURNAL).iterdir()))

    assert journal("a") == journal("b")


def test_a_disk_that_is_full_for_an_hour(tmp_path: Path) -> None:
    """The build waits, which is no silence."""
    machine = Machine({"first": [(5.0, b"one\n"), (6.0, b"two\n"), (7.0, 0)]})
    course, _control = attempt(tmp_path / "a", machine, timeout=1e6, idle_timeout=100.0)
    machine.refuses_until = machine.time + 3600
    result = in_a_second(course.run)
    assert result.outcome == "succeeded"
    found = records(tmp_path / "a")
    assert [one for one in found if isinstance(one, str)] == ["one", "two"]
    waited = [one.message for one in found if isinstance(one, Notice) and "the build waited for" in one.message]
    assert waited
    assert isinstance(found[-1], StepEnded)


def test_a_limit_that_is_exceeded_ends_the_attempt_at_once(tmp_path: Path) -> None:
    """Without the grace: what runs wild isn't asked."""
    machine = Machine({"first": QUIET}, obeys=False)
    poll = machine.outside().poll

    def poll_until(descriptors: Sequence[int], seconds: float) -> dict[int, int]:
        machine.limits.exceeded = "it had too much" if machine.time >= 1100 else ""
        return poll(descriptors, seconds)

    course, _control = attempt(tmp_path / "a", machine, poll=poll_until, timeout=7200.0, grace=10.0)
    result = in_a_second(course.run)
    assert (result.outcome, result.reason) == ("failed", "it had too much")
    assert (machine.told_at, machine.limits.kills) == ([], 1)
    assert machine.killed_at == [pytest.approx(1100, abs=0.5)]
    assert result.steps[-1].outcome == "failed"
    assert [one.message for one in records(tmp_path / "a") if isinstance(one, Notice)] == ["it had too much"]
    assert result.used == Used(processes=7)


def test_told_to_stop_while_the_disk_is_full_for_good(tmp_path: Path) -> None:
    machine = Machine({})
    course, control = attempt(tmp_path / "a", machine, grace=10.0)
    machine.refuses_until = float("inf")
    control.told_to_stop = True
    write_file(tmp_path / "a" / "cancel", Cancel(reason="the runner was told to stop"))
    with pytest.raises(NoRoom):
        in_a_second(course.run)
    assert machine.time == pytest.approx(1010, abs=1)
    assert not list((tmp_path / "a").glob("result.json"))
