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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from twistedipc.attempts.processes import FIRST_GIVEN
from twistedipc.isolation import kernel_calls
from twistedipc.isolation.reach import PLATFORM, USER, Reach

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


class UnsafeReach(ValueError):
    """A reach can't be put up safely: what a step can write to would decide where something is put."""


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
    for place in _places(reach):
        words += place.words
        if place.words[0] == "--tmpfs":
            hidden.append(place.path)
    for number, name in enumerate(reach.files, FIRST_GIVEN + 1):
        words += ["--perms", "0444", "--file", str(number), name]
    for path in [*hidden, "/"]:
        words += ["--remount-ro", path]
    for name, value in environment.items():
        words += ["--setenv", name, value]
    words += ["--chdir", folder]
    contents[0] = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
    return contents


_HIDDEN, _READABLE, _WRITABLE = range(3)


class _Place(NamedTuple):
    """Something that is put up. The order is the one in which that is done."""

    parts: tuple[str, ...]
    rank: int
    path: str
    words: tuple[str, ...]


def _places(reach: Reach) -> Iterator[_Place]:
    """Yield what is put up, in its order. Raises `UnsafeReach`."""
    found = [
        *(_place(path, _HIDDEN, "--tmpfs", path) for path in reach.hidden),
        # Not as a device, so that it can't even be opened.
        *(_place(path, _HIDDEN, "--ro-bind", "/dev/null", path) for path in reach.hidden_files),
        *(_place(path, _READABLE, "--ro-bind-try", path, path) for path in reach.readable),
        *(_place(name, _READABLE, "--ro-bind-try", path, name) for name, path in reach.elsewhere.items()),
        *(_place(path, _WRITABLE, "--bind", path, path) for path in reach.writable),
    ]
    above: list[_Place] = []  # those that the one before lies in, and itself
    for place in sorted(found):
        while above and above[-1].parts != place.parts[: len(above[-1].parts)]:
            above.pop()
        if place.rank == _HIDDEN and not above:
            continue  # nothing shows it
        if place.rank == _READABLE and above and above[-1].rank == _READABLE and place.words[1] == place.path:
            continue  # it is seen already
        if any(each.rank == _WRITABLE for each in above):
            # The step could put a link in its place, and bubblewrap would follow that, on the machine, the next time.
            raise UnsafeReach(f"{place.path} lies in {above[-1].path}, which the step can write to")
        above.append(place)
        yield place


def _place(path: str, rank: int, *words: str) -> _Place:
    return _Place(PurePosixPath(path).parts, rank, path, words)


def command(program: str, argv: Sequence[str]) -> list[str]:
    """Return the command line of a bubblewrap that runs ``argv``."""
    return [program, "--args", str(FIRST_GIVEN), "--", *argv]
