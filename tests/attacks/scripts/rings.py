"""Have calls made by a ring, which no program for the kernel's calls sees."""

import ctypes
import os

from facts import reached

IO_URING_SETUP = 425
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(IO_URING_SETUP, 8, ctypes.create_string_buffer(256)) >= 0:
    reached("a ring")
print(os.strerror(ctypes.get_errno()))
