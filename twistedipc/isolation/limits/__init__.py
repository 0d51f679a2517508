"""
Limits: the most that the steps of an attempt may use of their machine, and how much they have used. The builder sets
them (``defaults``), the runner holds them. The modules, from the bottom up::

    defaults    the limits that an operator gets who sets none, from what the machine has
    rlimits     what the kernel holds for each process
    groups      what the kernel holds for all processes together: control groups, where they can be had
    scan        what processes use, by /proc
    folder_size the bytes that a folder has on the disk, counted bit by bit
    guard       all of it for one attempt: enters its processes, looks at them, says what they have exceeded

A limit that a control group holds is held at once; the others are looked at now and then, so that they can be exceeded
for a moment. Either way the attempt ends, and its reason says by which limit.
"""
