"""Read another attempt's log on the builder's disk."""

from pathlib import Path

from facts import known, reached

for path in (Path(known.victim) / "journal").iterdir():
    reached(path.read_bytes()[:20])
