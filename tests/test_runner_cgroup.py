"""Control groups of attempts: where they are made, and that nothing outlives them. Real ones, where they can be had."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attempt_folder import Attempt, alive, repository, toml, until
from tests.conftest import NOT_ON_THIS_MACHINE
from twistedipc.attempts import cgroup
from twistedipc.attempts.processes import kill_remains

UNIFIED = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "36 31 0:35 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw shared:5 master:2 - cgroup2 cgroup2 rw\n"
)


@pytest.mark.parametrize(
    ("membership", "mounts", "found"),
    [
        ("0::/system.slice/b.service\n", UNIFIED, "/sys/fs/cgroup/system.slice/b.service"),
        ("0::/\n", UNIFIED, "/sys/fs/cgroup"),
        ("4:memory:/x\n1:name=systemd:/y\n0::/z\n", HYBRID, "/sys/fs/cgroup/unified/z"),
        ("4:memory:/x\n", HYBRID, None),
        ("4:memory:/x\n0::/z\n", HYBRID.replace("cgroup2", "cgroup"), None),
        ("0::/\n", "", None),
        # Only a part of it is mounted, as in a container: this process is in that part, or isn't.
        ("0::/a/b/c\n", UNIFIED.replace("0:26 /", "0:26 /a/b"), "/sys/fs/cgroup/c"),
        ("0::/a/b\n", UNIFIED.replace("0:26 /", "0:26 /a/b"), "/sys/fs/cgroup"),
        ("0::/a/bc\n", UNIFIED.replace("0:26 /", "0:26 /a/b"), None),
        ("0::/../other\n", UNIFIED, None),
        ("0::/a b\n", UNIFIED.replace("/sys/fs/cgroup", "/mnt/c\\040\\134d"), "/mnt/c \\d/a b"),
        ("0::/\n", "\n- cgroup2\n1 2 - cgroup2 x\n", None),
    ],
)
def test_where_a_process_s_group_is(membership: str, mounts: str, found: str | None) -> None:
    assert cgroup.locate(membership, mounts) == (None if found is None else Path(found))


V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "36 31 0:35 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "37 31 0:36 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)


@pytest.mark.parametrize(
    ("controller", "found"),
    [
        ("memory", "/sys/fs/cgroup/memory/a"),
        ("cpu", "/sys/fs/cgroup/cpu,cpuacct/b"),
        ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/b"),
        ("pids", None),  # it isn't mounted
        ("blkio", None),
    ],
)
def test_where_a_process_s_groups_of_v1_are(controller: str, found: str | None) -> None:
    membership = "5:pids:/c\n4:memory:/a\n2:cpu,cpuacct:/b\n1:name=systemd:/y\n0::/z\n"
    assert cgroup.locate(membership, V1, controller) == (None if found is None else Path(found))


@pytest.fixture
def parents() -> cgroup.Parents:
    """Where groups can be made."""
    try:
        return cgroup.find_parents()
    except cgroup.NoCgroup as error:
        pytest.skip(f"{NOT_ON_THIS_MACHINE}{error}")


@pytest.fixture(params=["v2", "v1"])
def parent(parents: cgroup.Parents, request: pytest.FixtureRequest) -> Path:
    """Where groups of a version can be made."""
    found = parents.v2 if request.param == "v2" else next(iter(parents.v1.values()), "")
    if not found:
        pytest.skip(f"{NOT_ON_THIS_MACHINE}no groups of {request.param}")
    return Path(found)


@pytest.fixture
def group(parent: Path, tmp_path: Path) -> Iterator[Path]:
    """A group that is deleted after the test, whatever comes."""
    made = cgroup.group_of(parent, tmp_path / f"{tmp_path.name}-{os.getpid()}")
    yield made
    assert cgroup.kill(made, time.monotonic() + 10)


def sleeper(group: Path) -> subprocess.Popen[bytes]:
    """A process in the group."""
    group.mkdir(parents=True, exist_ok=True)
    script = f"echo 0 >'{group}/cgroup.procs' && exec sleep 600"
    process = subprocess.Popen(["sh", "-c", script])
    until(lambda: str(process.pid) in (group / "cgroup.procs").read_text().split(), "it is in the group")
    return process


@pytest.mark.parametrize("kill_file", ["cgroup.kill", "no-such-file"])  # the second: before Linux 5.14
def test_all_that_is_in_it_and_below_it_is_killed(group: Path, kill_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_KILL", kill_file)
    processes = [sleeper(group), sleeper(group / "a"), sleeper(group / "a" / "b")]
    (group / "c").mkdir()
    assert cgroup.kill(group, time.monotonic() + 10)
    assert [process.wait(10) for process in processes] == [-9, -9, -9]
    assert not group.exists()
    assert cgroup.kill(group, time.monotonic() + 10)  # it is done already


def test_only_empty_groups_are_swept(parent: Path, group: Path) -> None:
    empty = parent / f"{group.name}-empty"
    empty.mkdir()
    process = sleeper(group)
    cgroup.sweep(cgroup.Parents(str(parent)))
    assert not empty.exists()
    assert group.exists()
    process.kill()
    process.wait()


def test_a_group_that_does_not_die_is_given_up(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = sleeper(group)
    with monkeypatch.context() as patch:
        patch.setattr(cgroup, "_kill_now", lambda _group: None)
        assert not cgroup.kill(group, time.monotonic() + 0.05)
    assert process.poll() is None
    assert cgroup.kill(group, time.monotonic() + 10)
    process.wait(10)


def test_what_has_escaped_a_dead_runner_is_killed(tmp_path: Path, parents: cgroup.Parents) -> None:
    """A daemon of another session, in another folder, with an environment of its own."""
    pid_file = tmp_path / "pid"
    script = tmp_path / "escape.sh"
    script.write_text(f"#!/bin/sh\ncd /\necho $$ >{pid_file}\nexec sleep 600\n")
    script.chmod(0o755)
    step = f"(env -i PATH=/usr/bin:/bin setsid {script} </dev/null >/dev/null 2>&1 &); exec sleep 600"
    source = tmp_path / "source"
    repository(source, {".twistedipc.toml": toml(step)})
    one = Attempt(tmp_path, source, name=f"{os.getpid()}-1", cgroups=parents)
    groups = [cgroup.group_of(Path(parent), one.folder) for parent in parents.all]
    try:
        runner = one.start()
        until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "the daemon runs")
        daemon = int(pid_file.read_text())
        for own in groups:
            assert {runner.pid, daemon} <= set(cgroup.processes_in(own))
            assert cgroup.processes_in(own / "steps").count(daemon) == 1
            assert runner.pid not in cgroup.processes_in(own / "steps")
        runner.kill()
        runner.wait()
        # Nothing else tells that it was this attempt's.
        assert kill_remains(one.folder)
        assert alive(daemon)
        assert kill_remains(one.folder, parents.all)
        assert not alive(daemon)
        assert not any(own.exists() for own in groups)
    finally:
        for own in groups:
            cgroup.kill(own, time.monotonic() + 10)


def test_a_group_that_cannot_be_made_is_said_and_done_without(tmp_path: Path) -> None:
    source = tmp_path / "source"
    repository(source, {".twistedipc.toml": toml("echo built")})
    one = Attempt(tmp_path, source, cgroups=cgroup.Parents(str(tmp_path / "nowhere")))
    assert one.start().wait(40) == 0
    assert one.result is not None
    assert one.result.outcome == "succeeded"
    assert "it has no control group of its own" in (one.folder / "runner.err").read_text()
    assert kill_remains(one.folder, one.spec.hierarchies)
