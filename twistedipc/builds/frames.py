"""
Messages as WebSocket frames, made once for all viewers: plain, and deflated for those that asked for it. Used by
``server`` for logs and news, and by ``web`` for its own messages.

A deflated frame is one message that was compressed by itself (RFC 7692 without context takeover), so that the same
bytes are valid for every viewer, independently of the frames before.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum

#: Bytes of a message from which on it is worth the time to deflate it. Here a quarter is saved for 15 µs, once for all
#: viewers, each of which costs 5 µs; at 1 KiB it is more than a half.
LEAST_DEFLATED = 256

#: zlib's fastest: for long messages it takes half of the default's time, and makes a tenth more bytes.
LEVEL = 1

_TEXT = 0x81  # final, a text
_DEFLATED_TEXT = 0xC1  # with RSV1

#: What ends a flushed block, and is not sent (RFC 7692, 7.2.1).
_TAIL = b"\x00\x00\xff\xff"


class Form(IntEnum):
    """
    The forms of one message of a log: deflated or not, and with build and attempt in it (tagged) or not. An IntEnum,
    whose hash and index are C's.
    """

    PLAIN = 0
    DEFLATED = 1
    TAGGED = 2
    DEFLATED_TAGGED = 3

    @classmethod
    def of(cls, *, tagged: bool, deflated: bool) -> Form:
        """Return the form for a socket that carries several logs (tagged), or takes deflated frames."""
        return cls(2 * tagged + deflated)


def text_frame(message: bytes) -> bytes:
    """``message`` as one final, unmasked WebSocket text frame (RFC 6455, 5.2)."""
    return _frame(_TEXT, message)


def deflated_frame(message: bytes) -> bytes | None:
    """The same by permessage-deflate; None where that is not worth it, and the plain frame is to be sent."""
    if len(message) < LEAST_DEFLATED:
        return None
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = deflate.compress(message) + deflate.flush(zlib.Z_SYNC_FLUSH)
    if len(data) >= len(message):
        return None
    return _frame(_DEFLATED_TEXT, data.removesuffix(_TAIL))


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((kind, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", kind, 126, size) + payload
    return struct.pack("!BBQ", kind, 127, size) + payload
