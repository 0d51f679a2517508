"""Give git another configuration for the mirror of another project's repository."""

from pathlib import Path

from facts import known, reached

path = Path(known.mirror) / "commondir"
path.write_text("/tmp/mine")
reached(path.unlink())
