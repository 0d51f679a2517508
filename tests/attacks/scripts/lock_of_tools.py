"""Hold the lock by which builds fetch a tool: it is a lock for all who can open the file, if only for reading."""

import fcntl
from pathlib import Path

from facts import known, reached

for path in (Path(known.tools) / "locks").iterdir():
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    reached(path)
