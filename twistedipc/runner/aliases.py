"""
Another name for a folder whose own name can't stand on a PATH. Used by ``course``.

PATH is a list of folders with a colon between them, and has no way to write a colon that belongs to a folder's name
(POSIX.1-2017, 8.3). Whatever such a folder holds isn't found by a shell: neither the platform's own commands nor
those in the project's ``node_modules/.bin``, which npm puts on PATH itself.
"""

from __future__ import annotations

import os
from pathlib import Path


def without_colon(folder: Path) -> Path:
    """
    ``folder``, or if its path holds a colon, a name for it that holds none, and that is good while this process lives.
    Raises OSError.
    """
    if ":" not in str(folder):
        return folder
    # Never closed: programs of the build look the name up until the end, and there is one attempt in a process.
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")
