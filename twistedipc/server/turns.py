"""
Turns, shared by people. ``server``; used by ``searching``.

Some have one at once. One that becomes free goes to the person who has the fewest, and among those to the first in
line; who is served and still waits goes to the end of the line. So whatever one person asks for, another one waits for
one turn at most of each person before.
"""

from __future__ import annotations

from collections import Counter, deque

from twisted.internet.defer import Deferred, succeed


class Turns:
    """So many turns at once. Who somebody is, is any string."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[Deferred[None]]] = {}  # by person, in the order of the line

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return sum(map(len, self._waiting.values()))

    def waiting_of(self, who: str) -> int:
        """How many of these one person's are."""
        return len(self._waiting.get(who, ()))

    def acquire(self, who: str) -> Deferred[None]:
        """Wait for a turn, which `release` gives back. Who doesn't want it any more cancels what is returned."""
        if self._free:  # nobody waits
            self._free -= 1
            self._held[who] += 1
            return succeed(None)
        turn: Deferred[None] = Deferred(lambda turn: self._forget(who, turn))
        self._waiting.setdefault(who, deque()).append(turn)
        return turn

    def release(self, who: str) -> None:
        """Give a turn back."""
        self._held[who] -= 1
        if not self._held[who]:
            del self._held[who]
        if not self._waiting:
            self._free += 1
            return
        following = min(self._waiting, key=lambda each: self._held[each])  # the first of those who have the fewest
        waiting = self._waiting.pop(following)
        turn = waiting.popleft()
        if waiting:
            self._waiting[following] = waiting  # behind all others
        self._held[following] += 1
        turn.callback(None)

    def cancel_waiting(self) -> None:
        """Cancel all that wait."""
        for turn in [turn for waiting in self._waiting.values() for turn in waiting]:
            turn.cancel()

    def _forget(self, who: str, turn: Deferred[None]) -> None:
        waiting = self._waiting[who]
        waiting.remove(turn)
        if not waiting:
            del self._waiting[who]
