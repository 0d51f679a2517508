"""
What is searched of a log's messages: each record as one line, as people see it; of events what they say
(`sealed.messages.line_of`). ``finding``; pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from twistedipc.finding.blocks import Block
from twistedipc.finding.shown import drawn_last
from twistedipc.sealed import chunk
from twistedipc.sealed.chunk import Damaged, Text


class Part(Protocol):
    """Some records of a log: a sealed chunk, or messages, each ended by a newline."""

    @property
    def first(self) -> int:
        """The first one's number."""

    @property
    def count(self) -> int:
        """How many they are."""

    @property
    def sealed(self) -> bool:
        """Whether it is a chunk."""

    @property
    def data(self) -> bytes:
        """The chunk, or the messages."""


def blocks_of(parts: Sequence[Part], *, newest: bool, damaged: Callable[[int], object] = int) -> Iterator[Block]:
    """
    Yield the records of these parts, all of them sealed or none. They come in order, or, if ``newest``, in the opposite
    one; so do the blocks. What is in a gap, or in a chunk that is damaged, isn't in any. A chunk is opened when its
    turn comes. ``damaged`` is called with the first record of each chunk that can't be.
    """
    sealed = any(part.sealed for part in parts)
    for text in _sealed(parts, damaged) if sealed else _unsealed(parts, newest):
        if text.text:
            yield Block(text.first, text.records, drawn_last(text.text))


def _sealed(parts: Sequence[Part], damaged: Callable[[int], object]) -> Iterator[Text]:
    for part in parts:
        try:
            text = chunk.text(part.data)
            if (text.first, text.records) != (part.first, part.count):
                raise Damaged("it is another chunk than the ledger says")
        except Damaged:
            damaged(part.first)
        else:
            yield text


def _unsealed(parts: Sequence[Part], newest: bool) -> Iterable[Text]:
    """Return the texts of messages; of many small ones that follow one another, one."""
    messages: list[bytes] = []
    for part in reversed(parts) if newest else parts:
        messages += part.data[:-1].split(b"\n")
    texts = chunk.text_of(messages)
    return reversed(texts) if newest else texts
