"""`Unsent`: what waits for a link, when the link that comes ends again."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.ipc import LocalProtocolError, Message, NotConnected, Peer
from twistedipc.ipc.streams.unsent import Unsent


class Note(Message):
    n: int


class ShortLived:
    """A peer whose link ends after some messages, and that can't be sent the one with the number 2."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.got: list[int] = []

    def send_many(self, messages: list[Any]) -> None:
        if any(each.n == 2 for each in messages):
            raise LocalProtocolError("it was changed")
        for each in messages:
            self.send(each)

    def send(self, message: msgspec.Struct) -> None:
        assert isinstance(message, Note)
        if message.n == 2:
            raise LocalProtocolError("it was changed")
        if len(self.got) >= self._most:
            raise NotConnected("the link has ended")
        self.got.append(message.n)


class UnsentTests(SynchronousTestCase):
    def test_what_was_not_sent_waits_for_the_next_link(self) -> None:
        unsent = Unsent(Clock(), 10)
        for n in range(1, 6):
            unsent.send(Note(n=n), 100)
        first, second = ShortLived(2), ShortLived(10)
        self.assertFalse(unsent.send_all(cast(Peer, first)))
        self.assertEqual(len(self.flushLoggedErrors(LocalProtocolError)), 1)
        self.assertEqual((first.got, unsent.bytes), ([1, 3], 200))
        self.assertTrue(unsent.send_all(cast(Peer, second)))
        self.assertEqual((second.got, unsent.bytes), ([4, 5], 0))
