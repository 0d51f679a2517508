"""Mount something."""

import ctypes
import os

from facts import reached

libc = ctypes.CDLL(None, use_errno=True)
os.makedirs("there", exist_ok=True)
if libc.mount(b"none", b"there", b"tmpfs", 0, None) == 0:
    libc.umount(b"there")
    reached("mounted")
print(os.strerror(ctypes.get_errno()))
