"""
Failed sign-ins, for the audit: bad tokens, tickets and sessions. ``web.access``; told by ``auth``.

A program with a bad token may show it a thousand times a second, from many addresses. So failures are counted, and
once in `WINDOW` seconds there is one line for each of the addresses with the most, and one for all others together:
the audit grows by `MAX_LINES` lines a window at most, whatever comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twistedipc.storage import audit
from twistedipc.storage.ledger import Ledger, LedgerUnavailable
from twistedipc.storage.rows import Actor

#: Seconds from the first failure that isn't recorded yet to the lines of all that came since.
WINDOW = 60.0

#: The most lines of one window, and the most addresses that are told apart while it lasts.
MAX_LINES = 10
MAX_ADDRESSES = 1000

#: What stands for an address where there were too many.
OTHERS = "others"


class Failed(NamedTuple):
    """What failed: from which address, and with what kind of credential."""

    address: str
    kind: str


class Refusals:
    """Counts failures, and records them. ``now``: milliseconds since the epoch."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, now: Callable[[], int], ledger: Ledger) -> None:
        self._clock = clock
        self._now = now
        self._ledger = ledger
        self._counts: Counter[Failed] = Counter()
        self._timer: IDelayedCall | None = None

    def note(self, address: str, kind: str) -> None:
        """Count a failure."""
        failed = Failed(address, kind)
        if failed not in self._counts and len(self._counts) >= MAX_ADDRESSES:
            failed = Failed(OTHERS, "any")
        self._counts[failed] += 1
        if self._timer is None:
            self._timer = self._clock.callLater(WINDOW, self.flush)

    def flush(self) -> Deferred[None]:
        """Record what was counted. Fires when that is done, or has failed, which is logged."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        counts, self._counts = self._counts, Counter()
        if not counts:
            return succeed(None)
        return self._ledger.write(_record, lines_of(counts), self._now()).addErrback(self._not_recorded, counts)

    def _not_recorded(self, failure: Failure, counts: Counter[Failed]) -> None:
        failure.trap(LedgerUnavailable)
        self._log.error(
            "{count} failed sign-ins are not in the audit: {error}", count=counts.total(), error=failure.value
        )


def lines_of(counts: Counter[Failed]) -> list[tuple[Failed, int]]:
    """Return at most `MAX_LINES` lines with all that was counted: those with the most, and one for the others."""
    lines = counts.most_common()
    if len(lines) <= MAX_LINES:
        return lines
    most, rest = lines[: MAX_LINES - 1], lines[MAX_LINES - 1 :]
    return [*most, (Failed(OTHERS, "any"), sum(count for _, count in rest))]


def _record(connection: Connection, lines: list[tuple[Failed, int]], now: int) -> None:
    for failed, count in lines:
        audit.record(
            connection,
            by=Actor(who="", kind="nobody", address=failed.address),
            action="sign_in.fail",
            subject=failed.kind,
            project=None,
            detail={"times": str(count), "within_seconds": f"{WINDOW:g}"},
            now=now,
        )
