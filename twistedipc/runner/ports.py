"""
What a runner takes from outside, as types. ``__main__`` puts the real things together; a simulation can give others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from twistedipc.attempts.processes import Child, Launch
from twistedipc.builds.attempt import Cancel, Permit, Spec, Used
from twistedipc.disk.calls import DiskCalls
from twistedipc.runner.speech import Heard


class Orders(Protocol):
    """The orders to a runner while it works. `control.Control` is one; see there."""

    told_to_stop: bool

    @property
    def descriptors(self) -> Sequence[int]: ...
    def quieten(self) -> None: ...
    def cancelled(self) -> Cancel | None: ...
    def take_permit(self) -> Permit | None: ...
    def forget_permit(self) -> None: ...


class Received(msgspec.Struct, frozen=True):
    """Messages that one connection has brought."""

    source: int  # names the connection
    heard: Sequence[Heard]
    ended: bool = False  # the connection brings nothing more


class Channel(Protocol):
    """A step's channel. `channel.StepChannel` is one; see there."""

    @property
    def address(self) -> str: ...
    @property
    def descriptors(self) -> Sequence[int]: ...
    def receive(self) -> list[Received]: ...
    def rest(self) -> Iterator[list[Received]]: ...
    def answer(self, source: int, ack: int | str) -> None: ...
    def close(self) -> None: ...


class Processes(Protocol):
    """Processes of the system. The module ``processes`` is one."""

    def spawn(self, launch: Launch, *, output: int) -> Child:
        """Start a command in a process group of its own."""

    def reap(self) -> dict[int, int]:
        """Return the children that have died since the last call, each with its wait status."""

    def tell_to_end(self, child: Child) -> None:
        """Send SIGTERM to a process and its group."""

    def kill(self, child: Child) -> None:
        """Kill a process that hasn't been reaped, and its group."""

    def bury(self, child: Child, deadline: float) -> bool:
        """Kill what a process that was reaped has left, wait for that; whether it had left something."""

    def kill_descendants(self, deadline: float, spared: Collection[int] = ()) -> tuple[set[int], bool]:
        """
        Kill all descendants but the ``spared``, and wait so many seconds for them. Return the killed, and whether none
        is left.
        """


class Guard(Protocol):
    """The limits of the attempt. `isolation.limits.guard.Guard` is one; see there."""

    def enter(self) -> None: ...
    def within(self, argv: Sequence[str], /) -> Sequence[str]: ...
    def pause(self) -> float: ...
    def look(self) -> str: ...
    def verdict(self, *, failed: bool) -> str: ...
    def kill(self) -> None: ...
    def used(self) -> Used: ...


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """All that a runner takes from outside."""

    now: Callable[[], int]  # milliseconds since the epoch
    clock: Callable[[], float]  # seconds, of a clock that never goes back
    random: Callable[[int], bytes]  # so many bytes that can't be guessed
    #: waits until one of these descriptors is readable, at most so many seconds: those that are, with poll's events
    poll: Callable[[Sequence[int], float], dict[int, int]]
    #: opens a step's channel in a folder, which the step sees there or at another place; raises OSError
    channel: Callable[[Path, str], Channel]
    free: Callable[[Path], int]  # how many bytes can still be written to the file system of a folder; raises OSError
    disk: DiskCalls
    processes: Processes
    #: makes the guard of the attempt in a folder, once, with the clock
    guard: Callable[[Path, Spec, Callable[[], float]], Guard]
