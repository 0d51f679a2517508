"""Leave something running: in another session, without an environment, out of all control groups, its runner dead."""

import os
import signal
import sys
import time
from pathlib import Path

from facts import known, reached

folder = os.path.basename(os.path.dirname(os.getcwd()))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for groups in Path("/sys/fs/cgroup").glob("**/cgroup.procs"):
            if len(groups.parts) <= 6:
                try:
                    groups.write_text("0")
                except OSError as error:
                    print(groups, error)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.execve(sys.executable, [known.daemon, "-I", "-c", "import time; time.sleep(600)"], {})
    os._exit(0)
time.sleep(0.5)
for name in os.listdir("/proc"):
    if name.isdecimal():
        command = Path(f"/proc/{name}/cmdline").read_text()
        if "twistedipc.runner" in command and folder in command:
            os.kill(int(name), 0)  # whether it could; afterwards nobody reads what it says
            reached("its own runner")
            os.kill(int(name), signal.SIGKILL)
