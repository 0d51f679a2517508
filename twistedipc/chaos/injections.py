"""How each kind of fault is done. Made by ``experiment``; acts on ``platform``, ``proxy`` and ``workload``."""

from __future__ import annotations

import os
import random
import signal
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from twistedipc.chaos import strangers
from twistedipc.chaos.damage import Way, damage, writing, written
from twistedipc.chaos.outcome import Outcome
from twistedipc.chaos.plan import Fault, FaultKind
from twistedipc.chaos.platform import Platform
from twistedipc.chaos.proxy import LinkProxy
from twistedipc.chaos.strangers import Answer
from twistedipc.chaos.workload import SHORT, Workload
from twistedipc.cli.client import path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import note

#: How many wishes a storm has, and how many viewers a flood.
STORM = 50
FLOOD = 120

#: The longest that is waited for a build to be as far as it is to be when it is cancelled: seconds.
CANCEL_DEADLINE = 3.0

#: How many builds are wished for while the disk under the ledger is full, and the seconds that it stays so for longer
#: than it is to, if no wish was refused yet: what SQLite has of its log's file has some room.
MOST_WISHES = 4
REFUSAL_PATIENCE = 1.5

#: Seconds in which builds must have written enough, or one of them ended, for a journal to be damaged.
DAMAGE_PATIENCE = 4.0
DAMAGE_TRIES = 3

#: Seconds between two wishes while the disk under the ledger is full.
_ASK_INTERVAL = 0.1

#: The services that a fault is done to.
_SERVICES = {
    FaultKind.KILL_APISERVER: ("apiserver",),
    FaultKind.KILL_BUILDER: ("builder",),
    FaultKind.KILL_BOTH: ("apiserver", "builder"),
    FaultKind.STOP_APISERVER: ("apiserver",),
    FaultKind.STOP_BUILDER: ("builder",),
    FaultKind.RESTART_APISERVER: ("apiserver",),
    FaultKind.RESTART_BUILDER: ("builder",),
}


class Injections:
    """Does faults: `FAULTS` says how each is done."""

    def __init__(
        self, reactor: IReactorTime, platform: Platform, proxy: LinkProxy, workload: Workload, outcome: Outcome
    ) -> None:
        self._reactor = reactor
        self._platform = platform
        self._proxy = proxy
        self._workload = workload
        self._outcome = outcome

    async def do(self, fault: Fault) -> None:
        """Inject one fault, until the fault is over."""
        await FAULTS[fault.kind](self, fault)

    async def _sleep(self, seconds: float) -> None:
        await deferLater(self._reactor, seconds)

    def _is_wrong(self, what: str) -> None:
        self._outcome.wrong_answers += 1
        note(what)

    # -- processes

    async def _kill(self, fault: Fault) -> None:
        names = _SERVICES[fault.kind]
        self._platform.kill(*names)
        await self._sleep(fault.seconds)
        self._platform.start(*names)

    async def _kill_runner(self, fault: Fault) -> None:
        """SIGKILL one runner, and note whose: its attempt is lost, as it must be."""
        found = self._platform.runners()
        if found:
            pid, attempt = found[fault.choice % len(found)]
            self._workload.runner_killed(attempt)
            os.kill(pid, signal.SIGKILL)

    async def _stop(self, fault: Fault) -> None:
        for name in _SERVICES[fault.kind]:
            self._platform.signal(name, signal.SIGSTOP)
            await self._sleep(fault.seconds)
            self._platform.signal(name, signal.SIGCONT)

    async def _restart(self, fault: Fault) -> None:
        for name in _SERVICES[fault.kind]:
            await deferToThread(self._platform.stop, name)
            self._platform.start(name)

    async def _second_builder(self, fault: Fault) -> None:
        if not await deferToThread(self._platform.second_builder, bool(fault.choice % 2), fault.seconds):
            self._is_wrong("a second builder was not refused")

    async def _damage_journal(self, fault: Fault) -> None:
        """
        When a build writes, kill the builder, damage what is written meanwhile, and start it again. To remove a segment
        of a build that has ended, one must end: if none does, another thing is done. A build may have written its last
        line just then: so there are some tries.
        """
        for _ in range(DAMAGE_TRIES):
            if await self._has_damaged(fault):
                return

    async def _has_damaged(self, fault: Fault) -> bool:
        attempts = self._platform.folder / "builder" / "attempts"
        until = self._reactor.seconds() + DAMAGE_PATIENCE
        while not await deferToThread(writing, attempts) and self._reactor.seconds() < until:
            await self._sleep(0.05)
        self._platform.kill("builder")
        chance = random.Random(fault.choice)
        before = await deferToThread(written, attempts)
        ways = [list(Way)[fault.choice % len(Way)], Way.FLIP]
        done = None
        for way in ways:
            until = self._reactor.seconds() + DAMAGE_PATIENCE
            while done is None and self._reactor.seconds() < until:
                await self._sleep(0.1)
                done = await deferToThread(damage, before, way, chance)
            if done is not None:
                self._workload.journal_damaged(*done)
                break
        self._platform.start("builder")
        return done is not None

    # -- the link and viewers

    async def _reset_link(self, fault: Fault) -> None:
        self._proxy.reset()

    async def _blackhole_link(self, fault: Fault) -> None:
        self._proxy.hold(True, False)
        await self._sleep(fault.seconds)
        # What a blackhole has swallowed never comes: the connection that was in it is of no use any more.
        self._proxy.reset()
        self._proxy.hold()

    async def _hold_one_way(self, fault: Fault) -> None:
        self._proxy.hold(bool(fault.choice % 2))
        await self._sleep(fault.seconds)
        self._proxy.hold()

    async def _shred_link(self, fault: Fault) -> None:
        self._proxy.shred(True)
        await self._sleep(fault.seconds)
        self._proxy.shred(False)

    async def _cut_viewers(self, fault: Fault) -> None:
        for viewer in list(self._workload.viewers):
            viewer.cut()

    async def _stick_viewers(self, fault: Fault) -> None:
        """Have half of the viewers read nothing for a while."""
        stuck = list(self._workload.viewers)[::2]
        for viewer in stuck:
            viewer.stick(True)
        await self._sleep(fault.seconds)
        for viewer in stuck:
            viewer.stick(False)

    async def _flood_viewers(self, fault: Fault) -> None:
        where = self._socket(fault.choice)
        self._outcome.thrown += await deferToThread(strangers.flood, *where, fault.seconds, FLOOD)

    def _socket(self, choice: int) -> tuple[int, str, str]:
        """A WebSocket's port, token and path: of a build's log, or of all builds."""
        builds = self._workload.watched()
        where = path("stream")
        if builds and choice % 2:
            where = path("builds", builds[choice % len(builds)], "log", "stream")
        return self._platform.port, self._platform.client.token, where

    # -- strangers

    async def _throw_garbage(self, fault: Fault) -> None:
        choice = fault.choice
        chance = random.Random(choice)
        links = list(self._platform.sockets.values())
        place = choice % (len(links) + 2)
        if place < len(links):
            answers = await deferToThread(strangers.throw_at_link, links[place], chance)
        elif place == len(links):
            answers = await deferToThread(strangers.throw_at_api, self._platform.port, chance)
        else:
            answers = await deferToThread(strangers.throw_at_websocket, *self._socket(choice), chance)
        self._outcome.thrown += len(answers)
        for answer in answers:
            if b"Traceback" in answer or b" 500 " in answer[:20]:
                self._is_wrong(f"garbage was answered with {answer[:500]!r}")

    # -- builds

    async def _cancel(self, fault: Fault) -> None:
        """Cancel a build: a new one, or one that runs, now or when it is about to end."""
        workload = self._workload
        moment, part = fault.choice % 3, (fault.choice // 3) % 100 / 100
        watched = workload.watched()
        if moment == 0 or not watched:
            build = await workload.ask_for_build(workload.project, SHORT, uuid.uuid4().hex)
            workload.watch_too(build)
            await self._sleep(part)
        else:
            build = watched[fault.choice % len(watched)]
            wanted = part if moment == 1 else 0.97 + part * 0.03
            until = self._reactor.seconds() + CANCEL_DEADLINE
            while workload.seen_of(build) < wanted and self._reactor.seconds() < until:
                await self._sleep(0.005)
        await workload.cancel(build)

    async def _post_storm(self, fault: Fault) -> None:
        """Send one request many times at once, and once more: it must make one build."""
        workload, key = self._workload, uuid.uuid4().hex
        answers = await deferToThread(
            strangers.storm,
            self._platform.port,
            self._platform.client.token,
            path("projects", workload.project, "builds"),
            workload.wish(SHORT),
            key,
            STORM,
        )
        build = await workload.ask_for_build(workload.project, SHORT, key)
        self._judge(answers, build)
        workload.watch_too(build)

    # -- disks

    async def _fill_disk(self, fault: Fault) -> None:
        await deferToThread(self._platform.fill, fault.kind)
        await self._sleep(fault.seconds)
        await self._make_room(fault.kind)

    async def _lock_database(self, fault: Fault) -> None:
        await deferToThread(self._platform.database.lock, fault.seconds, bool(fault.choice % 2))

    async def _kill_database(self, fault: Fault) -> None:
        await deferToThread(self._platform.database.kill, fault.seconds)

    async def _freeze_database(self, fault: Fault) -> None:
        await deferToThread(self._platform.database.freeze, fault.seconds)

    async def _database_full(self, fault: Fault) -> None:
        """
        While the disk under the ledger is full, a wish is done or refused with a 503 and a Retry-After; a 201 is for
        good, and what was refused is done when there is room.
        """
        workload, platform = self._workload, self._platform
        wish = workload.wish(SHORT)
        where = path("projects", workload.project, "builds")
        asked: dict[str, list[Answer]] = {uuid.uuid4().hex: []}
        refused = False
        await deferToThread(platform.fill, fault.kind)
        until = self._reactor.seconds() + fault.seconds
        while self._reactor.seconds() < (until if refused else until + REFUSAL_PATIENCE):
            key = next(reversed(asked))
            ask = partial(strangers.ask_once, platform.port, platform.client.token, where, wish, key)
            answer = await deferToThread(ask)
            asked[key].append(answer)
            refused = refused or answer.status == 503
            if answer.status == 201 and len(asked) < MOST_WISHES:
                asked[uuid.uuid4().hex] = []  # asked again, that one would only be told that it is done
            await self._sleep(_ASK_INTERVAL)
        await self._make_room(fault.kind)
        for key, answers in asked.items():
            build = await workload.ask_for_build(workload.project, SHORT, key)
            self._judge(answers, build)
            workload.watch_too(build)

    async def _make_room(self, kind: FaultKind) -> None:
        if not await deferToThread(self._platform.make_room, kind):
            raise Failure(ExitCode.UNAVAILABLE, "the small disk can't be made larger again")

    def _judge(self, answers: list[Answer], build: int) -> None:
        """All the answers to one wish, of which ``build`` came."""
        self._outcome.answers += len(answers)
        self._outcome.refused += sum(answer.status in (429, 503) for answer in answers)
        for answer in answers:
            if not answer.right:
                self._is_wrong(f"a wish was answered with {answer}")
        others = {answer.build for answer in answers if answer.status == 201} - {build, None}
        if others:
            self._outcome.builds_doubled += len(others)
            note(f"one wish made the builds {sorted(map(str, others))} and {build}")


#: How each kind of fault is done.
FAULTS: dict[FaultKind, Callable[[Injections, Fault], Awaitable[None]]] = {
    FaultKind.KILL_APISERVER: Injections._kill,
    FaultKind.KILL_BUILDER: Injections._kill,
    FaultKind.KILL_BOTH: Injections._kill,
    FaultKind.KILL_RUNNER: Injections._kill_runner,
    FaultKind.STOP_APISERVER: Injections._stop,
    FaultKind.STOP_BUILDER: Injections._stop,
    FaultKind.RESTART_APISERVER: Injections._restart,
    FaultKind.RESTART_BUILDER: Injections._restart,
    FaultKind.SECOND_BUILDER: Injections._second_builder,
    FaultKind.LINK_RESET: Injections._reset_link,
    FaultKind.LINK_BLACKHOLE: Injections._blackhole_link,
    FaultKind.LINK_ONE_WAY: Injections._hold_one_way,
    FaultKind.LINK_SHREDDED: Injections._shred_link,
    FaultKind.VIEWERS_CUT: Injections._cut_viewers,
    FaultKind.VIEWERS_STUCK: Injections._stick_viewers,
    FaultKind.VIEWERS_FLOOD: Injections._flood_viewers,
    FaultKind.GARBAGE: Injections._throw_garbage,
    FaultKind.CANCEL: Injections._cancel,
    FaultKind.POST_STORM: Injections._post_storm,
    FaultKind.DISK_FULL: Injections._fill_disk,
    FaultKind.DAMAGE_JOURNAL: Injections._damage_journal,
    FaultKind.DATABASE_FULL: Injections._database_full,
    FaultKind.DATABASE_LOCKED: Injections._lock_database,
    FaultKind.KILL_DATABASE: Injections._kill_database,
    FaultKind.FREEZE_DATABASE: Injections._freeze_database,
}
