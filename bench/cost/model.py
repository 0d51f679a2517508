"""
``python -m bench.cost.model FILE --builds 20 --lines 50 --viewers 200``: what so many builds and viewers need.

FILE holds the lines that `bench.cost` printed. The prices are from there; how often something happens is told from
the load: a build's lines come in as many batches as there are lines, but no more than were seen; each batch is a
message of the link, and a frame to each of the build's viewers; commits are as many as batches, but no more than
were seen either.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.common import report
from bench.common.records import Question, Record, Sample
from bench.cost.loads import (
    APISERVER,
    BASE_APISERVER,
    BASE_BUILDER,
    BUILD_SECOND,
    BUILDER,
    CHUNK,
    COMMIT,
    FRAME,
    LINE,
    MESSAGE,
    PER_BUILD_APISERVER,
    PER_BUILD_BUILDER,
    PER_BUILD_OWN,
    RUNNER,
    RUNNERS,
    SECOND,
    SENT,
    VIEWER_KIB,
)

#: KiB of a line with its share of its frame, on its way to a viewer; the prices are for lines of 200 bytes.
LINE_KIB = 0.2


@dataclass(frozen=True)
class Costs:
    """
    What `bench.cost` has found.

    :ivar prices: microseconds apiece, by process and term
    :ivar most: how many batches of one build, and how many commits, there were in a second at most
    :ivar build: milliseconds of a build that does nothing, and MiB at rest, by the figures' names
    :ivar viewer: a viewer's memory in KiB
    """

    prices: dict[str, dict[str, float]]
    most: dict[str, float]
    build: dict[str, float]
    viewer: float


@dataclass(frozen=True)
class Load:
    """
    What is to be borne.

    :ivar builds: running at once
    :ivar lines: a second, of each
    :ivar viewers: in all, evenly over the builds
    :ivar started: builds that begin in a minute
    """

    builds: int
    lines: float
    viewers: int
    started: float = 0.0


def costs(lines: Iterable[Record]) -> Costs | None:
    """From the records; None if not all of it was measured."""
    lines = list(lines)
    asked = {question.name: question for question in report.questions(lines)}
    samples = {name: _samples(question, lines) for name, question in asked.items()}
    wanted = ("cost/steady", "cost/build", "cost/viewer")
    if not all(samples.get(name) for name in wanted):
        return None
    steady, build, viewer = (samples[name] for name in wanted)
    return Costs(
        prices={figure: report.prices(asked["cost/steady"], lines, figure) for figure in asked["cost/steady"].fits},
        most={
            MESSAGE: max(each.more[MESSAGE] / each.more[BUILD_SECOND] for each in steady if BUILD_SECOND in each.more),
            COMMIT: max(each.more[COMMIT] / each.more[SECOND] for each in steady),
        },
        build={figure: statistics.median(each.more[figure] for each in build) for figure in build[0].more},
        viewer=statistics.median(each.more[VIEWER_KIB] for each in viewer),
    )


def _samples(question: Question, lines: Iterable[Record]) -> list[Sample]:
    return [sample for found in report.samples_of(question, lines).values() for sample in found]


@dataclass(frozen=True)
class Part:
    """A row of the bill: how many a second of what, and how much of a core that is."""

    process: str
    term: str
    count: float
    cores: float


def bill(found: Costs, load: Load) -> list[Part]:
    """What the load costs, piece by piece."""
    batches = min(load.lines, found.most[MESSAGE])  # of one build
    commits = min(load.builds * batches, found.most[COMMIT])
    each = load.viewers / max(1, load.builds)
    counts = {
        SECOND: 1.0,
        COMMIT: commits,
        CHUNK: load.builds * min(batches, found.most[COMMIT]),
        MESSAGE: load.builds * batches,
        LINE: load.builds * load.lines,
        FRAME: load.builds * batches * each,
        SENT: load.builds * load.lines * LINE_KIB * each,
        BUILD_SECOND: float(load.builds),
    }
    parts = [
        Part(figure.partition(",")[0], term, counts[term], counts[term] * price / 1e6)
        for figure, prices in found.prices.items()
        for term, price in prices.items()
    ]
    names = {PER_BUILD_APISERVER: APISERVER, PER_BUILD_BUILDER: BUILDER, PER_BUILD_OWN: RUNNERS}
    started = load.started / 60
    parts += [
        Part(name.partition(",")[0], "build, begin to end", started, started * found.build[figure] / 1000)
        for figure, name in names.items()
        if started
    ]
    return parts


def memory(found: Costs, load: Load) -> dict[str, float]:
    """MiB of the apiserver, the builder, and the runners without what all share."""
    return {
        "apiserver": found.build[BASE_APISERVER] + load.viewers * found.viewer / 1024,
        "builder": found.build[BASE_BUILDER],
        "runners": load.builds * found.build[RUNNER],
    }


def table(found: Costs, load: Load) -> str:
    """The bill as Markdown, with sums for each process."""
    parts = bill(found, load)
    rows = [["process", "what", "a second", "% of a core"]]
    processes = list(dict.fromkeys(part.process for part in parts))
    for process in processes:
        own = [part for part in parts if part.process == process]
        for part in own:
            rows.append([process, part.term, report.number(part.count), f"{part.cores:.1%}"])
        rows.append([f"**{process}**", "", "", f"**{sum(part.cores for part in own):.0%}**"])
    said = f"{load.builds} builds at once of {load.lines:g} lines/s each, with {load.viewers} viewers in all"
    if load.started:
        said += f", {load.started:g} builds begun in a minute"
    needed = memory(found, load)
    mebibytes = ", ".join(f"{name} {size:,.0f} MiB" for name, size in needed.items())
    total = sum(part.cores for part in parts)
    return "\n".join(
        [
            f"{said}:",
            "",
            *report.markdown(rows),
            "",
            f"In all {total:.2f} cores, of which the builds' own commands are no part; memory: {mebibytes}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cost.model")
    parser.add_argument("file", type=Path, help="what `python -m bench.cost` has printed")
    parser.add_argument("--builds", type=int, default=20, help="running at once")
    parser.add_argument("--lines", type=float, default=50, help="a second, of each build")
    parser.add_argument("--viewers", type=int, default=200, help="in all, evenly over the builds")
    parser.add_argument("--started", type=float, default=10, help="builds that begin in a minute")
    options = parser.parse_args()
    found = costs(report.read([options.file]))
    if found is None:
        parser.error(f"{options.file} has not all of what bench.cost measures")
    print(table(found, Load(options.builds, options.lines, options.viewers, options.started)))


if __name__ == "__main__":
    main()
