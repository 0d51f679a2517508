"""
The processes in which the apiserver publishes stored packages (`server.delivering.PublishProgram`). Used by
``apiserver``.

The process is this program's, with what it is to do on its standard input; it has the token nowhere else. Its
environment is made from nothing, but for what npm needs of this process's: PATH, proxies, certificates, its registry.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

import twistedipc
from twistedipc.builds.logs import Lines, valid_shape, with_events
from twistedipc.publish.stored import Delivered, Job, Said

#: Seconds for a process to end, after which it is killed: it has deadlines of its own.
DEADLINE = 3000.0

#: The most bytes of one line that a process says, and of all that it says.
MAX_LINE = 16 << 20
MAX_SAID = 32 << 20

_START = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__')"
_ROOT = str(Path(twistedipc.__file__).parent.parent)
_PROGRAM = "twistedipc.runner.from_store"

#: What of this process's environment the step that publishes has.
_PASSED = re.compile(
    r"PATH|(?:HTTPS?|ALL|NO)_PROXY|NODE_EXTRA_CA_CERTS|SSL_CERT_(?:FILE|DIR)|NPM_CONFIG_(?:REGISTRY|CAFILE|NOPROXY|"
    r"PROXY|HTTPS_PROXY|STRICT_SSL)",
    re.IGNORECASE,
)

_decoder: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


class PublishReactor(IReactorProcess, IReactorTime):
    """A reactor that starts processes."""


class PublishProcesses:
    """
    Starts and ends them.

    :param folder: where they work, the apiserver's own
    :param hidden: files and folders of the apiserver's that the step that publishes can't see
    """

    def __init__(
        self, reactor: PublishReactor, folder: Path, hidden: Sequence[Path], environment: Mapping[str, str]
    ) -> None:
        self._reactor = reactor
        self._folder = folder
        self._hidden = [os.path.realpath(path) for path in hidden]
        self._environment = {name: value for name, value in environment.items() if _PASSED.fullmatch(name)}
        self._running: dict[str, _Process] = {}

    def run(self, job: Job, heard: Callable[[Lines], None]) -> Deferred[Delivered]:
        """See `server.delivering.PublishProgram`."""
        key = f"{job.attempt}.{job.target}.compared" if job.compare else job.attempt
        folder = self._folder / (key if job.compare else f"{job.attempt}.{job.target}")
        job = replace(job, folder=os.path.realpath(folder), hidden=self._hidden, environment=self._environment)
        process = self._running[key] = _Process(job, heard)
        argv = [sys.executable, "-I", "-X", "utf8", "-c", _START, _ROOT, _PROGRAM]
        try:
            self._reactor.spawnProcess(process, sys.executable, argv, env={"LANG": "C.UTF-8"}, path="/")
        except OSError as error:
            process.failed(f"the process that publishes can't be started: {error}")
        late = self._reactor.callLater(DEADLINE, process.kill)

        def ended(result: Delivered | Failure) -> Delivered | Failure:
            del self._running[key]
            if late.active():
                late.cancel()
            return result

        return process.done.addBoth(ended)

    def end(self, attempt: str) -> None:
        """See `server.delivering.PublishProgram`."""
        process = self._running.get(attempt)
        if process is not None:
            process.signal("TERM")

    def kill_all(self) -> None:
        """See `server.delivering.PublishProgram`."""
        for process in list(self._running.values()):
            process.kill()


class _Process(ProcessProtocol):
    """One process."""

    _log = Logger()

    def __init__(self, job: Job, heard: Callable[[Lines], None]) -> None:
        self.done: Deferred[Delivered] = Deferred()
        self._job = job
        self._heard = heard
        self._rest = b""
        self._said = 0
        self._errors = b""
        self._delivered: Delivered | None = None

    def connectionMade(self) -> None:
        """It was started: tell it what to do."""
        transport = cast(IProcessTransport, self.transport)
        transport.write(msgspec.json.encode(self._job))
        transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """It says something."""
        self._said += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._said > MAX_SAID or len(self._rest) > MAX_LINE:
            self._errors += b"\nit says too much"
            self.kill()
            return
        for line in lines:
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        try:
            said = _decoder.decode(line)
        except msgspec.DecodeError as error:
            self._errors += f"\nit says what can't be read: {error}".encode()
            return
        if isinstance(said, Delivered):
            self._delivered = said
        elif valid_shape(said):
            self._heard(with_events(said))

    def errReceived(self, data: bytes) -> None:
        """It has broken."""
        self._errors = (self._errors + data)[-4096:]

    def processEnded(self, reason: Failure) -> None:
        """It is gone."""
        if self._delivered is not None:
            self.done.callback(self._delivered)
            return
        said = self._errors.decode("utf-8", "replace").strip()
        self._log.error(
            "the process that publishes {attempt} broke: {why}\n{said}",
            attempt=self._job.attempt,
            why=reason.getErrorMessage(),
            said=said,
        )
        last = said.splitlines()[-1] if said else reason.getErrorMessage()
        self.failed(f"the process that publishes broke: {last}")

    def failed(self, reason: str) -> None:
        """There is no process, and no result of one."""
        self.done.callback(Delivered(reason=reason))

    def signal(self, name: str) -> None:
        """Send it a signal."""
        transport = self.transport
        if transport is None:
            return
        try:
            transport.signalProcess(name)
        except ProcessExitedAlready:
            pass

    def kill(self) -> None:
        """Kill it: what it has started dies with it."""
        self.signal("KILL")
