"""What is known of the next link of a ``remote``: `NextLink`."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from threading import get_ident

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twistedipc.ipc.connections.connection import check_thread
from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.wire.errors import LinkRefused, NotConnected


class Outlook(Enum):
    """Whether there will be a next link."""

    OPEN = auto()  # each attempt may succeed
    REFUSED = auto()  # the two sides have met, and one has refused the other; attempts go on
    CLOSED = auto()  # nothing is dialled any more, and the last link is being closed
    OVER = auto()  # there is no link, and won't be one


class NextLink:
    """
    The callers that wait for the next link, or the reason why there is none to wait for.

    :param clock: for the timeouts of those who wait
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.outlook = Outlook.OPEN
        #: why there is no link, for people
        self.why = "there is no link yet"
        self._code = ""  # of the refusal
        self._thread = 0  # in which there was a link; 0: there was none
        self._clock = clock
        self._waiting: list[Deferred[Peer]] = []
        self._ends: list[Deferred[str]] = []

    @property
    def is_closed(self) -> bool:
        """Whether nothing is dialled any more."""
        return self.outlook in (Outlook.CLOSED, Outlook.OVER)

    @property
    def fails_now(self) -> bool:
        """Whether what needs a link fails at once instead of waiting for one."""
        return self.outlook is not Outlook.OPEN

    def error(self) -> NotConnected:
        """Return a new exception: one that is raised in several places collects the tracebacks of all."""
        return LinkRefused(self._code, self.why) if self.outlook is Outlook.REFUSED else NotConnected(self.why)

    # -- what happens ------------------------------------------------------------------------------------------------

    def delay(self, reason: str) -> bool:
        """Note why there is no link now; another attempt follows. Return False if nothing is dialled any more."""
        if self.is_closed:
            return False
        self.outlook, self.why = Outlook.OPEN, reason
        return True

    def refuse(self, code: str, reason: str) -> bool:
        """Note that one side has refused the other. Return False if nothing is dialled any more."""
        if self.is_closed:
            return False
        self.outlook, self._code, self.why = Outlook.REFUSED, code, reason
        return True

    def close(self, reason: str) -> bool:
        """Note that nothing is dialled any more. Return False if that was known."""
        if self.is_closed:
            return False
        self.outlook, self.why = Outlook.CLOSED, reason
        return True

    def end(self) -> None:
        """Note that there is no link and won't be one: fire the Deferreds of `ended`, once."""
        self.outlook = Outlook.OVER
        ends, self._ends = self._ends, []
        for each in ends:
            each.callback(self.why)

    def check_thread(self) -> None:
        """Raise `LocalProtocolError` if this is another thread than the one in which there was a link."""
        check_thread(self._thread)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None) -> Deferred[Peer]:
        """Return a Deferred of the peer on the next link. It fails with `NotConnected` after ``timeout`` seconds."""
        waiting: Deferred[Peer] = Deferred(self._forget)
        self._waiting.append(waiting)
        if timeout is not None:
            waiting.addTimeout(timeout, self._clock)
            waiting.addErrback(self._timed_out, timeout)
        return waiting

    def made(self, peer: Peer, is_linked: Callable[[], bool]) -> None:
        """Give ``peer`` to those who wait, as long as ``is_linked``: one of them may end the link again."""
        self._thread = get_ident()
        while self._waiting and is_linked():
            self._waiting.pop(0).callback(peer)

    def fail_waiting(self) -> None:
        """Fail those who wait with `error`."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:  # those before it may cancel it
                each.errback(self.error())

    def ended(self) -> Deferred[str]:
        """Return a Deferred that fires, with the reason, when there is no link and won't be one."""
        end: Deferred[str] = Deferred()
        if self.outlook is Outlook.OVER:
            end.callback(self.why)
        else:
            self._ends.append(end)
        return end

    def _forget(self, waiting: Deferred[Peer]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _timed_out(self, failure: Failure, timeout: float) -> Failure:
        if failure.check(TimeoutError):
            raise NotConnected(f"no link within {timeout:g} seconds: {self.why}")
        return failure
