"""
The messages of a log, taken apart for a chunk: whose lines they are, when, and the lines as text. Pure.

Most messages have lines alone, and are as `builds.logs.encoder` writes them. Of these the lines never become objects;
see `strings`. All others are decoded.
"""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from twistedipc.builds.logs import (
    Annotation,
    Batch,
    Gap,
    Group,
    Lines,
    Notice,
    Progress,
    Record,
    StepEnded,
    StepStarted,
    Summary,
    batch_decoder,
    encoder,
    event_of,
)
from twistedipc.sealed.outline import Marked, marked_of
from twistedipc.sealed.strings import lines_of

_LINES: Final = b',"lines":['
_END: Final = b"]}"

#: How far `_LINES` is behind the beginning of a message, at most: before it are three numbers.
_HEAD: Final = 200


class Piece(msgspec.Struct, gc=False):
    """One message. A gap has no strings, and `strings` is empty."""

    first: int
    time: int
    step: int
    strings: bytes  # the lines as JSON, without the brackets
    count: int = 0  # how many records it has; of lines alone it isn't known before `text_of`
    more: list[int] = []
    apart: list[tuple[int, bytes]] = []  # records that aren't a line as it is: index, JSON
    marks: list[Marked] = []  # events that an outline may want
    gap: str | None = None  # its reason, if it is one
    same: bool = True  # `builds.logs.encoder` writes it like this, of what is in a chunk

    @property
    def end(self) -> int:
        """The number of the record after it."""
        return self.first + self.count


class _Head(msgspec.Struct, tag="lines", tag_field="type", forbid_unknown_fields=True, gc=False):
    """What is before the lines."""

    first: int
    time: int
    step: int


_head_decoder = msgspec.json.Decoder(_Head)


def pieces_of(messages: list[bytes]) -> list[Piece]:
    """Return the messages taken apart. Raises `msgspec.DecodeError`."""
    return [_lines_alone(message) or _decoded(message) for message in messages]


def text_of(messages: list[bytes], pieces: list[Piece]) -> bytes:
    """
    Return the text of messages without a gap: each record as one line, ended by a newline; see `line_of`. From then on
    each of their pieces has its ``count``. Raises ValueError; `msgspec.DecodeError` is one.
    """
    found = lines_of([piece.strings for piece in pieces if piece.strings])
    if found is None:
        # Another encoder than ours has written one of them, or a line has a newline in it.
        both = zip(messages, pieces, strict=True)
        pieces[:] = [piece if piece.count else _decoded(message) for message, piece in both]
        found = lines_of([piece.strings for piece in pieces if piece.strings])
    if found is None:
        if any(piece.strings for piece in pieces):
            raise ValueError("lines can't be told apart")
        return b""
    counts = iter(found.counts)
    for piece in pieces:
        if piece.strings:
            piece.count = next(counts)
    return found.text


def line_of(record: Record) -> str:
    """Return what a person would search for in a record: a line as it is, of an event what it says; one line."""
    if isinstance(record, str):
        return record.replace("\n", " ")
    event = event_of(record)
    match event:
        case None | Progress() | Summary() | StepEnded():
            return ""
        case Annotation(repeats=True):
            return ""  # the line before it is found
        case Annotation():
            where = f" {event.file}:{event.line}" if event.line else f" {event.file}" if event.file else ""
            said = event.message + where
        case StepStarted():
            said = f"{event.name} {event.command}"
        case Notice():
            said = event.message
        case Group():
            said = event.name
        case never:
            assert_never(never)
    return said.replace("\n", " ")


def _lines_alone(message: bytes) -> Piece | None:
    """Return a message that seems to have nothing but lines; None: it is to be decoded."""
    begin = message.find(_LINES, 0, _HEAD)
    if begin < 0 or not message.endswith(b'"]}') or _may_have_events(message, begin + len(_LINES)):
        return None
    head = message[:begin] + b"}"
    try:
        found = _head_decoder.decode(head)
    except msgspec.DecodeError:
        return None
    if encoder.encode(found) != head:
        return None
    return Piece(found.first, found.time, found.step, message[begin + len(_LINES) : -len(_END)])


def _may_have_events(message: bytes, at: int) -> bool:
    # Not `in`: a search for one byte is many times as fast, and braces are rare.
    while (at := message.find(b"{", at)) >= 0:
        if message[at - 1] in b",[" and message[at + 1] == 0x22:
            return True
        at += 1
    return False


def _decoded(message: bytes) -> Piece:
    batch: Batch = batch_decoder.decode(message)
    same = encoder.encode(batch) == message
    if isinstance(batch, Gap):
        return Piece(batch.first, 0, -1, b"", batch.end - batch.first, gap=batch.reason, same=same)
    records = batch.lines
    return Piece(
        first=batch.first,
        time=batch.time,
        step=batch.step,
        strings=encoder.encode([line_of(record) for record in records])[1:-1],
        count=len(records),
        more=batch.more,
        apart=[
            (index, encoder.encode(record))
            for index, record in enumerate(records)
            if not isinstance(record, str) or "\n" in record
        ],
        marks=marked_of(batch),
        same=same and _marks_fit(batch),
    )


def _marks_fit(batch: Lines) -> bool:
    """Whether the marks of a batch are of its own records, in order: a chunk tells by that whose they are."""
    more = batch.more
    return not more or (more[0] >= 0 and more == sorted(more) and more[-1] < len(batch.lines))
