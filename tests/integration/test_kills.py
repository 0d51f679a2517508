"""
Sets of twenty packages with `workspace:` ranges, published by real services that are killed: at every point of the way,
and by chance, with registries of two kinds, directly and by stages. Each version is staged, approved and published
once, nobody who reads `latest` all the while finds a gap, every retry ends well, and the ledger says what the registry
has. ``TWISTEDIPC_TESTS_EXAMPLES=10`` makes ten times as many kills. `make kills` runs them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.integration.package_sets import OLD, HttpReader, PackageSet, StateReader, each_once, installed
from tests.integration.platform import TERMINAL, Platform, Problem, Service, wait_for
from tests.node import need_node, node_path
from tests.package_registry import archive
from tests.properties import examples
from tests.registry import OTP, TOKEN, Fault, Faults, Registry, running
from tests.registry.verdaccio import running_verdaccio
from twistedipc.attempts.crashpoints import CrashPoint as P
from twistedipc.publish.targets.npm.client import Client
from twistedipc.publish.targets.npm.registry import Kind
from twistedipc.registries.connection import Connection
from twistedipc.registries.npmrc import Npmrc

pytestmark = pytest.mark.kills

#: Before and after a row is written down that a step begins, and one that it has ended; and at which row of a run, at
#: the least, so that each run comes further than the one before: its first row may be the other's last.
STEPS = (
    (P.APISERVER_STEP_BEGINS, 2),
    (P.APISERVER_STEP_BEGUN, 2),
    (P.APISERVER_STEP_ENDS, 3),
    (P.APISERVER_STEP_ENDED, 2),
)
AFTER = ((P.APISERVER_DELIVERY_LOGGED, 1), (P.APISERVER_DELIVERED, 1))

#: Of the builder, which uploads twenty files. (Once the apiserver has died with the end, an ack may not be needed.)
BUILDER = (
    (P.BUILDER_UPLOADED, 1),
    (P.BUILDER_FINAL_SENT, 1),
    (P.BUILDER_FINAL_ACK_RECEIVED, 1),
    (P.BUILDER_FOLDER_REMOVED, 1),
)

WAITS = {*TERMINAL, "waiting_approval"}

#: A point, and for the so-manieth time that it is reached.
Place = tuple[P, int]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose apiserver has Node, and its builder too."""
    need_node()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{node_path()}:{os.environ['PATH']}")
        with Platform(tmp_path_factory.mktemp("kills"), path=node_path()) as platform:
            platform.apiserver.crashes = platform.builder.crashes = True
            yield platform


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running() as registry:
        yield registry


class Kills:
    """
    Kills services while a build of a set goes on, and counts where: each at the first of its places, and again at the
    next one, until none is left.
    """

    def __init__(
        self, platform: Platform, packages: PackageSet, apiserver: Iterable[Place] = (), builder: Iterable[Place] = ()
    ) -> None:
        self.points: Counter[P] = Counter()
        self._platform = platform
        self._packages = packages
        self._places = {platform.apiserver: iter(apiserver), platform.builder: iter(builder)}
        self._armed: dict[Service, P | None] = {}
        for service in self._places:
            service.stop()
            self._start(service)
        platform.linked()

    def _start(self, service: Service) -> None:
        point, number = next(self._places[service], (None, 0))
        self._armed[service] = point
        service.start(crash_at=f"{point}#{number}" if point else "")

    @property
    def state(self) -> str:
        """The state of the newest build; "" while no apiserver answers."""
        try:
            return str(self._platform.api("GET", f"/api/v1/builds/{self._packages.builds[-1]}")["state"])
        except (OSError, HTTPException):
            return ""

    def go(self) -> str:
        """Kill until the build waits for a person, or has ended. Return its state."""
        while True:
            found = wait_for("a crash, or the end of the build", self._look, 300)
            if isinstance(found, str):
                return found
            assert found.exited() == -signal.SIGKILL
            point = self._armed[found]
            assert point is not None
            self.points[point] += 1
            self._start(found)

    def _look(self) -> Service | str | None:
        """Return a service that has died, or the state of the build if it waits or has ended."""
        for service in self._places:
            if service.exited() is not None:
                return service
        state = self.state
        return state if state in WAITS else None

    def approve(self, otp: str) -> None:
        """A person gives a password. The apiserver may die before it has answered, or somebody else may be faster."""
        with suppress(OSError, HTTPException):
            try:
                self._platform.api("POST", f"/api/v1/builds/{self._packages.builds[-1]}/approve", {"otp": otp})
            except Problem as problem:
                if problem.status != 409:
                    raise

    def told(self) -> None:
        """Say how many there were: for who runs them all."""
        print(f"\n{self.points.total()} kills: {dict(self.points)}")


def begun(platform: Platform, registry: Registry, name: str, size: int = 20) -> tuple[PackageSet, StateReader]:
    """A set whose first version is in the registry, and somebody who reads it."""
    packages = PackageSet(platform, name, registry.url, TOKEN, size=size)
    for manifest in packages.old():
        registry.state.have(**manifest)
    return packages, StateReader(registry)


def rows(number: int) -> Iterator[Place]:
    """So many kills about rows: at each, where there are to be many; else at some that are spread over the way."""
    for each in range(number):
        point, least = STEPS[each % len(STEPS)]
        yield point, least if examples(1) > 1 else least + each * 5 % 7


def test_a_set_is_killed_at_every_point(platform: Platform, registry: Registry) -> None:
    registry.state.has_stages = False
    packages, reader = begun(platform, registry, "direct")
    before = [(P.APISERVER_UPLOAD_GRANTED, 7), (P.APISERVER_FINAL_RECEIVED, 1), (P.APISERVER_END_COMMITTED, 1),
              (P.APISERVER_DELIVERY_BEGUN, 1)]  # fmt: skip
    kills = Kills(platform, packages, [*before, *rows(examples(12)), *AFTER], BUILDER)
    packages.build()
    assert kills.go() == "succeeded"
    kills.told()
    assert {point for point, _ in (*before, *STEPS, *BUILDER[:2])} <= kills.points.keys()
    assert examples(1) > 1 or {point for point, _ in AFTER} <= kills.points.keys()
    assert reader.stop() == set()
    each_once(registry, packages, staged=False)
    packages.check(registry.packages.__getitem__)
    installed(registry.url, packages.names[-1], packages.names, platform.folder)


def test_a_staged_set_is_killed_at_every_point(platform: Platform, registry: Registry) -> None:
    """A person approves with passwords that the registry takes three times; another one does so at the registry."""
    packages, reader = begun(platform, registry, "staged")
    # Where a package may be staged, and nobody knows, it is looked for during two minutes: few of these are enough.
    staging = [(point, number) for point, number in rows(examples(4)) if point is not P.APISERVER_STEP_BEGUN]
    before = [(P.APISERVER_UPLOAD_GRANTED, 3), (P.APISERVER_FINAL_ACK_SENT, 1), (P.APISERVER_DELIVERY_BEGUN, 1)]
    kills = Kills(platform, packages, [*before, *staging, (P.APISERVER_PERSON_NEEDED, 1), *rows(examples(8)), *AFTER])
    packages.build()
    passwords = 0
    while kills.go() == "waiting_approval":
        passwords += 1
        if passwords % 4 == 3:
            approved_elsewhere(registry)
        registry.state.otps = {f"{passwords:06}": 3}
        kills.approve(f"{passwords:06}")
    kills.told()
    print(f"{passwords} passwords")
    assert {point for point, _ in (*before, *STEPS)} | {P.APISERVER_PERSON_NEEDED} <= kills.points.keys()
    assert examples(1) > 1 or {point for point, _ in AFTER} <= kills.points.keys()
    assert reader.stop() == set()
    each_once(registry, packages, staged=True)
    packages.check(registry.packages.__getitem__, staged=True)
    by = Counter(change.by for change in registry.state.changes if change.what == "approve")
    assert by["somebody else"] > 0


def approved_elsewhere(registry: Registry) -> None:
    """Somebody approves at the registry: the first one, as its page would have it."""
    with registry.state.lock:
        waiting = sorted(registry.state.stages.values(), key=lambda stage: stage.name)
        if waiting:
            registry.state.approve(waiting[0].id, "somebody else", 0)


@pytest.mark.parametrize("way", ["direct", "staged"])
def test_sets_are_killed_by_chance(platform: Platform, registry: Registry, way: str) -> None:
    """While the registry misbehaves; where a set fails over that, the next build publishes it."""
    chance = random.Random(way)
    staged = way == "staged"
    registry.state.has_stages = staged
    rates = {Fault.CUT_BEFORE: 0.03, Fault.CUT_AFTER: 0.03, Fault.CUT_IN_ANSWER: 0.01, Fault.FAIL_AFTER: 0.03,
             Fault.BUSY: 0.02, Fault.LOSE_TAG: 0.03, Fault.REFUSE_OTP: 0.05, Fault.SOMEBODY_ELSE: 0.05}  # fmt: skip
    registry.faults = Faults(16, rates, most=200, lag=2)
    registry.state.otps = {OTP: None}
    killed, built, most = 0, 0, examples(5)
    while killed < most:
        built += 1
        packages, reader = begun(platform, registry, f"{way}-{built}")
        kills = Kills(platform, packages)
        packages.build()
        while (state := kills.go() if killed >= most else kills.state) != "succeeded":
            if state == "waiting_approval":
                kills.approve(OTP)
            elif state in TERMINAL:
                packages.build()
            if killed < most:
                time.sleep(chance.random() * 3)
                platform.apiserver.kill()
                killed += 1
                platform.apiserver.start()
                platform.linked()
        assert reader.stop() == set()
        each_once(registry, packages, staged=staged)
        packages.check(registry.packages.__getitem__, staged=staged)
    print(
        f"\n{killed} kills by chance, {built} sets, faults: {Counter(fault.value for _, fault in registry.faults.had)}"
    )


@pytest.mark.parametrize("point", [P.APISERVER_REQUEST_BEGUN, P.APISERVER_REQUEST_DONE])
def test_a_request_about_a_package_is_killed(platform: Platform, registry: Registry, point: P) -> None:
    """It is done once; and what was being published when the crash came is published."""
    registry.state.has_stages = False
    packages, _ = begun(platform, registry, point.value.partition(":")[2], 1)
    kills = Kills(platform, packages)
    packages.build()
    assert kills.go() == "succeeded"
    killed_at(point, platform, registry, packages, "tag", {"kind": "promote", "version": OLD, "tag": "stable"})
    killed_at(point, platform, registry, packages, "tag", {"kind": "rollback", "tag": "latest"})
    message = {"kind": "deprecate", "version": OLD, "message": "use the newer one"}
    killed_at(point, platform, registry, packages, "deprecate", message)
    there = registry.packages[packages.names[0]]
    assert there["dist-tags"] == {"latest": OLD, "stable": OLD}
    assert there["versions"][OLD]["deprecated"] == "use the newer one"


def killed_at(
    point: P, platform: Platform, registry: Registry, packages: PackageSet, what: str, said: dict[str, str]
) -> None:
    """The apiserver dies over a request about the first package, while another set is being published."""
    others, reader = begun(platform, registry, f"{packages.project}-{said['kind']}", 8)
    kills = Kills(platform, others, [(point, 1)])
    platform.linked()
    others.build()
    wait_for("a set is being published", lambda: kills.state == "delivering")
    before = len(registry.state.changes)
    page = f"/api/v1/projects/{packages.project}/packages/{packages.names[0]}"
    with suppress(OSError, HTTPException):
        platform.api("POST", f"{page}/requests", said)
    assert kills.go() == "succeeded"
    assert kills.points == {point: 1}
    wait_for("the request is done", lambda: platform.api("GET", page)["requests"][0]["state"] == "done")
    changes = [change.what for change in registry.state.changes[before:] if change.name == packages.names[0]]
    assert changes == [what]
    assert reader.stop() == set()
    each_once(registry, others, staged=False)
    others.check(registry.packages.__getitem__)


def test_a_set_for_verdaccio_is_killed_at_every_point(platform: Platform, tmp_path: Path) -> None:
    with running_verdaccio(tmp_path) as verdaccio:
        packages = PackageSet(platform, "verdaccio", verdaccio.url, verdaccio.token)
        client = Client(verdaccio.url, verdaccio.token, Connection(Npmrc({}), {}))
        for number, manifest in enumerate(packages.old()):
            path = tmp_path / f"{number}.tgz"
            path.write_bytes(archive({"package.json": json.dumps(manifest)}))
            assert client.upload(path, tag="latest").kind is Kind.DONE
        reader = HttpReader(verdaccio, packages.names)
        kills = Kills(platform, packages, [(P.APISERVER_DELIVERY_BEGUN, 1), *rows(examples(8)), *AFTER])
        packages.build()
        assert kills.go() == "succeeded"
        kills.told()
        assert reader.stop() == set()
        print(f"{reader.looks} looks")
        packages.check(verdaccio.package)
        installed(verdaccio.url, packages.names[-1], packages.names, platform.folder)
