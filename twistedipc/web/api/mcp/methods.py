"""
The methods of the Model Context Protocol that are answered here: what each takes, and what it returns. ``web.api.mcp``.

They are an interface of the library's, as JSON-RPC has it (`twistedipc.ipc.JsonRpcConversation`): what isn't as it is
declared here is refused before it gets further.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from twistedipc.ipc import Interface, Request

#: What a request says of itself: its version of the protocol, say.
Meta = dict[str, Any] | None

#: A field that isn't there, in the versions that haven't it.
Absent = msgspec.UnsetType


class Result(msgspec.Struct, kw_only=True, rename="camel"):
    """The base of results. In the versions without a handshake each says what it is, and whose."""

    result_type: str | Absent = msgspec.UNSET
    meta: dict[str, Any] | Absent = msgspec.field(default=msgspec.UNSET, name="_meta")


class Initialized(Result):
    """The version that the conversation is in, and what there is."""

    protocol_version: str
    capabilities: dict[str, Any]
    server_info: dict[str, str]
    instructions: str


class Discovered(Result):
    """What there is, without a handshake."""

    supported_versions: Sequence[str]
    capabilities: dict[str, Any]
    instructions: str
    ttl_ms: int
    cache_scope: str


class Listed(Result):
    """The tools."""

    tools: list[dict[str, Any]]
    ttl_ms: int
    cache_scope: str


class Called(Result):
    """What a tool has said. ``is_error``: it couldn't do what it was asked for."""

    content: list[dict[str, Any]]
    is_error: bool


class Initialize(Request[Initialized], rename="camel", tag_field="method", tag="initialize"):
    """Begin, in the versions with a handshake."""

    protocol_version: Any = None
    meta: Meta = msgspec.field(default=None, name="_meta")


class Discover(Request[Discovered], tag_field="method", tag="server/discover"):
    """Say what there is, in the versions without one."""

    meta: Meta = msgspec.field(default=None, name="_meta")


class Ping(Request[Result], tag_field="method", tag="ping"):
    """Are you there?"""

    meta: Meta = msgspec.field(default=None, name="_meta")


class ListTools(Request[Listed], tag_field="method", tag="tools/list"):
    """Say which tools there are."""

    meta: Meta = msgspec.field(default=None, name="_meta")


class CallTool(Request[Called], tag_field="method", tag="tools/call"):
    """Call a tool."""

    name: str
    arguments: dict[str, Any] | None = None
    meta: Meta = msgspec.field(default=None, name="_meta")


Method = Initialize | Discover | Ping | ListTools | CallTool

MCP = Interface("mcp", Initialize, Discover, Ping, ListTools, CallTool)
