"""How many calls of tools go on at once over HTTP. ``web.api.mcp``; no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from twistedipc.ipc import CallFailed, Code

#: Calls of one person (or of one program's token) that go on at once, and of all.
MOST_EACH: Final = 8
MOST: Final = 32


class CallsAtOnce:
    """The calls that go on. Who somebody is, is any string."""

    def __init__(self) -> None:
        self._going_on: Counter[str] = Counter()

    @contextmanager
    def one(self, who: str) -> Iterator[None]:
        """Count a call while it goes on. Raises `CallFailed` if there are as many as there may be."""
        if self._going_on[who] >= MOST_EACH:
            raise CallFailed(Code.BUSY, f"{MOST_EACH} of your calls go on already: ask again when one has ended")
        if self._going_on.total() >= MOST:
            raise CallFailed(Code.BUSY, f"{MOST} calls go on here already: ask again soon")
        self._going_on[who] += 1
        try:
            yield
        finally:
            self._going_on[who] -= 1
            if not self._going_on[who]:
                del self._going_on[who]
