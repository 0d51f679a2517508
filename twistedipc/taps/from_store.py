"""
The processes in which the apiserver publishes stored packages (`server.jobs.PublishProgram`). Used by
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

from twistedipc.attempts.programs import own_command
from twistedipc.builds.logs import Lines, valid_shape, with_events
from twistedipc.publish.stored import Delivered, Job, Row, Said, StepBegins, StepEnds, Written
from twistedipc.server.jobs import Writes

#: Seconds for a process to end, after which it is killed: it has deadlines of its own.
DEADLINE = 3000.0

#: The most bytes of one line that a process says, and of all that it says.
MAX_LINE = 16 << 20
MAX_SAID = 32 << 20

_PROGRAM = "twistedipc.runner.from_store"

#: What of this process's environment the step that publishes has.
_PASSED = re.compile(
    r"PATH|(?:HTTPS?|ALL|NO)_PROXY|NODE_EXTRA_CA_CERTS|SSL_CERT_(?:FILE|DIR)|NPM_CONFIG_(?:REGISTRY|CAFILE|NOPROXY|"
    r"PROXY|HTTPS_PROXY|STRICT_SSL)",
    re.IGNORECASE,
)

_decoder: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


def environment_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of this environment the step that publishes has."""
    return {name: value for name, value in environment.items() if _PASSED.fullmatch(name)}


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
        self._environment = environment_of(environment)
        self._running: dict[str, _Process] = {}

    def run(self, job: Job, heard: Callable[[Lines], None], writes: Writes) -> Deferred[Delivered]:
        """See `server.jobs.PublishProgram`."""
        key = f"{job.attempt}.{job.target}.compared" if job.compare else job.attempt
        folder = self._folder / (key if job.compare else f"{job.attempt}.{job.target}")
        job = replace(job, folder=os.path.realpath(folder), hidden=self._hidden, environment=self._environment)
        process = self._running[key] = _Process(job, heard, writes)
        argv = own_command(_PROGRAM)
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
        """See `server.jobs.PublishProgram`."""
        process = self._running.get(attempt)
        if process is not None:
            process.signal("TERM")

    def kill_all(self) -> None:
        """See `server.jobs.PublishProgram`."""
        for process in list(self._running.values()):
            process.kill()


class _Process(ProcessProtocol):
    """One process."""

    _log = Logger()

    def __init__(self, job: Job, heard: Callable[[Lines], None], writes: Writes) -> None:
        self.done: Deferred[Delivered] = Deferred()
        self._job = job
        self._heard = heard
        self._writes = writes
        self._rest = b""
        self._said = 0
        self._errors = b""
        self._delivered: Delivered | None = None

    def connectionMade(self) -> None:
        """It was started: tell it what to do."""
        transport = cast(IProcessTransport, self.transport)
        transport.write(msgspec.json.encode(self._job) + b"\n")

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
        elif isinstance(said, StepBegins | StepEnds):
            self._write(said)
        elif valid_shape(said):
            self._heard(with_events(said))

    def _write(self, row: Row) -> None:
        """Have a row written down, and tell the process once that is done: it waits for it."""

        def done(renewed: dict[str, str] | None) -> Written:
            return Written(renewed=renewed or {})

        def failed(failure: Failure) -> Written:
            self._log.failure("a step of {attempt} can't be written down", failure, attempt=self._job.attempt)
            return Written(why_not=failure.getErrorMessage()[:1000] or "the apiserver can't")

        def answer(written: Written) -> None:
            cast(IProcessTransport, self.transport).write(msgspec.json.encode(written) + b"\n")

        self._writes(row).addCallbacks(done, failed).addCallback(answer)

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
        self.done.callback(Delivered(reason=reason, interrupted=True))

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
