"""Make a file that is the machine's disk."""

import os
import stat

from facts import reached

disk = os.stat("/").st_dev
os.mknod("disk", stat.S_IFBLK | 0o600, disk)
os.unlink("disk")
reached(disk)
