"""
Start one process, and kill whole trees of them. Used by the runner's steps; the builder uses `kill_remains` after a
runner that has died.

Every step is a process group of its own, and the runner is the reaper of its descendants (Linux: "child subreaper"). So
a daemon that left its group and its session still becomes the runner's child, and can be found. Where the system has
control groups (``cgroup``), such a daemon is found even when the runner is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from twistedipc.attempts import cgroup
from twistedipc.attempts.liveness import lock_owner

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")

# Where the number of threads stands in /proc/PID/stat, counted from the state on (proc(5)).
_THREADS = 17


def _prctl(option: int, argument: int) -> bool:
    import ctypes  # not above: steps that start no processes of others import this module too

    try:
        return bool(ctypes.CDLL(None).prctl(option, argument, 0, 0, 0) == 0)
    except (AttributeError, OSError):  # not Linux
        return False


def become_reaper() -> bool:
    """Make orphaned descendants this process's children; return whether the system can do that."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(says: int) -> None:
    """
    Have this process killed when its parent dies, where the system can do that; or now, if the parent has died before.

    :param says: the descriptor by which this process tells its parent something, which nobody else reads
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    heard = select.poll()
    heard.register(says, 0)  # without any event: an error is told, and there is one where nobody reads
    if heard.poll(0):
        os.kill(os.getpid(), signal.SIGKILL)


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How a process is started."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: str  # where it begins
    given: Sequence[bytes] = ()  # what it can read from its descriptors `FIRST_GIVEN` and on, each once
    says_child: bool = False  # whether it says on the descriptor after these what its child is, as bubblewrap does
    before: Sequence[Callable[[], None]] = ()  # called in the new process before it becomes the command
    namespaces: Sequence[int] = ()  # descriptors of those that it joins after that, in this order
    #: called in the new process after all that, with the descriptor on which it says its child: it returns in that
    #: child, which becomes the command
    divide: Callable[[int], None] | None = None


class Child(msgspec.Struct):
    """A process that was started, the first of its group."""

    pid: int
    said: int = -1  # the descriptor on which it says what its child is; -1: it doesn't
    inner: int = 0  # that child: the step's first process, where there is another above it; 0: not known yet


FIRST_GIVEN = 3

# Descriptors that are to become others lie above these meanwhile.
_ABOVE = 100

_CHILD_PID = re.compile(rb'"child-pid"\s*:\s*(\d+)')


def spawn(launch: Launch, *, output: int, input: int = -1) -> Child:
    """
    Start a command in a process group of its own, with ``input`` (or /dev/null) as its input and ``output`` as its
    output and errors. If it can't be started, the child says why on ``output`` and exits as a shell does: 127 if there
    is no such command, 126 otherwise. Raises OSError.
    """
    said, says = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if launch.says_child else (-1, -1)
    try:
        pid = os.fork()  # this process has one thread
    except OSError:
        _close(said, says)
        raise
    if pid:
        _close(says)
        try:
            os.setpgid(pid, pid)  # whichever of the two comes first
        except OSError:
            pass
        return Child(pid, said)
    code = 126
    try:
        signal.set_wakeup_fd(-1)
        # A build gets the default signals, even if this process or the builder's parent ignores some.
        for number in signal.valid_signals():
            if signal.getsignal(number) is not signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(input if input >= 0 else os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for prepare in launch.before:
            prepare()
        _join(launch.namespaces)
        if launch.given:
            _give(launch.given, says)
        if launch.divide is not None:
            launch.divide(says)
        os.chdir(launch.folder)
        os.execvpe(launch.argv[0], list(launch.argv), dict(launch.environment))
    except FileNotFoundError as error:
        code = 127
        os.write(2, f"{launch.argv[0]}: {error.strerror}\n".encode())
    except BaseException as error:  # nothing may return from here into the parent's code
        os.write(2, f"{launch.argv[0]}: {error}\n".encode())
    finally:
        os._exit(code)


def _join(namespaces: Sequence[int]) -> None:
    """Join namespaces. Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for descriptor in namespaces:
        if libc.setns(descriptor, 0):
            number = ctypes.get_errno()
            raise OSError(number, f"a namespace can't be joined: {os.strerror(number)}")
    if namespaces:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of the user namespace takes it back


def _give(contents: Sequence[bytes], says: int) -> None:
    """Put contents on the descriptors from `FIRST_GIVEN` on, and after them the end of a pipe, if there is one."""
    made = []
    for content in contents:
        file = os.memfd_create("given")
        with open(file, "wb", closefd=False) as writing:
            writing.write(content)
        os.lseek(file, 0, os.SEEK_SET)
        made.append(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _ABOVE))
        os.close(file)
    if says >= 0:
        made.append(fcntl.fcntl(says, fcntl.F_DUPFD_CLOEXEC, _ABOVE))
    for number, file in enumerate(made, FIRST_GIVEN):
        os.dup2(file, number)
    # Whatever else was inherited stays outside.
    os.closerange(FIRST_GIVEN + len(made), os.sysconf("SC_OPEN_MAX"))


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


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


def tell_to_end(child: Child) -> None:
    """
    Send SIGTERM to a process and its group. If there is a process of the sandbox's above the step's own, that is sent
    to the step's: a bubblewrap would die of it at once, and all in the sandbox with it.
    """
    inner = _inner(child)
    if not inner or not _signal_group(inner, signal.SIGTERM):  # nothing has begun in the sandbox
        _signal_group(child.pid, signal.SIGTERM)


def kill(child: Child) -> None:
    """Kill a process that hasn't been reaped yet, and its group, which it may have left."""
    _signal_group(child.pid, signal.SIGKILL)
    os.kill(child.pid, signal.SIGKILL)


def bury(child: Child, deadline: float) -> bool:
    """
    Kill what is left of a process's group, or of a sandbox, after the process was reaped; wait until the sandbox is
    gone, for so many seconds at most. Return whether something was left of a group: a sandbox ends with its first
    process, and whether something else was in it isn't known.
    """
    left = _signal_group(child.pid, signal.SIGKILL)
    inner = _inner(child)
    _close(child.said)
    child.said = -1
    until = time.monotonic() + deadline
    while inner and _is_there(inner) and time.monotonic() < until:
        with contextlib.suppress(ProcessLookupError):
            os.kill(inner, signal.SIGKILL)
        time.sleep(0.001)
    return left


def _is_there(pid: int) -> bool:
    """Return whether a process is alive that may have become a child of this one. If it is dead, it is reaped."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:  # another's, or it was reaped
        fields = _stat(pid)
        return fields is not None and fields[0] not in (b"Z", b"X")


def _inner(child: Child) -> int:
    """Return the first process in a sandbox; 0 if there is none, or none yet."""
    if not child.inner and child.said >= 0:
        try:
            found = _CHILD_PID.search(os.read(child.said, 4096))
        except BlockingIOError:
            return 0
        child.inner = int(found[1]) if found is not None else 0
    return child.inner


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to all processes that are left in a group. Return whether there are some."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def descendants(of: int = 0) -> dict[int, int]:
    """Return all living descendants of a process, by default of this one, each with the number of its threads."""
    threads: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for pid, fields in _processes():
        if fields[0] != b"Z":
            threads[pid] = int(fields[_THREADS])
            children.setdefault(int(fields[1]), []).append(pid)
    found: dict[int, int] = {}
    waiting = [of or os.getpid()]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found[child] = threads[child]
                waiting.append(child)
    return found


def family(pid: int) -> set[int]:
    """Return a process and its descendants, those that are alive."""
    found = set(descendants(pid))
    return {pid, *found} if found or _stat(pid) is not None else found


def kill_descendants(deadline: float, spared: Collection[int] = ()) -> tuple[set[int], bool]:
    """
    Kill all descendants but those that are ``spared``, and wait for their end. Return those that were killed, and
    whether none is left. Gives up after ``deadline`` seconds, since a process that hangs in the kernel can't be killed.
    """
    until = time.monotonic() + deadline
    killed: set[int] = set()
    while left := [pid for pid in descendants() if pid not in spared]:
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


def kill_remains(folder: Path, cgroups: Sequence[str] = (), deadline: float = 5.0) -> bool:
    """
    Kill what a dead runner's attempt has left running; return whether nothing is left.

    A process belongs to the attempt if it is in a control group of the attempt's (below each of ``cgroups``), if its
    HOME is the attempt's, or if it is in the runner's session and works in the attempt's ``folder``; and so do its
    descendants. A person's shell in that folder is none of these. Only for a folder whose lock is free. Blocks until
    they have ended, mostly for some milliseconds.
    """
    until = time.monotonic() + deadline
    grouped = True
    for parent in cgroups:
        grouped &= cgroup.kill(cgroup.group_of(Path(parent), folder), until)
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


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    """Yield all processes, each with its `_stat`; none without a /proc."""
    try:
        names = os.listdir(_PROC)
    except FileNotFoundError:
        return
    for name in names:
        if name.isdecimal() and (fields := _stat(int(name))) is not None:
            yield int(name), fields


def _stat(pid: int) -> list[bytes] | None:
    """
    Return the fields of a process's /proc stat from the state on, those up to its number of threads apart; None if it
    has gone.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            stat = file.read()
    except OSError:
        return None
    # The name is in parentheses and may hold anything.
    return stat[stat.rfind(b")") + 2 :].split(None, _THREADS + 1)
