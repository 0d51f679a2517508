"""
Text of a bounded length for programs that pay for each token, which says what was left out. ``web.api.mcp``; no I/O.

How many tokens a text has depends on the model; logs, full of paths and numbers, have one for about three bytes of
UTF-8. So the bound holds for most, and is somewhat less than what was asked for, for prose.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twistedipc.builds.names import shown

#: Tokens of an answer, unless somebody says otherwise, the fewest, and the most.
TOKENS: Final = 10_000
FEWEST_TOKENS: Final = 500
MOST_TOKENS: Final = 1_000_000

#: Bytes of UTF-8 that are counted as a token.
TOKEN_BYTES: Final = 3

#: Bytes that are kept for what says what was left out.
_NOTE: Final = 300

#: The longest line, in characters, where there is room for several.
MAX_LINE: Final = 2000


class Budget:
    """The lines of one answer, as long as there is room for them."""

    def __init__(self, tokens: int) -> None:
        self._left = max(tokens, FEWEST_TOKENS) * TOKEN_BYTES - _NOTE
        # So that behind the lines that say what is quoted there is always room for the first one of it: a caller who
        # goes on there would otherwise never get any further.
        self._longest = min(MAX_LINE, self._left // 6)
        self._lines: list[str] = []
        self.full = False  # something didn't fit

    def add(self, line: str) -> bool:
        """Add a line, cut if it is very long; False: there is no room for it, and none for what follows."""
        # What isn't to be seen and does something could make one line look like two, with a number of its own.
        visible = shown(line.expandtabs(8), self._longest)
        size = len(visible.encode()) + 1
        if self.full or size > self._left:
            self.full = True
            return False
        self._left -= size
        self._lines.append(visible)
        return True

    def extend(self, lines: Iterable[str]) -> int:
        """Add lines as long as they fit; return how many did."""
        added = 0
        for line in lines:
            if not self.add(line):
                break
            added += 1
        return added

    def note(self, said: str) -> None:
        """Add a sentence on what was left out. There is always room for one."""
        self._lines.append(said[: _NOTE - 1])

    def text(self) -> str:
        """Return the answer."""
        return "\n".join(self._lines)
