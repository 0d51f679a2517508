"""
What repositories' hosts are asked without a build: the apiserver's questions, each answered by a process of its own
(``runner.remote``). Used by ``duties``; made by ``compose``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.attempts.programs import own_command
from twistedipc.builder.offers import sendable
from twistedipc.builder.ports import NoRemoteAnswer, Remotes
from twistedipc.builder.settings import Settings, spec_of_remote
from twistedipc.builds import names
from twistedipc.builds.isolation import Isolation
from twistedipc.builds.messages import QUESTIONS, DescribeCommits, ListRefs
from twistedipc.builds.remotes import MAX_MOVED, CommitsQuestion, RemoteJob
from twistedipc.disk.files import remove_tree
from twistedipc.ipc import CallFailed

#: How many questions are answered at a time.
MOST = 4

#: The most seconds for one, whatever is asked for; and how much longer its process may take to end by itself.
DEADLINE = 300.0
GRACE = 40.0

#: The most bytes of an answer: it must fit into a frame.
MAX_ANSWER = (1 << 20) - 4096


class Questions:
    """Answers the apiserver's questions."""

    def __init__(self, clock: IReactorTime, remotes: Remotes, settings: Settings) -> None:
        self._clock = clock
        self._remotes = remotes
        self._settings = settings
        self._under_way = 0

    async def answer(self, asked: ListRefs | DescribeCommits, isolation: Isolation, apiserver: str) -> msgspec.Struct:
        """
        Return the answer. Raises `CallFailed`.

        :param isolation: what keeps the process that asks from reaching more than its own
        :param apiserver: the API's address, which it doesn't reach
        """
        remote = asked.remote
        try:
            names.project(remote.project)
            names.repository(remote.repository, local=True)  # which ones are allowed is the apiserver's to say
        except names.BadValue as error:
            raise CallFailed("refused", str(error)) from error
        if self._under_way >= MOST:
            raise CallFailed("busy", f"this builder asks {MOST} hosts already")
        job = RemoteJob(
            folder=str(self._settings.remotes / os.urandom(8).hex()),
            spec=spec_of_remote(remote, self._settings, isolation=isolation, apiserver=apiserver),
            timeout=max(1.0, min(asked.timeout, DEADLINE)),
            access=remote.access,
            refs=asked.question if isinstance(asked, ListRefs) else None,
            commits=_bounded(asked) if isinstance(asked, DescribeCommits) else None,
        )
        self._under_way += 1
        try:
            said = await self._remotes.ask(job).addTimeout(job.timeout + GRACE, self._clock)
            return msgspec.json.decode(said, type=QUESTIONS[type(asked)])
        except TimeoutError as error:
            raise CallFailed("broken", "the process that asks the host hangs") from error
        except (NoRemoteAnswer, msgspec.DecodeError) as error:
            raise CallFailed("broken", sendable(f"the process that asks the host broke: {error}")) from error
        finally:
            self._under_way -= 1


def _bounded(asked: DescribeCommits) -> CommitsQuestion:
    return replace(asked.question, moved=asked.question.moved[:MAX_MOVED])


class RemoteProcesses:
    """
    The real `ports.Remotes`: ``python -m twistedipc.runner.remote``. What is secret goes to its input alone.

    :param folder: where the processes' folders are made
    """

    def __init__(self, reactor: IReactorProcess, folder: Path) -> None:
        self._reactor = reactor
        self._folder = folder

    def clear(self) -> None:
        """See `ports.Remotes`."""
        remove_tree(self._folder)

    def ask(self, job: RemoteJob) -> Deferred[bytes]:
        """See `ports.Remotes`."""
        process = _Asking(msgspec.json.encode(job) + b"\n")
        command = own_command("twistedipc.runner.remote")
        try:
            self._reactor.spawnProcess(
                process,
                command[0],
                command,
                env={"PATH": job.spec.path, "LANG": "C.UTF-8"},
                path="/",
                childFDs={0: "w", 1: "r", 2: "r"},
            )
        except OSError as error:
            process.done.errback(NoRemoteAnswer(f"it can't be started: {error.strerror}"))
        return process.done


class _Asking(ProcessProtocol):
    """One process."""

    _log = Logger()

    def __init__(self, question: bytes) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._leave())
        self._question = question
        self._said = bytearray()
        self._errors = b""

    def connectionMade(self) -> None:
        # Its input stays open: its end says that nobody waits any more.
        cast(IProcessTransport, self.transport).writeToChild(0, self._question)

    def outReceived(self, data: bytes) -> None:
        self._said += data
        if len(self._said) > MAX_ANSWER:
            self._errors += b"\nits answer is too large"
            self._kill()

    def errReceived(self, data: bytes) -> None:
        self._errors = (self._errors + data)[-4096:]

    def processEnded(self, reason: Failure) -> None:
        if self.done.called:
            return  # nobody waits for it any more
        if self._said and len(self._said) <= MAX_ANSWER:
            self.done.callback(bytes(self._said))
            return
        said = self._errors.decode("utf-8", "replace").strip()
        self._log.error("the process that asks a repository's host broke: {why}\n{said}", why=reason.getErrorMessage(),
                        said=said)  # fmt: skip
        self.done.errback(NoRemoteAnswer(said.splitlines()[-1] if said else reason.getErrorMessage()))

    def _leave(self) -> None:
        """Let the process end, with what it has started."""
        cast(IProcessTransport, self.transport).closeStdin()

    def _kill(self) -> None:
        try:
            cast(IProcessTransport, self.transport).signalProcess("KILL")
        except ProcessExitedAlready:
            pass
