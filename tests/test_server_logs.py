"""The logs as viewers see them: each record once and in order, from wherever, however slowly they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.instant import InstantLedger
from tests.properties import examples
from twistedipc.builds.attempt import Result
from twistedipc.builds.logs import (
    MAX_REASON,
    MAX_RECORD,
    Annotation,
    Batch,
    End,
    Gap,
    Lines,
    LogDigest,
    Progress,
    StepEnded,
    StepStarted,
    Summary,
    batch_decoder,
)
from twistedipc.ipc.wire.windows import Hole
from twistedipc.server.boundaries import LogEntry
from twistedipc.server.fanout import entries
from twistedipc.server.fanout.commits import CHUNK_BYTES, COMMIT_INTERVAL, NEARLY, RETRY_INTERVAL, LogCommits
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.live import BadBatch, LiveLog
from twistedipc.server.fanout.shared import SharedFiles
from twistedipc.server.fanout.store import LogStore, UnknownAttempt
from twistedipc.storage import attempts, builds
from twistedipc.storage import logs as storage_logs
from twistedipc.storage.rows import GistRow, Holder


def batch(first: int, count: int, size: int = 10) -> Lines:
    """Records whose text tells their number."""
    return Lines(first, 1000 + first, 0, [f"{number} ".ljust(size, "x") for number in range(first, first + count)])


def gap(first: int, to: int) -> Gap:
    """Records that are lost."""
    return Gap(first, to, "the journal is damaged")


def numbers(entries: Sequence[LogEntry]) -> list[int]:
    """The numbers that the records' texts, and the gaps, tell."""
    found: list[int] = []
    for entry in entries:
        message = msgspec.json.decode(entry.message)
        if message["type"] == "lines":
            told = [int(line.split(" ")[0]) for line in message["lines"]]
            assert told == list(range(message["first"], message["first"] + len(told)))
            found += told
        elif message["type"] == "gap":
            assert (entry.first, entry.end) == (message["from"], message["to"] + 1)
            found += range(message["from"], message["to"] + 1)
    return found


class Platform:
    """A store of logs on an instant ledger, with one attempt that is running."""

    def __init__(
        self, clock: Clock | None = None, limits: LogLimits | None = None, files: SharedFiles | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.ledger = InstantLedger()
        self.store = LogStore(self.clock, self.ledger.as_ledger(), limits=limits, files=files)
        self.acknowledged: list[int] = []
        self.refused: list[str] = []
        self.talkers: list[str] = []  # whose gist may be another, in the order of the commits
        self.commits = LogCommits(
            self.clock,
            self.ledger.as_ledger(),
            lambda live: self.acknowledged.append(live.committed),
            lambda live: self.refused.append(live.attempt),
            lambda live: self.talkers.append(live.attempt),
        )
        self.attempt = self.ledger.queue()
        self.holder = Holder("ab" * 16, "builder")
        self.ledger.now(attempts.offer, self.attempt, self.holder.lease, "builder", 2)
        self.ledger.now(attempts.accept, self.attempt, self.holder)
        self.live = self.store.live(self.attempt)
        self.live.active = True
        loaded = Deferred.fromCoroutine(self.store.load(self.live))
        assert loaded.called

    def send(self, *batches: Batch) -> None:
        """Take these batches, as from a builder."""
        added = self.live.append(batches)
        self.commits.add(self.live, added)
        self.store.changed(self.live)
        self.clock.advance(0)

    def another(self) -> LiveLog:
        """The log of a second attempt that is running."""
        name, lease = self.ledger.queue(), "cd" * 16
        self.ledger.now(attempts.offer, name, lease, "builder", 2)
        self.ledger.now(attempts.accept, name, Holder(lease, "builder"))
        live = self.store.live(name)
        loaded = Deferred.fromCoroutine(self.store.load(live))
        assert loaded.called
        return live

    def commit(self) -> None:
        """Let what waits be committed."""
        self.clock.advance(COMMIT_INTERVAL)

    def finish(self) -> None:
        """The attempt ends."""
        assert self.live.digest is not None
        sha256 = self.live.digest.hexdigest()
        result = Result(outcome="succeeded", lines=self.live.next - 1, sha256=sha256, started=4, ended=5)
        row = self.ledger.now(attempts.finish, self.attempt, self.holder, result, not self.live.digest.missing, 5)
        assert row is not None
        self.store.finish(self.attempt, End(row.lines or 0, row.sha256, row.state.value, row.complete))
        self.clock.advance(0)


class Viewer:
    """Takes from a cursor when told to."""

    def __init__(self, store: LogStore, attempt: str, after: int = 0) -> None:
        self.wakes = 0
        self.seen: list[int] = []
        self.entries: list[LogEntry] = []
        self.cursor = store.cursor(attempt, after, self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def take(self, limit: int) -> bool:
        """Take once; whether there may be more at once."""
        taken = self.cursor.take(limit)
        if taken is None:
            fetching = Deferred.fromCoroutine(self.cursor.fetch())
            assert fetching.called
            failures: list[object] = []
            fetching.addErrback(failures.append)
            assert not failures, failures
            return True
        self.entries += taken
        self.seen += numbers(taken)
        return bool(taken)

    def take_all(self, limit: int = 1 << 16) -> list[int]:
        """Take until there is nothing now."""
        while self.take(limit):
            pass
        return self.seen

    @property
    def ended(self) -> bool:
        """Whether the end was seen."""
        return bool(self.entries) and self.entries[-1].final


class Cursors(SynchronousTestCase):
    """One viewer's place in one log."""

    def test_a_live_log_wakes_its_viewer_once_for_a_turn(self) -> None:
        platform = Platform()
        viewer = Viewer(platform.store, platform.attempt)
        self.assertEqual([], viewer.take_all())
        platform.live.append([batch(1, 2)])
        platform.store.changed(platform.live)
        platform.live.append([batch(3, 1)])
        platform.store.changed(platform.live)
        platform.clock.advance(0)
        self.assertEqual(1, viewer.wakes)
        self.assertEqual([1, 2, 3], viewer.take_all())

    def test_a_run_tells_whether_there_is_more(self) -> None:
        """Also if the batch is as long as it may be: the store isn't asked a second time for nothing."""
        platform = Platform()
        viewer = Viewer(platform.store, platform.attempt)
        viewer.take_all()
        platform.send(batch(1, 5), batch(6, 5))
        for first, more in ((1, True), (6, False)):
            run = viewer.cursor.take(1)
            assert run is not None
            self.assertEqual((first, more), (run[0].first, run.more))
        platform.send(batch(11, 1))
        self.assertEqual(2, viewer.wakes)
        self.assertEqual([11], viewer.take_all())

    def test_a_cursor_in_the_middle_of_a_batch(self) -> None:
        platform = Platform()
        platform.send(batch(1, 10))
        self.assertEqual([5, 6, 7, 8, 9, 10], Viewer(platform.store, platform.attempt, after=4).take_all())
        platform.commit()
        self.assertEqual([10], Viewer(platform.store, platform.attempt, after=9).take_all())

    def test_a_cursor_in_the_middle_of_a_gap(self) -> None:
        platform = Platform()
        platform.send(batch(1, 3), gap(4, 9), batch(10, 2))
        rest = {"type": "gap", "from": 7, "to": 9, "reason": "the journal is damaged"}
        live = Viewer(platform.store, platform.attempt, after=6)
        self.assertEqual([7, 8, 9, 10, 11], live.take_all())
        platform.commit()
        platform.finish()
        # The same from the store, by an apiserver that was not there.
        stored = Viewer(LogStore(platform.clock, platform.ledger.as_ledger()), platform.attempt, after=6)
        self.assertEqual([7, 8, 9, 10, 11], stored.take_all())
        for viewer in (live, stored):
            self.assertEqual(rest, msgspec.json.decode(viewer.entries[0].message))
        self.assertEqual(
            {"type": "end", "lines": 11, "sha256": "", "state": "failed", "complete": False},
            msgspec.json.decode(stored.entries[-1].message),
        )
        for after in (3, 9):
            again = Viewer(LogStore(platform.clock, platform.ledger.as_ledger()), platform.attempt, after)
            self.assertEqual(list(range(after + 1, 12)), again.take_all())

    def test_a_cursor_beyond_what_exists_waits_for_its_number(self) -> None:
        platform = Platform()
        viewer = Viewer(platform.store, platform.attempt, after=5)
        viewer.take_all()
        platform.send(batch(1, 3))
        viewer.take_all()
        platform.send(batch(4, 4))
        self.assertEqual([6, 7], viewer.take_all())

    def test_a_log_that_has_ended_long_ago(self) -> None:
        platform = Platform()
        platform.send(batch(1, 7))
        platform.commit()
        platform.finish()
        fresh = LogStore(platform.clock, platform.ledger.as_ledger())
        viewer = Viewer(fresh, platform.attempt)
        self.assertEqual(list(range(1, 8)), viewer.take_all())
        end = msgspec.json.decode(viewer.entries[-1].message)
        digest = LogDigest()
        digest.add(batch(1, 7))
        self.assertEqual(
            {"type": "end", "lines": 7, "sha256": digest.hexdigest(), "state": "succeeded", "complete": True}, end
        )

    def test_an_attempt_cancelled_in_the_queue_has_an_empty_complete_log(self) -> None:
        platform = Platform()
        other = platform.ledger.queue()
        platform.ledger.now(attempts.cancel_at_once, other, "no more", 9)
        viewer = Viewer(platform.store, other)
        viewer.take_all()
        end = msgspec.json.decode(viewer.entries[-1].message)
        self.assertEqual((0, True, LogDigest().hexdigest()), (end["lines"], end["complete"], end["sha256"]))

    def test_an_attempt_that_does_not_exist(self) -> None:
        platform = Platform()
        cursor = platform.store.cursor("99-1", 0, lambda: None)
        self.assertIsNone(cursor.take(100))
        self.failureResultOf(Deferred.fromCoroutine(cursor.fetch()), UnknownAttempt)

    def test_a_loader_that_is_cancelled_leaves_the_others_waiting(self) -> None:
        platform = Platform()
        platform.send(batch(1, 3))
        platform.commit()
        reads: list[Deferred[None]] = []

        class Slow(InstantLedger):
            """A ledger whose first reads wait."""

            def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
                go: Deferred[None] = Deferred()
                reads.append(go)
                return go.addCallback(lambda _: platform.ledger.read(query, *args, **kwargs))

        store = LogStore(platform.clock, Slow().as_ledger())
        live = store.live(platform.attempt)
        one, two = (Deferred.fromCoroutine(store.load(live)) for _ in range(2))
        one.cancel()
        self.failureResultOf(one, CancelledError)
        for go in reads:  # the second comes while the first goes
            go.callback(None)
        self.successResultOf(two)
        self.assertEqual(4, live.next)

    def test_a_viewer_of_a_log_that_the_ledger_has_otherwise_goes_on_with_the_ledgers(self) -> None:
        platform = Platform()
        viewer = Viewer(platform.store, platform.attempt)
        self.assertEqual([], viewer.take_all())
        chunk = entries.entry_of(batch(1, 2), b"{").message + b"\n"
        item = storage_logs.ChunkItem(attempt=platform.attempt, first=1, count=2, data=chunk)
        platform.ledger.now(storage_logs.append, [item])  # a commit of which we were told that it failed
        platform.ledger.held = []
        platform.send(batch(1, 2))
        self.assertEqual([1, 2], viewer.take_all())
        platform.ledger.let_go()
        platform.store.changed(platform.live)
        platform.clock.advance(0)
        viewer.take_all()
        live = platform.store.live(platform.attempt)
        self.assertIsNot(platform.live, live)
        live.append([batch(3, 1)])
        platform.store.changed(live)
        platform.clock.advance(0)
        self.assertEqual([1, 2, 3], viewer.take_all())
        self.assertEqual(3, viewer.wakes)

    def test_logs_without_readers_and_writers_are_forgotten(self) -> None:
        platform = Platform()
        viewer = Viewer(platform.store, platform.attempt)
        platform.send(batch(1, 1))
        platform.commit()
        platform.finish()
        viewer.take_all()
        viewer.cursor.close()
        viewer.cursor.close()
        self.assertIsNot(platform.live, platform.store.live(platform.attempt))

    def test_memory_is_bounded_however_long_the_log(self) -> None:
        platform = Platform(limits=LogLimits(tail=10_000))
        stuck = Viewer(platform.store, platform.attempt)
        for first in range(1, 2001, 10):
            platform.send(batch(first, 10, size=200))
            platform.commit()
        held = sum(len(entry.message) for entry in platform.live.tail.entries)
        self.assertLess(held, 13_000)
        self.assertEqual(list(range(1, 2001)), stuck.take_all())

    def test_uncommitted_records_stay_whatever_their_size(self) -> None:
        platform = Platform(limits=LogLimits(tail=1000))
        platform.ledger.available = False
        platform.send(*[batch(first, 10, size=200) for first in range(1, 101, 10)])
        platform.commit()
        platform.ledger.available = True
        self.assertEqual(list(range(1, 101)), Viewer(platform.store, platform.attempt).take_all())

    @settings(max_examples=examples(30))
    @given(data=st.data())
    def test_every_viewer_sees_every_record_once_in_order(self, data: st.DataObject) -> None:
        """Whatever the order of sending, committing, taking little or much, joining late and coming back."""
        platform = Platform(limits=LogLimits(tail=300, fetch=200))
        viewers = [(0, Viewer(platform.store, platform.attempt))]
        for _ in range(data.draw(st.integers(1, 40))):
            match data.draw(st.sampled_from(["send", "gap", "resend", "commit", "take", "join", "return"])):
                case "send":
                    platform.send(batch(platform.live.next, data.draw(st.integers(1, 6)), size=20))
                case "gap":
                    first = data.draw(st.integers(max(1, platform.live.next - 3), platform.live.next))
                    platform.send(gap(first, first + data.draw(st.integers(0, 5))))
                case "resend" if platform.live.next > 2:
                    first = data.draw(st.integers(1, platform.live.next - 1))
                    platform.send(batch(first, data.draw(st.integers(1, 9)), size=20))
                case "commit":
                    platform.commit()
                case "take":
                    data.draw(st.sampled_from(viewers))[1].take(data.draw(st.integers(1, 200)))
                case "join" if len(viewers) < 4:
                    after = data.draw(st.integers(0, platform.live.next + 2))
                    viewers.append((after, Viewer(platform.store, platform.attempt, after)))
                case "return":
                    index = data.draw(st.integers(0, len(viewers) - 1))
                    after, gone = viewers[index]
                    gone.cursor.close()
                    last = gone.seen[-1] if gone.seen else after
                    again = Viewer(platform.store, platform.attempt, last)
                    again.seen = gone.seen
                    viewers[index] = (after, again)
                case _:
                    pass
        platform.commit()
        platform.finish()
        for after, viewer in viewers:
            viewer.take_all(50)
            self.assertEqual(list(range(after + 1, platform.live.next)), viewer.seen)
            self.assertTrue(viewer.ended)


class Appending(SynchronousTestCase):
    """Which batches of a builder are taken, and which are not."""

    def setUp(self) -> None:
        self.live = LiveLog("1-1", LogLimits(), SharedFiles())
        self.live.restore(1, None)

    def test_a_hole_is_refused_whole(self) -> None:
        with self.assertRaises(Hole) as caught:
            self.live.append([batch(1, 2), batch(4, 1)])
        self.assertEqual(1, caught.exception.next, "what came before the hole wasn't taken either")
        self.assertEqual(1, self.live.next)

    def test_what_overlaps_is_trimmed_by_its_number(self) -> None:
        self.live.append([batch(1, 3)])
        added = self.live.append([batch(2, 4)])
        self.assertEqual([(4, 6)], [(entry.first, entry.end) for entry, _batch in added])
        self.assertEqual([], self.live.append([batch(1, 5)]))
        added = self.live.append([gap(4, 9)])
        self.assertEqual([(6, 10)], [(entry.first, entry.end) for entry, _batch in added])
        self.assertEqual([], self.live.append([batch(6, 3), gap(8, 8)]), "what was said first stays")
        with self.assertRaises(Hole):
            self.live.append([gap(11, 11)])
        assert self.live.digest is not None
        self.assertEqual((9, ""), (self.live.digest.count, self.live.digest.hexdigest()))

    def test_nonsense_is_refused(self) -> None:
        for bad in (
            Lines(0, 1, 0, ["a"]),
            Lines(1, 1, 0, []),
            Lines(1, -1, 0, ["a"]),
            Lines(1, 1, -2, ["a"]),
            Lines(1, 1, 0, ["a"], [1]),
            Lines(1, 1, 0, ["a", "b"], [1, 0]),
            Lines(1, 1, 0, ["a"], [-1]),
            Gap(0, 1, "lost"),
            Gap(2, 1, "lost"),
            Gap(1, MAX_RECORD + 1, "lost"),
            Gap(1, 1, ""),
            Gap(1, 1, "x" * (MAX_REASON + 1)),
            Gap(1, 1, "two\nlines"),
            Gap(1, 1, "\x1b[2J"),
            Gap(1, 1, "\u202ereversed"),
        ):
            with self.assertRaises(BadBatch):
                self.live.append([bad])

    def test_nothing_comes_after_the_end(self) -> None:
        self.live.finish(End(0, "", "succeeded", True))
        with self.assertRaises(BadBatch):
            self.live.append([batch(1, 1)])


class Commits(SynchronousTestCase):
    """Group commit, and acknowledgement after it."""

    def test_many_batches_are_one_commit(self) -> None:
        platform = Platform()
        before = platform.ledger.writes
        for first in range(1, 50):
            platform.send(batch(first, 1))
        self.assertLessEqual(platform.ledger.writes - before, 1)
        platform.commit()
        self.assertLessEqual(platform.ledger.writes - before, 2)
        self.assertEqual(50, platform.acknowledged[-1])

    def test_chunks_are_of_a_size_whatever_a_commit_holds(self) -> None:
        """A viewer that opens a log anywhere costs little, and the events are still noted once."""
        platform = Platform()
        line = "x" * 10_000
        sent = [Lines(first, 1, 0, [line, Annotation("error", "no")]) for first in range(1, 101, 2)]
        writes = platform.ledger.writes
        for each in sent:
            platform.send(each)
        platform.commit()
        self.assertEqual(2, platform.ledger.writes - writes)  # the first one didn't wait
        self.assertEqual(101, platform.acknowledged[-1])
        chunks = platform.ledger.now(storage_logs.read, platform.attempt, 1, 1 << 30)
        self.assertLess(max(len(chunk.data) for chunk in chunks), CHUNK_BYTES + 2 * len(line))
        self.assertLess(len(chunks), 10)
        stored = [[batch_decoder.decode(each) for each in chunk.data.splitlines()] for chunk in chunks]
        self.assertEqual(sent, [each for batches in stored for each in batches])
        for chunk, batches in zip(chunks, stored, strict=True):
            self.assertEqual((chunk.first, chunk.first + chunk.count), (batches[0].first, batches[-1].end))
        self.assertEqual(GistRow(errors=50), self.gist(platform))

    def test_what_comes_during_a_commit_is_the_next_one_without_delay(self) -> None:
        platform = Platform()
        platform.commit()
        platform.ledger.held = []
        platform.send(batch(1, 1))
        platform.commit()
        platform.send(batch(2, 1))
        platform.ledger.let_go()
        self.assertEqual([2], platform.acknowledged)
        platform.commit()
        self.assertEqual([2, 3], platform.acknowledged)

    def test_a_commit_that_is_nearly_due_begins_with_what_comes(self) -> None:
        platform = Platform()
        platform.send(batch(1, 1))
        self.assertEqual([2], platform.acknowledged)
        platform.clock.advance(0.005)
        platform.send(batch(2, 1))
        platform.clock.advance(COMMIT_INTERVAL - 0.005 - NEARLY / 2)
        self.assertEqual([2], platform.acknowledged)
        platform.send(batch(3, 1))
        self.assertEqual([2, 4], platform.acknowledged)
        platform.clock.advance(NEARLY)
        platform.send(batch(4, 1))
        platform.clock.advance(COMMIT_INTERVAL - 3 * NEARLY)
        self.assertEqual([2, 4], platform.acknowledged)  # the interval counts from there

    def test_what_comes_while_the_ledger_fails_is_no_reason_to_try_sooner(self) -> None:
        platform = Platform()
        platform.ledger.available = False
        platform.send(batch(1, 5))
        platform.ledger.available = True
        platform.clock.advance(RETRY_INTERVAL / 2)
        platform.send(batch(6, 5))
        self.assertEqual([], platform.acknowledged)
        platform.clock.advance(RETRY_INTERVAL / 2)
        self.assertEqual([11], platform.acknowledged)

    def test_nothing_is_acknowledged_while_the_ledger_fails(self) -> None:
        platform = Platform()
        platform.ledger.available = False
        platform.send(batch(1, 5))
        platform.commit()
        platform.send(batch(6, 5))
        durable = platform.commits.durable(platform.live, 11)
        self.assertEqual([], platform.acknowledged)
        self.assertTrue(platform.commits.failing)
        platform.ledger.available = True
        platform.clock.advance(RETRY_INTERVAL)
        self.assertEqual([11], platform.acknowledged)
        self.successResultOf(durable)
        self.assertFalse(platform.commits.failing)

    def test_a_log_that_the_ledger_has_otherwise_is_dropped_alone(self) -> None:
        platform = Platform()
        platform.ledger.now(attempts.lose, platform.attempt, platform.holder, "gone", 9)
        platform.send(batch(1, 5))
        durable = platform.commits.durable(platform.live, 6)
        platform.commit()
        self.assertEqual([platform.attempt], platform.refused)
        self.failureResultOf(durable)
        self.assertEqual([], platform.acknowledged)
        platform.store.release(platform.live)
        self.assertIsNot(platform.live, platform.store.live(platform.attempt))

    def test_of_logs_that_are_committed_together_only_the_one_at_fault_is_dropped(self) -> None:
        platform = Platform()
        other = platform.another()
        platform.ledger.now(attempts.lose, platform.attempt, platform.holder, "gone", 9)
        platform.commits.add(other, other.append([batch(1, 3)]))
        platform.send(batch(1, 5))
        platform.commit()
        self.assertEqual([platform.attempt], platform.refused)
        self.assertEqual([4], platform.acknowledged)
        self.assertEqual(4, platform.ledger.now(storage_logs.next_record, other.attempt))

    def test_logs_that_are_committed_together_are_one_write(self) -> None:
        platform = Platform()
        other = platform.another()
        writes = platform.ledger.writes
        platform.commits.add(other, other.append([batch(1, 3)]))
        platform.send(batch(1, 5))
        platform.commit()
        self.assertEqual(1, platform.ledger.writes - writes)
        self.assertEqual({4, 6}, set(platform.acknowledged))

    def test_what_a_build_says_is_kept_with_the_records_that_say_it(self) -> None:
        platform = Platform()
        platform.send(batch(1, 4), Lines(5, 1, 0, [StepStarted(0, "build", "make")]))
        platform.commit()
        self.assertEqual(GistRow(), self.gist(platform))
        half, remark = Progress(0.5, "half"), Annotation("warning", "unused")
        said = Lines(6, 1, 0, ["6 x", half, remark, remark, Annotation("error", "no"), Annotation("notice", "so")])
        platform.ledger.available = False
        platform.send(said)
        platform.commit()
        platform.send(Lines(12, 1, 0, [Progress(1), Summary("**done**")]))
        platform.commit()
        platform.ledger.available = True
        self.assertEqual(GistRow(), self.gist(platform))
        self.assertEqual([], platform.talkers, "a build that says nothing has started a step")
        platform.clock.advance(RETRY_INTERVAL)
        self.assertEqual([platform.attempt], platform.talkers)
        kept = GistRow(progress=Progress(1), errors=1, warnings=2, notices=1)
        self.assertEqual(kept, self.gist(platform))
        platform.send(said)  # again
        platform.send(batch(14, 1))
        platform.commit()
        self.assertEqual([platform.attempt], platform.talkers)
        platform.send(Lines(15, 1, 0, [StepEnded(0, "succeeded", 1, 0)]), batch(16, 1))
        platform.commit()
        self.assertEqual([platform.attempt] * 2, platform.talkers)
        self.assertEqual(msgspec.structs.replace(kept, progress=None), self.gist(platform))
        row = platform.ledger.now(attempts.get, platform.attempt)
        assert row is not None
        self.assertEqual("**done**", row.summary)

    def test_a_changed_gist_is_told_for_each_log(self) -> None:
        """Also if the logs are committed one by one, because one of them is at fault."""
        for fault in (False, True):
            platform = Platform()
            silent, talker = platform.another(), platform.another()
            if fault:
                platform.ledger.now(attempts.lose, platform.attempt, platform.holder, "gone", 9)
            platform.commits.add(silent, silent.append([batch(1, 3)]))
            platform.commits.add(talker, talker.append([Lines(1, 1, 0, [Progress(0.5)])]))
            platform.send(batch(1, 5))
            platform.commit()
            self.assertEqual([platform.attempt] * fault, platform.refused)
            self.assertEqual([talker.attempt], platform.talkers)

    def test_nothing_is_on_its_way_any_more_in_what_has_ended(self) -> None:
        platform = Platform()
        platform.send(Lines(1, 1, 0, [Progress(0.5, "half"), Annotation("error", "no")]))
        platform.commit()
        platform.ledger.now(attempts.lose, platform.attempt, platform.holder, "gone", 9)
        self.assertEqual(GistRow(errors=1), self.gist(platform))

    def gist(self, platform: Platform) -> GistRow:
        """By the attempt's row, which is what the build's row has."""
        row = platform.ledger.now(attempts.get, platform.attempt)
        assert row is not None
        build = platform.ledger.now(builds.get, row.build)
        assert build is not None
        self.assertEqual(row.gist, build.gist)
        return row.gist

    def test_what_waits_behind_a_commit_is_committed_before_the_stop(self) -> None:
        platform = Platform()
        platform.ledger.held = []
        platform.send(batch(1, 1))
        platform.commit()
        platform.send(batch(2, 1))
        durable = platform.commits.durable(platform.live, 3)
        stopped = Deferred.fromCoroutine(platform.commits.stop())
        platform.ledger.let_go()
        self.successResultOf(stopped)
        self.successResultOf(durable)
        self.assertEqual([2, 3], platform.acknowledged)

    def test_steps_are_kept_as_their_events_say(self) -> None:
        platform = Platform()
        platform.send(Lines(1, 77, 0, [StepStarted(0, "build", "make"), "a line"]))
        platform.commit()
        row = platform.ledger.now(attempts.get, platform.attempt)
        assert row is not None
        self.assertEqual([("build", "make", 77)], [(step.name, step.command, step.started) for step in row.steps])
