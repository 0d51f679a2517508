"""
``python -m bench.common.report FILE... [--pictures FOLDER]``: what the JSON lines of benchmarks amount to.

One table a question, as Markdown: medians, their range, our value divided by each candidate's, and whether that reaches
the bar; below it who was skipped, and why. One picture a question.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.common import picture, records
from bench.common.records import Machine, Question, Record, Sample, Skipped


def read(paths: Iterable[Path]) -> list[Record]:
    """The records of these files."""
    return [records.decoder.decode(line) for path in paths for line in path.read_bytes().splitlines()]


def tables(lines: Iterable[Record]) -> Iterator[str]:
    """One text for each machine line and each question."""
    lines = list(lines)
    for line in lines:
        if isinstance(line, Machine):
            versions = ", ".join(f"{name} {version.removeprefix('v')}" for name, version in line.versions.items())
            yield f"`{line.command}`, {line.date}, {line.cores} cores ({line.processor}), {line.system}; {versions}\n"
        elif isinstance(line, Question):
            yield _table(line, _samples(line, lines), [x for x in _skipped(lines) if x.question == line.name])


def write_pictures(lines: Iterable[Record], folder: Path) -> None:
    """One SVG a question: bars, or curves where the question has an axis."""
    lines = list(lines)
    folder.mkdir(parents=True, exist_ok=True)
    for question in lines:
        if not isinstance(question, Question):
            continue
        medians = {
            key: statistics.median(sample.value for sample in found) for key, found in _samples(question, lines).items()
        }
        if question.axis:
            curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for (name, at), median in medians.items():
                curves[name].append((at, median))
            drawn = picture.curves(question.title, question.axis, question.unit, curves)
        else:
            drawn = picture.bars(question.title, question.unit, {name: median for (name, _), median in medians.items()})
        (folder / f"{question.name.replace('/', '-')}.svg").write_text(drawn)


def _samples(question: Question, lines: Iterable[Record]) -> dict[tuple[str, float], list[Sample]]:
    found: dict[tuple[str, float], list[Sample]] = defaultdict(list)
    for line in lines:
        if isinstance(line, Sample) and line.question == question.name:
            found[line.candidate, line.at].append(line)
    return dict(sorted(found.items(), key=lambda item: item[0][1]))


def _skipped(lines: Iterable[Record]) -> Iterator[Skipped]:
    return (line for line in lines if isinstance(line, Skipped))


def _table(question: Question, samples: dict[tuple[str, float], list[Sample]], skipped: Iterable[Skipped]) -> str:
    medians = {key: statistics.median(sample.value for sample in found) for key, found in samples.items()}
    further = sorted({name for found in samples.values() for sample in found for name in sample.more})
    heads = ["candidate", *([question.axis] if question.axis else []), f"median, {question.unit}", "lowest to highest"]
    rows = [[*heads, *further, "ours / it", "bar", ""]]
    for (name, at), found in samples.items():
        median = medians[name, at]
        row = [name, *([f"{at:g}"] if question.axis else []), number(median)]
        row.append(
            f"{number(min(sample.value for sample in found))} to {number(max(sample.value for sample in found))}"
        )
        for other in further:
            values = [sample.more[other] for sample in found if other in sample.more]
            row.append(number(statistics.median(values)) if values else "")
        ours, bar = medians.get((question.ours, at)), question.bars.get(name)
        ratio = ours / median if ours is not None and median and name != question.ours else None
        row.append("" if ratio is None else f"{ratio:.2f}")
        row.append("" if bar is None else str(bar))
        row.append("" if bar is None or ratio is None else "reached" if bar.reached(ratio) else "MISSED")
        rows.append(row)
    repetitions = max((len(found) for found in samples.values()), default=0)
    said = f"{question.title} ({'less' if question.lower_is_better else 'more'} is better; {repetitions} repetitions)"
    reasons = [f"{line.candidate} was skipped: {line.reason}" for line in skipped]
    return "\n".join([f"### {question.name}", "", said, "", *_markdown(rows), "", *reasons])


def _markdown(rows: list[list[str]]) -> Iterator[str]:
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
    if options.pictures is not None:
        write_pictures(lines, options.pictures)


if __name__ == "__main__":
    main()
