"""Change the kernel's settings: what is run when a program crashes, for one."""

from facts import reached

with open("/proc/sys/kernel/core_pattern", "r+") as file:
    reached(file.read())
