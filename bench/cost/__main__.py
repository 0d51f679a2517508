"""
``python -m bench.cost``: what a line, a message of the link, a commit, a frame, a viewer and a build cost.

The processes' processor time under steady loads, which differ in what there is much of; `bench.common.fit` tells from
that what each piece costs, and `bench.cost.model` what so many builds and viewers need.

- ``cost/steady``: the apiserver with viewers and a stand-in for the builder, and all processes with real builds;
- ``cost/build``: a build that does nothing, and the memory of the processes at rest;
- ``cost/viewer``: a viewer that comes, and one that just stays.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from functools import partial

from bench.common.records import Question
from bench.common.runs import Asked, Candidate, command
from bench.cost import loads
from bench.cost.loads import (
    APISERVER,
    BUILD_SECOND,
    BUILDER,
    CHUNK,
    COMMIT,
    FRAME,
    LINE,
    MESSAGE,
    RUNNERS,
    SECOND,
    SENT,
)

#: Messages a second, lines in each, viewers.
VIEWED = (
    (5, 1, 1),
    (50, 1, 1),
    (200, 1, 1),
    (200, 20, 1),
    (1000, 1, 1),
    (1000, 20, 1),
    (200, 150, 1),
    (20, 1, 100),
    (200, 1, 50),
    (200, 1, 200),
    (50, 20, 200),
    (20, 100, 100),
    (20, 1, 1000),
)

#: Lines a second of a build, builds.
BUILT = ((1, 1), (50, 1), (200, 1), (2000, 1), (10_000, 1), (40_000, 1), (50, 6), (1000, 6), (1, 12), (50, 20))


def questions(options: Namespace) -> Iterator[Asked]:
    """All three; each load once."""
    seconds = 1.0 if options.quick else 4.0
    yield (
        Question(
            name="cost/steady",
            title="Processor time under steady loads, lines of 200 bytes",
            unit="cores",
            ours="",
            fits={
                APISERVER: [SECOND, COMMIT, CHUNK, MESSAGE, LINE, FRAME, SENT],
                BUILDER: [SECOND, MESSAGE, LINE],
                RUNNERS: [BUILD_SECOND, MESSAGE, LINE],
            },
            repetitions=1,
        ),
        [
            *(
                Candidate(f"{rate} x {block} lines/s to {count}", partial(loads.viewers, rate, block, count, seconds))
                for rate, block, count in VIEWED
            ),
            *(
                Candidate(f"{count} builds of {rate} lines/s", partial(loads.builds, rate, count, seconds))
                for rate, count in BUILT
            ),
        ],
    )
    yield (
        Question(
            name="cost/build",
            title="Processor time of a build that does nothing, and memory at rest",
            unit="ms",
            ours="",
            lower_is_better=True,
            repetitions=2,
        ),
        [Candidate("a build", partial(loads.one_build, 3 if options.quick else 10))],
    )
    yield (
        Question(
            name="cost/viewer",
            title="Processor time of the apiserver for a viewer that comes, and what it needs while it stays",
            unit="µs",
            ours="",
            lower_is_better=True,
            repetitions=2,
        ),
        [Candidate("a viewer", partial(loads.one_viewer, 200 if options.quick else 2000, seconds))],
    )


if __name__ == "__main__":
    command("bench.cost", questions)
