"""See what runs on the machine."""

import os
from pathlib import Path

from facts import known, reached

for name in os.listdir("/proc"):
    if name.isdecimal() and known.victims_mark[::-1] in Path(f"/proc/{name}/cmdline").read_text():
        reached(f"process {name}")
