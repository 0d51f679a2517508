"""
The limits of attempts where the operator sets none. Used by ``taps``.

They are for accidents: no front-end build that works comes near them, and one that runs wild leaves the machine
something for the others.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from twistedipc.attempts.cgroup import locate

PROCESSES = 4096
OPEN_FILES = 65_536
DISK = 20 << 30

#: What a build of a large front end takes. With more slots than the machine has memory for, builds may exceed it
#: together: not all are at their peak at once.
LEAST_MEMORY = 2 << 30


def memory(slots: int, machine: int) -> int:
    """
    Return the bytes of memory for each of the attempts that may run at once: three quarters of the machine's in equal
    parts, but at least `LEAST_MEMORY`, and never more than nine tenths of all.
    """
    return min(max(machine * 3 // 4 // slots, LEAST_MEMORY), machine * 9 // 10)


def machine_memory() -> int:
    """Return the bytes of memory that this process and its children can have: the machine's, or its container's."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        membership, mounts = Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()
    except OSError:  # not Linux
        return most
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        group = locate(membership, mounts, controller)
        if group is not None:
            most = _least(most, group, name)
    return most


def _least(most: int, group: Path, name: str) -> int:
    """Return the lowest limit of a group and of those above it that are mounted, but not more than ``most``."""
    for folder in (group, *group.parents):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        if re.fullmatch(r"[1-9][0-9]*", text):  # "max" is none
            most = min(most, int(text))
    return most
