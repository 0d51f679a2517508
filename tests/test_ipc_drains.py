"""Waiting until a transport takes more: all waiting callers go on, fail, or give up, and none waits for ever."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.ipc import NotConnected
from twistedipc.ipc.connections.drains import Drains


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
