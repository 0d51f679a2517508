"""Streamed replies: items as they come, credit both ways, cancelling, errors, ends of links, deadlines."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.test_ipc_bad_input import MALFORMED, WRONG
from twistedipc.ipc import (
    BadVocabulary,
    CallFailed,
    CallTimedOut,
    Interface,
    LocalProtocolError,
    NotConnected,
    Peer,
    Request,
    Service,
    StreamedReply,
    StreamedRequest,
    TooManyCalls,
    Unlinked,
    handles,
)
from twistedipc.ipc.connections.streamed import CREDIT
from twistedipc.ipc.connections.streaming import Streaming
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire.errors import BadReply
from twistedipc.ipc.wire.messages import Vocabulary
from twistedipc.ipc.wire.settings import Side

#: What isn't a row, or no JSON at all.
BAD = {
    **{name: each for name, each in MALFORMED.items() if b'"q"' not in each},
    **{name: each for name, each in WRONG.items() if b'"x"' not in each and b'"s"' not in each},
}


class Row(msgspec.Struct):
    n: int
    text: str = ""


class Query(StreamedRequest[Row]):
    count: int
    text: str = ""


class Numbers(StreamedRequest[int | None]):
    """Items that are no structs."""


class Ask(Request[Row]):
    n: int


TABLE = Interface("table", Query, Numbers, Ask)


class Table(Service):
    """Answers by what ``rows`` gives."""

    interface = TABLE

    def __init__(self) -> None:
        self.rows: Callable[[Query], Any] = self.counted
        self.numbers_: list[Any] = [1, None, 3]
        self.made = 0  # rows that were asked of the generator
        self.ended: list[BaseException | None] = []
        self.waiting: Deferred[None] = Deferred()

    async def counted(self, request: Query) -> AsyncIterator[Row]:
        try:
            for n in range(request.count):
                self.made += 1
                yield Row(n, request.text)
        except BaseException as error:
            self.ended.append(error)
            raise
        self.ended.append(None)

    async def waits(self, request: Query) -> AsyncIterator[Row]:
        yield Row(0)
        try:
            await self.waiting
        except BaseException as error:
            self.ended.append(error)
            raise

    async def stubborn(self, request: Query) -> AsyncIterator[Row]:
        """Doesn't notice that it is cancelled."""
        yield Row(0, request.text)
        while self.made < 10_000:
            self.made += 1
            try:
                await self.waiting
            except Exception:
                self.waiting = Deferred()
            yield Row(1, request.text)

    async def fails(self, request: Query) -> AsyncIterator[Row]:
        for n in range(request.count):
            yield Row(n, request.text)
        raise CallFailed("gone", "the table is gone", [request.count])

    async def breaks(self, request: Query) -> AsyncIterator[Row]:
        yield Row(0)
        raise ZeroDivisionError

    @handles(Query)
    def query(self, request: Query, peer: Peer) -> AsyncIterator[Row]:
        rows: AsyncIterator[Row] = self.rows(request)
        return rows

    @handles(Numbers)
    async def numbers(self, request: Numbers, peer: Peer) -> AsyncIterator[int | None]:
        for each in self.numbers_:
            yield each

    @handles(Ask)
    def ask(self, request: Ask, peer: Peer) -> Row:
        return Row(request.n)


class StreamedTests(SynchronousTestCase):
    """A linked pair."""

    def setUp(self) -> None:
        self.service = Table()
        self.pair = ServicePair(self.service)
        self.remote = self.pair.remote
        self.got: list[Any] = []
        self.end: Deferred[None] | None = None

    def iterate(self, reply: StreamedReply[Any], most: int = 10**9) -> Deferred[None]:
        async def loop(reply: Any) -> None:
            async for row in reply:
                self.got.append(row.n if isinstance(row, Row) else row)
                if len(self.got) >= most:
                    break

        return Deferred.fromCoroutine(loop(reply))

    def ask(self, count: int, text: str = "", most: int = 10**9, timeout: float | None = 30) -> Deferred[None]:
        done = self.iterate(self.remote.stream_call(Query(count=count, text=text), timeout), most)
        self.settle()
        return done

    def settle(self) -> None:
        for _ in range(1000):
            before = (len(self.got), self.service.made)
            self.pair.pump()
            self.pair.advance(0)
            self.pair.pump()
            if before == (len(self.got), self.service.made):
                return

    def assert_free(self) -> None:
        """Nothing is left of the calls on either side."""
        wire = self.pair.wire
        assert wire is not None
        for side in (wire.dialler, wire.listener):
            assert not side._waiting
            assert not side._items.arriving
            assert not side._items.streaming
            assert not side._answering.under_way
            assert not side._session._incoming.open
            assert not side._session._outgoing.for_items

    def test_items_come_in_order(self) -> None:
        for count in (0, 1, 2, 1000):
            self.got.clear()
            self.successResultOf(self.ask(count))
            assert self.got == list(range(count))
        assert self.service.ended == [None] * 4
        self.assert_free()

    def test_items_of_other_types(self) -> None:
        done = self.iterate(self.remote.stream_call(Numbers()))
        self.settle()
        self.successResultOf(done)
        assert self.got == [1, None, 3]

    def test_each_item_leaves_at_the_end_of_its_turn(self) -> None:
        self.service.rows = self.service.waits
        done = self.ask(1)
        assert self.got == [0]
        self.assertNoResult(done)
        self.service.waiting.callback(None)
        self.settle()
        self.successResultOf(done)
        self.assert_free()

    def test_the_call_is_made_when_the_iteration_begins(self) -> None:
        reply = self.remote.stream_call(Query(count=3))
        self.settle()
        assert self.service.made == 0
        self.successResultOf(Deferred.fromCoroutine(reply.aclose()))
        self.successResultOf(self.iterate(reply))
        assert self.got == []
        del reply
        gc.collect()
        self.settle()

    def test_calls_beside_it(self) -> None:
        self.service.rows = self.service.waits
        done = self.ask(1)
        replies = [self.remote.call(Ask(n=n)) for n in range(3)]
        self.service.waiting.callback(None)
        self.settle()
        assert [self.successResultOf(each).n for each in replies] == [0, 1, 2]
        self.successResultOf(done)
        self.assert_free()

    def test_a_slow_caller_makes_the_handler_wait(self) -> None:
        reply: Any = self.remote.stream_call(Query(count=10_000, text="x" * 1000))
        first = Deferred.fromCoroutine(reply.__anext__())
        self.settle()
        assert self.successResultOf(first).n == 0
        made = self.service.made
        assert CREDIT / 1100 < made < 1.3 * CREDIT / 1000
        self.settle()
        assert self.service.made == made
        done = self.iterate(reply)
        self.settle()
        self.successResultOf(done)
        assert self.got == list(range(1, 10_000))
        self.assert_free()

    def test_items_larger_than_the_credit(self) -> None:
        self.successResultOf(self.ask(5, text="x" * (CREDIT + 1000)))
        assert self.got == list(range(5))

    def test_leaving_the_loop_cancels_the_handler(self) -> None:
        self.successResultOf(self.ask(100_000, text="x" * 100, most=5))
        self.settle()
        (error,) = self.service.ended
        assert isinstance(error, GeneratorExit | CancelledError)
        assert self.service.made < 10_000
        self.assert_free()

    def test_leaving_it_while_the_handler_awaits(self) -> None:
        self.service.rows = self.service.waits
        self.successResultOf(self.ask(2, most=1))
        self.settle()
        (error,) = self.service.ended
        assert isinstance(error, CancelledError)
        self.assert_free()

    def test_any_thread_may_free_it(self) -> None:
        told: list[Callable[[], None]] = []
        self.pair.clock.callFromThread = told.append  # type: ignore[attr-defined]  # as a reactor has it
        replies: list[Any] = [self.remote.stream_call(Query(count=10_000, text="x" * 1000))]
        begun = Deferred.fromCoroutine(replies[0].__anext__())
        self.settle()
        self.successResultOf(begun)
        timers = self.pair.clock.getDelayedCalls()
        thread = threading.Thread(target=replies.clear)
        thread.start()
        thread.join()
        assert self.pair.clock.getDelayedCalls() == timers
        told.pop()()
        self.settle()
        self.assert_free()

    def test_leaving_it_for_sure(self) -> None:
        async def first() -> int:
            async with self.remote.stream_call(Query(count=9, text="x" * 60_000)) as rows:
                async for row in rows:
                    return row.n
            return -1

        kept = Deferred.fromCoroutine(first())
        self.settle()
        assert self.successResultOf(kept) == 0
        self.assert_free()

    def test_leaving_a_handler_that_does_not_notice(self) -> None:
        """It is ended where it goes on, whether or not there is credit."""
        self.service.rows = self.service.stubborn
        for size in (10, CREDIT):
            self.got.clear()
            self.successResultOf(self.ask(1, "x" * size, most=1))
            self.settle()
            self.assert_free()

    def test_two_at_a_time_are_refused(self) -> None:
        self.service.rows = self.service.waits
        reply: Any = self.remote.stream_call(Query(count=1), None)
        first, second, third = (Deferred.fromCoroutine(reply.__anext__()) for _ in range(3))
        for each in (second, third):
            assert "another task waits" in str(self.failureResultOf(each, RuntimeError).value)
        self.settle()
        assert self.successResultOf(first) == Row(0)
        self.successResultOf(Deferred.fromCoroutine(reply.aclose()))

    def test_cancelling_the_iteration(self) -> None:
        self.service.rows = self.service.waits
        done = self.ask(2)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.settle()
        assert len(self.service.ended) == 1
        self.assert_free()

    def test_an_error_comes_after_the_items_before_it(self) -> None:
        self.service.rows = self.service.fails
        error = self.failureResultOf(self.ask(7), CallFailed).value
        assert (error.code, error.message, error.data) == ("gone", "the table is gone", [7])
        assert self.got == list(range(7))
        self.assert_free()

    def test_an_error_after_items_that_wait_for_credit(self) -> None:
        self.service.rows = self.service.fails
        error = self.failureResultOf(self.ask(700, text="x" * 1000), CallFailed).value
        assert error.code == "gone"
        assert self.got == list(range(700))

    def test_a_handler_that_breaks(self) -> None:
        self.service.rows = self.service.breaks
        error = self.failureResultOf(self.ask(7), CallFailed).value
        assert error.code == "internal"
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        assert self.got == [0]

    def test_wrong_items_are_logged_where_they_were_made(self) -> None:
        for wrong in (1.5, "x", Row(1), float("nan"), object(), "\ud800"):
            self.got.clear()
            self.service.numbers_ = [1, None, wrong, 4]
            done = self.iterate(self.remote.stream_call(Numbers()))
            self.settle()
            error = self.failureResultOf(done, CallFailed).value
            assert error.code == "internal"
            assert self.got == [1, None]
            assert len(self.flushLoggedErrors(BadReply)) == 1
        self.assert_free()

    def test_a_wrong_item_is_the_last_one_and_the_handler_goes_on_for_a_while(self) -> None:
        async def rows(request: Query) -> AsyncIterator[Any]:
            yield Row(0)
            yield Row("one")  # type: ignore[arg-type]
            await self.service.waiting

        self.service.rows = rows
        done = self.ask(1)
        assert self.got == [0]
        self.service.waiting.callback(None)
        self.settle()
        error = self.failureResultOf(done, CallFailed).value
        assert error.code == "internal"
        assert len(self.flushLoggedErrors(BadReply)) == 1
        self.assert_free()

    def test_a_struct_of_another_class(self) -> None:
        async def rows(request: Query) -> AsyncIterator[Any]:
            yield Row(1)
            yield Query(count=1)

        self.service.rows = rows
        error = self.failureResultOf(self.ask(1), CallFailed).value
        assert "isn't what was declared" in error.message
        (failure,) = self.flushLoggedErrors(BadReply)
        assert "must be Row, not Query" in str(failure.value)

    def test_an_item_over_the_limit(self) -> None:
        async def rows(request: Query) -> AsyncIterator[Row]:
            yield Row(1)
            yield Row(2, "x" * (1 << 20))

        self.service.rows = rows
        error = self.failureResultOf(self.ask(2), CallFailed).value
        assert self.got == [1]
        assert error.code == "too-large"
        self.flushLoggedErrors(BadReply)

    def test_a_handler_that_is_no_generator(self) -> None:
        self.service.rows = lambda request: Row(1)
        error = self.failureResultOf(self.ask(1), CallFailed).value
        assert error.code == "internal"
        (failure,) = self.flushLoggedErrors(BadReply)
        assert "must be an async generator" in str(failure.value)

    def test_the_link_ends(self) -> None:
        self.service.rows = self.service.waits
        done = self.ask(2)
        self.pair.cut()
        self.failureResultOf(done, NotConnected)
        assert self.got == [0]
        assert len(self.service.ended) == 1
        self.pair.link()
        self.service.rows = self.service.counted
        self.got.clear()
        self.successResultOf(self.ask(3))
        self.assert_free()

    def test_one_that_is_left_as_another_ends_with_the_link(self) -> None:
        self.service.rows = self.service.waits
        one, other = (self.remote.stream_call(Query(count=1)) for _ in range(2))

        async def both() -> None:
            async with other:
                async for row in one:
                    self.got.append(row.n)

        first, second = Deferred.fromCoroutine(both()), self.iterate(other)
        self.settle()
        self.pair.cut()
        self.failureResultOf(first, NotConnected)
        self.successResultOf(second)
        assert self.got == [0, 0]

    def test_without_a_link_it_waits(self) -> None:
        self.pair.cut()
        done = self.ask(3, timeout=10)
        self.pair.advance(9)
        self.assertNoResult(done)
        self.pair.link()
        self.settle()
        self.successResultOf(done)
        self.pair.cut()
        late = self.ask(3, timeout=10)
        self.pair.advance(11)
        self.failureResultOf(late, CallTimedOut)

    def test_without_a_link_it_fails_at_once_if_calls_do(self) -> None:
        pair = ServicePair(self.service, unlinked=Unlinked(calls_wait=False))
        pair.cut()
        self.failureResultOf(self.iterate(pair.remote.stream_call(Query(count=1))), NotConnected)

    def test_no_item_in_time(self) -> None:
        self.service.rows = self.service.waits
        done = self.ask(2, timeout=10)
        self.pair.advance(9)
        self.assertNoResult(done)
        self.pair.advance(2)
        error = self.failureResultOf(done, CallTimedOut)
        assert "no item of query within 10 seconds" in str(error.value)
        self.settle()
        assert len(self.service.ended) == 1
        self.assert_free()

    def test_too_many(self) -> None:
        self.service.rows = self.service.waits
        pair = ServicePair(self.service, max_calls=2)
        kept = [self.iterate(pair.remote.stream_call(Query(count=1))) for _ in range(2)]
        self.failureResultOf(self.iterate(pair.remote.stream_call(Query(count=1))), TooManyCalls)
        for each in kept:
            each.addErrback(lambda _: None)
            each.cancel()

    def test_what_cannot_be_asked(self) -> None:
        class Foreign(StreamedRequest[int]):
            pass

        with self.assertRaisesRegex(LocalProtocolError, "Foreign is no StreamedRequest of the interface"):
            self.remote.stream_call(Foreign())
        with self.assertRaisesRegex(LocalProtocolError, "Query is .*answered by items: use stream_call"):
            self.remote.call(Query(count=1))  # type: ignore[arg-type]
        self.pair.cut()
        with self.assertRaisesRegex(LocalProtocolError, "Query is .*answered by items: use stream_call"):
            self.remote.call(Query(count=1))  # type: ignore[arg-type]
        with self.assertRaisesRegex(BadVocabulary, "can't be object"):

            class Odd(StreamedRequest[object]):
                pass

            Interface("odd", Odd)
        with self.assertRaisesRegex(BadVocabulary, r"class Vague\(StreamedRequest\[Item\]\)"):

            class Vague(StreamedRequest):  # type: ignore[type-arg]
                pass

            Interface("odd", Vague)

    def test_what_a_peer_sends_wrongly(self) -> None:
        """It costs its call, and what came before it is there."""
        for text, codes in (
            *((b'{"type":"call-items","id":1,"items":[{"n":1},{%b}]}' % each, ["bad-reply"]) for each in BAD.values()),
            (b'{"type":"call-items","id":1,"items":[{"n":1}],"q":%b}' % (b"[" * 100_000), ["bad-reply"]),
            (b'{"type":"call-items","id":1,"items":{"n":1}}', ["bad-reply"]),
            (b'{"type":"call-items","id":1}', ["bad-reply"]),
            (b'{"type":"reply","id":1,"reply":null}', ["bad-reply"]),
            (b'{"type":"reply","id":1,"reply":{"items":1}}', ["bad-reply"]),
            (b'{"type":"reply","id":1,"reply":{"items":0}}', []),
            (b'{"type":"error","id":1,"code":"unknown-type","message":"m"}', ["unknown-type"]),
        ):
            pair = ServicePair(Table())
            wire = pair.wire
            assert wire is not None
            self.got.clear()
            done = self.iterate(pair.remote.stream_call(Query(count=1)))
            pair.clock.advance(0)
            wire.wire(Side.DIALLER).buffer.clear()  # the service doesn't hear it: the test answers
            wire.wire(Side.LISTENER).write(text + b"\n")
            pair.pump()
            failed: list[Any] = []
            done.addErrback(failed.append)
            assert done.called, text
            assert [failure.value.code for failure in failed] == codes, text
            assert pair.remote.peer is not None, text
            assert not wire.dialler._items.arriving

    def test_items_that_answer_a_call_for_a_reply(self) -> None:
        """They cost the call, and no other; and it doesn't wait for ever."""
        assert self.pair.wire is not None
        calls = [self.remote.call(Ask(n=n)) for n in (1, 2)]
        self.pair.clock.advance(0)
        self.pair.wire.wire(Side.DIALLER).buffer.clear()
        self.pair.wire.wire(Side.LISTENER).write(
            b'{"type":"call-items","id":1,"items":[]}\n{"type":"call-items","id":1,"items":[]}\n'
            b'{"type":"reply","id":1,"reply":{"n":1}}\n{"type":"reply","id":2,"reply":{"n":2}}\n'
        )
        self.pair.pump()
        error = self.failureResultOf(calls[0], CallFailed).value
        assert (error.code, error.message) == ("bad-reply", "the reply to ask came as items")
        assert self.successResultOf(calls[1]) == Row(2)

    def test_more_than_the_credit(self) -> None:
        assert self.pair.wire is not None
        reply: Any = self.remote.stream_call(Query(count=1))
        Deferred.fromCoroutine(reply.__anext__())
        self.pair.clock.advance(0)
        self.pair.wire.wire(Side.DIALLER).buffer.clear()
        items = b'{"type":"call-items","id":1,"items":[{"n":1,"text":"%b"}]}\n' % (b"x" * 100_000)
        self.pair.wire.wire(Side.LISTENER).write(items * 9)
        self.pair.pump()
        error = self.failureResultOf(self.iterate(reply), CallFailed).value
        assert "sent unasked" in error.message
        assert self.got == [1, 1]
        assert self.remote.peer is not None

    def test_the_link_ends_while_the_peer_does_not_read(self) -> None:
        """That is no error of the handler's, and isn't logged as one."""

        class Full:
            writing_is_paused = True
            send_limit = 10_000

            def answer_items(self, id_: int, items: bytes) -> None: ...

            def drain(self) -> Deferred[None]:
                return fail(NotConnected("the peer is gone"))

        vocabulary = Vocabulary(answers_items={Query: Row})
        streaming = Streaming(self.pair.clock, Full(), 1, Query, vocabulary, CREDIT)
        sent = Deferred.fromCoroutine(streaming.send(self.service.counted(Query(count=9))))
        self.failureResultOf(sent, CancelledError)
        assert len(self.service.ended) == 1

    def test_one_service_passes_on_what_another_says(self) -> None:
        other = ServicePair(Table())
        self.service.rows = lambda request: other.remote.stream_call(request)
        done = self.ask(3)
        for _ in range(5):
            other.pump()
            other.advance(0)
            self.settle()
        self.successResultOf(done)
        assert self.got == [0, 1, 2]
