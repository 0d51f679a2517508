"""
What people wait for goes before what goes on behind it. ``server`` layer; used by ``releasing``.

All threads of this process share one interpreter. While one of them compresses tens of thousands of files, each turn of
another comes some milliseconds later, and what somebody waits for takes a dozen turns in four threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Final

#: Seconds for which work gives way at most each time: what is urgent may itself wait, for a disk that hangs.
MOST: Final = 1.0


class Precedence:
    """Urgent work, and work in threads that gives way to it, for ``most`` seconds each time."""

    def __init__(self, most: float = MOST) -> None:
        self._most = most
        self._urgent = 0
        self._none = Event()  # set: nothing is urgent
        self._none.set()

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Have others give way while the block runs. In the reactor's thread."""
        self._urgent += 1
        self._none.clear()
        try:
            yield
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._none.set()

    def give_way(self) -> None:
        """Wait while something is urgent, but not for ever. In any thread but the reactor's."""
        self._none.wait(self._most)
