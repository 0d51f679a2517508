"""
The course of one step in time: what is to be done next, and when. No I/O, and no clock; used by ``steps``.

`StepClock.next` is given the time and the facts of that moment, and returns one thing to do. The caller does it, tells
the result (`looked`, `exited`, `told_to_end`, `read`, `heard` …), and asks again. The states of the step's process,
each left only to the right::

    running ──► ending ──► killed ──► exited
       │          │                     ▲
       └──────────┴─────────────────────┘

A process is *ending* once it has got SIGTERM, and *killed* once it has got SIGKILL. A step is over when its process has
exited and its output has ended; or `DRAIN` seconds after the exit, since something that the process left running may
hold the pipe for ever. What the process had written before its exit is read in any case, however long that takes.

While the disk takes no more of the log, or has less room than the reserve, neither output nor channel is read. Some
timers stand meanwhile: `TIMERS` says which.
"""

from __future__ import annotations

import math
from enum import Enum, IntEnum, auto

import msgspec

from twistedipc.runner.capture import BLOCK_BYTES

#: Seconds after which the files that say something to the runner are looked at although no bell rang.
LOOK_EVERY = 1.0
#: Seconds that a step's output may go on after its process has exited.
DRAIN = 0.5
#: Seconds after which a partial line is shown.
SHOW_AFTER = 0.5
#: Seconds between two attempts to write to a full disk.
RETRY_EVERY = 0.5

# Output that trickles is read this many seconds after the last time, so that a build which prints line by line costs
# two hundred appends a second and not ten thousand. Where that filled a whole block, output is read as it comes for a
# while, so that the build isn't held up.
_GATHER = 0.005
_BUSY = 0.1


class ProcessState(Enum):
    """What has become of the step's process."""

    RUNNING = auto()
    ENDING = auto()  # it was told to end, and has the grace for that
    KILLED = auto()
    EXITED = auto()


class Do(Enum):
    """What the step's process loop is to do next."""

    LOOK = auto()  # has the process exited, is the attempt cancelled? Answered by `looked`, after `exited` or the like
    STOP_LATE = auto()  # the attempt's time is up: tell the process to end. Answered by `told_to_end`
    STOP_SILENT = auto()  # nothing was printed or said for too long: the same
    KILL = auto()  # the grace is over: kill the process
    SHOW = auto()  # show what is held back of the output
    CATCH_UP = auto()  # give up waiting for what orders the messages, and say what was held back of them
    END = auto()  # the step is over


class Wait(msgspec.Struct, frozen=True):
    """Wait for so many seconds, or until something comes: a bell, and what else is to be heard."""

    seconds: float
    output: bool  # whether output is read when there is some
    channel: bool  # whether messages are


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a moment. Times are on the same clock as ``now``."""

    blocked: bool = False  # the disk takes no more of the log
    low: bool = False  # the disk has less room than the reserve
    held: bool = False  # part of the output is held back, which `Do.SHOW` would show
    unread: bool = False  # there is output to be read
    listen_at: float = math.inf  # when the channel is to be listened to, though nothing may be readable
    catch_up_at: float = math.inf  # when it is time for `Do.CATCH_UP`


class StepTimer(IntEnum):
    """The timers of a step."""

    LOOK = 0
    DEADLINE = 1
    SILENCE = 2
    GRACE = 3
    DRAIN = 4
    SHOW = 5
    CATCH_UP = 6
    LISTEN = 7
    READ = 8
    RETRY = 9


class WhileFull(Enum):
    """What a timer does while the log waits for the disk."""

    RUNS = auto()
    STANDS = auto()
    ALONE = auto()  # it counts only then


class Rule(msgspec.Struct, frozen=True):
    """When a timer counts, and what it is for. One without ``do`` only ends a wait."""

    phases: frozenset[ProcessState]
    do: Do | None
    full: WhileFull


_ALL = frozenset(ProcessState)
_ALIVE = _ALL - {ProcessState.EXITED}

#: The timers, in the order in which they are seen to when several are due.
TIMERS = {
    StepTimer.LOOK: Rule(_ALIVE, Do.LOOK, WhileFull.RUNS),
    StepTimer.DEADLINE: Rule(frozenset({ProcessState.RUNNING}), Do.STOP_LATE, WhileFull.RUNS),
    StepTimer.SILENCE: Rule(frozenset({ProcessState.RUNNING}), Do.STOP_SILENT, WhileFull.STANDS),
    StepTimer.GRACE: Rule(frozenset({ProcessState.ENDING}), Do.KILL, WhileFull.RUNS),
    StepTimer.DRAIN: Rule(frozenset({ProcessState.EXITED}), Do.END, WhileFull.STANDS),
    StepTimer.SHOW: Rule(_ALL, Do.SHOW, WhileFull.STANDS),
    StepTimer.CATCH_UP: Rule(_ALL, Do.CATCH_UP, WhileFull.STANDS),
    StepTimer.LISTEN: Rule(_ALL, None, WhileFull.STANDS),
    StepTimer.READ: Rule(_ALIVE, None, WhileFull.STANDS),
    StepTimer.RETRY: Rule(_ALL, None, WhileFull.ALONE),
}


def _counting(phase: ProcessState, full: bool) -> tuple[StepTimer, ...]:
    skipped = WhileFull.STANDS if full else WhileFull.ALONE
    return tuple(timer for timer, rule in TIMERS.items() if phase in rule.phases and rule.full is not skipped)


# The timers that count while there is room, and while there is none. There are some turns for each few lines of output:
# so these are known before, and names of members, which cost most of a turn, aren't looked up in it.
_COUNTING = {phase: (_counting(phase, False), _counting(phase, True)) for phase in ProcessState}
_EXITED = ProcessState.EXITED
_DRAIN, _SHOW, _CATCH_UP, _LISTEN, _READ, _RETRY = map(
    int, (StepTimer.DRAIN, StepTimer.SHOW, StepTimer.CATCH_UP, StepTimer.LISTEN, StepTimer.READ, StepTimer.RETRY)
)


class StepClock:
    """
    One step's clock. ``deadline`` is the attempt's; ``idle_timeout`` and ``grace`` are in seconds. ``capacity`` is the
    most bytes that the pipe of the output holds.
    """

    def __init__(self, now: float, *, deadline: float, idle_timeout: float, grace: float, capacity: int) -> None:
        self.process = ProcessState.RUNNING
        #: whether the output has ended: nothing is left that could write any
        self.output_ended = False
        self._idle_timeout = idle_timeout
        self._grace = grace
        # How many bytes may be in the pipe that the process wrote before it exited.
        self._left = capacity
        self._busy_until = now
        self._looked = False  # since the last wait
        self._show_at = math.inf
        self._counting = _COUNTING[self.process]
        self._at = [math.inf] * len(StepTimer)
        self._at[StepTimer.LOOK] = now
        self._at[StepTimer.DEADLINE] = deadline
        self._at[StepTimer.SILENCE] = now + idle_timeout

    def next(self, now: float, facts: Facts) -> Do | Wait:
        """Return the next thing to do, or how long to wait and for what."""
        exited = self.process is _EXITED
        # What a process has left in the pipe when it ended is little enough for the reserve.
        full = facts.blocked or (facts.low and not exited)
        timers = self._at
        # What there is to read may complete what is held back.
        timers[_SHOW] = self._show_at if facts.held and not facts.unread else math.inf
        timers[_CATCH_UP] = facts.catch_up_at
        timers[_LISTEN] = facts.listen_at
        if timers[_READ] <= now:
            timers[_READ] = math.inf
        if full:
            timers[_RETRY] = now + RETRY_EVERY
            if exited:
                # This isn't the time that the process's output is given to end.
                timers[_DRAIN] = now + DRAIN
        elif exited and self.output_ended:
            return Do.END
        due = math.inf
        for timer in self._counting[full]:
            at = timers[timer]
            if at <= now and (do := self._due(timer)) is not None:
                return do
            if at < due:
                due = at
        self._looked = False
        gathers = timers[_READ] < math.inf and not exited
        return Wait(max(0.0, due - now), not (full or gathers or self.output_ended), not full)

    # -- results --

    def rang(self) -> None:
        """Note that a bell rang: the process may have exited, or the attempt may be cancelled."""
        self._at[StepTimer.LOOK] = -math.inf

    def looked(self, now: float, pause: float = LOOK_EVERY) -> None:
        """Note that `Do.LOOK` is done; the next is due in ``pause`` seconds, or in `LOOK_EVERY` if that is less."""
        self._looked = True
        self._at[StepTimer.LOOK] = now + min(pause, LOOK_EVERY)

    def told_to_end(self, now: float, grace: float | None = None) -> None:
        """Note that the process was told to end, and has so many seconds for it; None: the usual grace."""
        if self.process is ProcessState.RUNNING:
            self._enter(ProcessState.ENDING)
            self._at[StepTimer.GRACE] = now + (self._grace if grace is None else grace)

    def exited(self, now: float) -> None:
        """Note that the process has exited."""
        if self.process is not ProcessState.EXITED:
            self._enter(ProcessState.EXITED)
            self._at[StepTimer.DRAIN] = now + DRAIN

    def read(self, now: float, size: int) -> None:
        """Note that so many bytes of output were read."""
        if self.process is _EXITED:
            self._left -= size
        if size >= BLOCK_BYTES:
            self._busy_until = now + _BUSY
        self._at[_READ] = now if now < self._busy_until else now + _GATHER
        self._show_at = now + SHOW_AFTER
        self.heard(now)

    def heard(self, now: float) -> None:
        """Note that the step has given a sign of life."""
        self._at[StepTimer.SILENCE] = now + self._idle_timeout

    def waited(self, seconds: float) -> None:
        """Note that a wait for the disk is over, which took so long. The wait was no silence."""
        self._at[StepTimer.SILENCE] += seconds
        self._show_at += seconds

    def found_nothing(self) -> None:
        """Note that there was no output when it was time to read some."""
        if self.process is ProcessState.EXITED:
            self._left = 0

    def end_output(self) -> None:
        """Note that the output has ended: nothing is left that could write any."""
        self.output_ended = True

    def _due(self, timer: StepTimer) -> Do | None:
        """Return what is to be done since this timer is due; None if nothing is, or not yet."""
        if timer in (StepTimer.DEADLINE, StepTimer.SILENCE) and not self._looked:
            return Do.LOOK  # the process may have exited, and a cancellation is the better reason
        if timer is StepTimer.DRAIN and self._left > 0:
            return None  # there may be something to read, which is seen at once
        if timer is StepTimer.GRACE:
            self._enter(ProcessState.KILLED)
        elif timer is StepTimer.SHOW:
            self._show_at = math.inf  # until something more was read
        return TIMERS[timer].do

    def _enter(self, phase: ProcessState) -> None:
        self.process = phase
        self._counting = _COUNTING[phase]
