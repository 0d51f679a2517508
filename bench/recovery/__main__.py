"""
``python -m bench.recovery``: what happens when something dies, and what a viewer that never reads costs.

Both services as real processes, on the embedded default (SQLite, a UNIX socket), with durable journals and commits;
viewers on real WebSockets, all in this process. A line that is lost or doubled fails the measurement. Each question
repeats within itself what it measures, and is asked once. ``--builds`` says how many are removed in
``recovery/pruning``.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.recovery import rows
from bench.recovery.crowd import run_reactor

OURS = "the platform"

Row = Callable[[Path, bool], Measured]


def questions(options: Namespace) -> Iterator[Asked]:
    """All of them."""
    run_reactor()

    def asked(name: str, row: Row, title: str, unit: str, must: dict[str, float]) -> Asked:
        question = Question(
            name=f"recovery/{name}",
            title=title,
            unit=unit,
            ours=OURS,
            must={figure: Bar(bound, at_most=True) for figure, bound in must.items()},
            lower_is_better=True,
            repetitions=1,
        )
        return question, [Candidate(OURS, partial(_measure, row, options.quick))]

    quick = options.quick
    yield asked(
        "apiserver",
        rows.apiserver,
        f"The apiserver is killed → all {8 if quick else 50} viewers of 4 builds are current again, from its start on",
        "s, median",
        {"": 2},
    )
    yield asked(
        "builder",
        rows.builder,
        f"The builder is killed → all {3 if quick else 8} running attempts are re-adopted, from its start on",
        "s, median",
        {"": 1},
    )
    if not quick:  # it takes half a minute, however it is asked
        yield asked(
            "blackhole",
            rows.blackhole,
            "The link passes nothing on, and no end comes → the apiserver notices it",
            "s, worst",
            {"": 30, rows.NOTICED_BY_BUILDER: 30},
        )
    yield asked(
        "viewers",
        rows.viewers,
        f"{100 if quick else '1,000'} viewers are cut at once → all are current again",
        "s, worst",
        {"": 10},
    )
    yield asked(
        "stuck",
        rows.stuck,
        f"{3 if quick else 60} s of 10,000 lines/s, and one of five viewers never reads → what it costs the apiserver",
        "MiB",
        {"": 16, rows.STUCK_P99: 1000},
    )
    count = 200 if quick else options.builds
    yield asked(
        "pruning",
        partial(rows.pruning, count=count),
        f"1,000 lines/s to ten viewers while {count:,} builds are removed, over the same without: 99 in 100",
        "times",
        {"": 2},
    )
    yield asked("runner", rows.runner, f"Memory of a runner, {2 if quick else 8} at a time", "MiB, worst", {"": 20})


def _measure(row: Row, quick: bool) -> Measured:
    # What outlives its service may still write into it for a moment.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return row(Path(folder), quick)


def add_options(parser: ArgumentParser) -> None:
    """Add the options that only this benchmark has."""
    parser.add_argument("--builds", type=int, default=10_000, help="how many are removed (%(default)s)")


if __name__ == "__main__":
    command("bench.recovery", questions, add_options)
