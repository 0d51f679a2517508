"""The benchmarks' own machinery: turns, tables, pictures, and programs that end."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from twisted.trial.unittest import TestCase

from bench.common import picture, records, report
from bench.common.fit import explained, fit
from bench.common.processes import CLIENT_CORE, Failed, Missing, Program, found
from bench.common.records import Bar, Broken, Note, Question, Record, Sample, Skipped
from bench.common.runs import Candidate, Measured, measure

QUESTION = Question(name="a/b", title="Messages", unit="messages/s", ours="ours", bars={"theirs": Bar(8)})


class Turns(TestCase):
    def test_all_are_measured_in_each_repetition_in_a_shifted_order(self) -> None:
        order: list[str] = []

        def measured(name: str) -> Measured:
            order.append(name)
            return Measured(1.0)

        lines = list(measure(QUESTION, [Candidate(name, lambda name=name: measured(name)) for name in "abc"], 3))  # type: ignore[misc]
        self.assertEqual(order, list("abcbcacab"))
        self.assertEqual([line.repetition for line in lines if isinstance(line, Sample)], [0, 0, 0, 1, 1, 1, 2, 2, 2])

    def test_a_missing_program_is_reported_once_and_left_out(self) -> None:
        def missing() -> Measured:
            raise Missing("install it")

        lines = list(measure(QUESTION, [Candidate("a", missing), Candidate("b", lambda: Measured(1.0))], 2))
        self.assertEqual(
            [line for line in lines if isinstance(line, Skipped)],
            [Skipped(question="a/b", candidate="a", reason="install it")],
        )
        self.assertEqual([line.candidate for line in lines if isinstance(line, Sample)], ["b", "b"])

    def test_what_fails_is_told_and_the_others_go_on(self) -> None:
        def fails() -> Measured:
            raise Failed("nothing within 3 s")

        with contextlib.redirect_stderr(io.StringIO()) as said:
            lines = list(measure(QUESTION, [Candidate("a", fails), Candidate("b", lambda: Measured(1.0))], 2))
        self.assertIn("nothing within 3 s", said.getvalue())
        broken = [line for line in lines if isinstance(line, Broken)]
        self.assertEqual([line.reason for line in broken], ["Failed: nothing within 3 s"] * 2)
        self.assertEqual([line.candidate for line in lines if isinstance(line, Sample)], ["b", "b"])

    def test_some_are_measured_less_often_than_asked_for(self) -> None:
        question = Question(name="a/b", title="", unit="", ours="ours", repetitions=1)
        lines = list(measure(question, [Candidate("a", lambda: Measured(1.0, note="how"))], 5))
        self.assertEqual([type(line) for line in lines], [Question, Sample, Note])


class Fit(TestCase):
    def test_prices_are_found(self) -> None:
        prices = {"lines": 0.5, "frames": 6.0, "seconds": 900.0}
        counts = [
            {"seconds": 3.0, "lines": lines, "frames": frames}
            for lines, frames in ((0, 0), (10_000, 50), (10_000, 5000), (400_000, 10), (100, 100_000))
        ]
        totals = [explained(found, prices) for found in counts]
        found = fit(totals, counts, [*prices, "never"])
        for term, price in prices.items():
            self.assertAlmostEqual(found[term], price, places=6)
        self.assertEqual(found["never"], 0.0)

    def test_none_is_negative(self) -> None:
        counts = [{"a": 1.0, "b": 10.0}, {"a": 2.0, "b": 10.0}, {"a": 3.0, "b": 10.0}]
        found = fit([30.0, 20.0, 10.0], counts, ["a", "b"])
        self.assertEqual(found["a"], 0.0)
        self.assertTrue(1 < found["b"] < 3)


class Report(TestCase):
    def lines(self, *values: tuple[str, float]) -> list[Record]:
        samples = [Sample(question="a/b", candidate=name, repetition=0, value=value) for name, value in values]
        return [QUESTION, *samples]

    def test_medians_are_compared_with_the_bar(self) -> None:
        lines = self.lines(("ours", 90), ("ours", 80), ("ours", 1), ("theirs", 10))
        (row,) = report.verdicts(lines)
        self.assertEqual(row[1:5] + row[-2:], ["theirs", "80 messages/s", "10 messages/s", "8", ">= 8", "reached"])
        (table,) = report.tables(lines)
        self.assertIn("| ours      | 80         | 1 to 90", table)
        (row,) = report.verdicts(self.lines(("ours", 79), ("theirs", 10)))
        self.assertEqual(row[-1], "MISSED")
        (row,) = report.verdicts(self.lines(("ours", 79)))
        self.assertEqual(row[-1], "not measured")

    def test_figures_of_ours_have_bars_of_their_own(self) -> None:
        must = {"": Bar(5), "growth, MiB": Bar(16, at_most=True), "index": Bar(1)}
        question = Question(name="a/b", title="Messages", unit="messages/s", ours="ours", must=must)
        samples = [
            Sample(question="a/b", candidate="ours", repetition=index, value=value, more={"growth, MiB": 17})
            for index, value in enumerate((4.0, 6.0, 7.0))
        ]
        rows = report.verdicts([question, *samples])
        self.assertEqual(
            [[row[0], row[2], *row[-3:]] for row in rows],
            [
                ["Messages", "6 messages/s", "4 to 7", ">= 5", "reached"],
                ["Messages: growth", "17 MiB", "17 to 17", "<= 16", "MISSED"],
                ["Messages: index", "", "", ">= 1", "not measured"],
            ],
        )
        self.assertIn("1 of 3 bars are reached", report.bars_table([question, *samples]))

    def test_a_failure_counts_however_many_have_succeeded(self) -> None:
        broken = Broken(question="a/b", candidate="ours", repetition=1, reason="Failed: 3 lines are lost")
        lines = [*self.lines(("ours", 90), ("theirs", 10)), broken]
        self.assertEqual([row[-1] for row in report.verdicts(lines)], ["reached", "FAILED"])
        (table,) = report.tables(lines)
        self.assertIn("ours failed: Failed: 3 lines are lost", table)

    def test_a_bar_from_above(self) -> None:
        self.assertTrue(Bar(1.0, at_most=True).reached(1.0))
        self.assertFalse(Bar(1.0, at_most=True).reached(1.01))

    def test_lines_are_read_as_they_were_written(self) -> None:
        lines = self.lines(("ours", 1.5), ("theirs", 2.5))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lines"
            path.write_bytes(b"\n".join(map(records.encode, lines)))
            self.assertEqual(report.read([path]), lines)

    def test_pictures_are_well_formed(self) -> None:
        near = {"ours": [(1.0, 90.0), (50.0, 120.0)]}
        for svg in (
            picture.curves("near one another", "builds", "lines/s", near),
            picture.bars("a < b", "messages/s", {"ours": 3e6, "theirs & co": 12.0, "none": 0.0}),
            picture.curves("a", "viewers", "lines/s", {"ours": [(1, 10), (5000, 1e7)], "theirs": [(1, 5)], "none": []}),
        ):
            ElementTree.fromstring(svg)


class Programs(TestCase):
    def test_what_it_says_and_where_it_runs(self) -> None:
        script = "import os; print('{\"cores\": [' + ','.join(map(str, os.sched_getaffinity(0))) + ']}')"
        with Program([sys.executable, "-c", script], core=CLIENT_CORE) as program:
            self.assertEqual(program.said(), {"cores": [CLIENT_CORE]})

    def test_an_end_and_silence_are_failures(self) -> None:
        with (
            Program([sys.executable, "-c", "raise SystemExit(3)"]) as program,
            self.assertRaisesRegex(Failed, "with 3"),
        ):
            program.said()
        with Program(["sleep", "60"]) as program, self.assertRaisesRegex(Failed, "nothing within"):
            program.said(0.01)

    def test_none_is_left_behind(self) -> None:
        with Program(["sleep", "60"]) as program:
            pass
        self.assertRaises(ProcessLookupError, os.kill, program.pid, 0)

    def test_what_isnt_installed(self) -> None:
        self.assertRaisesRegex(Missing, "install the thing", found, "no-such-program", "the thing")
