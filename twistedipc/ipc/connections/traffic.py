"""
What goes over the links of one side, counted: `Traffic`, for any library of metrics. Used by the connections, by
``service`` and by ``remote``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

T = TypeVar("T")

_log = Logger()

#: The classes of `Latencies`: the last one begins at some nine minutes.
_CLASSES = 31


def tell(hook: Callable[..., object] | None, *arguments: Any) -> None:
    """Call a program's hook, if there is one. What it raises is logged."""
    if hook is not None:
        try:
            hook(*arguments)
        except Exception:
            _log.failure("a hook of a link has raised")


class Latencies:
    """
    How long calls of this side have taken, until they were answered or had failed.

    The class ``counts[n]`` has those that took less than ``2 ** n`` microseconds, and are in no class before. ``sum``
    is of all of them, in seconds.
    """

    def __init__(self) -> None:
        self.counts = [0] * _CLASSES
        self.sum = 0.0

    def measure(self, reply: Deferred[T], seconds: Callable[[], float]) -> None:
        """Count the time from now until ``reply`` fires."""
        began = seconds()

        def ended(result: Any) -> Any:
            took = seconds() - began
            self.sum += took
            self.counts[min(int(took * 1e6).bit_length(), _CLASSES - 1)] += 1
            return result

        reply.addBoth(ended)


@dataclass(slots=True)
class Traffic:
    """
    What has gone over the links of one `Remote` or `Listening`, since it was made. To be read at any time; a gauge is
    the difference of two readings.

    Latencies cost half a microsecond a call, and are measured if ``latencies`` is set: ``remote.traffic.latencies =
    Latencies()``. The rest costs nearly nothing.
    """

    links: int = 0  # that were made
    lost: int = 0  # of those; the others are up
    calls: int = 0  # made by this side, on links
    calls_failed: int = 0  # of those: answered by an error, or not in time, or their link has ended
    calls_received: int = 0  # from peers
    bytes_received: int = 0
    bytes_sent: int = 0
    latencies: Latencies | None = None

    def __add__(self, other: Traffic) -> Traffic:
        """Return the sums of the counters, without latencies."""
        return Traffic(
            self.links + other.links,
            self.lost + other.lost,
            self.calls + other.calls,
            self.calls_failed + other.calls_failed,
            self.calls_received + other.calls_received,
            self.bytes_received + other.bytes_received,
            self.bytes_sent + other.bytes_sent,
        )


@dataclass(frozen=True, slots=True)
class Queues:
    """What waits just now, on one link or on all of a side."""

    calls: int = 0  # of this side, that wait for replies, or for a link
    answers: int = 0  # of this side, that its handlers are working at
    unlinked_bytes: int = 0  # of one-way messages that wait for a link
    unread_bytes: int = 0  # that the peer doesn't read for now

    def __add__(self, other: Queues) -> Queues:
        return Queues(
            self.calls + other.calls,
            self.answers + other.answers,
            self.unlinked_bytes + other.unlinked_bytes,
            self.unread_bytes + other.unread_bytes,
        )
