"""
Calls and one-way messages that wait for a link, in one queue, so that they arrive in the order in which they were
given. Used by ``remote``, which bounds it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.wire.errors import CallTimedOut, LocalProtocolError, NotConnected
from twistedipc.ipc.wire.interface import Request

R = TypeVar("R")


class _Message:
    """A one-way message that waits."""

    def __init__(self, message: msgspec.Struct, size: int) -> None:
        self.message = message
        self.size = size


class _Call:
    """A call that waits for a link, and later stands for the call on the link."""

    def __init__(self, request: msgspec.Struct, deadline: float, cancelled: Callable[[_Call], None]) -> None:
        self.request = request
        self.context = copy_context()  # in which the call was made: what it is a part of
        self.deadline = deadline
        self.timer: IDelayedCall | None = None
        self.asked: Deferred[Any] | None = None
        self.reply: Deferred[Any] = Deferred(lambda _: cancelled(self))

    def stop_waiting(self) -> None:
        """Cancel the timer of the wait."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()


class Unsent:
    """
    The queue of what waits for a link.

    :param most: how many calls the user lets wait
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, most: int) -> None:
        self.most = most
        #: why there is no link, for calls whose time is up
        self.why = "there is no link yet"
        self.bytes = 0  # of the messages, as JSON
        self.calls = 0
        self.clock = clock
        self._queue: dict[_Message | _Call, None] = {}
        self._to: Peer | None = None  # the peer that everything is being sent to

    def send(self, message: msgspec.Struct, size: int) -> None:
        """Let a message of ``size`` bytes wait."""
        self._queue[_Message(message, size)] = None
        self.bytes += size

    def call(self, request: Request[R], timeout: float) -> Deferred[R]:
        """Let a call wait, for at most ``timeout`` seconds."""
        call = _Call(request, self.clock.seconds() + timeout, self._cancelled)
        call.timer = self.clock.callLater(timeout, self._timed_out, call, timeout)
        self._queue[call] = None
        self.calls += 1
        return call.reply

    def send_all(self, peer: Peer) -> bool:
        """Send everything on a link, in order, and last what is added meanwhile. Return False if the link ends."""
        self._to = peer
        while self._queue and self._to is peer:
            first = next(iter(self._queue))
            if isinstance(first, _Call):
                self._ask(first, peer)
            else:
                self._send_run(peer)
        still = self._to is peer
        self._to = None
        return still

    def stop(self, peer: Peer) -> None:
        """Stop sending to this peer: its link has ended, and what is left waits for the next."""
        if self._to is peer:
            self._to = None

    def fail_calls(self, why: Callable[[], NotConnected]) -> None:
        """Fail the calls that wait now: there won't be a link soon."""
        calls = [each for each in self._queue if isinstance(each, _Call)]
        for call in calls:
            if call in self._queue:  # those before it may cancel it
                self._forget(call)
                call.reply.errback(why())

    def drop_messages(self) -> None:
        """Drop the messages: there won't be a link."""
        self._queue = {each: None for each in self._queue if isinstance(each, _Call)}
        self.bytes = 0

    def _send_run(self, peer: Peer) -> None:
        """Send the messages up to the next call, for the price of one."""
        run: list[_Message] = []
        for each in self._queue:
            if isinstance(each, _Call):
                break
            run.append(each)
        try:
            peer.send_many([each.message for each in run])
        except NotConnected:
            self._to = None
            return
        except LocalProtocolError:
            # All could be sent when they were added: one of them was changed since.
            run = self._send_singly(run, peer)
        for each in run:
            if each in self._queue:  # the link may have ended meanwhile, and its end have dropped them
                del self._queue[each]
                self.bytes -= each.size

    def _send_singly(self, run: list[_Message], peer: Peer) -> list[_Message]:
        """
        Send messages one by one: one that can't be sent any more is dropped alone. Return those that were dealt with:
        all, unless the link has ended.
        """
        for number, each in enumerate(run):
            try:
                peer.send(each.message)
            except NotConnected:
                self._to = None
                return run[:number]
            except LocalProtocolError:
                kind = type(each.message).__qualname__
                self._log.failure("a message ({kind}) that has waited for a link can't be sent", kind=kind)
        return run

    def _ask(self, call: _Call, peer: Peer) -> None:
        self._forget(call)
        left = max(0.0, call.deadline - self.clock.seconds())
        call.asked = call.context.run(lambda: maybeDeferred(peer.call, call.request, left))
        call.asked.chainDeferred(call.reply)

    def _forget(self, call: _Call) -> None:
        if call in self._queue:
            del self._queue[call]
            self.calls -= 1
        call.stop_waiting()

    def _cancelled(self, call: _Call) -> None:
        self._forget(call)
        if call.asked is not None:
            call.asked.cancel()

    def _timed_out(self, call: _Call, timeout: float) -> None:
        self._forget(call)
        call.reply.errback(CallTimedOut(f"no link within {timeout:g} seconds: {self.why}"))
