"""What a machine does to its services: its clock is set, its descriptors run out. Real processes."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.platform import BARE, Platform, wait_for
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
    platform = Platform(tmp_path, isolation=BARE)
    for service in (platform.apiserver, platform.builder):
        service.program = [str(Path(sys.executable).with_name("twistd"))]  # a forked one has no imports to come
    with platform:
        yield platform


def has_line(platform: Platform, build: int, line: int) -> bool:
    """Whether the counting step's line is in the log."""
    return f"line {line}\n" in platform.log(build)


@pytest.mark.long
def test_the_time_of_day_is_set_a_day_forth_and_back(with_a_clock_to_set: Platform) -> None:
    """Nothing that waits goes by the time of day: lines flow on, and builds begin and end, whatever it says."""
    platform = with_a_clock_to_set
    platform.add_project("count", platform.repository(counting(60, 0.05)), publish={})
    build = platform.build("count")
    for jump, line in ((signal.SIGUSR1, 5), (signal.SIGUSR2, 15), (signal.SIGUSR2, 25)):
        wait_for(f"line {line}", partial(has_line, platform, build, line))
        for service in (platform.apiserver, platform.builder):
            os.kill(service.pid, jump)
    other = platform.build("count")
    for each in (build, other):
        assert len(platform.succeed(each)["attempts"]) == 1
        assert counted(platform, each) == [f"line {number}" for number in range(1, 61)]


def cpu_seconds(process: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.long
def test_there_are_few_descriptors_and_many_connections(tmp_path: Path) -> None:
    """Strangers take all descriptors: the links live on, nothing spins, and then connections are accepted again."""
    with Platform(tmp_path, isolation=BARE) as platform:
        platform.add_project("count", platform.repository(counting(90, 0.05)), publish={})
        build = platform.build("count")
        wait_for("line 5", partial(has_line, platform, build, 5))
        process = platform.apiserver.pid
        resource.prlimit(process, resource.RLIMIT_NOFILE, (64, 64))
        strangers: list[socket.socket] = []
        try:
            used, began = cpu_seconds(process), time.monotonic()
            while time.monotonic() < began + 2.0:
                stranger = socket.socket()
                stranger.setblocking(False)
                stranger.connect_ex(("127.0.0.1", platform.port))
                strangers.append(stranger)
                if len(strangers) > 300:
                    strangers.pop(0).close()
                time.sleep(0.002)
            # More connections wait than it can take, for a while.
            time.sleep(1.5)
            used = cpu_seconds(process) - used
        finally:
            for stranger in strangers:
                stranger.close()
        assert used < 1.4, f"{used:.2f} s of processor time in 3.5 s"
        assert "EMFILE" in platform.apiserver.text(), "it had descriptors enough"
        assert "is lost" not in platform.builder.text()
        platform.succeed(build)
        assert counted(platform, build) == [f"line {number}" for number in range(1, 91)]
        assert len(platform.apiserver.text()) < 2_000_000
