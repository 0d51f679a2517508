"""
Control groups for each attempt, where the system has them (Linux: cgroup v2, and v1). An attempt has a group in each
hierarchy in which one can be made::

    PARENT/twistedipc-ATTEMPT-LEASE/
        runner/     the attempt's runner (v2; in v1 the runner is in the group itself)
        steps/      what its steps have started; the limits (``isolation.limits``) are this group's

With v2 a group whose controllers are switched on for those below it holds no process itself. So the runner has one of
its own, where no limit is: it survives what its steps do to themselves.

A daemon that left its session and its process group, and whose runner is dead, is still in the attempt's group and is
killed with it. The runner makes the group and enters it before it starts anything. The builder finds the parents when
it starts, and kills and deletes what an attempt has left.

To make groups takes root, or a group that was delegated to the builder's user (systemd: ``Delegate=yes``). With
``DelegateSubgroup=`` too, the builder is in a group of its own below the delegated one, and the attempts' groups are
beside it; then controllers can be switched on. Without it they can't: the group above the attempts' has a process, the
builder. (A builder that moved itself out would switch them on, but then systemd couldn't start the next one there
while builds of this one run.)
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

#: The controllers that limit something here.
CONTROLLERS = ("pids", "memory", "cpu")

_PROCESSES = "cgroup.procs"
_KILL = "cgroup.kill"
_RUNNER, _STEPS = "runner", "steps"


class NoCgroup(Exception):
    """No control groups can be made for attempts; ``str()`` of the exception gives the reason."""


class Parents(msgspec.Struct, frozen=True):
    """The folders below which attempts' groups are made."""

    v2: str = ""  # "" where there can be none
    v1: dict[str, str] = {}  # controller -> folder in its hierarchy; without those that v2 has

    @property
    def all(self) -> list[str]:
        """All of them."""
        return [folder for folder in dict.fromkeys((self.v2, *self.v1.values())) if folder]

    @property
    def controllers(self) -> list[str]:
        """The controllers that limit something in these groups."""
        switched_on: list[str] = []
        if self.v2:
            try:
                switched_on = (Path(self.v2) / "cgroup.subtree_control").read_text().split()
            except OSError:
                pass  # none are, then
        return [controller for controller in CONTROLLERS if controller in self.v1 or controller in switched_on]


def find_parents() -> Parents:
    """Return where groups can be made by this process, a builder. Raises `NoCgroup` if that is nowhere."""
    try:
        membership = Path("/proc/self/cgroup").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError as error:
        raise NoCgroup(f"this system has none ({error})") from error
    v1: dict[str, str] = {}
    for controller in CONTROLLERS:
        group = locate(membership, mounts, controller)
        if group is not None and not _why_not(group):
            v1[controller] = str(group)
    own = locate(membership, mounts)
    if own is None:
        why = "cgroup v2 isn't mounted here, or not the part of it that this process is in"
    else:
        parent = _delegated_above(own) or own
        why = _why_not(parent)
        if not why:
            switch_on(parent)
            return Parents(str(parent), v1)
    if not v1:
        raise NoCgroup(why)
    return Parents(v1=v1)


def locate(membership: str, mounts: str, controller: str = "") -> Path | None:
    """
    Return the folder of a process's own group, in the hierarchy of v2 or in v1's of a controller, from the texts of its
    ``cgroup`` and ``mountinfo`` in /proc (proc(5), cgroups(7)); None if no mount shows the group.
    """
    group: str | None = None
    for line in membership.splitlines():
        _number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") and (controller or line.startswith("0:")):
            group = path
            break
    if group is None:
        return None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, system = before.split(" "), after.split(" ")
        if len(fields) < 5 or system[0] != ("cgroup" if controller else "cgroup2"):
            continue
        if controller and controller not in system[-1].split(","):
            continue
        root, point = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field) for field in fields[3:5])
        if group == root:
            return Path(point)
        if group.startswith(root.rstrip("/") + "/") and ".." not in group.split("/"):
            return Path(point) / group[len(root.rstrip("/")) + 1 :]
    return None


def _why_not(parent: Path) -> str:
    """Return why no groups can be made in this one for processes of ours; "" if they can. One is made to see it."""
    trial = parent / f"twistedipc-trial-{os.getpid()}"
    kind = "domain"
    try:
        trial.mkdir(exist_ok=True)
        try:
            # To move a process takes the right to write to both: where it comes from, and where it goes.
            for processes in (parent / _PROCESSES, trial / _PROCESSES):
                os.close(os.open(processes, os.O_WRONLY | os.O_CLOEXEC))
            if (trial / "cgroup.type").exists():  # v2
                kind = (trial / "cgroup.type").read_text().strip()
        finally:
            trial.rmdir()
    except OSError as error:
        return f"none can be made in {parent}: {error.strerror}"
    return "" if kind == "domain" else f"those made in {parent} are of the type {kind}"


def _delegated_above(own: Path) -> Path | None:
    """
    Return the group above this process's own if that one was delegated to us, and no process is in it: systemd's
    ``DelegateSubgroup=`` sets up such a pair.
    """
    above = own.parent
    try:
        if (above / _PROCESSES).read_text().strip():
            return None
        if os.geteuid() != 0:
            return above if above.stat().st_uid == os.geteuid() else None
        # To root everything seems to be its own; systemd marks what it leaves to others.
        return above if os.getxattr(above, "trusted.delegate") == b"1" else None
    except OSError:
        return None


def switch_on(group: Path) -> None:
    """Have the controllers in the groups below this one of v2, as far as that is possible."""
    for controller in CONTROLLERS:
        try:
            _write(group / "cgroup.subtree_control", b"+" + controller.encode())
        except OSError:
            pass  # it isn't there, or the group has processes of its own


def group_of(parent: Path, folder: Path) -> Path:
    """Return the control group of the attempt in ``folder``."""
    return parent / f"twistedipc-{folder.name}"


def sweep(parents: Parents) -> None:
    """Delete the groups in which nothing runs: those of attempts whose folders were deleted by hand."""
    for parent in parents.all:
        for group in Path(parent).glob("twistedipc-*"):
            try:
                if not _populated(group):
                    _delete(group)
            except OSError:
                pass  # it has gone, or something has begun to run in it


def enter(parents: Parents, folder: Path) -> list[Path]:
    """
    Make the groups of the attempt in ``folder`` and move this process, its runner, into them. Return those that are
    for its steps. Raises OSError.
    """
    steps: list[Path] = []
    for parent in parents.all:
        group = group_of(Path(parent), folder)
        own = group / _RUNNER if parent == parents.v2 else group
        try:
            _enter(group, own)
        except FileNotFoundError:
            _enter(group, own)  # another builder has started at this moment, and swept
        if parent == parents.v2:
            switch_on(group)
        steps.append(group / _STEPS)
    return steps


def _enter(group: Path, own: Path) -> None:
    for folder in (group, own):
        folder.mkdir(exist_ok=True)
    _write(own / _PROCESSES, b"0")
    (group / _STEPS).mkdir(exist_ok=True)


def join(groups: Sequence[Path]) -> None:
    """Move this process into groups that are there, and so its future children. Raises OSError."""
    for group in groups:
        _write(group / _PROCESSES, b"0")


def kill_steps(groups: Sequence[Path]) -> None:
    """Kill everything in these groups of one attempt, as far as that can be done without waiting."""
    for group in groups:
        try:
            _write(group / "pids.max", b"0")  # so that what is killed one by one can't multiply meanwhile
        except OSError:
            pass
    for group in groups:
        try:
            _kill_now(group)
        except OSError:
            pass


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


def processes_in(group: Path) -> list[int]:
    """Return the processes in the group and in those below it. Raises OSError."""
    found: list[int] = []
    for folder, _folders, _files in os.walk(group):
        try:
            pids = (Path(folder) / _PROCESSES).read_text().split()
        except FileNotFoundError:
            continue  # it was deleted meanwhile
        found += [pid for pid in map(int, pids) if pid]  # 0 is one that this process can't see
    return found


def _kill_now(group: Path) -> None:
    try:
        _write(group / _KILL, b"1")
    except FileNotFoundError:
        # There is no such file in v1, nor before Linux 5.14.
        for pid in processes_in(group):
            try:
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
    """Return whether a process is left in the group, or in one below it. Raises OSError."""
    try:
        return "populated 1" in (group / "cgroup.events").read_text().splitlines()
    except FileNotFoundError:
        # v1 has no such file; but the group itself must be there.
        group.stat()
        return bool(processes_in(group))


def _delete(group: Path) -> None:
    for folder, _folders, _files in os.walk(group, topdown=False):
        os.rmdir(folder)
