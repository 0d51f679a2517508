"""
``python -m bench.profile``: where the time goes, by Python's profiler inside the services, while they are loaded.

The profiler makes Python's calls dearer than they are and leaves what C does as it is; so these are shares to find the
next thing by, no figures of what something costs (`bench.cost` has those). What waits isn't counted.

- ``profile/reactor``: the apiserver's thread with the sockets;
- ``profile/ledger``: its thread that writes into the database, the disk included;
- ``profile/builder``, ``profile/runner``.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.common.processes import CLIENT_CORE, Program, python
from bench.common.records import Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.fanout.apiserver import apiserver
from bench.fanout.viewers import DEADLINE, feeding, load_command
from bench.path.ways import Watch, lines_file, platform, project
from bench.profile.found import Profile, between, read, snapshot, told
from bench.recovery.builds import SteadyBuilds
from tests.attempt_folder import Attempt, repository, toml
from tests.integration.platform import wait_for

#: The profile of a process' threads, and the seconds that it is of.
Looked = tuple[dict[str, Profile], float]

WRITER = "ledger-write"


def _profiled(folder: Path) -> list[str]:
    return python("bench.profile.profiled", folder, "twistd")


def _difference(early: dict[str, Profile], late: dict[str, Profile]) -> dict[str, Profile]:
    return {thread: between(early.get(thread, {}), profile) for thread, profile in late.items()}


def viewed(viewers: int, lines: int, rate: float) -> Looked:
    """The apiserver, with viewers of one log, once they are there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with apiserver(_profiled(folder)) as serving:
            go = folder / "go"
            load = [*load_command(serving, viewers), *feeding(serving, lines, rate), "--go", str(go)]
            with Program(load, core=CLIENT_CORE) as program:
                wait_for("all viewers are there", go.exists, DEADLINE)
                early, began = snapshot(serving.program.pid, folder, 0), time.monotonic()
                said = program.said(DEADLINE + 30)
                took = time.monotonic() - began
            assert said["complete"], "lines are missing"
            return _difference(early, snapshot(serving.program.pid, folder, 1)), took


def opened(viewers: int) -> Looked:
    """The apiserver, while viewers come."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with apiserver(_profiled(folder)) as serving:
            early, began = snapshot(serving.program.pid, folder, 0), time.monotonic()
            with Program([*load_command(serving, viewers), "--hold"], core=CLIENT_CORE) as program:
                program.said(DEADLINE)
                took = time.monotonic() - began
                return _difference(early, snapshot(serving.program.pid, folder, 1)), took


def built(count: int, rate: float, seconds: float) -> dict[str, Looked]:
    """Both services, with builds that print at a steady rate, unwatched."""
    with platform(count, _profiled) as services:
        steady = SteadyBuilds(services)
        for _ in range(count):
            steady.start(rate, line=200)
        time.sleep(1)
        pids = {each.name: each.pid for each in (services.apiserver, services.builder)}
        folders = {name: services.folder / f"{name}-profile" for name in pids}
        early = {name: snapshot(pid, folders[name], 0) for name, pid in pids.items()}
        time.sleep(seconds)
        late = {name: snapshot(pid, folders[name], 1) for name, pid in pids.items()}
        steady.finish()
    return {name: (_difference(early[name], late[name]), seconds) for name in pids}


def flat_out(count: int) -> dict[str, Looked]:
    """Both services, with one build as fast as it goes, and a viewer."""
    with platform(profiled=_profiled) as services:
        project(services, "one", f"cat {lines_file(count)}")
        pids = {each.name: each.pid for each in (services.apiserver, services.builder)}
        folders = {name: services.folder / f"{name}-profile" for name in pids}
        early = {name: snapshot(pid, folders[name], 0) for name, pid in pids.items()}
        began = time.monotonic()
        watch = Watch(services, services.build("one"))
        watch.start()
        watch.join()
        assert watch.complete, "the log is not complete"
        took = time.monotonic() - began
        late = {name: snapshot(pid, folders[name], 1) for name, pid in pids.items()}
    return {name: (_difference(early[name], late[name]), took) for name in pids}


def ran(count: int) -> Looked:
    """A runner by itself, whose build is `cat`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository(folder / "source", {".twistedipc.toml": toml(f"cat {lines_file(count)}")})
        attempt = Attempt(folder, folder / "source", timeout=120)
        began = time.monotonic()
        attempt.start(command=python("bench.profile.profiled", folder, "runner"))
        attempt.wait(120)
        return read(folder / "0.json"), time.monotonic() - began


def questions(options: Namespace) -> Iterator[Asked]:
    """All four; each situation is looked at once."""
    part = 5 if options.quick else 1
    crowd = functools.cache(lambda: viewed(100, 200_000 // part, 0))
    calm = functools.cache(lambda: viewed(200, 1000 // part, 200))
    many = functools.cache(lambda: built(10, 50, 5 / part))
    one = functools.cache(lambda: flat_out(1_000_000 // part))
    runner = functools.cache(lambda: ran(1_000_000 // part))

    def candidate(name: str, look: Callable[[], Looked], thread: str = "MainThread") -> Candidate:
        return Candidate(name, partial(_told, look, thread))

    situations = (
        ("100 viewers, as fast as it goes", crowd),
        ("200 viewers, 200 lines/s", calm),
        ("1,000 viewers come", functools.partial(opened, 1000 // part)),
        ("10 builds of 50 lines/s", lambda: many()["apiserver"]),
        ("a build and a viewer, as fast as it goes", lambda: one()["apiserver"]),
    )
    builder = (
        ("10 builds of 50 lines/s", lambda: many()["buildipc"]),
        ("a build and a viewer, as fast as it goes", lambda: one()["buildipc"]),
    )
    yield (
        _question("reactor", "Where the time goes in the apiserver's reactor"),
        [candidate(*each) for each in situations],
    )
    if sys.version_info < (3, 12):
        yield (
            _question("ledger", "Where the time goes in the apiserver's thread that writes, the disk included"),
            [candidate(*each, WRITER) for each in situations if "viewers" not in each[0]],
        )
    yield _question("builder", "Where the time goes in the builder"), [candidate(*each) for each in builder]
    yield _question("runner", "Where the time goes in a runner"), [candidate("as fast as it goes", runner)]


def _question(name: str, title: str) -> Question:
    return Question(name=f"profile/{name}", title=title, unit="% at work", ours="", lower_is_better=True, repetitions=1)


def _told(look: Callable[[], Looked], thread: str) -> Measured:
    profiles, seconds = look()
    return told(profiles[thread], seconds)


if __name__ == "__main__":
    command("bench.profile", questions)
