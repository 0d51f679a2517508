"""
A child process with a conversation: how the child ends, and when all that it sent and printed has arrived. Used by
``spawn`` and ``node``, each with a conversation of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from twistedipc.ipc.places.pipes import DRAIN


@dataclass(frozen=True, slots=True)
class ChildExit:
    """How a child has ended: its exit code, or the signal that it died of."""

    code: int | None
    signal: int | None = None

    def __str__(self) -> str:
        if self.signal is None:
            return f"has exited with the code {self.code}"
        try:
            return f"was ended by {signal.Signals(self.signal).name}"
        except ValueError:
            return f"was ended by the signal {self.signal}"


class Conversation(Protocol):
    """The link or channel to a child."""

    @property
    def is_over(self) -> bool:
        """Whether the conversation has ended, and nothing more can come."""

    @property
    def reading_is_paused(self) -> bool:
        """Whether this side has paused reading."""

    def closed(self) -> Deferred[Any]:
        """Return a Deferred that fires when the conversation has ended."""

    def abort(self, reason: str) -> None:
        """Close the conversation at once."""


class Child(ProcessProtocol):
    """
    A child process. It has ended when three things have happened: the exit, the end of the output, and the end of the
    conversation. If another process has inherited the child's output or conversation, the last two are waited for at
    most `DRAIN` seconds after the exit, not counting time in which reading is paused.

    :param output: called with the descriptor and bytes of what the child prints
    :param exited: called at the exit, which may be before all has arrived
    """

    def __init__(
        self,
        clock: IReactorTime,
        output: Callable[[int, bytes], None] | None,
        exited: Callable[[ChildExit], None] | None = None,
    ) -> None:
        self.exit: ChildExit | None = None
        self._clock = clock
        self._output = output
        self._exited = exited
        self._conversation: Conversation | None = None
        self._waiting: list[Deferred[ChildExit]] = []
        self._printed_all = False
        self._deadline: IDelayedCall | None = None

    def talked_to_by(self, conversation: Conversation) -> None:
        """Set the conversation whose end belongs to the child's."""
        self._conversation = conversation
        conversation.closed().addCallback(lambda _: self._look())

    def ended(self) -> Deferred[ChildExit]:
        """Return a Deferred that fires when the child has exited and all that it sent and printed was delivered."""
        if self._is_over() and self.exit is not None:
            return succeed(self.exit)
        waiting: Deferred[ChildExit] = Deferred()
        self._waiting.append(waiting)
        return waiting

    @property
    def pid(self) -> int | None:
        """The child's process id, while the child runs."""
        pid: int | None = None if self.transport is None or self.exit is not None else self.transport.pid
        return pid

    def signal(self, number: int) -> None:
        """Send the child a signal. Do nothing if the child has ended."""
        if (pid := self.pid) is not None:
            os.kill(pid, number)

    # -- as the process's protocol

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if self._output is not None:
            self._output(childFD, data)

    def processExited(self, reason: Failure) -> None:
        error = reason.value
        if isinstance(error, ProcessDone):
            self.exit = ChildExit(0)
        else:
            self.exit = ChildExit(getattr(error, "exitCode", None), getattr(error, "signal", None))
        if self._exited is not None:
            self._exited(self.exit)
        self._deadline = self._clock.callLater(DRAIN, self._give_up)
        self._look()

    def processEnded(self, reason: Failure) -> None:
        self._printed_all = True
        self._look()

    def _give_up(self) -> None:
        conversation = self._conversation
        if conversation is not None and not conversation.is_over and conversation.reading_is_paused:
            self._deadline = self._clock.callLater(DRAIN, self._give_up)
            return
        self._deadline = None
        if conversation is not None:
            conversation.abort("the child has exited")
        if not self._printed_all:
            self._printed_all = True
            assert self.transport is not None
            self.transport.loseConnection()
        self._look()

    def _is_over(self) -> bool:
        return (
            self.exit is not None and self._printed_all and (self._conversation is None or self._conversation.is_over)
        )

    def _look(self) -> None:
        if not self._is_over() or self.exit is None:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self.exit)
