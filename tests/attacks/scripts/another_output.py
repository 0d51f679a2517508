"""Write into what another project is building."""

from pathlib import Path

from facts import known, reached

reached((Path(known.victim) / "work" / "injected.html").write_text("this is mine"))
