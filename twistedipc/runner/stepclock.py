"""
The course of one step in time: what is to be done next, and when. No I/O, and no clock; used by ``steps``.

`StepClock.next` is given the time and what is so at that moment, and returns one thing to do. The caller does it, tells
what came of it (`looked`, `exited`, `told_to_end`, `read`, `heard` …), and asks again. The phases of the step's
process, each left only to the right::

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


class Phase(Enum):
    """What has become of the step's process."""

    RUNNING = auto()
    ENDING = auto()  # it was told to end, and has the grace for that
    KILLED = auto()
    EXITED = auto()


class Do(Enum):
    """What is to be done now."""

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
    """What is so at a moment. Times are on the same clock as ``now``."""

    blocked: bool = False  # the disk takes no more of the log
    low: bool = False  # the disk has less room than the reserve
    held: bool = False  # part of the output is held back, which `Do.SHOW` would show
    unread: bool = False  # there is output to be read
    listen_at: float = math.inf  # when the channel is to be listened to, though nothing may be readable
    catch_up_at: float = math.inf  # when it is time for `Do.CATCH_UP`


class Timer(IntEnum):
    """What is waited for."""

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

    phases: frozenset[Phase]
    do: Do | None
    full: WhileFull


_ALL = frozenset(Phase)
_ALIVE = _ALL - {Phase.EXITED}

#: The timers, in the order in which they are seen to when several are due.
TIMERS = {
    Timer.LOOK: Rule(_ALIVE, Do.LOOK, WhileFull.RUNS),
    Timer.DEADLINE: Rule(frozenset({Phase.RUNNING}), Do.STOP_LATE, WhileFull.RUNS),
    Timer.SILENCE: Rule(frozenset({Phase.RUNNING}), Do.STOP_SILENT, WhileFull.STANDS),
    Timer.GRACE: Rule(frozenset({Phase.ENDING}), Do.KILL, WhileFull.RUNS),
    Timer.DRAIN: Rule(frozenset({Phase.EXITED}), Do.END, WhileFull.STANDS),
    Timer.SHOW: Rule(_ALL, Do.SHOW, WhileFull.STANDS),
    Timer.CATCH_UP: Rule(_ALL, Do.CATCH_UP, WhileFull.STANDS),
    Timer.LISTEN: Rule(_ALL, None, WhileFull.STANDS),
    Timer.READ: Rule(_ALIVE, None, WhileFull.STANDS),
    Timer.RETRY: Rule(_ALL, None, WhileFull.ALONE),
}


def _counting(phase: Phase, full: bool) -> tuple[Timer, ...]:
    skipped = WhileFull.STANDS if full else WhileFull.ALONE
    return tuple(timer for timer, rule in TIMERS.items() if phase in rule.phases and rule.full is not skipped)


# The timers that count while there is room, and while there is none. There are some turns for each few lines of output:
# so these are known before, and names of members, which cost most of a turn, aren't looked up in it.
_COUNTING = {phase: (_counting(phase, False), _counting(phase, True)) for phase in Phase}
_EXITED = Phase.EXITED
_DRAIN, _SHOW, _CATCH_UP, _LISTEN, _READ, _RETRY = map(
    int, (Timer.DRAIN, Timer.SHOW, Timer.CATCH_UP, Timer.LISTEN, Timer.READ, Timer.RETRY)
)


class StepClock:
    """
    One step's clock. ``deadline`` is the attempt's; ``idle_timeout`` and ``grace`` are in seconds. ``capacity`` is the
    most bytes that the pipe of the output holds.
    """

    def __init__(self, now: float, *, deadline: float, idle_timeout: float, grace: float, capacity: int) -> None:
        self.phase = Phase.RUNNING
        #: whether the output has ended: nothing is left that could write any
        self.output_ended = False
        self._idle_timeout = idle_timeout
        self._grace = grace
        # How many bytes may be in the pipe that the process wrote before it exited.
        self._left = capacity
        self._busy_until = now
        self._looked = False  # since the last wait
        self._show_at = math.inf
        self._counting = _COUNTING[self.phase]
        self._at = [math.inf] * len(Timer)
        self._at[Timer.LOOK] = now
        self._at[Timer.DEADLINE] = deadline
        self._at[Timer.SILENCE] = now + idle_timeout

    def next(self, now: float, facts: Facts) -> Do | Wait:
        """What is to be done now."""
        exited = self.phase is _EXITED
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

    # -- what came of it --

    def rang(self) -> None:
        """A bell rang: something may have happened to the process, or somebody wants the attempt to end."""
        self._at[Timer.LOOK] = -math.inf

    def looked(self, now: float) -> None:
        """`Do.LOOK` is done."""
        self._looked = True
        self._at[Timer.LOOK] = now + LOOK_EVERY

    def told_to_end(self, now: float) -> None:
        """The process was told to end."""
        if self.phase is Phase.RUNNING:
            self._enter(Phase.ENDING)
            self._at[Timer.GRACE] = now + self._grace

    def exited(self, now: float) -> None:
        """The process has exited."""
        if self.phase is not Phase.EXITED:
            self._enter(Phase.EXITED)
            self._at[Timer.DRAIN] = now + DRAIN

    def read(self, now: float, size: int) -> None:
        """So many bytes of output were read."""
        if self.phase is _EXITED:
            self._left -= size
        if size >= BLOCK_BYTES:
            self._busy_until = now + _BUSY
        self._at[_READ] = now if now < self._busy_until else now + _GATHER
        self._show_at = now + SHOW_AFTER
        self.heard(now)

    def heard(self, now: float) -> None:
        """The step has said something that is a sign of life."""
        self._at[Timer.SILENCE] = now + self._idle_timeout

    def waited(self, seconds: float) -> None:
        """A wait for the disk is over, which took so long. That was no silence."""
        self._at[Timer.SILENCE] += seconds
        self._show_at += seconds

    def found_nothing(self) -> None:
        """It was time to read output, and there was none."""
        if self.phase is Phase.EXITED:
            self._left = 0

    def end_output(self) -> None:
        """There was no more output, and nothing is left that could write any."""
        self.output_ended = True

    def _due(self, timer: Timer) -> Do | None:
        """What is to be done since this timer is due; None if nothing is, or not yet."""
        if timer in (Timer.DEADLINE, Timer.SILENCE) and not self._looked:
            return Do.LOOK  # the process may have exited, and a cancellation is the better reason
        if timer is Timer.DRAIN and self._left > 0:
            return None  # there may be something to read, which is seen at once
        if timer is Timer.GRACE:
            self._enter(Phase.KILLED)
        elif timer is Timer.SHOW:
            self._show_at = math.inf  # until something more was read
        return TIMERS[timer].do

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._counting = _COUNTING[phase]
