"""
The limits of attempts, with real processes: a fork bomb, a hog of memory, of descriptors and of the disk is ended, and
the reason says by which limit; by control groups, where they can be had, and by looking alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attempt_folder import NO_GROUPS, Attempt, repository, toml
from tests.conftest import NOT_ON_THIS_MACHINE
from tests.test_isolation_bubblewrap import BWRAP, needs_bubblewrap
from twistedipc.attempts import cgroup
from twistedipc.attempts.processes import kill_remains
from twistedipc.builds.attempt import ResourceLimits
from twistedipc.builds.isolation import NOT_ISOLATED, Isolation
from twistedipc.isolation.limits import defaults, rlimits
from twistedipc.isolation.limits.folder_size import FolderSize
from twistedipc.isolation.limits.groups import Groups

MIB = 1 << 20

PATH = "/usr/local/bin:/usr/bin:/bin"

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

#: Uses something for a moment.
USES = """
import time
held = bytearray(b"x") * (50 << 20)
until = time.process_time() + 0.4
while time.process_time() < until:
    pass
time.sleep(1)
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


@pytest.fixture(
    params=[pytest.param("bubblewrap", marks=needs_bubblewrap), pytest.param("none", marks=pytest.mark.long)]
)
def isolation(request: pytest.FixtureRequest) -> Isolation:
    """What isolates the steps."""
    return Isolation(kind="bubblewrap", program=BWRAP) if request.param == "bubblewrap" else NOT_ISOLATED


@pytest.fixture
def attempts(tmp_path: Path, parents: cgroup.Parents, isolation: Isolation) -> Iterator[Callable[..., Attempt]]:
    """Make attempts with such a step and such limits."""
    made: list[Attempt] = []

    def make(script: str, **limits: float) -> Attempt:
        number = len(made) + 1
        source = tmp_path / f"source-{number}"
        repository(source, {".twistedipc.toml": toml("python3 hog.py", "echo after"), "hog.py": script})
        one = Attempt(
            tmp_path,
            source,
            name=f"{os.getpid()}{number}-1",
            path=PATH,
            cgroups=parents,
            isolation=isolation,
            limits=ResourceLimits(**limits),  # type: ignore[arg-type]
        )
        made.append(one)
        return one

    yield make
    for one in made:
        kill_remains(one.folder, one.spec.hierarchies)


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
    one.start()  # not by a fork: its memory is what is looked at
    result = one.wait()
    assert time.monotonic() - began < 120
    assert result.outcome == "failed"
    (limit,) = limits
    controller = {"processes": "pids"}.get(limit, limit)
    if limit in ("processes", "memory") and controller not in parents.controllers:
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
    assert one.run().outcome == "failed"
    left = [
        path
        for path in Path("/proc").glob("[0-9]*/cwd")
        if os.path.realpath(path, strict=False).startswith(str(one.folder))
    ]
    assert left == []


@pytest.mark.parametrize(
    ("slots", "machine", "each"),
    [
        (2, 24 << 30, 9 << 30),
        (1, 8 << 30, 6 << 30),
        (8, 8 << 30, 2 << 30),  # not below what a build needs
        (4, 1 << 30, (1 << 30) * 9 // 10),  # and not more than there is
    ],
)
def test_the_memory_of_each_attempt(slots: int, machine: int, each: int) -> None:
    assert defaults.memory(slots, machine) == each


def test_the_files_of_cgroup_v2(tmp_path: Path) -> None:
    """What is written and read, in folders that look like a group of v2 with all controllers."""
    group = tmp_path / "steps"
    group.mkdir()
    for name in ("cgroup.procs", "pids.max", "memory.max", "memory.swap.max", "memory.oom.group", "cpu.max"):
        (group / name).touch()
    limits = ResourceLimits(processes=64, memory=100 * MIB, cpus=1.5)
    groups = Groups([tmp_path / "another", group], limits)
    assert {"pids", "memory", "cpu"} <= groups.held
    written = {path.name: path.read_text() for path in group.iterdir() if path.read_text()}
    assert written == {
        "pids.max": "64",
        "memory.max": str(100 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "150000 100000",
    }
    assert (groups.out_of_processes, groups.out_of_memory, groups.killed_for_memory) == (False, False, False)
    assert (groups.threads, groups.memory) == (0, 0)
    (group / "pids.events").write_text("max 2\n")
    (group / "pids.peak").write_text("64\n")
    (group / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 1\noom_kill 3\noom_group_kill 1\n")
    (group / "memory.stat").write_text("anon 5000\nfile 9000\nkernel 10\nshmem 700\n")
    assert groups.out_of_processes
    assert groups.out_of_memory
    assert groups.killed_for_memory
    assert (groups.threads, groups.memory) == (64, 5700)


class Disk:
    """A clock and the number of bytes that a file system says are used."""

    def __init__(self) -> None:
        self.time = 0.0
        self.step = 0.0
        self.filled = 0

    def clock(self) -> float:
        self.time += self.step
        return self.time


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a hundred files of 64 KiB, and a link that leads out of it."""
    tree = tmp_path / "tree"
    for number in range(100):
        file = tree / f"{number % 7}" / f"{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 65_536)
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * MIB)
    (tree / "link").symlink_to(outside)
    return tree


def size_of(tree: Path, disk: Disk) -> FolderSize:
    return FolderSize(tree, clock=disk.clock, filled=lambda _folder: disk.filled)


def test_a_folder_is_counted_when_it_could_be_too_large(tree: Path, disk: Disk) -> None:
    size = size_of(tree, disk)
    disk.time = 5.0
    assert size.look(20 * MIB) > 0
    assert size.most == 0  # it can't have grown so much, so nothing is counted
    disk.filled = 20 * MIB  # another's
    size.look(20 * MIB)
    assert 100 * 65_536 <= size.most <= 110 * 65_536
    disk.time = 6.5
    size.look(20 * MIB)
    assert size.bytes == size.most


def test_a_folder_is_counted_now_and_then(tree: Path, disk: Disk) -> None:
    """Others may have deleted as much as it has grown."""
    size = size_of(tree, disk)
    disk.time = 29.0
    size.look(20 * MIB)
    assert size.most == 0
    disk.time = 31.0
    size.look(20 * MIB)
    assert size.most > 0


def test_a_count_takes_turns(tree: Path, disk: Disk) -> None:
    size = size_of(tree, disk)
    disk.time, disk.step = 31.0, 0.02  # each look at the clock finds that a turn is over
    turns = 1
    while size.look(1 << 40) < 1:
        turns += 1
    assert turns > 1
    assert 100 * 65_536 <= size.bytes <= 110 * 65_536


def test_files_of_several_names_count_once(tmp_path: Path, disk: Disk) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"x" * MIB)
    for number in range(9):
        (tree / f"b{number}").hardlink_to(tree / "a")
    size = size_of(tree, disk)
    disk.time = 31.0
    size.look(1 << 40)
    assert MIB <= size.bytes < 1.1 * MIB


def test_a_step_that_has_failed_is_counted_at_once(tree: Path, disk: Disk) -> None:
    size = size_of(tree, disk)
    disk.filled = 5 * MIB
    size.finish(6 * MIB, 3.0)
    assert size.most == 0  # it can't be
    disk.filled = 7 * MIB
    size.finish(6 * MIB, 3.0)
    assert size.most >= 6 * MIB


def test_one_file_that_fills_the_disk(tmp_path: Path) -> None:
    """The kernel ends its writer at once, and what has happened is said."""
    source = tmp_path / "source"
    repository(source, {".twistedipc.toml": toml("exec dd if=/dev/zero of=big bs=1M count=100 2>/dev/null")})
    one = Attempt(tmp_path, source, limits=ResourceLimits(disk=20 * MIB))
    result = one.run()
    assert result.outcome == "failed"
    assert "limits.disk" in result.reason
    assert (one.folder / "work" / "big").stat().st_size == 20 * MIB


def test_what_was_used_is_told(tmp_path: Path) -> None:
    step = USES
    source = tmp_path / "source"
    repository(source, {".twistedipc.toml": toml(f"{sys.executable} use.py"), "use.py": step})
    used = Attempt(tmp_path, source).run().used
    assert used is not None
    assert used.cpu >= 400
    assert used.memory >= 50 * MIB
    assert used.processes >= 1


def test_no_core_files_and_fewer_processors(tmp_path: Path) -> None:
    source = tmp_path / "source"
    look = "import os, resource; print(resource.getrlimit(resource.RLIMIT_CORE), len(os.sched_getaffinity(0)))"
    repository(source, {".twistedipc.toml": toml(f'{sys.executable} -c "{look}"')})
    one = Attempt(tmp_path, source, limits=ResourceLimits(cpus=1.0))
    assert one.run().outcome == "succeeded"
    assert one.output(1) == ["(0, 0) 1"]


NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if os.geteuid() == 0 else []
SANDBOX = ["bwrap", "--ro-bind", "/", "/", "--unshare-user", "--unshare-pid", "--proc", "/proc", "--dev", "/dev"]


@pytest.mark.parametrize(("most", "works"), [(20, False), (200, True)])
def test_the_processes_of_an_ordinary_user_s_sandbox(most: int, works: bool) -> None:
    """They are counted by themselves: what the user runs beside it doesn't count."""
    if shutil.which("bwrap") is None or shutil.which("setpriv") is None:
        pytest.skip("bubblewrap or setpriv isn't installed")
    beside = [subprocess.Popen([*NOBODY, "sleep", "60"]) for _ in range(25)]
    try:
        script = "for i in $(seq 30); do sleep 1 & done; echo all"
        command = [*NOBODY, *SANDBOX, *rlimits.with_processes(["/bin/sh", "-c", script], most)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    finally:
        for process in beside:
            process.kill()
            process.wait()
    if "No permissions to create" in done.stderr or "Creating new namespace failed" in done.stderr:
        pytest.skip(f"{NOT_ON_THIS_MACHINE}{done.stderr}")
    assert (done.stdout == "all\n") == works
    assert ("fork" in done.stderr) != works
