"""
One step at a time: a command's process, its output and what it says on its channel into the journal, its deadlines, its
end. Used by ``course``.

A step ends when its process has exited and its output has ended, or `DRAIN` seconds later, since something that it left
running may hold the pipe for ever. Its process group is killed then. When the attempt is to end (it was cancelled, its
time is up, it has been silent for too long), the group gets SIGTERM, and after the grace SIGKILL.

Output and channel are two ways, so what comes on them has no order of its own. ``order`` gives it one, by way of
``conversation``.

While the disk takes no more of the journal, or has less room than the reserve, no step is begun, and the output of a
running one, and its channel, aren't read: the build waits, and the clock for silence stands. Of the reserve, only the
build has nothing: events are written, and a process that is to end, or has ended, is seen to its end.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from twistedipc.attempts.journal import Journal
from twistedipc.attempts.processes import exit_code, group_alive, reap, signal_group, spawn
from twistedipc.attempts.room import Room, readable
from twistedipc.builds.attempt import Permit, StepResult
from twistedipc.builds.logs import Event, Lines, Notice, StepEnded, StepStarted
from twistedipc.runner.capture import BLOCK_BYTES, Capture
from twistedipc.runner.channel import available
from twistedipc.runner.control import LOOK_EVERY, Control
from twistedipc.runner.conversation import Conversation

#: Seconds that a step's output may go on after its process has exited.
DRAIN = 0.5
#: Seconds after which a partial line is shown.
FLUSH_AFTER = 0.5
#: Seconds between two attempts to write to a full disk.
RETRY_EVERY = 0.5

# Output that trickles is read this many seconds after the last time, so that a build which prints line by line costs
# two hundred appends a second and not ten thousand. Where that filled a whole block, output is read as it comes for a
# while, so that the build isn't held up.
_GATHER = 0.005
_BUSY = 0.1


# What programs say then, in the locale that our own steps have.
_NO_ROOM = os.strerror(errno.ENOSPC).encode()


class Stop(msgspec.Struct, frozen=True):
    """Why the attempt ends early."""

    outcome: Literal["cancelled", "timed_out"]
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


class Limits(msgspec.Struct, kw_only=True):
    """The attempt's deadlines, in seconds."""

    timeout: float
    idle_timeout: float
    grace: float


class Steps:
    """The steps of one attempt, and the log that they write."""

    def __init__(
        self,
        *,
        journal: Journal,
        capture: Capture,
        control: Control,
        room: Room,
        limits: Limits,
        now: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self.limits = limits
        self.results: list[StepResult] = []
        self._journal = journal
        self._capture = capture
        self._control = control
        self._room = room
        self._now = now  # milliseconds since the epoch
        self._clock = clock  # seconds, monotonic
        self._began = clock()
        self._index = -1
        self._low = False  # less is free than the reserve
        self._waiting_since: float | None = None  # for the disk, on the clock
        self._waiting_why = ""
        #: whether the disk was full, or nearly, while the last step ran
        self.short_of_room = False
        #: whether the last step has said that its disk is full, which may have been over before anybody looked
        self.said_no_room = False
        #: why the attempt is to end early, once it is
        self.stopped: Stop | None = None

    # -- the log --

    def event(self, event: Event) -> None:
        """Put an event into the log, after all that was read so far."""
        self._append(self._capture.event(event, self._now(), self._index))

    def _say(self, events: Sequence[Event]) -> None:
        self._append(self._capture.events(events, self._now(), self._index))

    def note(self, level: Literal["info", "warning", "error"], message: str) -> None:
        """Say something in the log."""
        self.event(Notice(level, message))

    def mask(self, secret: str) -> None:
        """Hide a secret from now on."""
        self._capture.mask([secret])

    def hide(self, text: str) -> str:
        """A text that goes elsewhere than into the log, without what is hidden there."""
        return self._capture.hide(text)

    def first_with_secret(self, texts: Sequence[str]) -> str | None:
        """The first of these texts that has something in it which is hidden; None if none has."""
        return self._capture.first_with_secret(texts)

    def settle(self) -> None:
        """
        Wait until all of the log is durable. Only a full disk makes this long; then only SIGTERM ends it, by raising
        `NoRoom`.
        """
        self.persist(self._journal.sync)

    def persist(self, write: Callable[[], bool]) -> None:
        """Try ``write``, with all of the log before it, until the disk takes it. Raises `NoRoom` after a SIGTERM."""
        give_up: float | None = None
        while True:
            self._retry()
            if not self._journal.blocked and write():
                return
            if self._control.told_to_stop:
                give_up = give_up or self._clock() + self.limits.grace
                if self._clock() >= give_up:
                    raise NoRoom("told to stop while the disk took nothing")
            self._wait((), RETRY_EVERY)

    def _append(self, batches: list[Lines]) -> None:
        for batch in batches:
            self._journal.append(batch)
        if self._journal.blocked:
            self._begin_to_wait(f"the builder's disk took no more ({self._journal.blocked})")

    def _begin_to_wait(self, why: str) -> None:
        self.short_of_room = True
        if self._waiting_since is None:
            self._waiting_since = self._clock()
            self._waiting_why = why

    def _look_at_room(self) -> None:
        """Let the build wait while less is free than the reserve, and say so."""
        was, self._low = self._low, self._room.low()
        if self._low and not was:
            self._begin_to_wait("the builder's disk was nearly full")
            size = readable(self._room.reserve)
            self.note("warning", f"the builder's disk is nearly full: the build waits until more than {size} are free")

    def _retry(self) -> float:
        """If the build waits for the disk, try again: for how many seconds it has waited, if it no longer does."""
        since = self._waiting_since
        if since is None or (self._journal.blocked and not self._journal.retry()) or self._low:
            return 0.0
        self._waiting_since = None
        seconds = self._clock() - since
        self.note("warning", f"{self._waiting_why}: the build waited for {seconds:.1f} s")
        return seconds

    def _may_go_on(self) -> bool:
        self._look_at_room()
        self._retry()
        return self._waiting_since is None

    # -- steps --

    def run(self, command: Command) -> StepResult:
        """Run a step to its end, whatever that is. Why the attempt is to end early is in `stopped` afterwards."""
        self._index += 1
        self.said_no_room = False
        started, began = self._now(), self._clock()
        self.event(StepStarted(self._index, command.name, command.command))
        code: int | None = None
        self.wait_until(self._may_go_on)
        self.short_of_room = False
        if not self._stop_now(None):
            code = self._run_process(command)
        outcome = self.stopped.outcome if self.stopped else "succeeded" if code == 0 else "failed"
        milliseconds = round((self._clock() - began) * 1000)
        self.event(StepEnded(self._index, outcome, milliseconds, code))
        self.settle()
        result = StepResult(
            index=self._index,
            name=command.name,
            command=command.command,
            outcome=outcome,
            started=started,
            ended=max(self._now(), started),
            exit_code=code,
        )
        self.results.append(result)
        return result

    def wait_until(self, there: Callable[[], bool]) -> None:
        """Wait for it, or until the attempt is to end. This isn't silence: no process runs."""
        while not self._stop_now(None) and not there():
            self._wait((), min(RETRY_EVERY, max(0.0, self._deadline - self._clock())))

    def wait_for_permit(self) -> Permit | None:
        """The answer to `PermitWanted`; None if the attempt is to end first. This isn't silence: no process runs."""
        while not self._stop_now(None):
            permit = self._control.take_permit()
            if permit is not None:
                return permit
            self._wait((), min(LOOK_EVERY, max(0.0, self._deadline - self._clock())))
        return None

    @property
    def _deadline(self) -> float:
        return self._began + self.limits.timeout

    def _stop_now(self, last_output: float | None) -> bool:
        """Whether the attempt is to end: says so in the log, once."""
        if self.stopped is None:
            cancel = self._control.cancelled()
            now = self._clock()
            if cancel is not None:
                self.stopped = Stop("cancelled", cancel.reason)
                self.note("warning", f"cancelled: {cancel.reason}")
            elif now >= self._deadline:
                self.stopped = Stop("timed_out", f"it took longer than {self.limits.timeout:g} seconds")
                self.note("error", self.stopped.reason)
            elif last_output is not None and now >= last_output + self.limits.idle_timeout:
                self.stopped = Stop("timed_out", f"nothing was printed for {self.limits.idle_timeout:g} seconds")
                self.note("error", self.stopped.reason)
        return self.stopped is not None

    def _run_process(self, command: Command) -> int:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        talk = self._open_channel(command)
        environment = command.environment
        try:
            os.set_blocking(reading, False)
            try:
                if talk is not None:
                    environment = {**environment, **talk.environment(reading)}
                process = spawn(command.argv, environment=environment, folder=command.folder, output=writing)
            finally:
                os.close(writing)
            code, ended = self._follow(process, reading, talk)
            say_rest = None if talk is None else talk.end_output()
            self._append(self._capture.end_output(self._now(), self._index))
            if talk is not None and say_rest is not None:
                say_rest()
                talk.rest(lambda: self.persist(lambda: True))
        finally:
            os.close(reading)
            if talk is not None:
                talk.close()
        if self.stopped is None and (not ended or group_alive(process)):
            self.note("warning", "something that this step had left running was stopped")
        signal_group(process, signal.SIGKILL)
        return code

    def _open_channel(self, command: Command) -> Conversation | None:
        if command.channel is None:
            return None
        try:
            return Conversation(
                command.channel,
                mask=self._capture.mask_within_bounds,
                feed=self._feed,
                say=self._say,
                clock=self._clock,
            )
        except OSError as error:
            self.note("warning", f"this step has no channel: {error.strerror}")
            return None

    def _feed(self, data: bytes) -> None:
        self._append(self._capture.feed(data, self._now(), self._index))

    def _follow(self, process: int, pipe: int, talk: Conversation | None) -> tuple[int, bool]:
        """
        Read a process's output and its channel until it has ended: its exit code, and whether its output ended too.

        In each turn, first the bytes are counted that are in the pipe, then all is read that is on the channel, then
        those bytes are read, which may take several turns.
        """
        code: int | None = None
        at_end = False  # of the output
        rang = True  # something may have happened: a signal, a bell
        last_output = alive = self._clock()
        read_at = busy_until = look_at = drain_until = 0.0
        kill_at: float | None = None
        # What the process had written when it exited is still in the pipe, which holds no more than this; or less than
        # that, once there was nothing to read. However long we were kept from reading, it is read.
        left = _capacity(pipe)
        while True:
            now = self._clock()
            if code is None:
                self._look_at_room()
            waited = self._retry()
            last_output += waited
            alive += waited
            if rang or now >= look_at or now >= alive + self.limits.idle_timeout:
                if code is None and (status := reap().get(process)) is not None:
                    code = exit_code(status)
                    drain_until = now + DRAIN
                silent_since = alive if self._waiting_since is None else None
                if code is None and self.stopped is None and self._stop_now(silent_since):
                    signal_group(process, signal.SIGTERM)
                    kill_at = now + self.limits.grace
                look_at = now + LOOK_EVERY
                if code is None and self.stopped is None:
                    look_at = min(look_at, self._deadline)
            if code is None and kill_at is not None and now >= kill_at:
                signal_group(process, signal.SIGKILL)
                os.kill(process, signal.SIGKILL)  # it may have left its group
                kill_at = None
            # What a process has left in the pipe when it ended is little enough for the reserve.
            waits = bool(self._journal.blocked) or (self._low and code is None)
            if code is not None and waits:
                drain_until = now + DRAIN  # this isn't the time that it is given to end its output
            elif code is not None and (at_end or (left <= 0 and now >= drain_until)):
                return code, at_end
            pending = self._capture.pending or (talk is not None and talk.holds)
            if pending and now >= last_output + FLUSH_AFTER and not waits and not available(pipe):
                if talk is not None:
                    talk.release()
                self._append(self._capture.flush_partial(self._now(), self._index))
                continue
            if talk is not None and not waits and talk.overdue(now):
                talk.catch_up(now)
                continue

            due = [look_at]
            sources: list[int] = []
            if waits:
                due.append(now + RETRY_EVERY)
            else:
                if now < read_at:
                    due.append(read_at)
                elif not at_end:
                    sources.append(pipe)
                if pending:
                    due.append(last_output + FLUSH_AFTER)
                if talk is not None:
                    sources += talk.descriptors(now)
                    if (talk_at := talk.due(now)) is not None:
                        due.append(talk_at)
            if code is not None:
                if not waits:  # else it is over only when there is room
                    due.append(drain_until)
            else:
                if kill_at is not None:
                    due.append(kill_at)
                if self.stopped is None and not waits:
                    due.append(alive + self.limits.idle_timeout)
            ready, rang = self._wait(sources, max(0.0, min(due) - now))
            if code is not None and pipe in sources and pipe not in ready:
                left = 0
            now = self._clock()
            if waits or (not ready and (talk is None or not talk.wants(now))):
                continue
            if talk is None:
                owed = available(pipe)
            else:
                if talk.owed == 0 and talk.listen(0 if at_end else available(pipe), now):
                    alive = now
                owed = talk.owed
            if owed == 0:
                # There are no more bytes, and nobody who could write any.
                at_end = at_end or bool(ready.get(pipe, 0) & select.POLLHUP)
                continue
            data = _read(pipe, min(owed, BLOCK_BYTES))
            if data is None:
                if talk is not None:
                    talk.vanished()
                continue
            if code is not None:
                left -= len(data)
            self.said_no_room = self.said_no_room or _NO_ROOM in data
            last_output = alive = self._clock()
            if len(data) == BLOCK_BYTES:
                busy_until = last_output + _BUSY
            read_at = last_output if last_output < busy_until else last_output + _GATHER
            if talk is None:
                self._feed(data)
            else:
                talk.read(data)
            self._room.written(len(data))

    def _wait(self, more: Sequence[int], seconds: float) -> tuple[dict[int, int], bool]:
        """Wait for something to read, or a bell: what of ``more`` is readable, with its events; whether one rang."""
        poll = select.poll()
        for descriptor in (*self._control.descriptors, *more):
            poll.register(descriptor, select.POLLIN)
        ready = dict(poll.poll(math.ceil(seconds * 1000)))
        bells = [ready.pop(descriptor, None) for descriptor in self._control.descriptors]
        rang = any(bells)
        if rang:
            self._control.quieten()
        return ready, rang


def _read(pipe: int, size: int) -> bytes | None:
    """The next bytes of a pipe; None if there are none, since somebody else has read them."""
    try:
        return os.read(pipe, size) or None
    except BlockingIOError:
        return None


def _capacity(pipe: int) -> int:
    """The most bytes that a pipe holds."""
    try:
        return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    except (AttributeError, OSError):  # not Linux
        return 1 << 20
