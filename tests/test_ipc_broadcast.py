"""`send_to`: one message to many peers."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.ipc import Interface, LocalProtocolError, Message, Peer, Service, handles, send_to
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire.settings import Side


class Hello(Message, tag="hallo"):
    pass


class News(Message):
    text: str


class Teller(Service):
    interface = Interface("teller", Hello)

    @handles(Hello)
    def hello(self, message: Hello, peer: Peer) -> None:
        pass


class Listener(Service):
    interface = Interface("listener", News)

    def __init__(self) -> None:
        self.news: list[str] = []

    @handles(News)
    def take(self, message: News, peer: Peer) -> None:
        self.news.append(message.text)


class Broadcast(SynchronousTestCase):
    def setUp(self) -> None:
        self.listeners = [Listener() for _ in range(3)]
        self.pairs = [ServicePair(Teller(), answers=listener, high_water=1000) for listener in self.listeners]
        self.peers = [peer for pair in self.pairs for peer in pair.listening.peers]

    def pump(self) -> None:
        for pair in self.pairs:
            pair.pump()

    def news(self) -> list[list[str]]:
        self.pump()
        return [[text for text in listener.news if text != "x" * 2000] for listener in self.listeners]

    def make_slow(self, number: int) -> None:
        """One of them doesn't read any more."""
        wire = self.pairs[number].wire
        assert wire is not None
        wire.wire(Side.DIALLER).reading = False
        self.peers[number].send(News(text="x" * 2000))
        self.pump()
        self.assertTrue(self.peers[number].paused)

    def read_again(self, number: int) -> None:
        wire = self.pairs[number].wire
        assert wire is not None
        wire.wire(Side.DIALLER).reading = True

    def test_all_get_it(self) -> None:
        self.assertEqual(self.successResultOf(send_to(self.peers, News(text="it rains"))), 3)
        self.assertEqual(self.news(), [["it rains"]] * 3)
        self.assertEqual(self.successResultOf(send_to([], News(text="nobody"))), 0)

    def test_one_that_is_gone_isnt_counted(self) -> None:
        self.pairs[0].cut()
        self.assertEqual(self.successResultOf(send_to(self.peers, News(text="it rains"))), 2)
        self.assertEqual(self.news(), [[], ["it rains"], ["it rains"]])

    def test_a_slow_one_is_left_out(self) -> None:
        self.make_slow(1)
        self.assertEqual(self.successResultOf(send_to(self.peers, News(text="it rains"))), 2)
        self.read_again(1)
        self.assertEqual(self.news(), [["it rains"], [], ["it rains"]])

    def test_a_slow_one_is_waited_for(self) -> None:
        self.make_slow(1)
        sent = [send_to(self.peers, News(text=text), slow="wait") for text in ("it rains", "it snows")]
        self.pump()
        for each in sent:
            self.assertNoResult(each)
        self.read_again(1)
        self.assertEqual(self.news(), [["it rains", "it snows"]] * 3)
        self.assertEqual([self.successResultOf(each) for each in sent], [3, 3])

    def test_many_that_wait_for_a_slow_one_do_not_flood_it(self) -> None:
        self.pairs = [ServicePair(Teller(), answers=self.listeners[0], high_water=1000, outbound_limit=300_000)]
        self.peers = [peer for pair in self.pairs for peer in pair.listening.peers]
        self.make_slow(0)
        texts = [f"{n}" * 100_000 for n in range(9)]
        sent = [send_to(self.peers, News(text=text), slow="wait") for text in texts]
        self.read_again(0)
        for _ in texts:
            self.pump()
            self.pairs[0].advance(0)
        self.assertEqual([self.successResultOf(each) for each in sent], [1] * 9)
        self.assertEqual(self.news()[0], texts)

    def test_none_overtakes_another_that_waits(self) -> None:
        """Also if it is sent while those that have waited are sent."""
        self.make_slow(1)
        sent: list[Deferred[int]] = []

        def tell(text: str) -> None:
            sent.append(send_to(self.peers[1:2], News(text=text), slow="wait"))

        self.peers[1].drain().addCallback(lambda _: tell("last"))
        tell("first")
        sent[0].addCallback(lambda _: tell("very last"))
        tell("second")
        self.read_again(1)
        self.assertEqual(self.news()[1], ["first", "second", "last", "very last"])

    def test_a_slow_one_that_goes_meanwhile(self) -> None:
        self.make_slow(1)
        sent = send_to(self.peers, News(text="it rains"), slow="wait")
        self.pairs[1].cut()
        self.assertEqual(self.successResultOf(sent), 2)

    def test_a_slow_one_is_thrown_out(self) -> None:
        self.make_slow(1)
        self.assertEqual(self.successResultOf(send_to(self.peers, News(text="it rains"), slow="close")), 2)
        self.pump()
        self.assertEqual([len(pair.listening.peers) for pair in self.pairs], [1, 0, 1])

    def test_what_cant_be_sent_is_sent_to_none(self) -> None:
        for wrong in (News(text="x" * 2_000_000), News(text="\udc80")):
            with pytest.raises(LocalProtocolError):
                send_to(self.peers, wrong)
        self.assertEqual(self.news(), [[]] * 3)
