"""Change the program that runs the builds."""

from pathlib import Path

from facts import known, reached

path = Path(known.package) / "mine.txt"
path.write_text("mine")
reached(path.unlink())
