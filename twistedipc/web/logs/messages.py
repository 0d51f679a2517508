"""
What a followed log says beside the log itself. ``web.logs``; without Twisted, since ``cli`` reads it. docs/protocol.md
describes it.
"""

from __future__ import annotations

import msgspec


class Alive(msgspec.Struct, frozen=True, tag="alive", tag_field="type"):
    """The server is there, though nothing new has come for a while."""


class Closed(msgspec.Struct, frozen=True, tag="closed", tag_field="type"):
    """
    The last message of a followed log that is broken off because its reader's token is over. It isn't the log's end.
    """

    code: int  # as a WebSocket's close
    reason: str
