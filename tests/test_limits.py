"""
The limits of attempts, with real processes: a fork bomb, a hog of memory, of descriptors and of the disk is ended, and
the reason says by which limit; by control groups, where they can be had, and by looking alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attempt_folder import NO_GROUPS, Attempt, alive, repository, toml, until
from tests.conftest import NOT_ON_THIS_MACHINE
from twistedipc.attempts import cgroup
from twistedipc.attempts.processes import kill_remains
from twistedipc.builds.attempt import ResourceLimits

MIB = 1 << 20

#: A bomb with a bound of its own: it does no harm even if nothing stops it.
BOMB = """
import os, sys, time
open("pid", "w").write(str(os.getpid()))
for _ in range(300):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except OSError:
        time.sleep(0.01)
print("it went off", flush=True)
time.sleep(60)
"""

MEMORY_HOG = """
import time
held = []
for _ in range(400):
    held.append(bytearray(b"x" * (1 << 20)))
    time.sleep(0.002)
print("it had all of it", flush=True)
time.sleep(60)
"""

#: Tries again and again: no error of the system ends it.
FILES_HOG = """
import os, time
held = []
for _ in range(20_000):
    try:
        held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        time.sleep(0.01)
print("it opened them all", flush=True)
time.sleep(60)
"""

#: Many small files, none of which is too large.
DISK_HOG = """
import time
for number in range(100):
    with open(f"file-{number}", "wb") as file:
        file.write(b"x" * (1 << 20))
    time.sleep(0.005)
print("it wrote them all", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["groups", "looking"])
def parents(request: pytest.FixtureRequest) -> cgroup.Parents:
    """Where control groups can be made; nowhere, if the limits are to be held by looking alone."""
    if request.param == "looking":
        return NO_GROUPS
    try:
        found = cgroup.find_parents()
    except cgroup.NoCgroup as error:
        pytest.skip(f"{NOT_ON_THIS_MACHINE}{error}")
    return found


@pytest.fixture
def attempts(tmp_path: Path, parents: cgroup.Parents) -> Iterator[Callable[..., Attempt]]:
    """Make attempts with such a step and such limits."""
    made: list[Attempt] = []

    def make(script: str, **limits: float) -> Attempt:
        number = len(made) + 1
        source = tmp_path / f"source-{number}"
        repository(source, {".twistedipc.toml": toml(f"{sys.executable} hog.py", "echo after"), "hog.py": script})
        name = f"{os.getpid()}{number}-1"
        one = Attempt(tmp_path, source, name=name, cgroups=parents, limits=ResourceLimits(**limits))  # type: ignore[arg-type]
        made.append(one)
        return one

    yield make
    for one in made:
        kill_remains(one.folder, one.spec.hierarchies)


def groups_hold(parents: cgroup.Parents, controller: str) -> bool:
    return controller in parents.v1 or (
        bool(parents.v2) and controller in (Path(parents.v2) / "cgroup.subtree_control").read_text().split()
    )


HOGS = [
    (BOMB, {"processes": 64}, "it had 64 processes and threads, the most that this builder allows (limits.processes)"),
    (
        MEMORY_HOG,
        {"memory": 100 * MIB},
        "it used 100.0 MiB of memory, the most that this builder allows (limits.memory)",
    ),
    (FILES_HOG, {"open_files": 500}, "files open, and this builder allows 500 (limits.open_files)"),
    (DISK_HOG, {"disk": 30 * MIB}, "to the disk, and this builder allows 30.0 MiB (limits.disk)"),
]


@pytest.mark.parametrize(("hog", "limits", "reason"), HOGS, ids=["processes", "memory", "open_files", "disk"])
def test_a_hog_is_ended_and_another_build_goes_on(
    attempts: Callable[..., Attempt], parents: cgroup.Parents, hog: str, limits: dict[str, int], reason: str
) -> None:
    other = attempts("import time\nfor n in range(30):\n    print(n, flush=True)\n    time.sleep(0.05)\n", **limits)
    one = attempts(hog, **limits)
    other.start()
    began = time.monotonic()
    result = one.run()
    assert time.monotonic() - began < 20
    assert result.outcome == "failed"
    (limit,) = limits
    controller = {"processes": "pids"}.get(limit, limit)
    if limit in ("processes", "memory") and not groups_hold(parents, controller):
        # Seen a moment too late, so there may be more.
        assert f"the most that this builder allows (limits.{limit})" in result.reason
    else:
        assert reason in result.reason
    assert result.reason in one.notices()
    assert [step.name for step in result.steps] == ["checkout", "s0"]
    assert result.steps[-1].outcome == "failed"
    assert other.wait().outcome == "succeeded"


def test_nothing_of_a_bomb_is_left(attempts: Callable[..., Attempt]) -> None:
    one = attempts(BOMB, processes=64)
    one.start()
    pid = one.folder / "work" / "pid"
    until(lambda: pid.exists() and pid.read_text(), "the bomb is lit")
    bomb = int(pid.read_text())
    assert one.wait().outcome == "failed"
    assert not alive(bomb)
