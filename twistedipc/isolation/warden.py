"""
The warden of one step where Landlock confines it: the process above the step's own. It does what a PID namespace and a
file system of one's own do elsewhere:

- What the step leaves running ends with it, and so does everything when the runner dies: the warden is the reaper of
  all of it, and no signal of the step reaches the warden.
- It answers the calls that a rule can't decide, since they depend on what a pointer points to. It makes the sockets of
  the step itself, and connects them: to sockets of files in the step's own folders, and to the port of the attempt's
  gate; Landlock refuses no socket of a file, and knows a port but not an address. And it changes modes and times of
  files in the step's own folders, which Landlock refuses nowhere.

It acts on what it has looked at, never on what the step's memory says a moment later. It is forked from the runner
without another program, so that a step costs some milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gc
import os
import signal
import socket
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from twistedipc.attempts import processes
from twistedipc.isolation import landlock, seccomp
from twistedipc.isolation.calls import LIBC, drop_capabilities
from twistedipc.isolation.confinement import Confinement

#: Seconds for what a step has left running to be gone. What hangs in the kernel can't be killed.
DEADLINE = 10.0

#: Sockets that are made and not connected yet, at most: the oldest can't be connected then.
MAX_SOCKETS = 128

#: Connections that are waited for at a time, at most.
MAX_WAITING = 64

_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1

# ioctl(2) of a listener: receive, answer, is it still there, put a descriptor into the process and answer with it.
_RECEIVE, _ANSWER, _IS_VALID, _PUT = 0xC0502100, 0xC0182101, 0x40082102, 0xC0182103
_CALL = struct.Struct("=QIIiIQ6Q")
_VERDICT = struct.Struct("=QqiI")
_DESCRIPTOR = struct.Struct("=QIIII")
_AND_ANSWER = 2

_MAX_ADDRESS = 128
_MAX_PATH = 4096
_TIMES = 32
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = 0x100, 0x1000
#: Who a program runs as when another user starts it: not for a build's files.
_SET_ID = 0o6000


class _Call(NamedTuple):
    """A call of the step's that waits for an answer."""

    number: int  # names it to the kernel
    process: int  # the thread that makes it
    name: str
    arguments: Sequence[int]

    def signed(self, place: int) -> int:
        """Return an argument as the C type int."""
        return ctypes.c_int32(self.arguments[place] & 0xFFFFFFFF).value


class _Gone(Exception):
    """The process that made a call has ended, and its number may be another's."""


class Warden:
    """
    What holds a step's process.

    :param confinement: what it is held to
    :param machine: for which the kernel's program is made
    """

    def __init__(self, confinement: Confinement, machine: seccomp.Machine) -> None:
        self._confinement = confinement
        self._machine = machine

    def divide(self, says: int) -> None:
        """
        Divide this process into the warden, which never returns from here, and its child, which is confined when it
        does. ``says`` is the descriptor on which the warden says what its child is, as bubblewrap does.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        processes.become_reaper()
        ours, theirs = socket.socketpair()
        parent, warden = os.getppid(), os.getpid()
        inner = os.fork()
        if not inner:
            ours.close()
            self._confine(theirs, warden)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return
        code = 126
        try:
            gc.freeze()  # what the runner has left would close descriptors that are others by then
            theirs.close()
            os.write(says, b'{"child-pid": %d}' % inner)
            os.dup2(ours.detach(), 3)  # above the output: where the step's own errors are, ours are too
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))
            code = self._watch(inner, parent)
        finally:
            os._exit(code)

    def _confine(self, told: socket.socket, warden: int) -> None:
        """
        Confine this process, which has nothing open then but its input and its output, and pass out the listener of its
        calls. Raises OSError, RuntimeError.
        """
        os.setsid()
        drop_capabilities()
        allowed = {path: access for path, access in self._confinement.optional.items() if os.path.exists(path)}
        try:
            rule = landlock.confining({**allowed, **self._confinement.needed})
        except FileNotFoundError as error:  # it would be taken for the command's
            raise RuntimeError(f"it can't be confined: {error}") from error
        landlock.restrict(rule)
        listener = seccomp.install(seccomp.program(self._machine), self._machine)
        socket.send_fds(told, [b"\0"], [listener])
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != warden:
            os._exit(126)

    def _watch(self, inner: int, parent: int) -> int:
        """Watch over the step's process until all of it has ended. Return its exit code."""
        with socket.socket(fileno=3) as told:
            _data, descriptors, _flags, _address = socket.recv_fds(told, 1, 1)
        if descriptors:
            answering = Answering(descriptors[0], self._confinement, seccomp.asked(self._machine))
            threading.Thread(target=answering.run, daemon=True).start()
        # In place of SIGKILL: when the runner has died, this ends more than itself.
        LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
        status: int | None = None
        while status is None and os.getppid() == parent:
            received = signal.sigwait(_SIGNALS)
            if received == signal.SIGTERM:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(inner, signal.SIGTERM)
            elif received == signal.SIGCHLD:
                status = processes.reap().get(inner)
        processes.kill_descendants(DEADLINE)
        return processes.exit_code(status) if status is not None else 128 + signal.SIGKILL


class Answering:
    """
    Answers calls, in a thread of its own.

    :param listener: the descriptor on which they come
    :param names: of the calls, by their numbers on this machine
    """

    def __init__(self, listener: int, confinement: Confinement, names: dict[int, str]) -> None:
        self._listener = listener
        self._names = names
        self._gate = ("127.0.0.1", confinement.gate) if confinement.gate else None
        self._free = _real(confinement.free)
        self._connectable = _real(confinement.connectable)
        self._sockets: OrderedDict[int, socket.socket] = OrderedDict()  # those that aren't connected yet, by inode
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)

    def run(self) -> None:
        """Answer until the step has ended."""
        while True:
            received = bytearray(_CALL.size)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, received)
            except FileNotFoundError:
                continue  # who made that call was killed
            except OSError:
                return
            number, process, _flags, call, _machine, _place, *arguments = _CALL.unpack(received)
            self._answer(_Call(number, process, self._names.get(call, ""), arguments))

    def _answer(self, call: _Call) -> None:
        try:
            self._do(call)
        except _Gone:
            pass
        except OSError as error:
            self._reply(call, error.errno or errno.EACCES)
        except (ValueError, OverflowError):  # a path with a NUL in it, an address that isn't one
            self._reply(call, errno.EFAULT)
        except BaseException:
            self._reply(call, errno.EACCES)
            raise

    def _do(self, call: _Call) -> None:
        match call.name:
            case "socket":
                self._make(call)
            case "connect":
                self._connect(call)
            case "listen":
                self._listen(call)
            case "chmod":
                self._change_mode(call, self._open(call, _AT_FDCWD, call.arguments[0]), call.arguments[1])
            case "fchmod":
                with self._of_process(call, f"fd/{call.signed(0)}") as file:
                    self._change_mode(call, os.dup(file), call.arguments[1])
            case "fchmodat":
                self._change_mode(call, self._open(call, call.signed(0), call.arguments[1]), call.arguments[2])
            case "utimensat":
                self._change_times(call)
            case _:
                self._reply(call, errno.ENOSYS)

    def _reply(self, call: _Call, error: int = 0) -> None:
        """Return from a call of the step's: with 0, or an error."""
        with contextlib.suppress(FileNotFoundError):  # it was killed meanwhile
            fcntl.ioctl(self._listener, _ANSWER, _VERDICT.pack(call.number, 0, -error, 0))

    # -- the process that made a call --

    def _check(self, call: _Call) -> None:
        """Raise `_Gone` unless the process that made a call still waits for its answer: what was opened is its own."""
        try:
            fcntl.ioctl(self._listener, _IS_VALID, struct.pack("=Q", call.number))
        except FileNotFoundError:
            raise _Gone from None

    def _read(self, call: _Call, address: int, size: int) -> bytes:
        """Return what the process has at an address: so many bytes, or fewer where no more are. Raises OSError."""
        memory = os.open(f"/proc/{call.process}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._check(call)
            return os.pread(memory, size, address)
        except OSError as error:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT)) from error
        finally:
            os.close(memory)

    @contextmanager
    def _of_process(self, call: _Call, name: str) -> Iterator[int]:
        """Open what a link of the process's in /proc leads to, without its content. Raises OSError."""
        try:
            file = os.open(f"/proc/{call.process}/{name}", os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
        try:
            self._check(call)
            yield file
        finally:
            os.close(file)

    def _open(self, call: _Call, folder: int, address: int, *, follow: bool = True) -> int:
        """Open what a path in the process's memory names, as that process would, without its content."""
        path, end, _rest = self._read(call, address, _MAX_PATH).partition(b"\0")
        return self._open_path(call, folder, path if end else b"", follow=follow)

    def _open_path(self, call: _Call, folder: int, path: bytes, *, follow: bool = True) -> int:
        for own in (b"/proc/self/", b"/proc/thread-self/"):
            if path.startswith(own):
                path = b"/proc/%d/" % call.process + path.removeprefix(own)
        flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        with self._of_process(call, "cwd" if folder == _AT_FDCWD else f"fd/{folder}") as base:
            return os.open(path, flags, dir_fd=base)

    # -- files --

    def _change_mode(self, call: _Call, file: int, mode: int) -> None:
        try:
            self._hold(file, self._free)
            os.chmod(f"/proc/self/fd/{file}", mode & 0o7777 & ~_SET_ID)
        finally:
            os.close(file)
        self._reply(call)

    def _change_times(self, call: _Call) -> None:
        times = self._read(call, call.arguments[2], _TIMES) if call.arguments[2] else None
        follow = not call.signed(3) & _AT_SYMLINK_NOFOLLOW
        file = self._open(call, call.signed(0), call.arguments[1], follow=follow)
        try:
            self._hold(file, self._free)
            if LIBC.utimensat(file, b"", times, _AT_EMPTY_PATH):
                raise OSError(ctypes.get_errno(), "utimensat")
        finally:
            os.close(file)
        self._reply(call)

    def _hold(self, file: int, folders: Sequence[bytes]) -> None:
        """Raise PermissionError unless a file is in one of these folders."""
        path = os.readlink(b"/proc/self/fd/%d" % file) + b"/"
        if not path.startswith(tuple(folders)):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    # -- sockets --

    def _make(self, call: _Call) -> None:
        """Make a socket, and put it into the process."""
        kind = call.signed(1)
        made = socket.socket(call.signed(0), kind & ~socket.SOCK_CLOEXEC)
        inherited = 0 if kind & socket.SOCK_CLOEXEC == 0 else os.O_CLOEXEC
        put = _DESCRIPTOR.pack(call.number, _AND_ANSWER, made.fileno(), 0, inherited)
        with self._lock:
            self._sockets[os.fstat(made.fileno()).st_ino] = made
            while len(self._sockets) > MAX_SOCKETS:
                self._sockets.popitem(last=False)[1].close()
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(self._listener, _PUT, put)

    def _take(self, call: _Call) -> tuple[int, socket.socket]:
        """Take out the socket, with its inode, that is a descriptor of the process's. Raises OSError."""
        link = os.readlink(f"/proc/{call.process}/fd/{call.signed(0)}")
        self._check(call)
        inode = int(link[8:-1]) if link.startswith("socket:[") else 0
        with self._lock:
            found = self._sockets.pop(inode, None)
        if found is None:
            # It is connected, or listens; or it is none.
            raise OSError(errno.EISCONN if inode else errno.ENOTSOCK, "not a socket that can be connected")
        return inode, found

    def _keep(self, inode: int, kept: socket.socket) -> None:
        with self._lock:
            self._sockets[inode] = kept

    def _listen(self, call: _Call) -> None:
        inode, found = self._take(call)
        if found.family != socket.AF_UNIX:
            # Others on the machine and its network would reach it, and take it for another's service.
            self._keep(inode, found)
            raise PermissionError(errno.EACCES, "a step has no ports")
        if not isinstance(found.getsockname(), str):
            # It could have a name by which others look for another's service. The step couldn't connect to it.
            self._keep(inode, found)
            raise PermissionError(errno.EPERM, "a socket without a file isn't the step's own")
        with found:
            found.listen(max(0, call.signed(1)))
        self._reply(call)

    def _connect(self, call: _Call) -> None:
        address = self._read(call, call.arguments[1], min(call.arguments[2] & 0xFFFFFFFF, _MAX_ADDRESS))
        inode, found = self._take(call)
        file = -1
        try:
            if found.family == socket.AF_UNIX:
                file = self._file_of(call, address)
                self._hold(file, self._connectable)
                address = struct.pack("=H", socket.AF_UNIX) + b"/proc/self/fd/%d\0" % file
            elif self._gate is None or _place(address) != self._gate:
                raise PermissionError(errno.EACCES, "no way leads there")
        except BaseException:
            self._keep(inode, found)
            if file >= 0:
                os.close(file)
            raise
        if fcntl.fcntl(found.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK:
            self._connected(call, inode, found, address, file)
        elif self._waiting.acquire(blocking=False):
            arguments = (call, inode, found, address, file)
            threading.Thread(target=self._wait, args=arguments, daemon=True).start()
        else:
            self._keep(inode, found)
            if file >= 0:
                os.close(file)
            raise BlockingIOError(errno.EAGAIN, "too many connections are waited for")

    def _wait(self, call: _Call, inode: int, found: socket.socket, address: bytes, file: int) -> None:
        """Connect in a thread of its own."""
        try:
            self._connected(call, inode, found, address, file)
        finally:
            self._waiting.release()

    def _connected(self, call: _Call, inode: int, found: socket.socket, address: bytes, file: int) -> None:
        """Connect a socket to an address that was looked at, or to the socket that ``file`` is."""
        error = 0
        if LIBC.connect(found.fileno(), address, len(address)):
            error = ctypes.get_errno()
        if file >= 0:
            os.close(file)
        if error in (0, errno.EINPROGRESS):
            # From here on it is the step's alone: a connection ends when the last one that has it open closes it.
            found.close()
        else:
            self._keep(inode, found)
        self._reply(call, error)

    def _file_of(self, call: _Call, address: bytes) -> int:
        """Open the socket that an address names. Raises OSError."""
        if len(address) < 3 or address[:2] != struct.pack("=H", socket.AF_UNIX):
            raise OSError(errno.EINVAL, "no address of a UNIX socket")
        path = address[2:].partition(b"\0")[0]
        if not path:
            raise PermissionError(errno.EPERM, "a socket without a file isn't the step's own")
        return self._open_path(call, _AT_FDCWD, path)


def _place(address: bytes) -> tuple[str, int] | None:
    """Return the IPv4 address and port that a `sockaddr_in` names; None if it is none."""
    if len(address) < 8 or address[:2] != struct.pack("=H", socket.AF_INET):
        return None
    return socket.inet_ntoa(address[4:8]), int.from_bytes(address[2:4], "big")


def _real(folders: Iterable[str]) -> list[bytes]:
    """Return the folders as /proc names them, each with a slash at its end."""
    return [os.fsencode(os.path.realpath(folder)) + b"/" for folder in folders]
