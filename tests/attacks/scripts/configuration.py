"""Read the builder's configuration."""

from pathlib import Path

from facts import known, reached

reached(Path(known.configuration).read_text())
