"""
From messages of a log to all that is kept of them: chunks, the rows by which these are searched, and what the outline
may want. Pure, and slow enough to belong into a thread.
"""

from __future__ import annotations

import msgspec

from twistedipc.sealed import chunk
from twistedipc.sealed.chunk import SealedChunk, runs
from twistedipc.sealed.grams import row_of
from twistedipc.sealed.messages import pieces_of
from twistedipc.sealed.outline import Marked


class Made(msgspec.Struct, frozen=True, gc=False):
    """A chunk, and its row for searches."""

    chunk: SealedChunk
    grams: bytes


def make(messages: list[bytes]) -> tuple[list[Made], list[Marked]]:
    """
    Seal consecutive messages, as many as belong into one chunk; each gap among them is one by itself. Return the
    chunks, which were opened again and compared as `chunk.seal` says, and the events that an outline may want. Raises
    ValueError, `msgspec.DecodeError` among others, if the messages aren't a log's.
    """
    made: list[Made] = []
    marks: list[Marked] = []
    for run, pieces in runs(messages, pieces_of(messages)):
        sealed = chunk.seal(run, pieces)
        made.append(Made(sealed, row_of(sealed.text)))
        for piece in pieces:
            marks += piece.marks
    return made, marks
