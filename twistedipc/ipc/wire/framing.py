"""
The framing of a link: bytes in, blocks of complete lines out. Used by ``session`` and ``plain``.

A frame is one line ended by ``\\n``. Lines aren't split apart here, since they are decoded by the
block: one search for the last newline is all that a chunk of any size costs.
"""

from __future__ import annotations


class FrameTooLong(Exception):
    """
    A line is longer than the limit. ``complete`` is the block of the lines before it, which were good: what
    arrives doesn't depend on how the bytes were cut into chunks. The splitter is of no use afterwards.
    """

    def __init__(self, limit: int, complete: bytes) -> None:
        super().__init__(f"a line is longer than {limit} bytes")
        self.limit = limit
        self.complete = complete


class LineSplitter:
    """
    Finds complete lines, and keeps the beginning of a line whose end hasn't come yet: at most ``limit`` bytes of it.

    ``limit`` bounds a line without its ``\\n``, in bytes. It may be changed at any time, and holds from the next
    `feed` on.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # Not a list of parts: one-byte chunks would make that cost fifty times the bytes it holds. Appending to a
        # bytearray is amortised, so a long line in many chunks isn't quadratic.
        self._tail = bytearray()

    @property
    def pending(self) -> int:
        """The number of bytes kept of an unfinished line."""
        return len(self._tail)

    def feed(self, data: bytes) -> bytes:
        """Return the lines that ``data`` completes, each with its ``\\n``; ``b""`` if there is none."""
        end = data.rfind(b"\n") + 1
        if end == 0:
            self._keep(data, b"")
            return b""
        if self._tail:
            block = b"".join((self._tail, memoryview(data)[:end]))  # copied once
            self._tail.clear()
        else:
            block = data if end == len(data) else data[:end]
        # A block that isn't longer than the limit can't hold a line that is.
        if len(block) > self.limit + 1:
            self._check(block)
        if end < len(data):
            self._keep(data[end:], block)
        return block

    def _keep(self, rest: bytes, complete: bytes) -> None:
        if len(self._tail) + len(rest) > self.limit:
            self._tail.clear()
            raise FrameTooLong(self.limit, complete)
        self._tail += rest

    def _check(self, block: bytes) -> None:
        start = 0
        # Not by splitting: that is a copy, and a longest line has been copied often enough.
        while (end := block.find(b"\n", start)) >= 0:
            if end - start > self.limit:
                raise FrameTooLong(self.limit, block[:start])
            start = end + 1


def longest_line(block: bytes) -> int:
    """Return the length of the longest line of a block, without its ``\\n``."""
    return max(map(len, block.split(b"\n")))
