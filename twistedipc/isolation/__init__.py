"""
Walls: what keeps a step from reaching more than its own, and from using more than its share. Used by the runner, and by
the builder at its start; the data that travels is ``builds.isolation``. The modules and rooms, from the bottom up::

    reach       what one step can see and use                                     (no I/O)
    system      what all steps see of the machine: programs, libraries, this Python
    steps       the reach of each kind of step                                    (no I/O)
    kernel_calls  the calls of the kernel that no step may make                   (no I/O)
    bubblewrap  a reach as arguments of bubblewrap                                (no I/O)
    network/    what steps reach of the network, and the ledger of what they contacted
    landlock    a process that can't write anywhere but below some folders
    launching   a command and its reach -> how its process is started
    limits/     the most that the steps of an attempt may use of their machine
    probe       what isolates on this machine, by trying it
"""
