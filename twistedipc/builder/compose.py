"""
The builder, put together: the real things behind ``ports``, and the objects that use them. Called by ``taps`` and by
tests, which put other things in place of some.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.web.client import Agent

from twistedipc.attempts.cgroup import Parents, find_parents, sweep
from twistedipc.attempts.programs import own_command
from twistedipc.builder.data import DataFolder
from twistedipc.builder.doorbell import listen
from twistedipc.builder.duties import Duties
from twistedipc.builder.forwarding import Forwarding
from twistedipc.builder.handing import Handing
from twistedipc.builder.link import Uplink
from twistedipc.builder.looking import Looking
from twistedipc.builder.mirrors import UnusedMirrors
from twistedipc.builder.ports import Outside
from twistedipc.builder.publishing import Publishing
from twistedipc.builder.reactor import BuilderReactor
from twistedipc.builder.registry import HeldAttempts
from twistedipc.builder.remotes import Questions, RemoteProcesses
from twistedipc.builder.runners import RunnerProcesses
from twistedipc.builder.service import BuilderService
from twistedipc.builder.settings import Settings
from twistedipc.builder.tidying import TidyingProcess
from twistedipc.builder.tooling import Tooling
from twistedipc.builder.upload import upload
from twistedipc.builder.workflows import Workflows
from twistedipc.builds.attempt import StoredTool
from twistedipc.builds.isolation import Isolation
from twistedipc.isolation.probe import find_isolation

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: The command that is a runner, but for its folder and its lock.
RUNNER = own_command("twistedipc.runner")


def real_outside(
    reactor: BuilderReactor,
    settings: Settings,
    *,
    now: Callable[[], int],
    tools: Callable[[], list[StoredTool]] = list,
) -> Outside:
    """
    Return this machine, as a builder uses it.

    :param now: milliseconds since the epoch
    :param tools: which tools were fetched for builds
    """
    agent = Agent(reactor, connectTimeout=10.0)

    def in_thread(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args, **kwargs)

    async def uploads(url: str, token: str, archive: Path, size: int, arrived: Callable[[int], None], /) -> None:
        await upload(agent, reactor, url, token, archive, size, arrived)

    def listen_for_rings(rung: Callable[[str], None]) -> IListeningPort:
        return listen(reactor, settings.doorbell, rung)

    def prepare_cgroups() -> Parents:
        parents = find_parents()
        sweep(parents)
        return parents

    caches, mirrors = TidyingProcess(reactor, settings), UnusedMirrors(in_thread, settings, now)

    def isolation() -> Isolation:
        return find_isolation(settings.wanted)

    def tidy() -> None:
        caches.soon()
        mirrors.soon()

    return Outside(
        clock=reactor,
        now=now,
        in_thread=in_thread,
        disk=DataFolder(settings),
        runners=RunnerProcesses(reactor, RUNNER),
        uploads=uploads,
        remotes=RemoteProcesses(reactor, settings.remotes),
        listen_for_rings=listen_for_rings,
        tools=tools,
        tidy=tidy,
        find_isolation=isolation,
        prepare_cgroups=prepare_cgroups,
    )


def builder(
    outside: Outside, settings: Settings, *, slots: int, apiserver_url: str = "", wait: float | None = None
) -> BuilderService:
    """
    Return a builder, ready to start.

    :param slots: how many attempts may run at once
    :param apiserver_url: where uploads go, if that isn't where the apiserver says
    :param wait: when told to stop, let the builds end first, for so many seconds at most; None: don't
    """
    attempts, uplink, workflows = HeldAttempts(), Uplink(), Workflows()
    forwarding = Forwarding(outside.clock, outside.now, uplink)
    publishing = Publishing(outside.clock, outside.uploads, uplink, forwarding, workflows)
    handing = Handing(outside.clock, outside.in_thread, uplink, forwarding, workflows)
    looking = Looking(outside, attempts, uplink, forwarding, publishing, handing, workflows)
    duties = Duties(
        outside,
        settings,
        attempts,
        uplink,
        forwarding,
        publishing,
        looking,
        Questions(outside.clock, outside.remotes, settings),
        Tooling(outside, uplink, workflows),
        workflows,
        slots=slots,
        apiserver_url=apiserver_url,
    )
    return BuilderService(outside, attempts, forwarding, looking, duties, workflows, wait=wait)
