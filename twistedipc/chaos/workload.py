"""
Builds that are asked for all the time, and the viewers that watch each of them to its end. Made by ``experiment``;
``injections`` asks for more builds, and does things to builds and viewers.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from twistedipc.builds.states import AttemptState
from twistedipc.chaos import oracle
from twistedipc.chaos.oracle import Damage, LogCheck
from twistedipc.chaos.outcome import Options, Outcome
from twistedipc.chaos.platform import Platform
from twistedipc.chaos.viewers import Viewer, ViewerReactor
from twistedipc.cli.client import Unreachable, path
from twistedipc.cli.failures import Failure
from twistedipc.cli.output import note
from twistedipc.web.api.schemas import Build, BuildDetail, FlatTargets, NewBuild, NewProject

_T = TypeVar("_T")

#: Seconds in which what is asked must be answered, through all faults that come meanwhile.
ASK_DEADLINE = 180.0

#: Lines of a build that a fault asks for.
SHORT = 100


class WorkloadReactor(ViewerReactor, IReactorThreads):
    """What the workload needs of a reactor."""


@dataclass(frozen=True)
class Seen:
    """The end of an attempt's log, as its viewers have seen it."""

    lines: int
    sha256: str
    state: str


@dataclass(frozen=True)
class _Done:
    """The builds and attempts that faults have ended, which need not succeed."""

    cancelled: set[int] = field(default_factory=set)  # builds
    killed: set[str] = field(default_factory=set)  # attempts whose runner was killed


class Workload:
    """All builds and viewers of an experiment."""

    def __init__(self, reactor: WorkloadReactor, platform: Platform, options: Options, outcome: Outcome) -> None:
        self.viewers: set[Viewer] = set()
        self.lines: dict[int, int] = {}  # build -> how many its oracle prints
        self.seen: dict[tuple[int, int], Seen] = {}  # build and attempt -> how it ended
        self.damages: dict[tuple[int, int], list[Damage]] = {}  # build and attempt -> to its journal
        self.project = ""  # of the builds that faults ask for
        self._reactor = reactor
        self._platform = platform
        self._options = options
        self._outcome = outcome
        self._chance = random.Random(options.seed + 1)
        self._attempts: dict[int, list[Viewer]] = {}  # build -> the viewers of the attempt that is watched
        self._done = _Done()
        self._running: set[Deferred[None]] = set()
        self._stopping = False

    @property
    def seed(self) -> int:
        """The seed of the experiment, from which all lines of its builds follow."""
        return self._options.seed

    async def begin(self) -> None:
        """Ask for builds from now on."""
        self.project = await self._add_project()
        for _ in range(self._options.builds):
            self._launch(self._keep_building())

    async def end(self, deadline: float) -> None:
        """Ask for no more, and wait until all have ended. What hasn't ended in time is lost."""
        self._stopping = True
        for viewer in list(self.viewers):
            viewer.stick(False)
        timer = self._reactor.callLater(deadline, self._give_up)
        while self._running:
            await next(iter(self._running))
        if timer.active():
            timer.cancel()
        for viewer in list(self.viewers):
            viewer.stop()

    def _give_up(self) -> None:
        for running in list(self._running):
            running.cancel()

    def _launch(self, work: Any) -> None:
        """Run ``work``. Its failure counts as a lost build."""
        running: Deferred[None] = Deferred.fromCoroutine(self._counted(work))
        self._running.add(running)
        running.addBoth(lambda _: self._running.discard(running))

    async def _counted(self, work: Any) -> None:
        try:
            await work
        except (Failure, CancelledError) as error:
            self._outcome.builds_lost += 1
            note(f"a build has not ended: {error}" if str(error) else "a build has not ended in time")

    # -- asking

    async def ask(self, ask: Callable[[], _T]) -> _T:
        """Ask the apiserver, in a thread, until it can be reached. Raises `Failure`."""
        until = self._reactor.seconds() + ASK_DEADLINE
        while True:
            try:
                return await deferToThread(ask)
            except Unreachable:
                if self._reactor.seconds() > until:
                    raise
                await deferLater(self._reactor, 0.1)

    def wish(self, lines: int) -> NewBuild:
        """The request for a build that prints so many lines."""
        options = self._options
        return NewBuild(
            publish=False, parameters=oracle.parameters(options.seed, lines, options.pause, self._platform.starts)
        )

    async def ask_for_build(self, project: str, lines: int, key: str) -> int:
        """
        A new build: its number. ``key`` is its Idempotency-Key: a lost 201 makes no second build.
        """
        post = partial(self._platform.client.post_once, path("projects", project, "builds"), self.wish(lines), key)
        build = (await self.ask(post)).decode(Build).id
        if build not in self.lines:
            self.lines[build] = lines
            self._outcome.builds += 1
        return build

    def watch_too(self, build: int) -> None:
        """Watch a build that a fault has asked for to its end."""
        self._launch(self._watch(build))

    async def _keep_building(self) -> None:
        """One build after the other, each watched to its end."""
        project = await self._add_project()
        while not self._stopping:
            await self._watch(await self.ask_for_build(project, self._options.lines, uuid.uuid4().hex))

    async def _add_project(self) -> str:
        client, name = self._platform.client, f"oracle-{uuid.uuid4().hex[:8]}"
        project = NewProject(name=name, repository=self._platform.repository.as_uri(), publish=FlatTargets())
        try:
            await self.ask(lambda: client.post(path("projects"), project))
        except Failure:
            # It was added, and the answer was lost: then it is there.
            await self.ask(lambda: client.get(path("projects", name)))
        return name

    # -- watching

    async def _watch(self, build: int) -> None:
        """Follow a build to its end, through attempts that were lost with their runner, which are tried again."""
        attempt = 1
        while True:
            self._outcome.attempts += 1
            checks = await self._view(build, attempt)
            get = partial(self._platform.client.get, path("builds", build))
            detail = (await self.ask(get)).decode(BuildDetail)
            state = detail.attempts[attempt - 1].state
            self._compare(build, attempt, checks, state)
            if state is (AttemptState.FAILED if any(check.damaged for check in checks) else AttemptState.SUCCEEDED):
                return
            if state is AttemptState.CANCELLED and build in self._done.cancelled:
                self._outcome.cancelled += 1
                if await deferToThread(self._platform.processes, f"{build}-{attempt}"):
                    self._outcome.processes_left += 1
                    note(f"build {build} is cancelled, and its process lives")
                return
            if state is not AttemptState.LOST or f"{build}-{attempt}" not in self._done.killed:
                self._outcome.builds_lost += 1
                note(f"build {build} is {state}: {detail.attempts[attempt - 1].reason}")
                return
            if build in self._done.cancelled:
                return
            attempt += 1
            await self._retry(build, attempt)

    def _compare(self, build: int, attempt: int, checks: list[LogCheck], state: AttemptState) -> None:
        outcome = self._outcome
        for check in checks:
            outcome.wrong.add(check.wrong)
            outcome.checked += check.checked
            if check.wrong.total:
                note(f"build {build}, attempt {attempt}: {check.wrong}")
        ends = {Seen(check.end["lines"], check.end["sha256"], check.end["state"]) for check in checks if check.end}
        if len(ends) != 1 or any(end.state != state.value for end in ends):
            outcome.disagreements += 1
            note(f"build {build}, attempt {attempt} is {state}, and its viewers saw {ends}")
        self.seen[build, attempt] = next(iter(ends))

    async def _retry(self, build: int, attempt: int) -> None:
        """Try the build again, once, even if the answer gets lost."""
        client = self._platform.client

        def retry() -> None:
            found = client.get(path("builds", build)).decode(BuildDetail)
            if found.attempt < attempt:
                client.post(path("builds", build, "retry"))

        await self.ask(retry)

    async def _view(self, build: int, attempt: int) -> list[LogCheck]:
        """Some viewers of one attempt, from its beginning to its end; what each has seen."""
        options = self._options
        done: Deferred[None] = Deferred()
        left: set[Viewer] = set()

        def ended(viewer: Viewer) -> None:
            self._outcome.connections += viewer.connections
            self.viewers.discard(viewer)
            left.discard(viewer)
            if not left and not done.called:
                done.callback(None)

        for _ in range(options.viewers):
            damages = self.damages.setdefault((build, attempt), [])
            check = LogCheck(options.seed, build, self.lines[build], damages)
            token = self._platform.client.token
            viewer = Viewer(self._reactor, self._platform.port, token, attempt, check, self._chance, ended)
            left.add(viewer)
            self.viewers.add(viewer)
        viewers = self._attempts[build] = list(left)
        try:
            await done
        finally:
            del self._attempts[build]
        return [viewer.check for viewer in viewers]

    # -- what faults do

    def watched(self) -> list[int]:
        """The builds that are being watched."""
        return sorted(self._attempts)

    def seen_of(self, build: int) -> float:
        """Return how much of what a build prints some viewer has seen: 0 to 1; 1 if it isn't watched (any more)."""
        viewers = self._attempts.get(build)
        if viewers is None:
            return 1.0
        return max(viewer.check.checked for viewer in viewers) / self.lines[build]

    async def cancel(self, build: int) -> None:
        """Cancel a build, if it hasn't ended."""
        self._done.cancelled.add(build)
        client = self._platform.client
        try:
            await self.ask(lambda: client.post(path("builds", build, "cancel")))
        except Failure as failure:
            if "has ended already" not in failure.message:
                raise

    def runner_killed(self, attempt: str) -> None:
        """Note that this attempt must be lost: its runner was killed."""
        self._done.killed.add(attempt)

    def journal_damaged(self, attempt: str, damage: Damage) -> None:
        """Note that this attempt's log must have a gap."""
        build, number = map(int, attempt.split("-"))
        self.damages.setdefault((build, number), []).append(damage)
        self._outcome.damages += 1

    def count_starts(self) -> None:
        """Count the starts beyond the first of each attempt."""
        self._outcome.extra_starts = extra_starts(self._platform.starts)


def extra_starts(starts: Path) -> int:
    """Return how many starts were written down beyond the first one of each attempt."""
    if not starts.exists():
        return 0
    return sum(count - 1 for count in Counter(starts.read_text().split()).values())
