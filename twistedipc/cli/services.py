"""Both twistd services as child processes, for as long as the demo runs."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from twistedipc.cli.failures import ExitCode, Failure

#: Bytes of a service's log that are shown when it fails.
TAIL = 4000

_PR_SET_PDEATHSIG = 1


class Service:
    """
    One ``twistd``, in a session of its own, so that a Ctrl-C in the terminal reaches it only through this program.
    """

    def __init__(self, name: str, plugin: str, config: Path, log: Path) -> None:
        self.name = name
        self.log = log
        # With this Python, not with the first `twistd` on PATH. -P: the working folder is no place for
        # modules.
        command = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "-n", "--pidfile=", plugin, "--config", str(config)],
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

    def log_tail(self) -> str:
        """Return the end of the service's log."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return file.read().decode(errors="replace").strip()


def check_alive(services: list[Service]) -> None:
    """Raise `Failure`, with the end of its log, if a service has ended."""
    for service in services:
        if service.ended():
            raise Failure(
                ExitCode.UNAVAILABLE, f"{service.name} has ended; the end of {service.log}:\n{_tail(service)}"
            )


def logs_of(services: list[Service]) -> str:
    """Return the ends of all services' logs, for a person who looks for an error."""
    return "\n".join(f"the end of {service.log}:\n{_tail(service)}" for service in services)


def _tail(service: Service) -> str:
    return service.log_tail() or "(nothing was logged)"


def free_port(wanted: int) -> int:
    """Return ``wanted`` if nothing listens there on this machine's loopback, else a free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Failure(ExitCode.UNAVAILABLE, "there is no free port on 127.0.0.1")


def _die_with_parent() -> None:
    """
    In the child: end when the parent does, even if the parent is killed (on Linux; elsewhere only `stop` ends it).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
