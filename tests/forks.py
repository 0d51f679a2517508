"""
Processes that begin with their imports done, so that tests which start hundreds of services and runners don't import
hundreds of times: an apiserver's imports cost 1.5 seconds of processor time, its start without them a tenth of that.

A *nursery*, one process for each process of pytest, imports what all of them import and then forks a child
for each start. The child is a process like any other, with a group, signals, files and an end of its own; only its
parent is the nursery, which tells the test how it ended. It gives a child its arguments, folder, environment and
standard streams, and runs the same function as the installed script does. Tests that are about the scripts themselves,
about packaging, about a process's own memory and environment or about signals during the imports start real scripts.

    process = fork("twistd", ["-n", "apiserver", …], cwd=folder, environment={…}, output=log)
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import hashlib
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec.structs import replace

from tests import disk
from twistedipc.builds.isolation import Isolation
from twistedipc.disk.files import write_file
from twistedipc.isolation.probe import Wanted, find_isolation

#: Seconds for the nursery to answer; its imports come before its first answer.
DEADLINE = 180.0


class Forked:
    """A child of the nursery, as `subprocess.Popen` would show it."""

    def __init__(self, nursery: _Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        if self.returncode is None and self._has_ended(0):
            self.returncode = self._nursery.ask({"reap": self.pid})["code"]
            os.close(self._pidfd)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises `subprocess.TimeoutExpired` after that many seconds, if it is given any."""
        if self.returncode is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def _has_ended(self, timeout: float | None) -> bool:
        poll = select.poll()  # not `select`, which knows no descriptors above 1023
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Nursery:
    """The test's end of the nursery."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forks", str(theirs.fileno())],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._socket = ours
        self._socket.settimeout(DEADLINE)
        self._answers = ours.makefile("r", encoding="utf-8")
        atexit.register(self._end)

    def _end(self) -> None:
        # makefile's reader keeps the descriptor open until it is closed too
        self._answers.close()
        self._socket.close()
        self._process.wait(DEADLINE)

    def is_gone(self) -> bool:
        """Return whether it has ended: tests of what kills all descendants of a process kill it with them."""
        return self._process.poll() is not None

    def ask(self, question: Mapping[str, Any], files: Sequence[int] = ()) -> Any:
        """Return the nursery's answer; the descriptors go along with the question."""
        data = json.dumps(question).encode() + b"\n"
        if files:
            sent = socket.send_fds(self._socket, [data[:1]], list(files))
            data = data[sent:]
        self._socket.sendall(data)
        return json.loads(self._answers.readline())


_nursery: _Nursery | None = None


def fork(
    program: str,
    arguments: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    output: IO[bytes],
    error: IO[bytes] | None = None,
    stdin: IO[bytes] | None = None,
) -> Forked:
    """Start one of `PROGRAMS` in a process of its own. Without ``error`` both streams go to ``output``."""
    global _nursery
    if _nursery is None or _nursery.is_gone():
        _nursery = _Nursery()
    with contextlib.ExitStack() as stack:
        given = stdin if stdin is not None else stack.enter_context(open(os.devnull, "rb"))
        files = [given.fileno(), output.fileno(), (error or output).fileno()]
        question = {"program": program, "arguments": [*arguments], "cwd": str(cwd), "environment": {**environment}}
        answer = _nursery.ask(question, files)
    return Forked(_nursery, answer["pid"])


# -- the nursery's side ----------------------------------------------------------------------------------------------


def _twistd() -> None:
    from twisted.scripts.twistd import run

    run()


def _command() -> None:
    from twistedipc.cli import main

    main()


def _runner() -> None:
    from twistedipc.runner.__main__ import main

    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # without taking apart what it has from the nursery, which takes longer than the rest of it


#: What can be started, with the function that the installed script calls, or `python -m`.
PROGRAMS: dict[str, Callable[[], None]] = {"twistd": _twistd, "twistedipc": _command, "runner": _runner}


def _become(question: Mapping[str, Any], files: Sequence[int]) -> None:
    """Make this process, just forked, what was asked for."""
    for target, given in enumerate(files):
        os.dup2(given, target)
    os.closerange(3, 1024)
    os.chdir(question["cwd"])
    os.environ.clear()
    os.environ.update(question["environment"])
    sys.argv = [question["program"], *question["arguments"]]
    # A script's folder, and not that of this module's package, is where a program looks for modules first.
    sys.path[0] = os.path.dirname(sys.executable)
    # This module reads its variable when it is imported.
    importlib.reload(sys.modules["twistedipc.attempts.crashpoints"])


def _serve(control: socket.socket) -> Callable[[], None] | None:
    """Fork on request. Returns in each child, with what it is to run, and in the nursery with None at the end."""
    pending = b""
    files: list[int] = []
    while True:
        data, more, _, _ = socket.recv_fds(control, 65536, 3)
        if not data:
            return None
        files += more
        pending += data
        while b"\n" in pending:
            line, _, pending = pending.partition(b"\n")
            question = json.loads(line)
            if "reap" in question:
                _, status = os.waitpid(question["reap"], 0)
                answer = {"code": os.waitstatus_to_exitcode(status)}
            else:
                pid = os.fork()
                if pid == 0:
                    control.close()
                    _become(question, files)
                    return PROGRAMS[question["program"]]
                for each in files:
                    os.close(each)
                files.clear()
                answer = {"pid": pid}
            control.sendall(json.dumps(answer).encode() + b"\n")


def _try_once(folder: Path) -> None:
    """
    Let the builders among the children try together, and once, what isolates on this machine: a trial takes six
    processes. What they found is in a folder. (`tests/test_isolation_probe.py` is about the trial.)
    """
    from twistedipc.builder import compose

    find: Callable[[Wanted], Isolation] = getattr(compose, find_isolation.__name__)

    def found_before(wanted: Wanted) -> Isolation:
        alike = msgspec.json.encode(replace(wanted, data="", readable=[], hidden=[]))
        file = folder / hashlib.sha256(alike).hexdigest()
        try:
            found = msgspec.json.decode(file.read_bytes(), type=Isolation)
        except FileNotFoundError:
            found = find(wanted)
            if not found.refused:
                write_file(file, found)
        return replace(found, readable=wanted.readable, hidden=wanted.hidden)

    setattr(compose, find_isolation.__name__, found_before)


def main() -> None:
    """Be the nursery."""
    import twistedipc.runner.__main__
    import twistedipc.taps.apiserver
    import twistedipc.taps.builder  # noqa: F401
    from twistedipc.cli.main import COMMANDS

    for module, _ in COMMANDS.values():
        importlib.import_module(module)
    assert "twisted.internet.reactor" not in sys.modules, "a reactor can't be shared by processes"
    folder = Path(tempfile.mkdtemp(prefix="twistedipc-tests-"))
    _try_once(folder)
    disk.wait_for_none()
    # Nothing of this is garbage in a child either, which else would spend most of a second of its end to find that out.
    gc.collect()
    gc.freeze()
    run = _serve(socket.socket(fileno=int(sys.argv[1])))
    if run is None:
        shutil.rmtree(folder)
    else:
        run()


if __name__ == "__main__":
    main()
