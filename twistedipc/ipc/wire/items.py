"""Arrays of items, as streams and streamed replies carry them. Sans-IO; used by ``session`` and ``streams``."""

from __future__ import annotations

from typing import Any

import msgspec

from twistedipc.ipc.wire.messages import UNDECODABLE

_each = msgspec.json.Decoder(list[msgspec.Raw])


def read_items(decoder: msgspec.json.Decoder[list[Any]], array: msgspec.Raw) -> tuple[list[Any], str]:
    """
    Return the items, up to the first that isn't of their type, and what is wrong with it ("": nothing).

    :param decoder: of a whole array
    """
    try:
        return decoder.decode(array), ""
    except UNDECODABLE as error:
        complaint = str(error)
    found: list[Any] = []
    try:
        for each in _each.decode(array):
            found += decoder.decode(b"[%b]" % bytes(each))
    except UNDECODABLE as error:
        complaint = str(error).replace("`$[0]", "`$")
    return found, complaint
