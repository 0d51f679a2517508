"""
A sealed chunk: consecutive messages of a log, compressed together. Pure; made by ``server.sealing``,
kept by ``storage``.

Its text comes first, record by record and without escape sequences, so that a search reads what people read and nothing
else. What the text doesn't say (colours, which records came together and when, events as JSON) is in columns behind
it::

    magic     8 bytes: 0x89 "TLOG" version 0x1a 0x0a
    checksum  4 bytes: CRC-32 of all that follows
    header    the first record's number (8), how many records (4), bytes of text (4), of columns (4), of the first of
              both frames (4); little-endian
    text      a frame of zstd (RFC 8878) with its own checksum
    columns   another one: MessagePack

Line k of the text is record ``first + k``. A record that is an event, or has a newline in it, is in the columns as
JSON, and its line is what a person would search for; see `messages.line_of`. A gap is a chunk by itself: it has no
text, and its records are only counted.

What was sealed is given back byte by byte. `seal` makes sure of it as far as its docstring says. A chunk that isn't
what was written raises `Damaged`, and nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING

import msgspec
import zstandard

from twistedipc.builds.logs import Gap, Lines, encoder
from twistedipc.sealed import arrays
from twistedipc.sealed.messages import Piece, pieces_of
from twistedipc.sealed.messages import text_of as text_of_run
from twistedipc.sealed.words import Parted, between, joined, places, searchable, taken_apart

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Bytes of messages after which a chunk is full. With 64 KiB a line takes an eighth more, and half a page of SQLite's
#: is lost at the end of each chunk; with more, a reader who begins somewhere in a log has more decompressed.
CHUNK_BYTES = 256 * 1024

#: The most bytes of text and columns. A message is below 1 MiB (a link's frame) and comes to what isn't full yet.
MAX_BODY = 8 * 1024 * 1024

#: One message of a chunk is made again when it is sealed. Of chunks with N times so many bytes this is done for one
#: in N, since to make all of them each time would take half as long as sealing does.
SAMPLED_BYTES = 32 * 1024

#: A level above costs three times the time for an eighth of the bytes; the one below saves nothing.
LEVEL = 3

_MAGIC = b"\x89TLOG\x02\x1a\n"
_CHECKSUM = Struct("<I")
_HEADER = Struct("<QIIII")
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


class Text(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    What people read of consecutive records: ``first + k`` is line k, each ended by a newline, without escape sequences.
    A gap's is empty.
    """

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
    pieces: bytes = b""  # what was taken out of the text, and where: see `words.Parted`
    gaps: bytes = b""
    gap: str | None = None  # its reason, if the chunk is a gap
    whole: bytes | None = None  # the messages themselves, if they can't be made from text and columns byte by byte


_columns_encoder = msgspec.msgpack.Encoder()
_columns_decoder = msgspec.msgpack.Decoder(_Columns)


def seal(messages: list[bytes], pieces: list[Piece] | None = None) -> SealedChunk:
    """
    Make a chunk of messages: JSON of consecutive `Lines`, or of exactly one `Gap`. Raises ValueError for anything else,
    and if the chunk doesn't hold them. ``pieces``: the messages taken apart, if the caller has them.

    The chunk is opened again, and all its text and columns are compared with what was put in. So a fault of compressing
    them is always found. A message is made of them again, as a reader makes it, and compared with the one that was
    given: one of the chunk at most, see `SAMPLED_BYTES`. For all others, `messages.pieces_of` and `text_of` are trusted
    to take a message apart so that `builds.logs.encoder` makes the same of it.
    """
    pieces = pieces_of(messages) if pieces is None else pieces
    whole = text_of_run(messages, pieces)
    _check_run(pieces)
    parts, taken = taken_apart(whole)
    if not whole.isascii():
        whole.decode()  # raises, if a reader couldn't decode it
    columns = _columns(pieces, parts)
    if not all(piece.same for piece in pieces):
        if columns.gap is not None:
            raise ValueError(f"the gap from record {pieces[0].first} on isn't written as gaps are")
        # An encoder before this one, or another program's, has written the same in other bytes.
        columns.whole = b"\n".join(messages)
    first, records = pieces[0].first, pieces[-1].end - pieces[0].first
    data = _sealed(first, records, parts.plain, _columns_encoder.encode(columns))
    if not _holds(data, first, records, parts.plain, columns, taken, messages):
        # What is in the ledger goes once its chunk is there: so a fault of ours must not be found later.
        raise ValueError(f"the messages from record {first} on can't be sealed: they come out as others")
    return SealedChunk(
        first=first,
        records=records,
        size=sum(map(len, messages)) + len(messages),
        began=pieces[0].time,
        ended=pieces[-1].time,
        data=data,
        text=parts.plain,
    )


def _holds(
    data: bytes,
    first: int,
    records: int,
    plain: bytes,
    columns: _Columns,
    taken: NDArray[np.bool_] | None,
    messages: list[bytes],
) -> bool:
    """
    Whether a chunk that is opened as any reader does it has this text and these columns, of as many lines, and puts
    what was ``taken`` out of the text back into the same places; and whether one of the messages, chosen by the chunk's
    checksum, can be made of them. Messages that are in the columns themselves are all compared.
    """
    try:
        header = _header(data)
        opened = _columns_decoder.decode(_frame(header.columns_frame, header.columns))
        text = _frame(header.text_frame, header.text)
        parts = Parted(text, opened.pieces, opened.gaps)
        if (header.first, header.records, text, opened) != (first, records, plain, columns):
            return False
        lines = 0 if columns.gap is not None else records
        if not _lines(text) == lines == sum(columns.counts) or not _same(places(parts), taken):
            return False
        if columns.gap is not None:
            return True
        if columns.whole is not None:
            return columns.whole.split(b"\n") == messages
        index = header.checksum % (len(messages) * max(1, sum(map(len, messages)) // SAMPLED_BYTES))
        return index >= len(messages) or _message(first, opened, parts, index) == messages[index]
    except (Damaged, ValueError, TypeError, IndexError, msgspec.MsgspecError):
        return False


def _message(first: int, columns: _Columns, parts: Parted, index: int) -> bytes:
    """Return one message of a chunk, made as `_opened` makes all."""
    import numpy as np

    at = sum(columns.counts[:index])
    end = at + columns.counts[index]
    ends = np.flatnonzero(np.frombuffer(parts.plain, np.uint8) == 0x0A)
    text = joined(between(parts, int(ends[at - 1]) + 1 if at else 0, int(ends[end - 1]) + 1))
    lines = _with_records(columns, [""] * at + text.decode().split("\n")[:-1], at, end)
    return _cut(first, _encoded(first, columns, lines, first + at), first + at, 1).messages[0]


def _lines(text: bytes) -> int:
    """Return how many newlines a text has: twice as fast as it counts them itself."""
    arrays.load()
    import numpy as np

    return int(np.count_nonzero(arrays.newlines(np.frombuffer(text, np.uint8))))


def _same(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.tobytes() == other.tobytes()


def _check_run(pieces: list[Piece]) -> None:
    """Raise ValueError unless these can be one chunk: consecutive batches of lines, or one gap."""
    if not pieces:
        raise ValueError("there is nothing to seal")
    if len(pieces) > 1 and any(piece.gap is not None for piece in pieces):
        raise ValueError("a gap is sealed by itself")
    for piece in pieces:
        if piece.count <= 0:
            raise ValueError(f"a batch before record {piece.first} has no records")
    for before, piece in pairwise(pieces):
        if before.end != piece.first:
            raise ValueError(f"record {before.end} is missing before record {piece.first}")


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
    header = _header(data)
    text = _frame(header.text_frame, header.text)
    if text and (_lines(text) != header.records or text[-1] != 0x0A):
        raise Damaged("its lines aren't as many as its records")
    return Text(first=header.first, records=header.records, text=text)


def text_of(messages: list[bytes]) -> list[Text]:
    """Return the texts of messages that aren't sealed: as their chunks would have them. A gap has one of its own."""
    texts: list[Text] = []
    for run, pieces in runs(messages, pieces_of(messages)):
        text = searchable(text_of_run(run, pieces))
        texts.append(Text(first=pieces[0].first, records=pieces[-1].end - pieces[0].first, text=text))
    return texts


def runs(messages: list[bytes], pieces: list[Piece]) -> list[tuple[list[bytes], list[Piece]]]:
    """Return consecutive messages as runs each of which can be one chunk: without a gap, or a gap alone."""
    found: list[tuple[list[bytes], list[Piece]]] = []
    for message, piece in zip(messages, pieces, strict=True):
        if found and piece.gap is None and found[-1][1][-1].gap is None:
            found[-1][0].append(message)
            found[-1][1].append(piece)
        else:
            found.append(([message], [piece]))
    return found


def _columns(pieces: list[Piece], parts: Parted) -> _Columns:
    """Return the columns of a run."""
    columns = _Columns([], [], [], [], [], parts.pieces, parts.gaps)
    at = time = 0
    for piece in pieces:
        if piece.gap is not None:
            columns.gap = piece.gap
            break
        columns.counts.append(piece.count)
        columns.times.append(piece.time - time)
        columns.steps.append(piece.step)
        columns.more += [at + index for index in piece.more]
        columns.apart += [(at + index, record) for index, record in piece.apart]
        time = piece.time
        at += piece.count
    return columns


def _sealed(first: int, records: int, text: bytes, columns: bytes) -> bytes:
    """Return the bytes of a chunk."""
    if len(text) + len(columns) > MAX_BODY:
        raise ValueError(f"{len(text) + len(columns)} bytes are too many for one chunk")
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    frame = compressor.compress(text)
    body = frame + compressor.compress(columns)
    header = _HEADER.pack(first, records, len(text), len(columns), len(frame))
    return _MAGIC + _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(header))) + header + body


class _Header(msgspec.Struct, frozen=True, gc=False):
    """What a chunk says of itself, and its frames."""

    checksum: int
    first: int
    records: int
    text: int  # bytes, decompressed
    columns: int
    text_frame: memoryview
    columns_frame: memoryview


def _header(data: bytes) -> _Header:
    """Return what is in a chunk, checked but for its frames. Raises `Damaged`."""
    if len(data) < _BODY or not data.startswith(_MAGIC):
        raise Damaged("it doesn't begin as a sealed chunk")
    (checksum,) = _CHECKSUM.unpack_from(data, len(_MAGIC))
    if zlib.crc32(memoryview(data)[len(_MAGIC) + _CHECKSUM.size :]) != checksum:
        raise Damaged("the checksum doesn't match")
    first, records, text, columns, size = _HEADER.unpack_from(data, len(_MAGIC) + _CHECKSUM.size)
    if text + columns > MAX_BODY or not columns:
        raise Damaged("its size isn't what it says")
    frames = memoryview(data)[_BODY:]
    return _Header(checksum, first, records, text, columns, frames[:size], frames[size:])


def _frame(frame: memoryview, size: int) -> bytes:
    """Return what is in a frame: so many bytes. Raises `Damaged`."""
    # A frame that claims to be larger than it may be is never decompressed.
    try:
        if zstandard.get_frame_parameters(frame).content_size != size:
            raise Damaged("its size isn't what it says")
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged(f"it can't be decompressed: {error}") from error


def _opened(data: bytes, wanted: int = 0, limit: int = MAX_BODY * 8) -> Part:
    header = _header(data)
    first, records = header.first, header.records
    columns = _columns_decoder.decode(_frame(header.columns_frame, header.columns))
    if columns.gap is not None:
        gap = encoder.encode(Gap(first, first + records - 1, columns.gap))
        return _cut(first, [(records, gap)], wanted, limit)
    if columns.whole is not None:
        return _cut(first, zip(columns.counts, columns.whole.split(b"\n"), strict=True), wanted, limit)
    whole = joined(Parted(_frame(header.text_frame, header.text), columns.pieces, columns.gaps))
    lines = whole.decode().split("\n")
    if len(lines) != records + 1 or sum(columns.counts) != records:
        raise Damaged("its lines aren't as many as its records")
    return _cut(first, _encoded(first, columns, _with_records(columns, lines, 0, records), wanted), wanted, limit)


def _with_records(columns: _Columns, texts: list[str], begin: int, end: int) -> list[str | msgspec.Raw]:
    """Return lines, and in the places of those from ``begin`` to ``end`` that aren't as they were, the records."""
    lines: list[str | msgspec.Raw] = list(texts)
    for index, record in columns.apart:
        if begin <= index < end:
            lines[index] = msgspec.Raw(record)
    return lines


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
