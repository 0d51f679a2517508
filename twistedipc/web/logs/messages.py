"""
What a followed log says beside the log itself. Without Twisted, since ``cli`` reads it. docs/protocol.md describes it.
"""

from __future__ import annotations

import msgspec


class Alive(msgspec.Struct, frozen=True, tag="alive", tag_field="type"):
    """Nothing new has come for a while in a followed log, and the server is there."""


class Closed(msgspec.Struct, frozen=True, tag="closed", tag_field="type"):
    """The last message of a followed log that is broken off because its reader's token is over. It isn't the end."""

    code: int  # as a WebSocket's close
    reason: str
