"""Use a descriptor of the platform's that came along by mistake."""

import os

from facts import known, reached

for name in os.listdir("/proc/self/fd"):
    try:
        target = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        continue
    if int(name) > 2 and (target.startswith((known.data, "socket:", "anon_inode:"))):
        reached(f"{name}: {target}")
