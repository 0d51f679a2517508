"""Attach to the builder as a debugger does, and read its memory."""

import ctypes
import os
from pathlib import Path

from facts import known, reached

libc = ctypes.CDLL(None, use_errno=True)
ATTACH, DETACH = 16, 17
if libc.ptrace(ATTACH, known.builder, None, None) == 0:
    os.waitpid(known.builder, 0x40000000)
    Path(f"/proc/{known.builder}/mem").open("rb").close()
    libc.ptrace(DETACH, known.builder, None, None)
    reached(f"memory of process {known.builder}")
else:
    print(os.strerror(ctypes.get_errno()))
