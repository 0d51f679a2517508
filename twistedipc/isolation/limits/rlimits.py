"""
What the kernel holds for each process. Called in the process that becomes a step's, before anything else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from twistedipc.builds.attempt import ResourceLimits

#: Whom the kernel ends first if the whole machine has no memory left: a build before the runner and the builder.
_OOM_SCORE = b"500"

# dash and busybox call the option -p, bash -u.
_INSIDE = 'n=$1; shift; ulimit -u "$n" 2>/dev/null || ulimit -p "$n" 2>/dev/null; exec "$@"'


def apply(limits: ResourceLimits) -> None:
    """Set this process's own limits, which its children inherit and can't raise. Raises OSError."""
    import resource  # not above: only the steps' processes need it, and not their runner

    def lower(kind: int, most: int) -> None:
        _soft, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(kind, (most, most))

    lower(resource.RLIMIT_CORE, 0)
    if limits.open_files:
        lower(resource.RLIMIT_NOFILE, limits.open_files)
    if limits.disk:
        # One file at least can't be larger: so a program that fills the disk at full speed is stopped at once.
        lower(resource.RLIMIT_FSIZE, limits.disk)
    try:
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:  # not Linux
        return
    try:
        os.write(descriptor, _OOM_SCORE)
    except OSError:
        pass  # it is more than that already
    finally:
        os.close(descriptor)


def use_processors(count: float, build: int) -> None:
    """
    Let this process run on so many of the machine's processors, not the same ones for each build. A process can take
    that back; but programs that ask how many there are start that many of theirs.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    own = sorted(os.sched_getaffinity(0))
    number = min(len(own), max(1, round(count)))
    first = build * number % len(own)
    os.sched_setaffinity(0, {own[(first + index) % len(own)] for index in range(number)})


def with_processes(argv: Sequence[str], most: int) -> list[str]:
    """
    Return the command that runs ``argv`` with so many processes at most. The kernel counts them by user and namespace,
    so this is for a command that runs in a user namespace of its own, and not for root, which it doesn't hold back.
    Set outside of the namespace, the limit would count all processes of the user.
    """
    return ["/bin/sh", "-c", _INSIDE, "sh", str(most), *argv]


def supports_processes() -> bool:
    """Return whether `with_processes` holds this user's processes back."""
    return os.geteuid() != 0 and Path("/proc/self/ns/user").exists()
