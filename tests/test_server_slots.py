"""A builder's slots against a model, by any order of what a builder may say; and workflows, which outlive it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.server.slots import MAX_SLOTS, Slots
from twistedipc.server.workflows import RETRY_INTERVAL, Workflows
from twistedipc.storage.errors import LedgerUnavailable

_attempts = st.sampled_from(["1-1", "2-1", "3-1"])
_leases = st.sampled_from(["a", "b"])
_steps = st.tuples(st.sampled_from(["offer", "accept", "hold", "release"]), _attempts, _leases)


@given(st.lists(_steps), st.integers(0, 5))
def test_what_fills_slots(steps: list[tuple[str, str, str]], total: int) -> None:
    slots = Slots()
    slots.resize(total, draining=False)
    filled: dict[str, str] = {}
    unanswered: dict[str, str] = {}
    proven = False
    for step, attempt, lease in steps:
        if step == "offer":
            slots.offer(attempt, lease)
            filled[attempt] = unanswered[attempt] = lease
        elif step == "accept":
            slots.accept(attempt, lease)
            proven = True
        elif step == "hold":
            slots.hold(attempt, lease)
            filled[attempt] = lease
            proven = True
        else:
            assert slots.release(attempt, lease) == (filled.get(attempt) == lease)
            if filled.get(attempt) == lease:
                del filled[attempt]
        if step in ("accept", "release") and unanswered.get(attempt) == lease:
            del unanswered[attempt]
        assert slots.unanswered == list(unanswered)
        assert slots.awaits_answer(attempt, lease) == (unanswered.get(attempt) == lease)
        free = max(0, total - len(filled))
        cautious = min(free, 0 if unanswered else 1)
        assert slots.free(in_trouble=False) == (free if proven else cautious)
        assert slots.free(in_trouble=True) == cautious
    slots.resize(total, draining=True)
    assert slots.free(in_trouble=False) == 0


def test_no_builder_is_believed_to_have_any_number_of_slots() -> None:
    slots = Slots()
    slots.hold("1-1", "a")
    slots.resize(1 << 60, draining=False)
    assert slots.free(in_trouble=False) == MAX_SLOTS - 1
    slots.resize(-5, draining=False)
    assert slots.free(in_trouble=False) == 0


class Outliving(SynchronousTestCase):
    """Workflows on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.workflows = Workflows(self.clock, most=2)
        self.tries = 0
        self.available = False

    def ask(self) -> Deferred[str]:
        """Make the ledger's next answer this one."""
        self.tries += 1
        return succeed("done") if self.available else fail(LedgerUnavailable("locked"))

    async def work(self) -> None:
        """A workflow that needs the ledger."""
        await self.workflows.retry_until_available(self.ask)

    def test_the_ledger_is_asked_again_until_it_can(self) -> None:
        done = self.workflows.launch(self.work(), "a test")
        self.clock.advance(RETRY_INTERVAL)
        self.assertEqual(2, self.tries)
        self.assertNoResult(done)
        self.available = True
        self.clock.advance(RETRY_INTERVAL)
        self.successResultOf(done)
        self.assertEqual(0, len(self.workflows))

    def test_it_is_full_from_so_many_on(self) -> None:
        self.workflows.launch(self.work(), "one")
        self.assertFalse(self.workflows.full)
        self.workflows.launch(self.work(), "another")
        self.assertTrue(self.workflows.full)

    def test_a_stop_waits_for_the_last_try(self) -> None:
        self.workflows.launch(self.work(), "a test")
        stopped = Deferred.fromCoroutine(self.workflows.stop())
        self.assertNoResult(stopped)
        self.clock.advance(RETRY_INTERVAL)
        self.successResultOf(stopped)
        self.assertEqual((2, 0), (self.tries, len(self.workflows)))

    def test_a_failure_is_logged_and_harms_no_other(self) -> None:
        async def broken() -> None:
            raise RuntimeError("broken")

        self.successResultOf(self.workflows.launch(broken(), "a test"))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
