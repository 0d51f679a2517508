"""
``python -m bench.publish``: from ``POST`` of a build to the release that answers, against the same by hand.

By hand is what a person types: ``git clone``, the install that the lock file asks for, the build. Both use the package
registry that npm is set up for, so that a slow one hits both; for the second builds both have what a first one left.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.publish import rows

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


def _in_folder(measure: Callable[[Path], Measured]) -> Measured:
    # What outlives its service may still write into it for a moment.
    with tempfile.TemporaryDirectory(prefix="twistedipc-bench-", ignore_cleanup_errors=True) as folder:
        return measure(Path(folder))


if __name__ == "__main__":
    command("bench.publish", questions)
