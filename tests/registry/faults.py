"""How the tests' registry misbehaves: the next requests by a list, or any of them by chance, from a seed."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from enum import StrEnum


class Fault(StrEnum):
    """What happens to a request. "before" and "after" are of its being carried out."""

    CUT_BEFORE = "cut before"  # no answer, and nothing is done
    CUT_AFTER = "cut after"  # it is done, and there is no answer
    CUT_IN_ANSWER = "cut in the answer"  # it is done, and half of the answer arrives
    FAIL_BEFORE = "fail before"  # 503, and nothing is done
    FAIL_AFTER = "fail after"  # it is done, and the answer is 500
    BUSY = "busy"  # 429 with Retry-After, and nothing is done
    PAGE = "page"  # a page of a proxy's, and nothing is done
    LOSE_TAG = "lose tag"  # a version is taken without its tag
    REFUSE_OTP = "refuse otp"  # 401, whatever the one-time password is
    SOMEBODY_ELSE = "somebody else"  # somebody else approves the stage just before
    SOMEBODY_REJECTS = "somebody rejects"  # somebody else rejects the stage just before


#: The faults that only some requests can have.
ONLY = {
    Fault.LOSE_TAG: {"publish", "approve"},
    Fault.REFUSE_OTP: {"approve", "reject", "publish", "tag", "untag", "deprecate"},
    Fault.SOMEBODY_ELSE: {"approve"},
    Fault.SOMEBODY_REJECTS: {"approve"},
}


class Faults:
    """
    Which requests go wrong.

    :param seed: of the chance
    :param rates: fault -> how often a request has it, from 0 to 1
    :param most: how many there are in all, so that it ends
    :param lag: at most so many reads of a package still show what was there before a change
    :param reads: whether requests that change nothing can go wrong too
    """

    def __init__(
        self,
        seed: int = 0,
        rates: Mapping[Fault, float] | None = None,
        *,
        most: int = 1_000_000,
        lag: int = 0,
        reads: bool = True,
    ) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._next: deque[Fault] = deque()
        self.rates = dict(rates or {})
        self.left = most
        self.lag = lag
        self.reads = reads
        self.had: list[tuple[str, Fault]] = []  # what was asked, and what went wrong

    def then(self, *faults: Fault) -> None:
        """Let the next requests that change something, and can have these faults, have them, in this order."""
        self._next.extend(faults)

    def choose(self, asked: str) -> Fault | None:
        """Return what happens to a request: "read", or what `state.Change` calls it."""
        with self._lock:
            fault = self._chosen(asked)
            if fault is not None:
                self.had.append((asked, fault))
            return fault

    def _chosen(self, asked: str) -> Fault | None:
        if asked != "read" and self._next and _fits(self._next[0], asked):
            return self._next.popleft()
        if self.left <= 0 or (asked == "read" and not self.reads):
            return None
        for fault in self._possible(asked):
            if self._random.random() < self.rates[fault]:
                self.left -= 1
                return fault
        return None

    def _possible(self, asked: str) -> Iterable[Fault]:
        return (fault for fault in self.rates if _fits(fault, asked))

    def lagging(self) -> int:
        """Return for how many reads a change isn't seen."""
        with self._lock:
            return self._random.randint(0, self.lag) if self.lag else 0


def _fits(fault: Fault, asked: str) -> bool:
    return asked in ONLY[fault] if fault in ONLY else True
