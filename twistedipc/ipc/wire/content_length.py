"""
The two framings of JSON-RPC: a line for each message, or a header with its length before it, as language servers have
it. Sans-IO; used by ``jsonrpc``.
"""

from __future__ import annotations

import re
from typing import Protocol

from twistedipc.ipc.wire.errors import Code
from twistedipc.ipc.wire.framing import FrameTooLong, LineSplitter

#: Bytes of a header, with its separators.
HEADER_LIMIT = 4096

_END = b"\r\n\r\n"
_BEGIN = b"Content-Length: "
_HEADER = _BEGIN + b"%d" + _END

#: The lengths and the headers of messages shorter than this are looked up, which takes less time than to write them.
_SHORT = 512
_LENGTHS = [b"%d" % length for length in range(_SHORT)]
_HEADERS = [_HEADER % length for length in range(_SHORT)]
_LENGTH = re.compile(rb"[0-9]{1,15}")
_CHARSET = re.compile(rb"charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)


class BadFraming(Exception):
    """
    Where the next message begins can't be known. ``complete`` has the messages before that, which were good; the
    framing is of no use afterwards.
    """

    def __init__(self, code: str, reason: str, complete: list[bytes]) -> None:
        super().__init__(reason)
        self.code = code
        self.complete = complete


class Framing(Protocol):
    """Messages <-> bytes."""

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished message are kept."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that ``data`` completes. Raises `BadFraming`."""

    def wrap(self, message: bytes) -> bytes:
        """Return the bytes of a message to be sent."""


class LineFraming:
    """
    A message on each line. Empty lines are none.

    :param limit: bytes of a message that comes
    """

    def __init__(self, limit: int) -> None:
        self._lines = LineSplitter(limit)

    @property
    def pending(self) -> int:
        return self._lines.pending

    def feed(self, data: bytes) -> list[bytes]:
        try:
            return self._split(self._lines.feed(data))
        except FrameTooLong as error:
            raise BadFraming(Code.FRAME_TOO_LONG, str(error), self._split(error.complete)) from None

    @staticmethod
    def _split(block: bytes) -> list[bytes]:
        return [line for line in block.split(b"\n") if line and not line.isspace()]

    def wrap(self, message: bytes) -> bytes:
        return message + b"\n"


class HeaderFraming:
    """
    A header before each message: ``Content-Length: 52``, an empty line, and 52 bytes. Lines of it end with CR LF.

    :param limit: bytes of a message that comes
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()  # a message that isn't complete, with its header
        self._needed = 0  # bytes that it has with its header, once that is known

    @property
    def pending(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        self._needed = 0
        messages: list[bytes] = []
        at, end = self._usual(data, messages), len(data)
        while at < end:
            start, length = self._header(data, at, messages)
            if not start:
                break
            if length > self._limit:
                reason = f"a message of {length} bytes is longer than {self._limit} bytes"
                raise BadFraming(Code.FRAME_TOO_LONG, reason, messages)
            if start + length > end:
                self._needed = start + length - at
                break
            at = start + length
            messages.append(data[start:at])
        if at < end:
            self._buffer += data[at:]
        return messages

    def _usual(self, data: bytes, messages: list[bytes]) -> int:
        """
        Take the messages from the beginning whose headers are as most are, and return where the others begin. It is
        what looking at one header after the other would give, by fewer steps for each.
        """
        pieces = data.split(_BEGIN)
        if pieces[0]:
            return 0
        del pieces[0]
        limit, add = self._limit, messages.append
        for piece in pieces:
            length, end, message = piece.partition(_END)
            size = len(message)
            # If it has this length, it ends where a header begins: one that isn't in a message.
            if not end or length != (_LENGTHS[size] if size < _SHORT else b"%d" % size) or size > limit:
                return sum(map(len, pieces[: len(messages)])) + len(_BEGIN) * len(messages)
            add(message)
        return len(data)

    def _header(self, data: bytes, at: int, messages: list[bytes]) -> tuple[int, int]:
        """Return where the message begins whose header is here, and its length; (0, 0): the header isn't complete."""
        end = data.find(_END, at, at + HEADER_LIMIT + len(_END))
        if end >= 0:
            return end + len(_END), self._length_of(data[at:end], messages)
        if len(data) - at > HEADER_LIMIT:
            raise self._bad(f"a header is longer than {HEADER_LIMIT} bytes", messages)
        return 0, 0

    def _length_of(self, header: bytes, messages: list[bytes]) -> int:
        found: list[bytes] = []
        for line in header.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if not colon:
                raise self._bad("a line of a header has no colon", messages)
            match name.strip().lower():
                case b"content-length":
                    found.append(value.strip())
                case b"content-type":
                    charset = _CHARSET.search(value)
                    if charset is not None and charset[1].lower() not in (b"utf-8", b"utf8"):
                        raise self._bad("a message's charset isn't UTF-8", messages)
        if len(found) != 1:
            raise self._bad("a header has one Content-Length", messages)
        if not _LENGTH.fullmatch(found[0]):
            raise self._bad("a Content-Length is a number of bytes", messages)
        return int(found[0])

    @staticmethod
    def _bad(reason: str, complete: list[bytes]) -> BadFraming:
        return BadFraming(Code.BAD_MESSAGE, reason, complete)

    def wrap(self, message: bytes) -> bytes:
        length = len(message)
        return (_HEADERS[length] if length < _SHORT else _HEADER % length) + message
