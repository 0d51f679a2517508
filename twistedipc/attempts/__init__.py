"""
The folder of one attempt on disk, and the rules for it. Used by the builder, which makes it; by the runner, which works
in it; and by the chaos tests, which damage it.

``builds.attempt`` has the files' contents. The modules, from the bottom up::

    folder        which files there are, who writes them and when
    sha256        the digest of a journal's records, without OpenSSL
    journal_format  the names of a journal's segments, and its lines
    handover      secrets, from the builder to the runner without a disk
    journal       the log: batches -> disk and back; the writer, the reader, the repair
    journal_tail  the end of a journal: a step's last lines
    liveness      the lock that the attempt's runner holds while it lives
    cgroup        the control groups of an attempt, where the system has them
    processes     fork, process groups, and the death of whole trees
    programs      how a process of the platform's own is started
    mirrors       the mirrors of repositories: names, locks, the end of those that nothing uses
    addresses     what a host's name leads to, as seen from this machine
    room          how much the disk has left, and the reserve that a build leaves there
    crashpoints   the places on an attempt's way at which a test can kill a process

No Twisted: the runner has none.
"""
