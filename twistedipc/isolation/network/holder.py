"""
The process that holds a network namespace. It is forked from the gate before that has threads, and waits until it is
told to make the namespace. Then it does in it what the gate, which stays outside, can't: routes, and listening sockets,
which it passes out. It ends when the gate has ended, in whatever way, and so does the engine that it has started.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

from twistedipc.isolation.network import sniffing
from twistedipc.isolation.network.engines import LINK, TAP, Engine, command
from twistedipc.isolation.network.hosts import PRIVATE
from twistedipc.isolation.network.rtnetlink import Routes

#: Seconds for an engine to have made its interface, and for anything else that a holder is asked.
ENGINE_DEADLINE = 5.0
DEADLINE = 10.0

#: Bytes of an engine's errors.
MAX_ERRORS = 16 << 10

#: Bytes of a message between gate and holder.
MAX_MESSAGE = 1 << 16

#: The ports at which connections to all public hosts are taken, where the gate alone is the network: ssh, http, https,
#: git. Everything else has to ask the proxy.
PORTS = (22, 80, 443, 9418)

#: The port of the proxy in its namespace. Nothing else is registered there, and programs that ask for any free port
#: are never given one so low: by chance it would be the port of a build's own server, or of one that it is refused.
PROXY = 983

#: What the kernel counts for a user over all processes (user_namespaces(7)), where it has the number that each user of
#: the machine may have, and into how many parts that is divided: one attempt's steps have one of them.
COUNTED = {
    "max_inotify_instances": "inotify/max_user_instances",
    "max_inotify_watches": "inotify/max_user_watches",
    "max_fanotify_groups": "fanotify/max_user_groups",
    "max_fanotify_marks": "fanotify/max_user_marks",
}
PARTS = 4

_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_CAP_SYS_ADMIN = 21
_IPV6_V6ONLY = 26

_LIBC = ctypes.CDLL(None, use_errno=True)


class HolderFailed(Exception):
    """A namespace can't be made. The text says why, for people."""


class Made:
    """One answer of a holder: what it says, and the sockets that it has passed."""

    def __init__(self, said: dict[str, Any], sockets: Sequence[socket.socket]) -> None:
        self.said = said
        self.sockets = sockets


class Holder:
    """A holder, as the gate sees it."""

    def __init__(self) -> None:
        """Fork it. This process must have one thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                # Nothing of the gate's may stay open here, above all not its end of another holder's socket.
                os.closerange(3, theirs.fileno())
                os.closerange(theirs.fileno() + 1, 1024)
                _hold(theirs, parent)
            finally:
                os._exit(1)
        theirs.close()
        ours.settimeout(DEADLINE)
        self._socket = ours

    def ask(self, **question: object) -> Made:
        """Ask it for something, and wait for the answer. Raises `HolderFailed`."""
        try:
            self._socket.send(json.dumps(question).encode())
            data, descriptors, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE, 64)
        except OSError as error:
            raise HolderFailed(f"the process that holds the network has ended: {error}") from error
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        said: dict[str, Any] = json.loads(data) if data else {"failed": "the process that holds the network has ended"}
        if "failed" in said:
            raise HolderFailed(str(said["failed"]))
        return Made(said, sockets)


def _prctl(option: int, value: int) -> None:
    _LIBC.prctl(option, value, 0, 0, 0)


def _hold(told: socket.socket, parent: int) -> None:
    """The holder's life: answer until the gate has gone."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    namespace = _Namespace()
    try:
        while True:
            data = told.recv(MAX_MESSAGE)
            if not data:
                return
            question = json.loads(data)
            do = question.pop("do")
            try:
                said, sockets = getattr(namespace, f"do_{do}")(**question)
            except (OSError, HolderFailed) as error:
                said, sockets = {"failed": str(error)}, []
            socket.send_fds(told, [json.dumps(said).encode()], [each.fileno() for each in sockets])
            for each in sockets:
                each.close()
    finally:
        namespace.end()


class _Namespace:
    """The namespace, in the process that holds it."""

    def __init__(self) -> None:
        self._engine = 0  # its process
        self._start = -1  # the pipe by which it is let go

    def do_make(self, engine: Engine, program: str, open: bool) -> tuple[dict[str, Any], list[socket.socket]]:
        """
        Make the namespace. Passes out the socket of the resolver, that of the proxy, and then those that take
        connections to all hosts.
        """
        errors = -1
        if open and engine != "gate":
            errors = self._prepare(command(engine, program, os.getpid()))
        _unshare()
        routes = Routes()
        routes.loopback_up()
        resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        resolver.bind(("127.0.0.1", 53))
        proxy = _listening("127.0.0.1", PROXY)
        sockets = [resolver, proxy]
        everything = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
        if not open or engine == "gate":
            # All addresses are this namespace's own: nothing is behind them but what listens there.
            _keep(routes, everything)
        if open and engine == "gate":
            for network in PRIVATE:
                if not network.network_address.is_loopback and network.prefixlen != 96:
                    with contextlib.suppress(OSError):  # a kernel without IPv6
                        routes.prohibit(network)
            sockets += [_listening("::", port) for port in PORTS]
        routes.close()
        if errors >= 0:
            self._connect(errors)
        return {"proxy": PROXY}, sockets

    def do_close_off(self, addresses: Sequence[str]) -> tuple[dict[str, Any], list[socket.socket]]:
        """Keep everything private in the namespace, and these addresses; pass out what hears the rest."""
        routes = Routes()
        link = ipaddress.ip_network(LINK)
        _keep(routes, [network for network in PRIVATE if network != link and not network.network_address.is_loopback])
        _keep(routes, [ipaddress.ip_network(address) for address in addresses])
        _keep(routes, [ipaddress.ip_network("::/0")])
        routes.close()
        return {}, [sniffing.listen(TAP)]

    def do_hear(self) -> tuple[dict[str, Any], list[socket.socket]]:
        """Pass out what hears connections to what is kept in the namespace."""
        return {}, [sniffing.listen("lo")]

    def do_listen(self, address: str, ports: Sequence[int]) -> tuple[dict[str, Any], list[socket.socket]]:
        """Listen at an address, which becomes the namespace's own."""
        where = ipaddress.ip_address(address)
        if not where.is_loopback:
            routes = Routes()
            _keep(routes, [ipaddress.ip_network(address)])
            routes.close()
        return {}, [_listening(address, port) for port in ports]

    def end(self) -> None:
        """End the engine."""
        if self._engine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._engine, signal.SIGKILL)

    def _prepare(self, argv: Sequence[str]) -> int:
        """
        Fork what becomes the engine once the namespace is there: it stays outside. Return the file with its errors,
        in memory. It has a bound, beyond which nothing can be written; a pipe would end the engine, or stop it.
        """
        waiting, self._start = os.pipe2(os.O_CLOEXEC)
        errors = os.memfd_create("errors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(errors, MAX_ERRORS)
        fcntl.fcntl(errors, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        holder = os.getpid()
        self._engine = os.fork()
        if self._engine == 0:
            try:
                os.setpgid(0, 0)
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                os.close(self._start)
                nothing = os.open(os.devnull, os.O_RDWR)
                os.dup2(nothing, 0)
                os.dup2(nothing, 1)
                os.dup2(errors, 2)
                if os.read(waiting, 1) and os.getppid() == holder:
                    # Python ignores SIGPIPE; pasta takes that for an error.
                    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
                        signal.signal(number, signal.SIG_DFL)
                    os.execve(argv[0], list(argv), {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
            except BaseException as error:  # nothing may return from here into the holder's code
                os.write(2, str(error).encode())
            finally:
                os._exit(127)
        os.close(waiting)
        return errors

    def _connect(self, errors: int) -> None:
        """Let the engine go, and wait until it has made its interface. Raises `HolderFailed`."""
        os.write(self._start, b"g")
        os.close(self._start)
        until = time.monotonic() + ENGINE_DEADLINE
        try:
            while not _has_route():
                ended, _ = os.waitpid(self._engine, os.WNOHANG)
                if ended or time.monotonic() > until:
                    if not ended:
                        os.kill(self._engine, signal.SIGKILL)
                        os.waitpid(self._engine, 0)
                    self._engine = 0
                    raise HolderFailed(_said(errors) or ("it ended" if ended else f"nothing in {ENGINE_DEADLINE:g} s"))
                time.sleep(0.002)
        finally:
            os.close(errors)


def _has_route() -> bool:
    """Return whether the engine's interface has the default route."""
    with open("/proc/self/net/route", encoding="ascii") as file:
        return any(line.split()[:2] == [TAP, "00000000"] for line in file)


def _said(errors: int) -> str:
    lines = os.pread(errors, MAX_ERRORS, 0).rstrip(b"\0").decode("utf-8", "replace").split("\n")
    # This passt says of each of its own lines that it can't be sent to a syslog.
    return "; ".join(line.strip() for line in lines if line.strip() and "to syslog" not in line)[:300]


def _keep(routes: Routes, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None:
    for network in networks:
        try:
            routes.keep(network)
        except OSError:
            if network.version == 4:
                raise
            # A kernel without IPv6: nothing can be sent there.


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError:
        if address != "::":
            raise
        return _listening("0.0.0.0", port)  # a kernel without IPv6
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_V6ONLY, int(address != "::"))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(128)
    return made


def _unshare() -> None:
    """Make the network namespace; as anybody but root, in a user namespace that has this user alone."""
    if _may_administrate():
        _call_unshare(_CLONE_NEWNET)
        return
    user, group = os.geteuid(), os.getegid()
    _call_unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    _share_out()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_DUMPABLE, 1)


def _share_out() -> None:
    """Let this user namespace have a part of what is counted: a build that takes all of it leaves none to others."""
    for name, of_machine in COUNTED.items():
        with contextlib.suppress(OSError, ValueError):  # the kernel doesn't count it
            with open(f"/proc/sys/fs/{of_machine}", encoding="ascii") as file:
                most = int(file.read())
            with open(f"/proc/sys/user/{name}", "w", encoding="ascii") as file:
                file.write(str(max(1, most // PARTS)))


def _call_unshare(flags: int) -> None:
    if _LIBC.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, f"no network namespace can be made: {os.strerror(number)}")


def _may_administrate() -> bool:
    """Return whether this process has CAP_SYS_ADMIN."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False
