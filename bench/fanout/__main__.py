"""
``python -m bench.fanout``: one log and many viewers.

Ours is the real ``twistd apiserver`` with its link, commits, authentication and WebSockets; in the builder's place
stands a program that sends the lines which the others get by TCP (`bench.fanout.builder`). The viewers and the source
of the lines are one program in C on a core of its own, which checks that every viewer has got every line once.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.fanout import servers
from bench.fanout.apiserver import apiserver
from bench.fanout.viewers import Serving, idle, memory, view

Serve = Callable[[], AbstractContextManager[Serving]]

OURS = "apiserver"
LIMIT = "C, the same chunks"
WS = "Node ws"
WS_BATCHED = "Node ws, our batching"
NCHAN = "nchan"
NCHAN_PIPELINED = "nchan, 64 posts under way"
SOCKETIFY = "socketify"
SOCKETIFY_BURST = "socketify, a read's lines at once"
AUTOBAHN = "Autobahn sendMessage"
WEBSOCKETS = "websockets broadcast"
AIOHTTP = "aiohttp"

SERVERS: dict[str, Serve] = {
    OURS: apiserver,
    LIMIT: servers.limit,
    WS: partial(servers.ws, "line"),
    WS_BATCHED: partial(servers.ws, "batch"),
    NCHAN: partial(servers.nchan, 1),
    NCHAN_PIPELINED: partial(servers.nchan, 64),
    SOCKETIFY: partial(servers.on, "socketify", "turn"),
    SOCKETIFY_BURST: partial(servers.on, "socketify", "burst"),
    AUTOBAHN: partial(servers.on, "autobahn"),
    WEBSOCKETS: partial(servers.on, "websockets"),
    AIOHTTP: partial(servers.on, "aiohttp"),
}

#: Lines with 100 viewers for some seconds' work, of fast programs and of slow ones.
LINES = {OURS: 300_000, LIMIT: 300_000, WS_BATCHED: 300_000, SOCKETIFY_BURST: 50_000, NCHAN_PIPELINED: 10_000}
FEW_LINES = 4_000


def flat_out(name: str, viewers: int = 100, size: int = 200, part: int = 1) -> Measured:
    """Delivered lines a second, as fast as it goes; with ``part``, only so much of the usual lines."""
    # Fewer viewers can't be given so many more lines in the same time, since what comes costs too.
    few = 10 if name in (OURS, LIMIT, WS_BATCHED) else 50
    lines = max(200, LINES.get(name, FEW_LINES) * 100 // max(few, viewers) * 200 // size // part)
    with SERVERS[name]() as serving:
        said = view(serving, viewers=viewers, lines=lines, size=size)
    return Measured(
        said["per_second"],
        {
            "lines in a frame": said["delivered"] / max(1, said["frames"]),
            "server CPU, cores": said["server_cpu"],
            "client CPU, cores": said["cpu"],
        },
    )


def steady(name: str, viewers: int, rate: int, seconds: float, sample: int = 0) -> Measured:
    """Milliseconds from a line's making to its viewers, of 99 in 100."""
    with SERVERS[name]() as serving:
        said = view(serving, viewers=viewers, lines=int(rate * seconds), rate=rate, sample=sample)
        resident = memory(serving)
    return Measured(
        said["latency_us"]["p99"] / 1000,
        {
            "median, ms": said["latency_us"]["p50"] / 1000,
            "longest, ms": said["latency_us"]["max"] / 1000,
            "server CPU, cores": said["server_cpu"],
            "resident, MiB": resident / (1 << 20),
        },
    )


def resting(name: str, viewers: int) -> Measured:
    """KiB of memory a viewer."""
    with SERVERS[name]() as serving:
        return Measured(idle(serving, viewers) / 1024)


def questions(options: Namespace) -> Iterator[Asked]:
    """All of them; what the plots need is measured once."""
    part = 4 if options.quick else 1
    yield (
        Question(
            name="fanout/rate",
            title="One log, 100 viewers, 200-byte lines as fast as it goes",
            unit="delivered lines/s",
            ours=OURS,
            bars={
                WS: Bar(80),
                NCHAN: Bar(60),
                NCHAN_PIPELINED: Bar(60),
                SOCKETIFY: Bar(50),
                SOCKETIFY_BURST: Bar(50),
                AUTOBAHN: Bar(80),
                WS_BATCHED: Bar(1.2),
                LIMIT: Bar(0.7),
            },
        ),
        [Candidate(name, partial(flat_out, name, part=part)) for name in SERVERS],
    )
    yield (
        Question(
            name="fanout/latency",
            title="From a line to its viewers: 200 lines/s, 200 viewers, 99 in 100",
            unit="ms",
            ours=OURS,
            bars={WS: Bar(0.2, at_most=True), NCHAN: Bar(1.0, at_most=True)},
            lower_is_better=True,
        ),
        [Candidate(name, partial(steady, name, 200, 200, 4 / part)) for name in (OURS, WS, NCHAN, SOCKETIFY, LIMIT)],
    )
    yield (
        Question(
            name="fanout/idle",
            title="Resident memory for each of 1,000 idle viewers",
            unit="KiB",
            ours=OURS,
            bars={WS: Bar(1.0, at_most=True)},
            lower_is_better=True,
        ),
        [Candidate(name, partial(resting, name, 1000)) for name in (OURS, WS, NCHAN, SOCKETIFY, AUTOBAHN)],
    )
    yield (
        Question(
            name="fanout/many",
            title="5,000 viewers of one log at 100 lines/s: from a line to its viewers, 99 in 100",
            unit="ms",
            ours=OURS,
            must={"": Bar(1000, at_most=True), "resident, MiB": Bar(400, at_most=True)},
            lower_is_better=True,
        ),
        [Candidate(OURS, partial(steady, OURS, 5000, 100, 6 / part, 500))],
    )
    yield from curves(options.quick, part)


def curves(quick: bool, part: int) -> Iterator[Asked]:
    """Throughput against viewers and against the lines' size, latency against load and against viewers."""
    yield (
        Question(
            name="fanout/viewers",
            title="Delivered lines/s against viewers",
            unit="delivered lines/s",
            ours=OURS,
            axis="viewers",
            repetitions=1,
        ),
        [
            Candidate(name, partial(flat_out, name, viewers, part=part), at=viewers)
            for viewers in ((10, 1000) if quick else (1, 10, 100, 1000, 5000))
            for name in (OURS, LIMIT, WS, WS_BATCHED, NCHAN_PIPELINED)
        ],
    )
    yield (
        Question(
            name="fanout/sizes",
            title="Delivered lines/s against the lines' size, 100 viewers",
            unit="delivered lines/s",
            ours=OURS,
            axis="bytes",
            repetitions=1,
        ),
        # Longer lines than 16 KiB come as several.
        [
            Candidate(name, partial(flat_out, name, 100, size, part), at=size)
            for size in ((50, 16_000) if quick else (50, 200, 1000, 4000, 16_000))
            for name in (OURS, LIMIT, WS, WS_BATCHED, NCHAN_PIPELINED)
        ],
    )
    yield (
        Question(
            name="fanout/load",
            title="From a line to its 200 viewers against the load, 99 in 100",
            unit="ms",
            ours=OURS,
            axis="lines/s",
            lower_is_better=True,
            repetitions=1,
        ),
        [
            Candidate(name, partial(steady, name, 200, rate, 3 / part), at=rate)
            for rate in ((200,) if quick else (20, 200, 500, 1000, 5000))
            for name in (OURS, WS, NCHAN)
            if not (name != OURS and rate > 500)
        ],
    )
    yield (
        Question(
            name="fanout/crowd",
            title="From a line to its viewers against their number, 200 lines/s, 99 in 100",
            unit="ms",
            ours=OURS,
            axis="viewers",
            lower_is_better=True,
            repetitions=1,
        ),
        [
            Candidate(name, partial(steady, name, viewers, 200, 3 / part), at=viewers)
            for viewers in ((100,) if quick else (1, 10, 100, 1000, 5000))
            for name in (OURS, WS, NCHAN)
            if not (name != OURS and viewers > 1000)
        ],
    )


if __name__ == "__main__":
    command("bench.fanout", questions)
