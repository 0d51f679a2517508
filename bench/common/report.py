"""
``python -m bench.common.report FILE... [--pictures FOLDER]``: what the JSON lines of benchmarks amount to.

One table a question, as Markdown: medians, their range, our value divided by each candidate's, and whether that reaches
the bar; below it what was skipped, and what failed. At the end all bars in one table. One picture a question.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from bench.common import picture, records
from bench.common.fit import explained, fit
from bench.common.records import Bar, Broken, Machine, Note, Question, Record, Sample, Skipped

#: Samples of a question, by candidate and place on its axis.
Samples = dict[tuple[str, float], list[Sample]]

_Kind = TypeVar("_Kind", Sample, Skipped, Broken, Note)


def read(paths: Iterable[Path]) -> list[Record]:
    """The records of these files."""
    return [records.decoder.decode(line) for path in paths for line in path.read_bytes().splitlines()]


def questions(lines: Iterable[Record]) -> list[Question]:
    """All that were asked."""
    return [line for line in lines if isinstance(line, Question)]


# -- tables ----------------------------------------------------------------------------------------------------------


def tables(lines: Iterable[Record]) -> Iterator[str]:
    """One text for each machine line and each question."""
    lines = list(lines)
    for line in lines:
        if isinstance(line, Machine):
            yield f"`{line.command}`, {machine(line)}\n"
        elif isinstance(line, Question):
            prices_of = [f"{fitted(line, lines, figure)}\n" for figure in line.fits]
            yield "\n".join([f"### {line.name}\n", table(line, lines), *prices_of, *notes(line, lines)])


def machine(line: Machine) -> str:
    """When and on what it ran."""
    versions = ", ".join(f"{name} {version}" for name, version in line.versions.items())
    busy = f"a load of {line.load:g} when it began"
    return f"{line.date}, {line.cores} cores ({line.processor}), {busy}, {line.system}; {versions}"


def table(question: Question, lines: Iterable[Record]) -> str:
    """Return the findings as Markdown, without the remarks."""
    lines = list(lines)
    samples = samples_of(question, lines)
    medians = medians_of(samples)
    further = list(dict.fromkeys(name for found in samples.values() for sample in found for name in sample.more))
    heads = ["candidate", *([question.axis] if question.axis else []), question.unit]
    names = {name for name, _ in samples}
    compared = len(names) > 1 and question.ours in names and not question.fits
    repeated = max((len(found) for found in samples.values()), default=0)
    rows = [[*heads, *(["lowest to highest"] if repeated > 1 else []), *further, *(["ours / it"] if compared else [])]]
    for (name, at), found in samples.items():
        median = medians[name, at]
        row = [name, *([f"{at:,.10g}"] if question.axis else []), number(median)]
        if repeated > 1:
            row.append(" to ".join(number(edge(sample.value for sample in found)) for edge in (min, max)))
        for other in further:
            values = [sample.more[other] for sample in found if other in sample.more]
            row.append(number(statistics.median(values)) if values else "")
        if compared:
            ours = medians.get((question.ours, at))
            row.append("" if ours is None or not median or name == question.ours else f"{ours / median:.2f}")
        rows.append(row)
    said = question.title
    if question.ours:
        said += f" ({'less' if question.lower_is_better else 'more'} is better; "
        said += "measured once)" if repeated == 1 else f"{repeated} repetitions)"
    reasons = [f"{line.candidate} was skipped: {line.reason}" for line in _about(question, lines, Skipped)]
    reasons += [f"{line.candidate} failed: {line.reason}" for line in _about(question, lines, Broken)]
    parts = [said, "\n".join(markdown(rows))]
    parts += reasons
    return "\n\n".join(parts) + "\n"


def notes(question: Question, lines: Iterable[Record]) -> list[str]:
    """Return the remarks as Markdown."""
    return [f"{line.candidate}:\n\n```\n{line.text}\n```\n" for line in _about(question, lines, Note)]


def _about(question: Question, lines: Iterable[Record], kind: type[_Kind]) -> list[_Kind]:
    return [line for line in lines if isinstance(line, kind) and line.question == question.name]


def prices(question: Question, lines: Iterable[Record], figure: str) -> dict[str, float]:
    """Return what one piece of each term costs, in microseconds."""
    samples = [sample for sample in _about(question, lines, Sample) if figure in sample.more]
    totals = [sample.more[figure] * 1000 for sample in samples]
    return fit(totals, [sample.more for sample in samples], question.fits[figure])


def fitted(question: Question, lines: Iterable[Record], figure: str) -> str:
    """The prices as a table, and how well they explain what was measured."""
    found = prices(question, lines, figure)
    samples = [sample for sample in _about(question, lines, Sample) if figure in sample.more]
    errors = [abs(explained(sample.more, found) / (sample.more[figure] * 1000) - 1) for sample in samples]
    rows = [["costs", "µs apiece"], *([term, number(price)] for term, price in found.items())]
    text = "\n".join(markdown(rows))
    if not errors:
        return text
    wrong = f"{statistics.median(errors):.0%} in the median, {max(errors):.0%} at most"
    return f"{figure}, by least squares:\n\n{text}\n\nThe measurements differ from that by {wrong}."


# -- bars ------------------------------------------------------------------------------------------------------------


def verdicts(lines: Iterable[Record]) -> list[list[str]]:
    """All bars: rows of what, against what, ours, theirs, the ratio, its range over the repetitions, bar, verdict."""
    lines = list(lines)
    rows = []
    for question in questions(lines):
        samples = samples_of(question, lines)
        for figure, bar in question.must.items():
            rows.append(_must(question, samples, figure, bar))
        for peer, bar in question.bars.items():
            rows.append(_ratio(question, samples, peer, bar))
        # A line that is lost or seen twice in one repetition isn't outweighed by the others.
        if _about(question, lines, Broken):
            rows.append([question.title, "", "", "", "", "", "nothing fails", "FAILED"])
    return rows


def _must(question: Question, samples: Samples, figure: str, bar: Bar) -> list[str]:
    values = [
        sample.value if not figure else sample.more[figure]
        for sample in samples.get((question.ours, 0.0), [])
        if not figure or figure in sample.more
    ]
    name, _, unit = figure.rpartition(", ") if ", " in figure else (figure, "", "")
    what = f"{question.title}: {name}" if figure else question.title
    if not values:
        return [what, "", "", "", "", "", str(bar), "not measured"]
    middle = statistics.median(values)
    shown = f"{number(middle)} {unit if figure else question.unit}".strip()
    verdict = "reached" if bar.reached(middle) else "MISSED"
    return [what, "", shown, "", "", _range(values), str(bar), verdict]


def _ratio(question: Question, samples: Samples, peer: str, bar: Bar) -> list[str]:
    ours, theirs = samples.get((question.ours, 0.0), []), samples.get((peer, 0.0), [])
    if not ours or not theirs:
        return [question.title, peer, "", "", "", "", str(bar), "not measured"]
    medians = [statistics.median(sample.value for sample in found) for found in (ours, theirs)]
    ratio = medians[0] / medians[1]
    found = {sample.repetition: sample.value for sample in theirs}
    ratios = [sample.value / found[sample.repetition] for sample in ours if sample.repetition in found]
    verdict = "reached" if bar.reached(ratio) else "MISSED"
    shown = [f"{number(median)} {question.unit}" for median in medians]
    return [question.title, peer, *shown, f"{ratio:.3g}", _range(ratios), str(bar), verdict]


def _range(values: Sequence[float]) -> str:
    return f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""


def bars_table(lines: Iterable[Record]) -> str:
    """All bars as a table, and how many are reached."""
    rows = verdicts(lines)
    heads = ["what", "against", "ours", "it", "ours / it", "by repetition", "bar", ""]
    count = sum(row[-1] == "reached" for row in rows)
    return "\n".join([*markdown([heads, *rows]), "", f"{count} of {len(rows)} bars are reached."])


# -- pictures --------------------------------------------------------------------------------------------------------


def picture_name(question: Question) -> str:
    """The file of a question's picture."""
    return f"{question.name.replace('/', '-')}.svg"


def drawn(question: Question, lines: Iterable[Record]) -> str | None:
    """A question as SVG: bars, or curves where it has an axis; None if there is nothing to compare."""
    medians = medians_of(samples_of(question, lines))
    if question.axis and medians:
        lines_of: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for (name, at), median in medians.items():
            lines_of[name].append((at, median))
        return picture.curves(question.title, question.axis, question.unit, lines_of)
    if len(medians) < 2 or not question.ours:
        return None
    return picture.bars(question.title, question.unit, {name: median for (name, _), median in medians.items()})


def write_pictures(lines: Iterable[Record], folder: Path) -> list[Path]:
    """One SVG a question that has one; their paths."""
    lines = list(lines)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for question in questions(lines):
        svg = drawn(question, lines)
        if svg is not None:
            written.append(folder / picture_name(question))
            written[-1].write_text(svg)
    return written


# -- parts -----------------------------------------------------------------------------------------------------------


def samples_of(question: Question, lines: Iterable[Record]) -> Samples:
    """Its samples, by candidate and place, in the order of the places."""
    found: Samples = defaultdict(list)
    for line in _about(question, lines, Sample):
        found[line.candidate, line.at].append(line)
    return dict(sorted(found.items(), key=lambda item: item[0][1]))


def medians_of(samples: Mapping[tuple[str, float], Sequence[Sample]]) -> dict[tuple[str, float], float]:
    """The median of each."""
    return {key: statistics.median(sample.value for sample in found) for key, found in samples.items()}


def markdown(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for index, row in enumerate(rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if index == 0:
            yield "| " + " | ".join("-" * width for width in widths) + " |"


def number(value: float) -> str:
    """Three digits that count, and no more."""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.common.report")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--pictures", type=Path, help="write one SVG a question into this folder")
    options = parser.parse_args()
    lines = read(options.files)
    sys.stdout.writelines(f"{table}\n" for table in tables(lines))
    print(bars_table(lines))
    if options.pictures is not None:
        write_pictures(lines, options.pictures)


if __name__ == "__main__":
    main()
