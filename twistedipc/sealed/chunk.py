"""
A sealed chunk: consecutive messages of a log, compressed together. Pure; made by ``server.sealing``,
kept by ``storage``.

Its text comes first, record by record, so that a search reads what people read and nothing else. What the text doesn't
say (which records came together and when, events as JSON) is in columns behind it::

    magic     8 bytes: 0x89 "TLOG" version 0x1a 0x0a
    checksum  4 bytes: CRC-32 of all that follows
    header    the first record's number (8), how many records (4), bytes of text (4), of columns (4); little-endian
    body      a frame of zstd (RFC 8878) with its own checksum: the text, then the columns (MessagePack)

Line k of the text is record ``first + k``. A record that is an event, or has a newline in it, is in the columns as
JSON, and its line is what a person would search for; see `line_of`. A gap is a chunk by itself: it has no text, and its
records are only counted.

What was sealed is given back byte by byte. A chunk that isn't what was written raises `Damaged`, and nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from struct import Struct
from typing import assert_never

import msgspec
import zstandard

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

#: Bytes of messages after which a chunk is full. With 64 KiB a line takes an eighth more, and half a page of SQLite's
#: is lost at the end of each chunk; with more, a reader who begins somewhere in a log has more decompressed.
CHUNK_BYTES = 256 * 1024

#: The most bytes of text and columns. A message is below 1 MiB (a link's frame) and comes to what isn't full yet.
MAX_BODY = 8 * 1024 * 1024

#: A level above costs three times the time for an eighth of the bytes; the one below saves nothing.
LEVEL = 3

_MAGIC = b"\x89TLOG\x01\x1a\n"
_CHECKSUM = Struct("<I")
_HEADER = Struct("<QIII")
_BODY = len(_MAGIC) + _CHECKSUM.size + _HEADER.size


class Damaged(Exception):
    """A chunk isn't what was sealed: bytes of it are others, or missing."""


class SealedChunk(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A chunk, and what is noted beside it. Times are milliseconds since the epoch, 0 for a gap's."""

    first: int  # the first record's number
    records: int
    size: int  # bytes of the messages that were sealed, each with a newline
    began: int  # when the first batch was captured
    ended: int  # when the last one was
    data: bytes
    text: bytes  # what people read of it, as `text` returns it
    events: bool  # whether events may be among the records


class Text(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What people read of consecutive records: ``first + k`` is line k, each ended by a newline. A gap's is empty."""

    first: int
    records: int
    text: bytes


class _Columns(msgspec.Struct, array_like=True, gc=False):
    """What the text doesn't say. Times are differences, so that they are small."""

    counts: list[int]  # of each batch's records
    times: list[int]
    steps: list[int]
    more: list[int]  # records that the next one continues: indexes into the chunk's
    apart: list[tuple[int, bytes]]  # records that the text doesn't have as they are: index, JSON
    gap: str | None = None  # its reason, if the chunk is a gap
    whole: bytes | None = None  # the messages themselves, if they can't be made from text and columns byte by byte


_columns_encoder = msgspec.msgpack.Encoder()
_columns_decoder = msgspec.msgpack.Decoder(_Columns)


def seal(messages: list[bytes], batches: list[Batch] | None = None) -> SealedChunk:
    """
    Make a chunk of messages: JSON of consecutive `Lines`, or of exactly one `Gap`. Raises ValueError for anything else.
    It has been opened again, and gave the same. ``batches``: the messages decoded, if the caller has them.
    """
    if batches is None:
        batches = [batch_decoder.decode(message) for message in messages]
    check_run(batches)
    columns, text = _split(batches)
    sealed = _sealed(messages, batches, columns, text)
    if not _gives(sealed.data, messages):
        # An encoder before this one, or another program's, has written the same in other bytes.
        columns.whole = b"\n".join(messages)
        sealed = _sealed(messages, batches, columns, text)
        if not _gives(sealed.data, messages):
            raise ValueError(f"the messages from record {sealed.first} on can't be sealed: they come out as others")
    return sealed


def _gives(data: bytes, wanted: list[bytes]) -> bool:
    """Return whether a chunk can be opened, and has these messages."""
    try:
        return messages(data) == wanted
    except Damaged:
        return False


def check_run(batches: list[Batch]) -> None:
    """Raise ValueError unless these can be one chunk: consecutive batches of lines, or one gap."""
    if not batches:
        raise ValueError("there is nothing to seal")
    if len(batches) > 1 and any(isinstance(batch, Gap) for batch in batches):
        raise ValueError("a gap is sealed by itself")
    for batch in batches:
        if batch.end <= batch.first:
            raise ValueError(f"a batch before record {batch.first} has no records")
    for before, batch in pairwise(batches):
        if before.end != batch.first:
            raise ValueError(f"record {before.end} is missing before record {batch.first}")


class Part(msgspec.Struct, frozen=True, gc=False):
    """Some messages of a chunk, and which records they have: ``count`` from ``first`` on."""

    first: int
    count: int
    messages: list[bytes]


def messages(data: bytes) -> list[bytes]:
    """Return the messages that were sealed, byte by byte. Raises `Damaged`."""
    return part(data, 0, MAX_BODY * 8).messages


def part(data: bytes, first: int, limit: int) -> Part:
    """
    Return the messages from the one with record ``first`` on, of about ``limit`` bytes, one at least; none if the chunk
    ends before it. Raises `Damaged`.
    """
    try:
        return _opened(data, first, limit)
    except (ValueError, TypeError, IndexError, msgspec.MsgspecError, MemoryError) as error:
        raise Damaged(f"its parts don't fit together: {error}") from error


def text(data: bytes) -> Text:
    """Return the text of a chunk, for a search. Raises `Damaged`."""
    import numpy as np  # not above: what never seals or searches does without its 16 MB

    first, records, size, body = _body(data)
    if size and (np.count_nonzero(np.frombuffer(body, np.uint8, size) == 0x0A) != records or body[size - 1] != 0x0A):
        raise Damaged("its lines aren't as many as its records")
    return Text(first=first, records=records, text=body[:size])


def text_of(messages: list[bytes]) -> list[Text]:
    """Return the texts of messages that aren't sealed: as their chunks would have them. A gap has one of its own."""
    texts: list[Text] = []
    for run in runs([batch_decoder.decode(message) for message in messages]):
        _columns, text = _split(run)
        texts.append(Text(first=run[0].first, records=run[-1].end - run[0].first, text=text))
    return texts


def runs(batches: list[Batch]) -> list[list[Batch]]:
    """Return consecutive batches as runs each of which can be one chunk: without a gap, or a gap alone."""
    found: list[list[Batch]] = []
    for batch in batches:
        if found and isinstance(batch, Lines) and isinstance(found[-1][-1], Lines):
            found[-1].append(batch)
        else:
            found.append([batch])
    return found


def line_of(record: Record) -> str:
    """Return what a person would search for in a record: a line as it is, of an event what it says; one line."""
    if isinstance(record, str):
        return record.replace("\n", " ")
    event = event_of(record)
    match event:
        case None | Progress() | Summary() | StepEnded():
            return ""
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


def _split(batches: list[Batch]) -> tuple[_Columns, bytes]:
    """Return columns and text of a run."""
    columns = _Columns(counts=[], times=[], steps=[], more=[], apart=[])
    parts: list[str] = []  # of the text
    at = time = 0
    for batch in batches:
        if isinstance(batch, Gap):
            columns.gap = batch.reason
            break
        records = batch.lines
        columns.counts.append(len(records))
        columns.times.append(batch.time - time)
        columns.steps.append(batch.step)
        columns.more += [at + index for index in batch.more]
        time = batch.time
        try:
            joined = "\n".join(records)  # type: ignore[arg-type]  # all strings, unless it raises
        except TypeError:
            joined = None
        if joined is None or joined.count("\n") != len(records) - 1:
            columns.apart += [
                (index, encoder.encode(record))
                for index, record in enumerate(records, at)
                if not isinstance(record, str) or "\n" in record
            ]
            joined = "\n".join(map(line_of, records))
        parts.append(joined)
        at += len(records)
    parts.append("")
    return columns, "\n".join(parts).encode("utf-8", "surrogatepass")


def _sealed(messages: list[bytes], batches: list[Batch], columns: _Columns, text: bytes) -> SealedChunk:
    encoded = _columns_encoder.encode(columns)
    if len(text) + len(encoded) > MAX_BODY:
        raise ValueError(f"{len(text) + len(encoded)} bytes are too many for one chunk")
    first, records = batches[0].first, batches[-1].end - batches[0].first
    header = _HEADER.pack(first, records, len(text), len(encoded))
    body = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(text + encoded)
    began, ended = (batch.time if isinstance(batch, Lines) else 0 for batch in (batches[0], batches[-1]))
    return SealedChunk(
        first=first,
        records=records,
        size=sum(map(len, messages)) + len(messages),
        began=began,
        ended=ended,
        data=_MAGIC + _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(header))) + header + body,
        text=text,
        events=bool(columns.apart),
    )


def _body(data: bytes) -> tuple[int, int, int, bytes]:
    """Return the first record's number, how many there are, the bytes of text, and text and columns together."""
    if len(data) < _BODY or not data.startswith(_MAGIC):
        raise Damaged("it doesn't begin as a sealed chunk")
    (checksum,) = _CHECKSUM.unpack_from(data, len(_MAGIC))
    if zlib.crc32(memoryview(data)[len(_MAGIC) + _CHECKSUM.size :]) != checksum:
        raise Damaged("the checksum doesn't match")
    first, records, text, columns = _HEADER.unpack_from(data, len(_MAGIC) + _CHECKSUM.size)
    # A frame that claims to be larger than it may be is never decompressed.
    frame = memoryview(data)[_BODY:]
    try:
        claimed = zstandard.get_frame_parameters(frame).content_size
        if claimed != text + columns or claimed > MAX_BODY or not columns:
            raise Damaged("its size isn't what it says")
        body = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged(f"it can't be decompressed: {error}") from error
    return first, records, text, body


def _opened(data: bytes, wanted: int = 0, limit: int = MAX_BODY * 8) -> Part:
    first, records, size, body = _body(data)
    columns = _columns_decoder.decode(memoryview(body)[size:])
    if columns.gap is not None:
        gap = encoder.encode(Gap(first, first + records - 1, columns.gap))
        return _cut(first, [(records, gap)], wanted, limit)
    if columns.whole is not None:
        return _cut(first, zip(columns.counts, columns.whole.split(b"\n"), strict=True), wanted, limit)
    lines: list[str | msgspec.Raw] = list(body[:size].decode("utf-8", "surrogatepass").split("\n"))
    if len(lines) != records + 1 or sum(columns.counts) != records:
        raise Damaged("its lines aren't as many as its records")
    for index, record in columns.apart:
        lines[index] = msgspec.Raw(record)
    return _cut(first, _encoded(first, columns, lines, wanted), wanted, limit)


def _cut(first: int, encoded: Iterable[tuple[int, bytes]], wanted: int, limit: int) -> Part:
    """Return what is wanted of all messages, each with its count of records."""
    found: list[bytes] = []
    begins = at = first
    for count, message in encoded:
        at += count
        if at <= wanted:
            begins = at
            continue
        found.append(message)
        limit -= len(message)
        if limit <= 0:
            break
    return Part(begins, at - begins, found)


def _encoded(first: int, columns: _Columns, lines: list[str | msgspec.Raw], wanted: int) -> Iterator[tuple[int, bytes]]:
    """Yield each batch's count of records and its JSON, which is empty for those that end before ``wanted``."""
    more = iter(columns.more)
    mark = next(more, None)
    at = time = 0
    for count, later, step in zip(columns.counts, columns.times, columns.steps, strict=True):
        time += later
        ends = at + count
        marks: list[int] = []
        while mark is not None and mark < ends:
            marks.append(mark - at)
            mark = next(more, None)
        message = b""
        if first + ends > wanted:
            batch = Lines(first=first + at, time=time, step=step, lines=lines[at:ends], more=marks)  # type: ignore[arg-type]  # JSON as it was, beside strings
            message = encoder.encode(batch)
        yield count, message
        at = ends
