"""A step's clock, without processes: all inputs in all phases, its timers, and whole steps in a world of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.runner.capture import BLOCK_BYTES
from twistedipc.runner.stepclock import (
    DRAIN,
    LOOK_EVERY,
    RETRY_EVERY,
    SHOW_AFTER,
    TIMERS,
    Do,
    Facts,
    ProcessState,
    StepClock,
    StepTimer,
    Wait,
)

IDLE, GRACE, DEADLINE = 20.0, 3.0, 100.0
FULL = (Facts(blocked=True), Facts(low=True))


def started(*, idle_timeout: float = IDLE, deadline: float = DEADLINE, capacity: int = 0) -> StepClock:
    """The clock of a step that began at 0, at which one look was taken."""
    clock = StepClock(0.0, deadline=deadline, idle_timeout=idle_timeout, grace=GRACE, capacity=capacity)
    assert clock.next(0.0, Facts()) is Do.LOOK
    clock.looked(0.0)
    return clock


def in_phase(phase: ProcessState, *, capacity: int = 0) -> StepClock:
    clock = started(capacity=capacity)
    if phase in (ProcessState.ENDING, ProcessState.KILLED):
        clock.told_to_end(0.0)
    if phase is ProcessState.KILLED:
        clock.looked(GRACE)
        assert clock.next(GRACE, Facts()) is Do.KILL
    if phase is ProcessState.EXITED:
        clock.exited(0.0)
    assert clock.process is phase
    return clock


def waits(clock: StepClock, now: float, facts: Facts | None = None) -> Wait:
    found = clock.next(now, facts or Facts())
    assert isinstance(found, Wait), found
    return found


# -- all inputs in all phases ----------------------------------------------------------------------------------------

INPUTS: dict[str, Callable[[StepClock], None]] = {
    "rang": StepClock.rang,
    "looked": lambda clock: clock.looked(4.0),
    "told_to_end": lambda clock: clock.told_to_end(4.0),
    "exited": lambda clock: clock.exited(4.0),
    "read": lambda clock: clock.read(4.0, 10),
    "heard": lambda clock: clock.heard(4.0),
    "waited": lambda clock: clock.waited(1.0),
    "found_nothing": StepClock.found_nothing,
    "end_output": StepClock.end_output,
}
CHANGES = {
    (ProcessState.RUNNING, "told_to_end"): ProcessState.ENDING,
    **{(phase, "exited"): ProcessState.EXITED for phase in ProcessState},
}


def test_all_inputs_are_here() -> None:
    public = {name for name in vars(StepClock) if not name.startswith("_")}
    assert public - {"next"} == set(INPUTS)
    assert list(TIMERS) == list(StepTimer)


@pytest.mark.parametrize("phase", ProcessState)
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("facts", [Facts(), Facts(held=True, listen_at=4.0, catch_up_at=5.0), *FULL])
def test_all_inputs_in_all_phases(phase: ProcessState, name: str, facts: Facts) -> None:
    clock = in_phase(phase)
    INPUTS[name](clock)
    assert clock.process is CHANGES.get((phase, name), phase)
    found = clock.next(4.0, facts)
    allowed = (
        {Do.LOOK, Do.KILL} if phase is not ProcessState.EXITED and name != "exited" else {Do.SHOW, Do.CATCH_UP, Do.END}
    )
    assert isinstance(found, Wait) or found in allowed
    # Told to end once, it isn't told again, nor does a process that has exited exit again.
    clock.told_to_end(4.0)
    clock.exited(4.0)
    clock.told_to_end(4.0)
    assert clock.process is ProcessState.EXITED


@pytest.mark.parametrize("phase", ProcessState)
@pytest.mark.parametrize("facts", FULL)
def test_while_the_disk_is_full_nothing_is_read_and_it_is_tried_again(phase: ProcessState, facts: Facts) -> None:
    clock = in_phase(phase, capacity=1)
    if phase is not ProcessState.EXITED:
        clock.looked(2.0)
    wait = waits(clock, 2.0, facts)
    if phase is ProcessState.EXITED and facts.low:
        # What a process has left in the pipe when it ended is little enough for the reserve.
        assert wait.output
        return
    assert (wait.output, wait.channel) == (False, False)
    assert wait.seconds <= RETRY_EVERY


# -- its timers ------------------------------------------------------------------------------------------------------


def test_a_look_each_second_and_when_a_bell_rings() -> None:
    clock = started()
    assert waits(clock, 0.0) == Wait(LOOK_EVERY, True, True)
    assert waits(clock, 0.5) == Wait(LOOK_EVERY - 0.5, True, True)
    assert clock.next(LOOK_EVERY, Facts()) is Do.LOOK
    clock.looked(LOOK_EVERY)
    clock.rang()
    assert clock.next(LOOK_EVERY, Facts()) is Do.LOOK


@pytest.mark.parametrize(("idle", "do"), [(IDLE, Do.STOP_SILENT), (2 * DEADLINE, Do.STOP_LATE)])
@pytest.mark.parametrize("ends", ["", "exited", "cancelled"])
def test_a_look_comes_before_the_process_is_told_to_end(idle: float, do: Do, ends: str) -> None:
    clock = started(idle_timeout=idle)
    at = min(idle, DEADLINE)
    clock.looked(at - 0.1)
    assert waits(clock, at - 0.1).seconds == pytest.approx(0.1)
    assert clock.next(at, Facts()) is Do.LOOK
    if ends == "exited":
        clock.exited(at)
    elif ends:
        clock.told_to_end(at)
    clock.looked(at)
    if ends:
        waits(clock, at)
        return
    assert clock.next(at, Facts()) is do
    clock.told_to_end(at)
    assert waits(clock, at).seconds == LOOK_EVERY
    clock.looked(at + GRACE)
    assert clock.next(at + GRACE, Facts()) is Do.KILL
    assert clock.process is ProcessState.KILLED
    waits(clock, at + GRACE)


def test_silence_is_put_off_by_output_and_words_and_stands_while_the_disk_is_full() -> None:
    clock = started()
    clock.read(10.0, 5)
    clock.heard(15.0)
    clock.looked(16.0)
    for facts in FULL:
        waits(clock, 16.0, facts)
        clock.looked(99.0)
        waits(clock, 99.0, facts)
    clock.waited(30.0)
    clock.looked(64.5)
    assert waits(clock, 64.5).seconds == pytest.approx(0.5)
    assert clock.next(65.0, Facts()) is Do.LOOK
    clock.looked(65.0)
    assert clock.next(65.0, Facts()) is Do.STOP_SILENT


def test_time_is_up_also_while_the_disk_is_full() -> None:
    clock = started()
    clock.looked(DEADLINE)
    assert clock.next(DEADLINE, FULL[0]) is Do.STOP_LATE


def test_output_that_trickles_is_gathered_and_a_flood_is_read_as_it_comes() -> None:
    clock = started()
    clock.read(0.5, 10)
    wait = waits(clock, 0.5)
    assert not wait.output
    assert wait.channel
    assert 0 < wait.seconds < 0.01
    assert waits(clock, 0.5 + wait.seconds).output
    clock.read(0.6, BLOCK_BYTES)
    assert waits(clock, 0.6).output
    clock.read(0.65, 10)
    assert waits(clock, 0.65).output
    clock.read(0.75, 10)
    assert not waits(clock, 0.75).output


def test_what_is_held_back_is_shown_after_a_while_once_and_not_before_what_is_unread() -> None:
    clock = started()
    held = Facts(held=True)
    clock.read(0.1, 10)
    at = 0.1 + SHOW_AFTER
    assert waits(clock, at - 0.25, held).seconds == pytest.approx(0.25)
    waits(clock, at, Facts(held=True, unread=True))
    waits(clock, at)
    assert clock.next(at, held) is Do.SHOW
    waits(clock, at, held)


def test_the_channel_has_its_times() -> None:
    clock = started()
    assert waits(clock, 0.5, Facts(listen_at=0.6)).seconds == pytest.approx(0.1)
    assert waits(clock, 0.7, Facts(listen_at=0.6)).seconds == 0.0
    assert waits(clock, 0.5, Facts(catch_up_at=0.7)).seconds == pytest.approx(0.2)
    assert clock.next(0.7, Facts(catch_up_at=0.7)) is Do.CATCH_UP
    assert waits(clock, 0.5).seconds == LOOK_EVERY - 0.5


def test_it_is_over_when_the_output_has_ended_or_has_had_its_time() -> None:
    clock = in_phase(ProcessState.EXITED, capacity=20)
    assert waits(clock, 0.1).seconds == pytest.approx(DRAIN - 0.1)
    # There may be something left of what the process wrote.
    assert waits(clock, DRAIN) == Wait(0.0, True, True)
    clock.read(DRAIN, 15)
    assert waits(clock, DRAIN) == Wait(0.0, True, True)
    clock.read(DRAIN, 5)
    assert clock.next(DRAIN, Facts()) is Do.END

    clock = in_phase(ProcessState.EXITED, capacity=20)
    waits(clock, DRAIN)
    clock.found_nothing()
    assert clock.next(DRAIN, Facts()) is Do.END

    clock = in_phase(ProcessState.EXITED, capacity=20)
    clock.end_output()
    waits(clock, 0.0, FULL[0])
    assert clock.next(0.0, Facts()) is Do.END

    clock = started()
    clock.end_output()
    assert waits(clock, 0.0).output is False


# -- whole steps -----------------------------------------------------------------------------------------------------

MOST_READ = 30  # by the world below, at a time


@dataclass
class World:
    """A process, a pipe, a disk and a channel, in a time of their own; and a runner that does what the clock says."""

    exits_at: float  # by itself
    obeys_after: float  # SIGTERM; not before SIGKILL if that is infinite
    held_until: float  # something that it has left running has the pipe open
    writes: list[tuple[float, int]]
    full: list[tuple[float, float]]  # from, to
    low: bool
    cancelled_at: float
    rings: list[float]
    lag: float  # seconds that each thing takes that the runner does
    capacity: int = 100
    now: float = 0.0
    pipe: int = 0
    written: int = 0
    written_by_exit: int = 0
    read: int = 0
    held: bool = False
    heard_at: float = 0.0  # the last bells
    exited_at: float = math.inf
    told_at: float = math.inf
    killed_at: float = math.inf
    why: str = ""
    signs: list[float] = field(default_factory=lambda: [0.0])
    full_for: float = 0.0
    turns: int = 0

    def advance(self, to: float) -> None:
        """Let time pass: the process writes as long as it lives and the pipe has room, and exits."""
        ends = min(self.exits_at, self.told_at + self.obeys_after, self.killed_at)
        while self.writes and self.writes[0][0] <= to and self.writes[0][0] <= max(ends, self.held_until):
            at, size = self.writes.pop(0)
            size = min(size, self.capacity - self.pipe)
            self.pipe += size
            self.written += size
            if at <= ends:
                self.written_by_exit = self.written
        if ends <= to:
            self.exited_at = min(self.exited_at, ends)
        self.now = max(self.now, to)

    def full_until(self) -> float:
        return max((end for begin, end in self.full if begin <= self.now < end), default=0.0)

    def hung_up(self) -> bool:
        return self.exited_at <= self.now and self.held_until <= self.now and self.pipe == 0

    def sleep(self, wait: Wait) -> bool:
        """Wait as long as the clock says, or until something comes: whether that was a bell."""
        end = self.now + math.ceil(wait.seconds * 1e6) / 1e6  # as poll has it, which never ends early
        while True:
            bells = [at for at in (self.exited_at, self.cancelled_at, *self.rings) if self.heard_at < at <= self.now]
            if bells or self.now >= end or (wait.output and (self.pipe or self.hung_up())):
                self.heard_at = self.now
                return bool(bells)
            exits = min(self.exits_at, self.told_at + self.obeys_after, self.killed_at)
            times = [self.exited_at, exits, self.held_until, self.cancelled_at, *self.rings]
            times += [at for at, _size in self.writes[:1]]
            self.advance(min([end, *(at for at in times if at > self.now)]))

    def run(self) -> None:
        """A whole step."""
        clock = StepClock(0.0, deadline=DEADLINE, idle_timeout=IDLE, grace=GRACE, capacity=self.capacity)
        waiting_since: float | None = None
        while True:
            self.turns += 1
            assert self.turns < 3000, "it doesn't end"
            facts = Facts(
                blocked=self.full_until() > 0 and not self.low,
                low=self.full_until() > 0 and self.low,
                held=self.held,
                unread=self.pipe > 0,
            )
            found = clock.next(self.now, facts)
            self.advance(self.now + self.lag)
            if isinstance(found, Wait):
                self.listen(clock, found)
                if self.full_until() > 0:
                    waiting_since = self.now if waiting_since is None else waiting_since
                elif waiting_since is not None:
                    clock.waited(self.now - waiting_since)
                    self.full_for += self.now - waiting_since
                    waiting_since = None
            elif found is Do.END:
                assert clock.process is ProcessState.EXITED
                return
            else:
                self.obey(clock, found)

    def listen(self, clock: StepClock, wait: Wait) -> None:
        if self.sleep(wait):
            clock.rang()
        if not wait.output:
            return
        if not self.pipe:
            if self.hung_up():
                clock.end_output()
            clock.found_nothing()
            return
        size = min(self.pipe, MOST_READ)
        self.pipe -= size
        self.read += size
        self.held = True
        self.signs.append(self.now)
        clock.read(self.now, size)

    def obey(self, clock: StepClock, do: Do) -> None:
        match do:
            case Do.LOOK:
                if self.exited_at <= self.now:
                    clock.exited(self.now)
                elif clock.process is ProcessState.RUNNING and self.cancelled_at <= self.now:
                    self.tell(clock, "cancelled")
                clock.looked(self.now)
            case Do.STOP_LATE | Do.STOP_SILENT:
                self.tell(clock, do.name)
            case Do.KILL:
                assert self.now >= self.told_at + GRACE
                assert self.killed_at == math.inf
                self.killed_at = self.now
            case Do.SHOW:
                assert self.held
                assert self.now >= self.signs[-1] + SHOW_AFTER
                self.held = False
            case _:
                raise AssertionError(do)

    def tell(self, clock: StepClock, why: str) -> None:
        assert self.told_at == math.inf
        self.told_at, self.why = self.now, why
        clock.told_to_end(self.now)


_time = st.floats(0.01, 130.0).map(lambda at: round(at, 2))
_maybe = st.one_of(st.just(math.inf), _time)
_worlds = st.builds(
    World,
    exits_at=_maybe,
    obeys_after=st.sampled_from([0.0, 0.5, GRACE - 0.1, GRACE + 0.1, math.inf]),
    held_until=st.one_of(st.just(0.0), _maybe),
    writes=st.lists(st.tuples(_time, st.integers(1, 120)), max_size=25).map(sorted),
    full=st.lists(st.tuples(_time, st.floats(0.1, 40.0)).map(lambda one: (one[0], sum(one))), max_size=3),
    low=st.booleans(),
    cancelled_at=_maybe,
    rings=st.lists(_time, max_size=5),
    lag=st.sampled_from([0.0, 0.0001, 0.01]),
)


@given(_worlds)
def test_a_step_ends_in_time_and_nothing_that_it_wrote_is_lost(world: World) -> None:
    world.run()
    # Nothing is lost that was written before the exit.
    assert world.read >= world.written_by_exit
    assert world.read + world.pipe == world.written
    late = LOOK_EVERY + 20 * world.lag + 0.001  # a cancellation may be seen by a look alone
    # The process gets the whole grace, and not more.
    if world.killed_at < math.inf:
        assert world.told_at + GRACE <= world.killed_at <= world.told_at + GRACE + 20 * world.lag + 0.001
    elif world.told_at < math.inf:
        assert world.exited_at <= world.told_at + GRACE + late
    # It is told to end in time, and not before.
    assert min(world.exited_at, world.told_at) <= min(DEADLINE, world.cancelled_at) + late
    if world.why == "STOP_LATE":
        assert world.told_at >= DEADLINE
    elif world.why == "STOP_SILENT":
        assert world.told_at >= max(at for at in world.signs if at <= world.told_at) + IDLE
    elif world.why:
        assert world.told_at >= world.cancelled_at
    # Then its output has its time to end, in which the disk may be full.
    after = world.now - world.exited_at
    full_after = sum(max(0.0, end - max(begin, world.exited_at)) for begin, end in world.full)
    if world.exited_at < math.inf:
        assert after <= late + DRAIN + full_after + RETRY_EVERY + 100 * world.lag
    # And no time is spent for nothing: a turn is a look, a try, a read, or what a bell has rung for.
    calm = world.now / RETRY_EVERY + world.now / LOOK_EVERY
    assert world.turns <= 40 + 4 * (calm + 3 * len(world.signs) + len(world.rings))


@given(_worlds)
def test_a_silent_step_ends(world: World) -> None:
    world.exits_at = math.inf
    world.run()
    assert world.why
    quiet = max(b - a for a, b in zip(world.signs, [*world.signs[1:], world.told_at], strict=True))
    assert quiet <= IDLE + world.full_for + sum(end - begin for begin, end in world.full) + LOOK_EVERY + 1.0 or (
        world.told_at < world.signs[-1]
    )
