"""Write the attempt's result, and kill the runner before it can."""

import json
import os
import signal
import time
from pathlib import Path

from facts import known, reached

forged = {"outcome": "succeeded", "lines": 0, "sha256": "", "started": 0, "ended": 1, "commit": "1" * 40}
with open("../result.json", "w") as file:
    json.dump(forged, file)
reached("the result is written")
time.sleep(0.5)
for name in os.listdir("/proc"):
    if name.isdecimal():
        command = Path(f"/proc/{name}/cmdline").read_text()
        if "twistedipc.runner" in command and os.path.basename(os.path.dirname(os.getcwd())) in command:
            os.kill(int(name), signal.SIGKILL)
            reached(f"killed {known.project}'s runner")
