"""
What a message costs on a link, counted without a clock: calls of Python functions, and writes. So a change that brings
back a cost per message is seen at once, on any machine.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.ipc_example import Ask, Note, Recorder, Told, apiserver, builder
from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.testing import ConnectedPair, connected_pair
from twistedipc.ipc.wire.settings import Side

MANY = 1000


def python_calls(work: Callable[[], object]) -> int:
    """How many functions written in Python are entered (or resumed) meanwhile."""
    count = 0

    def entered(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    gc.disable()  # what another test has left behind isn't part of the work
    sys.setprofile(entered)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


class Lists(Recorder):
    """Takes its messages by the list."""

    def messages_received(self, messages: list[Note]) -> None:
        self.messages += messages


class Costs(SynchronousTestCase):
    def linked(self, application: type[Recorder]) -> tuple[ConnectedPair, Recorder, Recorder]:
        made: list[Recorder] = []

        def factory(peer: Peer) -> Recorder:
            made.append(application(peer))
            return made[-1]

        pair = connected_pair((builder(), factory), (apiserver(), factory), high_water=1 << 30)
        first, second = made
        ours, theirs = (first, second) if first.peer.info.role == "apiserver" else (second, first)
        return pair, ours, theirs

    def received(self, pair: ConnectedPair) -> int:
        """What it costs the listener to receive what the dialler has sent."""
        pair.clock.advance(0)
        data = pair.wire(Side.DIALLER).take()
        return python_calls(lambda: pair.listener.dataReceived(data))

    def test_sending_many_costs_nothing_per_message(self) -> None:
        _, ours, _ = self.linked(Recorder)
        notes = [Note(n) for n in range(MANY)]
        self.assertLess(python_calls(lambda: ours.peer.send_many(notes)), 30)

    def test_receiving_lists_costs_nothing_per_message(self) -> None:
        pair, ours, theirs = self.linked(Lists)
        notes = [Note(n) for n in range(MANY)]
        ours.peer.send_many(notes)
        self.assertLess(self.received(pair), 30)
        self.assertEqual(theirs.messages, notes)

    def test_receiving_costs_one_call_per_message(self) -> None:
        pair, ours, theirs = self.linked(Recorder)
        ours.peer.send_many([Note(n) for n in range(MANY)])
        self.assertLess(self.received(pair), MANY + 30)
        self.assertEqual(len(theirs.messages), MANY)

    def test_sending_one(self) -> None:
        _, ours, _ = self.linked(Recorder)
        note = Note(1)

        def work() -> None:
            for _ in range(MANY):
                ours.peer.send(note)

        self.assertLess(python_calls(work), 4 * MANY + 50)

    def test_a_call_and_its_answer(self) -> None:
        pair, ours, theirs = self.linked(Recorder)
        asked: list[Deferred[Any]] = []
        request = Ask("it")
        calling = python_calls(lambda: asked.extend([ours.peer.call(request, 5) for _ in range(MANY)]))
        answering = self.received(pair)
        pair.clock.advance(0)
        data = pair.wire(Side.LISTENER).take()
        hearing = python_calls(lambda: pair.dialler.dataReceived(data))
        self.assertEqual([self.successResultOf(reply) for reply in asked], [Told("about it")] * MANY)
        self.assertEqual(len(theirs.calls), MANY)
        self.assertLess(calling, 5 * MANY + 50)  # one of them is the clock
        self.assertLess(answering, 4.5 * MANY)  # two of them the application's
        self.assertLess(hearing, 3.5 * MANY)  # three of them Twisted's, to fire the Deferred

    def test_the_first_answers_leave_before_the_last_call_is_looked_at(self) -> None:
        # So both sides work at the same time, instead of handing all calls in flight to and fro.
        pair, ours, theirs = self.linked(Recorder)
        for _ in range(MANY):
            ours.peer.call(Ask("it"), 5)
        writes: list[tuple[int, int]] = []
        wire = pair.wire(Side.LISTENER)
        self.patch(wire, "write", lambda data: writes.append((len(data), len(theirs.calls))))
        self.received(pair)
        sizes = [size for size, _ in writes]
        self.assertLess(writes[0][1], 100)
        self.assertLess(max(sizes), 5000)
        self.assertGreater(min(sizes[:-1]), 4000)  # a write is worth its price

    def test_a_turn_is_one_write(self) -> None:
        pair, ours, _ = self.linked(Recorder)
        writes: list[bytes] = []
        self.patch(pair.wire(Side.DIALLER), "write", writes.append)
        notes = [Note(n) for n in range(MANY)]
        for note in notes:
            ours.peer.send(note)
        ours.peer.send_many(notes)
        pair.clock.advance(0)
        self.assertEqual([data.count(b"\n") for data in writes], [2 * MANY])

    def test_what_is_written_is_what_was_encoded(self) -> None:
        pair, ours, _ = self.linked(Recorder)
        ours.peer.send(Note(1, "x" * 100))
        pair.clock.advance(0)
        line = b'{"type":"note","n":1,"text":"' + b"x" * 100 + b'"}\n'
        self.assertEqual(pair.wire(Side.DIALLER).take(), line)
