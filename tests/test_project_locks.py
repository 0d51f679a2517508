"""Locks of what a project has on disk, which several apiservers share."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from twistedipc.server.project_locks import PATIENCE
from twistedipc.storage.file_locks import FileLocks


class LockedByAStoppedOne(SynchronousTestCase):
    """Another apiserver has the lock of a project, and is stopped."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.stopped = FileLocks(self.folder / "locks", "one")
        self.clock = Clock()
        ledger = InstantLedger()
        ledger.queue("shop")
        self.server = Apiserver(
            self.folder, ledger, self.clock, file_locks=FileLocks(self.folder / "locks", "the other one")
        )
        for name in ("shop", "other", "forgotten"):
            (self.folder / "releases" / name).mkdir(parents=True)

    def lock(self, name: str) -> int:
        """Have the stopped one hold a lock."""
        held = self.stopped.try_lock(name)
        assert held is not None
        return held

    def test_a_start_goes_on_without_the_project_and_does_it_later(self) -> None:
        """It waited, and no other apiserver could start as long as that one was stopped."""
        held = [self.lock(name) for name in ("shop", "forgotten")]
        made_live: list[str] = []
        self.patch(self.server.release_store, "reconcile", lambda project, live: made_live.append(project))
        self.successResultOf(Deferred.fromCoroutine(self.server.releasing.reconcile()))
        self.clock.advance(1)
        self.assertEqual([], made_live)
        for each in held:
            self.stopped.unlock(each)
        self.clock.advance(1)
        self.assertEqual(["shop"], made_live)
        self.assertFalse((self.folder / "releases" / "forgotten").exists())

    def test_what_waits_at_the_start_keeps_no_stop_waiting(self) -> None:
        self.lock("shop")
        self.successResultOf(Deferred.fromCoroutine(self.server.releasing.reconcile()))
        stopping = Deferred.fromCoroutine(self.server.workflows.stop())
        self.clock.advance(1)
        self.successResultOf(stopping)

    def test_who_has_it_is_said(self) -> None:
        held = self.lock("shop")
        waiting = Deferred.fromCoroutine(self.server.releasing.tidy("shop"))
        with capturedLogs() as events:
            for _ in range(2 * int(PATIENCE)):
                self.clock.advance(1)
        (said,) = [formatEvent(event) for event in events if "has been locked" in formatEvent(event)]
        self.assertIn("what shop has on disk has been locked by apiserver one for 30 s", said)
        self.assertNoResult(waiting)
        self.stopped.unlock(held)
        self.clock.advance(1)
        self.successResultOf(waiting)
        self.assertEqual("the other one", self.stopped.holder("shop"))
