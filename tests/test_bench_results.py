"""What is made of the benchmarks' lines: the page, the bill of a load, what a profile says, what a ledger has got."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import page
from bench.__main__ import QUESTIONS
from bench.common.processes import Failed
from bench.common.records import Bar, Machine, Note, Question, Record, Sample
from bench.cost import loads, model
from bench.cost.chunks import Chunks, Stored
from bench.profile import found

MACHINE = Machine(
    date="2026-11-24", command="python -m bench.a", cores=2, processor="one", system="Linux", versions={"python": "3"}
)
RATE = Question(name="a/rate", title="Messages", unit="messages/s", ours="ours", bars={"theirs": Bar(2)})
CURVE = Question(name="a/sizes", title="Sizes", unit="messages/s", ours="ours", axis="bytes")


def sample(
    question: str, value: float, candidate: str = "ours", at: float = 0, more: dict[str, float] | None = None
) -> Sample:
    return Sample(question=question, candidate=candidate, repetition=0, value=value, at=at, more=more or {})


class Page(SynchronousTestCase):
    lines: tuple[Record, ...] = (
        MACHINE,
        RATE,
        sample("a/rate", 30),
        sample("a/rate", 10, "theirs"),
        Note(question="a/rate", candidate="ours", text="how it was"),
        CURVE,
        sample("a/sizes", 30, at=50),
        sample("a/sizes", 3, at=1000),
    )

    def test_what_was_measured_replaces_what_was_there(self) -> None:
        blocks = page.blocks(self.lines)
        self.assertEqual(list(blocks), ["machine", "bars", "a"])
        names = (*blocks, "other")
        text = "# Page\n" + "".join(
            f"\nSaid of {name}.\n\n<!-- bench: {name} -->\nold\n<!-- /bench -->\n" for name in names
        )
        new = page.refreshed(text, blocks)
        for wanted in (
            "2026-11-24, 2 cores (one)",
            "1 of 1 bars are reached.",
            "![Messages](performance/a-rate.svg)",
            "![Sizes](performance/a-sizes.svg)",
            "how it was",
            "Said of other.\n\n<!-- bench: other -->\nold\n<!-- /bench -->",
        ):
            self.assertIn(wanted, new)
        self.assertEqual(new.count("old"), 1)
        self.assertEqual(page.refreshed(new, blocks), new)

    def test_a_page_without_a_place_for_it(self) -> None:
        self.assertRaisesRegex(ValueError, "no block for a, bars, machine", page.refreshed, "", page.blocks(self.lines))

    def test_the_page_has_a_place_for_every_question(self) -> None:
        text = (Path(__file__).parent.parent / page.PAGE).read_text()
        self.assertEqual(page.refreshed(text, {}), text)
        page.refreshed(text, dict.fromkeys((*QUESTIONS, "machine", "bars"), ""))


class Bill(SynchronousTestCase):
    costs = model.Costs(
        prices={
            loads.APISERVER: {loads.COMMIT: 1000.0, loads.CHUNK: 100.0, loads.LINE: 1.0, loads.FRAME: 10.0},
            loads.RUNNERS: {loads.BUILD_SECOND: 500.0},
        },
        most={loads.MESSAGE: 200.0, loads.COMMIT: 60.0},
        build={
            loads.PER_BUILD_APISERVER: 60.0,
            loads.PER_BUILD_BUILDER: 30.0,
            loads.PER_BUILD_OWN: 180.0,
            loads.BASE_APISERVER: 90.0,
            loads.BASE_BUILDER: 50.0,
            loads.RUNNER: 9.0,
        },
        viewer=10.24,
    )

    def counts(self, load: model.Load) -> dict[str, float]:
        return {part.term: part.count for part in model.bill(self.costs, load) if part.process == "apiserver"}

    def test_slow_builds_have_each_line_by_itself(self) -> None:
        self.assertEqual(
            self.counts(model.Load(builds=2, lines=10, viewers=8)),
            {loads.COMMIT: 20, loads.CHUNK: 20, loads.LINE: 20, loads.FRAME: 80},
        )

    def test_fast_builds_batch_and_share_commits(self) -> None:
        self.assertEqual(
            self.counts(model.Load(builds=3, lines=10_000, viewers=3)),
            {loads.COMMIT: 60, loads.CHUNK: 180, loads.LINE: 30_000, loads.FRAME: 600},
        )

    def test_cores_and_memory(self) -> None:
        load = model.Load(builds=2, lines=10, viewers=1000, started=60)
        cores: dict[str, float] = {}
        for part in model.bill(self.costs, load):
            cores[part.process] = cores.get(part.process, 0) + part.cores
        self.assertAlmostEqual(cores["apiserver"], (20_000 + 2000 + 20 + 100_000) / 1e6 + 0.06)
        self.assertAlmostEqual(cores["builder"], 0.03)
        self.assertAlmostEqual(cores["runners"], 0.001 + 0.18)
        self.assertEqual(model.memory(self.costs, load), {"apiserver": 100.0, "builder": 50.0, "runners": 18.0})
        self.assertIn("In all 0.39 cores", model.table(self.costs, load))

    def test_it_is_told_by_what_was_measured(self) -> None:
        steady = Question(
            name="cost/steady", title="", unit="cores", ours="", fits={loads.RUNNERS: [loads.BUILD_SECOND, loads.LINE]}
        )
        common = {loads.SECOND: 2.0, loads.COMMIT: 80.0, loads.MESSAGE: 100.0}
        first = {**common, loads.BUILD_SECOND: 2.0, loads.LINE: 100.0, loads.RUNNERS: 1.2}
        second = {**common, loads.BUILD_SECOND: 4.0, loads.LINE: 5000.0, loads.RUNNERS: 12.0}
        lines: list[Record] = [steady, sample("cost/steady", 1, more=first), sample("cost/steady", 1, more=second)]
        self.assertIsNone(model.costs(lines))
        for name, more in (("cost/build", self.costs.build), ("cost/viewer", {loads.VIEWER_KIB: 7.0})):
            lines += [Question(name=name, title="", unit="ms", ours=""), sample(name, 1, more=more)]
        costs = model.costs(lines)
        assert costs is not None
        self.assertAlmostEqual(costs.prices[loads.RUNNERS][loads.BUILD_SECOND], 500)
        self.assertAlmostEqual(costs.prices[loads.RUNNERS][loads.LINE], 2)
        self.assertEqual(costs.most, {loads.MESSAGE: 50.0, loads.COMMIT: 40.0})
        self.assertEqual(costs.viewer, 7.0)


class Profiles(SynchronousTestCase):
    ours = (str(found.ROOT / "twistedipc" / "web" / "live" / "viewers.py"), "step")
    send = ("", "<method 'send' of '_socket.socket' objects>")
    poll = ("", "<method 'poll' of 'select.epoll' objects>")

    def test_what_lies_between_and_to_which_row_it_belongs(self) -> None:
        profile = found.between(
            {self.ours: (10, 1.0)}, {self.ours: (30, 2.0), self.send: (5, 3.0), self.poll: (9, 6.0)}
        )
        told = found.told(profile, 10.0)
        self.assertEqual(told.value, 40.0)
        self.assertEqual(told.more, {"sending, %": 75.0, "twistedipc, %": 25.0})
        self.assertEqual(
            told.note,
            "75.0%          5 calls  method 'send' of '_socket.socket' objects\n"
            "25.0%         20 calls  twistedipc/web/live/viewers.py: step",
        )

    def test_what_only_waits_has_no_profile(self) -> None:
        self.assertRaises(Failed, found.told, {self.poll: (9, 6.0)}, 10.0)

    def test_labels_name_no_folder_of_this_machine(self) -> None:
        self.assertEqual(found.label(("/a/site-packages/twisted/defer.py", "run")), "twisted/defer.py: run")
        self.assertEqual(found.label(("/usr/lib/python3/heapq.py", "merge")), "heapq.py: merge")


class Ledger(SynchronousTestCase):
    def test_chunks_and_commits_are_counted_from_now_on(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.sqlite"
            database = sqlite3.connect(path, isolation_level=None)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE log_chunks (build_id, first_record, records, data)")
            database.execute("CREATE TABLE sealed_chunks (build_id, first_record, records, data)")
            database.execute("INSERT INTO log_chunks VALUES (1, 1, 5, ?)", [b"[]\n"])
            chunks = Chunks(path)
            until = time.monotonic() + 10
            while chunks.commits < 1 and time.monotonic() < until:  # it begins to look when its thread runs
                database.execute("UPDATE log_chunks SET records = records + 1")
            seen = chunks.commits
            self.assertGreaterEqual(seen, 1)
            for build, first in ((1, 6), (1, 8), (2, 1)):
                database.execute("INSERT INTO log_chunks VALUES (?, ?, 2, ?)", [build, first, b"[]\n[]\n"])
            stored = chunks.since()
            self.assertGreaterEqual(stored.commits, seen)
            self.assertEqual(stored, Stored(stored.commits, chunks=3, batches=6, lines=6))
            database.close()
