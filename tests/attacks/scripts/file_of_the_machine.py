"""Read a file that lies elsewhere on the machine."""

from pathlib import Path

from facts import known, reached

reached(Path(known.private).read_text())
