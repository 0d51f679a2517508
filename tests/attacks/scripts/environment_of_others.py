"""Look for another build's secret, or for the builder's own variables, in the environments of all processes."""

import os
from pathlib import Path

from facts import known, reached

for name in os.listdir("/proc"):
    try:
        found = Path(f"/proc/{name}/environ").read_text()
    except OSError as error:
        if name.isdecimal():
            print(name, error)
        continue
    for mark in (known.victims_mark, known.builders_mark):
        # Spelled here so that the log hides nothing of it.
        if mark[::-1] in found:
            reached(f"{mark} in process {name}")
