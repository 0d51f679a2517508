"""Read what the builder told the runner: the lease and all settings."""

from pathlib import Path

from facts import reached

reached(Path("../spec.json").read_text())
