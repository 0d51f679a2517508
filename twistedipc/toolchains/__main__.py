"""
The step ``toolchain`` of an attempt::

    python -m twistedipc.toolchains FOLDER

``FOLDER`` is the attempt's. What is wanted is in ``tools-wanted.json``; what the steps get is written to
``toolchain.json`` in the step's folder ``out``, or ``failure.json`` there says why there is nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from twistedipc.attempts.folder import out_of
from twistedipc.builds.attempt import Failure, Spec
from twistedipc.disk.files import read_file, write_file
from twistedipc.toolchains.fetch import Fetching
from twistedipc.toolchains.machine import Machine, this_kind
from twistedipc.toolchains.problems import ToolProblem
from twistedipc.toolchains.wanted import Wanted


def main(arguments: list[str]) -> int:
    """Prepare the tools of an attempt: the step's exit code."""
    if len(arguments) != 1:
        sys.exit(__doc__)
    folder = Path(arguments[0])
    spec = read_file(folder / "spec.json", Spec)
    wanted = read_file(folder / "tools-wanted.json", Wanted)
    if spec is None or spec.tools is None or wanted is None:
        sys.exit(f"{folder} says of no tools that are wanted")
    out = out_of(folder)
    fetching = Fetching(
        spec.tools,
        spec.environment,
        spec.path,
        Machine(this_kind(), spec.path),
        folder / "home",
        say=lambda line: print(line, flush=True),
        now=lambda: time.time_ns() // 1_000_000,
    )
    try:
        found = fetching.prepare(wanted)
    except (ToolProblem, OSError) as error:
        # A full disk is seen by these words, and the step is tried again.
        reason = str(error) if isinstance(error, ToolProblem) else f"the builder's store can't be written: {error}"
        print(reason, file=sys.stderr, flush=True)
        write_file(out / "failure.json", Failure(reason=reason))
        return 1
    for line in found.said:
        print(line, flush=True)
    for remark in found.remarks:
        print(f"warning: {remark}", flush=True)
    write_file(out / "toolchain.json", found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
