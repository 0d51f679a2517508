"""
What the kernel holds for all processes of an attempt's steps together: the files of its control groups, in v1 and v2.
Used by ``guard``; ``attempts.cgroup`` makes, kills and deletes the groups.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from twistedipc.attempts.cgroup import processes_in
from twistedipc.builds.attempt import ResourceLimits

#: Microseconds in which a build has its share of processors.
_PERIOD = 100_000


class Groups:
    """The groups of an attempt's steps: one in each hierarchy."""

    def __init__(self, folders: Sequence[Path], limits: ResourceLimits) -> None:
        self.folders = list(folders)
        self._most_memory = limits.memory
        #: the limits that these groups hold, by the names of their controllers
        self.held: set[str] = set()
        for controller, name, value in _settings(limits):
            for folder in self.folders:
                try:
                    _write(folder / name, value)
                except OSError:
                    continue  # it isn't this group's controller, or not this version's file
                self.held.add(controller)
                break

    def processes(self) -> list[int]:
        """Return the processes in the groups. Raises OSError."""
        return processes_in(self.folders[0])

    @property
    def out_of_processes(self) -> bool:
        """Whether a process couldn't be started, since there were as many as may be."""
        return self._count("pids.events", "max") > 0

    @property
    def killed_for_memory(self) -> bool:
        """Whether the kernel has killed a process of theirs for memory."""
        return self._count("memory.events", "oom_kill") + self._count("memory.oom_control", "oom_kill") > 0

    @property
    def out_of_memory(self) -> bool:
        """Whether they had all the memory that they may have, and not the machine none."""
        # Where v1 counts what was refused depends on Linux' version. At a limit less is left than the kernel takes in
        # one piece.
        at_limit = bool(self._most_memory) and self._number("memory.max_usage_in_bytes") >= self._most_memory * 15 // 16
        return at_limit or self._count("memory.events", "oom") > 0

    @property
    def threads(self) -> int:
        """The most processes and threads at a time; 0: not known."""
        return self._number("pids.peak") or self._number("pids.current")

    @property
    def memory(self) -> int:
        """The bytes of memory that they have now, without what the kernel keeps of files; 0: not known."""
        values = self._counts("memory.stat")
        names = ("total_rss", "total_shmem") if "total_rss" in values else ("anon", "shmem")  # v1, v2
        return sum(values.get(name, 0) for name in names)

    def _number(self, name: str) -> int:
        text = self._read(name).strip()
        return int(text) if text.isdecimal() else 0

    def _count(self, name: str, key: str) -> int:
        return self._counts(name).get(key, 0)

    def _counts(self, name: str) -> dict[str, int]:
        pairs = (line.partition(" ") for line in self._read(name).splitlines())
        return {key: int(value) for key, _space, value in pairs if value.isdecimal()}

    def _read(self, name: str) -> str:
        for folder in self.folders:
            try:
                return (folder / name).read_text()
            except OSError:
                continue
        return ""


def _settings(limits: ResourceLimits) -> Iterator[tuple[str, str, str]]:
    """Yield the controller, the file and its content, for both versions: each group has those of its own."""
    if limits.processes:
        yield "pids", "pids.max", str(limits.processes)
    if limits.memory:
        yield "memory", "memory.max", str(limits.memory)
        yield "memory", "memory.limit_in_bytes", str(limits.memory)
        # No more than that by way of the swap, either.
        yield "swap", "memory.swap.max", "0"
        yield "swap", "memory.memsw.limit_in_bytes", str(limits.memory)
        # All of it ends, and not only the largest process: half a build would go on and fail somewhere.
        yield "whole", "memory.oom.group", "1"
    if limits.cpus:
        yield "cpu", "cpu.max", f"{round(limits.cpus * _PERIOD)} {_PERIOD}"
        yield "cpu", "cpu.cfs_quota_us", str(round(limits.cpus * _PERIOD))  # its period is this one


def _write(file: Path, value: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
