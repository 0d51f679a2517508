"""The trace context that goes with calls."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.ipc import CallFailed, Interface, Peer, Request, Service, handles, trace_context
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire.settings import Side


class Value(msgspec.Struct):
    value: str


class Now(Request[Value]):
    pass


class Later(Request[Value]):
    pass


class InThread(Request[Value]):
    pass


class Back(Request[Value]):
    pass


class Tracer(Service):
    interface = Interface("tracer", Now, Later, InThread)

    def __init__(self) -> None:
        self.waiting: Deferred[None] = Deferred()

    @handles(Now)
    def now(self, request: Now, peer: Peer) -> Value:
        return Value(trace_context.get())

    @handles(Later)
    async def later(self, request: Later, peer: Peer) -> Value:
        """What is called from here is a part of the same."""
        before = trace_context.get()
        await self.waiting
        back = await peer.call(Back())
        return Value(f"{before} {back.value} {trace_context.get()}")

    @handles(InThread, thread=True)
    def in_thread(self, request: InThread, peer: Peer) -> Value:
        return Value(trace_context.get())


class Caller(Service):
    interface = Interface("caller", Back)

    @handles(Back)
    def back(self, request: Back, peer: Peer) -> Value:
        return Value(trace_context.get())


class Traced(SynchronousTestCase):
    def setUp(self) -> None:
        self.service = Tracer()
        self.pair = ServicePair(self.service, answers=Caller())

    def call(self, request: Request[Value], trace: str) -> Deferred[Value]:
        def call() -> Deferred[Value]:
            trace_context.set(trace)
            return self.pair.remote.call(request)

        return copy_context().run(call)

    def test_it_goes_with_calls(self) -> None:
        replies = [self.call(Now(), trace) for trace in ("one", "", "größer")]
        replies.append(self.call(InThread(), "thread"))
        self.pair.pump()
        self.assertEqual([self.successResultOf(each).value for each in replies], ["one", "", "größer", "thread"])
        self.assertEqual(trace_context.get(), "")

    def test_through_waits_and_calls_back(self) -> None:
        first, second = self.call(Later(), "one"), self.call(Later(), "two")
        self.pair.pump()
        self.service.waiting.callback(None)
        self.pair.pump()
        self.assertEqual(self.successResultOf(first).value, "one one one")
        self.assertEqual(self.successResultOf(second).value, "two two two")

    def test_a_call_that_waits_for_a_link(self) -> None:
        self.pair.cut()
        reply = self.call(Now(), "waited")
        self.pair.link()
        self.assertEqual(self.successResultOf(reply).value, "waited")

    def test_what_is_on_the_wire(self) -> None:
        self.call(Now(), "one")
        self.call(Now(), "")
        self.call(Now(), "x" * 1000)
        self.pair.clock.advance(0)
        wire: Any = self.pair.wire
        lines = bytes(wire.wire(Side.DIALLER).buffer).splitlines()
        self.assertEqual([msgspec.json.decode(line).get("trace") for line in lines], ["one", None, "x" * 512])

    def test_one_that_is_too_long_costs_its_call(self) -> None:
        too_long, good = self.call(Now(), "x" * 512), self.call(Now(), "one")
        self.pair.clock.advance(0)
        wire: Any = self.pair.wire
        buffer = wire.wire(Side.DIALLER).buffer
        buffer[:] = buffer.replace(b"x" * 512, b"x" * 513)
        self.pair.pump()
        self.assertEqual(self.failureResultOf(too_long, CallFailed).value.code, "bad-request")
        self.assertEqual(self.successResultOf(good).value, "one")
