"""What a machine does to its services: its clock is set, its descriptors run out. Real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.platform import Platform, wait_for
from tests.integration.test_platform import counted, counting

#: Put where a service imports it first: SIGUSR1 sets the time of day that the process sees a day forward, SIGUSR2 back.
CLOCK = """
import signal, time
offset = 0
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + offset
time.time_ns = lambda: real_ns() + offset * 10**9
def jump(number, frame):
    global offset
    offset += 86400 if number == signal.SIGUSR1 else -86400
signal.signal(signal.SIGUSR1, jump)
signal.signal(signal.SIGUSR2, jump)
"""


@pytest.fixture
def with_a_clock_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A platform whose services' time of day can be set."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "clock"))
    with Platform(tmp_path) as platform:
        yield platform


def has_line(platform: Platform, build: int, line: int) -> bool:
    """Whether the counting step's line is in the log."""
    return f"line {line}\n" in platform.log(build)


def test_the_time_of_day_is_set_a_day_forth_and_back(with_a_clock_to_set: Platform) -> None:
    """Nothing that waits goes by the time of day: lines flow on, and builds begin and end, whatever it says."""
    platform = with_a_clock_to_set
    platform.add_project("count", platform.repository(counting(120, 0.05)), publish={})
    build = platform.build("count")
    for jump, line in ((signal.SIGUSR1, 5), (signal.SIGUSR2, 25), (signal.SIGUSR2, 45)):
        wait_for(f"line {line}", partial(has_line, platform, build, line), 15.0)
        for service in (platform.apiserver, platform.builder):
            os.kill(service.pid, jump)
    other = platform.build("count")
    for each in (build, other):
        assert len(platform.succeed(each)["attempts"]) == 1
        assert counted(platform, each) == [f"line {number}" for number in range(1, 121)]
