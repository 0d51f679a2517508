"""The trace context that goes with calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import copy_context
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.ipc import (
    BadVocabulary,
    CallFailed,
    Interface,
    Peer,
    Request,
    Service,
    StreamedRequest,
    handles,
    trace_context,
)
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire.conversation import Asked, Conversation, Replied
from twistedipc.ipc.wire.jsonrpc import JsonRpcConversation, JsonRpcFormat
from twistedipc.ipc.wire.plain import PlainConversation, PlainFormat
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


class Rows(StreamedRequest[Value]):
    pass


class Tracer(Service):
    interface = Interface("tracer", Now, Later, InThread, Rows)

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

    @handles(Rows)
    async def rows(self, request: Rows, peer: Peer) -> AsyncIterator[Value]:
        yield Value(trace_context.get())
        await self.waiting
        yield Value(trace_context.get())

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

    def test_streamed_replies(self) -> None:
        async def ask() -> list[str]:
            return [row.value async for row in self.pair.remote.stream_call(Rows())]

        def begin() -> Deferred[list[str]]:
            trace_context.set("one")
            return Deferred.fromCoroutine(ask())

        asked = copy_context().run(begin)
        self.pair.pump()
        self.service.waiting.callback(None)
        self.pair.pump()
        self.assertEqual(self.successResultOf(asked), ["one", "one"])

    def test_one_that_is_too_long_costs_its_call(self) -> None:
        too_long, good = self.call(Now(), "x" * 512), self.call(Now(), "one")
        self.pair.clock.advance(0)
        wire: Any = self.pair.wire
        buffer = wire.wire(Side.DIALLER).buffer
        buffer[:] = buffer.replace(b"x" * 512, b"x" * 513)
        self.pair.pump()
        self.assertEqual(self.failureResultOf(too_long, CallFailed).value.code, "bad-request")
        self.assertEqual(self.successResultOf(good).value, "one")


PLAIN = Interface("plain", Now)


def _pairs(trace: str | None) -> list[tuple[Conversation, Conversation]]:
    how, lines = JsonRpcFormat(trace=trace), PlainFormat(trace=trace)
    return [
        (JsonRpcConversation(None, PLAIN, how), JsonRpcConversation(PLAIN, None, how)),
        (PlainConversation(None, PLAIN, lines, side=Side.DIALLER), PlainConversation(PLAIN, None, lines)),
    ]


def test_formats_without_a_session() -> None:
    """Where both sides have agreed on a member for it."""
    for member, trace, comes in [("traceparent", "00-größer", "00-größer"), ("traceparent", "x" * 600, "x" * 512),
                                 ("traceparent", "", ""), (None, "one", "")]:  # fmt: skip
        for asks, answers in _pairs(member):
            for _ in range(2):  # the second call of a class is written in another way
                id_, frame = asks.call(Now(), 9.0, trace)
                assert (b"traceparent" in frame) is bool(member and trace)
                (asked,) = answers.receive(frame)
                assert isinstance(asked, Asked)
                assert (asked.request, asked.trace) == (Now(), comes)
                (replied,) = asks.receive(answers.reply(asked, Value("x")))
                assert isinstance(replied, Replied)
                assert (replied.id, replied.reply) == (id_, Value("x"))


def test_what_is_no_trace_context_is_none() -> None:
    for wrong in (b"7", b"null", b'"' + b"x" * 513 + b'"', b'{"a":"b"}'):
        for asks, answers in _pairs("traceparent"):
            _, frame = asks.call(Now(), 9.0, "one")
            (asked,) = answers.receive(frame.replace(b'"one"', wrong))
            assert isinstance(asked, Asked)
            assert asked.trace == ""


def test_members_that_have_another_meaning() -> None:
    for made in (lambda: JsonRpcFormat(trace="params"), lambda: PlainFormat(trace="id")):
        how: Any = made()
        with pytest.raises(BadVocabulary, match="another meaning"):
            (JsonRpcConversation if isinstance(how, JsonRpcFormat) else PlainConversation)(PLAIN, None, how)
