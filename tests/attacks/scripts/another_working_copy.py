"""Read what another project is building."""

from pathlib import Path

from facts import known, reached

reached((Path(known.victim) / "work" / "secret.txt").read_text())
