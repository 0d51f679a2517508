"""A builder's slots, as its link counts them. Pure; used by ``builder_link``."""

from __future__ import annotations

#: The most slots that a builder is believed to have.
MAX_SLOTS = 1000


class Slots:
    """
    How many attempts a builder runs at a time, and which ones fill its slots: those that it holds, and those that it
    was offered and hasn't answered yet.
    """

    def __init__(self) -> None:
        self.total = 0
        self.draining = False  # it takes nothing new
        self._leases: dict[str, str] = {}  # attempt -> the lease under which it fills a slot
        self._unanswered: dict[str, str] = {}  # those of them that are only offered
        self._proven = False  # on this link it has accepted something, or has brought something

    def resize(self, total: int, draining: bool) -> None:
        """Take over how many slots the builder says that it has."""
        self.total, self.draining = total, draining

    def offer(self, attempt: str, lease: str) -> None:
        """Count the attempt's slot as taken: the attempt is offered."""
        self._leases[attempt] = self._unanswered[attempt] = lease

    def accept(self, attempt: str, lease: str) -> None:
        """Note that the builder has accepted what it was offered."""
        self._answer(attempt, lease)
        self._proven = True

    def hold(self, attempt: str, lease: str) -> None:
        """Count the slot of an attempt that the builder had before this link."""
        self._leases[attempt] = lease
        self._proven = True

    def release(self, attempt: str, lease: str) -> bool:
        """Free the slot that this lease fills. Return whether it filled one."""
        self._answer(attempt, lease)
        if self._leases.get(attempt) != lease:
            return False
        del self._leases[attempt]
        return True

    @property
    def unanswered(self) -> list[str]:
        """The attempts that were offered, and about which the builder has said nothing yet."""
        return list(self._unanswered)

    def awaits_answer(self, attempt: str, lease: str) -> bool:
        """True if the builder hasn't answered the offer of this lease."""
        return self._unanswered.get(attempt) == lease

    def free(self, *, in_trouble: bool) -> int:
        """Return how many more attempts may be offered now. ``in_trouble``: its last answer wasn't good."""
        if self.draining:
            return 0
        free = max(0, min(self.total, MAX_SLOTS) - len(self._leases))
        if not self._proven or in_trouble:
            # One at a time, until it takes one: what isn't answered is kept from all other builders for a while.
            return min(free, max(0, 1 - len(self._unanswered)))
        return free

    def _answer(self, attempt: str, lease: str) -> None:
        if self._unanswered.get(attempt) == lease:
            del self._unanswered[attempt]
