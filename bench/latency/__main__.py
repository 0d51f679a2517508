"""
``python -m bench.latency``: how long a line takes from the build that writes it to a viewer that reads it.

Both services as real processes, on the embedded default (SQLite, a UNIX socket), with durable journals and commits. A
build prints lines of 200 bytes with the time in them at a steady rate; what is due is printed at once. The viewer is
the program in C of `bench.fanout`, which compares the time with its own clock and checks that every line comes once.

- ``latency/steady``: 1,000 lines/s;
- ``latency/load``: from 10 to 100,000 lines/s.
"""

from __future__ import annotations

import functools
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial

from bench.common.processes import Failed, Program
from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.fanout.viewers import DEADLINE, LOAD, compiled
from bench.path.ways import platform

OURS = "the whole way"

#: Waits for a file, then prints; lines as `load.c` wants them.
_PRINTER = """
import os, sys, time
rate, seconds, go = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
while not os.path.exists(go):
    time.sleep(0.005)
begin, printed, total, filling = time.monotonic(), 0, int(rate * seconds), "x" * 169
while printed < total:
    due = min(total, int((time.monotonic() - begin) * rate) + 1)
    if due > printed:
        now = time.monotonic_ns()
        sys.stdout.write("".join(f"#{number + 1:08d} {now:019d} {filling}\\n" for number in range(printed, due)))
        sys.stdout.flush()
        printed = due
    else:
        time.sleep(max(0, begin + printed / rate - time.monotonic()))
"""


def steady(rate: int, seconds: float) -> Measured:
    """Milliseconds from a line's print to the viewer, of 99 in 100."""
    with platform() as services:
        go = services.shared / "go"
        step = f"{sys.executable} -I printer.py {rate} {seconds} {go}"
        repository = services.repository({"printer.py": _PRINTER, ".twistedipc.toml": f"[build]\nsteps = ['{step}']\n"})
        services.add_project("steady", repository, publish={})
        build = services.build("steady")
        services.wait(build, {"running"})
        lines = int(rate * seconds)
        load = [
            *(compiled(LOAD), "--port", str(services.port), "--viewers", "1", "--sample", "0", "--lines", str(lines)),
            *("--path", f"/api/v1/builds/{build}/log/stream", "--go", str(go), "--timeout", str(DEADLINE)),
            *("--header", f"Authorization: Bearer {services.token}"),
        ]
        with Program(load) as viewer:
            said = viewer.said(DEADLINE + 30)
        if not said["complete"]:
            raise Failed(f"lines are missing: {said}")
        services.succeed(build)
    return Measured(
        said["latency_us"]["p99"] / 1000,
        {
            "median, ms": said["latency_us"]["p50"] / 1000,
            "longest, ms": said["latency_us"]["max"] / 1000,
            "lines in a frame": lines / said["frames"],
        },
    )


def questions(options: Namespace) -> Iterator[Asked]:
    """Both."""
    seconds = 2.0 if options.quick else options.seconds
    yield (
        Question(
            name="latency/steady",
            title="The whole way at 1,000 lines/s, from a line's print to a viewer: 99 in 100",
            unit="ms",
            ours=OURS,
            must={"": Bar(50, at_most=True), "median, ms": Bar(10, at_most=True)},
            lower_is_better=True,
        ),
        [Candidate(OURS, partial(steady, 1000, seconds))],
    )
    # Measured once, for two curves.
    found = functools.cache(lambda rate: steady(rate, seconds))
    yield (
        Question(
            name="latency/load",
            title="The whole way, one viewer: from a line's print to the viewer, against the load",
            unit="ms",
            ours="",
            axis="lines/s",
            lower_is_better=True,
            repetitions=1,
        ),
        [
            candidate
            for rate in ((100, 10_000) if options.quick else (10, 100, 1000, 10_000, 30_000, 100_000))
            for candidate in (
                Candidate("99 in 100", partial(found, rate), at=rate),
                Candidate("median", partial(_median, found, rate), at=rate),
            )
        ],
    )


def _median(found: functools._lru_cache_wrapper[Measured], rate: int) -> Measured:
    return Measured(found(rate).more["median, ms"])


def add_options(parser: ArgumentParser) -> None:
    """What only this has."""
    parser.add_argument("--seconds", type=float, default=5.0, help="of printing, each time")


if __name__ == "__main__":
    command("bench.latency", questions, add_options)
