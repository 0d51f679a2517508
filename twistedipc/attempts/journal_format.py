"""
How a journal is written: the names of its segments, and its lines. Pure; used by ``journal``.
"""

from __future__ import annotations

import zlib

import msgspec

from twistedipc.builds.logs import Lines, encoder, lines_decoder

SEGMENT_DIGITS = 12

#: How every journal line continues after its checksum. It can't occur inside a line: quotes are escaped there.
JOURNAL_LINE_HEAD = b' {"type":"lines","first":'


def segment_name(first: int) -> str:
    """Return the file name of the journal segment whose first record has the number ``first``."""
    return f"{first:0{SEGMENT_DIGITS}d}.log"


class BadJournalLine(Exception):
    """A journal line that doesn't verify: cut short, or changed."""


def journal_line(batch: Lines) -> bytes:
    """
    Return a batch as one line of a journal: the CRC-32 of the JSON in eight hexadecimal digits, a space, the batch's
    JSON (which holds no raw newline), a newline.
    """
    body = encoder.encode(batch)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def parse_journal_line(line: bytes) -> Lines:
    """Return the batch of one journal line, which is given without its newline. Raises `BadJournalLine`."""
    body = line[9:]
    # Compared as text: `int` would accept other spellings of the same number, and so miss a change.
    if line[:9] != b"%08x " % zlib.crc32(body):
        raise BadJournalLine("the checksum doesn't match")
    try:
        return lines_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJournalLine("it isn't a batch") from error
