"""
Start one process, and kill whole trees of them. Used by the runner's steps; the builder uses `kill_remains` after a
runner that has died.

Every step is a process group of its own, and the runner is the reaper of its descendants (Linux: "child subreaper"). So
a daemon that left its group and its session still becomes the runner's child, and can be found. Where the system has
control groups (``cgroup``), such a daemon is found even when the runner is dead.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from twistedipc.attempts import cgroup
from twistedipc.attempts.liveness import lock_owner

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")


def _prctl(option: int, argument: int) -> bool:
    try:
        return bool(ctypes.CDLL(None).prctl(option, argument, 0, 0, 0) == 0)
    except (AttributeError, OSError):  # not Linux
        return False


def become_reaper() -> bool:
    """Make orphaned descendants this process's children; return whether the system can do that."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def spawn(argv: Sequence[str], *, environment: Mapping[str, str], folder: Path, output: int) -> int:
    """
    Start a command in a process group of its own, with /dev/null as its input and ``output`` as its output and errors.
    Returns its process id, which is its group's too. If it can't be started, the child says why on ``output`` and exits
    as a shell does: 127 if there is no such command, 126 otherwise.
    """
    child = os.fork()  # this process has one thread
    if child:
        try:
            os.setpgid(child, child)  # whichever of the two comes first
        except OSError:
            pass
        return child
    code = 126
    try:
        signal.set_wakeup_fd(-1)
        # A build gets the default signals, even if this process or the builder's parent ignores some.
        for number in signal.valid_signals():
            if signal.getsignal(number) is not signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        os.execvpe(argv[0], list(argv), dict(environment))
    except FileNotFoundError as error:
        code = 127
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    except BaseException as error:  # nothing may return from here into the parent's code
        os.write(2, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(code)


def exit_code(status: int) -> int:
    """Return a wait status as a shell would give it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def reap() -> dict[int, int]:
    """Return the children that have died since the last call, each with its wait status."""
    dead: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return dead
        if pid == 0:
            return dead
        dead[pid] = status


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to all processes that are left in a group."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def kill(process: int) -> None:
    """Kill a step's process that hasn't been reaped yet, and its group, which it may have left."""
    signal_group(process, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)


def group_alive(group: int) -> bool:
    """Return whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def descendants() -> set[int]:
    """Return all living descendants of this process."""
    children: dict[int, list[int]] = {}
    for pid, fields in _processes():
        if fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def kill_descendants(deadline: float) -> tuple[set[int], bool]:
    """
    Kill all descendants and wait for their end. Return those that were killed, and whether none is left. Gives up
    after ``deadline`` seconds, since a process that hangs in the kernel can't be killed.
    """
    until = time.monotonic() + deadline
    killed: set[int] = set()
    while left := descendants():
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
            killed.add(pid)
        reap()
        if time.monotonic() > until:
            return killed, False
        time.sleep(0.005)
    reap()
    return killed, True


def kill_remains(folder: Path, cgroups: str = "", deadline: float = 5.0) -> bool:
    """
    Kill what a dead runner's attempt has left running; return whether nothing is left.

    A process belongs to the attempt if it is in the attempt's control group (below ``cgroups``, where there is one), if
    its HOME is the attempt's, or if it is in the runner's session and works in the attempt's ``folder``; and so do its
    descendants. A person's shell in that folder is none of these. Only for a folder whose lock is free. Blocks until
    they have ended, mostly for some milliseconds.
    """
    until = time.monotonic() + deadline
    grouped = not cgroups or cgroup.kill(cgroup.group_of(Path(cgroups), folder), until)
    session = lock_owner(folder)
    while left := _remains(folder.resolve(), session):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return grouped


def _remains(folder: Path, session: int | None) -> set[int]:
    inside = os.fsencode(folder)
    home = b"HOME=" + inside + b"/home\0"
    children: dict[int, list[int]] = {}
    marked: list[int] = []
    for pid, fields in _processes():
        if fields[0] in (b"Z", b"X") or pid == os.getpid():
            continue
        children.setdefault(int(fields[1]), []).append(pid)
        try:
            where = os.fsencode(os.readlink(_PROC / str(pid) / "cwd"))
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        works_there = where == inside or where.startswith(inside + b"/")
        if b"\0" + home in b"\0" + environment or (works_there and int(fields[3]) == session):
            marked.append(pid)
    found = set(marked)
    while marked:
        for child in children.get(marked.pop(), ()):
            if child not in found:
                found.add(child)
                marked.append(child)
    return found


def _processes() -> list[tuple[int, list[bytes]]]:
    """Return all processes, each with the fields of its /proc stat from the state on; none without a /proc."""
    found: list[tuple[int, list[bytes]]] = []
    try:
        names = os.listdir(_PROC)
    except FileNotFoundError:
        return found
    for name in names:
        if name.isdecimal():
            try:
                stat = (_PROC / name / "stat").read_bytes()
            except OSError:
                continue  # it has gone meanwhile
            # The name is in parentheses and may hold anything.
            found.append((int(name), stat[stat.rfind(b")") + 2 :].split()))
    return found
