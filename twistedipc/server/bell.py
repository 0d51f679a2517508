"""
A bell that wakes the dispatch: something was queued, or a builder may have a free slot. It carries no data:
a listener looks at the ledger. Rung by ``lifecycle``, ``resting`` and the builders' links.
"""

from __future__ import annotations

from collections.abc import Callable


class Bell:
    """Calls its listeners each time it is rung. They return at once, and raise nothing."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def listen(self, heard: Callable[[], None]) -> None:
        """Call ``heard`` from now on."""
        self._listeners.append(heard)

    def ring(self) -> None:
        """Wake all listeners."""
        for heard in self._listeners:
            heard()
