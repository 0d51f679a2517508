"""
What JSON-RPC answers by: errors with their numbers, and the answers to a batch. Sans-IO; used by ``jsonrpc``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from twistedipc.ipc.wire.conversation import BAD, MESSAGE_LIMIT, in_words
from twistedipc.ipc.wire.errors import CallFailed, Code
from twistedipc.ipc.wire.messages import encoder, to_json, words

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
#: What servers define themselves: an own code is beside it, in the error's data.
SERVER_ERROR: Final = -32000
#: As language servers answer what was cancelled.
REQUEST_CANCELLED: Final = -32800

_NUMBERS: Final[dict[str, int]] = {
    Code.BAD_MESSAGE: INVALID_REQUEST,
    Code.UNKNOWN_TYPE: METHOD_NOT_FOUND,
    Code.BAD_REQUEST: INVALID_PARAMS,
    Code.INTERNAL: INTERNAL_ERROR,
}
_CODES: Final[dict[int, str]] = {
    PARSE_ERROR: Code.BAD_MESSAGE,
    INVALID_REQUEST: Code.BAD_MESSAGE,
    METHOD_NOT_FOUND: Code.UNKNOWN_TYPE,
    INVALID_PARAMS: Code.BAD_REQUEST,
    INTERNAL_ERROR: Code.INTERNAL,
}

Id = int | str | None


class _Error(msgspec.Struct):
    """An error, as it is said and heard."""

    code: int
    message: str = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_error = msgspec.json.Decoder(_Error).decode
_decode_any = msgspec.json.Decoder().decode


class Batch:
    """What was asked together, and is answered together: ``left`` of it isn't dealt with yet."""

    def __init__(self, left: int, limit: int) -> None:
        self._left = left
        self._limit = limit
        self._answers: list[bytes] = []
        self._size = 2

    def put(self, id_: Id, answer: bytes) -> bytes:
        """Take an answer, or nothing for what has none. Return the whole, once all is dealt with."""
        if answer:
            if self._size + len(answer) + 1 > self._limit:
                said = f"the answers to this batch have more than {self._limit} bytes"
                answer = error_body(id_, SERVER_ERROR, said, own_code(Code.TOO_LARGE, None))
            self._answers.append(answer)
            self._size += len(answer) + 1
        self._left -= 1
        return b"" if self._left or not self._answers else b"[" + b",".join(self._answers) + b"]"


def number_of(code: str) -> int | None:
    """Return the number of an error with this code; None: it has none."""
    if (known := _NUMBERS.get(code)) is not None:
        return known
    try:
        number = int(code)
    except ValueError:
        return None
    return number if str(number) == code and abs(number) < 2**31 else None


def own_code(code: str, data: Any) -> bytes:
    """Return the data of an error with a code that is no number."""
    return to_json({"code": words(code, MESSAGE_LIMIT), "data": data})


def error_body(id_: Id, number: int, message: str, data: bytes | None = None) -> bytes:
    said = _Error(number, words(message, MESSAGE_LIMIT), msgspec.UNSET if data is None else msgspec.Raw(data))
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (encoder.encode(id_), encoder.encode(said))


def error_of(said: bytes | msgspec.Raw) -> CallFailed:
    """Return the error that a call was answered by."""
    try:
        error = _decode_error(said)
        data = None if isinstance(error.data, msgspec.UnsetType) else _decode_any(error.data)
    except BAD as wrong:
        return CallFailed(Code.BAD_REPLY, f"the error isn't as JSON-RPC has it: {in_words(wrong)}"[:MESSAGE_LIMIT])
    if error.code == SERVER_ERROR and isinstance(data, dict) and isinstance(own := data.get("code"), str):
        return CallFailed(own, error.message, data.get("data"))
    return CallFailed(_CODES.get(error.code) or str(error.code), error.message, data)
