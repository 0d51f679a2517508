"""Put another program in the place of those that all builds get."""

from pathlib import Path

from facts import known, reached

folder = Path(known.tools)
folder.mkdir(exist_ok=True)
path = folder / "mine"
path.write_text("#!/bin/sh")
reached(path.unlink())
