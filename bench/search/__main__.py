"""
``python -m bench.search``: search in a sealed log of 1 GiB of text, over HTTP at the real apiserver, in seconds of its
processor time for the exact count.

Beside it is `ripgrep` on the same text as a plain file. Each measurement has an apiserver of its own, so the memory
that the first search takes for good is in it. ``--mib`` makes the log smaller.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from bench.common.processes import Failed, found
from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.search.made import RARE, make_logs
from bench.search.served import served

OURS = "twistedipc"
RIPGREP = "ripgrep, plain text"

#: name -> title, what is asked for, ripgrep's options for the same
SEARCHES: dict[str, tuple[str, dict[str, str | int], list[str]]] = {
    "word": ("A word in few lines", {"q": RARE, "case": 1}, ["-F", RARE]),
    "expression": (
        "A regular expression for few lines, ignoring case",
        {"q": "err_benched_[a-z_]+ at step [0-9]", "kind": "regex"},
        ["-i", "err_benched_[a-z_]+ at step [0-9]"],
    ),
    "errors": (
        "A regular expression for two lines of a chunk, ignoring case",
        {"q": "cannot find module '[^']+'.*declar", "kind": "regex"},
        ["-i", "cannot find module '[^']+'.*declar"],
    ),
    "scan": (
        "A regular expression that tells nothing about its lines, ignoring case",
        {"q": "[x-z][0-9a-f]{7}[g-j]", "kind": "regex"},
        ["-i", "[x-z][0-9a-f]{7}[g-j]"],
    ),
    "many": ("A word in a quarter of all lines", {"q": "warning", "case": 1}, ["-F", "warning"]),
}


def questions(options: argparse.Namespace) -> Iterator[Asked]:
    """One for each search."""
    size = (64 if options.quick else options.mib) << 20
    with tempfile.TemporaryDirectory(prefix="twistedipc-bench-") as name:
        folder = Path(name)
        text, sealed = make_logs(folder, size)
        for search, (title, query, pattern) in SEARCHES.items():
            bars = {
                "": Bar(2.0 * size / (1 << 30), at_most=True),
                "by the clock, s": Bar(1.0 * size / (1 << 30), at_most=True),
                "first hit, ms": Bar(100, at_most=True),
                "more memory, MiB": Bar(32, at_most=True),
            }
            yield (
                Question(
                    name=f"search/{search}",
                    title=f"{title}: {text.stat().st_size / 1e9:.2f} GB of text, {sealed / 1e6:.0f} MB sealed",
                    unit="s of processor time",
                    ours=OURS,
                    must=bars if search in ("word", "expression") else {},
                    lower_is_better=True,
                ),
                [
                    Candidate(OURS, partial(_ours, folder, query)),
                    Candidate(RIPGREP, partial(_ripgrep, text, pattern)),
                ],
            )


def _ours(folder: Path, query: dict[str, str | int]) -> Measured:
    with served(folder) as server:
        before = _memory(server.pid, "VmRSS")
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak is that of now
        first, _, _, _ = _search(server.port, server.token, {**query, "limit": 1, "count": 0})
        used, began = _processor_time(server.pid), time.monotonic()
        again, matches, complete, missing = _search(server.port, server.token, {**query, "limit": 100})
        wall, used = time.monotonic() - began, _processor_time(server.pid) - used
        assert complete, "the search ended before the log did"
        assert not missing, f"{missing} records are missing"
        peak = _memory(server.pid, "VmHWM") - before
    return Measured(
        used,
        {
            "by the clock, s": wall,
            "first hit, ms": 1000 * again,
            "very first hit, ms": 1000 * first,
            "more memory, MiB": peak / 1024,
            "lines": matches,
        },
    )


def _search(port: int, token: str, query: dict[str, str | int]) -> tuple[float, int, bool, int]:
    """Return the seconds until the first message, and of the end: the count, whether it is exact, what is missing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.monotonic()
    path = f"/api/v1/builds/1/log/search?{urlencode({**query, 'format': 'ndjson'})}"
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    line = response.readline()
    first = time.monotonic() - began
    while following := response.readline():
        line = following
    end = json.loads(line)
    assert end["type"] == "end", end
    return first, end["matches"], end["complete"], end["missing"]


def _ripgrep(text: Path, pattern: list[str]) -> Measured:
    program = found("rg", "ripgrep")
    text.read_bytes()[:0]  # it is in the system's cache, as the ledger is
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([program, "--count", "--no-config", *pattern, str(text)], capture_output=True, check=False)
    if done.returncode > 1:  # 1: no line matches
        raise Failed(done.stderr.decode("utf-8", "replace"))
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(used, {"by the clock, s": wall, "lines": float(done.stdout or 0)})


def _memory(pid: int, name: str) -> float:
    """Return a figure of a process's memory, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return float(line.split()[1])
    raise AssertionError(f"the system doesn't tell {name}")


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mib", type=int, default=1024, help="how much text the log has (%(default)s)")


if __name__ == "__main__":
    command("bench.search", questions, _add_options)
