"""
``python -m bench [QUESTION...] [--repetitions 5]``: the questions one after the other, or those that are named.

`bench.latency`, `bench.path` and `bench.recovery` measure the platform itself, and are run by themselves.
Each one's JSON lines go to ``build/bench/QUESTION.jsonl``, its pictures beside them, its tables to the standard output.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.common import report

#: Folders beside this file that are measured by `bench.common.runs`.
QUESTIONS = ("ipc", "fanout")

RESULTS = Path("build/bench")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--repetitions", default="5")
    options = parser.parse_args()
    if unknown := set(options.questions) - set(QUESTIONS):
        parser.error(f"there is no question {', '.join(sorted(unknown))}; there are {', '.join(QUESTIONS)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for question in options.questions or QUESTIONS:
        path = RESULTS / f"{question}.jsonl"
        command = [sys.executable, "-m", f"bench.{question}", "--repetitions", options.repetitions]
        with path.open("wb") as lines:
            subprocess.run(command, stdout=lines, check=True)
        found = report.read([path])
        sys.stdout.writelines(f"{table}\n" for table in report.tables(found))
        report.write_pictures(found, RESULTS)
    print(f"The lines and pictures are in {RESULTS}.")


if __name__ == "__main__":
    main()
