"""
Takes each attempt further, by looking at its folder: after a ring of the doorbell, when a runner exits, and every
`LOOK_INTERVAL` in any case. So there is one way in which things become known, whether the runner is a child of this
process or of a builder that was killed an hour ago. Made by ``compose``; called by ``duties`` and ``service``.

``life`` decides what is to be done in which state; here it is done.
"""

from __future__ import annotations

import contextlib
from typing import assert_never

import msgspec
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_after_turn, crash_point
from twistedipc.builder.forwarding import Forwarding
from twistedipc.builder.handing import Handing
from twistedipc.builder.held import HeldAttempt
from twistedipc.builder.life import Action, Event, Report, State
from twistedipc.builder.link import Uplink
from twistedipc.builder.ports import Outside
from twistedipc.builder.publishing import Publishing
from twistedipc.builder.registry import HeldAttempts
from twistedipc.builder.workflows import Workflows
from twistedipc.builds import messages as m
from twistedipc.builds.attempt import Result
from twistedipc.builds.logs import LogDigest
from twistedipc.disk.files import PASSING_ERRORS

#: Seconds between two looks at all attempts; what a lost ring costs at most.
LOOK_INTERVAL = 1.0

_EMPTY_SHA256 = LogDigest().hexdigest()


class Looking:
    """Takes each attempt as far as its folder, its runner and the apiserver allow."""

    _log = Logger()

    def __init__(
        self,
        outside: Outside,
        attempts: HeldAttempts,
        uplink: Uplink,
        forwarding: Forwarding,
        publishing: Publishing,
        handing: Handing,
        workflows: Workflows,
    ) -> None:
        self._outside = outside
        self._attempts = attempts
        self._uplink = uplink
        self._forwarding = forwarding
        self._publishing = publishing
        self._handing = handing
        self._workflows = workflows
        self._rung: set[str] = set()
        self._loop = LoopingCall(self._look_around)
        self._loop.clock = outside.clock

    def start(self) -> None:
        """Look at all attempts now, and every `LOOK_INTERVAL` from now on."""
        self._loop.start(LOOK_INTERVAL, now=True)

    def stop(self) -> None:
        """Stop the regular looks."""
        if self._loop.running:
            self._loop.stop()

    def hold(self, held: HeldAttempt) -> None:
        """Hold an attempt from now on."""
        self._attempts.add(held)
        self._forwarding.add(held)

    # -- what happens

    def rung(self, name: str) -> None:
        """Look, at this turn's end, at the attempt in the folder of this name: its runner has rung."""
        held = self._attempts.named(name)
        if held is not None:
            held.log.may_have_more = True
            if not self._rung:
                self._outside.clock.callLater(0, self._answer_rings)
            self._rung.add(name)

    def _answer_rings(self) -> None:
        rung, self._rung = self._rung, set()
        self._forwarding.forward()
        for name in rung:
            held = self._attempts.named(name)
            if held is not None:
                self.look_at(held)

    def go(self, held: HeldAttempt) -> None:
        """Start the runner, if none was started: the apiserver has committed the acceptance."""
        self._take(held, Event.GO)

    def cancel(self, held: HeldAttempt, reason: str) -> None:
        """Tell the attempt's runner to end, now or at the next look."""
        if held.life.about.hears_cancel:
            held.cancel_reason = reason
            self.look_at(held)

    def forget(self, held: HeldAttempt, *, kill: bool) -> None:
        """Delete the attempt once its runner is gone; with ``kill``, tell the runner to end."""
        self._take(held, Event.FORGET)
        self._forwarding.remove(held)
        held.unsync()
        held.log.close()
        if kill:
            held.cancel_reason = "the apiserver has taken it back"
        self.look_at(held)

    # -- looking

    def _look_around(self) -> None:
        try:
            self.look()
        except Exception:
            # A bug; but a `LoopingCall` whose function raises is over, and nothing would be looked at ever again.
            self._log.failure("looking around failed")

    def look(self) -> None:
        """Look at all attempts now."""
        for held in self._attempts:
            held.log.may_have_more = True
            self.look_at(held)
        self._forwarding.forward()

    def look_at(self, held: HeldAttempt) -> None:
        """Look at one attempt now."""
        try:
            if held.cancel_reason and held.life.about.hears_cancel and held.life.state is not State.STOPPED:
                self._tell_to_end(held)
            self._take(held, Event.LOOK)
            self._tell_commit(held)
            self._handing.look_at(held)
            self._publishing.look_at(held)
        except (OSError, msgspec.DecodeError) as error:
            # A full disk, too many open files, a file that a build has tampered with: that is this attempt's trouble
            # alone, and the next look tries again.
            self._log.error("{name} can't be looked at: {error}", name=held.name, error=error)

    def _tell_commit(self, held: HeldAttempt) -> None:
        """Tell which commit it builds, once on each link. Its end tells that too, which may be an hour away."""
        link = self._uplink.synced
        if link is None or m.CHECKED_OUT not in link.features or not held.log.synced or held.found_sent:
            return
        if held.life.state is not State.RUNNING:
            return
        held.found = held.found or held.folder.found_commit()
        if held.found is not None:
            held.found_sent = True
            link.send(held.checked_out(self._outside.now()))

    def _tell_to_end(self, held: HeldAttempt) -> None:
        held.folder.cancel(held.cancel_reason)
        held.cancel_reason = ""

    def _take(self, held: HeldAttempt, input: Event | Report) -> None:
        action = held.life.take(input)
        match action:
            case None:
                pass
            case Action.START:
                self._start(held)
            case Action.CHECK_RUNNER:
                self._check_runner(held)
            case Action.CONCLUDE:
                self._workflows.launch(self._conclude(held), f"concluding {held.name}")
            case Action.REMOVE:
                self._workflows.launch(self._remove(held), f"removing {held.name}")
            case _:
                assert_never(action)

    def _check_runner(self, held: HeldAttempt) -> None:
        if held.life.state is State.RUNNING:
            if not held.conclusion.due(self._outside.clock.seconds()):
                return
            gone = held.folder.has_result() or not held.folder.runner_lives()
        else:
            gone = not held.folder.runner_lives()
        if gone:
            self._take(held, Event.RUNNER_GONE)
        elif held.cancel_reason and held.life.state is State.STOPPED:
            self._tell_to_end(held)

    # -- actions

    def _start(self, held: HeldAttempt) -> None:
        crash_point(CrashPoint.BUILDER_GO_RECEIVED)
        try:
            self._outside.runners.start(held.folder, held.spec, self.look)
        except Exception as error:
            self._not_started(held, error)
            return
        crash_point(CrashPoint.BUILDER_RUNNER_SPAWNED)
        self._take(held, Report.STARTED)
        self._uplink.send(m.Started(attempt=held.spec.attempt, lease=held.spec.lease, time=self._outside.now()))
        crash_after_turn(self._outside.clock, CrashPoint.BUILDER_STARTED_SENT)

    def _not_started(self, held: HeldAttempt, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in PASSING_ERRORS:
            self._log.error("{name} can't be started yet: {error}", name=held.name, error=error)
            self._take(held, Report.NO_ROOM)
            return
        self._log.failure("{name} can't be started", name=held.name)
        now = self._outside.now()
        result = Result(
            outcome="failed",
            reason=f"the builder can't start it: {error}",
            lines=0,
            sha256=_EMPTY_SHA256,
            started=now,
            ended=now,
        )
        # If the disk doesn't take this either, it has no runner, and is found to be lost.
        with contextlib.suppress(OSError):
            held.folder.write_result(result)
        self._take(held, Report.START_FAILED)
        self.look()

    async def _conclude(self, held: HeldAttempt) -> None:
        report = Report.NOT_CONCLUDED
        try:
            result = await self._outside.in_thread(
                held.folder.conclude, self._outside.now(), cgroups=held.spec.hierarchies, give_up=held.given_up
            )
            crash_point(CrashPoint.BUILDER_END_KNOWN)
            held.ended(result)
            report = Report.CONCLUDED
        except OSError as error:
            self._log.error("how {name} ended can't be told yet: {error}", name=held.name, error=error)
            held.unread(self._outside.clock.seconds(), error)
            return
        finally:
            self._take(held, report)
        self._log.info("{name} ended: {outcome}", name=held.name, outcome=result.outcome)
        self.look_at(held)
        self._forwarding.forward()

    async def _remove(self, held: HeldAttempt) -> None:
        report = Report.NOT_DELETED
        try:
            await self._outside.in_thread(held.folder.remove, cgroups=held.spec.hierarchies)
            crash_point(CrashPoint.BUILDER_FOLDER_REMOVED)
            report = Report.DELETED
        finally:
            self._take(held, report)
        self._attempts.remove(held)
        self._outside.tidy()
