"""
``python -m bench.page [FILE...] [--page docs/performance.md]``: put what was measured into the page.

FILEs hold the JSON lines of questions; without any, those of the last runs of ``python -m bench`` are taken. Between
``<!-- bench: NAME -->`` and ``<!-- /bench -->`` the page gets new tables, and beside it in ``performance/`` come new
pictures. NAME is a question's folder, or ``machine``, or ``bars``. What wasn't measured stays as it is.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.__main__ import QUESTIONS, RESULTS
from bench.common import report
from bench.common.records import Machine, Question, Record
from bench.cost import model

PAGE = Path("docs/performance.md")

#: Of the example by which a machine's size is told.
EXAMPLE = model.Load(builds=20, lines=50, viewers=200, started=10)

_BLOCK = re.compile(r"<!-- bench: (?P<name>\S+) -->\n.*?<!-- /bench -->", re.DOTALL)


def blocks(lines: Iterable[Record], pictures: str = "performance") -> dict[str, str]:
    """The text of each block for which something was measured; ``pictures`` is their folder, as seen by the page."""
    lines = list(lines)
    machines = [line for line in lines if isinstance(line, Machine)]
    asked = report.questions(lines)
    found: dict[str, str] = {}
    if machines:
        newest = max(machines, key=lambda line: (line.date, len(line.versions)))
        commands = ", ".join(dict.fromkeys(f"`{line.command}`" for line in machines))
        found["machine"] = f"{report.machine(newest)}. Commands: {commands}."
    if report.verdicts(lines):
        found["bars"] = report.bars_table(lines)
    for folder in dict.fromkeys(_folder(question) for question in asked):
        own = [question for question in asked if _folder(question) == folder]
        found[folder] = "\n\n".join(_section(question, lines, pictures) for question in own)
    costs = model.costs(lines)
    if costs is not None:
        found["cost"] += "\n\n" + model.table(costs, EXAMPLE)
    return found


def _folder(question: Question) -> str:
    return question.name.partition("/")[0]


def _section(question: Question, lines: Iterable[Record], pictures: str) -> str:
    lines = list(lines)
    parts = []
    if report.drawn(question, lines) is not None:
        parts.append(f"![{question.title}]({pictures}/{report.picture_name(question)})")
    table = report.table(question, lines).strip()
    parts.append(_folded(f"{question.title}: figures", table) if question.axis or question.fits else table)
    if notes := report.notes(question, lines):
        parts.append(_folded("The functions that took most", "\n".join(notes).strip()))
    if question.fits:
        parts += [report.fitted(question, lines, figure) for figure in question.fits]
    return "\n\n".join(parts)


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def refreshed(page: str, new: Mapping[str, str]) -> str:
    """
    The page with new text in its blocks; a block for which there is none keeps its own.

    :raises ValueError: the page has no place for some of it
    """
    if missing := new.keys() - {match["name"] for match in _BLOCK.finditer(page)}:
        raise ValueError(f"the page has no block for {', '.join(sorted(missing))}")

    def replaced(match: re.Match[str]) -> str:
        text = new.get(match["name"])
        return match[0] if text is None else f"<!-- bench: {match['name']} -->\n\n{text.strip()}\n\n<!-- /bench -->"

    return _BLOCK.sub(replaced, page)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.page")
    parser.add_argument("files", nargs="*", type=Path, help=f"what was printed; {RESULTS}/*.jsonl")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    files = options.files or [path for name in QUESTIONS if (path := RESULTS / f"{name}.jsonl").exists()]
    if not files:
        parser.error(f"there is nothing in {RESULTS}: run `make bench`, or name files")
    lines = report.read(files)
    new = blocks(lines)
    text = options.page.read_text()
    options.page.write_text(refreshed(text, new))
    pictures = report.write_pictures(lines, options.page.parent / "performance")
    kept = sorted({match["name"] for match in _BLOCK.finditer(text)} - new.keys())
    print(f"{options.page}: {len(new)} blocks and {len(pictures)} pictures are new.", file=sys.stderr)
    if kept:
        print(f"Nothing was measured for {', '.join(kept)}: they are as they were.", file=sys.stderr)


if __name__ == "__main__":
    main()
