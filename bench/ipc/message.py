"""
What is sent: one log line as an application has it, 200 bytes as JSON with its newline. Every program makes and
decodes each message by itself; the sum of ``seq`` tells whether all have come.
"""

from __future__ import annotations

import os
import resource
import time

import msgspec

from bench.common.processes import say

SIZE = 200

#: Bytes of its text; another number makes it shorter or longer.
TEXT_SIZE = int(os.environ.get("BENCH_TEXT_SIZE", "115"))

#: The first number; from here on all have as many digits for the next nine million messages.
FIRST = 1_000_000

BUILD = "01K9Z3N5C8V2QW7R"
AT = 1_795_500_000_123
TEXT = "npm: transformed module ".ljust(TEXT_SIZE, "x")

#: Messages in one turn, for programs that send several at once: some 100 kB.
BATCH = max(1, 500 * 115 // max(115, TEXT_SIZE))


class Line(msgspec.Struct, frozen=True, gc=False, tag="line", tag_field="type"):
    """A line of a build's log."""

    build: str
    seq: int
    at: int
    text: str


class Echo(msgspec.Struct, frozen=True, gc=False, tag="echo", tag_field="type"):
    """The same as a request, answered by itself."""

    build: str
    seq: int
    at: int
    text: str


class Tally:
    """
    Counts what comes, and prints the result when all is there. The clock starts with the message number ``warm``, so
    connecting and warming up don't count.

    The receiver adds to ``sum``, subtracts from ``left``, and calls `reached` when that is 0: a call per message would
    be a part of what is measured.
    """

    def __init__(self, warm: int, count: int) -> None:
        self.left = warm
        self.sum = 0
        self._warm = warm
        self._count = count
        self._warmed = False
        self._started = 0.0
        self._cpu = 0.0

    def reached(self) -> None:
        if not self._warmed:
            self._warmed = True
            self.left = self._count
            self._cpu = cpu()
            self._started = time.monotonic()
            return
        seconds = time.monotonic() - self._started
        received = self._warm + self._count
        say(received=received, sum=self.sum, measured=self._count, seconds=seconds, cpu=cpu() - self._cpu)


def expected_sum(count: int) -> int:
    """The sum of the numbers of ``count`` messages."""
    return count * FIRST + count * (count - 1) // 2


def cpu() -> float:
    """Seconds of processor time that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
