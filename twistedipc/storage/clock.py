"""The clock of the ledger's threads, as a type. The module ``time`` is one; a test or a simulation can give others."""

from __future__ import annotations

from typing import Protocol


class ThreadClock(Protocol):
    """The functions of ``time`` with these names. They are called in the ledger's threads, which may block."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that never goes back."""

    def sleep(self, seconds: float, /) -> None:
        """Wait for so many seconds."""
