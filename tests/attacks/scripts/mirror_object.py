"""Write an object into the mirror of another project's repository."""

from pathlib import Path

from facts import known, reached

folder = Path(known.mirror) / "objects" / "zz"
folder.mkdir(exist_ok=True)
reached(folder.rmdir())
