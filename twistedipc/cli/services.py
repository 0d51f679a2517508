"""
Both twistd services: as child processes, for as long as the demo runs (`Service`), or going on without the command that
has started them (`Detached`). Used by ``demo``, ``up`` and the chaos.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from twistedipc.cli.failures import ExitCode, Failure

#: Bytes of a service's log that are shown when it fails.
TAIL = 4000

#: Bytes of a service's log beyond which its next start begins another, and only one older is kept.
MAX_LOG = 16 << 20

#: Seconds in which a service that was started has written its number.
_NUMBERED: Final = 5.0

_PR_SET_PDEATHSIG = 1

# With this Python, not with the first `twistd` on PATH. -P: the working folder is no place for modules.
_PYTHON: Final = (sys.executable, "-P", "-c")
_TWISTD: Final = "from twisted.scripts.twistd import run; run()"

# The descriptor of the lock is the first argument. No process that the service starts is to have the lock too, and the
# number in its file is that of the process that has it. The fork leaves the service to init: nobody has to wait for it.
_LOCKED_TWISTD: Final = f"""\
import os, sys
lock = int(sys.argv.pop(1))
if os.fork():
    os._exit(0)
os.set_inheritable(lock, False)
os.pwrite(lock, b"%d" % os.getpid(), 0)
{_TWISTD}
"""


class Started(Protocol):
    """A service, as those who wait for it see it."""

    name: str
    log: Path

    def ended(self) -> bool:
        """Return whether the service has ended."""


class Service:
    """
    One ``twistd``, in a session of its own, so that a Ctrl-C in the terminal reaches it only through this program.
    """

    def __init__(self, name: str, plugin: str, config: Path, log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*_PYTHON, _TWISTD, "-n", "--pidfile=", plugin, "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        """The service's process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, or the signal that ended it as a negative number; None while it runs."""
        return self._process.poll()

    def ended(self) -> bool:
        """Return whether the service has ended."""
        return self._process.poll() is not None

    def stop(self, grace: float = 15.0) -> None:
        """End the service: SIGTERM, then SIGKILL after the grace. Idempotent."""
        if self.ended():
            return
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Kill the service (SIGKILL)."""
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send the service a signal."""
        self._process.send_signal(number)


class Detached:
    """
    One ``twistd`` in a session of its own, which no command waits for. It holds a lock as long as it lives, and the
    lock's file has its number: so it is found again by any command, and no other process is ever taken for it.
    """

    def __init__(self, name: str, plugin: str, config: Path) -> None:
        self.name = name
        self.config = config
        self.log = config.with_name(f"{name}.log")
        self._plugin = plugin
        self._lock = config.with_name(f"{name}.lock")

    def start(self) -> bool:
        """Start the service; return whether it wasn't running. Raises `OSError`."""
        with self._opened() as lock:
            while not _taken(lock, fcntl.LOCK_EX):
                if not _taken(lock, fcntl.LOCK_SH):
                    return False
                fcntl.flock(lock, fcntl.LOCK_UN)  # somebody has just looked whether it runs
            os.ftruncate(lock, 0)
            if self.log.exists() and self.log.stat().st_size > MAX_LOG:
                os.replace(self.log, f"{self.log}.1")
            # What is meant for commands isn't for services: above all not a person's token.
            environment = {name: value for name, value in os.environ.items() if not name.startswith("TWISTEDIPC_")}
            with self.log.open("ab") as output:
                subprocess.run(
                    [*_PYTHON, _LOCKED_TWISTD, str(lock), "-n", "--pidfile=", self._plugin, "--config", self.config],
                    cwd=self.config.parent,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                    check=True,
                )
            return True

    def ended(self) -> bool:
        """Return whether it isn't running. Nothing that is shown for this is kept: not even a file is made."""
        if not self._lock.exists():
            return True
        with self._opened() as lock:
            return _taken(lock, fcntl.LOCK_SH)

    @property
    def pid(self) -> int | None:
        """Its process id; None if it isn't running, or is just being started."""
        if self.ended():
            return None
        text = self._lock.read_text("ascii", errors="replace")
        return int(text) if text.isdecimal() else None

    def stop(self, grace: float = 15.0) -> bool:
        """End the service: SIGTERM, then SIGKILL after the grace. Return whether it was running."""
        deadline = time.monotonic() + _NUMBERED
        while (pid := self.pid) is None:
            if self.ended() or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            if self.pid != pid:  # else this is the process that has the lock, whatever happens to its number
                return False
            for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
                signal.pidfd_send_signal(process, number)
                if select.select([process], [], [], seconds)[0]:
                    break
        except ProcessLookupError:
            pass  # it has just ended by itself
        finally:
            os.close(process)
        return True

    @contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _taken(lock: int, kind: int) -> bool:
    """Return whether a lock could be taken at once."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def check_alive(services: Sequence[Started]) -> None:
    """Raise `Failure`, with the end of its log, if a service has ended."""
    for service in services:
        if service.ended():
            raise Failure(
                ExitCode.UNAVAILABLE, f"{service.name} has ended; the end of {service.log}:\n{tail(service.log)}"
            )


def logs_of(services: Sequence[Started]) -> str:
    """Return the ends of all services' logs, for a person who looks for an error."""
    return "\n".join(f"the end of {service.log}:\n{tail(service.log)}" for service in services)


def tail(log: Path) -> str:
    """Return the end of a service's log."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        return file.read().decode(errors="replace").strip() or "(nothing was logged)"


def is_free(port: int) -> bool:
    """Return whether nothing listens at this port of this machine's loopback."""
    return _bound(port) is not None


def free_port(wanted: int) -> int:
    """Return ``wanted`` if nothing listens there on this machine's loopback, else a free port."""
    for port in (wanted, 0):
        if (found := _bound(port)) is not None:
            return found
    raise Failure(ExitCode.UNAVAILABLE, "there is no free port on 127.0.0.1")


def _bound(port: int) -> int | None:
    """Bind a port, let it go again, and return its number; None if it is taken. 0 is any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    """
    In the child: end when the parent does, even if the parent is killed (on Linux; elsewhere only `stop` ends it).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
