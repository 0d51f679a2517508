"""Reliable streams: each item once, in order, whatever breaks."""

from __future__ import annotations

import contextlib
import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.properties import examples
from twistedipc.ipc import (
    BadService,
    BadVocabulary,
    FileOutbox,
    Interface,
    LocalProtocolError,
    MemoryOutbox,
    Message,
    NotConnected,
    Peer,
    Service,
    Stream,
    StreamFailed,
    StreamId,
    StreamOf,
    receives,
)
from twistedipc.ipc.streams.receiver import CREDIT, LINK_ALLOWANCE, MAX_STREAMS, RETRY_AFTER, IncomingStream
from twistedipc.ipc.streams.sender import LEAST_RETRY, TURN_BYTES
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire.credit import CreditWindow
from twistedipc.ipc.wire.errors import RemoteProtocolError
from twistedipc.ipc.wire.settings import Side
from twistedipc.ipc.wire.windows import (
    Hole,
    ReceiveWindow,
    SendWindow,
    StreamAck,
    StreamClose,
    StreamItems,
    StreamOpen,
    StreamPosition,
    StreamRefused,
)


class Item(msgspec.Struct):
    n: int
    text: str = ""


class Other(msgspec.Struct):
    pass


ITEMS = StreamOf("items", Item)
COLLECTOR = Interface("collector", streams=[ITEMS])


class Shelf:
    """A receiver that keeps items in a list, which outlives links and (in a test's mind) processes."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.firsts: list[int] = []
        self.slow = False
        self.fail = False
        self.pending: list[Deferred[None]] = []

    def position(self) -> int:
        return len(self.items) + 1

    def take(self, first: int, items: Sequence[Item]) -> Any:
        if self.fail:
            raise OSError("the disk is full")
        assert first == len(self.items) + 1, "items are missing, or came twice"
        self.firsts.append(first)
        return self._later(items) if self.slow else self.items.extend(items)

    async def _later(self, items: Sequence[Item]) -> None:
        waiting: Deferred[None] = Deferred()
        self.pending.append(waiting)
        await waiting
        self.items.extend(items)


class Collector(Service):
    interface = COLLECTOR

    def __init__(self) -> None:
        self.shelves: dict[str, Shelf] = {}

    @receives(ITEMS)
    def items(self, stream: StreamId) -> Shelf:
        return self.shelves.setdefault(f"{stream.stream}/{stream.id}", Shelf())


class StreamTests(SynchronousTestCase):
    """One stream."""

    def setUp(self) -> None:
        self.service = Collector()
        self.pair = ServicePair(self.service)
        self.stream = self.pair.remote.stream(ITEMS)

    def write(self, *numbers: int, text: str = "") -> list[Deferred[int]]:
        return [Deferred.fromCoroutine(self.stream.write(Item(n, text))) for n in numbers]

    @property
    def shelf(self) -> Shelf:
        (shelf,) = self.service.shelves.values()
        return shelf

    def numbers(self) -> list[int]:
        return [item.n for item in self.shelf.items]

    def test_items_arrive_and_are_acknowledged(self) -> None:
        assert [self.successResultOf(d) for d in self.write(5, 6, 7)] == [1, 2, 3]
        flushed = self.stream.flushed()
        self.assertNoResult(flushed)
        self.pair.pump()
        self.successResultOf(flushed)
        assert self.numbers() == [5, 6, 7]
        assert self.shelf.firsts == [1], "what was written in one turn comes at once"
        assert self.stream.acknowledged == 4
        self.successResultOf(self.stream.flushed())

    def test_they_wait_for_a_link_and_go_on_after_it(self) -> None:
        self.pair.cut()
        self.write(1, 2)
        self.pair.link()
        assert self.numbers() == [1, 2]
        self.write(3)
        self.pair.clock.advance(0)
        self.pair.cut()  # it was under way
        self.write(4)
        self.pair.link()
        assert self.numbers() == [1, 2, 3, 4]
        assert self.stream.acknowledged == 5

    def test_a_full_outbox_makes_the_writer_wait(self) -> None:
        self.pair.pump()
        shelf = self.shelf
        shelf.slow = True
        self.stream = self.pair.remote.stream(ITEMS, MemoryOutbox(limit=1000))
        writes = self.write(*range(100), text="x" * 50)
        waiting = [write for write in writes if not write.called]
        assert 50 < len(waiting) < 100
        for _ in range(100):
            self.pair.pump()
            for other in self.service.shelves.values():
                for each in other.pending:
                    if not each.called:
                        each.callback(None)
        assert sorted(self.successResultOf(write) for write in writes) == list(range(1, 101))
        (second,) = [shelf for shelf in self.service.shelves.values() if shelf.items]
        assert len(second.items) == 100

    def test_who_gives_up_waiting_is_forgotten(self) -> None:
        self.pair.cut()
        stream = self.pair.remote.stream(ITEMS, MemoryOutbox(limit=100))
        self.successResultOf(Deferred.fromCoroutine(stream.write(Item(1, "x" * 100))))
        self.pair.clock.advance(0)

        def wait() -> list[Deferred[Any]]:
            waiting: list[Deferred[Any]] = [Deferred.fromCoroutine(stream.write(Item(2))), stream.flushed()]
            return waiting

        patient = wait()
        waiting = [each.addTimeout(1, self.pair.clock) for _ in range(1000) for each in wait()]
        self.pair.clock.advance(2)
        for each in waiting:
            self.failureResultOf(each, TimeoutError)
        assert (len(stream._room), len(stream._acknowledged)) == (1, 1)
        self.pair.link()
        self.successResultOf(patient[1])
        assert self.successResultOf(patient[0]) == 2
        stream.close()

    def test_who_hears_of_a_failure_may_close_the_stream(self) -> None:
        outbox = MemoryOutbox()
        self.stream = self.pair.remote.stream(ITEMS, outbox)
        other = self.pair.remote.stream(ITEMS, MemoryOutbox())
        self.pair.pump()
        assert self.pair.wire is not None
        self.pair.wire.dialler.pause_writing()
        self.successResultOf(Deferred.fromCoroutine(self.stream.write(Item(1))))
        self.successResultOf(Deferred.fromCoroutine(other.write(Item(2))))
        self.pair.clock.advance(0)

        def close(failure: Failure) -> Failure:
            self.stream.close()
            return failure

        failed: Deferred[Any] = self.stream.flushed().addErrback(close)

        def read(first: int, limit: int) -> list[bytes]:
            raise OSError("the disk doesn't answer")

        self.patch(outbox, "read", read)
        self.pair.wire.dialler.resume_writing()
        self.failureResultOf(failed, StreamFailed)
        self.pair.pump()
        self.successResultOf(other.flushed())

    def test_who_hears_of_the_end_may_cancel_others_who_wait(self) -> None:
        self.pair.cut()
        self.write(1)
        first, second, third = (self.stream.flushed() for _ in range(3))
        first.addErrback(lambda _: second.cancel())
        self.stream.close()
        self.failureResultOf(second, CancelledError)
        self.failureResultOf(third, NotConnected)

    def test_a_loop_of_writes_lets_the_reactor_turn(self) -> None:
        async def write_all() -> None:
            for n in range(100):
                await self.stream.write(Item(n, "x" * 10_000))

        done = Deferred.fromCoroutine(write_all())
        self.assertNoResult(done)
        written = self.stream.next - 1
        assert TURN_BYTES // 10_050 <= written <= TURN_BYTES // 10_000 + 1
        self.pair.pump()
        self.successResultOf(done)
        assert self.numbers() == list(range(100))

    def test_a_writer_that_waits_for_the_turn_hears_of_the_end(self) -> None:
        self.write(1, text="x" * TURN_BYTES)
        (waiting,) = self.write(2)
        self.assertNoResult(waiting)
        self.stream.close()
        self.failureResultOf(waiting, NotConnected)

    def test_credit_bounds_what_is_under_way(self) -> None:
        self.pair.pump()
        self.shelf.slow = True
        self.write(*range(300), text="x" * 10_000)
        self.pair.pump()
        taken = 0
        while self.shelf.pending:
            pending, self.shelf.pending = self.shelf.pending, []
            under_way = self.stream._window.next - self.stream.acknowledged
            assert under_way * 10_000 <= CREDIT + 80_000
            for each in pending:
                each.callback(None)
            self.pair.pump()
            taken += 1
        assert taken > 2
        assert self.numbers() == list(range(300))

    def test_a_receiver_that_fails_is_tried_again(self) -> None:
        self.pair.pump()
        self.shelf.fail = True
        self.write(1)
        self.pair.pump()
        assert len(self.flushLoggedErrors(OSError)) == 1
        self.shelf.fail = False
        self.write(2)
        self.pair.pump()
        assert self.shelf.items == []
        self.pair.advance(RETRY_AFTER + 1)
        assert self.numbers() == [1, 2]

    def test_a_newer_link_takes_the_stream_over(self) -> None:
        self.pair.pump()
        self.shelf.slow = True
        self.write(1, 2)
        self.pair.pump()
        # The old link is half open: its receiver is still at work when the new one comes.
        assert self.pair.wire is not None
        self.pair.wire.blackhole(Side.DIALLER, Side.LISTENER)
        self.write(3)
        self.pair.link()
        self.shelf.slow = False
        assert self.shelf.items == []
        self.shelf.pending[0].callback(None)
        self.pair.pump()
        assert self.numbers() == [1, 2, 3]
        self.pair.pump()
        assert self.stream.acknowledged == 4

    def test_a_newer_link_takes_over_a_stream_that_is_idle(self) -> None:
        self.write(1)
        self.pair.pump()
        # The old link is half open, and nothing is at work there.
        assert self.pair.wire is not None
        self.pair.wire.blackhole(Side.DIALLER, Side.LISTENER)
        self.write(2)
        self.pair.link()
        self.pair.cut()
        assert self.flushLoggedErrors() == []
        self.write(3)
        self.pair.link()
        assert self.numbers() == [1, 2, 3]

    def test_a_receiver_that_lost_its_position_is_not_fooled(self) -> None:
        self.write(1, 2)
        self.pair.pump()
        self.pair.cut()
        self.service.shelves.clear()
        self.pair.link()
        self.failureResultOf(self.write(3)[0], StreamFailed)
        failed = self.failureResultOf(self.stream.flushed(), StreamFailed).value
        assert failed.code == "hole"
        assert "items 1 to 2" in str(failed)

    def test_a_sender_that_lost_its_outbox_is_another_stream(self) -> None:
        self.write(1, 2)
        self.pair.pump()
        self.stream.close()
        self.stream = self.pair.remote.stream(ITEMS)
        self.write(9)
        self.pair.pump()
        assert sorted([item.n for item in shelf.items] for shelf in self.service.shelves.values()) == [[1, 2], [9]]

    def test_what_cannot_be_written(self) -> None:
        self.failureResultOf(Deferred.fromCoroutine(self.stream.write(cast(Any, Other()))), LocalProtocolError)
        with self.assertRaisesRegex(LocalProtocolError, "no stream others of Item"):
            self.pair.remote.stream(StreamOf("others", Item))
        outbox = MemoryOutbox()
        self.pair.remote.stream(ITEMS, outbox)
        with self.assertRaisesRegex(LocalProtocolError, "already"):
            self.pair.remote.stream(ITEMS, outbox)

    def test_items_are_bounded_by_the_frame(self) -> None:
        limit = 1 << 20
        self.failureResultOf(self.write(1, text="x" * limit)[0], LocalProtocolError)
        self.write(2, text="x" * (limit - 300))
        self.write(3)
        self.pair.pump()
        assert self.numbers() == [2, 3]
        assert self.pair.remote.peer is not None

    def test_a_low_frame_limit_makes_small_frames(self) -> None:
        self.pair = ServicePair(self.service, frame_limit=4096)
        self.stream = self.pair.remote.stream(ITEMS)
        self.write(*range(500))
        self.pair.pump()
        assert self.numbers() == list(range(500))

    def test_an_outbox_that_was_filled_under_a_higher_limit(self) -> None:
        self.pair.cut()
        outbox = MemoryOutbox()
        outbox.append(b'{"n":1,"text":"%b"}' % (b"x" * 5000))
        self.pair = ServicePair(self.service, frame_limit=4096)
        stream = self.pair.remote.stream(ITEMS, outbox)
        flushed = stream.flushed()
        self.pair.pump()
        assert "item 1 is over the limit" in str(self.failureResultOf(flushed, StreamFailed).value)
        assert self.pair.remote.peer is not None, "the link goes on"

    def test_after_close(self) -> None:
        self.pair.cut()
        self.write(1)
        flushed = self.stream.flushed()
        self.successResultOf(self.pair.remote.close())
        self.failureResultOf(flushed, NotConnected)
        self.failureResultOf(self.write(2)[0], NotConnected)

    def test_the_listening_side_may_send_too(self) -> None:
        class Plain(Service):
            interface = Interface("plain")

        pair = ServicePair(Plain(), answers=self.service)
        name = next(iter(pair.listening.peers)).info.name
        early = pair.listening.stream(name, ITEMS)
        Deferred.fromCoroutine(early.write(Item(1)))
        pair.pump()
        pair.cut()
        pair.link()
        Deferred.fromCoroutine(early.write(Item(2)))
        pair.pump()
        assert early.acknowledged == 3

    def test_the_listening_side_may_begin_while_the_peer_is_linked(self) -> None:
        class Plain(Service):
            interface = Interface("plain")

        pair = ServicePair(Plain(), answers=self.service)
        name = next(iter(pair.listening.peers)).info.name
        stream = pair.listening.stream(name, ITEMS)
        Deferred.fromCoroutine(stream.write(Item(1)))
        pair.pump()
        assert stream.acknowledged == 2
        assert self.numbers() == [1]

    def test_the_listening_side_may_begin_when_it_hears_of_the_peer(self) -> None:
        class Greeting(Service):
            interface = Interface("greeting")

            def peer_ready(self, peer: Peer) -> None:
                stream = pair.listening.stream(peer.info.name, ITEMS)
                Deferred.fromCoroutine(stream.write(Item(1)))

        pair = ServicePair(Greeting(), answers=self.service, linked=False)
        pair.link()
        assert self.numbers() == [1]

    def test_bad_peers(self) -> None:
        """What a sender that isn't ours might say; the link ends, and nothing of it was taken."""
        for frames, code in (
            ([StreamItems(id="x", first=1, items=msgspec.Raw(b"[]"))], "bad-message"),
            ([StreamOpen(stream="items", id="x", first=1)] * 2, "bad-message"),
        ):
            pair = ServicePair(Collector())
            assert pair.remote.peer is not None
            for frame in frames:
                pair.remote.peer.send(frame)
            pair.pump()
            assert pair.wire is not None
            assert code in pair.wire.reason(Side.DIALLER)

    def test_a_hole_is_asked_for_once(self) -> None:
        assert self.pair.remote.peer is not None
        peer = self.pair.remote.peer
        peer.send(StreamOpen(stream="items", id="x", first=1))
        self.pair.pump()
        for first in (5, 6, 7):
            peer.send(StreamItems(id="x", first=first, items=msgspec.Raw(b'[{"n":1}]')))
        self.pair.pump()
        assert self.service.shelves["items/x"].items == []
        peer.send(StreamItems(id="x", first=1, items=msgspec.Raw(b'[{"n":1},{"n":2}]')))
        peer.send(StreamItems(id="x", first=2, items=msgspec.Raw(b'[{"n":2},{"n":3}]')))
        self.pair.pump()
        assert [item.n for item in self.service.shelves["items/x"].items] == [1, 2, 3]

    def test_an_acknowledgement_of_what_was_never_sent(self) -> None:
        (peer,) = self.pair.listening.peers
        self.pair.pump()
        peer.send(StreamAck(id=self.stream.id, next=7))
        self.pair.pump()
        assert self.pair.remote.peer is None

    def test_what_is_not_safe_from_a_crash_yet_is_not_sent(self) -> None:
        """A crash could take it from here alone; then another item would have its number, and be lost."""
        self.pair.pump()
        self.write(1)
        self.stream._acked(StreamAck(id=self.stream.id, next=1))  # it comes in the same turn
        assert self.stream._window.next == 1
        self.pair.pump()
        assert self.numbers() == [1]

    def test_a_position_in_the_middle_acknowledges_nothing(self) -> None:
        """What has come before a hole may not be kept: the receiver may be killed while it takes it."""
        self.pair.pump()
        self.shelf.slow = True
        self.write(1, 2, 3)
        self.pair.pump()
        (peer,) = self.pair.listening.peers
        peer.send(StreamPosition(id=self.stream.id, next=3, credit=CREDIT))
        self.pair.pump()
        assert self.stream.acknowledged == 1
        self.shelf.pending.pop().callback(None)
        self.pair.pump()
        assert self.stream.acknowledged == 4
        assert self.numbers() == [1, 2, 3], "what was sent again was here already"
        self.pair.pump()
        assert self.pair.remote.peer is not None

    def test_a_position_of_what_was_never_sent(self) -> None:
        self.write(1, 2)
        self.pair.pump()
        (peer,) = self.pair.listening.peers
        peer.send(StreamPosition(id=self.stream.id, next=3, credit=1))
        self.pair.pump()
        self.shelf.slow = True
        self.write(3, text="it takes all the credit")
        self.pair.pump()
        self.write(4)
        self.pair.pump()
        assert self.pair.remote.peer is not None
        peer.send(StreamPosition(id=self.stream.id, next=5, credit=CREDIT))
        self.pair.pump()
        assert self.pair.remote.peer is None

    def test_what_is_here_already_is_acknowledged(self) -> None:
        assert self.pair.remote.peer is not None
        self.write(1, 2)
        self.pair.pump()
        heard: list[int] = []
        acked = self.stream._acked
        self.stream._acked = lambda ack: (heard.append(ack.next), acked(ack))[1]  # type: ignore[method-assign, func-returns-value]
        for _ in range(3):
            items = StreamItems(id=self.stream.id, first=1, items=msgspec.Raw(b'[{"n":1}]'))
            self.pair.remote.peer.send(items)
            self.pair.pump()
        assert heard == [3, 3, 3]
        assert self.numbers() == [1, 2]

    def test_more_than_may_be_under_way(self) -> None:
        assert self.pair.remote.peer is not None
        peer = self.pair.remote.peer
        peer.send(StreamOpen(stream="items", id="x", first=1))
        self.pair.pump()
        self.service.shelves["items/x"].slow = True
        text = "x" * 900_000
        for first in range(1, 5):
            with contextlib.suppress(NotConnected):
                peer.send(StreamItems(id="x", first=first, items=msgspec.Raw(b'[{"n":1,"text":"%b"}]' % text.encode())))
                self.pair.pump()
        assert self.pair.wire is not None
        assert "[credit]" in self.pair.wire.reason(Side.DIALLER)

    def test_refused_again_and_again(self) -> None:
        (peer,) = self.pair.listening.peers
        self.pair.pump()
        before = len(self.pair.clock.getDelayedCalls())
        for _ in range(100):
            peer.send(StreamRefused(id=self.stream.id, code="x", message="not now", retry_after=3600))
        self.pair.pump()
        assert len(self.pair.clock.getDelayedCalls()) == before + 1

    def test_refused_for_a_moment(self) -> None:
        """However short it is, the two don't go round in circles."""
        (peer,) = self.pair.listening.peers
        self.pair.pump()
        now = self.pair.clock.seconds()
        peer.send(StreamRefused(id=self.stream.id, code="x", message="not now", retry_after=1e-9))
        self.pair.pump()
        retry = max(call.getTime() for call in self.pair.clock.getDelayedCalls() if call.getTime() < now + 1)
        assert retry >= now + LEAST_RETRY

    def test_what_is_not_taken_of_many_streams_stops_the_reading(self) -> None:
        assert self.pair.remote.peer is not None
        assert self.pair.wire is not None
        peer = self.pair.remote.peer
        text = b"x" * 900_000
        listener = self.pair.wire.listener

        def paused() -> bool:
            return listener.paused

        for n in range(20):
            peer.send(StreamOpen(stream="items", id=str(n), first=1))
            self.pair.pump()
            if not paused():
                self.service.shelves[f"items/{n}"].slow = True
                peer.send(StreamItems(id=str(n), first=1, items=msgspec.Raw(b'[{"n":1,"text":"%b"}]' % text)))
                self.pair.pump()
        assert paused()
        shelves = [shelf for shelf in self.service.shelves.values() if shelf.pending]
        assert len(shelves) == 1 + LINK_ALLOWANCE // 900_000
        shelves[0].pending.pop().callback(None)
        self.pair.pump()
        assert not paused()
        assert len(self.service.shelves) == 21  # with the one of the start

    def flushed(self, stream: Stream[Item], *numbers: int) -> Deferred[None]:
        """Write these, and let them be sent."""
        for number in numbers:
            self.successResultOf(Deferred.fromCoroutine(stream.write(Item(number))))
        flushed = stream.flushed()
        self.pair.pump()
        return flushed

    def test_a_link_opens_and_closes_streams_for_ever(self) -> None:
        """Used or not, or refused in the end: what is closed has no place among those of the link."""
        for n in range(3 * MAX_STREAMS):
            outbox = MemoryOutbox()
            if n % 3 == 1:
                outbox.first = outbox.next = 7  # there is no shelf that has the first six
            stream = self.pair.remote.stream(ITEMS, outbox)
            self.pair.pump()
            if n % 3 == 1:
                self.failureResultOf(stream.flushed(), StreamFailed)
            elif n % 3 == 2:
                self.successResultOf(self.flushed(stream, n))
            stream.close()
        assert sum(len(shelf.items) for shelf in self.service.shelves.values()) == MAX_STREAMS

    def test_who_is_refused_since_there_are_too_many_may_come_again(self) -> None:
        streams = [self.pair.remote.stream(ITEMS, MemoryOutbox()) for _ in range(MAX_STREAMS)]
        self.pair.pump()
        refused = self.failureResultOf(streams[-1].flushed(), StreamFailed)
        assert "256 streams are open" in str(refused.value)
        self.successResultOf(self.flushed(streams[-2], 1))
        streams[0].close()
        again = self.pair.remote.stream(ITEMS, MemoryOutbox())
        self.pair.pump()
        self.successResultOf(self.flushed(again, 1))

    def test_what_came_before_the_close_is_taken_however_long_that_takes(self) -> None:
        """So long it has its place; and it may be opened again meanwhile."""
        with tempfile.TemporaryDirectory() as folder:
            stream = self.pair.remote.stream(ITEMS, FileOutbox(folder))
            self.pair.pump()
            shelf = self.service.shelves[f"items/{stream.id}"]
            shelf.slow = True
            self.assertNoResult(self.flushed(stream, 1).addErrback(lambda _: None))
            self.flushed(stream, 2).addErrback(lambda _: None)
            stream.close()
            self.pair.pump()
            assert len(shelf.pending) == 1
            others = [self.pair.remote.stream(ITEMS, MemoryOutbox()) for _ in range(MAX_STREAMS - 1)]
            self.pair.pump()
            self.failureResultOf(others[-1].flushed(), StreamFailed)
            for _ in range(2):
                shelf.pending.pop().callback(None)
                self.pair.pump()
            assert [item.n for item in shelf.items] == [1, 2]
            again = self.pair.remote.stream(ITEMS, FileOutbox(folder))
            self.assertNoResult(self.flushed(again, 3).addErrback(lambda _: None))
            again.close()
            again = self.pair.remote.stream(ITEMS, FileOutbox(folder))
            flushed = self.flushed(again, 4)
            while shelf.pending:
                shelf.pending.pop().callback(None)
                self.pair.pump()
            self.successResultOf(flushed)
            assert [item.n for item in shelf.items] == [1, 2, 3, 4]
            again.close()

    def test_who_opens_and_closes_a_stream_that_is_just_taken_makes_nothing_wait(self) -> None:
        assert self.pair.remote.peer is not None
        peer = self.pair.remote.peer
        peer.send(StreamOpen(stream="items", id="x", first=1))
        self.pair.pump()
        shelf = self.service.shelves["items/x"]
        shelf.slow = True
        peer.send(StreamItems(id="x", first=1, items=msgspec.Raw(b'[{"n":1}]')))
        self.pair.pump()

        def kept() -> int:
            gc.collect()
            return sum(isinstance(each, IncomingStream) for each in gc.get_objects())

        before = kept()
        for _ in range(100):
            peer.send(StreamClose(id="x"))
            peer.send(StreamOpen(stream="items", id="x", first=1))
        self.pair.pump()
        assert kept() == before + 1
        shelf.pending.pop().callback(None)
        assert kept() == before
        peer.send(StreamItems(id="x", first=1, items=msgspec.Raw(b'[{"n":1},{"n":2}]')))
        self.pair.pump()
        shelf.pending.pop().callback(None)
        assert [item.n for item in shelf.items] == [1, 2]

    def test_a_position_that_crosses_with_another_opening(self) -> None:
        """It is taken for the answer to that; and what is sent therefore isn't what ends the link."""

        class Slow(Shelf):
            asked: Deferred[None] | None = None

            async def position(self) -> int:  # type: ignore[override]
                if self.asked is not None:
                    await self.asked
                self.asked = Deferred()
                return len(self.items) + 1

        assert self.pair.wire is not None
        with tempfile.TemporaryDirectory() as folder:
            stream = self.pair.remote.stream(ITEMS, FileOutbox(folder))
            shelf = self.service.shelves[f"items/{stream.id}"] = Slow()
            self.pair.clock.advance(0)
            self.pair.wire.carry(Side.DIALLER)
            self.pair.clock.advance(0)
            assert shelf.asked is not None
            stream.close()
            again = self.pair.remote.stream(ITEMS, FileOutbox(folder))
            flushed = self.flushed(again, 1, 2)
            self.assertNoResult(flushed)
            shelf.asked.callback(None)
            self.pair.pump()
            self.successResultOf(flushed)
            assert [item.n for item in shelf.items] == [1, 2]
            again.close()

    def test_a_refusal_that_crosses_with_another_opening(self) -> None:
        assert self.pair.wire is not None
        with tempfile.TemporaryDirectory() as folder:
            stream = self.pair.remote.stream(ITEMS, FileOutbox(folder))
            self.pair.pump()
            shelf = self.service.shelves[f"items/{stream.id}"]
            shelf.fail = True
            self.successResultOf(Deferred.fromCoroutine(stream.write(Item(1))))
            self.pair.clock.advance(0)
            self.pair.wire.carry(Side.DIALLER)
            shelf.fail = False
            assert len(self.flushLoggedErrors(OSError)) == 1
            stream.close()
            again = self.pair.remote.stream(ITEMS, FileOutbox(folder))
            self.pair.pump()
            self.pair.advance(2 * RETRY_AFTER)
            self.successResultOf(self.flushed(again, 2))
            assert [item.n for item in shelf.items] == [1, 2]
            assert self.pair.remote.peer is not None
            again.close()

    def test_items_after_a_close_end_the_link(self) -> None:
        assert self.pair.remote.peer is not None
        peer = self.pair.remote.peer
        peer.send(StreamOpen(stream="items", id="x", first=1))
        self.pair.pump()
        peer.send(StreamClose(id="x"))
        peer.send(StreamClose(id="x"))
        peer.send(StreamClose(id="never opened"))
        self.pair.pump()
        assert self.pair.remote.peer is not None
        peer.send(StreamItems(id="x", first=1, items=msgspec.Raw(b'[{"n":1}]')))
        self.pair.pump()
        assert self.pair.remote.peer is None

    def test_an_unknown_stream_is_refused(self) -> None:
        assert self.pair.remote.peer is not None
        self.pair.remote.peer.send(StreamOpen(stream="nothing", id="x", first=1))
        self.pair.pump()
        assert self.pair.remote.peer is not None

    def test_declarations(self) -> None:
        with self.assertRaisesRegex(BadService, "has no receiver for the stream items: mark one by @receives"):

            class Deaf(Service):
                interface = COLLECTOR

        with self.assertRaisesRegex(BadService, "handles the stream others, not of collector's interface"):

            class Other(Collector):
                @receives(StreamOf("others", Item))
                def others(self, stream: StreamId) -> Shelf:
                    return Shelf()

        with self.assertRaisesRegex(BadService, "items and more both handle the stream items"):

            class Twice(Collector):
                @receives(ITEMS)
                def more(self, stream: StreamId) -> Shelf:
                    return Shelf()

        with self.assertRaisesRegex(BadVocabulary, "the stream a can't have items of int: they are msgspec.Structs"):
            StreamOf("a", int)  # type: ignore[type-var]
        with self.assertRaisesRegex(BadVocabulary, "'A B' is no name for a stream"):
            StreamOf("A B", Item)
        with self.assertRaisesRegex(BadVocabulary, "x has two streams items"):
            Interface("x", streams=[ITEMS, StreamOf("items", Item)])
        with self.assertRaisesRegex(BadVocabulary, "'items' is no StreamOf: streams=.StreamOf"):
            Interface("x", streams=cast(Any, {"items": Item}))

        class Sly(Message, tag="stream-open"):
            pass

        with self.assertRaisesRegex(BadVocabulary, "belong to the streams"):
            Interface("x", Sly)


def test_a_receive_window_drops_by_number() -> None:
    window = ReceiveWindow(5, CreditWindow(10))
    assert window.skip(5, 9) == 0
    assert window.skip(3, 9) == 2
    assert window.skip(1, 4) == 3
    with pytest.raises(Hole) as hole:
        window.skip(6, 7)
    assert (hole.value.next, hole.value.again) == (5, False)
    with pytest.raises(Hole) as hole:
        window.skip(8, 9)
    assert (hole.value.next, hole.value.again) == (5, True)
    assert window.position() == 5
    with pytest.raises(Hole) as hole:
        window.skip(8, 9)
    assert not hole.value.again, "it was told where to go on"
    assert window.skip(8, 9, after=8) == 0
    window.take(9, 1)
    window.take(7, 1)
    assert (window.next, window.kept, window.waiting) == (9, 5, 1)
    with pytest.raises(Hole) as hole:
        window.skip(10, 11)
    assert not hole.value.again, "another one"


def test_a_receive_window_has_no_room_for_more_than_its_credit() -> None:
    window = ReceiveWindow(1, CreditWindow(10))
    window.take(3, 6)
    window.take(4, 100)  # one may go over it
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="more than 10 bytes") as error:
            window.take(5, 1)
        assert error.value.code == "credit"
    assert window.next == 4
    window.keep(3)
    with pytest.raises(RemoteProtocolError):
        window.take(5, 1)
    window.keep(4)
    window.keep(2)
    assert (window.kept, window.waiting) == (4, 0)
    window.take(5, 1)


def test_a_send_window() -> None:
    window = SendWindow(CreditWindow(1))
    link = CreditWindow(100)
    window.begin(7, CreditWindow(10, link))
    window.acknowledged(7)
    window.sent(9, 4)
    window.sent(10, 6)
    assert (window.free, window.next, link.spent) == (0, 10, 10)
    window.acknowledged(8)
    assert window.free == 0, "not all of the first piece"
    window.acknowledged(9)
    window.acknowledged(3)
    assert (window.free, link.spent) == (4, 6)
    window.rewind(8)
    assert (window.free, window.next, link.spent) == (10, 8, 0)
    window.acknowledged(10)  # of what was sent before
    for wrong in (11, 0, -1, 2**70):
        with pytest.raises(RemoteProtocolError, match="never sent"):
            window.acknowledged(wrong)
        with pytest.raises(RemoteProtocolError, match="never sent"):
            window.rewind(wrong)
    window.sent(9, 1)
    window.begin(8, CreditWindow(5, link))
    assert (window.free, window.next, link.spent) == (5, 8, 0)
    with pytest.raises(RemoteProtocolError):
        window.acknowledged(9)  # not on this link


class SlowShelf(Shelf):
    """One that takes its time to tell its position as well."""

    def position(self) -> Any:
        return self._position() if self.slow else super().position()

    async def _position(self) -> int:
        waiting: Deferred[None] = Deferred()
        self.pending.append(waiting)
        await waiting
        return super().position()


class StreamMachine(RuleBasedStateMachine):
    """A sender with a folder and a receiver with a shelf, both of which die and come back, and a wire that breaks."""

    @initialize()
    def begin(self) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.shelf: Shelf = SlowShelf()
        self.written = 0
        self.make()

    def make(self) -> None:
        machine = self

        class One(Service):
            interface = COLLECTOR

            @receives(ITEMS)
            def items(self, stream: StreamId) -> Shelf:
                return machine.shelf

        self.pair = ServicePair(One(), clock=self.clock, linked=False, split=self.split, high_water=3000)
        self.stream = self.open()

    def split(self, data: bytes) -> list[bytes]:
        return [data[: len(data) // 2], data[len(data) // 2 :]]

    def open(self) -> Stream[Item]:
        self.outbox = FileOutbox(Path(self.temporary.name), durable=False, limit=20_000, segment_bytes=1000)
        return self.pair.remote.stream(ITEMS, self.outbox)

    @rule(count=st.integers(1, 30), size=st.sampled_from([0, 200]))
    def write(self, count: int, size: int) -> None:
        for _ in range(count):
            if self.outbox.room:
                self.written += 1
                done = Deferred.fromCoroutine(self.stream.write(Item(self.written, "x" * size)))
                assert done.result == self.written

    @rule()
    def link(self) -> None:
        self.pair.cut()
        self.pair.link()

    @rule()
    def cut(self) -> None:
        self.pair.cut()

    @rule(side=st.sampled_from(list(Side)), limit=st.integers(1, 5000))
    def carry_some(self, side: Side, limit: int) -> None:
        self.clock.advance(0)
        wire = self.pair.wire
        if wire is not None and not wire.lost:
            other = Side.LISTENER if side is Side.DIALLER else Side.DIALLER
            data = wire.wire(side).take(limit)
            if data and wire.wire(other).connected:
                wire.wire(other).protocol.dataReceived(data)

    @rule()
    def pump(self) -> None:
        self.pair.pump()

    @rule()
    def sender_dies(self) -> None:
        self.clock.advance(0)
        self.pair.cut()
        self.stream.close()
        self.stream = self.open()

    @rule()
    def sender_opens_it_again(self) -> None:
        self.stream.close()
        self.stream = self.open()

    @rule()
    def both_die(self) -> None:
        self.pair.cut()
        self.stream.close()
        self.shelf.pending.clear()  # what was being taken dies with its process
        self.make()

    @rule(slow=st.booleans())
    def receiver_becomes(self, slow: bool) -> None:
        self.shelf.slow = slow

    @precondition(lambda self: hasattr(self, "shelf") and self.shelf.pending)
    @rule()
    def receiver_has_taken(self) -> None:
        self.shelf.pending.pop(0).callback(None)

    @invariant()
    def each_once_in_order(self) -> None:
        if hasattr(self, "shelf"):
            taken = len(self.shelf.items)
            assert [item.n for item in self.shelf.items] == list(range(1, taken + 1))
            assert taken <= self.written
            assert self.stream.acknowledged <= taken + 1, "what was acknowledged is kept"

    @invariant()
    def no_link_ends_by_what_is_said(self) -> None:
        wire = self.pair.wire if hasattr(self, "pair") else None
        if wire is not None:
            assert "bad-message" not in wire.reason(Side.DIALLER) + wire.reason(Side.LISTENER)

    def teardown(self) -> None:
        if not hasattr(self, "shelf"):
            return
        self.shelf.slow = False
        if self.pair.remote.peer is None:
            self.link()
        for _ in range(50):
            while self.shelf.pending:
                self.receiver_has_taken()
            self.pair.pump()
        assert [item.n for item in self.shelf.items] == list(range(1, self.written + 1))
        assert self.stream.acknowledged == self.written + 1
        # All credit has come back: there is some for one more.
        self.write(1, 200)
        self.pair.pump()
        while self.shelf.pending:
            self.receiver_has_taken()
            self.pair.pump()
        assert [item.n for item in self.shelf.items] == list(range(1, self.written + 1))
        self.stream.close()
        self.temporary.cleanup()


TestStreamMachine = StreamMachine.TestCase
TestStreamMachine.settings = settings(max_examples=examples(60), stateful_step_count=30)
