"""What one side of a connection didn't understand of the other, in the log: `Misunderstandings`. Used by formats."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

#: How often it is logged, for each link, that one side didn't understand the other.
_ERRORS_LOGGED = 100


class Misunderstandings:
    """
    Logs that one side of a link didn't understand the other: `_ERRORS_LOGGED` times, as a peer that goes on for ever
    must not fill the disk.

    :param log: the connection's
    :param peer: gives the peer's name
    """

    def __init__(self, log: Logger, peer: Callable[[], str]) -> None:
        self._log = log
        self._peer = peer
        self._count = 0

    def add(self, what: str, message: str, code: str = "") -> None:
        """Log one more, unless there were too many."""
        self._count += 1
        if self._count <= _ERRORS_LOGGED:
            last = "; no more of this is logged" if self._count == _ERRORS_LOGGED else ""
            self._log.warn(what + "{last}", peer=self._peer(), message=message, code=code, last=last)
