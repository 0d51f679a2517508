"""
What processes use, by /proc. Used by ``guard`` for what no control group counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

_PAGE = os.sysconf("SC_PAGE_SIZE")


def memory(processes: Iterable[int]) -> int:
    """
    Return the bytes of memory that these processes have for themselves. What they share, such as a program's own text,
    isn't counted: it would be counted for each of them.
    """
    total = 0
    for pid in processes:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                _size, resident, shared = file.read().split()[:3]
        except (OSError, ValueError):
            continue  # it has gone meanwhile
        total += int(resident) - int(shared)
    return total * _PAGE


def open_files(processes: Iterable[int]) -> int:
    """Return how many files these processes have open, each counted for each process that has it."""
    return sum(_open_files(pid) for pid in processes)


def _open_files(pid: int) -> int:
    folder = f"/proc/{pid}/fd"
    try:
        # Since Linux 6.2 the folder's size is their number.
        return os.stat(folder).st_size or len(os.listdir(folder))
    except OSError:
        return 0  # it has gone meanwhile, or isn't ours to look at
