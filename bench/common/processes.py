"""
The programs of a measurement: processes of their own, each on its core, which say what they found in JSON lines on
their standard output.

The measured process gets `SERVER_CORE`, its load `CLIENT_CORE`; on a machine with one core they share it. Times
of different processes can be compared: ``time.monotonic()`` and Node's ``process.hrtime`` are one clock, the system's.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = _CORES[0]
CLIENT_CORE = _CORES[-1]

#: Seconds after which a program that says nothing has failed.
DEADLINE = 120.0


class Missing(Exception):
    """A candidate can't be measured here; the text says what to install."""


class Failed(Exception):
    """A program ended otherwise than it should, or not in time."""


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def node(script: Path, *arguments: object) -> list[str]:
    """
    The command that runs a script with Node.

    :raises Missing: there is no Node
    """
    return [found("node", "Node.js 20 or newer"), str(script), *map(str, arguments)]


def found(program: str, what: str) -> str:
    """
    Where a program is: on the PATH, or beside this interpreter.

    :raises Missing: it isn't there
    """
    path = shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent))
    if path is None:
        raise Missing(f"{program} isn't here: install {what}")
    return path


class Program:
    """
    A running program. As a context manager it is gone afterwards, with all its children.

    :param core: the only core it runs on, or None for any
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._name = command[command.index("-m") + 1] if "-m" in command else Path(command[0]).name
        self._buffer = b""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=_pin(core),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def said(self, deadline: float = DEADLINE) -> dict[str, Any]:
        """
        The next JSON line that it prints.

        :raises Failed: it ends, or has said nothing after ``deadline`` seconds
        """
        until = time.monotonic() + deadline
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise Failed(f"{self._name}: nothing within {deadline:g} s")
                data = os.read(self._process.stdout.fileno(), 65536)
                if not data:
                    raise Failed(f"{self._name}: ended with {self._process.wait()} instead of saying something")
                self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        said: dict[str, Any] = msgspec.json.decode(line, type=dict)
        return said

    def cpu_seconds(self) -> float:
        """User and system time so far, while it runs."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spent(pid: int) -> float:
    """Seconds of processor time of a process so far, all its threads, without its children: to the microsecond."""
    tasks = [Path(f"/proc/{pid}/task/{task}/schedstat") for task in os.listdir(f"/proc/{pid}/task")]
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def spent_by_ended_children(pid: int) -> float:
    """Seconds of processor time of its children that it has waited for, and theirs: to the hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def say(**what: object) -> None:
    """Print a JSON line; for the programs."""
    print(msgspec.json.encode(what).decode(), flush=True)


def _pin(core: int | None) -> Callable[[], None] | None:
    return None if core is None else lambda: os.sched_setaffinity(0, {core})
