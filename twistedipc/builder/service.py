"""
The builder as a service: it starts and stops everything else in this package. Made by ``compose``; its children are the
links (`ipc.dial`, `ipc.listen`), which the tap adds.
"""

from __future__ import annotations

import msgspec
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from twistedipc.attempts.cgroup import NoCgroup
from twistedipc.builder.duties import Duties
from twistedipc.builder.forwarding import Forwarding
from twistedipc.builder.looking import Looking
from twistedipc.builder.ports import Folder, Outside
from twistedipc.builder.registry import HeldAttempts
from twistedipc.builder.workflows import Workflows
from twistedipc.builds import names
from twistedipc.builds.attempt import Spec


class BuilderService(MultiService):
    """
    Runs attempts and forwards their journals.

    :param wait: when told to stop, let the builds end first, for so many seconds at most; None: don't
    """

    _log = Logger()

    def __init__(
        self,
        outside: Outside,
        attempts: HeldAttempts,
        forwarding: Forwarding,
        looking: Looking,
        duties: Duties,
        workflows: Workflows,
        *,
        wait: float | None = None,
    ) -> None:
        super().__init__()
        self.attempts = attempts
        self.looking = looking
        self.duties = duties
        self._outside = outside
        self._forwarding = forwarding
        self._workflows = workflows
        self._wait = wait
        self._doorbell: IListeningPort | None = None
        self._linking = False  # its links were started

    def claim(self) -> None:
        """Make the data folder and lock it. Raises `DataFolderInUse` or OSError; `startService` does it otherwise."""
        self._outside.disk.claim()

    def startService(self) -> None:
        """Find what is held, listen to the doorbell, link."""
        self.claim()
        self._look_for_cgroups()
        for folder in self._outside.disk.folders():
            self._find(folder)
        self._doorbell = self._outside.listen_for_rings(self.looking.rung)
        self.looking.start()
        self._outside.tidy()
        self._workflows.launch(self._clear_remotes(), "removing what questions have left")
        self.running = True
        self._workflows.launch(self._link(), "the look for what isolates builds")

    async def _clear_remotes(self) -> None:
        await self._outside.in_thread(self._outside.remotes.clear)

    async def _link(self) -> None:
        """Find out what isolates builds, and link then: offers are answered by that, and the sync tells it."""
        isolation = self.duties.isolation = await self._outside.in_thread(self._outside.find_isolation)
        if isolation.refused:
            self._log.error("no build is taken: {reason}", reason=isolation.refused)
        elif isolation.kind == "none":
            self._log.warn("builds can reach all that this user can: {said}", said=isolation.said or "not isolated")
        else:
            self._log.info("isolation: {said}", said=isolation.said)
        if self.running:
            self._linking = True
            super().startService()

    def _look_for_cgroups(self) -> None:
        # Only now, since twistd may have changed its user before.
        try:
            parents = self._outside.prepare_cgroups()
        except NoCgroup as error:
            self._log.info("builds run without control groups: {error}", error=error)
        else:
            self.duties.cgroups = parents
            self._log.info(
                "each build runs in control groups of its own in {parents}, which hold its limits of {controllers}",
                parents=", ".join(parents.all),
                controllers=", ".join(parents.controllers) or "nothing",
            )

    def _find(self, folder: Folder) -> None:
        # A folder that can't be read, or isn't an attempt's, is for a person to look at: the others go on.
        try:
            spec = folder.spec()
            if spec is None:
                # Half made or half deleted when a builder was killed: nothing was promised about it yet, or any more.
                self._workflows.launch(self._sweep(folder), f"removing {folder.path}")
                return
            names.attempt(spec.attempt)
            names.lease(spec.lease)
            self._hold(folder, spec)
        except (OSError, msgspec.DecodeError, names.BadValue) as error:
            self._log.error("{folder} is left alone: {error}", folder=str(folder.path), error=error)

    def _hold(self, folder: Folder, spec: Spec) -> None:
        held = self.duties.held_in(folder, spec)
        self.looking.hold(held)
        self._log.info("holding {name}, {state}", name=held.name, state=held.life.state.value)

    async def _sweep(self, folder: Folder) -> None:
        await self._outside.in_thread(folder.remove)

    def stopService(self) -> Deferred[None]:
        """
        Take no more offers and leave. The runners run on, and the next builder on this folder finds them; or, with
        ``wait``, everything that is held ends and is handed over first, if it does in time.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.running = False
        self.duties.drain()
        if self._wait is not None and len(self.attempts):
            await self._until_empty(self._wait)
        self.looking.stop()
        if self._doorbell is not None:
            await _maybe(self._doorbell.stopListening())
        if self._linking:
            await _maybe(super().stopService())
        self._forwarding.stop()
        await self._workflows.stop()
        self._outside.disk.release()

    async def _until_empty(self, seconds: float) -> None:
        """Wait until nothing is held any more, but not for ever: the apiserver may never take over what is held."""
        self._log.info(
            "waiting for {count} attempts to end, for {seconds:.0f} s at most",
            count=len(self.attempts),
            seconds=seconds,
        )
        try:
            await self.attempts.until_empty(self._outside.clock, seconds)
        except TimeoutError:
            self._log.error(
                "leaving after {seconds:.0f} s, with {names} held; what runs of them runs on, and the next builder on "
                "this folder goes on with all of them",
                seconds=seconds,
                names=", ".join(sorted(held.spec.attempt for held in self.attempts)),
            )


async def _maybe(result: object) -> None:
    """Return the value, or what it fires with if it is a Deferred."""
    if isinstance(result, Deferred):
        await result
