"""
One experiment: services, oracle builds, viewers, and the faults of a plan; and what came of it.

Builds are asked for all the time, so that faults hit attempts wherever they are. Some faults come while another one
lasts or is being recovered from. When all that came together are over, the platform must recover: the services
answer, the builder is linked, no attempt is disconnected, and every viewer hears something again. How long that takes
is measured from the moment at which what was killed is started again (or the disk has room, the link is let go).
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure as TwistedFailure

from twistedipc.chaos.audit import audit
from twistedipc.chaos.injections import Injections
from twistedipc.chaos.outcome import Options, Outcome
from twistedipc.chaos.plan import TARGETS, Fault, Target, volleys
from twistedipc.chaos.platform import Platform
from twistedipc.chaos.proxy import LinkProxy, ProxyReactor
from twistedipc.chaos.workload import Workload, WorkloadReactor
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import note

#: Seconds in which the platform must recover from a fault, and all builds must end when the faults are over.
RECOVERY_DEADLINE = 90.0

#: Seconds between two looks.
LOOK = 0.02

#: Seconds between two looks at whether a service has ended by itself.
SUPERVISION = 0.25

#: The row of faults that overlapped: how long each of them took can't be told.
SEVERAL = "several at once"


class ChaosReactor(WorkloadReactor, ProxyReactor):
    """What an experiment needs of a reactor."""


class Experiment:
    """One experiment, which is `run` once."""

    def __init__(self, reactor: ChaosReactor, options: Options) -> None:
        self._reactor = reactor
        self._options = options
        self._outcome = Outcome(seed=options.seed)
        self._locks = {target: DeferredLock() for target in Target}
        self._platform: Platform | None = None

    async def run(self) -> Outcome:
        """All of it. Raises `Failure` if it can't begin, or the platform doesn't come to life."""
        options, outcome = self._options, self._outcome
        platform = self._platform = Platform(options, outcome)
        supervising = LoopingCall(platform.supervise)
        supervising.clock = self._reactor
        good = False
        try:
            folder = platform.folder
            proxy = LinkProxy(self._reactor, platform.sockets["proxy"], platform.sockets["builder"], options.seed + 2)
            workload = Workload(self._reactor, platform, options, outcome)
            injections = Injections(self._reactor, platform, proxy, workload, outcome)
            try:
                platform.start("builder", "apiserver")
                supervising.start(SUPERVISION)
                if await self._recovered(platform, workload) is None:
                    raise Failure(ExitCode.UNAVAILABLE, f"the services don't start; their logs are in {folder}")
                platform.remember_memory(first=True)
                await workload.begin()
                try:
                    began = self._reactor.seconds()
                    await self._do_faults(platform, workload, injections)
                    outcome.seconds = self._reactor.seconds() - began
                finally:
                    await workload.end(RECOVERY_DEADLINE)
                await deferToThread(audit, platform, workload, outcome)
            finally:
                if supervising.running:
                    supervising.stop()
                await deferToThread(platform.stop_all)
                await proxy.stop()
            workload.count_starts()
            platform.count_tracebacks()
            good = outcome.good
        finally:
            self._platform = None
            await deferToThread(platform.unmount, keep=not good)
        return outcome

    def abandon(self) -> None:
        """The reactor was stopped in the middle: end what was started, and leave nothing mounted. Blocks."""
        if self._platform is not None:
            self._platform.stop_all()
            self._platform.unmount(keep=False)

    async def _do_faults(self, platform: Platform, workload: Workload, injections: Injections) -> None:
        options, outcome = self._options, self._outcome
        began = self._reactor.seconds()
        kinds = [kind for kind in options.kinds if kind not in outcome.left_out]
        for volley in volleys(options.seed, kinds):
            if options.rounds is not None:
                volley = volley[: options.rounds - outcome.faults.total()]
            if not volley or (options.seconds is not None and self._reactor.seconds() - began > options.seconds):
                return
            outcome.faults.update(fault.kind for fault in volley)
            outcome.overlapping += len(volley) - 1
            failures: list[TwistedFailure] = []
            injecting = [Deferred.fromCoroutine(self._inject(injections, fault)) for fault in volley]
            await DeferredList([each.addErrback(failures.append) for each in injecting])
            for failure in failures:
                failure.raiseException()
            took = await self._recovered(platform, workload)
            if took is None:
                outcome.not_recovered += 1
                note(f"the platform has not recovered from {', '.join(fault.kind for fault in volley)}")
                return
            outcome.recovery.setdefault(volley[0].kind.value if len(volley) == 1 else SEVERAL, []).append(took)
            platform.remember_memory()

    async def _inject(self, injections: Injections, fault: Fault) -> None:
        """Do a fault, once no other one uses its targets."""
        async with AsyncExitStack() as stack:
            for target in sorted(TARGETS.get(fault.kind, ())):  # in one order: no deadlock
                await self._locks[target].acquire()
                stack.callback(self._locks[target].release)
            await self._sleep(fault.pause)
            await injections.do(fault)

    async def _sleep(self, seconds: float) -> None:
        await deferLater(self._reactor, seconds)

    async def _recovered(self, platform: Platform, workload: Workload) -> float | None:
        """Seconds until the platform works again and every viewer hears it; None if that takes too long."""
        began = self._reactor.seconds()
        while self._reactor.seconds() - began < RECOVERY_DEADLINE:
            try:
                ready = await deferToThread(platform.ready)
            except Failure:
                ready = False
            if ready:
                break
            await self._sleep(LOOK)
        else:
            return None
        while not all(viewer.current for viewer in workload.viewers):
            if self._reactor.seconds() - began > RECOVERY_DEADLINE:
                return None
            await self._sleep(LOOK)
        return self._reactor.seconds() - began
