"""
Close codes: why a WebSocket is closed, or a followed log is broken off. ``web.http``; used by ``web.live`` and
``web.logs``. docs/protocol.md says what a client should do on each.
"""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """RFC 6455's codes (section 7.4.1) and those of IANA's registry up to 2999; the API's own from 4000 on."""

    NORMAL = 1000
    UNSUPPORTED = 1003  # a binary message
    POLICY = 1008  # too much, or what isn't to be sent at all
    INTERNAL = 1011
    AGAIN = 1012  # "Service Restart": the client should connect again at once
    UNAUTHORISED = 4401
    TOO_SLOW = 4408
    UNAVAILABLE = 4503
