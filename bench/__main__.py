"""
``python -m bench [QUESTION...] [--repetitions 5] [--quick]``: the questions one after the other, or those that are
named.

Each one's JSON lines go to ``build/bench/QUESTION.jsonl`` (with ``--quick``: ``build/bench-quick``), its pictures
beside them, its tables to the standard output; at the end comes one table of all bars. `bench.page` puts them
into docs/performance.md. Exits with 1 if a measurement failed; a bar that is missed is no failure.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from bench.common import report

#: Folders beside this file that are measured by `bench.common.runs`.
QUESTIONS = (
    "ipc",
    "fanout",
    "path",
    "latency",
    "recovery",
    "cost",
    "publish",
    "serving",
    "logs",
    "search",
    "history",
    "browser",
    "profile",
)

RESULTS = Path("build/bench")
QUICK_RESULTS = Path("build/bench-quick")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--repetitions", default="5")
    parser.add_argument("--quick", action="store_true", help="once, and short: does it work?")
    options = parser.parse_args()
    if unknown := set(options.questions) - set(QUESTIONS):
        parser.error(f"there is no question {', '.join(sorted(unknown))}; there are {', '.join(QUESTIONS)}")
    results = QUICK_RESULTS if options.quick else RESULTS
    results.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    paths: list[Path] = []
    for question in options.questions or QUESTIONS:
        began = time.monotonic()
        paths.append(results / f"{question}.jsonl")
        command = [sys.executable, "-m", f"bench.{question}", "--repetitions", options.repetitions]
        with paths[-1].open("wb") as lines:
            done = subprocess.run([*command, *(["--quick"] if options.quick else [])], stdout=lines, check=False)
        if done.returncode:
            failed.append(question)
        found = report.read([paths[-1]])
        sys.stdout.writelines(f"{table}\n" for table in report.tables(found))
        report.write_pictures(found, results)
        print(f"{question} took {time.monotonic() - began:.0f} s\n", flush=True)
    print(report.bars_table(report.read(paths)))
    print(f"\nThe lines and pictures are in {results}.")
    if failed:
        sys.exit(f"Something failed in {', '.join(failed)}: see above.")


if __name__ == "__main__":
    main()
