"""
The measurements, a function each. Each starts both services, as real processes in a folder of its own; everything is
durable. What viewers lose, see twice or can't verify is a failure.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred

from bench.common.processes import Failed
from bench.common.runs import Measured
from bench.history.made import Shape, archive_of, engine_of, fill
from bench.recovery.builds import SteadyBuilds
from bench.recovery.crowd import Crowd, States, Viewer, in_reactor, reactor
from bench.recovery.memory import MIB, Watch, resident, shares
from tests.integration.platform import DEADLINE, Platform, wait_for
from twistedipc.attempts.liveness import lock_owner
from twistedipc.builds.retention import Own
from twistedipc.chaos.proxy import LinkProxy
from twistedipc.storage.artifacts import ArtifactStore

#: Figures that have bars too.
NOTICED_BY_BUILDER = "by the builder, s"
STUCK_P99 = "from a print to the others, 99 in 100, ms"
#: What each viewer has at the least, so that "nothing was lost" is said of something.
RECORDS_AT_LEAST = 20


def _finish(crowd: Crowd, builds: SteadyBuilds) -> dict[str, float]:
    """
    Wait until each viewer has some records, end the builds, and wait for their viewers; how many records those had.

    :raises Failed: something is lost, was seen twice, or couldn't be verified
    """
    wait_for("all viewers have some records", lambda: crowd.fewest() >= RECORDS_AT_LEAST)
    builds.finish()
    wait_for("all viewers have come to the end", crowd.ended, DEADLINE * 2)
    counts = crowd.counts()
    records = counts.pop("records")
    if any(counts.values()):
        raise Failed(", ".join(f"{name}: {count}" for name, count in counts.items()))
    return {"records": records}


# -- recovery --------------------------------------------------------------------------------------------------------


def apiserver(folder: Path, quick: bool) -> Measured:
    """The apiserver is killed, and started again half a second later."""
    rounds, watchers = (2, 8) if quick else (15, 50)
    with Platform(folder, slots=4) as platform:
        builds, crowd = SteadyBuilds(platform), Crowd(platform.port, platform.token)
        for build in [builds.start(20) for _ in range(4)]:
            crowd.add(build, watchers // 4)
        crowd.add(builds.numbers[0], watchers - len(crowd.viewers))
        crowd.set_mark(reconnected=False)
        wait_for("all viewers hear their builds", crowd.current)
        last: list[float] = []
        for _ in range(rounds):
            platform.apiserver.kill()
            time.sleep(0.5)
            began = crowd.set_mark(reconnected=True)
            platform.apiserver.start()
            wait_for("all viewers are current again", crowd.current)
            last.append(crowd.took(began)[-1])
            platform.linked()
        had = _finish(crowd, builds)
    return Measured(statistics.median(last), {"worst, s": max(last), "times": rounds, **had})


def builder(folder: Path, quick: bool) -> Measured:
    """The builder is killed, and started again once all its attempts are known to be disconnected."""
    rounds, slots = (2, 3) if quick else (15, 8)
    with Platform(folder, slots=slots) as platform:
        builds, crowd = SteadyBuilds(platform), Crowd(platform.port, platform.token)
        states = _listen(platform)
        for build in [builds.start(10) for _ in range(slots)]:
            crowd.add(build, 1)
        took: list[float] = []
        for _ in range(rounds):
            platform.builder.kill()
            wait_for("all attempts are disconnected", lambda: _all_are("disconnected", builds, states))
            began = time.monotonic()
            platform.builder.start()
            wait_for("all attempts run again", lambda: _all_are("running", builds, states))
            adopted = [states.when(build, "running", began) for build in builds.numbers]
            took.append(max(at for at in adopted if at is not None) - began)
            time.sleep(0.5)
        had = _finish(crowd, builds)
        in_reactor(states.stop)
    return Measured(statistics.median(took), {"worst, s": max(took), "times": rounds, **had})


def _listen(platform: Platform) -> States:
    states = States(platform.port, platform.token)
    in_reactor(states.connect)
    wait_for("the states are listened to", lambda: states.listening)
    return states


def _all_are(state: str, builds: SteadyBuilds, states: States) -> bool:
    return all(states.states.get(build) == state for build in builds.numbers)


def blackhole(folder: Path, quick: bool) -> Measured:
    """The link passes nothing on, in both directions, and no end of the connection comes."""
    rounds = 1 if quick else 3
    proxy: LinkProxy = in_reactor(lambda: LinkProxy(reactor, folder / "proxy.sock", folder / "link.sock", 1))
    with Platform(folder, apiserver_link={"dial": ["unix:proxy.sock"]}) as platform:
        builds, crowd = SteadyBuilds(platform), Crowd(platform.port, platform.token)
        states = _listen(platform)
        build = builds.start(10)
        crowd.add(build, 2)
        noticed: dict[str, list[float]] = {"apiserver": [], "builder": []}
        for _ in range(rounds):
            crowd.set_mark(reconnected=False)
            wait_for("the log flows", crowd.current)
            size = len(platform.builder.text())
            began = time.monotonic()
            in_reactor(proxy.hold, True, False)
            wait_for("the builder notices", partial(_says_silent, platform, size), 90)
            noticed["builder"].append(time.monotonic() - began)
            wait_for("the apiserver notices", lambda: states.states.get(build) == "disconnected", 90)
            at = states.when(build, "disconnected", began)
            noticed["apiserver"].append((at or time.monotonic()) - began)
            in_reactor(proxy.reset)
            in_reactor(proxy.hold)
            wait_for("the attempt runs again", lambda: states.states.get(build) == "running")
        had = _finish(crowd, builds)
        in_reactor(states.stop)
    in_reactor(lambda: Deferred.fromCoroutine(proxy.stop()))
    return Measured(max(noticed["apiserver"]), {NOTICED_BY_BUILDER: max(noticed["builder"]), "times": rounds, **had})


def _says_silent(platform: Platform, size: int) -> bool:
    """Whether the builder has noticed that nothing comes, after the first ``size`` characters of its log."""
    return "nothing was received for" in platform.builder.text()[size:]


def viewers(folder: Path, quick: bool) -> Measured:
    """All viewers' connections are cut in one moment; all come back at once, without waiting."""
    rounds, count = (1, 100) if quick else (5, 1000)
    with Platform(folder, slots=4) as platform:
        builds, crowd = SteadyBuilds(platform), Crowd(platform.port, platform.token)
        for build in [builds.start(5) for _ in range(4)]:
            crowd.add(build, count // 4)
        crowd.set_mark(reconnected=False)
        wait_for("all viewers hear their builds", crowd.current, DEADLINE * 2)
        last: list[float] = []
        middle: list[float] = []
        for _ in range(rounds):
            began = crowd.set_mark(reconnected=True)
            crowd.cut()
            wait_for("all viewers are current again", crowd.current, DEADLINE * 2)
            took = crowd.took(began)
            last.append(took[-1])
            middle.append(statistics.median(took))
            time.sleep(1)
        had = _finish(crowd, builds)
    more = {"worst of the median viewer, s": max(middle), "median, s": statistics.median(last), "times": rounds}
    return Measured(max(last), {**more, **had})


# -- what isn't kept any more ----------------------------------------------------------------------------------------

#: By these rules all of a history goes but its last day.
_NOTHING_STAYS = Own(logs=1, artifacts=1, builds=1, newest=0, last_success=False)


def pruning(folder: Path, quick: bool, *, count: int) -> Measured:
    """
    Ten viewers of one build that prints 1,000 lines a second; meanwhile ``count`` others are removed, with logs as
    20,000 lines have, and archives. Before that and after it, the same viewers without it.
    """
    seconds = 2 if quick else 30
    with Platform(folder) as platform:
        _fill(platform, count)
        builds, crowd = SteadyBuilds(platform), Crowd(platform.port, platform.token)
        watching = crowd.add(builds.start(1000, line=100), 10)
        wait_for("all viewers are there", lambda: all(viewer.next > 1 for viewer in watching))
        time.sleep(seconds / 2)
        before = _delays(watching, lambda: time.sleep(seconds))
        began = time.monotonic()
        during = _delays(watching, lambda: _prune(platform))
        took = time.monotonic() - began
        after = _delays(watching, lambda: time.sleep(seconds))
        run = platform.api("GET", "/api/v1/prune/run")
        had = _finish(crowd, builds)
    without = _p99(sorted(before + after))
    return Measured(
        _p99(during) / without,
        {
            "99 in 100 while it goes on, ms": _p99(during) * 1000,
            "99 in 100 without, ms": without * 1000,
            "of that, before, ms": _p99(before) * 1000,
            "of that, after, ms": _p99(after) * 1000,
            "median while it goes on, ms": statistics.median(during) * 1000,
            "worst while it goes on, ms": during[-1] * 1000,
            "worst without, ms": max(before[-1], after[-1]) * 1000,
            "builds that went": run["freed"]["builds"]["count"],
            "it took, s": took,
            "the file is smaller by, MiB": run["given_back"] / MIB,
            **had,
        },
    )


def _fill(platform: Platform, count: int) -> None:
    """Give a platform a history of builds, with the files of their archives."""
    platform.apiserver.stop()
    engine = engine_of(platform.folder / "apiserver-data" / "ledger.sqlite")
    shape = Shape(builds=count, log_bytes=120_000, archive_bytes=1 << 16, rules=_NOTHING_STAYS)
    fill(engine, shape, int(time.time() * 1000))
    engine.dispose()
    store = ArtifactStore(platform.folder / "apiserver-data" / "artifacts")
    for build in range(1, count + 1):
        path = store.path(archive_of(build))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(shape.archive_bytes))
    os.sync()  # what the disk still has to do isn't what is measured
    platform.apiserver.start()
    platform.linked()


def _prune(platform: Platform) -> None:
    platform.api("POST", "/api/v1/prune", {"confirm": True})
    wait_for(
        "all of it is removed",
        lambda: platform.api("GET", "/api/v1/prune/run")["ended"] is not None,
        DEADLINE * 5,
    )


def _delays(viewers: Sequence[Viewer], meanwhile: Callable[[], None]) -> list[float]:
    """What it takes lines to come to these viewers ``meanwhile``: seconds, the shortest first."""
    for viewer in viewers:
        in_reactor(viewer.keep_delays)
    meanwhile()
    return sorted(delay for viewer in viewers for delay in in_reactor(viewer.kept_delays))


def _p99(delays: Sequence[float]) -> float:
    return delays[int(len(delays) * 0.99)]


# -- memory ----------------------------------------------------------------------------------------------------------


def stuck(folder: Path, quick: bool) -> Measured:
    """
    A minute of 10,000 lines a second, with five viewers, one of which never reads; and the same, on a fresh apiserver,
    where all read.
    """
    seconds = 3.0 if quick else 60.0
    (folder / "all-read").mkdir()
    (folder / "one-stuck").mkdir()
    base, _, _, _ = _flood(folder / "all-read", seconds, stick=False)
    watch, delays, rate, had = _flood(folder / "one-stuck", seconds, stick=True)
    delays.sort()
    return Measured(
        (watch.grown - base.grown) / MIB,
        {
            STUCK_P99: delays[int(len(delays) * 0.99)] * 1000,
            "median, ms": statistics.median(delays) * 1000,
            "worst, ms": delays[-1] * 1000,
            "printed, lines/s": rate,
            "the apiserver at its highest, MiB": watch.peak / MIB,
            **had,
        },
    )


def _flood(folder: Path, seconds: float, *, stick: bool) -> tuple[Watch, list[float], float, dict[str, float]]:
    """
    One build that floods: how the apiserver grew, the delays of the lines to the good viewers in seconds, how many
    lines were printed in a second, how many records the viewers had.
    """
    with Platform(folder) as platform:
        builds, crowd = SteadyBuilds(platform), Crowd(platform.port, platform.token)
        # What a first build makes an apiserver load and allocate is not what is measured.
        crowd.add(builds.start(10_000, seconds=min(3, seconds), line=150), 5)
        wait_for("the first build ends", crowd.ended)
        build = builds.start(10_000, seconds=seconds, line=150)
        *good, bad = crowd.add(build, 5)
        wait_for("all viewers are there", lambda: all(viewer.next > 1 for viewer in (*good, bad)))
        for viewer in good:
            in_reactor(viewer.keep_delays)
        if stick:
            in_reactor(bad.stick, True)
        watch = Watch(platform.apiserver.pid)
        wait_for("the good viewers see the end", lambda: all(v.verified is not None for v in good), seconds * 3 + 60)
        watch.stop()
        if stick:
            in_reactor(bad.stick, False)  # it was thrown out, or is; it comes back, and has to get it all
        had = _finish(crowd, builds)
        first, last = good[0].printed
        rate = len(good[0].delays or ()) / ((last - first) / 1e9)
        return watch, [delay for viewer in good for delay in viewer.delays or ()], rate, had


def runner(folder: Path, quick: bool) -> Measured:
    """Runners of builds that print."""
    count = 2 if quick else 8
    with Platform(folder, slots=count) as platform:
        builds, crowd = SteadyBuilds(platform), Crowd(platform.port, platform.token)
        for build in [builds.start(100) for _ in range(count)]:
            crowd.add(build, 1)
        time.sleep(1 if quick else 10)
        pids = [pid for folder in builds.attempts if (pid := lock_owner(folder)) is not None]
        assert len(pids) == count, "a runner is missing"
        memory = [resident(pid) / MIB for pid in pids]
        shared = [shares(pid) for pid in pids]
        had = _finish(crowd, builds)
    return Measured(
        max(memory),
        {
            "median, MiB": statistics.median(memory),
            "median of its share, MiB": statistics.median(pss / MIB for pss, _ in shared),
            "median of its own, MiB": statistics.median(private / MIB for _, private in shared),
            **had,
        },
    )
