"""
What is measured: the processor time that the processes need under steady loads, with what they did meanwhile counted.
"""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from pathlib import Path

from bench.common.processes import CLIENT_CORE, Failed, Program, spent, spent_by_ended_children
from bench.common.runs import Measured
from bench.cost.chunks import Chunks
from bench.fanout.apiserver import apiserver
from bench.fanout.viewers import DEADLINE, load_command, memory
from bench.path.ways import platform, project
from bench.recovery.builds import SteadyBuilds
from bench.recovery.memory import MIB, resident, shares
from tests.integration.platform import wait_for
from twistedipc.attempts.liveness import lock_owner

#: Figures of a measurement: processor time in milliseconds, and what was done for it.
APISERVER, BUILDER, RUNNERS = "apiserver, CPU ms", "builder, CPU ms", "runners, CPU ms"
SECOND, MESSAGE, COMMIT, CHUNK, LINE = "second", "link message", "commit", "log in a commit", "line"
FRAME, SENT, BUILD_SECOND = "frame to a viewer", "KiB to viewers", "build and second"

#: Figures of a build and of viewers.
PER_BUILD_APISERVER, PER_BUILD_BUILDER, PER_BUILD_OWN = "apiserver, ms", "builder, ms", "runner, git and sh, ms"
BASE_APISERVER, BASE_BUILDER, RUNNER = "apiserver, MiB", "builder, MiB", "a runner's own, MiB"
VIEWER_KIB, VIEWER_SECOND = "KiB", "µs a second, idle"

#: Seconds for a load to come to rest before it is measured.
REST = 0.5


def viewers(rate: int, block: int, count: int, seconds: float) -> Measured:
    """
    The apiserver alone, with ``count`` viewers of one log, to which ``rate`` messages of ``block`` lines a second come:
    its share of a core.
    """
    with apiserver() as serving, tempfile.TemporaryDirectory() as folder:
        pid, go, total = serving.program.pid, Path(folder) / "go", max(1, int(rate * seconds)) * block
        command = [*load_command(serving, count), "--lines", str(total), "--go", str(go), "--timeout", str(DEADLINE)]
        with Program(command, core=CLIENT_CORE) as load:
            wait_for("all viewers are there", go.exists, DEADLINE)
            time.sleep(REST)
            chunks = Chunks(serving.folder / "data" / "ledger.sqlite")
            began, before = time.monotonic(), spent(pid)
            source = threading.Thread(target=_feed, args=(serving.feed_port, rate, block, total), daemon=True)
            source.start()
            said = load.said(DEADLINE + 30)
            source.join()
            used, took = spent(pid) - before, time.monotonic() - began
        if not said["complete"]:
            raise Failed(f"lines are missing: {said}")
        time.sleep(0.1)  # the last commit
        stored = chunks.since()
        return Measured(
            used / took,
            {
                APISERVER: used * 1000,
                SECOND: took,
                COMMIT: stored.commits,
                CHUNK: stored.chunks,
                MESSAGE: said["frames"] / count,
                LINE: total,
                FRAME: said["frames"],
                SENT: said["bytes"] / 1024,
            },
        )


def _feed(port: int, rate: int, block: int, total: int) -> None:
    """So many blocks a second, each in a message of its own as long as none is late."""
    filling = "x" * 169
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as feed:
        feed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(0, total, block):
            time.sleep(max(0.0, begin + number / block / rate - time.monotonic()))
            now = time.monotonic_ns()
            lines = [f"#{line + 1:08d} {now:019d} {filling}\n" for line in range(number, number + block)]
            feed.sendall("".join(lines).encode())


def builds(rate: int, count: int, seconds: float) -> Measured:
    """All processes, with ``count`` builds that print ``rate`` lines of 200 bytes a second each, unwatched: cores."""
    with platform(count) as services:
        steady = SteadyBuilds(services)
        for _ in range(count):
            steady.start(rate, line=200)
        time.sleep(REST + 0.5)
        runners = [owner for folder in steady.attempts if (owner := lock_owner(folder)) is not None]
        if len(runners) != count:
            raise Failed("a runner is missing")
        groups = {APISERVER: [services.apiserver.pid], BUILDER: [services.builder.pid], RUNNERS: runners}
        chunks = Chunks(services.folder / "apiserver-data" / "ledger.sqlite")
        began = time.monotonic()
        before = {name: sum(map(spent, pids)) for name, pids in groups.items()}
        time.sleep(seconds)
        used = {name: (sum(map(spent, pids)) - before[name]) * 1000 for name, pids in groups.items()}
        took, stored = time.monotonic() - began, chunks.since()
        steady.finish()
    return Measured(
        sum(used.values()) / 1000 / took,
        {
            **used,
            SECOND: took,
            BUILD_SECOND: took * count,
            COMMIT: stored.commits,
            CHUNK: stored.chunks,
            MESSAGE: stored.batches,
            LINE: stored.lines,
        },
    )


def one_build(times: int) -> Measured:
    """Milliseconds of processor time of a build that does nothing, from the request to its end."""
    with platform() as services:
        project(services, "nothing", "true")
        services.succeed(services.build("nothing"))  # the first one clones
        pids = services.apiserver.pid, services.builder.pid
        rested = [resident(pid) / MIB for pid in pids]
        before = [*map(spent, pids), spent_by_ended_children(pids[1])]
        for _ in range(times):
            # Its end is looked for seldom, since looking costs the apiserver too.
            build = services.build("nothing")
            while services.wait(build, {"succeeded", "failed", "lost"})["state"] != "succeeded":
                raise Failed(f"build {build} has not succeeded")
        wait_for("the runners are gone", lambda: not _children(pids[1]))
        after = [*map(spent, pids), spent_by_ended_children(pids[1])]
        used = [(late - early) * 1000 / times for early, late in zip(before, after, strict=True)]
        steady = SteadyBuilds(services)
        steady.start(10)
        owner: int = wait_for("its runner is there", lambda: lock_owner(steady.attempts[0]))
        time.sleep(REST)
        own = shares(owner)[1] / MIB
        steady.finish()
    figures = (PER_BUILD_APISERVER, PER_BUILD_BUILDER, PER_BUILD_OWN)
    return Measured(
        sum(used),
        {**dict(zip(figures, used, strict=True)), BASE_APISERVER: rested[0], BASE_BUILDER: rested[1], RUNNER: own},
    )


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()


def one_viewer(count: int, seconds: float) -> Measured:
    """Microseconds of the apiserver's processor time for each of so many viewers that connect."""
    with apiserver() as serving:
        pid = serving.program.pid
        time.sleep(REST)
        idle_began, idle_before = time.monotonic(), spent(pid)
        time.sleep(seconds)
        idle = (spent(pid) - idle_before) / (time.monotonic() - idle_began)
        resident_before, before = memory(serving), spent(pid)
        with Program([*load_command(serving, count), "--hold"], core=CLIENT_CORE) as load:
            load.said(DEADLINE)
            time.sleep(REST)
            opened = spent(pid) - before
            began, before = time.monotonic(), spent(pid)
            time.sleep(seconds)
            held = (spent(pid) - before) / (time.monotonic() - began)
            grown = memory(serving) - resident_before
    return Measured(
        opened / count * 1e6,
        {VIEWER_KIB: grown / count / 1024, VIEWER_SECOND: max(0.0, held - idle) / count * 1e6},
    )
