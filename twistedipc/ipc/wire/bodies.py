"""
The frames by which the body of a `Blob` follows the message that has the reference to it. Sans-IO; used by
``connections/bodies.py``. See "Bodies" in docs/protocol.md.

::

    sender                                receiver
    call, reply   ─────────────────────►               {"body":1,"size":70000} in it
                  ◄─────────────────────  link-body-wanted    body, credit
    link-body-chunk ───────────────────►               body, data
    link-body-ended ───────────────────►               body, size         or link-body-failed: body, code, message
                  ◄─────────────────────  link-body-done      body

Each side numbers the bodies that it sends. They are messages to the session, as those of the streams are.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from twistedipc.ipc.wire.messages import Frame

#: The feature of an end that takes bodies, and sends them.
BODIES = "bodies"

#: Bytes of a body that may be under way, or have come and weren't taken.
CREDIT = 1 << 18

#: Bytes of a body that go into one frame, before they are base64; less if the peer's frames are smaller.
CHUNK = 48 << 10

#: Bytes of a frame that aren't its data, at most.
AROUND_DATA = 80

BodyNumber = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


class BodyWanted(Frame, frozen=True, kw_only=True, gc=False, tag="link-body-wanted"):
    """The receiver takes so many more bytes of the body. Nothing is sent before the first one."""

    body: BodyNumber
    credit: BodyNumber


class BodyChunk(Frame, frozen=True, kw_only=True, gc=False, tag="link-body-chunk"):
    """The next bytes of the body."""

    body: BodyNumber
    data: bytes


class BodyEnded(Frame, frozen=True, kw_only=True, gc=False, tag="link-body-ended"):
    """All bytes of the body were sent: so many."""

    body: BodyNumber
    size: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class BodyFailed(Frame, frozen=True, kw_only=True, gc=False, tag="link-body-failed"):
    """The sender can't send the rest."""

    body: BodyNumber
    code: str
    message: str


class BodyDone(Frame, frozen=True, kw_only=True, gc=False, tag="link-body-done"):
    """The receiver has all of the body, or wants no more of it. The sender forgets it."""

    body: BodyNumber


#: What may come on a link on which there are bodies.
FRAMES = (BodyWanted, BodyChunk, BodyEnded, BodyFailed, BodyDone)
