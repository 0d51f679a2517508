"""
The Model Context Protocol over HTTP ("Streamable HTTP"): one message is posted, and its answer is the response.
``web.api.mcp``; ``routes`` has this function.

There are no sessions and no streams of events: nothing is kept between two messages, so any apiserver answers any of
them, and a restart breaks nothing.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

import msgspec

from twistedipc.ipc import Asked, CallFailed, Code, Ended, JsonRpcConversation, JsonRpcFormat, Refused
from twistedipc.web.access.auth import check_origin
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.mcp.methods import MCP, CallTool, Meta
from twistedipc.web.api.mcp.protocol import (
    HANDSHAKE,
    STATELESS,
    UNSUPPORTED_VERSION,
    Protocol,
    stated_version,
    unsupported,
)
from twistedipc.web.api.mcp.within import AskingWithin
from twistedipc.web.api.queries import AskByMcp
from twistedipc.web.http.bodies import check_json
from twistedipc.web.http.channel import BoundedRequest

_VERSION: Final = "MCP-Protocol-Version"

#: Bytes of an answer: the longest has some 3 MB of text.
_LIMIT: Final = 8 << 20

#: The protocol's own error for headers that say something else than the message.
_HEADER_MISMATCH: Final = -32020

#: The status of answers that are errors. Older versions have theirs in a success, but for what is no message of theirs.
_STATUS: Final = {-32700: 400, -32600: 400, UNSUPPORTED_VERSION: 400, _HEADER_MISMATCH: 400}
_STATUS_STATELESS: Final = _STATUS | {-32601: 404, -32602: 400}


class _Params(msgspec.Struct, frozen=True):
    meta: Meta = msgspec.field(default=None, name="_meta")


class _Message(msgspec.Struct, frozen=True):
    """As much of a message as says of which version it is."""

    params: _Params | None = None


class _Error(msgspec.Struct, frozen=True):
    code: int


class _Outcome(msgspec.Struct, frozen=True):
    """As much of an answer as its status depends on."""

    error: _Error | None = None


async def answer(call: Call[AskByMcp, None]) -> Reply[bytes]:
    """
    Answer one message of the Model Context Protocol, whose tools see what the token sees (docs/mcp.md). A notification
    has an empty answer with the status 202. ``changes=1``: also offer tools that change something.
    """
    request = call.request
    check_origin(request, None, call.context.allowed_origins, websocket=False)
    check_json(request)
    version = _stated(call.content)
    if version is None:
        version = request.getHeader(_VERSION)
    body = await _answered(call, version)
    if not body:
        return Reply(body=b"", status=202)
    outcome = msgspec.json.decode(body, type=_Outcome)
    statuses = _STATUS_STATELESS if version in STATELESS else _STATUS
    return Reply(body=body, status=None if outcome.error is None else statuses.get(outcome.error.code))


def _stated(content: bytes) -> object:
    """Return the version that a message names; None if it names none, or is no message."""
    try:
        params = msgspec.json.decode(content, type=_Message).params
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if params is None else stated_version(params.meta)


async def _answered(call: Call[AskByMcp, None], version: object) -> bytes:
    """
    Return the answer to the one message of a request; b"" if it has none.

    :param version: the one that it names, or else its header; None: neither does.
    """
    query = call.query
    protocol = Protocol(
        AskingWithin(call),
        allow="add ?changes=1 to the address",
        allow_changes=query.changes == "1",
        tokens=query.tokens,
    )
    conversation = JsonRpcConversation(MCP, how=JsonRpcFormat(batch_limit=0, frame_limit=_LIMIT))
    # The library takes a message on each line. Within JSON a newline is but space between two parts.
    line = call.content.translate(_LINES)
    if not line.strip():
        return conversation.bye(Code.BAD_MESSAGE, "there is no message")
    is_known = version is None or version in (*HANDSHAKE, *STATELESS)
    for event in conversation.receive(line + b"\n"):
        match event:
            case Asked():
                try:
                    if not is_known:
                        raise unsupported(version)
                    _check_headers(call.request, version, event.request)
                    tool = isinstance(event.request, CallTool)
                    with call.context.mcp_calls.one(call.counted_as) if tool else nullcontext():
                        return conversation.reply(event, await protocol.answer(event.request))
                except CallFailed as error:
                    return conversation.refusal(event, error.code, error.message, error.data)
            case Refused(line=line):
                return line
            case Ended(code=code, reason=reason):
                return conversation.bye(code, reason)
    if not is_known:  # a notification, which has no id to answer with
        fault = unsupported(version)
        said = {"code": int(fault.code), "message": fault.message, "data": fault.data}
        return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": said})
    return b""


_LINES: Final = bytes.maketrans(b"\r\n", b"  ")


def _check_headers(request: BoundedRequest, version: object, asked: Any) -> None:
    """
    Refuse a message without a handshake whose headers, by which proxies decide, say something else. Raises
    `CallFailed`.
    """
    stated = stated_version(asked.meta)
    if stated is None and version not in STATELESS:
        return
    wanted = {
        _VERSION: stated,
        "Mcp-Method": type(asked).__struct_config__.tag,
        "Mcp-Name": getattr(asked, "name", None),
    }
    for name, value in wanted.items():
        given = request.getHeader(name)
        if given != value and (value is not None or name == _VERSION):
            raise CallFailed(str(_HEADER_MISMATCH), f"the header {name} isn't what the message says: {value}")
