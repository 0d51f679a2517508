"""A small file system of its own, so that a full disk is full for one of the services only. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

#: The most that it takes of the machine's memory. What isn't used costs nothing.
SIZE = "2g"

#: How often filling is tried while others write.
_TRIES = 50


class SmallDisk:
    """A tmpfs of ``size`` on ``folder``. It is filled by making it no larger than what is on it."""

    def __init__(self, folder: Path, size: str = SIZE) -> None:
        self._folder = folder
        self._size = size

    def mount(self) -> bool:
        """Mount it; whether that was possible."""
        if os.geteuid() != 0:
            return False
        self._folder.mkdir(exist_ok=True)
        return _done("mount", "-t", "tmpfs", "-o", f"size={self._size},mode=0700", "tmpfs", str(self._folder))

    def fill(self) -> bool:
        """Fill the disk. Return whether that was possible."""
        for _ in range(_TRIES):
            room = os.statvfs(self._folder)
            used = (room.f_blocks - room.f_bfree) * room.f_frsize
            # 0 would be no limit. It fails if more was written meanwhile.
            if _done("mount", "-o", f"remount,size={max(used, room.f_frsize) >> 10}k", str(self._folder)):
                return True
        return False

    def make_room(self) -> bool:
        """Undo `fill`. Return whether that was possible."""
        return _done("mount", "-o", f"remount,size={self._size}", str(self._folder))

    def unmount(self, *, keep: bool) -> None:
        """Take it away, and leave what is on it in the folder under it, or not."""
        copy = self._folder.with_name(f"{self._folder.name}.kept")
        if keep:
            # Sockets and pipes can't be copied, and the services make them again.
            shutil.copytree(self._folder, copy, symlinks=True, ignore=_specials)
        _done("umount", "--lazy", str(self._folder))
        if keep:
            self._folder.rmdir()
            copy.rename(self._folder)


def _specials(folder: str, names: list[str]) -> list[str]:
    paths = [Path(folder, name) for name in names]
    return [path.name for path in paths if not (path.is_symlink() or path.is_dir() or path.is_file())]


def _done(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
