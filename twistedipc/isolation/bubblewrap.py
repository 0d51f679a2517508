"""
A `Reach` as arguments of bubblewrap (``bwrap``). Pure; used by ``launching`` and ``probe``.

What bubblewrap is told comes on a descriptor (``--args``), not on its command line, and its own environment is empty:
a sandbox's ``/proc/1/environ`` shows what bubblewrap was started with, and every user of the machine can list command
lines.

The root of the sandbox is a file system in memory. It is put up in the order of the paths, so that what lies in
something else comes after it, and is for reading only in the end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from twistedipc.attempts.processes import FIRST_GIVEN
from twistedipc.isolation import kernel_calls
from twistedipc.isolation.reach import HIDDEN, PLATFORM, READABLE, USER, Place, Reach, UnsafeReach, arranged

#: The most bytes in /tmp and in /dev/shm, which are in memory. TMPDIR is on the disk.
MEMORY_FILES = 512 << 20

_NAMESPACES = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--disable-userns",
    # A session of its own: the runner sends signals to it and not to bubblewrap, which would die of them.
    "--new-session",
    "--die-with-parent",
    "--cap-drop",
    "ALL",
    "--hostname",
    "build",
)


#: What in /proc is the whole machine's. The kernel lets root's processes write there whatever namespace they are in: a
#: builder of root's would give its builds the kernel's settings, such as what is run when a program crashes.
_KERNELS_OWN = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "mtrr", "pressure")


def given(reach: Reach, environment: Mapping[str, str], folder: str) -> list[bytes]:
    """
    Return what bubblewrap is given on its descriptors, from `FIRST_GIVEN` on: its arguments, then the contents of
    files, then the program that refuses calls of the kernel, if there is one for this kind of machine. On the
    descriptor after these it says which process is the sandbox's first one.

    :param environment: all that the step has
    :param folder: where it begins

    Raises `UnsafeReach`.
    """
    contents = [b"", *reach.files.values()]
    words = [*_NAMESPACES, "--uid", str(USER), "--gid", str(USER)]
    if reach.network == "none":
        words.append("--unshare-net")
    refusing = kernel_calls.program(os.uname().machine)
    if refusing:
        words += ["--seccomp", str(FIRST_GIVEN + len(contents))]
        contents.append(refusing)
    words += ["--info-fd", str(FIRST_GIVEN + len(contents))]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for name in _KERNELS_OWN:
        words += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    words += ["--perms", "1777", "--size", str(MEMORY_FILES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    words += ["--perms", "1777", "--size", str(MEMORY_FILES), "--tmpfs", "/tmp", "--symlink", "/tmp", "/var/tmp"]
    words += ["--dir", PLATFORM]
    for name, leads in sorted(reach.links.items()):
        words += ["--symlink", leads, name]
    hidden: list[str] = []
    for place in arranged(reach):
        words += _words(place)
        if place.rank == HIDDEN and not place.source:
            hidden.append(place.path)
    for number, name in enumerate(reach.files, FIRST_GIVEN + 1):
        words += ["--perms", "0444", "--file", str(number), name]
    for path in [*hidden, "/"]:
        words += ["--remount-ro", path]
    for name, value in environment.items():
        words += ["--setenv", name, value]
    words += ["--chdir", folder]
    if any("\0" in word for word in words):
        # What comes after it would be an option, such as one that shows the step all of the machine.
        raise UnsafeReach("a variable or a path of the step has a NUL in it")
    contents[0] = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
    return contents


def _words(place: Place) -> tuple[str, ...]:
    """Return how a place is put up."""
    if place.rank == HIDDEN:
        # A file not as a device, so that it can't even be opened.
        return ("--ro-bind", place.source, place.path) if place.source else ("--tmpfs", place.path)
    return ("--ro-bind-try" if place.rank == READABLE else "--bind", place.source, place.path)


def command(program: str, argv: Sequence[str]) -> list[str]:
    """Return the command line of a bubblewrap that runs ``argv``."""
    return [program, "--args", str(FIRST_GIVEN), "--", *argv]
