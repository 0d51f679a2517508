"""
Both twistd services as child processes, for as long as the demo runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from twistedipc.cli.failures import ExitCode, Failure

#: How much of a service's log is shown when it fails: bytes.
TAIL = 4000

_PR_SET_PDEATHSIG = 1


class Service:
    """One ``twistd``, started in a session of its own, so that a Ctrl-C in the terminal is ours alone to pass on."""

    def __init__(self, name: str, plugin: str, config: Path, log: Path) -> None:
        self.name = name
        self.log = log
        # By this Python, and not by whichever `twistd` is first on PATH. -P: the working folder is no place for
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
        """Its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it has ended: its exit code, or the signal as a negative number; None while it lives."""
        return self._process.poll()

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def stop(self, grace: float = 15.0) -> None:
        """End it: SIGTERM, and SIGKILL after the grace. Idempotent."""
        if self.ended():
            return
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def log_tail(self) -> str:
        """The end of what it has logged."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return file.read().decode(errors="replace").strip()


def check_alive(services: list[Service]) -> None:
    """Raise `Failure`, with the end of its log, if one of them has ended."""
    for service in services:
        if service.ended():
            raise Failure(
                ExitCode.UNAVAILABLE, f"{service.name} has ended; the end of {service.log}:\n{_tail(service)}"
            )


def logs_of(services: list[Service]) -> str:
    """The ends of all their logs, for a person who wants to know what is wrong."""
    return "\n".join(f"the end of {service.log}:\n{_tail(service)}" for service in services)


def _tail(service: Service) -> str:
    return service.log_tail() or "(nothing was logged)"


def free_port(wanted: int) -> int:
    """``wanted`` if nobody listens there on this machine's loopback, else a free one."""
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
    """In the child: end when the parent does, even if that is killed (Linux; elsewhere it ends by `stop` alone)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
