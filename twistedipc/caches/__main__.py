"""``python -m twistedipc.caches FOLDER LIMITS``: tidy a builder's caches once. LIMITS is `tidying.Limits` as JSON."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import msgspec

from twistedipc.caches.tidying import Limits, tidy

if __name__ == "__main__":
    os.nice(19)
    tidy(
        Path(sys.argv[1]),
        msgspec.json.decode(sys.argv[2], type=Limits),
        now=lambda: time.time_ns() // 1_000_000,
        free=lambda folder: shutil.disk_usage(folder).free,
    )
