"""
The processes in which the apiserver asks registries (`server.asking.AskProgram`). Used by ``apiserver``. The question,
with what is secret in it, is on the process's standard input alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import cast

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc import publish
from twistedipc.attempts.programs import own_command
from twistedipc.publish.asking import Answered, Question
from twistedipc.taps.from_store import PublishReactor, environment_of

#: Seconds for a process to end, after which it is killed: it has deadlines of its own.
DEADLINE = 180.0

#: The most bytes that a process says.
MAX_SAID = 8 << 20

_PROGRAM = f"{publish.__name__}.ask"


class AskProcesses:
    """Starts them, one for each question."""

    def __init__(self, reactor: PublishReactor, environment: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._environment = environment_of(environment)
        self._running: set[_Process] = set()

    def ask(self, question: Question) -> Deferred[Answered]:
        """See `server.asking.AskProgram`."""
        process = _Process(replace(question, environment=self._environment))
        self._running.add(process)
        argv = own_command(_PROGRAM)
        try:
            self._reactor.spawnProcess(process, sys.executable, argv, env={"LANG": "C.UTF-8"}, path="/")
        except OSError as error:
            process.failed(f"the process that asks the registry can't be started: {error}")
        late = self._reactor.callLater(DEADLINE, process.kill)

        def ended(result: Answered | Failure) -> Answered | Failure:
            self._running.discard(process)
            if late.active():
                late.cancel()
            return result

        return process.done.addBoth(ended)

    def kill_all(self) -> None:
        """See `server.asking.AskProgram`."""
        for process in list(self._running):
            process.kill()


class _Process(ProcessProtocol):
    """One process."""

    _log = Logger()

    def __init__(self, question: Question) -> None:
        self.done: Deferred[Answered] = Deferred()
        self._question = question
        self._said = b""
        self._errors = b""

    def connectionMade(self) -> None:
        """It was started: ask it."""
        transport = cast(IProcessTransport, self.transport)
        transport.write(msgspec.json.encode(self._question))
        transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """It answers."""
        self._said += data
        if len(self._said) > MAX_SAID:
            self._errors += b"\nit says too much"
            self.kill()

    def errReceived(self, data: bytes) -> None:
        """It has broken."""
        self._errors = (self._errors + data)[-4096:]

    def processEnded(self, reason: Failure) -> None:
        """It is gone."""
        try:
            self.done.callback(msgspec.json.decode(self._said, type=Answered))
        except msgspec.DecodeError:
            said = self._errors.decode("utf-8", "replace").strip()
            self._log.error("the process that asks a registry broke: {why}\n{said}", why=reason.getErrorMessage(),
                            said=said)  # fmt: skip
            last = said.splitlines()[-1] if said else reason.getErrorMessage()
            self.failed(f"the process that asks the registry broke: {last}")

    def failed(self, reason: str) -> None:
        """There is no answer."""
        self.done.callback(Answered(reason=reason))

    def kill(self) -> None:
        """Kill it."""
        if self.transport is None:
            return
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass
