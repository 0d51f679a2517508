"""Send a signal to the builder."""

import os

from facts import known, reached

os.kill(known.builder, 0)
if "python" in os.readlink(f"/proc/{known.builder}/exe"):
    reached(f"process {known.builder}")
