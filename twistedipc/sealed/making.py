"""
From messages of a log to all that is kept of them: chunks, the rows by which these are searched, and what the outline
may want. Pure, and slow enough to belong into a thread.
"""

from __future__ import annotations

import msgspec

from twistedipc.builds.logs import batch_decoder
from twistedipc.sealed import chunk
from twistedipc.sealed.chunk import SealedChunk, runs
from twistedipc.sealed.grams import row_of
from twistedipc.sealed.outline import Marked, marked_of
from twistedipc.sealed.words import searchable


class Made(msgspec.Struct, frozen=True, gc=False):
    """A chunk, and its row for searches."""

    chunk: SealedChunk
    grams: bytes


def make(messages: list[bytes]) -> tuple[list[Made], list[Marked]]:
    """
    Seal consecutive messages, as many as belong into one chunk; each gap among them is one by itself. Return the
    chunks, which were opened again and gave the same, and the events that an outline may want. Raises ValueError and
    `msgspec.DecodeError` if the messages aren't a log's.
    """
    batches = [batch_decoder.decode(message) for message in messages]
    made: list[Made] = []
    marks: list[Marked] = []
    at = 0
    for run in runs(batches):
        sealed = chunk.seal(messages[at : at + len(run)], run)
        made.append(Made(sealed, row_of(searchable(sealed.text))))
        at += len(run)
        if sealed.events:
            for batch in run:
                marks += marked_of(batch)
    return made, marks
