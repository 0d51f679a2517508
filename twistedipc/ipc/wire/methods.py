"""How a class of an interface is a method of JSON-RPC: on its way in, and out. Sans-IO; used by ``jsonrpc``."""

from __future__ import annotations

from typing import Any

import msgspec

from twistedipc.ipc.wire.finite import is_exact
from twistedipc.ipc.wire.messages import encoder, name_of

_decode_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Received:
    """A class that this side receives."""

    def __init__(self, kind: type[msgspec.Struct], is_request: bool) -> None:
        self.kind = kind
        self.is_request = is_request
        self.decode = msgspec.json.Decoder(kind).decode
        config = kind.__struct_config__
        #: what positional parameters are put behind, for a class that is sent as an array
        self.tag = encoder.encode(config.tag) if config.array_like else b""
        self.is_usual = is_request and not config.array_like
        self.names = [encoder.encode(field.encode_name) for field in msgspec.structs.fields(kind)]

    def message_of(self, params: msgspec.Raw | msgspec.UnsetType) -> msgspec.Struct:
        """Return the message that these are the parameters of. Raises what decoding raises."""
        if isinstance(params, msgspec.Raw) and not self.tag:
            try:
                found: msgspec.Struct = self.decode(params)
                return found
            except msgspec.ValidationError:
                pass  # perhaps they come by position
        given = b"{}" if isinstance(params, msgspec.UnsetType) else bytes(params)
        if given == b"null":
            given = b"{}"  # as clients say it that have none
        is_array = given.startswith(b"[")
        if self.tag:
            if given == b"{}":
                given = b"[]"
            elif not is_array:
                raise msgspec.ValidationError("the parameters are an array")
            given = b"[" + self.tag + (b"," if _decode_parts(given) else b"") + given[1:]
        elif is_array:
            parts = _decode_parts(given)
            if len(parts) > len(self.names):
                raise msgspec.ValidationError(f"there are at most {len(self.names)} parameters")
            pairs = [b"%b:%b" % (name, bytes(part)) for name, part in zip(self.names, parts, strict=False)]
            given = b"{" + b",".join(pairs) + b"}"
        message: msgspec.Struct = self.decode(given)
        return message


class Sent:
    """A class that this side sends: how its JSON becomes parameters."""

    def __init__(self, kind: type[msgspec.Struct], reply: Any) -> None:
        config = kind.__struct_config__
        self.kind = kind
        method = encoder.encode(name_of(kind))
        self.is_exact = is_exact(kind)
        #: whether it is a call that is JSON once it is encoded
        self.is_called = reply is not msgspec.UNSET and self.is_exact
        self.reply = reply
        #: how much of its JSON says its type
        self.tagged = len(
            b"[" + method if config.array_like else b"{" + encoder.encode(config.tag_field) + b":" + method
        )
        self.opening = b"[" if config.array_like else b"{"
        self.head = b'"method":' + method + b',"params":' + self.opening
        #: a call, for its id and what follows the type
        self.call = b'{"jsonrpc":"2.0","id":%d,' + self.head.replace(b"%", b"%%") + b"%b}"
