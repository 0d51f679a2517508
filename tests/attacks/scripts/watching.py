"""Be told what happens in the folder of another attempt, and when."""

import ctypes
import os

from facts import known, reached

libc = ctypes.CDLL(None, use_errno=True)
IN_ALL_EVENTS = 0xFFF
if libc.inotify_add_watch(libc.inotify_init(), os.fsencode(known.victim), IN_ALL_EVENTS) >= 0:
    reached(known.victim)
print(os.strerror(ctypes.get_errno()))
