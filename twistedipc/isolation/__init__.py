"""
Walls: what keeps a step from reaching more than its own, and from using more than its share. Used by the runner, and by
the builder at its start; the data that travels is ``builds.isolation``. The modules and rooms, from the bottom up::

    reach       what one step can see and use                                     (no I/O)
    system      what all steps see of the machine: programs, libraries, this Python
    steps       the reach of each kind of step                                    (no I/O)
    bpf         programs that the kernel runs for each system call                (no I/O)
    kernel_calls  the calls of the kernel that no step in a sandbox may make      (no I/O)
    bubblewrap  a reach as arguments of bubblewrap                                (no I/O)
    calls       calls of the system for which Python has no function
    landlock    rights that a process gives up: on files, ports and other processes
    seccomp     the calls of the kernel that a step may make where Landlock confines it
    confinement a reach as what Landlock and the warden are told
    warden      the process above a step that Landlock confines: it answers what no rule can decide
    network/    what steps reach of the network, and the ledger of what they contacted
    launching   a command and its reach -> how its process is started
    limits/     the most that the steps of an attempt may use of their machine
    probe       what isolates on this machine, by trying it
"""
