# Much of Twisted has no annotations.
# mypy: disable-error-code="no-untyped-call"
"""
What is said while there is no link: calls and one-way messages in one row, so that they arrive in the order in which
they were said. Used by ``remote``, which bounds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.wire.errors import CallTimedOut, LocalProtocolError, NotConnected
from twistedipc.ipc.wire.interface import Request

R = TypeVar("R", bound=msgspec.Struct)


class _Message:
    """A one-way message that waits."""

    def __init__(self, message: msgspec.Struct, size: int) -> None:
        self.message = message
        self.size = size


class _Call:
    """A call that waits, and later stands for the one on the link."""

    def __init__(self, request: msgspec.Struct, deadline: float, cancelled: Callable[[_Call], None]) -> None:
        self.request = request
        self.deadline = deadline
        self.timer: IDelayedCall | None = None
        self.asked: Deferred[Any] | None = None
        self.reply: Deferred[Any] = Deferred(lambda _: cancelled(self))

    def stop_waiting(self) -> None:
        """It isn't the wait's end any more that ends it."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()


class Said:
    """The row of what waits for a link."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        #: why there is no link, for calls whose time is up
        self.why = "there is no link yet"
        self.bytes = 0  # of the messages, as JSON
        self.calls = 0
        self._clock = clock
        self._row: dict[_Message | _Call, None] = {}
        self._to: Peer | None = None  # the peer that is being told everything just now

    def send(self, message: msgspec.Struct, size: int) -> None:
        """A message of ``size`` bytes waits."""
        self._row[_Message(message, size)] = None
        self.bytes += size

    def call(self, request: Request[R], timeout: float) -> Deferred[R]:
        """A call waits, for at most ``timeout`` seconds."""
        call = _Call(request, self._clock.seconds() + timeout, self._cancelled)
        call.timer = self._clock.callLater(timeout, self._timed_out, call, timeout)
        self._row[call] = None
        self.calls += 1
        return call.reply

    def say_all(self, peer: Peer) -> bool:
        """Say everything on a link, in order, and last what is said meanwhile. False if the link ends on it."""
        self._to = peer
        while self._row and self._to is peer:
            first = next(iter(self._row))
            if isinstance(first, _Call):
                self._ask(first, peer)
            else:
                self._send_run(peer)
        still = self._to is peer
        self._to = None
        return still

    def stop(self, peer: Peer) -> None:
        """The link with this peer has ended: what hasn't been said on it waits for the next."""
        if self._to is peer:
            self._to = None

    def fail_calls(self, why: Callable[[], NotConnected]) -> None:
        """There won't be a link soon: the calls that wait now fail."""
        calls = [each for each in self._row if isinstance(each, _Call)]
        for call in calls:
            if call in self._row:  # those before it may cancel it
                self._forget(call)
                call.reply.errback(why())

    def drop_messages(self) -> None:
        """There won't be a link."""
        self._row = {each: None for each in self._row if isinstance(each, _Call)}
        self.bytes = 0

    def _send_run(self, peer: Peer) -> None:
        """The messages up to the next call, for the price of one."""
        run: list[_Message] = []
        for each in self._row:
            if isinstance(each, _Call):
                break
            run.append(each)
        try:
            peer.send_many([each.message for each in run])
        except NotConnected:
            self._to = None
            return
        except LocalProtocolError:
            # They could be sent when they were said, and somebody has changed one of them since.
            self._send_singly(run, peer)
        for each in run:
            if each in self._row:  # the link may have ended on it, and who heard of that may have dropped them
                del self._row[each]
                self.bytes -= each.size

    def _send_singly(self, run: list[_Message], peer: Peer) -> None:
        """One that can't be sent any more costs itself."""
        for each in run:
            try:
                peer.send(each.message)
            except NotConnected:
                return
            except LocalProtocolError:
                kind = type(each.message).__qualname__
                self._log.failure("a message ({kind}) that has waited for a link can't be sent", kind=kind)

    def _ask(self, call: _Call, peer: Peer) -> None:
        self._forget(call)
        left = max(0.0, call.deadline - self._clock.seconds())
        call.asked = maybeDeferred(peer.call, call.request, left)
        call.asked.chainDeferred(call.reply)

    def _forget(self, call: _Call) -> None:
        if call in self._row:
            del self._row[call]
            self.calls -= 1
        call.stop_waiting()

    def _cancelled(self, call: _Call) -> None:
        self._forget(call)
        if call.asked is not None:
            call.asked.cancel()

    def _timed_out(self, call: _Call, timeout: float) -> None:
        self._forget(call)
        call.reply.errback(CallTimedOut(f"no link within {timeout:g} seconds: {self.why}"))
