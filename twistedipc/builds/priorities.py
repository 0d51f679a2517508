"""
In which order builds are taken from the queue. Bottom layer, pure; used by ``storage``, which keeps the queue in this
order, and by whatever asks for builds.

**Projects share.** The next build is one of the project that has the fewest running; of several such projects it is
the one that was due first. So a thousand builds of one project hold up no other.

**A priority is a head start.** A build is due when it was queued; one of high priority `HEAD_START` earlier, one of low
priority as much later. So within a project, and between projects that have as many running, the higher priority goes
first, and yet nothing waits for ever: of what is queued more than two head starts after a build, nothing overtakes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from twistedipc.builds.protection import may_be_protected

Priority = Literal["low", "normal", "high"]

#: How the ledger keeps a priority, and how many head starts it is worth.
LEVELS: Final[Mapping[Priority, int]] = MappingProxyType({"low": -1, "normal": 0, "high": 1})

#: Milliseconds by which a build of high priority is due earlier.
HEAD_START: Final = 3_600_000

#: The most rules of a project, and the most builds of it at once that a rule may allow.
MAX_RULES: Final = 20
MAX_AT_ONCE: Final = 1000


class PriorityRule(msgspec.Struct, frozen=True, kw_only=True):
    """Which priority builds of some refs have."""

    ref: str  # a pattern, as those of protected refs
    priority: Priority


class QueueRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a project says of its queue."""

    at_once: int | None = None  # so many of its builds run at a time at most; None: as many as there are slots
    paused: int | None = None  # since when none of its builds begins, in milliseconds since the epoch; None: they do
    priorities: list[PriorityRule] = []  # the first one that matches counts

    def priority(self, ref: str, head: str, *, by_schedule: bool) -> Priority:
        """
        Return the priority of a build whose request names none.

        :param head: the branch that the repository's HEAD stands for, as far as it is known
        :param by_schedule: no person has asked, nor has anybody pushed
        """
        for rule in self.priorities:
            if may_be_protected([rule.ref], ref, head):
                return rule.priority
        return "low" if by_schedule else "normal"


def due(priority: Priority, now: int) -> int:
    """Return when a build is due that is queued now. Times are milliseconds since the epoch."""
    return now - LEVELS[priority] * HEAD_START


def priority_of(level: int) -> Priority:
    """Return the priority that the ledger keeps as this number."""
    return "high" if level > 0 else "low" if level < 0 else "normal"
