"""
What people wait for goes before what goes on behind it. ``server`` layer; used by ``releasing``.

All threads of this process share one interpreter. While one of them compresses tens of thousands of files, each turn of
another comes some milliseconds later, and what somebody waits for takes a dozen turns in four threads. The same is true
of what follows at once: the answer, and the pages that are looked at to see whether it is so. And where thousands of
files are made durable, each commit of the ledger waits for the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Final

#: Seconds for which work gives way at most each time: what is urgent may itself wait, for a disk that hangs.
MOST: Final = 1.0

#: Seconds after what is urgent in which others still give way.
AFTER: Final = 0.25


class Precedence:
    """
    Urgent work, and work in threads that gives way to it and ``after`` seconds more, for ``most`` seconds each time.

    :param clock: seconds
    :param sleep: waits for so many seconds, in the thread that calls it
    """

    def __init__(
        self,
        most: float = MOST,
        after: float = AFTER,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._most = most
        self._after = after
        self._clock = clock
        self._sleep = sleep
        self._over = -after  # when the last urgent work ended
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
                self._over = self._clock()
                self._none.set()

    def give_way(self) -> None:
        """Wait while something is urgent, or was just now, but not for ever. In any thread but the reactor's."""
        until = self._clock() + self._most
        while (left := until - self._clock()) > 0 and self._none.wait(left):
            pause = self._over + self._after - self._clock()
            if pause <= 0:
                return
            self._sleep(min(pause, left))  # meanwhile something else may have become urgent
