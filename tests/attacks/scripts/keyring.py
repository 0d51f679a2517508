"""Read a key that the builder's user keeps in the kernel: keys belong to a user, whatever namespace that is in."""

import ctypes
import os

from facts import known, reached

KEYCTL, LINK, READ, OWN_PROCESS = {"x86_64": 250}.get(os.uname().machine, 219), 8, 11, -2
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(KEYCTL, LINK, known.keyring, OWN_PROCESS)
found = ctypes.create_string_buffer(100)
if libc.syscall(KEYCTL, READ, known.key, found, len(found)) > 0:
    reached(found.value)
print(os.strerror(ctypes.get_errno()))
