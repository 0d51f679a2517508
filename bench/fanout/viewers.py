"""The load (`load.c`), compiled when it is first needed, and what it finds at a server."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common.processes import CLIENT_CORE, Failed, Program, found

#: Its program.
LOAD = Path(__file__).with_name("load.c")

#: Seconds after which a load gives up.
DEADLINE = 90.0

#: Seconds for a server with idle viewers to come to rest.
REST = 2.0


@dataclass(frozen=True)
class Serving:
    """A server that is ready: where its viewers and its lines go."""

    program: Program
    port: int
    feed_port: int
    path: str = "/"
    headers: tuple[str, ...] = ()
    feed_form: str = "lines"
    feed_path: str = "/"
    posts: int = 1  # how many may be unanswered, where the form is post
    folder: Path = Path()  # of an apiserver: where its configuration is


def view(
    serving: Serving, *, viewers: int, lines: int, rate: float = 0, size: int = 200, sample: int = 2
) -> dict[str, Any]:
    """
    Feed the lines (``rate`` a second; 0: as fast as they are taken) and read them by so many viewers. What ``load.c``
    prints, and ``server_cpu``, the server's share of a core.

    :raises Failed: a viewer has not got each line once, in order
    """
    command = [*load_command(serving, viewers), *feeding(serving, lines, rate, size, sample)]
    with Program(command, core=CLIENT_CORE) as load:
        began, spent = time.monotonic(), _cpu(serving.program.pid)
        said = load.said(DEADLINE + 30)
        said["server_cpu"] = (_cpu(serving.program.pid) - spent) / (time.monotonic() - began)
    if not said["complete"]:
        raise Failed(f"lines are missing: {said}")
    return said


def feeding(serving: Serving, lines: int, rate: float = 0, size: int = 200, sample: int = 2) -> list[str]:
    """The options of a load that feeds its viewers itself."""
    return [
        *("--lines", str(lines), "--rate", str(rate), "--size", str(size), "--sample", str(sample)),
        *("--feed-port", str(serving.feed_port), "--feed-form", serving.feed_form, "--feed-path", serving.feed_path),
        *("--posts", str(serving.posts), "--timeout", str(DEADLINE)),
    ]


def idle(serving: Serving, viewers: int) -> float:
    """Bytes that each of so many idle viewers adds to the server's resident memory."""
    time.sleep(REST / 2)
    before = memory(serving)
    with Program([*load_command(serving, viewers), "--hold"], core=CLIENT_CORE) as load:
        load.said(DEADLINE)
        time.sleep(REST)
        return (memory(serving) - before) / viewers


def memory(serving: Serving) -> int:
    """The server's resident memory in bytes, children included."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _family(serving.program.pid))
    return pages * os.sysconf("SC_PAGE_SIZE")


@functools.cache
def compiled(source: Path) -> str:
    """The program of a C file, compiled once a run."""
    program = Path(_folder().name) / source.stem
    compiler = found("cc", "a C compiler")
    subprocess.run([compiler, "-O3", "-march=native", "-Wall", "-Wextra", "-o", program, source], check=True)
    return str(program)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="twistedipc-bench-")


def load_command(serving: Serving, viewers: int) -> list[str]:
    """The command of so many viewers, without what they are to read."""
    program = compiled(LOAD)
    headers = [word for header in serving.headers for word in ("--header", header)]
    return [program, "--port", str(serving.port), "--path", serving.path, "--viewers", str(viewers), *headers]


def _family(pid: int) -> list[int]:
    """The process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _cpu(pid: int) -> float:
    ticks = 0
    for each in _family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
