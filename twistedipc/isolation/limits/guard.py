"""
The limits of one attempt: its steps' processes are entered into them, looked at, and ended when they exceed one. Used
by the runner.

What control groups hold, the kernel holds; it counts what was refused or killed for it, and that is read here. What
they don't hold is measured now and then. A look takes a fiftieth of a processor at most.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from twistedipc.attempts import cgroup
from twistedipc.attempts.processes import descendants
from twistedipc.attempts.room import readable
from twistedipc.builds.attempt import ResourceLimits, Spec, Used
from twistedipc.isolation.limits import rlimits, scan
from twistedipc.isolation.limits.folder_size import FolderSize, filled
from twistedipc.isolation.limits.groups import Groups

#: Seconds between two looks: where control groups hold processes and memory, and where nothing but the looks does.
HELD_EVERY = 1.0
WATCHED_EVERY = 0.25

#: A look is followed by a pause of so many times its length.
REST = 50

#: Seconds that the folder of a step that has failed may be counted for, to say whether the disk was the reason.
LAST_COUNT = 3.0


class Guard:
    """Holds an attempt to its limits."""

    def __init__(
        self, folder: Path, limits: ResourceLimits, *, build: int, groups: Sequence[Path], clock: Callable[[], float]
    ) -> None:
        self._limits = limits
        self._build = build
        self._clock = clock
        self._groups = Groups(groups, limits)
        self._size = FolderSize(folder, clock=clock, filled=filled)
        self._threads = 0
        self._memory = 0
        self._open_files = 0
        self._scan_at = 0.0
        self._count_at = 0.0 if limits.disk else math.inf

    @property
    def _grouped(self) -> bool:
        """Whether control groups hold both processes and memory, if there are limits for them."""
        wanted = {name for name, limit in (("pids", self._limits.processes), ("memory", self._limits.memory)) if limit}
        return bool(self._groups.folders) and wanted <= self._groups.held

    def enter(self) -> None:
        """Take the limits on, in the new process of a step. Raises OSError."""
        cgroup.join(self._groups.folders)
        rlimits.apply(self._limits)
        if self._limits.cpus and "cpu" not in self._groups.held:
            rlimits.use_processors(self._limits.cpus, self._build)

    def within(self, argv: Sequence[str]) -> Sequence[str]:
        """Return a command that runs in a user namespace of its own, with what holds its processes there."""
        if not self._limits.processes or "pids" in self._groups.held or not rlimits.supports_processes():
            return argv
        return rlimits.with_processes(argv, self._limits.processes)

    def pause(self) -> float:
        """Return the seconds until the next look is due."""
        return max(0.0, min(self._scan_at, self._count_at) - self._clock())

    def look(self) -> str:
        """Look, if a look is due. Return why the attempt is to end, for people; "" if it isn't."""
        began = self._clock()
        reason = ""
        if began >= self._scan_at:
            spent = time.process_time()
            reason = self._processes_and_memory()
            took = time.process_time() - spent  # not what others have made it wait
            self._scan_at = began + max(HELD_EVERY if self._grouped else WATCHED_EVERY, REST * took)
        if began >= self._count_at:
            self._count_at = began + self._size.look(self._limits.disk)
            reason = reason or self._too_large()
        return reason

    def verdict(self, *, failed: bool) -> str:
        """Return which limit a step that has ended had exceeded, or why else it was killed; "" if that isn't known."""
        self._scan_at = 0.0  # the next step is looked at when it begins
        reason = self._counted()
        if failed and not reason:
            if self._groups.killed_for_memory:
                return (
                    "the builder's machine had no memory left, and the system has killed a process of the build; the "
                    f"build used {readable(self._memory)}"
                )
            if self._limits.disk:
                self._size.finish(self._limits.disk, LAST_COUNT)
                reason = self._too_large()
        return reason

    def kill(self) -> None:
        """Kill all processes of the steps that are in control groups. The others have to be killed one by one."""
        cgroup.kill_steps(self._groups.folders)

    def used(self) -> Used:
        """Return what the steps have used that have ended."""
        times = os.times()
        return Used(
            processes=max(self._threads, self._groups.threads if self._groups.folders else 0),
            memory=self._memory,
            disk=self._size.most,
            open_files=self._open_files,
            cpu=round((times.children_user + times.children_system) * 1000),
        )

    def _processes_and_memory(self) -> str:
        if self._grouped:
            try:
                pids = self._groups.processes()
            except OSError:
                pids = []
            self._memory = max(self._memory, self._groups.memory)
        else:
            family = descendants()
            pids = list(family)
            self._threads = max(self._threads, threads := sum(family.values()))
            self._memory = max(self._memory, memory := scan.memory(pids))
            if self._limits.processes and "pids" not in self._groups.held and threads >= self._limits.processes:
                return _processes(threads)
            if self._limits.memory and "memory" not in self._groups.held and memory >= self._limits.memory:
                return _memory(memory)
        open_files = scan.open_files(pids)
        self._open_files = max(self._open_files, open_files)
        if self._limits.open_files and open_files >= self._limits.open_files:
            return (
                f"it had {open_files:,} files open, and this builder allows {self._limits.open_files:,} "
                "(limits.open_files)"
            )
        return self._counted()

    def _counted(self) -> str:
        """What the control groups have refused, or killed for."""
        groups, limits = self._groups, self._limits
        if "pids" in groups.held and groups.out_of_processes:
            return _processes(limits.processes)
        if "memory" in groups.held and groups.killed_for_memory and groups.out_of_memory:
            self._memory = limits.memory
            return _memory(limits.memory)
        return ""

    def _too_large(self) -> str:
        if self._size.most < self._limits.disk:
            return ""
        return (
            f"it has written {readable(self._size.most)} to the disk, and this builder allows "
            f"{readable(self._limits.disk)} (limits.disk)"
        )


def _processes(number: int) -> str:
    return f"it had {number:,} processes and threads, the most that this builder allows (limits.processes)"


def _memory(size: int) -> str:
    return f"it used {readable(size)} of memory, the most that this builder allows (limits.memory)"


def guard_of(folder: Path, spec: Spec, clock: Callable[[], float]) -> Guard:
    """Return the guard of an attempt, for its runner: this process, which is in a control group of its own then."""
    parents = cgroup.Parents(spec.cgroups, spec.cgroups_v1)
    groups: list[Path] = []
    try:
        groups = cgroup.enter(parents, folder)
    except OSError as error:
        # It was possible when the builder looked. The limits are held by looking alone.
        print(f"runner: it has no control group of its own: {error}", file=sys.stderr)
    return Guard(folder, spec.limits, build=spec.build, groups=groups, clock=clock)
