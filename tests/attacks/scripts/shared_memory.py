"""Read what others share in memory: as a file, and by System V's key."""

import ctypes
from pathlib import Path

from facts import known, reached

if ctypes.CDLL(None).shmget(known.memory_key, 0, 0) != -1:
    reached(f"segment {known.memory_key}")
reached(Path(known.memory).read_text())
