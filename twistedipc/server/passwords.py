"""
One-time passwords on their way from a person to the process that uses them: in memory alone, each taken once. Filled by
``lifecycle``, emptied by ``delivering``.
"""

from __future__ import annotations

from typing import NamedTuple

#: The most that are kept: each is of an attempt that is about to be published.
MOST = 1000


class Given(NamedTuple):
    """What a person has given."""

    otp: str  # "": nothing
    by: str  # who


class Passwords:
    """The passwords that wait to be used, by attempt."""

    def __init__(self) -> None:
        self._given: dict[str, Given] = {}

    def give(self, attempt: str, otp: str, by: str) -> None:
        """Have this password used for an attempt, in the place of an older one."""
        self._given.pop(attempt, None)
        self._given[attempt] = Given(otp, by)
        while len(self._given) > MOST:
            del self._given[next(iter(self._given))]

    def take(self, attempt: str) -> Given:
        """Return what was given for an attempt, and forget it."""
        return self._given.pop(attempt, Given("", ""))
