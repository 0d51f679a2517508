"""Waiting until a transport takes more: all who wait go on, fail, or give up, and none is waited for in vain."""

from __future__ import annotations

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.ipc import NotConnected
from twistedipc.ipc.drains import Drains


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
