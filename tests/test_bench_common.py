"""The benchmarks' own machinery: turns, tables, pictures, and programs that end."""

from __future__ import annotations

import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from twisted.trial.unittest import TestCase

from bench.common import picture, records, report
from bench.common.processes import CLIENT_CORE, Failed, Missing, Program, found
from bench.common.records import Bar, Question, Record, Sample, Skipped
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

    def test_who_is_missing_is_told_once_and_left_out(self) -> None:
        def missing() -> Measured:
            raise Missing("install it")

        lines = list(measure(QUESTION, [Candidate("a", missing), Candidate("b", lambda: Measured(1.0))], 2))
        self.assertEqual(
            [line for line in lines if isinstance(line, Skipped)],
            [Skipped(question="a/b", candidate="a", reason="install it")],
        )
        self.assertEqual([line.candidate for line in lines if isinstance(line, Sample)], ["b", "b"])


class Report(TestCase):
    def lines(self, *values: tuple[str, float]) -> list[Record]:
        samples = [Sample(question="a/b", candidate=name, repetition=0, value=value) for name, value in values]
        return [QUESTION, *samples]

    def test_medians_are_compared_with_the_bar(self) -> None:
        (table,) = report.tables(self.lines(("ours", 90), ("ours", 80), ("ours", 1), ("theirs", 10)))
        self.assertIn("| 8.00      | >= 8 | reached |", table)
        (table,) = report.tables(self.lines(("ours", 79), ("theirs", 10)))
        self.assertIn("MISSED", table)

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
        for svg in (
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
