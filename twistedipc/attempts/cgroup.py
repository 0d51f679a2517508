"""
One control group for each attempt, where the system has them (Linux, cgroup v2).

A daemon that left its session and its process group, and whose runner is dead, is still in the attempt's control group
and is killed with it. The runner enters the group before it starts anything. The builder finds the parent group when
the builder starts, and kills and deletes what an attempt has left in its group.

The groups are made below the builder's own group. That takes root, or a group that was delegated to the builder's user
(systemd: ``Delegate=yes``). No controller is switched on: nothing is limited or measured by the groups.

The groups are a safeguard against accidents, not against attacks: a build that runs as the builder's user can leave its
group, just as it can kill the builder.
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

_PROCESSES = "cgroup.procs"
_KILL = "cgroup.kill"


class NoCgroup(Exception):
    """No control groups can be made for attempts; ``str()`` of the exception gives the reason."""


def find_parent() -> Path:
    """Return the folder below which attempts' groups can be made: this process's own group. Raises `NoCgroup`."""
    try:
        membership = Path("/proc/self/cgroup").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError as error:
        raise NoCgroup(f"this system has none ({error})") from error
    parent = locate(membership, mounts)
    if parent is None:
        raise NoCgroup("cgroup v2 isn't mounted here, or not the part of it that this process is in")
    trial = parent / f"twistedipc-trial-{os.getpid()}"
    try:
        trial.mkdir(exist_ok=True)
        try:
            # To move a process takes the right to write to both: where it comes from, and where it goes.
            for processes in (parent / _PROCESSES, trial / _PROCESSES):
                os.close(os.open(processes, os.O_WRONLY | os.O_CLOEXEC))
            kind = (trial / "cgroup.type").read_text().strip()
        finally:
            trial.rmdir()
    except OSError as error:
        raise NoCgroup(f"none can be made in {parent}: {error.strerror}") from error
    if kind != "domain":
        raise NoCgroup(f"those made in {parent} are of the type {kind}")
    return parent


def locate(membership: str, mounts: str) -> Path | None:
    """
    Return the folder of a process's own group, from the texts of its ``cgroup`` and ``mountinfo`` in /proc (proc(5),
    cgroups(7)); None if no mount shows the group.
    """
    group = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), None)
    if group is None:
        return None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if not after.startswith("cgroup2 ") or len(fields) < 5:
            continue
        root, point = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field) for field in fields[3:5])
        if group == root:
            return Path(point)
        if group.startswith(root.rstrip("/") + "/") and ".." not in group.split("/"):
            return Path(point) / group[len(root.rstrip("/")) + 1 :]
    return None


def group_of(parent: Path, folder: Path) -> Path:
    """Return the control group of the attempt in ``folder``."""
    return parent / f"twistedipc-{folder.name}"


def sweep(parent: Path) -> None:
    """Delete the groups in which nothing runs: those of attempts whose folders were deleted by hand."""
    for group in parent.glob("twistedipc-*"):
        try:
            group.rmdir()
        except OSError:
            pass  # something runs in it


def enter(group: Path) -> None:
    """Make the group and move this process into it, and so its future children. Raises OSError."""
    group.mkdir(exist_ok=True)
    try:
        _write(group / _PROCESSES, b"0")
    except FileNotFoundError:
        # Another builder has started at this moment, and swept.
        group.mkdir(exist_ok=True)
        _write(group / _PROCESSES, b"0")


def kill(group: Path, until: float) -> bool:
    """
    Kill everything in the group and in those below it, wait until it has ended, and delete the groups. Return whether
    that was done by ``until``, on the monotonic clock. A group that doesn't exist is done.
    """
    while True:
        try:
            _kill_now(group)
            if not _populated(group):
                _delete(group)
                return True
        except FileNotFoundError:
            return True
        except OSError:
            pass  # something is still dying in it
        if time.monotonic() > until:
            return False
        time.sleep(0.005)


def _kill_now(group: Path) -> None:
    try:
        _write(group / _KILL, b"1")
    except FileNotFoundError:
        # Before Linux 5.14 there is no such file.
        for folder, _folders, _files in os.walk(group):
            for pid in map(int, (Path(folder) / _PROCESSES).read_text().split()):
                try:
                    if pid:  # 0 is one that this process can't see
                        os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass


def _write(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _populated(group: Path) -> bool:
    """Return whether a process is left in the group, or in one below it."""
    return "populated 1" in (group / "cgroup.events").read_text().splitlines()


def _delete(group: Path) -> None:
    for folder, _folders, _files in os.walk(group, topdown=False):
        os.rmdir(folder)
