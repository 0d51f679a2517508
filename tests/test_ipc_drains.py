"""Waiting until a transport takes more: all waiting callers go on, fail, or give up, and none waits for ever."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.ipc_example import Note as Example
from tests.ipc_example import Recorders, apiserver, builder
from twistedipc.ipc import (
    Blob,
    Interface,
    Message,
    NotConnected,
    Peer,
    Receiver,
    Request,
    Service,
    StreamId,
    StreamOf,
    handles,
    receives,
)
from twistedipc.ipc.connections.drains import Drains
from twistedipc.ipc.testing import ConnectedPair, ServicePair


def _cancel(_: object, other: Deferred[None]) -> None:
    other.cancel()


class DrainsTests(SynchronousTestCase):
    """One connection's."""

    def test_all_who_wait_go_on_and_who_waits_again_waits(self) -> None:
        drains = Drains()
        order: list[str] = []
        again: list[Deferred[None]] = []
        drains.wait().addCallback(lambda _: again.append(drains.wait())).addCallback(lambda _: order.append("first"))
        drains.wait().addCallback(lambda _: order.append("second"))
        drains.release()
        self.assertEqual(["first", "second"], order)
        self.assertNoResult(again[0])
        drains.release()
        self.successResultOf(again[0])
        drains.release()

    def test_those_for_whom_there_is_no_room_wait_on(self) -> None:
        drains = Drains()
        first, second, third = drains.wait(), drains.wait(), drains.wait()
        drains.release(lambda: not first.called)
        self.successResultOf(first)
        self.assertNoResult(second)
        drains.release()
        self.successResultOf(second)
        self.successResultOf(third)

    def test_all_fail_when_it_is_over(self) -> None:
        drains = Drains()
        waiting = [drains.wait(), drains.wait()]
        drains.fail(NotConnected("gone"))
        for each in waiting:
            self.failureResultOf(each, NotConnected)
        drains.release()

    def test_who_gives_up_is_forgotten(self) -> None:
        drains, clock = Drains(), Clock()
        patient = drains.wait()
        waiting = [drains.wait().addTimeout(1, clock) for _ in range(1000)]
        clock.advance(2)
        for each in waiting:
            self.failureResultOf(each, TimeoutError)
        self.assertEqual(1, len(drains))
        drains.release()
        self.successResultOf(patient)

    def test_who_goes_on_may_cancel_others_who_wait(self) -> None:
        for end in (Drains.release, lambda drains: drains.fail(NotConnected("gone"))):
            drains = Drains()
            first, second, third = drains.wait(), drains.wait(), drains.wait()
            first.addErrback(lambda _: None).addCallback(_cancel, second)
            end(drains)
            self.failureResultOf(second, CancelledError)
            third.addErrback(lambda failure: failure.trap(NotConnected) and None)
            self.assertIsNone(self.successResultOf(third))


class Item(msgspec.Struct):
    text: str


class Note(Message):
    text: str


class Put(Request[int]):
    content: Blob


ITEMS = StreamOf("items", Item)
STORE = Interface("store", Put, Note, streams=[ITEMS])


class Shelf(Receiver[Item]):
    taken = 0

    def position(self) -> int:
        return self.taken + 1

    def take(self, first: int, items: Sequence[Item]) -> None:
        self.taken += len(items)


class Store(Service):
    interface = STORE

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.notes = 0

    @receives(ITEMS)
    def items(self, stream: StreamId) -> Shelf:
        return self.shelf

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        self.notes += 1

    @handles(Put)
    async def put(self, request: Put, peer: Peer) -> int:
        size = 0
        async for part in request.content:
            size += len(part)
        return size


class RoomTests(SynchronousTestCase):
    """Who waits for room on a wire that is full each time."""

    def test_an_endless_stream_starves_nobody(self) -> None:
        service = Store()
        pair = ServicePair(service, high_water=4096)
        stream = pair.remote.stream(ITEMS)
        peer = self.successResultOf(pair.remote.linked())
        said = 0

        async def writes() -> None:
            while True:
                await stream.write(Item("x" * 2000))

        async def tells() -> None:
            nonlocal said
            while True:
                await peer.drain()
                for _ in range(4):
                    peer.send(Note("x" * 2000))
                said += 1

        writing, telling = Deferred.fromCoroutine(writes()), Deferred.fromCoroutine(tells())
        stored = pair.remote.call(Put(Blob.from_chunks([b"x" * 100_000] * 2)))
        assert pair.wire is not None
        for _ in range(600):
            pair.wire.move()
        self.assertEqual(self.successResultOf(stored), 200_000)
        self.assertGreater(service.shelf.taken, 100)
        self.assertGreater(said, 20)
        for each in (writing, telling):
            each.addErrback(lambda _: None)
            each.cancel()
        stream.close()

    def test_an_application_hears_of_room_once_for_each_time_that_there_was_none(self) -> None:
        pair = ConnectedPair(Clock(), (builder(), ours := Recorders()), (apiserver(), Recorders()), high_water=1000)
        pair.pump()
        (mine,) = ours
        for _ in range(10):
            mine.peer.send(Example(1, "x" * 800))

        def more(_: object) -> None:
            for _ in range(5):
                mine.peer.send(Example(1, "x" * 800))

        for _ in range(20):
            mine.peer.drain().addCallback(more)
        pair.pump()
        self.assertEqual(mine.pauses, ["paused", "resumed"] * max(1, len(mine.pauses) // 2))
