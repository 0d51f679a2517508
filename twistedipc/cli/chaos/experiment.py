"""
One experiment: services, oracle builds, viewers, and the faults of a plan, one after the other; and what came of it.

Builds are asked for all the time, so that faults hit attempts wherever they are. After each fault the platform must
recover: the services answer, the builder is linked, no attempt is disconnected, and every viewer hears something
again. How long that takes from the moment at which what was killed is started again is measured.
"""

from __future__ import annotations

import os
import random
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from twistedipc.builds.attempt import Publish
from twistedipc.builds.states import AttemptState
from twistedipc.cli.chaos import oracle
from twistedipc.cli.chaos.disk import SmallDisk
from twistedipc.cli.chaos.oracle import LogCheck, Wrong
from twistedipc.cli.chaos.plan import NEEDS_MOUNT, Fault, FaultKind, faults
from twistedipc.cli.chaos.proxy import LinkProxy, ProxyReactor
from twistedipc.cli.chaos.viewers import Viewer, ViewerReactor
from twistedipc.cli.client import Client, Unreachable, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import note
from twistedipc.cli.sample import make_repository
from twistedipc.cli.services import Service, free_port
from twistedipc.cli.setup import Setup, write_setup
from twistedipc.cli.tokens import create_in_ledger
from twistedipc.runner.liveness import lock_held, lock_owner
from twistedipc.web.schemas import Build, BuildDetail, Builds, Health, NewBuild, NewProject, NewToken

_T = TypeVar("_T")

#: Seconds in which the platform must recover from a fault, and all builds must end when the faults are over.
RECOVERY_DEADLINE = 90.0

#: Seconds between two looks.
LOOK = 0.02


class ChaosReactor(ViewerReactor, ProxyReactor, IReactorThreads):
    """What an experiment needs of a reactor."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the experiment is to be."""

    folder: Path
    seed: int
    rounds: int | None  # faults; None: as many as fit into `seconds`
    seconds: float | None
    builds: int = 2  # at a time
    viewers: int = 3  # of each build
    lines: int = 1500  # of each build
    pause: float = 0.02  # of the oracle, after each ten lines
    kinds: tuple[FaultKind, ...] = tuple(FaultKind)


@dataclass
class Outcome:
    """What came of it."""

    seed: int
    faults: Counter[FaultKind] = field(default_factory=Counter)
    left_out: list[FaultKind] = field(default_factory=list)  # kinds that this machine can't have
    builds: int = 0
    attempts: int = 0
    checked: int = 0  # oracle's lines, over all viewers
    connections: int = 0  # of all viewers
    wrong: Wrong = field(default_factory=Wrong)
    builds_lost: int = 0  # asked for with a 201, and not succeeded in the end
    extra_starts: int = 0
    not_recovered: int = 0
    recovery: dict[FaultKind, list[float]] = field(default_factory=dict)  # seconds

    @property
    def counts(self) -> dict[str, int]:
        """Everything that must be 0."""
        return {
            "lines lost": self.wrong.lost,
            "lines duplicated": self.wrong.duplicated,
            "lines reordered": self.wrong.reordered,
            "lines changed": self.wrong.changed,
            "logs not verified": self.wrong.unverified,
            "builds lost": self.builds_lost,
            "extra starts": self.extra_starts,
            "not recovered": self.not_recovered,
        }

    @property
    def good(self) -> bool:
        """Whether every count is 0."""
        return not any(self.counts.values())


class Experiment:
    """See the module's docstring. ``run`` it once."""

    def __init__(self, reactor: ChaosReactor, options: Options) -> None:
        self._reactor = reactor
        self._options = options
        self._folder = options.folder
        self._outcome = Outcome(seed=options.seed)
        self._chance = random.Random(options.seed + 1)
        self._starts = self._folder / "starts"
        self._viewers: set[Viewer] = set()
        self._services: dict[str, Service] = {}
        self._generation = 0
        self._stopping = False
        self._killed: set[str] = set()  # attempts whose runner we have killed
        self._disk: SmallDisk | None = None
        self._port = 0
        self._client = Client("http://127.0.0.1:1", "")
        self._proxy: LinkProxy | None = None

    async def run(self) -> Outcome:
        """All of it. Raises `Failure` if it can't begin, or the platform doesn't come back to life."""
        self._set_up()
        try:
            await self._recovered()
            keepers = [Deferred.fromCoroutine(self._keep_building()) for _ in range(self._options.builds)]
            try:
                await self._do_faults()
            finally:
                self._stopping = True
                for keeper in keepers:
                    await keeper
        finally:
            await self._tear_down()
        self._count_starts()
        return self._outcome

    # -- set-up

    def _set_up(self) -> None:
        options = self._options
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(self._folder.iterdir()):
            raise Failure(ExitCode.USAGE, f"{self._folder} isn't empty: an experiment needs a folder of its own")
        self._port = free_port(0)
        setup = Setup(
            http_listen=f"tcp:{self._port}:interface=127.0.0.1",
            releases_listen=f"tcp:{free_port(0)}:interface=127.0.0.1",
            local_repositories=True,
            builder_name="chaos",
        )
        write_setup(self._folder, setup)
        # The apiserver dials the proxy, and the proxy the builder.
        config = self._folder / "apiserver.toml"
        config.write_text(config.read_text("utf-8").replace('"unix:link.sock"', '"unix:proxy.sock"'), "utf-8")
        with (self._folder / "builder.toml").open("a", encoding="utf-8") as file:
            file.write("\n[limits]\ngrace = 1.0\n")
        if FaultKind.DISK_FULL in options.kinds:
            disk = SmallDisk(self._folder / "builder")
            if disk.mount():
                self._disk = disk
            else:
                self._outcome.left_out += sorted(NEEDS_MOUNT)
        make_repository(self._folder / "repository", oracle.files(), "The oracle")
        token = create_in_ledger(config, NewToken(name="chaos", scopes=["admin"], expires_in=7 * 86400)).token
        self._client = Client(f"http://127.0.0.1:{self._port}", token, timeout=10.0)
        self._proxy = LinkProxy(
            self._reactor, self._folder / "proxy.sock", self._folder / "link.sock", options.seed + 2
        )
        self._start("builder")
        self._start("apiserver")

    def _start(self, name: str) -> None:
        self._generation += 1
        plugin = {"builder": "buildipc", "apiserver": "apiserver"}[name]
        log = self._folder / f"{name}-{self._generation}.log"
        self._services[name] = Service(name, plugin, self._folder / f"{name}.toml", log)

    async def _tear_down(self) -> None:
        for viewer in self._viewers:
            viewer.stop()
        for service in self._services.values():
            service.stop()
        if self._proxy is not None:
            await self._proxy.stop()
        if self._disk is not None:
            self._disk.unmount()

    # -- asking

    async def _ask(self, ask: Callable[[], _T]) -> _T:
        """Ask the apiserver, in a thread, until it can be reached."""
        while True:
            try:
                return await deferToThread(ask)
            except Unreachable:
                await self._sleep(0.1)

    async def _sleep(self, seconds: float) -> None:
        await deferLater(self._reactor, seconds)

    async def _wait_for(self, look: Callable[[], Any], deadline: float) -> float | None:
        """Look in a thread until it is true: the seconds that it took; None if it was not true in time."""
        began = self._reactor.seconds()
        while self._reactor.seconds() - began < deadline:
            try:
                if await deferToThread(look):
                    return self._reactor.seconds() - began
            except Failure:
                pass
            await self._sleep(LOOK)
        return None

    def _ready(self) -> bool:
        """Whether the services answer, are linked, and no attempt waits for its builder."""
        health = self._client.get("/healthz").decode(Health)
        if health.status != "ok" or health.builders != 1:
            return False
        return not self._client.get(path("builds"), {"state": "disconnected"}).decode(Builds).builds

    async def _recovered(self) -> float | None:
        """Seconds until the platform works again and every viewer hears it; None if that takes too long."""
        began = self._reactor.seconds()
        if await self._wait_for(self._ready, RECOVERY_DEADLINE) is None:
            return None
        while not all(viewer.current for viewer in self._viewers):
            if self._reactor.seconds() - began > RECOVERY_DEADLINE:
                return None
            await self._sleep(LOOK)
        return self._reactor.seconds() - began

    # -- builds and viewers

    async def _keep_building(self) -> None:
        """One build after the other, each watched to its end."""
        client, options = self._client, self._options
        project = f"oracle-{uuid.uuid4().hex[:8]}"
        repository = (self._folder / "repository").as_uri()
        await self._add_project(project, repository)
        wish = NewBuild(
            publish=False,
            parameters=oracle.parameters(options.seed, options.lines, options.pause, self._starts),
        )
        while not self._stopping:
            # The same key however often it is asked: a lost 201 makes no second build.
            key = uuid.uuid4().hex
            post = partial(client.post_once, path("projects", project, "builds"), wish, key)
            made = (await self._ask(post)).decode(Build)
            self._outcome.builds += 1
            await self._watch(made.id)

    async def _add_project(self, name: str, repository: str) -> None:
        project = NewProject(name=name, repository=repository, publish=Publish())
        try:
            await self._ask(lambda: self._client.post(path("projects"), project))
        except Failure:
            # It was added, and the answer was lost: then it is there.
            await self._ask(lambda: self._client.get(path("projects", name)))

    async def _watch(self, build: int) -> None:
        """Follow a build to its end, through attempts that were lost with their runner, which are tried again."""
        attempt = 1
        while True:
            self._outcome.attempts += 1
            checks = await self._view(build, attempt)
            detail = await self._ask(lambda: self._client.get(path("builds", build)).decode(BuildDetail))
            state = detail.attempts[attempt - 1].state
            for check in checks:
                self._outcome.wrong.add(check.wrong)
                self._outcome.checked += check.checked
            if state is not AttemptState.LOST or not self._runner_was_killed(build, attempt):
                if state is not AttemptState.SUCCEEDED:
                    self._outcome.builds_lost += 1
                    note(f"build {build} is {state}: {detail.reason}")
                return
            attempt += 1
            await self._retry(build, attempt)

    async def _retry(self, build: int, attempt: int) -> None:
        """Try it again, once, even if the answer gets lost."""

        def retry() -> None:
            found = self._client.get(path("builds", build)).decode(BuildDetail)
            if found.attempt < attempt:
                self._client.post(path("builds", build, "retry"))

        await self._ask(retry)

    async def _view(self, build: int, attempt: int) -> list[LogCheck]:
        """Some viewers of one attempt, from its beginning to its end; what each has seen."""
        options = self._options
        done: Deferred[None] = Deferred()
        left: set[Viewer] = set()

        def ended(viewer: Viewer) -> None:
            self._outcome.connections += viewer.connections
            self._viewers.discard(viewer)
            left.discard(viewer)
            if not left:
                done.callback(None)

        for _ in range(options.viewers):
            check = LogCheck(options.seed, build, options.lines)
            viewer = Viewer(self._reactor, self._port, self._client.token, attempt, check, self._chance, ended)
            left.add(viewer)
            self._viewers.add(viewer)
        viewers = list(left)
        await done
        return [viewer.check for viewer in viewers]

    def _count_starts(self) -> None:
        if self._starts.exists():
            starts = Counter(self._starts.read_text().split())
            self._outcome.extra_starts += sum(count - 1 for count in starts.values())

    # -- faults

    async def _do_faults(self) -> None:
        options, outcome = self._options, self._outcome
        began = self._reactor.seconds()
        kinds = [kind for kind in options.kinds if kind not in outcome.left_out]
        for number, fault in enumerate(faults(options.seed, kinds)):
            if options.rounds is not None and number >= options.rounds:
                return
            if options.seconds is not None and self._reactor.seconds() - began > options.seconds:
                return
            await self._sleep(fault.pause)
            outcome.faults[fault.kind] += 1
            await self._do(fault)
            took = await self._recovered()
            if took is None:
                outcome.not_recovered += 1
                note(f"fault {number + 1} ({fault.kind}): the platform has not recovered")
                return
            outcome.recovery.setdefault(fault.kind, []).append(took)

    async def _do(self, fault: Fault) -> None:
        match fault.kind:
            case FaultKind.KILL_APISERVER:
                await self._kill(["apiserver"], fault.seconds)
            case FaultKind.KILL_BUILDER:
                await self._kill(["builder"], fault.seconds)
            case FaultKind.KILL_BOTH:
                await self._kill(["apiserver", "builder"], fault.seconds)
            case FaultKind.RESTART_APISERVER | FaultKind.RESTART_BUILDER:
                name = fault.kind.value.removeprefix("restart-")
                await deferToThread(self._services[name].stop)
                self._start(name)
            case FaultKind.STOP_APISERVER | FaultKind.STOP_BUILDER:
                service = self._services[fault.kind.value.removeprefix("stop-")]
                service.signal(signal.SIGSTOP)
                await self._sleep(fault.seconds)
                service.signal(signal.SIGCONT)
            case FaultKind.KILL_RUNNER:
                self._kill_runner(fault.choice)
            case FaultKind.VIEWERS_CUT:
                for viewer in list(self._viewers):
                    viewer.cut()
            case FaultKind.VIEWERS_STUCK:
                stuck = list(self._viewers)[::2]
                for viewer in stuck:
                    viewer.stick(True)
                await self._sleep(fault.seconds)
                for viewer in stuck:
                    viewer.stick(False)
            case FaultKind.DISK_FULL:
                if self._disk is not None:
                    await deferToThread(self._disk.fill)
                    await self._sleep(fault.seconds)
                    self._disk.make_room()
            case _:
                await self._do_to_link(fault)

    async def _do_to_link(self, fault: Fault) -> None:
        proxy = self._proxy
        if proxy is None:
            return
        match fault.kind:
            case FaultKind.LINK_RESET:
                proxy.reset()
            case FaultKind.LINK_BLACKHOLE:
                proxy.hold(True, False)
                await self._sleep(fault.seconds)
                # What a blackhole has swallowed never comes: the connection that was in it is of no use any more.
                proxy.reset()
                proxy.hold()
            case FaultKind.LINK_ONE_WAY:
                proxy.hold(bool(fault.choice % 2))
                await self._sleep(fault.seconds)
                proxy.hold()
            case FaultKind.LINK_SHREDDED:
                proxy.shred(True)
                await self._sleep(fault.seconds)
                proxy.shred(False)

    async def _kill(self, names: Iterable[str], seconds: float) -> None:
        for name in names:
            self._services[name].kill()
        await self._sleep(seconds)
        for name in names:
            self._start(name)

    def _kill_runner(self, choice: int) -> None:
        """SIGKILL one runner, and note whose: its attempt is lost, as it must be."""
        found: list[tuple[int, str]] = []
        for folder in sorted((self._folder / "builder" / "attempts").glob("[0-9]*")):
            pid = lock_owner(folder)
            if pid is not None and lock_held(folder):
                found.append((pid, folder.name.rsplit("-", 1)[0]))
        if found:
            pid, attempt = found[choice % len(found)]
            self._killed.add(attempt)
            os.kill(pid, signal.SIGKILL)

    def _runner_was_killed(self, build: int, attempt: int) -> bool:
        return f"{build}-{attempt}" in self._killed
