"""
``python -m bench.publish``: from ``POST`` of a build to the release that answers, against the same by hand.

By hand is what a person types: ``git clone``, the install that the lock file asks for, the build. Both use the package
registry that npm is set up for, so that a slow one hits both; for the second builds both have what a first one left.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.publish import hooks, many, rows, skew

OURS = "the platform"
HAND = "by hand"
KINDS = ("bubblewrap", "landlock", "none")


def questions(options: Namespace) -> Iterator[Asked]:
    """All of them."""

    def asked(
        name: str, title: str, bound: float, ours: Callable[[Path], Measured], hand: Callable[[Path], Measured]
    ) -> Asked:
        question = Question(
            name=f"publish/{name}",
            title=title,
            unit="s",
            ours=OURS,
            bars={HAND: Bar(bound, at_most=True)},
            lower_is_better=True,
        )
        return question, [Candidate(OURS, lambda: _in_folder(ours)), Candidate(HAND, lambda: _in_folder(hand))]

    def by_kind(
        name: str, title: str, unit: str, measure: Callable[..., Measured], must: dict[str, Bar] | None = None
    ) -> Asked:
        question = Question(
            name=f"publish/{name}", title=title, unit=unit, ours=KINDS[0], must=must or {}, lower_is_better=True
        )
        return question, [Candidate(kind, partial(_in_folder, partial(measure, kind=kind))) for kind in KINDS]

    yield asked(
        "cold", "Vite and React, the first build, nothing kept from before", 1.05, rows.first, rows.first_by_hand
    )
    yield asked("again", "The same, another commit with the same lock file", 0.5, rows.second, rows.second_by_hand)
    if not options.quick:
        yield asked(
            "monorepo",
            "A pnpm monorepo of 20 packages, the second build",
            0.5,
            rows.monorepo,
            rows.monorepo_by_hand,
        )
    yield by_kind("step", "A step that does nothing, by what isolates it", "ms", rows.step, {"": Bar(30, at_most=True)})
    yield by_kind(
        "isolated",
        "Vite and React, another commit with the same lock file, by what isolates the build",
        "s",
        rows.second,
    )
    yield (
        Question(
            name="publish/recognition",
            title="A repository of 10,000 files is recognised",
            unit="ms",
            ours=OURS,
            must={"": Bar(50, at_most=True)},
            lower_is_better=True,
        ),
        [Candidate(OURS, lambda: _in_folder(rows.recognition))],
    )
    yield from _of_hooks(options)
    yield _of_tabs(options)
    yield from _of_many(options)


def _of_hooks(options: Namespace) -> Iterator[Asked]:
    """Messages of a repository's host."""

    def asked(name: str, title: str, unit: str, must: dict[str, Bar], measure: Callable[[Path], Measured]) -> Asked:
        question = Question(name=f"publish/{name}", title=title, unit=unit, ours=OURS, must=must, lower_is_better=True)
        return question, [Candidate(OURS, partial(_in_folder, measure))]

    count, crowd = (10, 100) if options.quick else (200, 1000)
    yield asked(
        "hook",
        f"A push's message, from its first byte to the build that runs, {count} one after another, p99",
        "ms",
        {"": Bar(200, at_most=True)},
        partial(hooks.started, count=count),
    )
    yield asked(
        "hooks",
        f"{crowd:,} pushes' messages at once, every tenth of them twice: until all are answered",
        "s",
        {hooks.LOST: Bar(0, at_most=True), hooks.DOUBLED: Bar(0, at_most=True)},
        partial(hooks.at_once, count=crowd),
    )


def _of_tabs(options: Namespace) -> Asked:
    """Answers while releases are switched."""
    size = skew.Size(options.requests, options.switches, skew.BROWSERS + 1)
    if options.quick:
        size = skew.Size(5_000, 20, 5)
    question = Question(
        name="publish/skew",
        title=f"A crawler and {2 * skew.BROWSERS} tabs, the oldest opened {size.releases - 1} releases ago, "
        f"{size.requests:,} requests during {size.switches:,} switches: answers that aren't as they must be",
        unit="answers",
        ours=OURS,
        must={kind: Bar(0, at_most=True) for kind in (skew.FAILED, skew.TORN, skew.MISSING, skew.WRONG)},
        lower_is_better=True,
        repetitions=1,
    )
    return question, [Candidate(OURS, partial(_in_folder, partial(skew.measure, size=size)))]


def _of_many(options: Namespace) -> Iterator[Asked]:
    """Releases of many files."""
    files = 1_000 if options.quick else 25_000
    for name, title, unit, bound, measure in (
        (
            "many",
            f"A site of {files:,} files of which 10 have changed, from the pack step to live",
            "s",
            1.5,
            many.again,
        ),
        ("rollback", f"A rollback of {files:,} files, from request to served, p99", "ms", 50.0, many.rollback),
    ):
        question = Question(
            name=f"publish/{name}",
            title=title,
            unit=unit,
            ours=OURS,
            must={"": Bar(bound, at_most=True)},
            lower_is_better=True,
        )
        yield question, [Candidate(OURS, partial(_in_folder, partial(measure, files=files)))]


def _in_folder(measure: Callable[[Path], Measured]) -> Measured:
    # What outlives its service may still write into it for a moment.
    with tempfile.TemporaryDirectory(prefix="twistedipc-bench-", ignore_cleanup_errors=True) as folder:
        return measure(Path(folder))


def add_options(parser: ArgumentParser) -> None:
    """What only this has."""
    parser.add_argument("--requests", type=int, default=1_000_000, help="while releases are switched")
    parser.add_argument("--switches", type=int, default=1_000, help="of releases")


if __name__ == "__main__":
    command("bench.publish", questions, add_options)
