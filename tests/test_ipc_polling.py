"""Polling: when it begins, when it pays, when it stops. On a clock that only these tests move."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.ipc_example import Ask, Note, Recorder, apiserver, builder
from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.connections.polling import FEWEST, MOST, Polling
from twistedipc.ipc.testing import connected_pair
from twistedipc.ipc.wire.settings import Side

BOUND = 0.0002
STEP = 0.00001
SHORT, LONG = 10 * STEP, 1.0


class Turns(Clock):
    """A clock that has turns, as a reactor."""

    def turn(self, seconds: float = 0.0) -> bool:
        """
        So much later, do what is due, but not what is added meanwhile. Whether there is something then that is to be
        done at once.
        """
        self.rightNow += seconds
        for call in self.due():
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)
        return bool(self.due())

    def due(self) -> list[Any]:
        return [call for call in self.calls if call.getTime() <= self.rightNow]


class Waits:
    """A link's waits, and for how long the reactor was kept awake in each."""

    def __init__(self, clock: Turns | None = None) -> None:
        self.clock = clock or Turns()
        self.polling = Polling(self.clock, BOUND)

    def wait(self, seconds: float) -> float:
        """The next bytes come so long after the answer."""
        awake = 0.0
        self.polling.begin(self.clock.seconds())
        end = self.clock.seconds() + seconds
        while self.clock.due() and self.clock.seconds() < end - STEP / 2:
            awake += STEP
            self.clock.turn(STEP)
        self.clock.turn(max(0.0, end - self.clock.seconds()))
        self.polling.arrived(self.clock.seconds())
        return awake

    def short_until_awake(self) -> int:
        """How many short waits there are before one that is awake."""
        for count in range(MOST + 1):
            if self.wait(SHORT):
                return count
        raise AssertionError("it never polls")


class PollingTests(SynchronousTestCase):
    def test_it_begins_after_some_short_waits_in_a_row(self) -> None:
        waits = Waits()
        for _ in range(FEWEST):
            self.assertEqual(waits.wait(SHORT), 0)
        self.assertAlmostEqual(waits.wait(SHORT), SHORT, delta=2 * STEP)

    def test_a_long_wait_between_them_begins_anew(self) -> None:
        waits = Waits()
        for _ in range(5 * FEWEST):
            self.assertEqual([waits.wait(SHORT) for _ in range(FEWEST - 1)], [0] * (FEWEST - 1))
            self.assertEqual(waits.wait(LONG), 0)

    def test_slow_links_are_never_polled(self) -> None:
        waits = Waits()
        self.assertEqual([waits.wait(0.001) for _ in range(1000)], [0] * 1000)

    def test_it_stays_awake_no_longer_than_the_bound(self) -> None:
        waits = Waits()
        waits.short_until_awake()
        self.assertAlmostEqual(waits.wait(LONG), BOUND, delta=2 * STEP)

    def test_in_vain_it_takes_twice_as_many(self) -> None:
        waits = Waits()
        wanted = FEWEST
        for _ in range(12):
            self.assertEqual(waits.short_until_awake(), wanted)
            waits.wait(LONG)
            wanted = min(MOST, 2 * wanted)
        self.assertEqual(waits.short_until_awake(), MOST)

    def test_when_it_pays_it_takes_half_as_many(self) -> None:
        waits = Waits()
        waits.short_until_awake()
        waits.wait(LONG)
        self.assertEqual(waits.short_until_awake(), 2 * FEWEST)
        for _ in range(2 * FEWEST):
            self.assertGreater(waits.wait(SHORT), 0)
        waits.wait(LONG)  # it didn't pay again, so twice the half
        self.assertEqual(waits.short_until_awake(), 2 * FEWEST)

    def test_a_clock_that_stands_still_is_not_waited_for(self) -> None:
        clock = Clock()
        polling = Polling(clock, BOUND)
        for _ in range(2 * FEWEST):
            polling.begin(clock.seconds())
            clock.advance(0)  # comes to an end
            self.assertEqual(clock.getDelayedCalls(), [])
            polling.arrived(clock.seconds())

    def test_a_clock_that_is_set_back_ends_it(self) -> None:
        waits = Waits()
        waits.short_until_awake()
        waits.polling.begin(waits.clock.seconds())
        waits.clock.rightNow -= 3600
        for call in waits.clock.getDelayedCalls():
            call.reset(0)
        self.assertFalse(waits.clock.turn())

    def test_links_share_one_round(self) -> None:
        clock = Turns()
        links = [Waits(clock) for _ in range(5)]
        for each in links:
            each.short_until_awake()
        for each in links:
            each.polling.begin(clock.seconds())
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        for each in links[1:]:
            each.polling.end()
        self.assertLess(len(clock.getDelayedCalls()), 2)
        links[0].polling.end()
        self.assertEqual(clock.getDelayedCalls(), [])

    @given(st.lists(st.sampled_from((SHORT, LONG)), max_size=300))
    def test_what_is_wasted_is_bounded(self, seconds: list[float]) -> None:
        waits = Waits()
        wasted = 0.0
        for each in seconds:
            awake = waits.wait(each)
            if each > BOUND:
                wasted += awake
        self.assertLessEqual(wasted, seconds.count(SHORT) // FEWEST * (BOUND + 2 * STEP))


class LinkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Turns()

    def link(self, **changes: float) -> tuple[Recorder, Recorder]:
        made: dict[str, Recorder] = {}

        def factory(peer: Peer) -> Recorder:
            return made.setdefault(peer.info.role, Recorder(peer))

        self.pair = connected_pair((builder(**changes), factory), (apiserver(busy_poll=0.0), factory), clock=self.clock)
        return made["apiserver"], made["builder"]

    def deliver(self, side: Side) -> None:
        protocol = self.pair.listener if side is Side.DIALLER else self.pair.dialler
        protocol.dataReceived(self.pair.wire(side).take())

    def test_who_calls_in_turns_polls(self) -> None:
        ours, _ = self.link()
        self.assertTrue(self.calls_in_turns(ours))

    def test_nothing_polls_where_the_bound_is_0(self) -> None:
        ours, _ = self.link(busy_poll=0.0)
        self.assertFalse(self.calls_in_turns(ours))

    def calls_in_turns(self, ours: Recorder) -> bool:
        """Each call is made when the one before is answered; whether the reactor was kept awake meanwhile."""
        left = 3 * FEWEST

        def ask(_: object = None) -> None:
            nonlocal left
            left -= 1
            if left:
                ours.peer.call(Ask("it"), 5).addCallback(ask)

        ask()
        self.clock.turn()
        polled = False
        while left:
            self.deliver(Side.DIALLER)
            polled = self.clock.turn(STEP) or polled
            self.deliver(Side.LISTENER)
        return polled

    def test_who_only_listens_does_not(self) -> None:
        _, theirs = self.link()
        for _ in range(3 * FEWEST):
            theirs.peer.send(Note(1))
            self.clock.turn()
            self.deliver(Side.LISTENER)
            self.assertFalse(self.clock.turn(STEP))

    def test_nothing_is_left_when_the_link_ends(self) -> None:
        ours, _ = self.link()
        self.assertTrue(self.calls_in_turns(ours))
        self.pair.cut()
        self.assertEqual(self.clock.getDelayedCalls(), [])
