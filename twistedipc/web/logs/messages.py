"""
The messages of a log that aren't part of the build's own log: its end, and what is said while it is followed. Without
Twisted, since ``cli`` reads them. docs/protocol.md describes them.
"""

from __future__ import annotations

import msgspec


class End(msgspec.Struct, frozen=True, tag="end", tag_field="type"):
    """A log has ended; ``complete``: the server has checked that it has all ``lines``."""

    lines: int
    sha256: str
    state: str
    complete: bool


class Alive(msgspec.Struct, frozen=True, tag="alive", tag_field="type"):
    """Nothing new has come for a while in a followed log, and the server is there."""


class Closed(msgspec.Struct, frozen=True, tag="closed", tag_field="type"):
    """The last message of a followed log that is broken off because its reader's token is over. It isn't the end."""

    code: int  # as a WebSocket's close
    reason: str
