"""
One step at a time: a command's process, its output and what it says on its channel into the log, its deadlines, its
end. Used by ``course``.

When what is done is ``stepclock``'s to say; this module does it. When a step has ended, its process group is killed.
When the attempt is to end (it was cancelled, its time is up, it has been silent for too long), the group gets SIGTERM,
and after the grace SIGKILL.

While the log waits for the disk, no step is begun, and the output of a running one, and its channel, aren't read: the
build waits, and the clock for silence stands. A process that is to end, or has ended, is seen to its end all the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, assert_never

import msgspec
from msgspec.structs import replace

from twistedipc.attempts.processes import Child, exit_code
from twistedipc.builds.attempt import Permit, StepResult
from twistedipc.builds.isolation import NOT_ISOLATED, Isolation
from twistedipc.builds.logs import StepEnded, StepStarted
from twistedipc.isolation.launching import launched
from twistedipc.isolation.reach import Reach
from twistedipc.runner.attempt_log import AttemptLog
from twistedipc.runner.capture import BLOCK_BYTES
from twistedipc.runner.channel import NoChannel, available
from twistedipc.runner.interleaving import Interleaving
from twistedipc.runner.ports import Channel, Guard, Orders, Outside
from twistedipc.runner.printed import Printed
from twistedipc.runner.stepclock import LOOK_EVERY, RETRY_EVERY, Do, Facts, ProcessState, StepClock, Wait

_T = TypeVar("_T")

#: Seconds after which a process that can't be killed (it hangs in the kernel) is given up.
GIVE_UP = 30.0

# What programs say then, in the locale that our own steps have.
_NO_ROOM = os.strerror(errno.ENOSPC).encode()


class EarlyEnd(msgspec.Struct, frozen=True):
    """A reason for which the attempt ends before its steps have."""

    outcome: Literal["failed", "cancelled", "timed_out"]
    reason: str


class NoRoom(Exception):
    """The runner ends without a result, since the disk takes none."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What a step runs."""

    name: str
    command: str  # as a person would type it; "" where the platform does the step itself
    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    channel: Path | None = None  # the folder for its channel's socket; None: it has nothing to say
    channel_seen: str = ""  # where the step sees that folder, if that is another place
    reach: Reach = Reach()  # what it can see and use, where steps are isolated
    namespaces: Sequence[int] = ()  # descriptors of those that its process joins
    tops: Sequence[str] | None = None  # folders that paths in its output are in; None: no messages are in its output


class TimeLimits(msgspec.Struct, kw_only=True):
    """The attempt's deadlines, in seconds."""

    timeout: float
    idle_timeout: float
    grace: float


class Steps:
    """Runs the steps of one attempt."""

    def __init__(
        self,
        *,
        log: AttemptLog,
        control: Orders,
        limits: TimeLimits,
        guard: Guard,
        outside: Outside,
        isolation: Isolation = NOT_ISOLATED,
    ) -> None:
        self.limits = limits
        self._isolation = isolation
        self.results: list[StepResult] = []
        self._log = log
        self._control = control
        self._guard = guard
        self._outside = outside
        self._began = outside.clock()
        #: whether the last step has printed that its disk is full, which may have been over before the runner looked
        self.said_no_room = False
        #: why the attempt is to end early, once it is
        self.stopped: EarlyEnd | None = None

    def settle(self) -> None:
        """
        Wait until all of the log is durable. Only a full disk makes this long; then only SIGTERM ends it, by raising
        `NoRoom`.
        """
        self.persist(self._log.sync)

    def persist(self, write: Callable[[], bool]) -> None:
        """Try ``write``, with all of the log before it, until the disk takes it. Raises `NoRoom` after a SIGTERM."""
        give_up: float | None = None
        while True:
            self._log.retry()
            if not self._log.blocked and write():
                return
            if self._control.told_to_stop:
                now = self._outside.clock()
                give_up = give_up or now + self.limits.grace
                if now >= give_up:
                    raise NoRoom("told to stop while the disk took nothing")
            self._wait((), RETRY_EVERY)

    def run(self, command: Command) -> StepResult:
        """Run a step to its end, whatever that is. Why the attempt is to end early is in `stopped` afterwards."""
        log, clock = self._log, self._outside.clock
        log.step += 1
        self.said_no_room = False
        started, began = self._outside.now(), clock()
        log.event(StepStarted(log.step, command.name, command.command))
        code: int | None = None
        self.wait_until(log.takes_more)
        log.short_of_room = False
        if not self._is_to_end():
            code = self._run_process(command)
            self._end_if_exceeded(self._guard.verdict(failed=code != 0))
        outcome = self.stopped.outcome if self.stopped else "succeeded" if code == 0 else "failed"
        log.event(StepEnded(log.step, outcome, round((clock() - began) * 1000), code))
        self.settle()
        result = StepResult(
            index=log.step,
            name=command.name,
            command=command.command,
            outcome=outcome,
            started=started,
            ended=max(self._outside.now(), started),
            exit_code=code,
        )
        self.results.append(result)
        return result

    def wait_until(self, there: Callable[[], bool]) -> None:
        """Wait until ``there`` returns true, or the attempt is to end. This isn't silence: no process runs."""
        while not self._is_to_end() and not there():
            self._wait((), min(RETRY_EVERY, max(0.0, self._deadline - self._outside.clock())))

    def wait_for_permit(self) -> Permit | None:
        """Wait for the answer to `PermitWanted`; None if the attempt is to end first. This isn't silence."""
        return self.wait_for(self._control.take_permit)

    def wait_for(self, take: Callable[[], _T | None], sources: Callable[[], Sequence[int]] = tuple) -> _T | None:
        """
        Wait until ``take`` returns something, which is asked when one of the descriptors of ``sources`` is readable,
        and now and then. None if the attempt is to end first. This isn't silence.
        """
        while not self._is_to_end():
            taken = take()
            if taken is not None:
                return taken
            self._wait(sources(), min(LOOK_EVERY, max(0.0, self._deadline - self._outside.clock())))
        return None

    # -- the attempt's early end --

    @property
    def _deadline(self) -> float:
        return self._began + self.limits.timeout

    def _is_to_end(self) -> bool:
        """Return whether the attempt is to end, while no process runs."""
        if self.stopped is None and not self._is_cancelled() and self._outside.clock() >= self._deadline:
            self._stop_late()
        return self.stopped is not None

    def _is_cancelled(self) -> bool:
        """Return whether the attempt was cancelled. The log says so, once."""
        cancel = self._control.cancelled()
        if cancel is None:
            return False
        if self.stopped is None:
            self.stopped = EarlyEnd("cancelled", cancel.reason)
            self._log.note("warning", f"cancelled: {cancel.reason}")
        return True

    def _stop_late(self) -> None:
        self._stop(f"it took longer than {self.limits.timeout:g} seconds")

    def _stop_silent(self) -> None:
        self._stop(f"nothing was printed for {self.limits.idle_timeout:g} seconds")

    def _stop(self, reason: str, outcome: Literal["failed", "timed_out"] = "timed_out") -> None:
        self.stopped = EarlyEnd(outcome, reason)
        self._log.note("error", reason)

    def _end_if_exceeded(self, reason: str) -> bool:
        """End the attempt if there is a limit that it has exceeded, unless it is to end already."""
        if reason and self.stopped is None:
            self._stop(reason, "failed")
            return True
        return False

    # -- a step's process --

    def _run_process(self, command: Command) -> int:
        processes = self._outside.processes
        reading, writing = os.pipe2(os.O_CLOEXEC)
        interleaving = self._open_channel(command)
        try:
            os.set_blocking(reading, False)
            environment = {**command.environment, **interleaving.environment(reading)}
            launch = launched(
                self._isolation, command.argv, environment, str(command.folder), command.reach, self._guard.within
            )
            launch = replace(launch, before=[self._guard.enter, *launch.before], namespaces=command.namespaces)
            try:
                child = processes.spawn(launch, output=writing)
            finally:
                os.close(writing)
            code, ended = self._follow(child, reading, interleaving)
            say_rest = interleaving.end_output()
            self._log.end_output()
            say_rest()
            interleaving.rest(lambda: self.persist(lambda: True))
        finally:
            os.close(reading)
            interleaving.close()
        left = processes.bury(child, GIVE_UP)
        if self.stopped is None and (left or not ended):
            self._log.note("warning", "something that this step had left running was stopped")
        return code

    def _open_channel(self, command: Command) -> Interleaving:
        channel: Channel = NoChannel()
        if command.channel is not None:
            try:
                channel = self._outside.channel(command.channel, command.channel_seen)
            except OSError as error:
                self._log.note("warning", f"this step has no channel: {error.strerror}")
        return Interleaving(
            channel,
            token=self._outside.random(8).hex(),
            mask=self._log.mask_within_bounds,
            feed=self._log.feed,
            say=self._log.events,
            clock=self._outside.clock,
            printed=None if command.tops is None else Printed(command.tops),
        )

    def _follow(self, child: Child, pipe: int, interleaving: Interleaving) -> tuple[int, bool]:
        """
        Read a process's output and its channel until it has ended. Return its exit code, and whether its output ended.
        """
        code = -1
        clock = StepClock(
            self._outside.clock(),
            deadline=self._deadline,
            idle_timeout=self.limits.idle_timeout,
            grace=self.limits.grace,
            capacity=_capacity(pipe),
        )
        self._look_at_disk(clock)
        while True:
            now = self._outside.clock()
            match clock.next(now, self._facts(pipe, interleaving, now)):
                case Wait() as wait:
                    self._listen(wait, clock, pipe, interleaving)
                    self._look_at_disk(clock)
                case Do.LOOK:
                    status = self._outside.processes.reap().get(child.pid)
                    pause = LOOK_EVERY
                    if status is not None:
                        code = exit_code(status)
                        clock.exited(now)
                    elif clock.process is ProcessState.RUNNING:
                        pause = self._look(child, clock, now)
                    clock.looked(now, pause)
                case Do.STOP_LATE:
                    self._stop_late()
                    self._tell_to_end(child, clock, now)
                case Do.STOP_SILENT:
                    self._stop_silent()
                    self._tell_to_end(child, clock, now)
                case Do.KILL:
                    self._outside.processes.kill(child)
                case Do.SHOW:
                    interleaving.release()
                    self._log.show_partial()
                case Do.CATCH_UP:
                    interleaving.catch_up(now)
                case Do.END:
                    return code, clock.output_ended
                case never:
                    assert_never(never)

    def _look(self, child: Child, clock: StepClock, now: float) -> float:
        """Look whether a running process is to end. Return the seconds until the next look."""
        if self._is_cancelled():
            self._tell_to_end(child, clock, now)
        elif self._end_if_exceeded(self._guard.look()):
            self._guard.kill()
            clock.told_to_end(now, grace=0)
        return self._guard.pause()

    def _tell_to_end(self, child: Child, clock: StepClock, now: float) -> None:
        self._outside.processes.tell_to_end(child)
        clock.told_to_end(now)

    def _look_at_disk(self, clock: StepClock) -> None:
        if clock.process is not ProcessState.EXITED:
            self._log.look_at_room()
        clock.waited(self._log.retry())

    def _facts(self, pipe: int, interleaving: Interleaving, now: float) -> Facts:
        held = self._log.pending or interleaving.holds
        return Facts(
            blocked=self._log.blocked,
            low=self._log.low,
            held=held,
            unread=held and available(pipe) > 0,
            listen_at=interleaving.listen_at(now),
            catch_up_at=interleaving.catch_up_at,
        )

    def _listen(self, wait: Wait, clock: StepClock, pipe: int, interleaving: Interleaving) -> None:
        """
        Wait, and read what has come. That output and messages get their order (``order``) depends on the order in
        which this is done:

        1. The bytes are counted that are in the pipe.
        2. All is read that was sent on the channel by then.
        3. The bytes that were counted are read, and no more. While some of them are left, 1 and 2 aren't done again.
        """
        began = self._outside.clock()
        sources = [*([pipe] if wait.output else ()), *(interleaving.descriptors(began) if wait.channel else ())]
        ready, rang = self._wait(sources, wait.seconds)
        if rang:
            clock.rang()
        if wait.output and pipe not in ready:
            clock.found_nothing()
        now = self._outside.clock()
        if not wait.channel or (not ready and not interleaving.wants(now)):
            return
        if interleaving.owed == 0 and interleaving.listen(0 if clock.output_ended else available(pipe), now):
            clock.heard(now)
        if interleaving.owed == 0:
            if ready.get(pipe, 0) & select.POLLHUP:
                clock.end_output()
            return
        data = _read(pipe, min(interleaving.owed, BLOCK_BYTES))
        if data is None:
            interleaving.vanished()
            return
        self.said_no_room = self.said_no_room or _NO_ROOM in data
        clock.read(self._outside.clock(), len(data))
        interleaving.read(data)

    def _wait(self, more: Sequence[int], seconds: float) -> tuple[dict[int, int], bool]:
        """Wait for something to read, or a bell. Return what is readable, with its events; and whether a bell rang."""
        bells = self._control.descriptors
        ready = self._outside.poll((*bells, *more), seconds)
        rung = [bell for bell in bells if ready.pop(bell, 0)]
        if rung:
            self._control.quieten()
        return ready, bool(rung)


def _read(pipe: int, size: int) -> bytes | None:
    """Return the next bytes of a pipe; None if there are none, since another process has read them."""
    try:
        return os.read(pipe, size) or None
    except BlockingIOError:
        return None


def _capacity(pipe: int) -> int:
    """Return the most bytes that a pipe holds."""
    try:
        return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    except (AttributeError, OSError):  # not Linux
        return 1 << 20
