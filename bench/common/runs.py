"""
Candidates measured in turn. One after the other, all of them again in each repetition, the order shifted by one each
time: so what the machine does meanwhile hits all alike, and the medians can be compared.
"""

from __future__ import annotations

import argparse
import resource
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from bench.common import records
from bench.common.machine import machine
from bench.common.processes import Missing
from bench.common.records import Broken, Note, Question, Record, Sample, Skipped

REPETITIONS = 5


@dataclass(frozen=True)
class Measured:
    """One measurement: the question's value, further figures by name, and some lines of text."""

    value: float
    more: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Candidate:
    """Something to be measured; ``at`` is its place on the question's axis, if it has one."""

    name: str
    measure: Callable[[], Measured]
    at: float = 0.0


Asked = tuple[Question, Sequence[Candidate]]


def measure(question: Question, candidates: Sequence[Candidate], repetitions: int) -> Iterator[Record]:
    """
    The question, then its samples as they come. A candidate that is `Missing` is skipped from then on; a measurement
    that fails is told, and the others go on.
    """
    yield question
    left = list(candidates)
    for repetition in range(min(repetitions, question.repetitions or repetitions)):
        shift = repetition % max(1, len(left))
        for candidate in left[shift:] + left[:shift]:
            try:
                measured = candidate.measure()
            except Missing as missing:
                left.remove(candidate)
                yield Skipped(question=question.name, candidate=candidate.name, reason=str(missing))
                continue
            except Exception as failure:
                traceback.print_exc()
                yield Broken(
                    question=question.name,
                    candidate=candidate.name,
                    repetition=repetition,
                    at=candidate.at,
                    reason=f"{type(failure).__name__}: {failure}",
                )
                continue
            yield Sample(
                question=question.name,
                candidate=candidate.name,
                repetition=repetition,
                at=candidate.at,
                value=measured.value,
                more=measured.more,
            )
            if measured.note and repetition == 0:
                yield Note(question=question.name, candidate=candidate.name, text=measured.note)


def command(
    program: str,
    questions: Callable[[argparse.Namespace], Iterable[Asked]],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    output: TextIO = sys.stdout,
) -> None:
    """
    The command line of one folder: JSON lines to ``output``, who is being measured to stderr. Exits with 1 if a
    measurement failed; a bar that is missed is no failure.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--quick", action="store_true", help="once, and short: does it work?")
    parser.add_argument("--only", action="append", default=[], help="measure only questions or candidates named so")
    add_options(parser)
    options = parser.parse_args()
    repetitions = 1 if options.quick else options.repetitions
    allow_files()
    broken = False
    _print(machine(), output)
    for question, candidates in questions(options):
        chosen = [
            candidate
            for candidate in candidates
            if not options.only or question.name in options.only or candidate.name in options.only
        ]
        if not chosen:
            continue
        for record in measure(question, chosen, repetitions):
            _print(record, output)
            broken |= isinstance(record, Broken)
            if isinstance(record, Sample):
                place = f", {record.at:g} {question.axis}" if question.axis else ""
                print(
                    f"{record.question}: {record.candidate}{place}: {record.value:,.6g} {question.unit}",
                    file=sys.stderr,
                )
            elif isinstance(record, Skipped):
                print(f"{record.question}: {record.candidate} is skipped: {record.reason}", file=sys.stderr)
    sys.exit(broken)


def allow_files() -> None:
    """Thousands of viewers need a file each, here and in the programs, which inherit the limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _print(record: Record, output: TextIO) -> None:
    print(records.encode(record).decode(), file=output, flush=True)
