"""
An apiserver that is killed again and again while it tells a repository's host how builds go: each state of each build
is told at least once, those of a commit in their order, and the last one last. Real processes; the host is one that
does what its documentation says.

``TWISTEDIPC_TESTS_KILLS`` is how many kills there are.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
from collections.abc import Iterator
from http.client import HTTPException
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.git_servers import HttpServer
from tests.integration.platform import Platform, Problem, wait_for
from tests.outside import TOKEN, Gitea
from tests.outside_server import OutsideServer
from tests.properties import seed
from twistedipc.attempts.crashpoints import CrashPoint

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("TWISTEDIPC_TESTS_KILLS", "10"))

#: How many commits there are, each of a build of its own that is tried again and again.
COMMITS = 4

#: Where the process dies by itself, when it comes there for the n-th time.
POINTS = [
    (CrashPoint.APISERVER_TELLING_LEASED, 3),
    (CrashPoint.APISERVER_TOLD, 3),
    (CrashPoint.APISERVER_OFFER_COMMITTED, 2),
    (CrashPoint.APISERVER_STARTED_COMMITTED, 2),
    (CrashPoint.APISERVER_END_COMMITTED, 2),
]

#: The states that a try again comes through, as they are said, each told once or more often.
COURSE = ["waits in the queue", "runs", "succeeded"]


class World:
    """The platform, and what it tells."""

    def __init__(self, folder: Path) -> None:
        self.platform = Platform(folder, isolation={"kind": "none"})
        self.host = Gitea()
        self.host.repository = "open/shop"
        self.at = OutsideServer(self.host, "https://git.example")
        self.git = HttpServer(folder)
        self.chance = random.Random(seed(7))
        self.builds: dict[int, str] = {}  # -> its commit

    def prepare(self) -> None:
        """A build of each commit has succeeded, and the host is told from now on."""
        platform = self.platform
        (platform.folder / "open").mkdir()
        site = {".twistedipc.toml": '[build]\nsteps = ["mkdir -p dist && echo hello > dist/index.html"]\n'}
        platform.repository(site).rename(platform.folder / "open" / "shop")
        platform.api("POST", "/api/v1/projects", {"name": "shop", "repository": f"{self.git.url}/open/shop"})
        for number in range(COMMITS):
            commit = platform.commit(platform.folder / "open" / "shop", {"number": str(number)})
            self.builds[platform.build("shop", ref=commit, publish=False)] = commit
        for build in self.builds:
            platform.succeed(build)
        self.host.commits = set(self.builds.values())
        receiver = {"kind": "gitea", "where": f"{self.at.url}/api/v1", "secret": TOKEN}
        platform.api("PUT", "/api/v1/projects/shop/receivers/host", receiver)

    def arm(self) -> str:
        """Choose where the next process dies. Return the point in it; "" if the host kills it."""
        apiserver = self.platform.apiserver
        self.at.before = self.at.after = lambda: None
        left = [self.chance.randint(1, 3)]

        def kill() -> None:
            left[0] -= 1
            if left[0] == 0:
                with contextlib.suppress(ProcessLookupError, AssertionError):
                    os.kill(apiserver.pid, signal.SIGKILL)

        match self.chance.choice(["before", "after", "point", "point"]):
            case "before":
                self.at.before = kill
            case "after":
                self.at.after = kill
            case _:
                point, most = self.chance.choice(POINTS)
                return f"{point.value}#{self.chance.randint(1, most)}"
        return ""

    def until_it_dies(self) -> None:
        """Have builds tried again until the apiserver is dead."""
        wait_for("the apiserver is dead", self._goes_on)
        assert self.platform.apiserver.exited() == -signal.SIGKILL

    def _goes_on(self) -> bool:
        """Try a build again, if none goes on. Return whether the apiserver has died."""
        if self.platform.apiserver.exited() is not None:
            return True
        with contextlib.suppress(OSError, HTTPException, Problem):
            build = self.chance.choice(list(self.builds))
            self.platform.api("POST", f"/api/v1/builds/{build}/retry")
        return False

    def settle(self) -> None:
        """Wait until all builds have ended and all is told."""
        self.at.before = self.at.after = lambda: None
        self.platform.linked()
        for build in self.builds:
            self.platform.succeed(build)

        def quiet() -> bool:
            found = self.tellings()
            return all(each["state"] == "told" for each in found)

        wait_for("all is told", quiet)

    def tellings(self) -> list[Any]:
        """The newest of what was told."""
        found: list[Any] = self.platform.api("GET", "/api/v1/projects/shop/tellings?limit=200")["tellings"]
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    try:
        with world.platform:
            world.platform.apiserver.crashes = True
            world.prepare()
            yield world
    finally:
        world.git.stop()
        world.at.stop()


def test_each_state_is_told_and_the_last_one_last(world: World) -> None:
    platform = world.platform
    for kill in range(KILLS):
        if kill % 10 == 0:
            print(f"{kill} kills", flush=True)
        platform.apiserver.stop()
        platform.apiserver.start(crash_at=world.arm())
        world.until_it_dies()
    platform.apiserver.start()
    world.settle()
    told = 0
    for build, commit in world.builds.items():
        attempts = len(platform.api("GET", f"/api/v1/builds/{build}")["attempts"]) - 1  # the first: nobody was told
        said = [text for each, text in world.host.descriptions if each == commit]
        course = [re.sub(rf"^Build {build} (.*?)( in [0-9].*)?$", r"\1", text) for text in said]
        assert [key for key, _ in groupby(course)] == COURSE * attempts
        told += len(said)
    again = told - len(COURSE) * sum(
        len(platform.api("GET", f"/api/v1/builds/{build}")["attempts"]) - 1 for build in world.builds
    )
    assert again >= 0
    print(f"{KILLS} kills, {told} requests, {again} of them told something again")
