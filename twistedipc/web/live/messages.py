"""
What client and server say to one another on a socket with many subscriptions, beside states, gists and logs.
``web.live``; docs/protocol.md describes the messages.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from twistedipc.builds.frames import text_frame


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe", tag_field="type"):
    """Asks for builds (of one project), which means their states and gists, or for one log."""

    topic: Literal["builds", "log"]
    project: str | None = None
    build: int | None = None
    attempt: int | None = None
    after: int = 0


class Unsubscribe(msgspec.Struct, frozen=True, tag="unsubscribe", tag_field="type"):
    """Ends a subscription."""

    topic: Literal["builds", "log"]
    project: str | None = None
    build: int | None = None
    attempt: int | None = None


class StreamError(msgspec.Struct, frozen=True, tag="error", tag_field="type", omit_defaults=True):
    """A request was refused. ``code`` is "bad_message", "not_found", "limit" or "unavailable"."""

    code: str
    message: str
    build: int | None = None


class Subscribed(msgspec.Struct, frozen=True, tag="subscribed", tag_field="type", omit_defaults=True):
    """A subscription was made. Its messages follow."""

    topic: str
    project: str | None = None
    build: int | None = None
    attempt: int | None = None


#: Decodes the messages of clients.
requests: msgspec.json.Decoder[Subscribe | Unsubscribe] = msgspec.json.Decoder(Subscribe | Unsubscribe)

_encoder = msgspec.json.Encoder()


def frame_of(message: msgspec.Struct) -> bytes:
    """Return ``message`` as one WebSocket text frame."""
    return text_frame(_encoder.encode(message))
