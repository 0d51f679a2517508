"""What goes over a side's links, counted; hooks; and messages to many peers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.ipc import CallFailed, Interface, Latencies, Message, Peer, Queues, Request, Service, handles
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire.settings import Side


class Value(msgspec.Struct):
    value: int


class Double(Request[Value]):
    of: int


class Wait(Request[Value]):
    pass


class Note(Message):
    text: str


DOUBLER = Interface("doubler", Double, Wait, Note)


class Doubler(Service):
    interface = DOUBLER

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.waiting: list[Deferred[Value]] = []

    @handles(Double)
    def double(self, request: Double, peer: Peer) -> Value:
        if request.of < 0:
            raise CallFailed("negative", "below nothing")
        return Value(request.of * 2)

    @handles(Wait)
    async def wait(self, request: Wait, peer: Peer) -> Value:
        self.waiting.append(Deferred())
        return await self.waiting[-1]

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        self.notes.append(message.text)


class Counted(SynchronousTestCase):
    def setUp(self) -> None:
        self.service = Doubler()
        self.pair = ServicePair(self.service, linked=False)
        self.told: list[str] = []
        for side, name in ((self.pair.remote, "remote"), (self.pair.listening, "listening")):
            self.follow(side, name)
        self.pair.link()

    def follow(self, side: Any, name: str) -> None:
        side.on_link = lambda peer: self.told.append(f"{name} + {peer.info.role}")
        side.on_loss = lambda peer, reason: self.told.append(f"{name} - {peer.info.role}")

    def test_links_calls_and_bytes(self) -> None:
        remote, listening = self.pair.remote.traffic, self.pair.listening.traffic
        before = replace(remote), replace(listening)
        for n in (1, 2, -1):
            self.pair.remote.call(Double(of=n)).addErrback(lambda _: None)
        self.pair.pump()
        self.assertEqual((remote.links, remote.calls, remote.calls_failed), (1, 3, 1))
        self.assertEqual((listening.links, listening.calls, listening.calls_received), (1, 0, 3))
        sent, received = remote.bytes_sent - before[0].bytes_sent, remote.bytes_received - before[0].bytes_received
        self.assertEqual(listening.bytes_received - before[1].bytes_received, sent)
        self.assertEqual(listening.bytes_sent - before[1].bytes_sent, received)
        self.assertGreater(min(sent, received), 100)
        lost = self.pair.remote.call(Wait())
        self.pair.pump()
        self.pair.cut()
        self.failureResultOf(lost)
        self.pair.link()
        self.assertEqual((remote.links, remote.lost, remote.calls_failed), (2, 1, 2))
        self.assertEqual((listening.links, listening.lost), (2, 1))

    def test_hooks(self) -> None:
        self.pair.cut()
        for side, other in (("remote", "doubler-server"), ("listening", "doubler-client")):
            mine = [each for each in self.told if each.startswith(side)]
            self.assertEqual(mine, [f"{side} + {other}", f"{side} - {other}"])

    def test_a_link_that_is_closed_before_it_is_made(self) -> None:
        """It isn't counted, and no hook hears of it."""

        class Closing(Doubler):
            def peer_ready(self, peer: Peer) -> None:
                peer.close("closed", "not now")

        self.pair = ServicePair(self.service, answers=Closing(), linked=False)
        self.told.clear()
        self.follow(self.pair.remote, "remote")
        self.pair.link()
        self.pair.advance(0)
        self.pair.pump()
        self.assertEqual((self.pair.remote.traffic.links, self.pair.remote.traffic.lost, self.told), (0, 0, []))

    def test_a_hook_that_raises_harms_nothing(self) -> None:
        def wrong(*_: object) -> None:
            raise ZeroDivisionError

        for side in (self.pair.remote, self.pair.listening):
            side.on_link = side.on_loss = wrong
        self.pair.cut()
        self.pair.link()
        reply = self.pair.remote.call(Double(of=4))
        self.pair.pump()
        self.assertEqual(self.successResultOf(reply), Value(8))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)

    def test_queues(self) -> None:
        self.assertEqual(self.pair.remote.queues, Queues())
        replies = [self.pair.remote.call(Wait(), timeout=1000) for _ in range(3)]
        self.pair.pump()
        self.assertEqual(self.pair.remote.queues, Queues(calls=3))
        self.assertEqual(self.pair.listening.queues, Queues(answers=3))
        for waiting in self.service.waiting:
            waiting.callback(Value(1))
        self.pair.pump()
        for reply in replies:
            self.successResultOf(reply)
        self.assertEqual(self.pair.listening.queues, Queues())
        self.pair.cut()
        self.pair.remote.call(Double(of=1))
        self.pair.remote.send(Note(text="later"))
        queues = self.pair.remote.queues
        self.assertEqual((queues.calls, queues.unlinked_bytes), (1, len('{"type":"note","text":"later"}\n')))
        self.pair.link()
        self.assertEqual(self.pair.remote.queues, Queues())

    def test_unread_bytes(self) -> None:
        self.pair.wire.wire(Side.LISTENER).reading = False  # type: ignore[union-attr]
        for _ in range(100):
            self.pair.remote.send(Note(text="x" * 10_000))
            self.pair.pump()
        self.assertGreater(self.pair.remote.queues.unread_bytes, 500_000)

    def test_latencies(self) -> None:
        latencies = self.pair.remote.traffic.latencies = Latencies()
        self.pair.remote.call(Double(of=1))
        self.pair.pump()
        self.assertEqual((latencies.counts[0], latencies.sum), (1, 0.0))
        reply = self.pair.remote.call(Wait(), timeout=1000)
        self.pair.advance(3)
        self.service.waiting[0].callback(Value(1))
        self.pair.pump()
        self.successResultOf(reply)
        self.assertEqual(latencies.sum, 3.0)
        self.assertEqual(latencies.counts[22], 1)  # less than 2 ** 22 microseconds, which are 4.2 seconds
        self.assertEqual(sum(latencies.counts), 2)
