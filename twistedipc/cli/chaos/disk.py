"""A small file system of its own, for the builder's data: so that a full disk is only the builder's. Needs root."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

#: Enough for what an experiment leaves there, and quickly filled.
SIZE = "64m"


class SmallDisk:
    """A tmpfs on ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"

    def mount(self) -> bool:
        """Mount it; whether that was possible."""
        if os.geteuid() != 0:
            return False
        self._folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(self._folder)]
        try:
            return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
        except OSError:
            return False

    def fill(self) -> None:
        """Leave no room."""
        with self._filler.open("ab", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(1 << 16))

    def make_room(self) -> None:
        """As before."""
        self._filler.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Take it away, with all that is on it."""
        subprocess.run(["umount", "--lazy", str(self._folder)], capture_output=True, timeout=10, check=False)
