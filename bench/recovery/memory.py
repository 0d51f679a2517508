"""Memory of a process, as the kernel tells it."""

from __future__ import annotations

import threading
from pathlib import Path

MIB = 1 << 20


def resident(pid: int) -> int:
    """VmRSS in bytes."""
    return _field(Path(f"/proc/{pid}/status"), "VmRSS:")


def shares(pid: int) -> tuple[int, int]:
    """Its proportional share (Pss: pages that n processes have count 1/n in each) and what it has alone: bytes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    return _field(rollup, "Pss:"), _field(rollup, "Private_Clean:") + _field(rollup, "Private_Dirty:")


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{path} has no {name}")


class Watch:
    """Looks at a process's resident memory several times a second, in a thread."""

    INTERVAL = 0.1

    def __init__(self, pid: int) -> None:
        self.before = self.peak = self.last = resident(pid)
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(self.INTERVAL):
            self.last = resident(self._pid)
            self.peak = max(self.peak, self.last)

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        """From the beginning to the highest point: bytes."""
        return self.peak - self.before
