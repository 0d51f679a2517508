"""
``python -m bench.path``: the whole way: build → runner → journal → link → commit → viewer.

Both services as real processes on the embedded default (SQLite with ``synchronous=FULL``, a UNIX socket), journals and
commits durable. The build is `cat` of a file of lines of 200 bytes, so that the source costs next to nothing.

- ``path/one``: one build and one viewer, from the first record to the verified end; beside it GNU `cat` of the same
  file into another, then `wc`;
- ``path/many``: 50 builds at once, a viewer on each; ``path/builds``: the same against their number;
- ``path/open``: a log of 1 GiB, opened at any line;
- ``path/start``: from the apiserver's start to its first answer, and from a request to the build's first process.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial

from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, command
from bench.path import ways

OURS = "the whole way"


def questions(options: Namespace) -> Iterator[Asked]:
    """All of them."""
    part = 10 if options.quick else 1
    yield (
        Question(
            name="path/one",
            title="The whole way, one build and one viewer",
            unit="lines/s",
            ours=OURS,
            must={"": Bar(200_000)},
        ),
        [
            Candidate(OURS, partial(ways.one, options.lines // part)),
            Candidate("cat into a file, then wc", partial(ways.cat, options.lines // part)),
        ],
    )
    yield (
        Question(
            name="path/many",
            title="The whole way, 50 builds at once, a viewer on each",
            unit="lines/s in sum",
            ours=OURS,
            must={"": Bar(150_000), "Jain's index": Bar(0.95)},
        ),
        [Candidate(OURS, partial(ways.many, options.lines_each // (4 if options.quick else 1), 50))],
    )
    yield (
        Question(
            name="path/open",
            title=f"A log of {options.bytes // part / (1 << 30):.3g} GiB, 100 records from any line on, the longest",
            unit="ms",
            ours=OURS,
            must={"": Bar(100, at_most=True), "the apiserver's growth, KiB": Bar(1024, at_most=True)},
            lower_is_better=True,
            repetitions=2,
        ),
        [Candidate(OURS, partial(ways.opened, options.bytes // part))],
    )
    yield (
        Question(
            name="path/start",
            title="From the apiserver's start to its first answer",
            unit="s",
            ours=OURS,
            must={"": Bar(1, at_most=True), "from the request to the first process, ms": Bar(150, at_most=True)},
            lower_is_better=True,
        ),
        [Candidate(OURS, ways.start)],
    )
    yield (
        Question(
            name="path/builds",
            title="The whole way against builds at once, a viewer on each",
            unit="lines/s in sum",
            ours=OURS,
            axis="builds",
            repetitions=1,
        ),
        [
            Candidate(OURS, partial(ways.many, options.lines // part // builds, builds), at=builds)
            for builds in ((1, 5) if options.quick else (1, 5, 20, 50))
        ],
    )


def add_options(parser: ArgumentParser) -> None:
    """Add the options that only this benchmark has."""
    parser.add_argument("--lines", type=int, default=1_000_000, help="of the one build; of all in path/builds")
    parser.add_argument("--lines-each", type=int, default=40_000, help="of each of the 50 builds")
    parser.add_argument("--bytes", type=int, default=1 << 30, help="of the huge log")


if __name__ == "__main__":
    command("bench.path", questions, add_options)
