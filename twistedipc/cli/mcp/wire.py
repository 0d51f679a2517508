"""
JSON-RPC 2.0, a message on each line, as the Model Context Protocol has it on standard input and output. ``cli.mcp``;
no I/O.

A line that isn't understood is answered, and the conversation goes on; after a line that is longer than the limit it
can't. Batches, which one version of the protocol had, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeGuard

import msgspec

from twistedipc.ipc import FrameTooLong, LineSplitter

#: Bytes of a line, without its newline. What clients say is short: arguments of a tool.
LINE_LIMIT: Final = 1 << 20

#: The longest id that is a string, and the largest number.
_ID_LIMIT: Final = 256
_LARGEST_ID: Final = 2**53 - 1

# The codes of JSON-RPC, and one of the protocol's.
PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
BUSY: Final = -32000
UNSUPPORTED_VERSION: Final = -32022

Id = int | str


class Message(msgspec.Struct, frozen=True):
    """A request, or a notification: then ``id`` is None."""

    method: str
    params: dict[str, Any]
    id: Id | None


class Refused(msgspec.Struct, frozen=True):
    """A line that isn't understood; ``line`` is the answer to it. ``last``: nothing after it can be."""

    line: bytes
    last: bool = False


class RpcError(Exception):
    """Answers a request with an error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Conversation:
    """The lines of one client: its bytes in, messages out."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._lines = LineSplitter(limit)

    def receive(self, data: bytes) -> Iterator[Message | Refused]:
        """Yield what the client's bytes say. Never raises for anything that a client can send."""
        try:
            block, too_long = self._lines.feed(data), None
        except FrameTooLong as error:
            block, too_long = error.complete, error
        for line in block.split(b"\n"):
            read = _read(line) if line.strip() else None
            if read is not None:
                yield read
        if too_long is not None:
            yield Refused(error_line(None, PARSE_ERROR, str(too_long)), last=True)


def _read(line: bytes) -> Message | Refused | None:
    """Return what a line says; None: nothing that is to be answered."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refused(error_line(None, PARSE_ERROR, "this line isn't JSON"))
    if not isinstance(value, dict):
        return Refused(error_line(None, INVALID_REQUEST, "a line is one message, an object; there are no batches"))
    given = value.get("id")
    id: Id | None = given if is_id(given) else None
    method, params = value.get("method"), value.get("params", {})
    if method is None and ("result" in value or "error" in value):
        return None  # an answer, though nothing was asked
    if value.get("jsonrpc") != "2.0" or not isinstance(method, str) or ("id" in value and id is None):
        return Refused(error_line(id, INVALID_REQUEST, 'a message has "jsonrpc": "2.0", a method, and an id or none'))
    if not isinstance(params, dict):
        if "id" not in value:
            return None
        return Refused(error_line(id, INVALID_PARAMS, "params is an object"))
    return Message(method, params, id)


def is_id(value: object) -> TypeGuard[Id]:
    """Return whether a request can have this id."""
    if isinstance(value, str):
        return len(value) <= _ID_LIMIT
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_ID


def result_line(id: Id, result: object) -> bytes:
    """Return the answer to a request."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "result": result}) + b"\n"


def error_line(id: Id | None, code: int, message: str, data: object = None) -> bytes:
    """Return the answer to a request that can't be done, or (None) to what isn't one."""
    error = {"code": code, "message": message, **({} if data is None else {"data": data})}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "error": error}) + b"\n"
