"""
How long something is tried again that the disk doesn't give. Used by ``outgoing`` and ``held``.
"""

from __future__ import annotations

import errno

from twistedipc.attempts.journal import SHORTAGES

#: Seconds for which something that can't be read is tried again; then it counts as lost.
PATIENCE = 30.0

#: Seconds until the first of these tries, and the most between two of them.
FIRST_RETRY = 0.5
LAST_RETRY = 4.0

#: Errors that don't count against `PATIENCE`, since they say nothing of what is on the disk: this process is short of
#: descriptors or memory, the disk is full, or (an error without a number) the runner still lives. All of them pass.
_PASSING = SHORTAGES | {errno.ENOSPC, errno.EDQUOT, None}


class Patience:
    """The tries of one thing. ``now`` is always seconds on the monotonic clock."""

    def __init__(self) -> None:
        self.failing = False  # the last try has failed
        self._since = 0.0  # when the failures began that count
        self._pause = 0.0
        self._again = 0.0

    def due(self, now: float) -> bool:
        """Return whether it is time for the next try."""
        return not self.failing or now >= self._again

    def succeeded(self) -> None:
        """Note that a try went well: the next failure is a first one."""
        self.failing = False

    def exhausted(self, now: float, error: OSError) -> bool:
        """Note that a try failed; return whether it has failed for too long. Then the next failure is a first one."""
        if not self.failing:
            self.failing, self._since, self._pause = True, now, FIRST_RETRY
        else:
            self._pause = min(2 * self._pause, LAST_RETRY)
            if error.errno in _PASSING:
                self._since = now
            if now - self._since >= PATIENCE:
                self.failing = False
                return True
        self._again = now + self._pause
        return False
